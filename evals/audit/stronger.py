"""Stronger suites for the same problems, such as EvalPlus's for HumanEval and MBPP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from codegen.evals.sandbox import Job, Outcome, SandboxProtocol
from codegen.evals.tasks import Problem, Task
from codegen.records import UNJUDGED, Verdict

from .rows import Survivor

MakeJob = Callable[[str], Job | Verdict]


def suite_of(task: str) -> str:
    """Returns the name of the stronger suite of a task; empty if none is known."""
    family = next((name for name in ("humaneval", "mbpp") if task.startswith(name)), "")
    return f"{family}-plus" if family and "-plus" not in task else ""


def prepare_suite(
    suite: Task[Any], problems: Sequence[Problem], sandbox: SandboxProtocol
) -> dict[str, MakeJob]:
    """Prepares the problems that a suite shares with others, which have the same numbers.

    Returns:
        By the other problem's id, the function that makes the suite's job of a program.
    """
    known = {_number(problem): problem for problem in suite.problems()}
    shared = {p.id: known[_number(p)] for p in problems if _number(p) in known}
    if suite.needs_preparation:
        suite.prepare(list(shared.values()), sandbox)
    return {id_: partial(suite.job, problem) for id_, problem in shared.items()}


def judged(survivor: Survivor, outcome: Outcome) -> Survivor:
    """Adds a suite's verdict to a survivor, with its message unless an input is the proof.

    A timeout proves nothing: the mutant may be slow.
    """
    if outcome.passed or outcome.status in (*UNJUDGED, "timeout"):
        return survivor
    got = survivor.got or f"stronger suite: {outcome.status}: {outcome.message}"
    return replace(survivor, proved_by=(*survivor.proved_by, "suite"), got=got)


def _number(problem: Problem) -> str:
    return problem.id.rpartition("/")[2]
