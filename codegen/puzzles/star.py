"""Star graphs: which arm leads from the source to the goal?

Source: Patel et al., "Insertion Language Models", 2025 (arXiv 2505.05755), section 4.1, by the
rules of the released generator; the easy ones are those of Bachmann and Nagarajan, "The Pitfalls of
Next-Token Prediction", 2024 (arXiv 2403.06963). A model that writes the path from its source must
know at the centre which way leads to the goal, before it has written anything that tells.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

from codegen.puzzles.puzzle import BORDER, Puzzle


@dataclass(frozen=True, slots=True)
class Star:
    """Graphs of ``degree`` arms that meet in one node.

    Attributes:
        degree: arms.
        shortest, longest: nodes of an arm, each arm drawing its number.
        least_plan: the centre is followed by so many nodes of each arm, at least.
        nodes: numbers to name nodes by, from 0.
        from_centre: each arm begins at the centre, which is the source.
    """

    degree: int
    shortest: int
    longest: int
    least_plan: int
    nodes: int
    from_centre: bool = False

    def arms(self, rng: random.Random) -> list[list[int]]:
        """The arms as chains of nodes, that of the answer first; they share one node."""
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
        """One puzzle: all edges in random order, source and goal; the edges of the path."""
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
