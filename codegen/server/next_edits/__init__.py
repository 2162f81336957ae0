"""The next edit in an open document."""
