"""What a report is made of: scored runs, and what a caller may add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codegen.evals.scoring import Score
from codegen.records import Status


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A score under the name it has in the report."""

    name: str
    score: Score


@dataclass(frozen=True, slots=True)
class EditSteps:
    """One sample, action by action.

    Attributes:
        title: what to call it.
        prompt: what the model was given.
        states: the program after each action.
        verdict: how the last one was judged.
    """

    title: str
    prompt: str
    states: Sequence[str]
    verdict: Status


@dataclass(frozen=True, slots=True)
class LossCurve:
    """The loss of one fine-tuning run: (step, loss) by rising step."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class DataCounts:
    """What became of the inputs of one data set."""

    name: str
    kept: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
