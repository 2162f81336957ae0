"""The HTTP server: one engine, in the dialects that editors' plug-ins and API clients speak.

``app`` wires: the table of routes, and errors. Each other module is a dialect: ``openai`` (text
completions, and Mistral's and DeepSeek's for infilling), ``chat`` (OpenAI's chat completions and
responses), ``llamacpp``, ``ollama``, ``tabby``. They share the checked fields of ``fields``.
"""

from codegen.server.http.app import make_app

__all__ = ["make_app"]
