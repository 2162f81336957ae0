"""Proposes the next edit in an open document."""
