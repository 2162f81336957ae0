"""The editor back-end: completions that keep up with typing.

One :class:`~codegen.server.engine.CompletionEngine` holds the model and the documents' caches and
serves both protocols, ``lsp`` and ``http``.

The text: ``mirror`` (a document as the editor has it), ``brackets`` (what is open where), ``stops``
(where a suggestion ends), ``filters`` (what of it is shown), ``suggestions`` (typed as suggested,
acceptance), ``secrets`` (what is not looked at). The prompt: ``fim`` (sentinels of model families,
foreign ones too), ``prompts`` (window and layout). The model: ``decoder`` (candidates from an
editable cache), ``documents`` (caches within a budget), ``jobs`` (the latest request of
a document waits), ``engine`` (one worker thread), ``delay``, ``metrics``, ``settings``.
"""
