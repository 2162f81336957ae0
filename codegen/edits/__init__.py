"""Next edits: edit states from histories and refactorings, and their prompt formats.

``formats`` (prompt, answer and parser of each format), ``prompts`` (of editors), ``sessions``
(differences, and edit states of a change), ``refactorings`` and ``javascript``, ``expected_edits``
(whether an edit is expected), ``generator``. The records are :class:`codegen.core.records.Edit` and
``Change``.
"""
