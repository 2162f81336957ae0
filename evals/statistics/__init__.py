"""The statistics of scores: estimates, intervals, comparisons, extrapolations.

One file a question: ``scores`` (pass@k, pass^k, G-pass@k and how sure they are), ``clusters``
(which tasks belong together), ``comparison`` (is one run better than another), ``extrapolation``
(more attempts than samples), ``scaling`` (how coverage grows).
"""

from .clusters import base_task, has_variants
from .comparison import Comparison, compare, holm, sign_flip_p
from .extrapolation import BetaBinomial, Extrapolation, extrapolate, fit_beta_binomial
from .scaling import CoverageFit, fit_coverage, sampling_flops
from .scores import (
    Z95,
    Count,
    Estimate,
    clustered_error,
    default_ks,
    estimate_pass_at_k,
    estimate_pass_hat_k,
    g_pass_at_k,
    pass_at_k,
    pass_hat_k,
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
    "compare",
    "default_ks",
    "estimate_pass_at_k",
    "estimate_pass_hat_k",
    "extrapolate",
    "fit_beta_binomial",
    "fit_coverage",
    "g_pass_at_k",
    "has_variants",
    "holm",
    "pass_at_k",
    "pass_hat_k",
    "sampling_flops",
    "sign_flip_p",
    "wilson",
]
