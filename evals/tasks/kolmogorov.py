"""The KoLMogorov test (Yoran et al., ICLR 2025, arXiv 2503.13992): programs that make a sequence.

Without a source the sequences are drawn from the test's own language
(``codegen.evals.kolmogorov``): no data is needed, and no model has seen them. With one, they are
pieces of 128 bytes of that file, spread evenly over it.

A sample passes if the variable ``output`` of its program is exactly the sequence, a list of exact
integers. ``codegen eval kolmogorov score`` computes from the samples how well the programs
compress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from codegen.evals import kolmogorov as kt
from codegen.evals.sandbox import Job, Limits
from codegen.generation.protocol import cut_at_stop
from codegen.paths import read_packed

from .base import CodeTask
from .extraction import Extraction
from .rows import Problem
from .styles import PromptStyle

_PROBLEMS = 500
_LONGEST = 256  # items of a drawn sequence
_SEED = 0
_CPU_S = 2.0


@dataclass(frozen=True, slots=True)
class SequenceProblem(Problem):
    """A sequence; ``program`` is one that is known to make it."""

    sequence: tuple[int, ...]
    program: str


class Kolmogorov(CodeTask[SequenceProblem]):
    """The task over given sequences."""

    whole_programs = True
    passing = "its program makes exactly the sequence, however long the program is"

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Sequences drawn from the language, or pieces of a file."""
        if source is None:
            return cls(name, description, _drawn(), "drawn from the language")
        found = kt.pieces(read_packed(Path(source)), _PROBLEMS)
        stem = Path(source).name.split(".")[0]
        problems = [
            SequenceProblem(
                f"{stem}/{offset}", kt.as_comment(piece), tuple(piece), f"output = {list(piece)}\n"
            )
            for offset, piece in found
        ]
        return cls(name, description, problems, source)

    def instruction(self, problem: SequenceProblem) -> str:
        """The question in words."""
        return kt.instruction(problem.sequence)

    def code(self, problem: SequenceProblem) -> str:
        """The question as a comment at the head of a program."""
        return kt.as_comment(problem.sequence)

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return ("###", "\n# ")

    def read(self, problem: SequenceProblem, style: PromptStyle, answer: str) -> Extraction:
        """The program in the answer."""
        if style.read == "append":
            answer = cut_at_stop(answer, self._stops(style))
        program = kt.find_program(answer)
        if not program:
            return Extraction("", "no program in the answer, or one that opens a file")
        return Extraction(program)

    def job(self, problem: SequenceProblem, program: str) -> Job:
        """Reads the variable ``output`` and compares it outside the program's reach."""
        test = (
            f"expected = {list(problem.sequence)}\n"
            "assert type(output) is list, 'output is not a list'\n"
            "assert all(type(item) is int for item in output), 'output holds more than integers'\n"
            "assert output == expected, 'output is another sequence'\n"
        )
        return Job(program, test=test, limits=Limits(cpu_s=_CPU_S))

    def reference(self, problem: SequenceProblem) -> str:
        """The sequence as a list, or the program that it was drawn from."""
        return problem.program

    def buggy(self, problem: SequenceProblem) -> Sequence[str]:
        """A sequence that is one item too long, one that is a tuple, one of strings."""
        items = list(problem.sequence)
        return (
            f"output = {[*items, 0]}",
            f"output = tuple({items})",
            f"output = {list(map(str, items))}",
        )


def _drawn() -> list[SequenceProblem]:
    problems: list[SequenceProblem] = []
    for number, program in enumerate(kt.sample_programs(2 * _PROBLEMS, _SEED)):
        sequence = tuple(program.run())
        if len(sequence) > _LONGEST or len(problems) == _PROBLEMS:
            continue
        text = f"{kt.prelude()}\n{program.to_text()}"
        problems.append(SequenceProblem(f"drawn/{number}", kt.as_comment(sequence), sequence, text))
    return problems
