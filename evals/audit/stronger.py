"""A stronger suite for the same problems, such as EvalPlus's for HumanEval and MBPP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from codegen.evals.sandbox import Job, Outcome, SandboxProtocol
from codegen.evals.tasks import Problem, Task
from codegen.records import UNJUDGED

from .rows import Survivor


def suite_of(task: str) -> str:
    """Returns the name of the stronger suite of a task; empty if none is known."""
    family = next((name for name in ("humaneval", "mbpp") if task.startswith(name)), "")
    return f"{family}-plus" if family and "-plus" not in task else ""


@dataclass(frozen=True, slots=True)
class StrongerSuite:
    """A task whose tests are believed where they reject a mutant; its problems by number."""

    task: Task[Any]
    problems: dict[str, Problem]

    @classmethod
    def prepare(
        cls, task: Task[Any], problems: Sequence[Problem], sandbox: SandboxProtocol
    ) -> StrongerSuite:
        """Prepares the problems that a suite shares with ``problems``."""
        wanted = set(map(_number, problems))
        shared = {_number(p): p for p in task.problems() if _number(p) in wanted}
        if task.needs_preparation:
            task.prepare(list(shared.values()), sandbox)
        return cls(task, shared)

    def find(self, problem: Problem) -> Problem | None:
        """Returns the suite's version of a problem; None if absent."""
        return self.problems.get(_number(problem))

    def job(self, problem: Problem, program: str) -> Job:
        """Returns the job that runs the suite on a program."""
        made = self.task.job(problem, program)
        assert isinstance(made, Job)  # tests that run nothing are not stronger
        return made

    def judged(self, survivor: Survivor, outcome: Outcome) -> Survivor:
        """Adds a verdict of the suite to a survivor, with its message unless it has an input.

        A timeout proves nothing: the mutant may be slow.
        """
        if outcome.passed or outcome.status in (*UNJUDGED, "timeout"):
            return survivor
        got = survivor.got or f"{self.task.name}: {outcome.status}: {outcome.message}"
        return replace(survivor, proved_by=(*survivor.proved_by, "suite"), got=got)


def _number(problem: Problem) -> str:
    return problem.id.rpartition("/")[2]
