"""A stronger suite for the same problems, such as EvalPlus's for HumanEval and MBPP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from codegen.errors import CodegenError
from codegen.evals.sandbox import Job, Outcome, SandboxProtocol
from codegen.evals.tasks import Problem, Task
from codegen.evals.tasks.evalplus import PlusTask
from codegen.records import UNJUDGED

from .rows import Survivor

# By the beginning of a task's name.
SUITES = {"humaneval-plus": "", "mbpp-plus": "", "humaneval": "humaneval-plus", "mbpp": "mbpp-plus"}
_FAILED = re.compile(r"(base|plus) test (\d+): ")


def suite_of(task: str) -> str:
    """Returns the name of the stronger suite of a task; empty if none is known."""
    return next((suite for name, suite in SUITES.items() if task.startswith(name)), "")


@dataclass(frozen=True, slots=True)
class StrongerSuite:
    """A task whose tests are believed where they reject a mutant.

    Attributes:
        problems: by the number in their ids.
    """

    task: Task[Any]
    problems: dict[str, Problem]

    @classmethod
    def prepare(
        cls, task: Task[Any], problems: Sequence[Problem], sandbox: SandboxProtocol
    ) -> StrongerSuite:
        """Prepares the problems that a suite shares with ``problems``."""
        known = {_key(problem): problem for problem in task.problems()}
        shared = {key: known[key] for key in map(_key, problems) if key in known}
        if task.needs_preparation:
            task.prepare(list(shared.values()), sandbox)
        return cls(task, shared)

    def find(self, problem: Problem) -> Problem | None:
        """Returns the suite's version of a problem; None if absent."""
        return self.problems.get(_key(problem))

    def job(self, problem: Problem, program: str) -> Job:
        """Returns the job that runs the suite on a program.

        Raises:
            CodegenError: if the suite needs no job for it.
        """
        made = self.task.job(problem, program)
        if not isinstance(made, Job):
            raise CodegenError(f"The suite {self.task.name} does not run tests.")
        return made

    def proved(self, problem: Problem, survivor: Survivor, outcome: Outcome) -> Survivor:
        """Adds a verdict of the suite to a survivor, and its input unless one was generated."""
        if outcome.passed or outcome.status in UNJUDGED:
            return survivor
        proved = replace(survivor, proved_by=(*survivor.proved_by, "suite"))
        if survivor.input:
            return proved
        shown = {
            "input": f"an input of {self.task.name}",
            "got": f"{outcome.status}: {outcome.message}",
        }
        if isinstance(self.task, PlusTask) and (found := _FAILED.search(outcome.message)):
            offset = 0 if found[1] == "base" else problem.base  # type: ignore[attr-defined]
            at = offset + int(found[2]) - 1
            called = ", ".join(map(repr, problem.inputs[at]))  # type: ignore[attr-defined]
            shown["input"] = f"{problem.entry_point}({called})"[:2000]  # type: ignore[attr-defined]
            shown["expected"] = repr(self.task.expected(problem).results[at])[:2000]  # type: ignore[arg-type]
            text = outcome.message[found.end() :].rpartition(", expected ")[0]
            shown["got"] = text.rpartition(") is ")[2]
        return replace(proved, **shown)


def _key(problem: Problem) -> str:
    return problem.id.rpartition("/")[2].lower()
