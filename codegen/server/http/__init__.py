"""The HTTP server: one engine, in the dialects that editors' plug-ins and API clients speak.

``app`` is the table of routes. Each other module is a dialect: ``openai`` (text completions),
``chat`` (OpenAI's chat completions, Mistral's infilling), ``responses``, ``llamacpp``, ``ollama``,
``tabby``. They share ``wire``: checked fields, streams and errors.
"""

from codegen.server.http.app import make_app

__all__ = ["make_app"]
