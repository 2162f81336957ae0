"""The statistics of scores: estimates, intervals, comparisons, extrapolations.

``scores`` (pass@k, pass^k and G-pass@k with intervals; comparison of two runs), ``extrapolation``
(more attempts than samples; growth of coverage).
"""

from .extrapolation import (
    BetaBinomial,
    CoverageFit,
    Extrapolation,
    extrapolate,
    fit_beta_binomial,
    fit_coverage,
    sampling_flops,
)
from .scores import (
    Z95,
    Comparison,
    Count,
    Estimate,
    base_task,
    clustered_error,
    clustered_interval,
    compare,
    default_ks,
    estimate_pass_at_k,
    estimate_pass_hat_k,
    g_pass_at_k,
    holm,
    pass_at_k,
    pass_hat_k,
    sign_flip_p,
    wilson,
)

__all__ = [
    "Z95",
    "BetaBinomial",
    "Comparison",
    "Count",
    "CoverageFit",
    "Estimate",
    "Extrapolation",
    "base_task",
    "clustered_error",
    "clustered_interval",
    "compare",
    "default_ks",
    "estimate_pass_at_k",
    "estimate_pass_hat_k",
    "extrapolate",
    "fit_beta_binomial",
    "fit_coverage",
    "g_pass_at_k",
    "holm",
    "pass_at_k",
    "pass_hat_k",
    "sampling_flops",
    "sign_flip_p",
    "wilson",
]
