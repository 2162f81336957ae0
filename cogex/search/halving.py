"""Successive halving: most programs are dropped after a few problems, the best see more.

Source: Karnin, Koren, Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013:
rounds of equal cost, after each of which the worse part is dropped. Here a program keeps the
problems that it has seen, all programs see the same ones, and a round keeps a third.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

KEEP = 3  # one program in so many survives a round


class Round(NamedTuple):
    """So many programs, each emulated on the first so many problems."""

    programs: int
    items: int


def plan_rounds(programs: int, items: int, budget: float, finalists: int = 1) -> list[Round]:
    """The rounds, the last of which ranks the finalists.

    Args:
        programs: to choose from.
        items: problems that each could be tried on.
        budget: emulations that may be spent. One a program is needed, so that a smaller one is
            exceeded.
        finalists: how many programs are wanted.

    Returns:
        rounds with falling programs and rising items; none if there is no program or problem.
    """
    if not programs or not items:
        return []
    sizes = [programs]
    while sizes[-1] > max(finalists, 2):
        sizes.append(max(finalists, 2, ceil(sizes[-1] / KEEP)))
    # The largest allowance of a round that keeps within the budget.
    low, high = 0, int(budget)
    while low < high:
        middle = (low + high + 1) // 2
        if cost_of(_rounds(sizes, items, middle)) <= budget:
            low = middle
        else:
            high = middle - 1
    return _rounds(sizes, items, low)


def _rounds(sizes: list[int], items: int, allowance: int) -> list[Round]:
    rounds: list[Round] = []
    seen = 0
    for size in sizes:
        seen = min(items, max(1, seen + allowance // size))
        rounds.append(Round(size, seen))
    return rounds


def cost_of(rounds: list[Round]) -> int:
    """The emulations that the rounds take."""
    seen, cost = 0, 0
    for programs, items in rounds:
        cost += programs * (items - seen)
        seen = items
    return cost
