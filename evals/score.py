"""The result of scoring one set of samples, and its file ``score.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from codegen.core.errors import InputError
from codegen.core.records import Status, conform, read_json
from codegen.evals.statistics import Count, Estimate
from codegen.evals.tasks.validate import ReferenceGate

SCORE = "score.json"
STATUSES: Sequence[Status] = get_args(Status)
_MOST_BYTES = 256 * 2**20  # largest score file that is read
_MOST_SAMPLES = 10_000_000
_MOST_COUNTED = 10**15


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """A problem's result: ``n`` samples scored, ``c`` of them passed."""

    problem_id: str
    n: int
    c: int


@dataclass(frozen=True, slots=True)
class Measure:
    """The mean of an extra number that the task computes for each sample.

    Attributes:
        mean: mean over problems of the mean over a problem's samples.
        stderr: standard error for other problems like these; None with fewer than two.
        samples: number of samples that have the number.
    """

    mean: float
    stderr: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a sample, for plots of score against computation.

    Attributes:
        prompt_tokens, completion_tokens: means over problems of their samples' mean.
        parameters: the model's parameter count, if known.
    """

    prompt_tokens: float
    completion_tokens: float
    parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The result of scoring one set of samples.

    Attributes:
        source: the data's source.
        complete: whether every sample was scored by a usable test, and the reference gate holds.
            An incomplete score must not be published.
        estimates: k -> pass@k, for every k that all problems have samples for.
        statuses: status -> number of samples, over all samples.
        problems: results per problem, in task order; samples with an infra_error are skipped.
        problems_in_task: number of the task's problems; fewer may have samples.
        programs: number of distinct programs that were run.
        settings: the settings that all samples share: model, decoder, sampling parameters, style;
            and, if the run recorded them, the model's origin and how it ran.
        cost: the samples' cost; None if they have no token counts.
        groups: pass@1 of groups of problems, by label (difficulty), if the task has any.
    """

    task: str
    source: str
    complete: bool
    estimates: Mapping[int, Estimate]
    statuses: Mapping[Status, int]
    problems: tuple[ProblemScore, ...]
    problems_in_task: int
    samples: int
    programs: int
    settings: Mapping[str, Any]
    sandbox: Mapping[str, Any]
    versions: Mapping[str, str]
    reference: ReferenceGate
    notes: tuple[str, ...] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)
    cost: Cost | None = None
    groups: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Count]:
        """The counts per problem, for the statistics."""
        return {p.problem_id: Count(p.n, p.c) for p in self.problems if p.n}

    def to_json(self) -> str:
        """Returns the content of ``score.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_score(path: str | Path) -> Score:
    """Reads the ``score.json`` of a directory, or the file itself.

    Raises:
        InputError: if it is missing or malformed.
    """
    path = Path(path)
    file = path / SCORE if path.is_dir() else path
    try:
        row = read_json(file, _MOST_BYTES)
    except OSError as error:
        raise InputError(
            f"Cannot read {file}: {error.strerror}.", "Make it with: codegen eval score"
        ) from None
    except ValueError as error:
        raise InputError(
            f"{file} is not valid JSON ({error}).", "Score the samples again."
        ) from None
    try:
        found = conform(Score, row)
        _check(found)
    except ValueError as error:
        raise InputError(f"{file} is not a score: {error}.", "Score the samples again.") from None
    return found


def _check(score: Score) -> None:
    """Rejects impossible numbers.

    Raises:
        ValueError: naming the field.
    """
    judged = sum(problem.n for problem in score.problems)
    estimates = [*score.estimates.items(), *((1, found) for found in score.groups.values())]
    gate, cost = score.reference, score.cost or Cost(0, 0)
    counts = [score.programs, score.problems_in_task, gate.passed, gate.total - gate.passed,
              *score.statuses.values(), *(m.samples for m in score.measures.values()),
              *(m.stderr or 0 for m in score.measures.values()), cost.prompt_tokens,
              cost.completion_tokens, cost.parameters or 0]  # fmt: skip
    is_sound = {
        "problems": all(0 <= p.c <= p.n <= _MOST_SAMPLES for p in score.problems)
        and len({p.problem_id for p in score.problems}) == len(score.problems),
        "samples": judged <= score.samples <= _MOST_SAMPLES,
        "estimates": all(_is_sound(k, estimate) for k, estimate in estimates),
        "counts": all(0 <= count <= _MOST_COUNTED for count in counts),
    }
    if wrong := [name for name, sound in is_sound.items() if not sound]:
        raise ValueError(f"its {wrong[0]} are out of range or contradict each other")


def _is_sound(k: int, found: Estimate) -> bool:
    ends = (found.tasks_low, found.tasks_high), (found.samples_low, found.samples_high)
    shares = [found.value, *(end for both in ends for end in both if end is not None)]
    return (
        all(0 <= share <= 1 for share in shares)
        and all((low is None) == (high is None) for low, high in ends)
        and 1 <= k <= max(1, found.n)
        and min(found.m, found.clusters) >= 1
    )
