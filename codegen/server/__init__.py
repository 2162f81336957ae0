"""Servers for editors, API clients and agents: completions that keep up with typing.

A :class:`~codegen.server.completion.engine.CompletionEngine` serves both LSP and HTTP. In reading
order:

- ``requests``: requests, completions and limits. ``text``: stop rules and cleanup of suggestions.
  ``prompts``: sentinels, window and layout. ``secrets``: files and strings to hide from the model.
- ``engine``: limits, the latest request per document, earlier suggestions. ``schedule``: the queue
  and continuous batching. ``metrics``: counters and latencies.
- ``model``: the loaded model. ``local``: its worker thread, with the documents' caches and the
  search for candidates. ``upstream``: a server instead of the model.
- ``document``: an open document's text. ``session``: one editor's documents and settings. ``lsp``:
  the language server. ``next_edits``: edits beyond the cursor; ``edit_answers`` requests them from
  the model, ``edit_history`` records edits and the outcomes of proposals.
- ``workspace``: snippets of other files; ``sources`` and ``outline`` read and describe them,
  ``pieces`` selects and ranks them.
- ``guard``: access to the HTTP servers. ``service``: the engine for HTTP clients. ``http``: the
  API dialects. ``sandbox``, ``viewer`` and ``mcp``: the other servers.
"""
