"""Servers for editors, API clients and agents: completions that keep up with typing.

A :class:`~codegen.server.completion.engine.CompletionEngine` serves both LSP and HTTP.

- ``completion``: ``requests`` (requests, completions and limits), ``prompts`` (sentinels, window
  and layout), ``engine`` (the latest request per document, earlier suggestions), ``schedule`` (the
  queue and continuous batching), ``model`` and ``model_worker`` (a model in this process, with the
  documents' caches), ``upstream`` (a remote server instead of the model), ``postprocess`` (where a
  suggestion ends).
- ``context``: ``document`` (an open document's text), ``workspace`` (snippets of other files:
  ``sources`` reads them, ``symbols`` describes them, ``snippets`` selects and ranks).
- ``editor``: ``session`` (one editor's documents and settings), ``lsp`` (the language server).
- ``next_edits``: ``proposals`` (edits beyond the cursor), ``answers`` (requests them from the
  model), ``history`` (edits, and the outcomes of proposals).
- ``http``: ``security`` (access), ``completion_service`` (the engine for HTTP clients), and one
  module per API dialect. ``sandbox``, ``viewer`` and ``mcp`` are the other servers; the last two
  find runs with ``run_index``.
"""
