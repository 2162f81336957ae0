"""The numbers of a report: which k to show, and how the runs of one task differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from codegen.evals.report.content import ScoredRun
from codegen.evals.statistics import Comparison, Estimate, base_task, compare, holm

_SIGNIFICANT = 0.05
_ALL_PAIRS_UP_TO = 4  # runs; with more, each is compared with the first


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One run in short: for a table in a terminal.

    Attributes:
        samples_per_problem: the least number of judged samples of a problem.
        estimates: k -> pass@k for those of :func:`headline_ks` that this run has, maybe none.
    """

    name: str
    task: str
    complete: bool
    problems: int
    samples_per_problem: int
    estimates: Mapping[int, Estimate]


@dataclass(frozen=True, slots=True)
class PairedResult:
    """Two runs compared; ``p_adjusted`` is Holm's for all comparisons of the report."""

    task: str
    first: str
    second: str
    comparison: Comparison
    p_adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the difference is, at the 5 % level, after adjustment."""
        return self.p_adjusted <= _SIGNIFICANT


def summary_rows(runs: Sequence[ScoredRun]) -> list[SummaryRow]:
    """The headline numbers as plain data, with the few k that the report's table shows."""
    ks = headline_ks(runs)
    return [
        SummaryRow(
            run.name,
            run.score.task,
            run.score.complete,
            len(run.score.problems),
            min((problem.n for problem in run.score.problems), default=0),
            {k: run.score.estimates[k] for k in ks if k in run.score.estimates},
        )
        for run in runs
    ]


def headline_ks(runs: Sequence[ScoredRun]) -> list[int]:
    """The k worth a column: 1, 10 and 100 as far as there are samples; else 1 and the largest."""
    known = {k for run in runs for k in run.score.estimates}
    chosen = [k for k in (1, 10, 100) if k in known]
    if len(chosen) < 2 and known:
        chosen = sorted({min(known), max(known)})
    return chosen


def compare_runs(runs: Sequence[ScoredRun], *, seed: int = 0) -> list[PairedResult]:
    """All pairs of runs of one task (with many runs, each with the first), at the headline ks."""
    found: list[tuple[ScoredRun, ScoredRun, Comparison]] = []
    for group in by_task(runs).values():
        pairs = list(combinations(group, 2))
        if len(group) > _ALL_PAIRS_UP_TO:
            pairs = [(group[0], other) for other in group[1:]]
        for first, second in pairs:
            shared = [r for r in (first, second) if r.score.estimates]
            for k in headline_ks(shared):
                result = compare(
                    first.score.counts, second.score.counts, k, cluster=base_task, seed=seed
                )
                if result is not None:
                    found.append((first, second, result))
    adjusted = holm([comparison.p_value for _, _, comparison in found])
    return [
        PairedResult(first.score.task, first.name, second.name, comparison, p)
        for (first, second, comparison), p in zip(found, adjusted, strict=True)
    ]


def by_task(runs: Sequence[ScoredRun]) -> dict[str, list[ScoredRun]]:
    """The runs of each task, in their order."""
    groups: dict[str, list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(run.score.task, []).append(run)
    return groups
