"""What a puzzle is."""

from __future__ import annotations

from dataclasses import dataclass

BORDER = ":"  # the word between question and answer


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A question and its answer, in words with blanks between them."""

    question: str
    answer: str
