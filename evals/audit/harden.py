"""Tests that kill the wrong programs which a problem's tests accept.

The fewest generated inputs are chosen by greedy set cover; expected values are the reference's
results. Tests are only added, never removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from codegen.evals.sandbox import Job
from codegen.evals.tasks import Problem, Task

from .rows import Row

_MAX_VALUE = 2000  # characters of an expected value
_NEAR = """\
def _is_near(got, expected):
    if isinstance(expected, float):
        return abs(got - expected) <= 1e-6 * max(1.0, abs(expected))
    if isinstance(expected, (list, tuple)):
        alike = type(got) is type(expected) and len(got) == len(expected)
        return alike and all(map(_is_near, got, expected))
    return got == expected
"""


def choose_tests(kills: Sequence[set[int]], size: Callable[[int], int]) -> list[int]:
    """Chooses the fewest inputs that kill all mutants that can be killed, by greedy set cover.

    Args:
        kills: the inputs that kill each mutant.
        size: of an input; the smallest of several equally good ones is taken.
    """
    left = [inputs for inputs in kills if inputs]
    chosen: list[int] = []
    while left:
        counts: dict[int, int] = {}
        for inputs in left:
            for at in inputs:
                counts[at] = counts.get(at, 0) + 1
        best = min(counts, key=lambda at: (-counts[at], size(at), at))
        chosen.append(best)
        left = [inputs for inputs in left if best not in inputs]
    return sorted(chosen)


def assertion_text(call: str, expected: Any) -> str:
    """Returns the assertion that a call returns a value; empty if the value has no short text."""
    text = repr(expected)
    if len(text) > _MAX_VALUE or "nan" in text or "inf" in text:
        return ""
    if _has_float(expected):
        return f"assert _is_near({call}, {text})"
    return f"assert {call} == {text}"


def _has_float(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_float, value))
    return isinstance(value, float)


def with_assertions(test: str, added: Iterable[str]) -> str:
    """Returns tests with assertions at their end."""
    lines = list(added)
    helper = [_NEAR] if any("_is_near(" in line for line in lines) else []
    return "\n".join([test.rstrip("\n"), "", *helper, *lines, ""])


def hardened_rows(
    task: Task[Any], problems: Sequence[Problem], rows: Sequence[Row]
) -> Iterator[str]:
    """Yields the problems that were audited as JSON lines of :mod:`codegen.evals.tasks.custom`."""
    audited = {row.id: row for row in rows if row.state == "audited"}
    for problem in problems:
        if (row := audited.get(problem.id)) is None:
            continue
        program = task.reference(problem)
        job = task.job(problem, program)
        if not isinstance(job, Job) or job.mode not in ("isolated", "blinded", "in_sandbox"):
            continue
        mode = "in_sandbox" if job.mode == "in_sandbox" else "isolated"
        made = {
            "id": problem.id,
            "prompt": problem.prompt,
            "entry_point": job.entry_point,
            "setup": job.setup,
            "tests": with_assertions(job.test, row.added) if row.added else job.test,
            "solution": program,
            "mode": mode,
            "cpu_s": job.limits.cpu_s,
            "memory_mib": job.limits.memory_mib,
        }
        yield json.dumps(made) + "\n"
