"""What a vocabulary's worth of logits goes through: penalties and masks, noise, and draws from it.

- :func:`adjust_logits`: grammar masks, bans, penalties and temperature over all rows of a draft in
  one pass. A draft's tokens are context of the rows below them: a penalty that forgets them, or a
  mask applied to the first row only, lets the verifier accept what plain decoding would not have
  sampled.
- :func:`gumbel_top_k`: tokens drawn without replacement, in the order drawn (arXiv 1903.06059). The
  k largest of log-probabilities with Gumbel noise are such a draw, in falling order; recursive
  rejection needs that order.
- :func:`gumbel`: noise that depends on (seed, request, position, token) and on nothing else, so
  that a row's draw is the same in any batch, in whatever order blocks run. Philox4x32-10 (Salmon et
  al. 2011) is a function from a counter and a key to random bits: here the key is the seed and the
  counter (token, position, request, stream). This is the plain version of the noise in
  ``gpu/logits.py``: the bits are the same, the logarithms to within rounding.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from codegen.errors import InputError
from codegen.kernels.backend import close, run

MOST = 16  # tokens of a draw
DRAFT, ACCEPT = 0, 1  # streams: a draft's noise is not that of the token accepted in its place

_MASK = 0xFFFFFFFF
_ROUND_A, _ROUND_B = 0xD2511F53, 0xCD9E8D57
_KEY_A, _KEY_B = 0x9E3779B9, 0xBB67AE85


def adjust_logits(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    ancestors: torch.Tensor,
    counts: torch.Tensor,
    prompt: torch.Tensor,
    settings: torch.Tensor,
    allowed: torch.Tensor,
    banned: torch.Tensor,
) -> torch.Tensor:
    """Logits float32 [B, T, V] by which row b's node i chooses what follows it.

    In this order: the repetition penalty (arXiv 1909.05858) on tokens of the prompt or generated,
    the frequency and presence penalties (OpenAI's) on generated ones, temperature, masks.

    Args:
        logits: [B, T, V], any float type.
        tokens: int64 [B, T], the nodes'.
        ancestors: int64 [B, T], bit j of node i says whether it sees node j, as in tree attention.
        counts: int32 [B, V], how often each token was generated before node 0.
        prompt: bool [B, V], the tokens of the prompt.
        settings: float32 [B, 4]: repetition (1 is none), frequency, presence (0 is none) and
            temperature (0 leaves the scale, for greedy choice).
        allowed: int32 [B, T, ceil(V / 32)], a grammar's bits, token 0 the lowest of word 0.
        banned: int64 [B, X], tokens ruled out, -1 for none.

    Raises:
        InputError: if the shapes do not fit together.
    """
    rows, nodes, vocabulary = logits.shape
    if tokens.shape != (rows, nodes) or ancestors.shape != (rows, nodes) or nodes > 64:
        raise InputError("tokens and ancestors must be [B, T], T at most 64.")
    if counts.shape != (rows, vocabulary) or prompt.shape != (rows, vocabulary):
        raise InputError("counts and prompt must be [B, V].")
    if allowed.shape != (rows, nodes, -(-vocabulary // 32)) or settings.shape != (rows, 4):
        raise InputError("allowed must be [B, T, ceil(V / 32)] and settings [B, 4].")
    given = (logits, tokens, ancestors, counts, prompt, settings, allowed, banned)

    def kernel() -> torch.Tensor:
        from codegen.kernels.gpu.logits import launch_adjust

        return launch_adjust(*given)

    return run("adjust_logits", logits, kernel, lambda: reference_adjust(*given), close)


def reference_adjust(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    ancestors: torch.Tensor,
    counts: torch.Tensor,
    prompt: torch.Tensor,
    settings: torch.Tensor,
    allowed: torch.Tensor,
    banned: torch.Tensor,
) -> torch.Tensor:
    """The same on whole tensors."""
    rows, nodes, vocabulary = logits.shape
    x = logits.float()
    bits = torch.arange(nodes, device=x.device)
    sees = (ancestors[:, :, None] >> bits) & 1  # [B, T, T]
    generated = counts[:, None].repeat(1, nodes, 1).long()
    generated.scatter_add_(2, tokens[:, None].expand(-1, nodes, -1), sees)
    repetition, frequency, presence, temperature = settings[:, :, None, None].unbind(1)
    seen = (generated > 0) | prompt[:, None]
    x = torch.where(seen, torch.where(x > 0, x / repetition, x * repetition), x)
    x = x - frequency * generated - presence * (generated > 0)
    x = x / torch.where(temperature > 0, temperature, 1.0)
    token = torch.arange(vocabulary, device=x.device)
    permitted = (allowed.gather(2, (token // 32).expand(rows, nodes, -1)) >> token % 32) & 1 == 1
    out = torch.zeros(rows, vocabulary + 1, dtype=torch.bool, device=x.device)
    out.scatter_(1, torch.where(banned < 0, vocabulary, banned), True)
    return x.masked_fill(~permitted | out[:, None, :-1], -torch.inf)


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
        from codegen.kernels.gpu.logits import launch_top_k

        return Drawn(*launch_top_k(*given))

    plainly = functools.partial(reference_top_k, *given)
    return run("gumbel_top_k", log_probs, kernel, plainly, close, variant=(k,))


def reference_top_k(
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
