"""Audits all problems of a task: one stream of sandbox jobs, a journal, and the results.

Files in ``out``: ``audit.jsonl`` (one row per problem), ``audit.json`` (the summary),
``audit.html`` (the worst problems first, each with its proof) and ``README.md``. The journal
``rows.jsonl`` has the rows in completion order; a killed audit resumes from it.

Results depend on the task, the settings and the sandbox, not on the number of workers; only CPU
times vary.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from codegen.core.errors import InputError
from codegen.core.python_syntax import UNPARSABLE
from codegen.core.records import UNJUDGED, conform, read_rows
from codegen.core.runs import OnProgress, RunDirectory
from codegen.evals.tasks import FILE, Problem, Task, load
from codegen.evals.tasks.custom import CustomProblem, CustomTask
from codegen.evals.tasks.dataset_rows import DataLocation, read_rows_of
from codegen.sandbox import Job, Outcome, SandboxProtocol

from .problem import AuditRow, AuditSettings, MakeJob, Steps, audit_problem
from .summary import summarize, write_pages
from .tests import with_assertions

JOURNAL = "rows.jsonl"


def open_task(name: str, source: str | None = None) -> tuple[Task[Any], dict[str, str]]:
    """Loads a task to audit; also returns place -> the reason that a row is not a problem.

    Args:
        name: a task, a JSONL file of :mod:`codegen.evals.tasks.custom`, or ``hub:org/name``.

    Raises:
        ConfigError: for an unknown task. InputError: if the data cannot be read at all.
    """
    path = name.removeprefix(FILE)
    is_rows = name.startswith((FILE, "hub:")) or Path(name).is_file()
    if not is_rows or path.endswith((".yaml", ".yml")):
        return load(f"{FILE}{path}" if is_rows else name, source), {}
    problems: dict[str, CustomProblem] = {}
    unreadable: dict[str, str] = {}
    for place, row in read_rows_of(source or path, DataLocation(path)).items:
        try:
            problem = CustomTask.problem_of(place, row)
            if problems.setdefault(problem.id, problem) is not problem:
                raise InputError(f"The id {problem.id!r} appears twice.")
        except InputError as error:
            unreadable[place] = error.message
    short = path if path.startswith("hub:") else Path(path).name
    return CustomTask(f"{FILE}{short}", "", list(problems.values()), short), unreadable


def suite_of(task: str) -> str:
    """Returns the name of the stronger suite of a task; empty if none is known."""
    family = next((name for name in ("humaneval", "mbpp") if task.startswith(name)), "")
    return f"{family}-plus" if family and "-plus" not in task else ""


def prepare_suite(
    suite: Task[Any], problems: Sequence[Problem], sandbox: SandboxProtocol
) -> dict[str, MakeJob]:
    """Prepares a suite's problems that have the same numbers as ``problems``.

    Returns:
        Problem id -> function that makes the suite's job for a program.
    """
    known = {_number(problem): problem for problem in suite.problems()}
    shared = {p.id: known[_number(p)] for p in problems if _number(p) in known}
    if suite.needs_preparation:
        suite.prepare(list(shared.values()), sandbox)
    return {id_: partial(suite.job, problem) for id_, problem in shared.items()}


def _number(problem: Problem) -> str:
    return problem.id.rpartition("/")[2]


def interleave(
    problems: Mapping[str, Steps[AuditRow]], sandbox: SandboxProtocol
) -> Iterator[AuditRow]:
    """Runs the steps of many problems in one stream of jobs; yields rows in completion order.

    A problem starts only when no job of started problems is waiting, so few are open at a time.

    Args:
        problems: steps by problem id.
    """
    source = iter(problems)
    running: dict[str, dict[int, Outcome | None]] = {}  # outcomes of the current jobs by number
    waiting: deque[tuple[tuple[str, int], Job]] = deque()
    done: deque[AuditRow] = deque()

    def advance(id_: str, outcomes: list[Any] | None) -> None:
        try:
            while not (jobs := problems[id_].send(outcomes)):  # type: ignore[arg-type]
                outcomes = []
        except StopIteration as end:
            done.append(end.value)
        except UNPARSABLE as error:
            done.append(AuditRow(id_, "too_large", f"{type(error).__name__}: {error}"))
        else:
            running[id_] = dict.fromkeys(range(len(jobs)))
            waiting.extendleft(((id_, at), jobs[at]) for at in reversed(range(len(jobs))))

    def jobs() -> Iterator[tuple[tuple[str, int], Job]]:
        while True:
            while not waiting:
                if (id_ := next(source, None)) is None:
                    return
                advance(id_, None)
            yield waiting.popleft()

    is_begun = False
    while running or not is_begun:
        is_begun = True
        for (id_, at), outcome in sandbox.map(jobs()):
            running[id_][at] = outcome
            if None not in running[id_].values():
                advance(id_, list(running.pop(id_).values()))
            while done:
                yield done.popleft()
        yield from done
        done.clear()


def _check_seed(
    task: Task[Any], problems: Sequence[Problem], reseeded: SandboxProtocol
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yields id, state and message of problems whose reference fails with another hash seed."""
    jobs = ((p.id, task.job(p, task.reference(p) or "")) for p in problems)
    for id_, outcome in reseeded.map((id_, job) for id_, job in jobs if isinstance(job, Job)):
        if not outcome.passed and outcome.status not in UNJUDGED:
            message = f"with another hash seed: {outcome.status}: {outcome.message}"
            yield id_, ("flaky_reference", message)


def audit(
    task: Task[Any],
    *,
    out: str | Path,
    sandbox: SandboxProtocol,
    settings: AuditSettings,
    suite: Task[Any] | None = None,
    unreadable: Mapping[str, str] | None = None,
    overlap: Mapping[str, Sequence[str]] | None = None,
    reseeded: SandboxProtocol | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Sequence[AuditRow], Mapping[str, Any]]:
    """Audits a task and writes the results to ``out``; resumes an audit in ``out``.

    Args:
        suite: a task with stronger tests for the same problems.
        unreadable: place -> reason, for rows that could not be parsed.
        overlap: similar problems and training examples by problem id.
        reseeded: a sandbox with another hash seed, in which references run once more.
        on_progress: called with (problems done, total problems).

    Returns:
        The rows in the task's order, and the summary.

    Raises:
        ResumeError: if ``out`` has an audit with other settings.
        SandboxError: if the sandbox fails.
    """
    problems = list(task.problems())
    if task.needs_preparation:
        task.prepare(problems, sandbox)
    stronger = prepare_suite(suite, problems, sandbox) if suite else {}
    about = {"task": task.name, "source": task.source, "suite": suite.name if suite else ""}
    about |= {**asdict(settings), "sandbox": sandbox.describe()}
    directory = RunDirectory(Path(out))
    directory.refuse_nonempty(JOURNAL, directory.settings_file)
    with directory.open(JOURNAL) as journal:
        directory.claim(about, begun=journal.size > 0)
        stored = (conform(AuditRow, row, where) for where, row in read_rows(journal.path))
        rows = {row.id: row for row in stored}
        left = [problem for problem in problems if problem.id not in rows]
        steps = {p.id: audit_problem(task, p, settings, stronger.get(p.id)) for p in left}
        for row in interleave(steps, sandbox):
            rows[row.id] = row
            if row.state != "sandbox_failed":  # retried by the next call
                journal.append(json.dumps(asdict(row)))
            if on_progress:
                on_progress(len(rows), len(problems))
        if reseeded:
            audited = [p for p in problems if rows[p.id].state == "audited"]
            rows |= {id_: AuditRow(id_, *f) for id_, f in _check_seed(task, audited, reseeded)}
        known = overlap or {}
        found = [replace(rows[p.id], duplicates=tuple(known.get(p.id, ()))) for p in problems]
        found += [AuditRow(id_, "unreadable", reason) for id_, reason in (unreadable or {}).items()]
        summary = summarize(found, about)
        directory.write("audit.jsonl", (json.dumps(asdict(row)) + "\n" for row in found))
        directory.write("audit.json", json.dumps(summary, indent=1) + "\n")
        write_pages(directory, found, summary)
    return found, summary


def hardened_rows(task: Task[Any], rows: Sequence[AuditRow]) -> Iterator[str]:
    """Yields the audited problems as JSON lines for :mod:`codegen.evals.tasks.custom`."""
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
