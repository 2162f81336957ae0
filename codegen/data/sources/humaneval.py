"""HumanEval (Chen et al. 2021, arXiv 2107.03374) as a source of 164 examples.

The problems and their wording are those of :mod:`codegen.evals.tasks.humaneval`. It is for looking
at what a generator does on well-known programs: a model trained on this source has seen the test.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codegen.data.sources.base import Item, Rejected
from codegen.data.sources.functions import without_docstring
from codegen.evals.tasks.humaneval import HumanEval, HumanEvalProblem
from codegen.records import Example


@dataclass(slots=True)
class HumanEvalSource:
    """Its problems with their canonical solutions, whole: with imports and helper functions."""

    keep_docstring: bool = False
    _fraction: float | None = None
    _read: tuple[HumanEval, list[HumanEvalProblem]] | None = None

    def describe(self) -> Mapping[str, Any]:
        """The option and the digest of the problems."""
        _, problems = self._problems()
        digest = hashlib.sha256(json.dumps([asdict(problem) for problem in problems]).encode())
        return {
            "kind": "humaneval",
            "keep_docstring": self.keep_docstring,
            "sha256": digest.hexdigest(),
        }

    def fraction(self) -> float | None:
        """The share of the problems that has been read."""
        return self._fraction

    def __iter__(self) -> Iterator[Item]:
        """Yields the problems in their order."""
        task, problems = self._problems()
        for number, problem in enumerate(problems, 1):
            self._fraction = number / len(problems)
            yield _example(task, problem, self.keep_docstring)

    def _problems(self) -> tuple[HumanEval, list[HumanEvalProblem]]:
        if self._read is None:
            task = HumanEval.load("humaneval", "")
            self._read = task, list(task.problems())
        return self._read


def _example(task: HumanEval, problem: HumanEvalProblem, keep_docstring: bool) -> Item:
    program = task.reference(problem)
    if not keep_docstring:
        lines = program.splitlines(keepends=True)
        node = _entry_point(program, problem.entry_point)
        # HumanEval/115 has an import before its docstring, which is a plain string to Python.
        index = next((i for i, s in enumerate(node.body) if _is_string(s)), None) if node else None
        if node is None or index is None:
            return Rejected(problem.id, "no_docstring", problem.entry_point, "skipped")
        before, after = lines[: node.lineno - 1], lines[node.end_lineno :]
        program = "".join([*before, without_docstring(node, lines, index), *after])
    return Example(
        problem.id,
        task.instruction(problem),
        program.strip("\n") + "\n",
        source="humaneval",
        licence="MIT",
        meta={"function": problem.entry_point},
    )


def _entry_point(program: str, name: str) -> ast.FunctionDef | None:
    functions = [node for node in ast.parse(program).body if isinstance(node, ast.FunctionDef)]
    return next((node for node in reversed(functions) if node.name == name), None)


def _is_string(statement: ast.stmt) -> bool:
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
        return False
    return isinstance(statement.value.value, str)
