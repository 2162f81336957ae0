"""Puzzles to plan on as a source: ``puzzles:NAME[:SPLIT[:COUNT]]`` (:mod:`codegen.puzzles`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codegen.data.sources.base import Item
from codegen.puzzles import Puzzles


@dataclass(slots=True)
class PuzzleSource:
    """Puzzles as examples: the question is the instruction, the answer the program."""

    puzzles: Puzzles
    _fraction: float | None = None

    def describe(self) -> Mapping[str, Any]:
        """Which puzzles, and the version of their drawing."""
        return {"kind": "puzzles", "puzzles": self.puzzles.spec}

    def fraction(self) -> float | None:
        """The share that has been drawn."""
        return self._fraction

    def __iter__(self) -> Iterator[Item]:
        """Draws them in their order."""
        for number, example in enumerate(self.puzzles, 1):
            self._fraction = number / self.puzzles.count
            yield example
