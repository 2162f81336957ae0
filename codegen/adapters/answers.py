"""Scoring of models' answers, for all adapters."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from codegen.core.errors import InputError, SandboxError
from codegen.core.records import UNJUDGED, Sample, Verdict
from codegen.evals.tasks import Task, find_style, load, meta_of
from codegen.evals.tasks.custom import CustomProblem, CustomTask
from codegen.sandbox import Job, Outcome, Sandbox
from codegen.sandbox.client import SandboxClient

URL_ENV = "CODEGEN_SANDBOX_URL"


def sandbox() -> Sandbox | SandboxClient:
    """Returns the services in ``CODEGEN_SANDBOX_URL``, or a sandbox in this process.

    Both reject tests that a program could forge.

    Raises:
        SandboxError: if neither is available.
    """
    return shared_sandbox(os.environ.get(URL_ENV, ""), os.getpid())


@functools.cache
def shared_sandbox(urls: str, _: int) -> Sandbox | SandboxClient:
    """Returns a process's sandbox, which ends with it; a process made by fork gets its own."""
    if urls:
        return SandboxClient(urls.split(","), least_trust="blinded")
    return Sandbox(least_trust="blinded").__enter__()


def read_problem(row: Mapping[str, Any], where: str) -> CustomProblem:
    """Parses a row with the columns of custom tasks (:mod:`codegen.evals.tasks.custom`).

    The prompt is optional.

    Args:
        row: columns ``tests``, ``calls`` and ``expected``, or ``stdin`` and ``stdout``.

    Raises:
        InputError: naming what is wrong with the row.
    """
    return CustomTask.problem_of(where, {"prompt": "Write a program.", "id": "0", **row})


def find_job(task: Task[Any], problem: Any, answer: str) -> Job | Verdict:
    """Returns the job that scores an answer, or the verdict if no program has to run."""
    style = find_style("chat")
    sample = Sample(task.name, problem.id, 0, "", answer, "eos", {}, 0, 0, 0, meta=meta_of(style))
    found = task.extract(problem, sample)
    if not found.program:
        return Verdict(problem.id, 0, found.status, message=found.reason)
    return task.job(problem, found.program)


@functools.cache
def task_of(name: str) -> Task[Any]:
    """Returns a task by its name, loaded once."""
    return load(name)


def find_problem(name: str, problem_id: str) -> tuple[Task[Any], Any]:
    """Returns a task and one of its problems.

    Raises:
        InputError: if there is no such problem.
    """
    task = task_of(name)
    for problem in task.problems():
        if problem.id == problem_id:
            return task, problem
    raise InputError(f"The task {name} has no problem {problem_id!r}.")


def judge_answer(task: Task[Any], problem: Any, answer: str) -> Verdict | Outcome:
    """Scores one answer.

    Raises:
        SandboxError: if the sandbox failed, not the program.
    """
    if task.needs_preparation:
        task.prepare([problem], sandbox())
    job = find_job(task, problem, answer)
    return job if isinstance(job, Verdict) else believed(sandbox().run(job))


def judge_rows(rows: Sequence[CustomProblem], answer: str) -> list[Verdict | Outcome]:
    """Scores one answer on each of several problems.

    Raises:
        SandboxError: if the sandbox failed, not the program.
    """
    task = CustomTask("rows", "", rows, "")
    jobs = [find_job(task, problem, answer) for problem in rows]
    found: list[Any] = [job if isinstance(job, Verdict) else None for job in jobs]
    todo = [(n, job) for n, job in enumerate(jobs) if isinstance(job, Job)]
    for number, outcome in sandbox().map(todo):
        found[number] = believed(outcome)
    return found


def believed(outcome: Outcome) -> Outcome:
    """Returns the outcome, if it is a verdict.

    Raises:
        SandboxError: if the sandbox failed, or the tests are unusable or could be forged.
    """
    if outcome.status in UNJUDGED:
        raise SandboxError(f"The sandbox gave no verdict ({outcome.status}): {outcome.message}")
    return outcome
