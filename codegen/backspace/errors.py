"""Why an example gives no backspace data."""

from __future__ import annotations

from codegen.errors import CodegenError


class UnsuitableExample(CodegenError):
    """An example that is skipped.

    Attributes:
        reason: a short stable word to count by: ``empty``, ``empty_prompt``, ``not_unicode``,
            ``special_in_prompt``, ``too_long`` or ``replay_mismatch``.
        detail: what is wrong, in a sentence.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"No backspace data ({reason}): {detail}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # Exceptions are pickled by their message alone, which __init__ does not take.
        return type(self), (self.reason, self.detail)
