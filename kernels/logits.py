"""Operations on logits: penalties, noise, and draws without replacement.

- :func:`penalize` applies the penalties of rules against repetition in one pass.
- :func:`gumbel_top_k` draws tokens without replacement, in the order drawn (arXiv 1903.06059): the
  k largest log-probabilities with Gumbel noise, in falling order. Recursive rejection needs that
  order.
- :func:`gumbel` makes noise that depends only on (seed, request, position, token), so a row's draw
  is the same in any batch and for any order of blocks. Philox4x32-10 (Salmon et al. 2011) maps a
  counter and a key to random bits; the key is the seed, the counter is (token, position, request,
  0). It is the plain version of the noise in ``gpu/logits.py``, with the same bits, and logarithms
  equal to within rounding.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from codegen.errors import InputError
from codegen.kernels.backend import close, run

MOST = 16  # most tokens per draw

_MASK = 0xFFFFFFFF
_ROUND_A, _ROUND_B = 0xD2511F53, 0xCD9E8D57
_KEY_A, _KEY_B = 0x9E3779B9, 0xBB67AE85


def penalize(
    logits: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor, amounts: torch.Tensor
) -> None:
    """Changes some logits z in place: to a z + c where z is positive, else to b z + c.

    Args:
        logits: [B, V], any float dtype.
        rows, ids: int64 [N], the logits to change; no pair twice.
        amounts: float64 [3, N], a, b and c of each.
    """
    given = (rows, ids, amounts)

    def by_kernel(onto: torch.Tensor) -> torch.Tensor:
        from codegen.kernels.gpu.logits import launch_penalize

        launch_penalize(onto, *given)
        return onto

    def plainly() -> torch.Tensor:
        reference_penalize(logits, *given)
        return logits

    run(
        "penalize",
        logits,
        lambda: by_kernel(logits),
        plainly,
        close,
        rehearse=lambda: by_kernel(logits.clone()),
    )


def reference_penalize(
    logits: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor, amounts: torch.Tensor
) -> None:
    """The same by gathering and scattering."""
    above, below, added = amounts.float()
    old = logits[rows, ids]
    logits[rows, ids] = (torch.where(old > 0, old * above, old * below) + added).to(logits.dtype)


class Drawn(NamedTuple):
    """Drawn tokens, in falling order of their keys.

    Attributes:
        tokens: int64 [R, k], -1 if the distribution has fewer tokens.
        keys: float32 [R, k], log-probabilities with noise; -inf for no token.
        log_probs: float32 [R, k], without noise.
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
    """Draws k tokens per row; of equal keys the lowest token comes first.

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
        from codegen.kernels.gpu.logits import launch_top_k

        return Drawn(*launch_top_k(*given))

    plainly = functools.partial(reference_top_k, *given)
    return run("gumbel_top_k", log_probs, kernel, plainly, close, variant=lambda: (k,))


def reference_top_k(
    log_probs: torch.Tensor,
    k: int,
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
) -> Drawn:
    """The same by sorting."""
    wide = log_probs.float()
    keys = wide + gumbel(seeds, requests, positions, wide.shape[1])
    keys, tokens = keys.sort(dim=-1, descending=True, stable=True)
    keys, tokens = keys[:, :k], tokens[:, :k]
    alive = keys > -torch.inf
    return Drawn(torch.where(alive, tokens, -1), keys, wide.gather(1, tokens))


def philox(
    seeds: torch.Tensor,
    c0: torch.Tensor,
    c1: torch.Tensor,
    c2: torch.Tensor,
    c3: torch.Tensor,
) -> torch.Tensor:
    """The first of the four words, int64 in [0, 2^32); all arguments int64, shapes broadcast.

    Args:
        seeds: 64 bits of key.
        c0, c1, c2, c3: the counter, whose low 32 bits count.
    """
    k0, k1 = seeds & _MASK, (seeds >> 32) & _MASK
    c0, c1, c2, c3 = (c & _MASK for c in (c0, c1, c2, c3))
    for _ in range(10):
        # int64 products wrap around, but their 64 bits are right.
        a, b = c0 * _ROUND_A, c2 * _ROUND_B
        c0, c1 = ((b >> 32) & _MASK) ^ c1 ^ k0, b & _MASK
        c2, c3 = ((a >> 32) & _MASK) ^ c3 ^ k1, a & _MASK
        k0, k1 = (k0 + _KEY_A) & _MASK, (k1 + _KEY_B) & _MASK
    return c0


def gumbel(
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
    vocabulary: int,
) -> torch.Tensor:
    """Standard Gumbel variables, float32 [R, V].

    -log of an exponential variable -log(1 - v). Floats v are finest near 0, which gives the largest
    Gumbel values, so the winners among 150,000 tokens are distinct.

    Args:
        seeds, requests, positions: int64 [R].
        vocabulary: V.
    """
    tokens = torch.arange(vocabulary, device=seeds.device)
    words = philox(
        seeds[:, None],
        tokens[None],
        positions[:, None],
        requests[:, None],
        torch.zeros_like(tokens)[None],
    )
    v = ((words.float() + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    rest = 1 - v
    # log1p(-v) by Kahan's formula, which needs no library on the GPU.
    exponential = torch.where(rest == 1, v, torch.log(rest) * v / (rest - 1))
    return -torch.log(exponential)
