"""Next edits: moments of editing from histories and refactorings, and their prompt formats.

``formats`` (prompt, answer and parser of each format), ``prompts`` (of editors), ``sessions``
(differences, and from a change to moments of editing), ``refactorings`` and ``javascript``, ``due``
(whether an edit is due), ``generator``.
The records are :class:`codegen.records.Edit` and ``Change``.
"""
