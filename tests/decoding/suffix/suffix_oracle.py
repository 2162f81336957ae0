"""What the suffix structure must answer, by looking at every place of every sequence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

CLASSES = 16
OVERHEAD = 32

Answer = tuple[list[int], list[int], list[float], float, int]


class Place(NamedTuple):
    id: int
    at: int


class Oracle:
    """Sequences in a dictionary; a place is (sequence, index of its last token)."""

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self.texts: dict[int, list[int]] = {}
        self.finished: list[int] = []

    def billed(self) -> int:
        return sum(len(text) + OVERHEAD for text in self.texts.values())

    def evict_for(self, count: int) -> bool:
        """Drops what finished first until ``count`` tokens fit; false if they never will."""
        if self.budget is None:
            return True
        growing = [text for id_, text in self.texts.items() if id_ not in self.finished]
        if sum(len(text) + OVERHEAD for text in growing) + count > self.budget:
            return False
        while self.billed() + count > self.budget:
            del self.texts[self.finished.pop(0)]
        return True

    def ends(self, text: Sequence[int]) -> list[Place]:
        """Every place where ``text`` ends, in the order of what stands before, read backwards."""
        text, size = list(text), len(text)
        found = [
            Place(id_, i)
            for id_, stored in self.texts.items()
            for i in range(len(stored))
            if i + 1 >= size and stored[i + 1 - size : i + 1] == text
        ]
        return sorted(found, key=lambda p: (self.texts[p.id][p.at :: -1], p.id))

    def count(self, text: Sequence[int]) -> int:
        return len(self.ends(text))

    def match(self, context: Sequence[int]) -> int:
        sizes = range(len(context), 0, -1)
        return next((size for size in sizes if self.ends(context[-size:])), 0)

    def draft(
        self,
        context: Sequence[int],
        *,
        own: Place | None = None,
        limit: int,
        factor: float,
        offset: float,
        min_probability: float,
        tree: bool,
        sample: int,
        min_match: int,
        max_match: int,
    ) -> Answer:
        """The rule of ``_core.pyi``, one match length after the other."""
        context = list(context)[-max_match:]
        best: Answer = ([], [], [], 0.0, 0)
        seen: list[Place] = [own] if own else []
        tried = 0
        for size in range(len(context), min_match - 1, -1):
            places = self.ends(context[-size:])
            if places == seen:
                continue  # a longer match had the same evidence
            seen = places
            allowed = min(math.floor(factor * size + offset + 1e-6), limit)
            tried += 1
            if size == 1 and tried > 1:
                break  # one token is a match only where nothing longer is
            if allowed < 1 or allowed <= best[3] or tried > CLASSES:
                break
            if len(places) > sample:
                step = 2 * sample
                places = [places[(2 * i + 1) * len(places) // step] for i in range(sample)]
            tokens, parents, probabilities = (self._tree if tree else self._path)(
                places, allowed, min_probability
            )
            if (score := _sum(probabilities)) > best[3]:
                best = (tokens, parents, probabilities, score, size)
        return best

    def _next(self, places: Sequence[Place]) -> tuple[list[tuple[int, list[Place]]], int]:
        """Continuations by token, best first, and how many places tell something."""
        moved = [Place(p.id, p.at + 1) for p in places if p.at + 1 < len(self.texts[p.id])]
        ended = sum(p.at + 1 == len(self.texts[p.id]) and p.id in self.finished for p in places)
        tokens = [self.texts[p.id][p.at] for p in moved]
        counts = Counter(tokens)
        latest = {token: max(p for p, t in zip(moved, tokens, strict=True) if t == token)
                  for token in counts}  # fmt: skip
        ranked = sorted(counts, key=lambda token: (counts[token], latest[token]), reverse=True)
        branches = [
            (token, [p for p, t in zip(moved, tokens, strict=True) if t == token])
            for token in ranked
        ]
        return branches, len(moved) + ended

    def _path(
        self, places: Sequence[Place], size: int, least: float
    ) -> tuple[list[int], list[int], list[float]]:
        tokens: list[int] = []
        probabilities: list[float] = []
        probability = 1.0
        for _ in range(size):
            branches, total = self._next(places)
            if not branches:
                break
            token, places = branches[0]
            probability *= len(places) / total
            if probability < least:
                break
            tokens.append(token)
            probabilities.append(probability)
        return tokens, list(range(-1, len(tokens) - 1)), probabilities

    def _tree(
        self, places: Sequence[Place], size: int, least: float
    ) -> tuple[list[int], list[int], list[float]]:
        """The most probable nodes first, from a plain list of all open ones."""
        nodes: list[tuple[int, int, float]] = []
        open_: list[tuple[float, int, list[Place], int]] = []

        def grow(ends: Sequence[Place], probability: float, parent: int) -> None:
            branches, total = self._next(ends)
            for token, branch in branches:
                share = probability * (len(branch) / total)
                if share >= least:
                    open_.append((share, token, branch, parent))

        grow(places, 1.0, -1)
        while open_ and len(nodes) < size:
            best = max(range(len(open_)), key=lambda i: (open_[i][0], -i))
            share, token, branch, parent = open_.pop(best)
            nodes.append((token, parent, share))
            grow(branch, share, len(nodes) - 1)
        return [n[0] for n in nodes], [n[1] for n in nodes], [n[2] for n in nodes]


def _sum(values: Sequence[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total
