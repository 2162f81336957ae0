"""Tests that kill the wrong programs which a problem's tests accept.

The fewest generated inputs are chosen by greedy set cover; expected values are the reference's
results. Tests are only added, never removed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from codegen.evals.sandbox import Job
from codegen.evals.tasks import Task

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


def choose_tests(kills: Sequence[Collection[int]]) -> list[int]:
    """Chooses the fewest inputs that kill all mutants that can be killed, by greedy set cover.

    Args:
        kills: the inputs that kill each mutant; the lowest of several equally good ones is taken.
    """
    left = [inputs for inputs in kills if inputs]
    chosen: list[int] = []
    while left:
        counts = Counter(at for inputs in left for at in inputs)
        chosen.append(min(counts, key=lambda at: (-counts[at], at)))
        left = [inputs for inputs in left if chosen[-1] not in inputs]
    return sorted(chosen)


def assertion_text(call: str, expected: Any) -> str:
    """Returns the assertion that a call returns a value; empty if the value has no short text."""
    text = repr(expected)
    if len(text) > _MAX_VALUE or re.search(r"\b(nan|inf)\b", text):
        return ""
    has_float = re.search(r"\d\.\d|\de[-+]?\d", text) and not isinstance(expected, str)
    return f"assert _is_near({call}, {text})" if has_float else f"assert {call} == {text}"


def with_assertions(test: str, added: Sequence[str]) -> str:
    """Returns tests with assertions at their end."""
    helper = [_NEAR] if any("_is_near(" in line for line in added) else []
    return "\n".join([test, *helper, *added, ""])


def hardened_rows(task: Task[Any], rows: Sequence[Row]) -> Iterator[str]:
    """Yields the problems that were audited as JSON lines of :mod:`codegen.evals.tasks.custom`."""
    audited = {row.id: row for row in rows if row.state == "audited"}
    for problem in task.problems():
        program = task.reference(problem) if problem.id in audited else ""
        job = task.job(problem, program) if program else None
        if isinstance(job, Job) and job.mode in ("isolated", "blinded", "in_sandbox"):
            row = {"id": problem.id, "prompt": problem.prompt, "entry_point": job.entry_point}
            row |= {"setup": job.setup, "solution": program}
            row |= {"tests": with_assertions(job.test, audited[problem.id].added)}
            row |= {"mode": "isolated" if job.mode == "blinded" else job.mode}
            limits = {"cpu_s": job.limits.cpu_s, "memory_mib": job.limits.memory_mib}
            yield json.dumps(row | limits) + "\n"
