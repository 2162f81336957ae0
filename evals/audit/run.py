"""Audits all problems of a task: one stream of sandbox jobs, a journal, and the results.

Files in ``out``: ``audit.jsonl`` (one row per problem), ``audit.json`` (the summary),
``audit.html`` (the worst problems first, each with its proof) and ``README.md``. The journal
``rows.jsonl`` has the rows in completion order; a killed audit resumes from it.

Results depend on the task, the settings and the sandbox, not on the number of workers; CPU times
are measured.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from codegen.errors import InputError
from codegen.evals.sandbox import Job, Outcome, SandboxProtocol
from codegen.evals.tasks import FILE, Task, load
from codegen.evals.tasks.custom import Custom, CustomProblem
from codegen.evals.tasks.rows import Home, read_rows_of
from codegen.records import from_dict, read_rows
from codegen.runs import RunDirectory

from .page import write_pages
from .problem import Settings, Steps, audit_problem, guarded
from .rows import STATES, Row
from .stronger import StrongerSuite
from .summary import CHECKS, summarize

JOURNAL = "rows.jsonl"
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Running:
    """A problem in progress: its steps, and the outcomes of its current batch of jobs."""

    steps: Steps
    outcomes: list[Outcome | None] = field(default_factory=list)
    missing: int = 0


def interleave(problems: Iterable[Steps], sandbox: SandboxProtocol) -> Iterator[Row]:
    """Runs the steps of many problems in one stream of jobs; yields rows in completion order.

    A problem is started when no job of those in progress is waiting, so few are open at a time.
    """
    source = iter(problems)
    running: dict[int, _Running] = {}
    waiting: deque[tuple[tuple[int, int], Job]] = deque()
    done: deque[Row] = deque()
    started = 0

    def advance(number: int, outcomes: Any) -> None:
        problem = running[number]
        try:
            jobs = problem.steps.send(outcomes)
            while not jobs:
                jobs = problem.steps.send([])
        except StopIteration as end:
            done.append(end.value)
            del running[number]
            return
        problem.outcomes, problem.missing = [None] * len(jobs), len(jobs)
        waiting.extendleft(((number, at), job) for at, job in reversed(list(enumerate(jobs))))

    def jobs() -> Iterator[tuple[tuple[int, int], Job]]:
        nonlocal started
        while True:
            while not waiting:
                if (steps := next(source, None)) is None:
                    return
                running[started] = _Running(steps)
                started += 1
                advance(started - 1, None)
            yield waiting.popleft()

    while True:
        for (number, at), outcome in sandbox.map(jobs()):
            problem = running[number]
            problem.outcomes[at] = outcome
            problem.missing -= 1
            if not problem.missing:
                advance(number, problem.outcomes)
            while done:
                yield done.popleft()
        while done:
            yield done.popleft()
        if not running:
            return


@dataclass(frozen=True, slots=True)
class Audit:
    """A finished audit: rows in the task's order, and the summary."""

    rows: Sequence[Row]
    summary: Mapping[str, Any]

    def faults(self, name: str) -> int:
        """Returns the number of problems with a fault: a name of ``CHECKS``, or ``reference``."""
        if name == "reference":
            return len(self.rows) - self.summary["states"].get("audited", 0)
        return self.summary[name]["count"]

    def lines(self) -> Iterator[str]:
        """Yields the summary as lines for a terminal."""
        for state, count in self.summary["states"].items():
            yield f"{count:6} {state.replace('_', ' ')}: {STATES[state]}"
        for name, (words, _) in CHECKS.items():
            found = self.summary[name]
            interval = f"   {found['low']:.1%} to {found['high']:.1%}" if found["of"] else ""
            yield f"{found['count']:6} of {found['of']} {words}{interval}"
        counts = (self.summary[name] for name in ("mutants", "survivors", "proved"))
        yield "{:6} mutants, {} pass all tests, {} of these are proved wrong".format(*counts)


def audit(
    task: Task[Any],
    *,
    out: str | Path,
    sandbox: SandboxProtocol,
    settings: Settings,
    suite: Task[Any] | None = None,
    unreadable: Mapping[str, str] | None = None,
    duplicates: Mapping[str, Sequence[str]] | None = None,
    on_progress: Progress | None = None,
) -> Audit:
    """Audits a task and writes the results to ``out``; resumes an earlier audit there.

    Args:
        suite: a task with stronger tests of the same problems.
        unreadable: reasons by id, of rows that could not be read as problems.
        duplicates: similar problems and training examples by problem id.
        on_progress: called with (problems done, problems).

    Raises:
        ResumeError: if ``out`` has an audit with other settings.
        SandboxError: if the sandbox breaks.
    """
    problems = list(task.problems())
    if task.needs_preparation:
        task.prepare(problems, sandbox)
    stronger = StrongerSuite.prepare(suite, problems, sandbox) if suite else None
    about = {
        "task": task.name,
        "source": task.source,
        "suite": suite.name if suite else "",
        **asdict(settings),
        "sandbox": sandbox.describe(),
    }
    directory = RunDirectory(Path(out))
    directory.refuse_foreign(JOURNAL, directory.settings_file)
    with directory.open(JOURNAL) as journal:
        directory.claim(about, begun=journal.size > 0)
        rows = {row.id: row for row in _read(journal.path)}
        left = [problem for problem in problems if problem.id not in rows]
        steps = (guarded(p.id, audit_problem(task, p, settings, stronger)) for p in left)
        for row in interleave(steps, sandbox):
            rows[row.id] = row
            if row.state != "sandbox_failed":  # the next call tries it again
                journal.append(json.dumps(asdict(row)))
            if on_progress:
                on_progress(len(rows), len(problems))
        known = duplicates or {}
        found = [replace(rows[p.id], duplicates=tuple(known.get(p.id, ()))) for p in problems]
        found += [Row(id_, "unreadable", reason) for id_, reason in (unreadable or {}).items()]
        summary = summarize(found, about)
        directory.write("audit.jsonl", (json.dumps(asdict(row)) + "\n" for row in found))
        directory.write("audit.json", json.dumps(summary, indent=1) + "\n")
        write_pages(directory, found, summary)
    return Audit(found, summary)


def open_task(name: str, source: str | None = None) -> tuple[Task[Any], dict[str, str]]:
    """Loads a task to audit, and the reasons of rows that cannot be read as problems, by place.

    Args:
        name: a task, a JSONL file of :mod:`codegen.evals.tasks.custom`, or ``hub:org/name``.

    Raises:
        ConfigError: for an unknown task. InputError: for data that cannot be read at all.
    """
    path = name.removeprefix(FILE)
    is_rows = name.startswith((FILE, "hub:")) or Path(name).is_file()
    if not is_rows or path.endswith((".yaml", ".yml")):
        return load(f"{FILE}{path}" if is_rows else name, source), {}
    problems: dict[str, CustomProblem] = {}
    unreadable: dict[str, str] = {}
    rows = read_rows_of(source or path, Home(path))
    for place, row in rows.items:
        try:
            problem = Custom.problem_of(place, row)
        except InputError as error:
            unreadable[place] = error.message
            continue
        if problem.id in problems:
            unreadable[place] = f"the id {problem.id!r} appears twice"
        problems.setdefault(problem.id, problem)
    short = path if path.startswith("hub:") else Path(path).name
    task = Custom(f"{FILE}{short}", "a task of your own", list(problems.values()), short)
    return task, unreadable


def _read(path: Path) -> Iterator[Row]:
    for where, row in read_rows(path):
        yield from_dict(Row, row, where)
