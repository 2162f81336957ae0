"""HumanEvalFix, Python (Muennighoff et al. 2023, arXiv 2308.07124): a function with a bug, to fix.

``humanevalfix`` shows the buggy function and the tests it fails; ``humanevalfix-docs`` shows the
docstring in place of the tests. The data is the Python part of HumanEvalPack, or
``hub:bigcode/humanevalpack:python``.

Beside the verdict: ``unchanged`` (the answer is the buggy program, but for white space at its ends)
and ``changed_lines`` (lines removed and added, as difflib counts them).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegen.evals.sandbox import Job
from codegen.records import Sample

from .base import CodeTask
from .rows import Home, Problem

_FIX = "Fix bugs in {name}."


@dataclass(frozen=True, slots=True)
class FixProblem(Problem):
    """One row of the data; ``prompt`` is imports, header and docstring."""

    declaration: str
    entry_point: str
    canonical_solution: str
    buggy_solution: str
    test: str


class HumanEvalFix(CodeTask[FixProblem]):
    """The task over given problems; ``docs`` says whether docstrings are shown, not tests."""

    home = Home("humanevalpack/humanevalpack-python.jsonl.gz", "bigcode/humanevalpack:python:test")
    problem_type = FixProblem
    docs = False

    def code(self, problem: FixProblem) -> str:
        """The task as text, then the function's head for the model to continue from."""
        return f"{self._shown(problem)}\n\n{self._head(problem)}"

    def instruction(self, problem: FixProblem) -> str:
        """The buggy function, what it fails, and the order to repair it."""
        return self._shown(problem)

    def _shown(self, problem: FixProblem) -> str:
        parts = [f"{self._head(problem)}{problem.buggy_solution}".strip("\n")]
        if not self.docs:
            parts.append(problem.test.strip("\n"))
        return "\n\n".join([*parts, _FIX.format(name=problem.entry_point)])

    def _head(self, problem: FixProblem) -> str:
        return problem.prompt if self.docs else problem.declaration

    def joined(self, problem: FixProblem, completion: str) -> str:
        """The head with the completion."""
        return self._head(problem) + completion

    def preamble(self, problem: FixProblem) -> str:
        """The text before the function: imports and helpers."""
        return problem.declaration[: problem.declaration.rfind(f"def {problem.entry_point}")]

    def job(self, problem: FixProblem, program: str) -> Job:
        """The row's tests, which end with a call of ``check``."""
        # The tests of 32, 38 and 50 call helper functions of the prompt.
        return Job(program, test=problem.test, setup=self.preamble(problem))

    def buggy(self, problem: FixProblem) -> Sequence[str]:
        """The head with the bug."""
        return (problem.prompt + problem.buggy_solution,)

    def measure(self, problem: FixProblem, sample: Sample) -> Mapping[str, float]:
        """See the module's docstring."""
        program = self.extract(problem, sample).program
        if not program:
            return {}
        before = (self._head(problem) + problem.buggy_solution).strip().splitlines()
        after = program.strip().splitlines()
        changed = sum(
            line[:2] in ("+ ", "- ") for line in difflib.ndiff(before, after) if line[2:].strip()
        )
        return {"unchanged": float(before == after), "changed_lines": float(changed)}


class HumanEvalFixDocs(HumanEvalFix):
    """The same, shown with docstrings."""

    docs = True
