"""What a prompt can use: the open document, the workspace's files, their symbols and snippets."""
