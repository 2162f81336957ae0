"""What a report is made of: scored runs, and what a caller may add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codegen.evals.scoring import Score
from codegen.records import Status


@dataclass(frozen=True, slots=True)
class SampleView:
    """One sample as a reader sees it.

    Attributes:
        index: its number among the problem's samples.
        status, message: how it was judged, and why it did not pass.
        program: what was run; empty if none was found in the answer.
        answer: what the model wrote.
        actions: the actions it wrote, if its tokens stand for actions.
        finish_reason: ``eos``, ``stop`` or ``length``.
        tokens: how many it wrote.
        cpu_s, memory_mib: what the program used.
        trust: how far the verdict can be believed.
        output: the beginning of what the program printed.
    """

    index: int
    status: Status
    message: str
    program: str
    answer: str
    actions: str = ""
    finish_reason: str = ""
    tokens: int = 0
    cpu_s: float = 0.0
    memory_mib: float = 0.0
    trust: str = ""
    output: str = ""


@dataclass(frozen=True, slots=True)
class ProblemSamples:
    """The samples of one problem, and the prompt they answer."""

    prompt: str
    samples: Sequence[SampleView]


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A score under the name it has in the report; problem id -> its samples, where known."""

    name: str
    score: Score
    samples: Mapping[str, ProblemSamples] = field(default_factory=dict)


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
