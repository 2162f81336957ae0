"""Gumbel noise that depends on (seed, request, position, token) and on nothing else.

Philox4x32-10 (Salmon et al. 2011) is a function from a counter and a key to random bits: here the
key is the seed and the counter (token, position, request, stream). A row's noise is the same
whatever else is in the batch, in whatever order blocks run. This is the plain version of
``gpu/random.py``: the bits are the same, the logarithms to within rounding.
"""

from __future__ import annotations

import torch

DRAFT, ACCEPT = 0, 1  # streams: a draft's noise is not that of the token accepted in its place

_MASK = 0xFFFFFFFF
_ROUND_A, _ROUND_B = 0xD2511F53, 0xCD9E8D57
_KEY_A, _KEY_B = 0x9E3779B9, 0xBB67AE85


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
        # int64 products wrap around; their 64 bits are right all the same.
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
    stream: int,
) -> torch.Tensor:
    """Standard Gumbel variables, float32 [R, V].

    -log of an exponential variable -log(1 - v): v is finest near 0, where the largest Gumbel values
    come from, so that the winners among 150,000 tokens are told apart.

    Args:
        seeds, requests, positions: int64 [R].
        vocabulary: V.
        stream: :data:`DRAFT` or :data:`ACCEPT`.
    """
    tokens = torch.arange(vocabulary, device=seeds.device)
    words = philox(
        seeds[:, None],
        tokens[None],
        positions[:, None],
        requests[:, None],
        torch.full_like(tokens, stream)[None],
    )
    v = ((words.float() + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    rest = 1 - v
    # log1p(-v) by two logarithms' worth of care (Kahan), for which the GPU needs no library.
    exponential = torch.where(rest == 1, v, torch.log(rest) * v / (rest - 1))
    return -torch.log(exponential)
