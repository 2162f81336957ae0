"""The HTTP server: three dialects that existing plug-ins speak, behind one guard.

``guard`` lets in who may come in, ``token`` is what they show, ``fields`` reads bodies, ``openai``,
``infill`` and ``tabby`` are the dialects, ``slots`` tells documents apart that have no names,
``stream`` answers piece by piece, ``app`` puts it together, ``run`` serves it.
"""
