"""Zebra puzzles: who lives where, by clues that leave one answer.

The puzzles are of the kind of Shah et al., "Causal Language Modeling Can Elicit Search and
Reasoning Capabilities on Logic Puzzles", 2024 (arXiv 2409.10502), with their seven relations; their
data is not at hand, so the words and the way of drawing are ours. Houses stand in a row; each has
one value of every attribute, and no two houses share one. The answer names house, attribute and
value of all; their order is of no meaning.

A puzzle is drawn by choosing the houses' values, then as many true clues, in random order, as are
needed for a unique answer by a solver of constraint problems (python-constraint), then leaving out
each clue without which it stays unique.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from codegen.errors import ConfigError
from codegen.puzzles.puzzle import BORDER, Puzzle

# A relation holds of the houses of its values; of one, where they are one.
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

Item = tuple[int, int]  # attribute, value


@dataclass(frozen=True, slots=True)
class Clue:
    """A relation of items."""

    relation: str
    items: tuple[Item, ...]

    def holds(self, houses: Sequence[int], count: int) -> bool:
        """Whether it is true of the houses that its items are in."""
        return RELATIONS[self.relation](*houses, count)

    def words(self) -> list[str]:
        """As the question has it."""
        return [self.relation, *(str(number) for item in self.items for number in item), "CLUE_END"]


@dataclass(frozen=True, slots=True)
class Zebra:
    """Puzzles of so many houses with so many attributes, at most six of either."""

    houses: int
    attributes: int

    def draw(self, rng: random.Random) -> Puzzle:
        """One puzzle."""
        places = self._places(rng)
        clues = self.clues(places, rng)
        words = [str(self.houses), str(self.attributes)]
        words += [word for clue in clues for word in clue.words()]
        answer = sorted((house, *item) for item, house in places.items())
        rng.shuffle(answer)
        return Puzzle(
            " ".join([*words, BORDER]), " ".join(str(n) for triple in answer for n in triple)
        )

    def clues(self, places: dict[Item, int], rng: random.Random) -> list[Clue]:
        """Clues that are true of ``places`` (item -> house) and of nothing else, none of them in
        vain.
        """
        pool = self._true(places)
        rng.shuffle(pool)
        few, many = 1, len(pool)  # adding clues can but shrink the set of answers
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
        """Whether one answer at most fits the clues."""
        answers = self._problem(clues).getSolutionIter()
        return sum(1 for _, _ in zip(range(2), answers, strict=False)) < 2

    def _problem(self, clues: Sequence[Clue]) -> Any:
        try:
            from constraint import AllDifferentConstraint, Problem
        except ImportError:
            raise ConfigError(
                "Zebra puzzles need python-constraint2, which is not installed.",
                "pip install 'codegen-toolkit[puzzles]'",
            ) from None
        problem = Problem()
        for attribute in range(self.attributes):
            group = [(attribute, value) for value in range(self.houses)]
            problem.addVariables(group, list(range(self.houses)))
            problem.addConstraint(AllDifferentConstraint(), group)
        for clue in clues:
            problem.addConstraint(lambda *h, c=clue: c.holds(h, self.houses), list(clue.items))
        return problem

    def _places(self, rng: random.Random) -> dict[Item, int]:
        return {
            (attribute, value): house
            for attribute in range(self.attributes)
            for house, value in enumerate(rng.sample(range(self.houses), self.houses))
        }

    def _true(self, places: dict[Item, int]) -> list[Clue]:
        """All clues that are true and say something."""
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
