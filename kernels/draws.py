"""Drawing with the random numbers given from outside."""

from __future__ import annotations

import torch


def inverse_transform(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The inverse of the cumulative distribution at u, for rows that need not sum to one.

    Args:
        probabilities: [B, K].
        uniforms: [B] in [0, 1).

    Returns:
        int64 [B].
    """
    cumulative = probabilities.double().cumsum(-1)
    target = uniforms[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True)[:, 0]
    # u*total can round up to the total itself: then the last token that has any mass is meant.
    last = (probabilities > 0).cumsum(-1).argmax(-1)
    return torch.minimum(index, last)
