"""pass@k beyond the number of samples: error of the extrapolation on simulated benchmarks.

What: benchmarks of 164 problems whose success rates are drawn from a known distribution, n samples
of each; pass@5n by ``codegen.evals.statistics.extrapolate`` against the true mean. Keys by truth
and n: ``..._bias`` and ``..._rmse`` of the value, ``..._covered`` the share of 95 % intervals that
hold the truth, ``..._naive_bias`` the mean error of 1 - (1 - c/n)^k.

Against: that shortcut.

Limits: the truths are of the model's family, with and without a mass at zero. That real benchmarks
are like them is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report
from codegen.errors import InputError
from codegen.evals.statistics import BetaBinomial, Count, extrapolate

_PROBLEMS, _TIMES = 164, 5
_TRUTHS = {
    "beta_0.3_1": BetaBinomial(0.3, 1.0),
    "beta_0.2_1.5_zero_0.3": BetaBinomial(0.2, 1.5, 0.3),
    "beta_1_3_zero_0.2": BetaBinomial(1.0, 3.0, 0.2),
    "beta_0.4_6": BetaBinomial(0.4, 6.0),
}


def run(
    quick: bool = False, *, benchmarks: int = 60, draws: int = 100, seed: int = 1
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: 6 benchmarks a row with 30 draws.
        benchmarks: simulated a row.
        draws: of the bootstrap.
        seed: of the simulation.
    """
    if benchmarks < 2 or draws < 2:
        raise InputError("benchmarks and draws must be at least 2.")
    if quick:
        benchmarks, draws = 6, 30
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "numpy", "scipy")
    rng = np.random.default_rng(seed)
    for name, truth in _TRUTHS.items():
        for n in (10, 20):
            say(f"{name}, n = {n}: {benchmarks} benchmarks")
            _row(report, f"{name}_n{n}", truth, n, benchmarks, draws, rng)
    return report.mapping()


def _row(
    report: Report,
    name: str,
    truth: BetaBinomial,
    n: int,
    benchmarks: int,
    draws: int,
    rng: np.random.Generator,
) -> None:
    k = _TIMES * n
    expected = truth.pass_at_k(k)
    errors, naive, covered = [], [], 0
    for _ in range(benchmarks):
        rates = rng.beta(truth.alpha, truth.beta, _PROBLEMS)
        rates *= rng.random(_PROBLEMS) >= truth.zero
        counts = [Count(n, int(c)) for c in rng.binomial(n, rates)]
        (found,) = extrapolate(counts, [k], draws=draws)
        errors.append(found.value - expected)
        covered += found.low <= expected <= found.high
        naive.append(np.mean([1 - (1 - c.c / n) ** k for c in counts]) - expected)
    report.set(f"{name}_bias", float(np.mean(errors)), n=benchmarks)
    report.set(f"{name}_rmse", float(np.sqrt(np.mean(np.square(errors)))), n=benchmarks)
    report.set(f"{name}_covered", covered / benchmarks, n=benchmarks)
    report.set(f"{name}_naive_bias", float(np.mean(naive)), n=benchmarks)
