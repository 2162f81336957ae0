"""Adapters for other frameworks; each module imports its framework.

``verl``: a reward function. ``verifiers``: tasks with rewards, also for prime-rl. ``openenv``: an
environment. ``code_eval``: a metric for ``evaluate``. ``harbor``: a verifier. ``nemo_gym``: a
resources server. ``inspect_ai``: a sandbox provider, a scorer, and our runs as logs. (For TRL there
is :class:`codegen.rewards.SandboxReward`; clients of SandboxFusion need no more than the service's
URL.)

They share the functions below. :mod:`codegen.sandbox.verdicts` selects the sandbox; see
docs/sandbox_service.md.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from codegen.core.errors import InputError
from codegen.core.records import Sample, Verdict
from codegen.evals.tasks import Task, find_style, load, meta_of
from codegen.evals.tasks.custom import CustomProblem, CustomTask
from codegen.sandbox import Job, Outcome
from codegen.sandbox.verdicts import run_jobs, shared_sandbox


def read_problem(row: Mapping[str, Any], where: str) -> CustomProblem:
    """Parses a row with the columns of custom tasks (:mod:`codegen.evals.tasks.custom`).

    The prompt is optional.

    Args:
        row: columns ``tests``, ``calls`` and ``expected``, or ``stdin`` and ``stdout``.

    Raises:
        InputError: if the row is invalid.
    """
    return CustomTask.problem_of(where, {"prompt": "Write a program.", "id": "0", **row})


def find_job(task: Task[Any], problem: Any, answer: str, method: str = "") -> Job | Verdict:
    """Returns the job that scores an answer, or the verdict if no program needs to run.

    Args:
        method: function that the tests call; the program may define it in a class ``Solution``.
    """
    style = find_style("chat")
    sample = Sample(task.name, problem.id, 0, "", answer, "eos", {}, 0, 0, 0, meta=meta_of(style))
    found = task.extract(problem, sample)
    if not found.program:
        return Verdict(problem.id, 0, found.status, message=found.reason)
    program = found.program
    if method and re.search(r"^class Solution\b", program, re.MULTILINE):
        program += f"\n\n{method} = Solution().{method}\n"
    return task.job(problem, program)


@functools.cache
def task_of(name: str) -> Task[Any]:
    """Returns a task by name, cached."""
    return load(name)


def find_problem(name: str, problem_id: str) -> tuple[Task[Any], Any]:
    """Returns a task and one of its problems.

    Raises:
        InputError: if the problem is unknown.
    """
    task = task_of(name)
    for problem in task.problems():
        if problem.id == problem_id:
            return task, problem
    raise InputError(f"The task {name} has no problem {problem_id!r}.")


def prompt_of(task: Task[Any], problem: Any) -> str:
    """Returns a problem's prompt for chat models."""
    return task.request(problem, find_style("chat"), 0).prompt


def judge_answer(task: Task[Any], problem: Any, answer: str) -> Verdict | Outcome:
    """Scores one answer.

    Raises:
        NotScored: if the sandbox failed, not the program.
    """
    if task.needs_preparation:
        task.prepare([problem], shared_sandbox())
    (found,) = _judge([find_job(task, problem, answer)])
    return found


def judge_rows(
    rows: Sequence[CustomProblem], answer: str, method: str = ""
) -> list[Verdict | Outcome]:
    """Scores one answer on each of several problems; ``method`` as in :func:`find_job`.

    Raises:
        NotScored: if the sandbox failed, not the program.
    """
    task = CustomTask("rows", "", rows, "")
    return _judge([find_job(task, problem, answer, method) for problem in rows])


def judge_program(problem: CustomProblem, program: str) -> Verdict | Outcome:
    """Scores a program.

    Raises:
        NotScored: if the sandbox failed, not the program.
    """
    (found,) = _judge([CustomTask("rows", "", [problem], "").job(problem, program)])
    return found


def _judge(jobs: Sequence[Job | Verdict]) -> list[Verdict | Outcome]:
    found = run_jobs({n: job for n, job in enumerate(jobs) if isinstance(job, Job)})
    return [job if isinstance(job, Verdict) else found[n] for n, job in enumerate(jobs)]
