"""The editor back-end: completions that keep up with typing.

A :class:`~codegen.server.engine.CompletionEngine` serves both protocols. In reading order:

- ``requests``: requests, answers and limits. ``text``: where a suggestion ends and which part is
  shown. ``prompts``: sentinels, window and layout. ``secrets``: what the model must not see.
- ``engine``: limits, the latest request of a document, earlier suggestions. ``schedule``: which
  requests run, and together. ``metrics``: counters and latencies.
- ``model``: the loaded model. ``local``: its worker thread, with the documents' caches and the
  search for candidates. ``upstream``: a server in place of the model.
- ``document``: an open document's text. ``session``: one editor's documents and settings. ``lsp``:
  the language server. ``next_edits``: edits beyond the cursor; ``edit_answers`` asks the model,
  ``edit_history`` knows what was edited and what became of proposals.
- ``workspace``: pieces of other files; ``sources`` and ``outline`` read and describe them,
  ``pieces`` finds and orders them.
- ``guard``: access to the HTTP servers. ``service``: the engine for HTTP clients. ``http``: the
  dialects. ``sandbox``, ``viewer`` and ``mcp``: the other servers.
"""
