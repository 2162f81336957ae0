"""Next edits: moments of editing from histories and refactorings, and their prompt formats.

``hunks`` (lines and differences), ``formats`` (prompt, answer and parser of each format),
``sessions`` (from a change to moments of editing), ``refactorings`` and ``javascript``, ``due``
(whether an edit is due), ``generator``.
The records are :class:`codegen.records.Edit` and ``Change``.
"""
