"""CodeRepetEval (Dong et al. 2025, the RPG paper): prompts that make models repeat themselves.

The prompts end in the middle of repetitive code; no continuation is correct. A sample passes if the
model ended it itself, so pass@1 is the paper's EGP ("end of generation percentage"). Measures per
sample, by ``codegen.evals.metrics``: ``tr_n`` and ``tr_s`` (repeated token 4-grams and statements,
lower is better), ``ccp`` (compiles together with its prompt) and ``looping`` (ends in three or more
equal copies of a snippet).

The data is a file with the authors' rows (``prompt``; optionally ``samples`` with a repetitive
continuation). It has no license and no known hub dataset, so it is not shipped: pass it with
``--source``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.core.records import Sample, Verdict
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.dataset_rows import DataLocation, Problem, text_field
from codegen.evals.tasks.extraction import EMPTY, Extraction
from codegen.evals.tasks.styles import PromptStyle

_CUT = "the answer did not end before its limit"


@dataclass(frozen=True, slots=True)
class RepetitionProblem(Problem):
    """One row; ``repetitive`` is a continuation that repeats itself, or empty."""

    repetitive: str


class CodeRepetEval(CodeTask[RepetitionProblem]):
    """The CodeRepetEval benchmark."""

    home = DataLocation("coderepeteval/ArtificialSynthesis.jsonl.gz")
    asks = ("code",)
    passing = "the model ended its answer itself, regardless of its content (EGP)"

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, object]) -> RepetitionProblem:
        """Parses a row into a problem, numbered by its line."""
        samples = row.get("samples")
        first: Sequence[Any] = samples if isinstance(samples, list) else ()
        repetitive = first[0] if first and isinstance(first[0], str) else ""
        number = place.rpartition(":")[2]
        prompt = text_field(place, row, "prompt")
        return RepetitionProblem(f"CodeRepetEval/{number}", prompt, repetitive)

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return ()  # stop strings would hide whether the model ends its answer

    def extract(self, problem: RepetitionProblem, sample: Sample) -> Extraction:
        """Returns the continuation, if the model ended it."""
        if sample.finish_reason == "length":
            return Extraction("", _CUT, "wrong")
        if not sample.completion.strip():
            return EMPTY
        return Extraction(sample.completion)

    def job(self, problem: RepetitionProblem, program: str) -> Verdict:
        """Returns a passed verdict, since the answer ended. Runs nothing."""
        return Verdict(problem.id, 0, "passed")

    def measure(self, problem: RepetitionProblem, sample: Sample) -> Mapping[str, float]:
        """Returns the measures that the module docstring lists."""
        return repetition(problem.prompt, sample.completion)


def repetition(prompt: str, text: str) -> Mapping[str, float]:
    """Returns the repetition measures of one output."""
    from codegen.evals.metrics import Generation, compiles, paper_repetition

    repetition = paper_repetition([Generation(prompt, text, finished=True)])
    return {
        "tr_n": repetition.tr_n,
        "tr_s": repetition.tr_s,
        "ccp": float(compiles(prompt + text)),
        "looping": repetition.looping,
    }
