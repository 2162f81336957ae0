"""The numbers of a report: the values of k to show, comparisons of runs, and sample measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from codegen.evals import metrics, statistics
from codegen.evals.report.content import ScoredRun

_SIGNIFICANT = 0.05
_ALL_PAIRS_UP_TO = 4  # runs; with more, each is compared only with the first
_LOOKED_AT = 20  # maximum samples measured per problem
_MOST_MEASURED = 4000  # maximum samples measured per run


@dataclass(frozen=True, slots=True)
class PairedResult:
    """Two runs compared; ``p_adjusted`` is Holm-adjusted for all comparisons of the report."""

    task: str
    first: str
    second: str
    comparison: statistics.Comparison
    p_adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the difference is significant at the 5% level, after adjustment."""
        return self.p_adjusted <= _SIGNIFICANT


def headline_ks(runs: Sequence[ScoredRun]) -> list[int]:
    """Returns the k to show: 1, 10 and 100 if there are enough samples; else 1 and the largest."""
    known = {k for run in runs for k in run.score.estimates}
    chosen = [k for k in (1, 10, 100) if k in known]
    if len(chosen) < 2 and known:
        chosen = sorted({min(known), max(known)})
    return chosen


def compare_runs(runs: Sequence[ScoredRun], *, seed: int = 0) -> list[PairedResult]:
    """Compares all pairs of runs of a task (many runs: each with the first) at the headline ks."""
    found: list[tuple[ScoredRun, ScoredRun, statistics.Comparison]] = []
    for group in by_task(runs).values():
        pairs = list(combinations(group, 2))
        if len(group) > _ALL_PAIRS_UP_TO:
            pairs = [(group[0], other) for other in group[1:]]
        for first, second in pairs:
            shared = [r for r in (first, second) if r.score.estimates]
            for k in headline_ks(shared):
                result = statistics.compare(
                    first.score.counts,
                    second.score.counts,
                    k,
                    cluster=statistics.base_task,
                    seed=seed,
                )
                if result is not None:
                    found.append((first, second, result))
    adjusted = statistics.holm([comparison.p_value for _, _, comparison in found])
    return [
        PairedResult(first.score.task, first.name, second.name, comparison, p)
        for (first, second, comparison), p in zip(found, adjusted, strict=True)
    ]


def by_task(runs: Sequence[ScoredRun]) -> dict[str, list[ScoredRun]]:
    """Groups runs by task, in order."""
    groups: dict[str, list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(run.score.task, []).append(run)
    return groups


@dataclass(frozen=True, slots=True)
class Further:
    """Measures of one run in addition to its score.

    Attributes:
        all_pass: k -> pass^k, for the k of the score's estimates.
        diversity, repetition: measures of the samples, if the report has them.
        measured: number of samples that ``repetition`` covers.
    """

    all_pass: Mapping[int, statistics.Estimate] = field(default_factory=dict)
    diversity: metrics.Diversity | None = None
    repetition: metrics.PaperRepetition | None = None
    measured: int = 0


def compute(run: ScoredRun, *, seed: int = 0) -> Further:
    """Computes a run's measures."""
    repetition, measured = _repetition(run)
    return Further(
        all_pass=_all_pass(run),
        diversity=metrics.measure_diversity(_programs_of(run), most=_LOOKED_AT, seed=seed),
        repetition=repetition,
        measured=measured,
    )


def _all_pass(run: ScoredRun) -> dict[int, statistics.Estimate]:
    counts = run.score.counts
    clusters = [statistics.base_task(id_) for id_ in counts]
    found = {
        k: statistics.estimate_pass_hat_k(list(counts.values()), k, clusters)
        for k in run.score.estimates
    }
    return {k: estimate for k, estimate in found.items() if estimate is not None}


def _repetition(run: ScoredRun) -> tuple[metrics.PaperRepetition | None, int]:
    if not run.samples:
        return None, 0
    each = max(1, min(_LOOKED_AT, _MOST_MEASURED // len(run.samples)))
    outputs = [
        metrics.Output(problem.prompt, view.answer, view.finish_reason != "length")
        for problem in run.samples.values()
        for view in problem.samples[:each]
    ]
    return metrics.paper_repetition(outputs), len(outputs)


def _programs_of(run: ScoredRun) -> Mapping[str, list[str]]:
    """Returns problem -> its samples' programs, or answers where no program was found."""
    return {
        id_: [view.program or view.answer for view in problem.samples]
        for id_, problem in run.samples.items()
    }
