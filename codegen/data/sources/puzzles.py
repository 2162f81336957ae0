"""Planning puzzles, drawn by published rules: ``puzzles:NAME[:SPLIT[:COUNT]]``.

Star graphs: which arm leads from the source to the goal? Source: Patel et al., "Insertion Language
Models", 2025 (arXiv 2505.05755), section 4.1, by the rules of the released generator; the easy ones
are from Bachmann and Nagarajan, "The Pitfalls of Next-Token Prediction", 2024 (arXiv 2403.06963).
A model that writes the path from its source must choose the right arm at the center, before any of
its text shows which one that is.

Zebra puzzles: who lives where, by clues with a unique answer. They follow Shah et al., "Causal
Language Modeling Can Elicit Search and Reasoning Capabilities on Logic Puzzles", 2024 (arXiv
2409.10502), with its seven relations, but their wording and drawing are our own. Houses are in a
row; each has one value of every attribute, and no two houses share a value. The answer names house,
attribute and value of all, in any order. Drawing chooses the houses' values, then as many true
clues, in random order, as a solver of constraint problems (python-constraint) needs for a unique
answer, then drops each clue without which the answer stays unique.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Any

from codegen.errors import ConfigError
from codegen.extras import missing
from codegen.records import Example, Segment, TrainingText

SCHEME = "puzzles"
BORDER = ":"  # the word between question and answer
SPLITS = {"train": 50_000, "validation": 100, "test": 5_000}  # the paper's sizes
VERSION = 1  # part of the seed


# --- star graphs -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A question and its answer, in words with blanks between them."""

    question: str
    answer: str


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

    def draw(self, rng: random.Random) -> Puzzle:
        """One puzzle. Question: all edges in random order, source and goal; answer: the path."""
        arms = self.arms(rng)
        edges = [edge for arm in arms for edge in _edges(arm)]
        rng.shuffle(edges)
        path = arms[0]
        question = [*_flat(edges), str(path[0]), str(path[-1]), BORDER]
        return Puzzle(" ".join(question), " ".join(_flat(_edges(path))))


STARS = {
    "star-easy": Star(3, 5, 5, 4, 20, from_centre=True),
    "star-medium": Star(3, 3, 6, 2, 20),
    "star-hard": Star(5, 6, 12, 5, 56),
}


def _edges(arm: list[int]) -> list[tuple[int, int]]:
    return list(pairwise(arm))


def _flat(edges: list[tuple[int, int]]) -> list[str]:
    return [str(node) for edge in edges for node in edge]


# --- zebra puzzles -----------------------------------------------------------------------------

# Relations of the houses of one to three values, and of the number of houses.
RELATIONS: dict[str, Callable[..., bool]] = {
    "=": lambda a, b, _: a == b,
    "!=": lambda a, b, _: a != b,
    "left-of": lambda a, b, _: a < b,
    "immediate-left": lambda a, b, _: a + 1 == b,
    "nbr": lambda a, b, _: abs(a - b) == 1,
    "inbetween": lambda a, b, c, _: b < a < c or c < a < b,
    "ends": lambda a, houses: a in (0, houses - 1),
}
_OPERANDS = {"inbetween": 3, "ends": 1}
_SYMMETRIC = ("=", "!=", "nbr")

ZebraItem = tuple[int, int]  # attribute, value


@dataclass(frozen=True, slots=True)
class Clue:
    """A relation of items."""

    relation: str
    items: tuple[ZebraItem, ...]

    def holds(self, houses: Sequence[int], count: int) -> bool:
        """Whether it is true if its items are in these houses."""
        return RELATIONS[self.relation](*houses, count)

    def words(self) -> list[str]:
        """As the question has it."""
        return [self.relation, *(str(number) for item in self.items for number in item), "CLUE_END"]


@dataclass(frozen=True, slots=True)
class Zebra:
    """Puzzles with numbers of houses and attributes, at most six each."""

    houses: int
    attributes: int

    def draw(self, rng: random.Random) -> Puzzle:
        """Draws one puzzle."""
        places = self._places(rng)
        clues = self.clues(places, rng)
        words = [str(self.houses), str(self.attributes)]
        words += [word for clue in clues for word in clue.words()]
        answer = sorted((house, *item) for item, house in places.items())
        rng.shuffle(answer)
        return Puzzle(
            " ".join([*words, BORDER]), " ".join(str(n) for triple in answer for n in triple)
        )

    def clues(self, places: dict[ZebraItem, int], rng: random.Random) -> list[Clue]:
        """Clues that only ``places`` (item -> house) satisfies, none of them redundant."""
        pool = self._true(places)
        rng.shuffle(pool)
        few, many = 1, len(pool)  # more clues never have more answers
        while few < many:
            middle = (few + many) // 2
            few, many = (few, middle) if self.is_unique(pool[:middle]) else (middle + 1, many)
        kept = pool[:few]
        for clue in list(kept):
            rest = [other for other in kept if other is not clue]
            if self.is_unique(rest):
                kept = rest
        return kept

    def is_unique(self, clues: Sequence[Clue]) -> bool:
        """Whether at most one answer fits the clues."""
        answers = self._problem(clues).getSolutionIter()
        return sum(1 for _, _ in zip(range(2), answers, strict=False)) < 2

    def _problem(self, clues: Sequence[Clue]) -> Any:
        try:
            from constraint import AllDifferentConstraint, Problem
        except ImportError:
            message = "Zebra puzzles need python-constraint2, which is not installed."
            raise missing("constraint", message) from None
        problem = Problem()
        for attribute in range(self.attributes):
            group = [(attribute, value) for value in range(self.houses)]
            problem.addVariables(group, list(range(self.houses)))
            problem.addConstraint(AllDifferentConstraint(), group)
        for clue in clues:
            problem.addConstraint(lambda *h, c=clue: c.holds(h, self.houses), list(clue.items))
        return problem

    def _places(self, rng: random.Random) -> dict[ZebraItem, int]:
        return {
            (attribute, value): house
            for attribute in range(self.attributes)
            for house, value in enumerate(rng.sample(range(self.houses), self.houses))
        }

    def _true(self, places: dict[ZebraItem, int]) -> list[Clue]:
        """All true clues that are informative."""
        found = []
        for relation in RELATIONS:
            for items in permutations(sorted(places), _OPERANDS.get(relation, 2)):
                attributes = {attribute for attribute, _ in items}
                if relation in ("=", "!=") and len(attributes) == 1:
                    continue
                doubled = relation in _SYMMETRIC and items[0] > items[1]
                doubled |= relation == "inbetween" and items[1] > items[2]
                clue = Clue(relation, items)
                if not doubled and clue.holds([places[item] for item in items], self.houses):
                    found.append(clue)
        return found


ZEBRAS = {f"zebra-{n}x{m}": Zebra(n, m) for n in range(2, 7) for m in range(1, 7)}


KINDS: dict[str, Star | Zebra] = {**STARS, **ZEBRAS}


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
        """The whole name, with the version of the drawing."""
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
    """Whether a path names puzzles."""
    return isinstance(spec, str) and spec.startswith(f"{SCHEME}:")
