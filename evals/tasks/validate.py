"""Validates a task: its references must pass, and programs known to be wrong must fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from codegen.core.records import UNJUDGED
from codegen.core.runs import OnProgress
from codegen.evals.tasks.base import Task

if TYPE_CHECKING:
    from codegen.core.records import Verdict
    from codegen.sandbox import Outcome, SandboxProtocol


@dataclass(frozen=True, slots=True)
class ReferenceGate:
    """The results of running the references.

    Attributes:
        total, passed: number of references that ran, and that passed.
        failures: problem id -> "status: message" of unexpected failures.
        exceptions: problem id -> reason, for references known to fail, regardless of their result.
    """

    total: int
    passed: int
    failures: Mapping[str, str] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, verdicts: Mapping[str, Any], excepted: Mapping[str, str]) -> ReferenceGate:
        """Builds the gate from the references' verdicts.

        Args:
            verdicts: problem id -> an object with a ``status`` and a ``message``.
            excepted: problem id -> reason, for references known to fail.
        """
        return cls(
            total=len(verdicts),
            passed=sum(verdict.status == "passed" for verdict in verdicts.values()),
            failures={
                id_: f"{verdict.status}: {verdict.message}".rstrip(": ")
                for id_, verdict in verdicts.items()
                if verdict.status != "passed" and id_ not in excepted
            },
            exceptions={id_: reason for id_, reason in excepted.items() if id_ in verdicts},
        )

    @property
    def holds(self) -> bool:
        """True if all references passed, except the known failures."""
        return not self.failures


@dataclass(frozen=True, slots=True)
class TaskCheck:
    """The results of a task's references and known bugs.

    Attributes:
        references, passed: number of references, and how many passed.
        failures: problem -> "status: message" of unexpected failures of references.
        exceptions: problem -> reason, for references known to fail; they run as well.
        exceptions_passed: exceptions whose reference passed.
        buggy, rejected: number of programs known to be wrong, and how many of them failed.
        accepted: problems whose known bug passed.
        cpu_s: total CPU seconds of all programs.
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
        """True if the task distinguishes correct from wrong programs here."""
        return not self.failures and not self.accepted


def check(
    task: Task[Any],
    sandbox: SandboxProtocol,
    *,
    limit: int | None = None,
    every: int = 1,
    on_progress: OnProgress | None = None,
) -> TaskCheck:
    """Scores a task's references and known bugs.

    Args:
        limit: number of problems to use, after ``every``.
        every: use every n-th problem.
        on_progress: called with (programs scored, programs to score).

    Raises:
        SandboxError: if the sandbox fails, or an expected result cannot be computed.
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
    for key, verdict in task.judge(((key, *p) for key, p in programs.items()), sandbox):
        verdicts[key] = verdict
        if on_progress:
            on_progress(len(verdicts), len(programs))
    return _summary(task, {key: verdicts[key] for key in programs})


def _summary(
    task: Task[Any], verdicts: Mapping[tuple[str, bool, int], Verdict | Outcome]
) -> TaskCheck:
    references = {id_: v for (id_, wrong, _), v in verdicts.items() if not wrong}
    bugs = [(id_, v) for (id_, wrong, _), v in verdicts.items() if wrong]
    gate = ReferenceGate.of(references, task.reference_exceptions)
    return TaskCheck(
        references=gate.total,
        passed=gate.passed,
        failures=gate.failures,
        exceptions=gate.exceptions,
        exceptions_passed=[id_ for id_ in gate.exceptions if references[id_].status == "passed"],
        buggy=len(bugs),
        # A sandbox failure or an unusable test is not a rejection.
        rejected=sum(v.status not in ("passed", *UNJUDGED) for _, v in bugs),
        accepted=[id_ for id_, v in bugs if v.status in ("passed", *UNJUDGED)],
        cpu_s=sum(v.cpu_s for v in verdicts.values()),
    )
