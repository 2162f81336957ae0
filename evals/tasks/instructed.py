"""Instructed edits: EditEval and CanItEdit. The tests are out of the program's reach.

``editeval`` (Li et al. 2024, CodeInstruct, arXiv 2310.20329) has 194 edits, ``canitedit`` (Cassano
et al. 2024, arXiv 2312.12450) 105 with a descriptive instruction each, ``canitedit-lazy`` the same
with a short one. The answer is the whole program; with the suffix ``-diff`` it is blocks of search
and replace, which must fit (:mod:`.extraction`). The data are the authors' files, for CanItEdit
also ``hub:nuprl/CanItEdit``.

Some programs of EditEval are parts that are inserted into a context. Some of its tests read the
answer's text, ``edited_code``; these run beside the program.

Further measures: ``unchanged`` (the answer is the original program), ``changed_lines`` (lines
removed and added, without blank ones), ``excess_lines`` (original lines that the answer removes or
changes and the reference keeps) and, with ``-diff``, ``well_formed``. ExcessCode of CanItEdit's
paper is different: it counts changed lines that the tests don't reach.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codegen.errors import InputError
from codegen.evals.sandbox import Job, Limits, SandboxProtocol
from codegen.generation.protocol import Request
from codegen.records import Sample, Verdict

from .base import CodeTask, modules_of
from .extraction import BLOCKS, Extraction, apply_blocks
from .rows import Home, Problem, optional_text, text_fields
from .styles import PromptStyle, style_of

_WHOLE = "Answer with the whole program after the edit, in one code block."
# These tests ask about classes, generators and modules themselves, or measure time.
_BESIDE = frozenset(f"EditEval/{number}" for number in (58, 159, 161, 186))
_BROKEN = {
    "EditEval/56": "its test passes for anything that is not callable",
    "EditEval/37": "its test passes whatever the program does",
    "EditEval/63": "its test reads __version__, and tests here see no such names",
    **dict.fromkeys(
        ("EditEval/141", "EditEval/156", "EditEval/159", "EditEval/161"),
        "its test compares times on the clock, which other processes change",
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
        context: the program with ``{{Code}}`` where the answer goes; empty if the answer is all.
    """

    instruction: str
    after: str
    test: str
    context: str = ""


class InstructedEdits(CodeTask[EditProblem]):
    """The task over given problems."""

    whole_programs = True
    needs_preparation = True

    def prepare(self, problems: Sequence[EditProblem], sandbox: SandboxProtocol) -> None:
        """Determines which problems need a package that the sandbox lacks."""
        self.reference_exceptions = self.lacking(sandbox, _BROKEN)

    def modules(self, problem: EditProblem) -> frozenset[str]:
        """What the reference and its tests import."""
        return modules_of(self._whole(problem, problem.after), problem.test)

    def request(self, problem: EditProblem, style: PromptStyle, index: int) -> Request:
        """The ``index``-th request; decoders may draft from the program before."""
        return replace(super().request(problem, style, index), original=problem.prompt)

    def instruction(self, problem: EditProblem) -> str:
        """The program, the edit, and how to answer."""
        how = BLOCKS if self.by_blocks else _WHOLE
        code = problem.prompt.strip("\n")
        return f"Edit this program.\n\n```python\n{code}\n```\n\n{problem.instruction}\n\n{how}"

    def code(self, problem: EditProblem) -> str:
        """The form of CanItEdit's authors for models that continue text."""
        return (
            f"## Code Before:\n{problem.prompt.strip(chr(10))}\n## Instruction:\n"
            f"{problem.instruction}\n## Code After:\n"
        )

    def joined(self, problem: EditProblem, completion: str) -> str:
        """The completion alone."""
        return completion

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return ("## Code Before:", "## Instruction:") if style.ask == "code" else ()

    def extract(self, problem: EditProblem, sample: Sample) -> Extraction:
        """The code after the edit, without its context."""
        if not self.by_blocks or style_of(sample).read == "whole":
            return super().extract(problem, sample)
        return apply_blocks(problem.prompt, sample.completion)

    def job(self, problem: EditProblem, program: str) -> Job | Verdict:
        """The row's tests; beside the program if they need its classes."""
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
        """The code after the row's own edit."""
        return problem.after

    def buggy(self, problem: EditProblem) -> Sequence[str]:
        """The code before it."""
        return () if problem.id in self.reference_exceptions else (problem.prompt,)

    def measure(self, problem: EditProblem, sample: Sample) -> Mapping[str, float]:
        """See the module's docstring."""
        program = self.extract(problem, sample).program
        found = {"well_formed": float(bool(program))} if self.by_blocks else {}
        return found | (edit_sizes(problem.prompt, program, problem.after) if program else {})


def edit_sizes(before: str, after: str, reference: str) -> dict[str, float]:
    """``unchanged``, ``changed_lines`` and ``excess_lines`` of an edit; see the module's docstring.

    Lines are compared without white space at their ends, and blank ones are not counted.
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
    """The places of the old lines that are gone, and how many lines are new."""
    gone: set[int] = set()
    added = 0
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            gone.update(range(a, b))
            added += d - c
    return gone, added


class EditEval(InstructedEdits):
    """EditEval's rows."""

    home = Home("languages/editeval/edit_eval.jsonl.gz")

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> EditProblem:
        """The problem of a row."""
        names = ("task_id", "instruction", "input", "output", "test")
        id_, instruction, before, after, test = text_fields(place, row, names)
        context = optional_text(place, row, "context")
        if context and _SLOT not in context:
            raise InputError(f"{place}: the context has no {_SLOT}.")
        test += "\n\n\ncheck()\n"
        return EditProblem(id_, before, instruction.strip(), after, test, context)


class CanItEdit(InstructedEdits):
    """CanItEdit's rows; ``kind`` is that of the instruction."""

    home = Home("next_edit/can_it_edit.jsonl.gz", "nuprl/CanItEdit")
    kind = "descriptive"

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> EditProblem:
        """The problem of a row."""
        names = ("before", f"instruction_{cls.kind}", "after", "tests")
        id_ = row.get("id")
        if not isinstance(id_, (int, str)):
            raise InputError(f"{place}: the field 'id' must be a number or a text.")
        return EditProblem(f"CanItEdit/{id_}", *text_fields(place, row, names))


class CanItEditLazy(CanItEdit):
    """The same with the short instruction."""

    kind = "lazy"
