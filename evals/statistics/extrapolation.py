"""pass@k for k beyond the samples at hand, by a beta-binomial model, and how coverage grows with k.

The success rate of a task is taken as drawn from Beta(alpha, beta), or, with probability ``zero``,
as exactly 0: tasks that no number of samples solves. Both are fitted by maximum likelihood to the
counts of all tasks; then pass@k = (1 - zero) * (1 - B(alpha, beta + k) / B(alpha, beta)).

The mass at zero is kept only where it fits significantly better (likelihood ratio, 5 % level; the
ratio's distribution is half a point mass at 0 since ``zero`` lies on its border). Without that rule
few samples could not tell it from a small alpha, and the ceiling of the curve would be noise.

Source: the power law that follows from the lower tail of Beta, 1 - pass@k ~ k^-alpha, is in
Schaeffer et al. 2025 (arXiv 2502.17578).

Limits: the value is implied by the model, not observed. The interval is a bootstrap over tasks that
includes the choice of the model, but not the case that both models are wrong, as for a benchmark
whose hard tasks are of another kind than its easy ones. Far beyond n (more than about ten times)
the value is a guess.

How coverage, the mean pass@k, grows with attempts and with the computation spent on them: Brown et
al. 2024 (arXiv 2407.21787, section 3.1) fit log coverage = a * k^b, so that log(-log coverage) is a
line in log k. Computation is counted as in LintSeq's comparisons of models of different sizes: 2 *
parameters for each token that passes through the model.

Limits of that fit: it describes the curve over the k that it was given, by least squares in which
the points are far from independent; no interval is claimed. To forecast, fit the distribution of
success rates (:func:`extrapolate`): it needs far fewer samples (Schaeffer et al. 2025).
"""

from __future__ import annotations

import functools
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.errors import InputError

from .scores import Count

_KEEP_ZERO = 2.706  # chi-squared with one degree of freedom: 10 %, halved for the border
_LOG_SIZE = (-6.0, 12.0)  # range of log(alpha + beta): from all-or-nothing to no spread
_DRAWS = 200


@dataclass(frozen=True, slots=True)
class BetaBinomial:
    """The distribution of success rates over tasks.

    Attributes:
        zero: the share of tasks that are never solved.
        log_likelihood: of the counts it was fitted to, up to the constant of the data.
    """

    alpha: float
    beta: float
    zero: float = 0.0
    log_likelihood: float = math.nan

    def pass_at_k(self, k: float) -> float:
        """The mean over tasks of 1 - (1 - rate)^k."""
        misses = _log_beta(self.alpha, self.beta + k) - _log_beta(self.alpha, self.beta)
        return (1.0 - self.zero) * -math.expm1(min(0.0, misses))


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """A pass@k computed from a model, for more attempts than there are samples.

    Attributes:
        value: what the model implies, in [0, 1].
        low, high: 95 % bootstrap interval over tasks; the model is taken as right.
        n: the most samples of a task that the model was fitted to.
        extrapolated: always true; show it together with the value.
    """

    k: int
    value: float
    low: float
    high: float
    n: int
    extrapolated: bool = True


def fit_beta_binomial(counts: Sequence[Count], *, zero: bool | None = None) -> BetaBinomial:
    """Fits the model by maximum likelihood.

    Args:
        counts: one a task, of differing ``n`` if need be.
        zero: whether to have a mass at zero; by default where it fits significantly better.

    Raises:
        InputError: with no samples at all, or no task with two: one sample a task says nothing
            about how tasks differ.
    """
    table = Counter((count.n, count.c) for count in counts if count.n)
    if not table or max(n for n, _ in table) < 2:
        raise InputError(
            "A beta-binomial fit needs tasks with at least 2 samples.", "Make more samples a task."
        )
    data = np.array(sorted(table), dtype=float)
    weights = np.array([table[key] for key in sorted(table)], dtype=float)
    return _fit(data, weights, zero)


def _fit(data: np.ndarray, weights: np.ndarray, zero: bool | None) -> BetaBinomial:
    plain = _maximize(data, weights)
    if zero is False or (zero is None and not _worth_a_try(data, weights)):
        return plain
    mixed = _maximize(data, weights, plain)
    gain = 2 * (mixed.log_likelihood - plain.log_likelihood)
    return mixed if zero or gain > _KEEP_ZERO else plain


def _worth_a_try(data: np.ndarray, weights: np.ndarray) -> bool:
    """Whether some tasks were never solved and others were."""
    unsolved = data[:, 1] == 0
    return bool(weights[unsolved].sum() and weights[~unsolved].sum())


def _maximize(
    data: np.ndarray, weights: np.ndarray, start: BetaBinomial | None = None
) -> BetaBinomial:
    """Maximum likelihood over (logit of the mean, log of alpha + beta) and, with ``start``, zero.

    ``start`` is the best model without a mass at zero.
    """
    minimize, _, _ = _scipy()
    n, c = data[:, 0], data[:, 1]
    mean = float((weights @ c + 0.5) / (weights @ n + 1.0))
    unsolved = float(weights[c == 0].sum() / weights.sum())
    if start is None:
        first = [_logit(mean), 0.0]
    else:
        share = min(max(0.5 * unsolved, 0.01), 0.95)
        rest = min(max(mean / (1.0 - share), 0.001), 0.999)
        size = min(max(math.log(start.alpha + start.beta), -3.0), 5.0) + 0.5
        first = [_logit(rest), size, _logit(share)]
    bounds = [(-12.0, 12.0), _LOG_SIZE, (-9.0, 9.0)][: len(first)]

    def cost(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _log_likelihood(_model(point), n, c, weights)
        return -value, -slope[: len(point)]

    found = minimize(cost, np.array(first), jac=True, method="L-BFGS-B", bounds=bounds)
    best = _model(found.x)
    return BetaBinomial(best.alpha, best.beta, best.zero, -float(found.fun))


@functools.cache
def _scipy() -> tuple[Any, Any, Any]:
    """``minimize``, ``betaln`` and ``digamma``, with a BLAS of one thread.

    L-BFGS-B calls BLAS for tiny matrices, and OpenBLAS's threads spin between calls, which made
    reports a hundred times slower on a busy machine. OpenBLAS reads the variable when it is loaded;
    a user's setting is kept, and ours is removed after the import.
    """
    name = "OPENBLAS_NUM_THREADS"
    is_set = name in os.environ or "OMP_NUM_THREADS" in os.environ
    if not is_set:
        os.environ[name] = "1"
    try:
        from scipy.optimize import minimize
        from scipy.special import betaln, digamma
    finally:
        if not is_set:
            del os.environ[name]
    return minimize, betaln, digamma


def _model(point: np.ndarray) -> BetaBinomial:
    mean, size = _sigmoid(float(point[0])), math.exp(float(point[1]))
    zero = _sigmoid(float(point[2])) if len(point) > 2 else 0.0
    return BetaBinomial(mean * size, (1.0 - mean) * size, zero)


def _log_likelihood(
    model: BetaBinomial, n: np.ndarray, c: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Its value, and its slope in the coordinates of :func:`_maximize`."""
    _, betaln, digamma = _scipy()
    a, b, zero = model.alpha, model.beta, model.zero
    each = betaln(c + a, n - c + b) - betaln(a, b)
    both = digamma(a + b) - digamma(n + a + b)
    by_a = digamma(c + a) - digamma(a) + both
    by_b = digamma(n - c + b) - digamma(b) + both
    from_beta = np.ones_like(each)  # the chance that a task is not one that is never solved
    if zero:
        each += math.log1p(-zero)
        whole = np.where(c == 0, np.logaddexp(each, math.log(zero)), each)
        from_beta, each = np.exp(each - whole), whole
    shared = weights * from_beta
    along_mean = a * b / (a + b) * (shared @ (by_a - by_b))
    along_size = a * (shared @ by_a) + b * (shared @ by_b)
    along_zero = weights @ (1.0 - from_beta - zero)
    return float(weights @ each), np.array([along_mean, along_size, along_zero])


def extrapolate(
    counts: Sequence[Count], ks: Sequence[int], *, draws: int = _DRAWS, seed: int = 0
) -> list[Extrapolation]:
    """pass@k by the model for each of ``ks``, with a bootstrap interval over tasks.

    Args:
        counts: one a task.
        ks: attempts, each more than the samples of some task; for fewer use the unbiased estimate.
        draws: of tasks with replacement, each fitted again.

    Raises:
        InputError: as :func:`fit_beta_binomial`; for k that need no extrapolation.
    """
    known = min((count.n for count in counts), default=0)
    for k in ks:
        if k <= known:
            raise InputError(
                f"pass@{k} needs no extrapolation: every task has {known} samples.",
                "Use the unbiased estimate.",
            )
    model = fit_beta_binomial(counts)
    values = np.array([model.pass_at_k(k) for k in ks])
    used = sorted(Counter((count.n, count.c) for count in counts if count.n).items())
    data = np.array([key for key, _ in used], dtype=float)
    weights = np.array([number for _, number in used], dtype=float)
    rng = np.random.Generator(np.random.Philox(seed))
    total = int(weights.sum())
    drawn = np.empty((draws, len(ks)))
    for row in range(draws):
        again = rng.multinomial(total, weights / total).astype(float)
        there = again > 0
        refitted = _fit(data[there], again[there], None)  # the choice is uncertain too
        drawn[row] = [refitted.pass_at_k(k) for k in ks]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    most = max(count.n for count in counts)
    return [
        Extrapolation(
            k,
            float(value),
            float(min(value, max(0.0, lo))),
            float(max(value, min(1.0, hi))),
            most,
        )
        for k, value, lo, hi in zip(ks, values, low, high, strict=True)
    ]


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


# --- growth of coverage --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CoverageFit:
    """log coverage = ``a`` * k^``b``.

    Attributes:
        a, b: of the curve; both are negative where coverage grows.
        points: how many k it was fitted to.
        worst: the largest distance of a point from the curve, in coverage.
    """

    a: float
    b: float
    points: int
    worst: float

    def coverage(self, k: float) -> float:
        """The curve at ``k``."""
        return math.exp(self.a * k**self.b)


def fit_coverage(coverage: Mapping[int, float]) -> CoverageFit:
    """Fits the curve to k -> coverage; points at exactly 0 or 1 say nothing and are left out.

    Raises:
        InputError: with fewer than three usable points.
    """
    usable = {k: value for k, value in sorted(coverage.items()) if 0.0 < value < 1.0}
    if len(usable) < 3:
        raise InputError(
            f"A coverage fit needs three k with coverage between 0 and 1, got {len(usable)}."
        )
    x = np.log(np.array(list(usable), dtype=float))
    y = np.log(-np.log(np.array(list(usable.values()))))
    slope, height = (float(v) for v in np.polyfit(x, y, 1))
    fit = CoverageFit(-math.exp(height), slope, len(usable), 0.0)
    worst = max(abs(fit.coverage(k) - value) for k, value in usable.items())
    return CoverageFit(fit.a, fit.b, fit.points, worst)


def sampling_flops(
    k: float,
    *,
    parameters: int,
    prompt_tokens: float,
    completion_tokens: float,
    prompt_cached: bool = True,
) -> float:
    """Floating-point operations of ``k`` samples of one problem: 2 * parameters * tokens.

    Args:
        prompt_tokens, completion_tokens: means over problems.
        prompt_cached: whether the samples share one pass over the prompt.
    """
    prompts = 1.0 if prompt_cached else k
    return 2.0 * parameters * (prompts * prompt_tokens + k * completion_tokens)
