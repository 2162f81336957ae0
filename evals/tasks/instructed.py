"""Instructed edits: EditEval and CanItEdit, with tests outside the program's process.

``editeval`` (Li et al. 2024, CodeInstruct, arXiv 2310.20329) has 194 edits, ``canitedit`` (Cassano
et al. 2024, arXiv 2312.12450) 105 with descriptive instructions, ``canitedit-lazy`` the same with
short ones. The answer is the whole program; with the suffix ``-diff`` it is search-and-replace
blocks, which must match (:mod:`.extraction`). The data are the authors' files; CanItEdit is also
``hub:nuprl/CanItEdit``.

Some EditEval programs are snippets that are inserted into a context. Some EditEval tests read the
answer's text, ``edited_code``; these run in the program's process.

Measures: ``unchanged`` (the answer is the original program), ``changed_lines`` (number of non-blank
lines removed and added), ``excess_lines`` (original lines that the answer removes or changes and
the reference keeps) and, with ``-diff``, ``well_formed``. The ExcessCode of CanItEdit's paper is
different: it counts changed lines that the tests do not reach.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codegen.core.errors import InputError
from codegen.core.generation import Request
from codegen.core.records import Sample, Verdict
from codegen.evals.tasks.base import CodeTask, modules_of
from codegen.evals.tasks.dataset_rows import DataLocation, Problem, optional_text, text_fields
from codegen.evals.tasks.extraction import BLOCKS, Extraction, apply_blocks
from codegen.evals.tasks.styles import PromptStyle, style_of
from codegen.sandbox import Job, Limits, SandboxProtocol

_WHOLE = "Answer with the whole program after the edit, in one code block."
# These tests inspect classes, generators and modules themselves, or measure time.
_BESIDE = frozenset(f"EditEval/{number}" for number in (58, 159, 161, 186))
_BROKEN = {
    **dict.fromkeys(
        ("EditEval/141", "EditEval/156", "EditEval/159", "EditEval/161"),
        "its test compares wall-clock times, which other processes change",
    ),
    "EditEval/188": "its solution calls urllib.parse without importing it",
}
_SLOT = "{{Code}}"
_TEXT = "edited_code"
_QUOTED = re.compile(r"^edited_code = r?(\"\"\"|''')\s*\{\{Code\}\}\s*\1[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EditProblem(Problem):
    """One row; ``prompt`` is the program to edit.

    Attributes:
        instruction: the edit in words.
        context: program with ``{{Code}}`` where the answer goes; empty for whole programs.
    """

    instruction: str
    after: str
    test: str
    context: str = ""


class InstructedEdits(CodeTask[EditProblem]):
    """An instructed-edit task."""

    whole_programs = True
    needs_preparation = True

    def prepare(self, problems: Sequence[EditProblem], sandbox: SandboxProtocol) -> None:
        """Determines which problems need a package that the sandbox lacks."""
        self.reference_exceptions = self.lacking(sandbox, _BROKEN)

    def modules(self, problem: EditProblem) -> frozenset[str]:
        """Returns the modules that the reference and its tests import."""
        return modules_of(self._whole(problem, problem.after), problem.test)

    def request(self, problem: EditProblem, style: PromptStyle, index: int) -> Request:
        """Returns the ``index``-th request; decoders may draft from the original program."""
        return replace(super().request(problem, style, index), original=problem.prompt)

    def instruction(self, problem: EditProblem) -> str:
        """Returns the program, the edit, and the answer format."""
        form = BLOCKS if self.by_blocks else _WHOLE
        code = problem.prompt.strip("\n")
        return f"Edit this program.\n\n```python\n{code}\n```\n\n{problem.instruction}\n\n{form}"

    def code(self, problem: EditProblem) -> str:
        """Returns CanItEdit's prompt for models that continue text."""
        return (
            f"## Code Before:\n{problem.prompt.strip(chr(10))}\n## Instruction:\n"
            f"{problem.instruction}\n## Code After:\n"
        )

    def joined(self, problem: EditProblem, completion: str) -> str:
        """Returns the completion alone."""
        return completion

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return ("## Code Before:", "## Instruction:") if style.ask == "code" else ()

    def extract(self, problem: EditProblem, sample: Sample) -> Extraction:
        """Extracts the code after the edit, without its context."""
        if not self.by_blocks or style_of(sample).read == "whole":
            return super().extract(problem, sample)
        return apply_blocks(problem.prompt, sample.completion)

    def job(self, problem: EditProblem, program: str) -> Job | Verdict:
        """Returns a job with the row's tests, in the program's process if they need its classes."""
        if (reason := self.reference_exceptions.get(problem.id, "")).startswith("needs "):
            return Verdict(problem.id, 0, "infra_error", message=reason)
        is_beside = problem.id in _BESIDE or _TEXT in problem.test
        return Job(
            self._whole(problem, program),
            test=problem.test,
            mode="in_sandbox" if is_beside else "isolated",
            limits=Limits(cpu_s=20.0),
        )

    def _whole(self, problem: EditProblem, code: str) -> str:
        whole = _QUOTED.sub("", problem.context).replace(_SLOT, code) if problem.context else code
        return f"{whole}\n\n{_TEXT} = {code!r}\n" if _TEXT in problem.test else whole

    def reference(self, problem: EditProblem) -> str:
        """Returns the code after the row's edit."""
        return problem.after

    def buggy(self, problem: EditProblem) -> Sequence[str]:
        """Returns the code before the edit."""
        return () if problem.id in self.reference_exceptions else (problem.prompt,)

    def measure(self, problem: EditProblem, sample: Sample) -> Mapping[str, float]:
        """Returns the measures that the module docstring lists."""
        program = self.extract(problem, sample).program
        measures = {"well_formed": float(bool(program))} if self.by_blocks else {}
        return measures | (edit_sizes(problem.prompt, program, problem.after) if program else {})


def edit_sizes(before: str, after: str, reference: str) -> dict[str, float]:
    """Returns ``unchanged``, ``changed_lines`` and ``excess_lines`` of an edit.

    Lines are compared without whitespace at their ends, and blank lines are not counted.
    """
    old, new, right = (
        [line.rstrip() for line in text.splitlines() if line.strip()]
        for text in (before, after, reference)
    )
    removed, added = _changes(old, new)
    due, _ = _changes(old, right)
    return {
        "unchanged": float(old == new),
        "changed_lines": float(len(removed) + added),
        "excess_lines": float(len(removed - due)),
    }


def _changes(old: Sequence[str], new: Sequence[str]) -> tuple[set[int], int]:
    """Returns the indices of the removed old lines, and the number of new lines."""
    gone: set[int] = set()
    added = 0
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            gone.update(range(a, b))
            added += d - c
    return gone, added


class EditEval(InstructedEdits):
    """The EditEval benchmark."""

    home = DataLocation("languages/editeval/edit_eval.jsonl.gz")

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> EditProblem:
        """Parses a row into a problem."""
        names = ("task_id", "instruction", "input", "output", "test")
        id_, instruction, before, after, test = text_fields(place, row, names)
        context = optional_text(place, row, "context")
        if context and _SLOT not in context:
            raise InputError(f"{place}: the context has no {_SLOT}.")
        test = test.replace("def check():", "def test_check():")  # the runner calls test_*
        return EditProblem(id_, before, instruction.strip(), after, test, context)


class CanItEdit(InstructedEdits):
    """The CanItEdit benchmark; ``kind`` is the instruction kind."""

    home = DataLocation("next_edit/can_it_edit.jsonl.gz", "nuprl/CanItEdit")
    kind = "descriptive"

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> EditProblem:
        """Parses a row into a problem."""
        names = ("before", f"instruction_{cls.kind}", "after", "tests")
        id_ = row.get("id")
        if not isinstance(id_, (int, str)):
            raise InputError(f"{place}: the field 'id' must be a number or a string.")
        return EditProblem(f"CanItEdit/{id_}", *text_fields(place, row, names))


class CanItEditLazy(CanItEdit):
    """CanItEdit with short instructions."""

    kind = "lazy"
