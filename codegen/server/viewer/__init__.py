"""``codegen view``: data sets, runs and samples as local web pages, read from their files.

``lines`` (an index of a file's lines, and the search in them), ``tables`` (the rows of a run, with
the values to filter and sort by), ``records`` (one record as a reader sees it, step by step),
``app`` (the pages). Pages are made here and need no script to be read; all that they show is
untrusted text, made visible and escaped.
"""

from codegen.server.viewer.app import Library, make_app

__all__ = ["Library", "make_app"]
