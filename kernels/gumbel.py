"""Gumbel-top-k: tokens drawn without replacement, in the order drawn (arXiv 1903.06059).

The k largest of log-probabilities with Gumbel noise are such a draw, in falling order; recursive
rejection needs that order. The noise depends on (seed, request, position, token), so a row's draw
is the same in any batch.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from codegen.errors import InputError
from codegen.kernels.backend import close, run
from codegen.kernels.philox import DRAFT, gumbel

MOST = 16


class Drawn(NamedTuple):
    """What was drawn, in falling order of the keys.

    Attributes:
        tokens: int64 [R, k], -1 where the distribution has fewer tokens.
        keys: float32 [R, k], log-probabilities with noise; -inf where there is no token.
        log_probs: float32 [R, k], without it.
    """

    tokens: torch.Tensor
    keys: torch.Tensor
    log_probs: torch.Tensor


def gumbel_top_k(
    log_probs: torch.Tensor,
    k: int,
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
) -> Drawn:
    """Draws k tokens a row; of equal keys the lowest token comes first.

    Args:
        log_probs: [R, V], any float type; -inf forbids a token. A row may be off by a constant.
        k: 1 to 16.
        seeds, requests, positions: int64 [R], which tell the rows' noise apart; the low 32 bits of
            the last two count. Two nodes of a tree at one depth need two numbers.

    Raises:
        InputError: if k is out of range or larger than V.
    """
    if not 1 <= k <= min(MOST, log_probs.shape[1]):
        raise InputError(f"k is {k}; it must be from 1 to {MOST} and at most the vocabulary.")
    given = (log_probs, k, seeds, requests, positions)

    def kernel() -> Drawn:
        from codegen.kernels.gpu.gumbel import launch

        return Drawn(*launch(*given))

    plainly = functools.partial(reference, *given)
    return run("gumbel_top_k", log_probs, kernel, plainly, close, variant=(k,))


def reference(
    log_probs: torch.Tensor,
    k: int,
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
) -> Drawn:
    """The same by sorting."""
    wide = log_probs.float()
    keys = wide + gumbel(seeds, requests, positions, wide.shape[1], DRAFT)
    keys, tokens = keys.sort(dim=-1, descending=True, stable=True)
    keys, tokens = keys[:, :k], tokens[:, :k]
    alive = keys > -torch.inf
    return Drawn(torch.where(alive, tokens, -1), keys, wide.gather(1, tokens))
