"""Numbers computed for a report beside the scores: extrapolation, and measures of the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codegen.errors import InputError
from codegen.evals.metrics import (
    Diversity,
    Output,
    PaperRepetition,
    measure_diversity,
    paper_repetition,
)
from codegen.evals.report.content import ScoredRun
from codegen.evals.report.reading import programs_of
from codegen.evals.statistics import (
    CoverageFit,
    Estimate,
    Extrapolation,
    base_task,
    estimate_pass_hat_k,
    extrapolate,
    fit_coverage,
)

_BEYOND = (2, 5, 10)  # times n: how far the curve is drawn on
_LEAST_TASKS, _LEAST_SAMPLES = 20, 4  # below that a fit says nothing
_LOOKED_AT = 20  # samples of a problem that are measured
_MOST_MEASURED = 4000  # samples of a run that are measured


@dataclass(frozen=True, slots=True)
class Further:
    """What a report says of one run beyond its score.

    Attributes:
        all_pass: k -> pass^k, for the k of the score's estimates.
        extrapolated: pass@k for k beyond the samples, by a model; empty with too little data.
        coverage: the fit of the curve pass@k; None with too few points.
        diversity, repetition: of the samples, where the report has them.
        measured: samples that ``repetition`` looked at.
    """

    all_pass: Mapping[int, Estimate] = field(default_factory=dict)
    extrapolated: Sequence[Extrapolation] = ()
    coverage: CoverageFit | None = None
    diversity: Diversity | None = None
    repetition: PaperRepetition | None = None
    measured: int = 0


def compute(run: ScoredRun, *, seed: int = 0) -> Further:
    """All of it for one run."""
    repetition, measured = _repetition(run)
    return Further(
        all_pass=_all_pass(run),
        extrapolated=_extrapolated(run, seed),
        coverage=_coverage(run),
        diversity=measure_diversity(programs_of(run), most=_LOOKED_AT, seed=seed),
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


def _extrapolated(run: ScoredRun, seed: int) -> list[Extrapolation]:
    counts = list(run.score.counts.values())
    least = min((count.n for count in counts), default=0)
    if len(counts) < _LEAST_TASKS or least < _LEAST_SAMPLES or not any(c.c for c in counts):
        return []
    if run.score.settings.get("temperature") == 0:
        return []  # greedy samples are alike: more of them would find nothing
    most = max(count.n for count in counts)
    return extrapolate(counts, [most * times for times in _BEYOND], seed=seed)


def _coverage(run: ScoredRun) -> CoverageFit | None:
    try:
        return fit_coverage({k: e.value for k, e in run.score.estimates.items()})
    except InputError:
        return None


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
