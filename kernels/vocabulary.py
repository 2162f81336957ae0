"""Operations over the vocabulary: penalties, sampling without replacement, draft acceptance.

- :func:`penalize` applies repetition penalties in one pass.
- :func:`gumbel_top_k` samples tokens without replacement, in sampling order (arXiv 1903.06059): the
  k largest log-probabilities with Gumbel noise, in descending order. Recursive rejection needs that
  order.
- :func:`gumbel` makes noise that depends only on (seed, request, position, token), so a sample
  is the same in any batch and for any order of blocks. Philox4x32-10 (Salmon et al. 2011) maps a
  counter and a key to random bits; the key is the seed, the counter is (token, position, request,
  0). It is the plain version of the noise in ``gpu/vocabulary.py``, with the same bits, and
  logarithms equal to within rounding.
- :func:`accept_greedy` and :func:`accept_tree` return the accepted drafted tokens, greedily or
  from trees sampled without replacement.

Recursive rejection (arXiv 2402.14160): siblings are tried in sampling order. Token x is accepted
with probability min(1, q(x) / p(x)); each rejection replaces q by the normalized positive part of
q - p and removes the token from p. One such step turns a sample from p into one from q, so by
induction over siblings and levels the emitted tokens follow the target. A chain (arXiv 2211.17192)
is a tree with one child per node.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from codegen.core.errors import InputError
from codegen.kernels.backend import close, equal, run

MOST = 16  # maximum tokens per row

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
        amounts: float64 [3, N], a, b and c for each pair.
    """
    given = (rows, ids, amounts)

    def kernel(onto: torch.Tensor) -> torch.Tensor:
        from codegen.kernels.gpu.vocabulary import launch_penalize

        return launch_penalize(onto, *given)

    run(
        "penalize",
        logits,
        lambda: kernel(logits),
        lambda: reference_penalize(logits, *given),
        close,
        rehearse=lambda: kernel(logits.clone()),
    )


def reference_penalize(
    logits: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor, amounts: torch.Tensor
) -> torch.Tensor:
    """Gathers and scatters the logits; returns ``logits``."""
    above, below, added = amounts.float()
    old = logits[rows, ids]
    logits[rows, ids] = (torch.where(old > 0, old * above, old * below) + added).to(logits.dtype)
    return logits


class SampledTokens(NamedTuple):
    """Sampled tokens, in descending order of their keys.

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
) -> SampledTokens:
    """Samples k tokens per row; ties: the lowest token first.

    Args:
        log_probs: [R, V], any float type; -inf forbids a token. A row may be off by a constant.
        k: 1 to 16.
        seeds, requests, positions: int64 [R], which make rows' noise distinct; the low 32 bits of
            the last two are used. Tree nodes at the same depth need different numbers.

    Raises:
        InputError: if k is out of range or larger than V.
    """
    if not 1 <= k <= min(MOST, log_probs.shape[1]):
        raise InputError(f"k is {k}; it must be from 1 to {MOST} and at most the vocabulary size.")
    given = (log_probs, k, seeds, requests, positions)

    def kernel() -> SampledTokens:
        from codegen.kernels.gpu.vocabulary import launch_top_k

        return SampledTokens(*launch_top_k(*given))

    plainly = functools.partial(reference_top_k, *given)
    return run("gumbel_top_k", log_probs, kernel, plainly, close, variant=lambda: (k,))


def reference_top_k(
    log_probs: torch.Tensor,
    k: int,
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
) -> SampledTokens:
    """Computes :func:`gumbel_top_k` by sorting."""
    wide = log_probs.float()
    keys = wide + gumbel(seeds, requests, positions, wide.shape[1])
    keys, tokens = keys.sort(dim=-1, descending=True, stable=True)
    keys, tokens = keys[:, :k], tokens[:, :k]
    alive = keys > -torch.inf
    return SampledTokens(torch.where(alive, tokens, -1), keys, wide.gather(1, tokens))


def philox(
    seeds: torch.Tensor, c0: torch.Tensor, c1: torch.Tensor, c2: torch.Tensor, c3: torch.Tensor
) -> torch.Tensor:
    """Returns the first of four words, int64 in [0, 2^32); all arguments int64, shapes broadcast.

    Args:
        seeds: 64-bit keys.
        c0, c1, c2, c3: the counter's words, of which the low 32 bits are used.
    """
    k0, k1 = seeds & _MASK, (seeds >> 32) & _MASK
    c0, c1, c2, c3 = (c & _MASK for c in (c0, c1, c2, c3))
    for _ in range(10):
        # int64 products wrap around, but their 64 bits are correct.
        a, b = c0 * _ROUND_A, c2 * _ROUND_B
        c0, c1 = ((b >> 32) & _MASK) ^ c1 ^ k0, b & _MASK
        c2, c3 = ((a >> 32) & _MASK) ^ c3 ^ k1, a & _MASK
        k0, k1 = (k0 + _KEY_A) & _MASK, (k1 + _KEY_B) & _MASK
    return c0


def gumbel(
    seeds: torch.Tensor, requests: torch.Tensor, positions: torch.Tensor, vocabulary: int
) -> torch.Tensor:
    """Returns standard Gumbel variables, float32 [R, V].

    -log of an exponential variable -log(1 - v). Floats v are finest near 0, which yields the top
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
    # log1p(-v) by Kahan's formula, which does not need a GPU library.
    exponential = torch.where(rest == 1, v, torch.log(rest) * v / (rest - 1))
    return -torch.log(exponential)


TINY = 1e-12  # a smaller mass of q - p is a rounding error


class AcceptedDrafts(NamedTuple):
    """The result of verifying a batch of drafts.

    Attributes:
        path: int64 [B, depth], the accepted nodes from the top, padded with -1; node 0 is the token
            before the draft.
        length: int64 [B], the number of accepted nodes.
        token: int64 [B], the token that the target adds.
    """

    path: torch.Tensor
    length: torch.Tensor
    token: torch.Tensor


def accept_tree(
    children: torch.Tensor,
    tokens: torch.Tensor,
    depths: torch.Tensor,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    last: torch.Tensor,
) -> AcceptedDrafts:
    """Accepts a path of each tree by recursive rejection.

    Args:
        children: int64 [B, N+1, K], each node's children in sampling order, padded with -1.
        tokens: tokens of nodes 1 .. N, int64 [B, N].
        depths: depths of nodes 0 .. N, int64 [B, N+1].
        target: the target's probabilities after each node, [B, N+1, V], any float dtype.
        draft: probabilities used to sample the children of nodes 0 .. M-1, [B, M, V].
        uniforms: float64 [B, depth, K] in [0, 1).
        last: float64 [B] in [0, 1), selects the target's own token.

    Raises:
        InputError: if the shapes do not fit together.
    """
    rows, nodes, most = children.shape
    if tokens.shape != (rows, nodes - 1) or target.shape[:2] != (rows, nodes):
        raise InputError(f"{nodes} nodes require {nodes} target rows and {nodes - 1} tokens.")
    fits = depths.shape == (rows, nodes) and (draft.shape[0], draft.shape[2]) == target.shape[::2]
    if not fits or uniforms.shape[2] < most:
        raise InputError("depths must be [B, N+1], draft [B, M, V] and uniforms [B, depth, K].")
    given = (children, tokens, target, draft, uniforms, last)

    def kernel() -> AcceptedDrafts:
        from codegen.kernels.gpu.vocabulary import launch_tree

        return AcceptedDrafts(*launch_tree(children, tokens, depths, *given[2:]))

    return run(
        "accept_tree",
        target,
        kernel,
        lambda: reference_tree(*given),
        equal,
        variant=lambda: (most,),
    )


def reference_tree(
    children: torch.Tensor,
    tokens: torch.Tensor,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    last: torch.Tensor,
) -> AcceptedDrafts:
    """Applies recursive rejection (arXiv 2402.14160) to all rows at once, child by child.

    q is the distribution that the next token must follow; p is the siblings' sampling
    distribution.
    """
    rows, depth = len(children), uniforms.shape[1]
    every = torch.arange(rows, device=children.device)
    node = torch.zeros_like(every)  # each row's node, [B]
    active = torch.ones_like(every, dtype=torch.bool)
    path = children.new_full((rows, depth), -1)
    tokens = torch.cat([tokens.new_zeros(rows, 1), tokens], 1)  # nodes 0 .. N, [B, N+1]
    q = target[:, 0].float()  # [B, V]
    for level in range(depth):
        p = draft[every, node.clamp(max=draft.shape[1] - 1)].float()  # [B, V]
        trying, accepted, below = active.clone(), torch.zeros_like(active), node
        for i in range(children.shape[2]):
            child = children[every, node, i]  # [B], -1 for none
            here = trying & (child >= 0)
            x = tokens[every, child.clamp(min=0)][:, None]  # the child's token, [B, 1]
            # Accepted with probability min(1, q(x) / p(x)).
            chance = uniforms[:, level, i] * p.gather(1, x)[:, 0]
            good = here & (chance < q.gather(1, x)[:, 0])
            accepted, below = accepted | good, torch.where(good, child, below)
            # Rejected: q becomes norm(max(q - p, 0)); p loses x and is normalized.
            bad = here & ~good
            q = torch.where(bad[:, None], _residual(q, p), q)
            rest = p.scatter(1, x, 0.0)
            mass = rest.sum(-1, keepdim=True)
            p = torch.where(bad[:, None] & (mass > 0), rest / mass, p)
            trying &= ~good & ~(bad & (mass[:, 0] <= 0))
        path[:, level] = torch.where(accepted, below, -1)
        q = torch.where(accepted[:, None], target[every, below].float(), q)
        node, active = below, active & accepted
    return AcceptedDrafts(path, (path >= 0).sum(1), inverse_transform(q, last))


def _residual(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Returns the normalized positive part of q - p; q if only rounding errors remain."""
    left = (q - p).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > TINY, left / mass, q)


def accept_greedy(
    tokens: torch.Tensor, parents: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Follows each tree's path along the tokens that the target chose.

    A node is accepted iff its parent is accepted and it is the token chosen after its parent.

    Args:
        tokens: tokens of nodes 0 .. W-1, int64 [B, W].
        parents: int64 [B, W], smaller than the node's number; -1 for node 0 and for padding.
            Siblings have different tokens.
        chosen: int64 [B, W], the target's token after each node.

    Returns:
        The accepted nodes below node 0, ascending, padded with -1, int64 [B, W-1].
    """
    given = (tokens, parents, chosen)

    def kernel() -> torch.Tensor:
        from codegen.kernels.gpu.vocabulary import launch_greedy

        return launch_greedy(*given)

    return run("accept_greedy", tokens, kernel, lambda: reference_greedy(*given), equal)


def reference_greedy(
    tokens: torch.Tensor, parents: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Computes :func:`accept_greedy` in PyTorch; each step doubles the distance to ancestors."""
    width = tokens.shape[1]
    above = parents.clamp(min=0)
    accepted = (parents >= 0) & (tokens == chosen.gather(1, above))
    accepted[:, 0] = True
    for _ in range((width - 1).bit_length()):
        accepted &= accepted.gather(1, above)
        above = above.gather(1, above)
    number = torch.arange(width, device=tokens.device)
    path = torch.where(accepted, number, width).sort(1).values[:, 1:]
    return path.where(path < width, -1)


def inverse_transform(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Samples by inverse transform from rows that need not sum to one.

    Args:
        probabilities: [B, K].
        uniforms: [B] in [0, 1).

    Returns:
        int64 [B].
    """
    cumulative = probabilities.double().cumsum(-1)
    target = uniforms[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True)[:, 0]
    # u * total can round up to the total; then the last token with any mass is taken.
    last = (probabilities > 0).cumsum(-1).argmax(-1)
    return torch.minimum(index, last)
