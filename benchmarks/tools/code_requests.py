"""HumanEval requests for measuring drafts: completion and repair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from codegen.evals.tasks import load
from codegen.generation import Request

Item = TypeVar("Item")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Returns at most n items, evenly spaced."""
    return [items[number * len(items) // count] for number in range(min(count, len(items)))]


def humaneval_requests(count: int) -> dict[str, list[Request]]:
    """Returns chat requests of two kinds for the same problems.

    ``humaneval``: functions from their docstrings. ``humanevalfix``: functions with a bug to
    repair, which the prompt shows.
    """
    found: dict[str, list[Request]] = {"humaneval": [], "humanevalfix": []}
    for index, problem in enumerate(spread(load("humaneval").problems(), count)):
        asked = f"Complete this function.\n\n{problem.prompt}"
        found["humaneval"].append(Request(asked, chat=True, index=index))
        broken = problem.prompt + problem.canonical_solution.replace("return", "return not", 1)
        asked = f"Mend the bug in this function. Print the whole function.\n\n{broken}"
        found["humanevalfix"].append(Request(asked, chat=True, index=index, original=broken))
    return found
