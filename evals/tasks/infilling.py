"""HumanEval-Infilling (Bavarian et al. 2022, arXiv 2207.14255): the missing part of a function.

One line (``humaneval-single-line``), several lines (``-multi-line``) or a span of characters
(``-random-span``, and ``-random-span-light`` with one a function) is cut out of a reference
solution of HumanEval; the tests are HumanEval's. The data is the authors' files, or rows of their
columns.

Use the style ``fim-...`` of the model's family; ``continue`` shows only the text before the gap. A
model must end its answer itself; answers are not cut to the known length of the gap. Further
measures show whether that was the problem: ``exact_match`` (the missing text, apart from white
space at its ends), ``exact_match_trimmed`` (the same after cutting the answer to as many lines as
are missing) and ``valid_syntax``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from codegen.evals.sandbox import Job
from codegen.generation.protocol import cut_at_stop
from codegen.records import Sample

from .base import CodeTask
from .extraction import Extraction, imports_at_top, parses
from .rows import Home, Problem, make_problems, read_rows_of
from .styles import style_of


@dataclass(frozen=True, slots=True)
class InfillingProblem(Problem):
    """One row of the data; ``prompt`` is the text before the gap."""

    suffix: str
    entry_point: str
    canonical_solution: str
    test: str


# The name of a task -> its file.
_FILES = {
    "humaneval-single-line": "SingleLineInfilling",
    "humaneval-multi-line": "MultiLineInfilling",
    "humaneval-random-span": "RandomSpanInfilling",
    "humaneval-random-span-light": "RandomSpanInfillingLight",
}


class Infilling(CodeTask[InfillingProblem]):
    """The task over given problems."""

    problem_type = InfillingProblem
    asks = ("infill", "code", "instruction")
    blank_is_code = True  # some gaps are white space, or nothing

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """One of the four sets, by its name."""
        home = Home(f"humaneval_infilling/HumanEval-{_FILES[name]}.jsonl.gz")
        rows = read_rows_of(source, home)
        return cls(name, description, make_problems(rows, cls.problem_of), rows.source)

    def hole(self, problem: InfillingProblem) -> tuple[str, str]:
        """The text before and after the gap."""
        return problem.prompt, problem.suffix

    def instruction(self, problem: InfillingProblem) -> str:
        """Requests the whole function, since chat models rarely return only the missing part."""
        return (
            "Complete the Python code below: write what is missing at <MISSING>. Answer with the "
            f"whole function `{problem.entry_point}` in one code block.\n"
            f"```python\n{problem.prompt}<MISSING>{problem.suffix}\n```"
        )

    def preamble(self, problem: InfillingProblem) -> str:
        """The imports at the prompt's top."""
        return imports_at_top(problem.prompt)

    def joined(self, problem: InfillingProblem, completion: str) -> str:
        """Before, middle and behind."""
        return problem.prompt + completion + problem.suffix

    def placed(self, problem: InfillingProblem, found: Extraction) -> Extraction:
        """A block that does not define the function is the middle."""
        if f"def {problem.entry_point}" in found.program:
            return super().placed(problem, found)
        # The fence's last line end may or may not belong to the middle.
        whole, bare = (
            self.joined(problem, middle)
            for middle in (found.program, found.program.removesuffix("\n"))
        )
        return Extraction(whole if parses(whole) and not parses(bare) else bare)

    def job(self, problem: InfillingProblem, program: str) -> Job:
        """HumanEval's tests."""
        return Job(
            program,
            test=problem.test,
            entry_point=problem.entry_point,
            setup=self.reference(problem),
        )

    def reference(self, problem: InfillingProblem) -> str:
        """The function that was cut."""
        return self.joined(problem, problem.canonical_solution)

    def measure(self, problem: InfillingProblem, sample: Sample) -> Mapping[str, float]:
        """See the module's docstring; ``edit_similarity`` is difflib's ratio to the gold text."""
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
