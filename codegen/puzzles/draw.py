"""Puzzles by name: ``puzzles:NAME:SPLIT[:COUNT]``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from codegen.errors import ConfigError
from codegen.puzzles.puzzle import Puzzle
from codegen.puzzles.star import STARS
from codegen.puzzles.zebra import ZEBRAS
from codegen.records import Example, Segment, TrainingText

SCHEME = "puzzles"
SPLITS = {"train": 50_000, "validation": 100, "test": 5_000}  # as many as the paper has
VERSION = 1  # of what is drawn; another number, other puzzles


class Kind(Protocol):
    """A kind of puzzles."""

    def draw(self, rng: random.Random) -> Puzzle:
        """One puzzle."""
        ...


KINDS: dict[str, Kind] = {**STARS, **ZEBRAS}


@dataclass(frozen=True, slots=True)
class Puzzles:
    """So many puzzles of one kind; puzzle k of a split is the same whatever their number."""

    name: str
    split: str
    count: int

    @classmethod
    def parse(cls, spec: str) -> Puzzles:
        """Reads ``puzzles:NAME:SPLIT[:COUNT]``.

        Raises:
            ConfigError: naming what is unknown and what there is.
        """
        _, *parts = spec.split(":")
        if not 1 <= len(parts) <= 3:
            raise ConfigError(
                f"{spec!r} names no puzzles.",
                f"Give {SCHEME}:NAME:SPLIT, or with a number after it.",
            )
        name, split, count = [*parts, "", ""][:3]
        split = split or "train"
        if name not in KINDS:
            stars = ", ".join(STARS)
            raise ConfigError(
                f"There are no puzzles {name!r}.",
                f"There are: {stars}, zebra-NxM (N houses from 2 to 6, M attributes from 1 to 6).",
            )
        if split not in SPLITS:
            raise ConfigError(f"Puzzles have no split {split!r}.", f"Choose {', '.join(SPLITS)}.")
        if count and not (count.isdecimal() and int(count)):
            raise ConfigError(f"{spec!r} asks for {count!r} puzzles.", "Give a number above 0.")
        return cls(name, split, int(count) if count else SPLITS[split])

    @property
    def spec(self) -> str:
        """The whole name, the number of what is drawn with it."""
        return f"{SCHEME}:{self.name}:{self.split}:{self.count}@{VERSION}"

    def __iter__(self) -> Iterator[Example]:
        """Draws the puzzles: the question is the instruction, the answer the program."""
        kind = KINDS[self.name]
        for number in range(self.count):
            rng = random.Random(f"{VERSION}\x00{self.name}\x00{self.split}\x00{number}")
            puzzle = kind.draw(rng)
            yield Example(
                f"{self.name}-{self.split}-{number}", puzzle.question, puzzle.answer,
                language="puzzle", source=f"{SCHEME}:{self.name}",
            )  # fmt: skip

    def texts(self) -> Iterator[TrainingText]:
        """The puzzles as training texts: the answer is trained."""
        for example in self:
            segments = (Segment(example.instruction, False), Segment(example.program, True))
            yield TrainingText(f"{example.id}#plain", example.id, "plain", segments)


def is_puzzles(spec: object) -> bool:
    """Whether a path is in truth a name of puzzles."""
    return isinstance(spec, str) and spec.startswith(f"{SCHEME}:")
