"""The gate of a task: its references must pass, and the programs known to be wrong must not.

A task whose own references fail here says nothing about a model; one that passes a known bug says
too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from codegen.records import Verdict

from .base import Task

if TYPE_CHECKING:
    from codegen.evals.sandbox import Job, Outcome, SandboxProtocol

_NOT_REJECTED = ("passed", "bad_test", "infra_error")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Check:
    """How a task's own programs did.

    Attributes:
        references, passed: how many references there are, and passed.
        failures: problem -> "status: message" of those that should have passed.
        exceptions: problem -> reason, of those known to fail; they are run all the same.
        exceptions_passed: the problems among them whose reference passed.
        buggy, rejected: programs known to be wrong, and those that did not pass.
        accepted: the problems whose known bug passed.
        cpu_s: CPU seconds of all programs.
    """

    references: int
    passed: int
    failures: Mapping[str, str] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)
    exceptions_passed: Sequence[str] = ()
    buggy: int = 0
    rejected: int = 0
    accepted: Sequence[str] = ()
    cpu_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the task can be trusted to know right from wrong here."""
        return not self.failures and not self.accepted


def check(
    task: Task[Any],
    sandbox: SandboxProtocol,
    *,
    limit: int | None = None,
    every: int = 1,
    on_progress: Progress | None = None,
) -> Check:
    """Judges a task's references and known bugs.

    Args:
        task: what to check.
        sandbox: an open sandbox.
        limit: only the first so many problems (of those left by ``every``).
        every: only every so many-th problem.
        on_progress: called with (programs judged, programs to judge).

    Raises:
        SandboxError: if the sandbox breaks, or an expected result can't be computed.
    """
    problems = list(task.problems())[::every][:limit]
    task.prepare(problems, sandbox)
    programs = {
        (problem.id, False, 0): (problem, program)
        for problem in problems
        if (program := task.reference(problem))
    } | {
        (problem.id, True, number): (problem, program)
        for problem in problems
        for number, program in enumerate(task.buggy(problem))
    }
    verdicts: dict[tuple[str, bool, int], Verdict | Outcome] = {}

    def jobs() -> Iterator[tuple[tuple[str, bool, int], Job]]:
        for key, (problem, program) in programs.items():
            job = task.job(problem, program)
            if isinstance(job, Verdict):
                verdicts[key] = job
            else:
                yield key, job

    for key, outcome in sandbox.map(jobs()):
        verdicts[key] = outcome
        if on_progress:
            on_progress(len(verdicts), len(programs))
    return _summary(task, {key: verdicts[key] for key in programs})


def _summary(task: Task[Any], verdicts: Mapping[tuple[str, bool, int], Verdict | Outcome]) -> Check:
    references = {id_: v for (id_, wrong, _), v in verdicts.items() if not wrong}
    bugs = [(id_, v) for (id_, wrong, _), v in verdicts.items() if wrong]
    excepted = {id_: why for id_, why in task.reference_exceptions.items() if id_ in references}
    return Check(
        references=len(references),
        passed=sum(v.status == "passed" for v in references.values()),
        failures={
            id_: f"{v.status}: {v.message}".rstrip(": ")
            for id_, v in references.items()
            if v.status != "passed" and id_ not in excepted
        },
        exceptions=excepted,
        exceptions_passed=[id_ for id_ in excepted if references[id_].status == "passed"],
        buggy=len(bugs),
        # A sandbox that failed has rejected nothing, nor has a test that can't be used.
        rejected=sum(v.status not in _NOT_REJECTED for _, v in bugs),
        accepted=[id_ for id_, v in bugs if v.status in _NOT_REJECTED],
        cpu_s=sum(v.cpu_s for v in verdicts.values()),
    )
