"""The errors of this room."""

from __future__ import annotations

from codegen.errors import CodegenError


class UnsupportedProgram(CodegenError):
    """A program has no edit sequence: a sound reason to skip it.

    Attributes:
        reason: a short stable word to count by: ``not_python``, ``syntax_error``,
            ``newer_python``, ``null_bytes``, ``not_unicode``, ``empty``, ``comments_only``,
            ``contains_marker``, ``too_deep`` or ``too_many_states``.
        detail: what is wrong, in a sentence.
    """

    def __init__(self, reason: str, detail: str, remedy: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"The program has no edit sequence ({reason}): {detail}", remedy)

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Exceptions are pickled by their message alone, which __init__ does not take.
        return type(self), (self.reason, self.detail, self.remedy)


class VerificationFailed(CodegenError):
    """No edit sequence of a program passed its check within the bounded number of repairs.

    Attributes:
        check: the check that failed, ``compile`` or ``ruff``.
        detail: the last finding.
    """

    def __init__(self, check: str, detail: str) -> None:
        self.check = check
        self.detail = detail
        super().__init__(
            f"An intermediate state fails the check {check!r} after all repairs: {detail}",
            "Leave the program out, or report it as an error of the dependency rules.",
        )

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.check, self.detail)


# What a generator gives for a program in the place of its texts.
Failure = UnsupportedProgram | VerificationFailed
