"""Planning puzzles, drawn by published rules: ``puzzles:NAME[:SPLIT[:COUNT]]``.

Star graphs: which arm leads from the source to the goal? Source: Patel et al., "Insertion Language
Models", 2025 (arXiv 2505.05755), section 4.1, by the rules of the released generator; the easy ones
are from Bachmann and Nagarajan, "The Pitfalls of Next-Token Prediction", 2024 (arXiv 2403.06963).
A model that writes the path from its source must choose the right arm at the center, before any of
its text shows which one that is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from codegen.errors import ConfigError
from codegen.records import Example, Segment, TrainingText

SCHEME = "puzzles"
BORDER = ":"  # the word between question and answer
SPLITS = {"train": 50_000, "validation": 100, "test": 5_000}  # the paper's sizes
VERSION = 1  # part of the seed


# --- star graphs -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Star:
    """Graphs of ``degree`` arms that meet in one node.

    Attributes:
        shortest, longest: range of an arm's number of nodes, drawn for each arm.
        least_plan: least number of nodes behind the center in each arm.
        nodes: nodes are named by numbers below this.
        from_centre: whether each arm begins at the center, which is the source.
    """

    degree: int
    shortest: int
    longest: int
    least_plan: int
    nodes: int
    from_centre: bool = False

    def arms(self, rng: random.Random) -> list[list[int]]:
        """The arms as chains of nodes that share one node; the first one is the answer."""
        lengths = [rng.randint(self.shortest, self.longest) for _ in range(self.degree)]
        names = rng.sample(range(self.nodes), sum(lengths) - self.degree + 1)
        centre = names.pop()
        arms = []
        for length in lengths:
            at = 0 if self.from_centre else rng.randrange(length - self.least_plan)
            arm = [names.pop() for _ in range(length - 1)]
            arm.insert(at, centre)
            arms.append(arm)
        return arms

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """A question (all edges in random order, source and goal) and its answer: the path."""
        arms = self.arms(rng)
        edges = [edge for arm in arms for edge in _edges(arm)]
        rng.shuffle(edges)
        path = arms[0]
        question = [*_flat(edges), str(path[0]), str(path[-1]), BORDER]
        return " ".join(question), " ".join(_flat(_edges(path)))


STARS = {
    "star-easy": Star(3, 5, 5, 4, 20, from_centre=True),
    "star-medium": Star(3, 3, 6, 2, 20),
    "star-hard": Star(5, 6, 12, 5, 56),
}


def _edges(arm: list[int]) -> list[tuple[int, int]]:
    return list(pairwise(arm))


def _flat(edges: list[tuple[int, int]]) -> list[str]:
    return [str(node) for edge in edges for node in edge]


# --- puzzles by name ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Puzzles:
    """Puzzles of one kind; puzzle k of a split does not depend on ``count``."""

    name: str
    split: str
    count: int

    @classmethod
    def parse(cls, spec: str) -> Puzzles:
        """Reads ``puzzles:NAME:SPLIT[:COUNT]``.

        Raises:
            ConfigError: for an unknown name or split, or a bad count.
        """
        _, *parts = spec.split(":")
        if not 1 <= len(parts) <= 3:
            raise ConfigError(
                f"{spec!r} names no puzzles.",
                f"Give {SCHEME}:NAME:SPLIT, or with a number after it.",
            )
        name, split, count = [*parts, "", ""][:3]
        split = split or "train"
        if name not in STARS:
            known = ", ".join(STARS)
            raise ConfigError(f"There are no puzzles {name!r}.", f"There are: {known}.")
        if split not in SPLITS:
            raise ConfigError(f"Puzzles have no split {split!r}.", f"Choose {', '.join(SPLITS)}.")
        if count and not (count.isdecimal() and int(count)):
            raise ConfigError(f"{spec!r} asks for {count!r} puzzles.", "Give a number above 0.")
        return cls(name, split, int(count) if count else SPLITS[split])

    @property
    def spec(self) -> str:
        """The whole name, with the version of the drawing."""
        return f"{SCHEME}:{self.name}:{self.split}:{self.count}@{VERSION}"

    def __iter__(self) -> Iterator[Example]:
        """Draws the puzzles: the question is the instruction, the answer the program."""
        star = STARS[self.name]
        for number in range(self.count):
            rng = random.Random(f"{VERSION}\x00{self.name}\x00{self.split}\x00{number}")
            question, answer = star.draw(rng)
            yield Example(
                f"{self.name}-{self.split}-{number}", question, answer,
                language="puzzle", source=f"{SCHEME}:{self.name}",
            )  # fmt: skip

    def texts(self) -> Iterator[TrainingText]:
        """The puzzles as training texts: the answer is trained."""
        for example in self:
            segments = (Segment(example.instruction, False), Segment(example.program, True))
            yield TrainingText(f"{example.id}#plain", example.id, "plain", segments)


def is_puzzles(spec: object) -> bool:
    """Whether a path names puzzles."""
    return isinstance(spec, str) and spec.startswith(f"{SCHEME}:")
