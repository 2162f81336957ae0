"""How coverage, the mean pass@k, grows with attempts and with the computation spent on them.

Source: Brown et al. 2024 (arXiv 2407.21787, section 3.1) fit log coverage = a * k^b, so that
log(-log coverage) is a line in log k. Computation is counted as in LintSeq's comparisons of models
of different sizes: 2 * parameters for each token that passes through the model.

Limits: the fit describes the curve over the k that it was given, by least squares in which the
points are far from independent; no interval is claimed. To forecast, fit the distribution of
success rates (``extrapolation``): it needs far fewer samples (Schaeffer et al. 2025).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codegen.errors import InputError


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
        k: samples.
        parameters: of the model.
        prompt_tokens, completion_tokens: means over problems.
        prompt_cached: whether the samples share one pass over the prompt.
    """
    prompts = 1.0 if prompt_cached else k
    return 2.0 * parameters * (prompts * prompt_tokens + k * completion_tokens)
