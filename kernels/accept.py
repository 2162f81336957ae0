"""Which drafted tokens are accepted: of chains, of trees drawn without replacement, greedily.

A chain (arXiv 2211.17192): token j is accepted with probability min(1, q_j / p_j); the first that
is not is replaced by a sample from the positive part of q - p, after a whole chain follows one from
q. A tree (recursive rejection, arXiv 2402.14160): siblings are tried in the order drawn, and each
rejection turns q into the normalized positive part of q - p and takes the token out of p. One such
step turns a sample from p into one from q, so by induction over siblings and levels what is emitted
follows the target.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from codegen.errors import InputError
from codegen.kernels.backend import equal, run
from codegen.kernels.logits import ACCEPT, gumbel

TINY = 1e-12  # mass of q - p below which it is rounding


class Accepted(NamedTuple):
    """What came of a batch of drafts.

    Attributes:
        path: int64 [B, depth], the accepted nodes from the top, -1 behind the last; node 0 is the
            token before the draft.
        length: int64 [B], how many they are.
        token: int64 [B], the token that the target adds.
    """

    path: torch.Tensor
    length: torch.Tensor
    token: torch.Tensor


def accept_tree(
    children: torch.Tensor,
    tokens: torch.Tensor,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    last: torch.Tensor,
) -> Accepted:
    """Walks down trees.

    Args:
        children: int64 [B, N+1, K], each node's in the order drawn, -1 behind the last.
        tokens: int64 [B, N], of nodes 1 .. N.
        target: probabilities [B, N+1, V] of what follows each node, any float type.
        draft: those by which the children of nodes 0 .. M-1 were drawn, [B, M, V].
        uniforms: float64 [B, depth, K] in [0, 1).
        last: float64 [B] in [0, 1), for the target's own token.

    Raises:
        InputError: if the shapes do not fit together.
    """
    rows, nodes, most = children.shape
    if tokens.shape != (rows, nodes - 1) or target.shape[:2] != (rows, nodes):
        raise InputError(f"A tree of {nodes} nodes needs as many target rows and tokens less one.")
    if draft.shape[0] != rows or draft.shape[2] != target.shape[2] or uniforms.shape[2] < most:
        raise InputError("draft must be [B, M, V] and uniforms [B, depth, K].")
    given = (children, tokens, target, draft, uniforms, last)

    def kernel() -> Accepted:
        from codegen.kernels.gpu.accept import launch_tree

        return Accepted(*launch_tree(*given))

    return run("accept_tree", target, kernel, lambda: reference_tree(*given), equal)


def reference_tree(
    children: torch.Tensor,
    tokens: torch.Tensor,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    last: torch.Tensor,
) -> Accepted:
    """Recursive rejection (arXiv 2402.14160), all rows at once, a child at a time.

    q is what the next token has to follow, p the distribution that the siblings were drawn by.
    """
    rows, depth = len(children), uniforms.shape[1]
    every = torch.arange(rows, device=children.device)
    node = torch.zeros_like(every)  # where each row is, [B]
    active = torch.ones_like(every, dtype=torch.bool)
    path = children.new_full((rows, depth), -1)
    tokens = torch.cat([tokens.new_zeros(rows, 1), tokens], 1)  # of nodes 0 .. N, [B, N+1]
    q = target[:, 0].float()  # [B, V]
    for level in range(depth):
        p = draft[every, node.clamp(max=draft.shape[1] - 1)].float()  # [B, V]
        trying, accepted, below = active.clone(), torch.zeros_like(active), node
        for i in range(children.shape[2]):
            child = children[every, node, i]  # [B], -1 behind the last
            here = trying & (child >= 0)
            x = tokens[every, child.clamp(min=0)][:, None]  # its token, [B, 1]
            # Accepted with probability min(1, q(x) / p(x)).
            chance = uniforms[:, level, i] * p.gather(1, x)[:, 0]
            good = here & (chance < q.gather(1, x)[:, 0])
            accepted, below = accepted | good, torch.where(good, child, below)
            # Rejected: q becomes norm(max(q - p, 0)), and p loses x and is normalized.
            bad = here & ~good
            q = torch.where(bad[:, None], _residual(q, p), q)
            rest = p.scatter(1, x, 0.0)
            mass = rest.sum(-1, keepdim=True)
            p = torch.where(bad[:, None] & (mass > 0), rest / mass, p)
            trying &= ~good & ~(bad & (mass[:, 0] <= 0))
        path[:, level] = torch.where(accepted, below, -1)
        q = torch.where(accepted[:, None], target[every, below].float(), q)
        node, active = below, active & accepted
    return Accepted(path, (path >= 0).sum(1), inverse_transform(q, last))


def _residual(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """The positive part of q - p, normalized; q where rounding is all that is left."""
    left = (q - p).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > TINY, left / mass, q)


def accept_greedy(
    children: torch.Tensor, tokens: torch.Tensor, best: torch.Tensor, depth: int
) -> Accepted:
    """Walks down trees along the target's most probable tokens; no probabilities are read.

    Args:
        children, tokens: see :func:`accept_tree`.
        best: int64 [B, N+1], the target's choice after each node.
        depth: most levels of a tree.
    """
    given = (children, tokens, best, depth)

    def kernel() -> Accepted:
        from codegen.kernels.gpu.accept import launch_greedy

        return Accepted(*launch_greedy(*given))

    plainly = functools.partial(reference_greedy, *given)
    return run("accept_greedy", best, kernel, plainly, equal, variant=(children.shape[2],))


def reference_greedy(
    children: torch.Tensor, tokens: torch.Tensor, best: torch.Tensor, depth: int
) -> Accepted:
    """The same, a level at a time."""
    rows = len(children)
    every = torch.arange(rows, device=children.device)
    node = children.new_zeros(rows)
    active = torch.ones_like(node, dtype=torch.bool)
    path = children.new_full((rows, depth), -1)
    padded = torch.cat([tokens.new_zeros(rows, 1), tokens], 1)
    for level in range(depth):
        below = children[every, node]  # [B, K]
        good = (below >= 0) & (padded.gather(1, below.clamp(min=0)) == best[every, node][:, None])
        active = active & good.any(1)
        node = torch.where(active, below[every, good.long().argmax(1)], node)
        path[:, level] = torch.where(active, node, -1)
    return Accepted(path, (path >= 0).sum(1), best[every, node])


def accept_chain(
    tokens: torch.Tensor,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
) -> Accepted:
    """Goes along chains of any lengths; the target's token is the largest of Gumbel variables.

    Args:
        tokens: int64 [B, K], -1 behind a row's last.
        target: probabilities [B, K+1, V], any float type.
        draft: those by which the tokens were drawn, [B, K, V]; one-hot for drafts without a model.
        uniforms: float64 [B, K] in [0, 1).
        seeds, requests, positions: int64 [B], for the noise (:mod:`codegen.kernels.logits`);
            ``positions`` are those of ``tokens[:, 0]``.

    Raises:
        InputError: if the shapes do not fit together.
    """
    rows, most = tokens.shape
    if target.shape[:2] != (rows, most + 1) or draft.shape != (rows, most, target.shape[2]):
        raise InputError(f"Chains of {most} tokens need {most + 1} target rows and {most} drafts.")
    given = (tokens, target, draft, uniforms, seeds, requests, positions)

    def kernel() -> Accepted:
        from codegen.kernels.gpu.accept import launch_chain

        return Accepted(*launch_chain(*given))

    return run("accept_chain", target, kernel, lambda: reference_chain(*given), equal)


def reference_chain(
    tokens: torch.Tensor,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
) -> Accepted:
    """Speculative sampling (arXiv 2211.17192, algorithm 1) on whole tensors."""
    rows, most = tokens.shape
    every = torch.arange(rows, device=tokens.device)
    at = tokens.clamp(min=0)[..., None]
    p, q = (x[:, :most].float().gather(2, at)[..., 0] for x in (draft, target))  # [B, K]
    good = (tokens >= 0) & (uniforms * p < q)  # with probability min(1, q / p)
    count = good.long().cumprod(1).sum(1)  # tokens before the first rejection, [B]
    rejected = (count < most) & (tokens[every, count.clamp(max=most - 1)] >= 0)
    q = target[every, count].float()  # [B, V]
    left = (q - draft[every, count.clamp(max=most - 1)].float()).clamp(min=0)
    use = rejected & (left.sum(-1) > TINY)
    weights = torch.where(use[:, None], left, q)
    noise = gumbel(seeds, requests, positions + count, target.shape[2], ACCEPT)
    steps = torch.arange(1, most + 1, device=tokens.device)
    path = torch.where(steps <= count[:, None], steps, -1)
    return Accepted(path, count, (weights.log() + noise).argmax(-1))


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
