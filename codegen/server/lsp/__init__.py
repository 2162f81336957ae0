"""The language server: inline completions (LSP 3.18) over standard input and output.

``framing`` reads messages, ``protocol`` is pygls' without its own copy of the documents,
``session`` is one editor's documents and settings, ``features`` the messages that are answered,
``run`` starts it.
"""
