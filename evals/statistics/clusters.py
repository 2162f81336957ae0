"""Which tasks are variants of one another, by their names.

Three infillings of one function are not three independent draws from the world of tasks. Problems
that are made of HumanEval or MBPP carry the name of the task they come from, for example
``SingleLineInfilling/HumanEval/0/L0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BASE = re.compile(r"(?:^|/)((?:HumanEval|Mbpp|MBPP)/\d+)(?:/|$)")


def base_task(problem_id: str) -> str:
    """The task that a problem is a variant of; the problem itself if its name says nothing."""
    found = _BASE.search(problem_id)
    return found[1] if found else problem_id


def has_variants(problem_ids: Iterable[str]) -> bool:
    """Whether some of the problems share their base task, so that errors need clustering."""
    seen: set[str] = set()
    for id_ in problem_ids:
        base = base_task(id_)
        if base in seen:
            return True
        seen.add(base)
    return False
