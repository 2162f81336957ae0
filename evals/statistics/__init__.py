"""The statistics of scores: pass@k and pass^k with intervals, and comparisons of runs."""

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
    holm,
    pass_at_k,
    pass_hat_k,
    sign_flip_p,
    wilson,
)

__all__ = [
    "Z95",
    "Comparison",
    "Count",
    "Estimate",
    "base_task",
    "clustered_error",
    "clustered_interval",
    "compare",
    "default_ks",
    "estimate_pass_at_k",
    "estimate_pass_hat_k",
    "holm",
    "pass_at_k",
    "pass_hat_k",
    "sign_flip_p",
    "wilson",
]
