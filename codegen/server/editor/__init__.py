"""The editor's side: the language server and its open documents."""
