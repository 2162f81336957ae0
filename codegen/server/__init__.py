"""The editor back-end: completions that keep up with typing.

One :class:`~codegen.server.engine.CompletionEngine` holds the model and the documents' caches and
serves both protocols. In reading order:

- ``requests``: requests, answers and limits. ``text``: where a suggestion ends and what of it is
  shown. ``prompts``: sentinels, window and layout. ``secrets``: what the model must not see.
- ``model``: the loaded model. ``documents``: caches and suggestions of documents. ``candidates``:
  candidates from an editable cache. ``schedule``: which requests run, and together. ``engine``: one
  worker thread. ``metrics``: counters and latencies.
- ``document``: an open document's text. ``session``: one editor's documents and settings. ``lsp``:
  the language server.
- ``guard``: who may connect and ask. ``service``: the engine for HTTP clients. ``http``: OpenAI's,
  llama.cpp's and Tabby's endpoints.
"""
