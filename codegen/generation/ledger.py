"""What the new answers of a run took, added up over its processes.

A file to which each client appends a line for each answer that it paid for, so that the sums hold
with a cache or without, however many runs share the cache, and whichever processes were killed.

Limit: a file of one machine. What processes on other nodes of a cluster ask is not in it.
"""

from __future__ import annotations

import os
from pathlib import Path

from codegen.errors import InputError
from codegen.generation.asking import Totals


class Ledger:
    """Appends to the file, which stays open: what ends after the file is gone does no harm.

    Raises (each method):
        InputError: if the file can't be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from None

    def add(self, spent: Totals) -> None:
        """Adds to the sums."""
        line = f"{spent.answers} {spent.prompt_tokens} {spent.completion_tokens}\n"
        try:
            os.write(self._file, line.encode("ascii"))  # whole: a short line, appended at once
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> InputError:
        return InputError(
            f"Cannot count the model's tokens in {self.path}: {error.strerror}.",
            "Free some room, or name another folder with TMPDIR; then run the same again.",
        )


def read_ledger(path: str | os.PathLike[str]) -> Totals:
    """The sums of a file, so far."""
    lines = [list(map(int, line.split())) for line in Path(path).read_text("ascii").splitlines()]
    return Totals(*map(sum, zip(*lines, strict=True))) if lines else Totals()
