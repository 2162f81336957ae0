"""The numbers of a report: the ks to show, comparisons of runs, and measures of the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from codegen.evals.metrics import (
    Diversity,
    Output,
    PaperRepetition,
    measure_diversity,
    paper_repetition,
)
from codegen.evals.report.content import ScoredRun
from codegen.evals.score import Cost
from codegen.evals.statistics import (
    Comparison,
    Estimate,
    base_task,
    compare,
    estimate_pass_hat_k,
    holm,
    sampling_flops,
)

_SIGNIFICANT = 0.05
_ALL_PAIRS_UP_TO = 4  # runs; with more, each is compared with the first
_LOOKED_AT = 20  # samples of a problem that are measured
_MOST_MEASURED = 4000  # samples of a run that are measured


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


# --- beyond the score -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Further:
    """What a report shows of one run in addition to its score.

    Attributes:
        all_pass: k -> pass^k, for the k of the score's estimates.
        diversity, repetition: of the samples, if the report has them.
        measured: how many samples ``repetition`` covers.
    """

    all_pass: Mapping[int, Estimate] = field(default_factory=dict)
    diversity: Diversity | None = None
    repetition: PaperRepetition | None = None
    measured: int = 0


def compute(run: ScoredRun, *, seed: int = 0) -> Further:
    """All of it for one run."""
    repetition, measured = _repetition(run)
    return Further(
        all_pass=_all_pass(run),
        diversity=measure_diversity(_programs_of(run), most=_LOOKED_AT, seed=seed),
        repetition=repetition,
        measured=measured,
    )


def _all_pass(run: ScoredRun) -> dict[int, Estimate]:
    counts = run.score.counts
    clusters = [base_task(id_) for id_ in counts]
    found = {
        k: estimate_pass_hat_k(list(counts.values()), k, clusters) for k in run.score.estimates
    }
    return {k: estimate for k, estimate in found.items() if estimate is not None}


def _repetition(run: ScoredRun) -> tuple[PaperRepetition | None, int]:
    if not run.samples:
        return None, 0
    each = max(1, min(_LOOKED_AT, _MOST_MEASURED // len(run.samples)))
    outputs = [
        Output(problem.prompt, view.answer, view.finish_reason != "length")
        for problem in run.samples.values()
        for view in problem.samples[:each]
    ]
    return paper_repetition(outputs), len(outputs)


def _programs_of(run: ScoredRun) -> Mapping[str, list[str]]:
    """Problem -> the programs of its samples; the answer where no program was found."""
    return {
        id_: [view.program or view.answer for view in problem.samples]
        for id_, problem in run.samples.items()
    }


# --- computation ---------------------------------------------------------------

_UNITS = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1.0, "FLOP"))


@dataclass(frozen=True, slots=True)
class Spending:
    """The computation of attempts, for the runs of one task with known costs: a small model may
    solve more than a large one for the same computation, since it can try more often (Brown et al.
    2024, arXiv 2407.21787).

    Limits: computation is by the usual rule of two operations a parameter and token
    (:func:`codegen.evals.statistics.sampling_flops`). Tokens that were drafted and rejected are not
    counted, nor attention over long contexts.

    Attributes:
        runs: the runs with known costs.
        costs: of each run, for one sample.
        take: of each run, the cost of k samples of one problem, in ``unit``.
        unit: a unit of floating-point operations, or ``Tokens``.
        by_flops: whether the size of every run's model is known.
    """

    runs: Sequence[ScoredRun]
    costs: Sequence[Cost]
    take: Sequence[Callable[[float], float]]
    unit: str
    by_flops: bool


def spending(runs: Sequence[ScoredRun]) -> Spending | None:
    """The computation of the runs of one task; in tokens, if the size of a model is unknown. None
    if no run with two k has known costs.
    """
    shown = [(run, run.score.cost) for run in runs if run.score.cost and run.score.estimates]
    if not any(len(run.score.estimates) > 1 for run, _ in shown):
        return None
    costs = [cost for _, cost in shown if cost]
    by_flops = all(cost.parameters for cost in costs)
    unit, name = 1.0, "Tokens"
    if by_flops:
        least = min(_spent(cost, 1, by_flops) for cost in costs)
        unit, name = next(pair for pair in _UNITS if least >= pair[0] or pair[0] == 1.0)

    def taken_by(cost: Cost) -> Callable[[float], float]:
        return lambda k: _spent(cost, k, by_flops) / unit

    return Spending([run for run, _ in shown], costs, list(map(taken_by, costs)), name, by_flops)


def _spent(cost: Cost, k: float, by_flops: bool) -> float:
    if not by_flops:
        return cost.prompt_tokens + k * cost.completion_tokens
    return sampling_flops(
        k,
        parameters=cost.parameters or 0,
        prompt_tokens=cost.prompt_tokens,
        completion_tokens=cost.completion_tokens,
    )
