"""Context of prompts: the open document, and the workspace's files, symbols and snippets."""
