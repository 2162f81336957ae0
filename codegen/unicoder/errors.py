"""The errors of UniCode's writer and parser."""

from __future__ import annotations

from codegen.errors import CodegenError


class UnsupportedProgram(CodegenError):
    """A program can't be written as UniCode: a sound reason to skip it.

    Attributes:
        reason: a short stable word to count by: ``syntax_error``, ``newer_python``,
            ``null_bytes``, ``not_unicode`` or ``too_deep``.
        detail: what is wrong, in a sentence.
    """

    def __init__(self, reason: str, detail: str, remedy: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"The program can't be written as UniCode ({reason}): {detail}", remedy)

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Exceptions are pickled by their message alone, which __init__ does not take.
        return type(self), (self.reason, self.detail, self.remedy)


class UniCodeSyntaxError(CodegenError):
    """A text is not UniCode, or stands for no Python program.

    Attributes:
        line, column: where, both from 1.
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
