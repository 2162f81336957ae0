"""The result of scoring one set of samples, and its file ``score.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from codegen.errors import InputError
from codegen.evals.statistics import Count, Estimate
from codegen.records import Status, conform, read_json

SCORE = "score.json"
STATUSES: Sequence[Status] = get_args(Status)
_MOST_BYTES = 256 * 2**20  # largest score file that is read
_MOST_SAMPLES = 10_000_000
_MOST_COUNTED = 10**15


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """One problem: ``n`` samples judged, ``c`` of them passed."""

    problem_id: str
    n: int
    c: int


@dataclass(frozen=True, slots=True)
class ReferenceGate:
    """How the references did.

    Attributes:
        total, passed: references run, and passed.
        failures: problem id -> "status: message" of those that should have passed.
        exceptions: problem id -> reason, for those known to fail, whatever they did.
    """

    total: int
    passed: int
    failures: Mapping[str, str] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, verdicts: Mapping[str, Any], excepted: Mapping[str, str]) -> ReferenceGate:
        """The gate from the verdicts of the references.

        Args:
            verdicts: problem id -> an object with a ``status`` and a ``message``.
            excepted: problem id -> reason, of references known to fail.
        """
        return cls(
            total=len(verdicts),
            passed=sum(verdict.status == "passed" for verdict in verdicts.values()),
            failures={
                id_: f"{verdict.status}: {verdict.message}".rstrip(": ")
                for id_, verdict in verdicts.items()
                if verdict.status != "passed" and id_ not in excepted
            },
            exceptions={id_: reason for id_, reason in excepted.items() if id_ in verdicts},
        )

    @property
    def holds(self) -> bool:
        """Whether all references passed that should."""
        return not self.failures


@dataclass(frozen=True, slots=True)
class Measure:
    """The mean of a further number that the task computes for each sample.

    Attributes:
        mean: over the problems, of the mean over a problem's samples.
        stderr: its standard error for other problems like these; None with fewer than two.
        samples: how many samples have the number.
    """

    mean: float
    stderr: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a sample, for scores over computation.

    Attributes:
        prompt_tokens, completion_tokens: means over problems of their samples' mean.
        parameters: of the model, if known.
    """

    prompt_tokens: float
    completion_tokens: float
    parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The result of scoring one set of samples.

    Attributes:
        source: where its data came from.
        complete: whether every sample was judged by a usable test, and the reference gate holds.
            An incomplete score must not be published.
        estimates: k -> pass@k, for every k that all problems have samples for.
        statuses: how many samples ended in each status, all samples counted.
        problems: per problem, in the task's order; samples with an infra_error left out.
        problems_in_task: how many the task has; fewer may have samples.
        programs: distinct programs among them that were run.
        settings: those that all samples share: model, decoder, sampling parameters, style; and, if
            the run recorded them, the model's origin and how it ran.
        cost: of the samples; None if they have no token counts.
        groups: pass@1 of groups of problems, by their label (difficulty), if the task has any.
    """

    task: str
    source: str
    complete: bool
    estimates: Mapping[int, Estimate]
    statuses: Mapping[Status, int]
    problems: Sequence[ProblemScore]
    problems_in_task: int
    samples: int
    programs: int
    settings: Mapping[str, Any]
    sandbox: Mapping[str, Any]
    versions: Mapping[str, str]
    reference: ReferenceGate
    notes: Sequence[str] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)
    cost: Cost | None = None
    groups: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Count]:
        """Per problem, for the statistics."""
        return {p.problem_id: Count(p.n, p.c) for p in self.problems if p.n}

    def to_json(self) -> str:
        """The content of ``score.json``."""
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
    """Refuses numbers that no scoring gives.

    Raises:
        ValueError: naming the field.
    """
    judged = 0
    for place, problem in enumerate(score.problems):
        if not 0 <= problem.c <= problem.n <= _MOST_SAMPLES:
            raise ValueError(f"problems[{place}] has {problem.c} of {problem.n} samples passed")
        judged += problem.n
    if len({problem.problem_id for problem in score.problems}) < len(score.problems):
        raise ValueError("problems has one problem twice")
    if not judged <= score.samples <= _MOST_SAMPLES:
        raise ValueError(f"samples is {score.samples}, and the problems have {judged}")
    groups = {f"groups[{label}]": (1, found) for label, found in score.groups.items()}
    pooled = {f"estimates[{k}]": (k, found) for k, found in score.estimates.items()}
    for name, (k, estimate) in {**pooled, **groups}.items():
        tasks = (estimate.tasks_low, estimate.tasks_high)
        same = (estimate.samples_low, estimate.samples_high)
        shares = (estimate.value, *tasks, *same)
        if not all(share is None or 0 <= share <= 1 for share in shares):
            raise ValueError(f"{name} has a share that is not in [0, 1]")
        if any((low is None) != (high is None) for low, high in (tasks, same)):
            raise ValueError(f"{name} has one end of an interval only")
        if not 1 <= k <= max(1, estimate.n) or min(estimate.m, estimate.clusters) < 1:
            raise ValueError(f"{name} is of too few samples or problems")
    gate = score.reference
    counts = {
        "programs": score.programs,
        "problems_in_task": score.problems_in_task,
        "reference.passed": gate.passed,
        "reference.total - reference.passed": gate.total - gate.passed,
        **{f"statuses[{status}]": count for status, count in score.statuses.items()},
        **{f"measures[{name}].samples": m.samples for name, m in score.measures.items()},
        **{f"measures[{name}].stderr": m.stderr or 0 for name, m in score.measures.items()},
    }
    if score.cost:
        counts |= {"cost.prompt_tokens": score.cost.prompt_tokens,
                   "cost.completion_tokens": score.cost.completion_tokens,
                   "cost.parameters": score.cost.parameters or 0}  # fmt: skip
    wrong = [name for name, count in counts.items() if not 0 <= count <= _MOST_COUNTED]
    if wrong:
        raise ValueError(f"{wrong[0]} is not in [0, {_MOST_COUNTED:g}]")
