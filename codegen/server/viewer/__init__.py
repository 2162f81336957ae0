"""``codegen view``: datasets, runs and samples as local web pages, read from their files.

``tables`` (an index of a file's lines with search, and the rows of a run, with the values to filter
and sort by), ``records`` (one record for display, step by step), ``app`` (the pages). Pages are
rendered on the server and readable without scripts; everything in them is untrusted text, with
control characters made visible and HTML escaped.
"""

from codegen.server.viewer.app import Library, make_app

__all__ = ["Library", "make_app"]
