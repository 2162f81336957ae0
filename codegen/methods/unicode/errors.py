"""The errors of UniCode's writer and parser."""

from __future__ import annotations

from codegen.errors import CodegenError, SkippedExample


class UnsupportedProgram(SkippedExample):
    """A program cannot be written as UniCode; the reason is ``syntax_error``, ``newer_python``,
    ``null_bytes``, ``not_unicode``, ``too_deep`` or ``not_python``.
    """

    subject = "The program can't be written as UniCode"


class UniCodeSyntaxError(CodegenError):
    """A text is not UniCode, or has no equivalent Python program.

    Attributes:
        line, column: the place, both from 1.
        detail: what was found and what was expected.
    """

    reason = "unicode_syntax"

    def __init__(self, line: int, column: int, detail: str) -> None:
        self.line = line
        self.column = column
        self.detail = detail
        super().__init__(f"UniCode, line {line}, column {column}: {detail}")

    def __reduce__(self) -> tuple[type, tuple[int, int, str]]:
        return type(self), (self.line, self.column, self.detail)
