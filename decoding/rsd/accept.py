"""Recursive rejection sampling down a tree of drafts (arXiv 2402.14160).

At a node the children are tried in the order drawn. The i-th, a sample from p_i, is accepted with
probability min(1, q_i / p_i); if it is not, the target's q_i gives way to the normalised positive
part of q_i - p_i, and p_i to itself without that token. One such step turns a sample from p_i into
one from q_i, so by induction over siblings and levels what is emitted follows the target.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from codegen.decoding.rsd.trees import Tree
from codegen.decoding.sampling import inverse_transform

_TINY = 1e-12  # mass of q - p below which it is rounding


class Accepted(NamedTuple):
    """What came of a batch of trees.

    Attributes:
        path: int64 [B, depth], the accepted nodes from the top, -1 behind the last.
        token: int64 [B], the token that the target adds.
    """

    path: torch.Tensor
    token: torch.Tensor


def accept(
    tree: Tree,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    last: torch.Tensor,
) -> Accepted:
    """Walks down the trees, without a transfer to the host.

    Args:
        tree: the drafts.
        target: probabilities [B, N+1, V] of what follows each node.
        draft: those by which the children of nodes 0 .. M-1 were drawn, [B, M, V]; the nodes of the
            last level have none.
        uniforms: [B, depth, K] in [0, 1), K the most children of a node, or more.
        last: [B] in [0, 1), for the target's own token.
    """
    children = tree.children()
    rows, every = len(children), torch.arange(len(children), device=children.device)
    node = torch.zeros(rows, dtype=torch.long, device=children.device)
    active = torch.ones(rows, dtype=torch.bool, device=children.device)
    path = children.new_full((rows, len(tree.widths)), -1)
    tokens = torch.cat([tree.tokens.new_zeros(rows, 1), tree.tokens], 1)
    q = target[:, 0]
    for level in range(len(tree.widths)):
        p = draft[every, node.clamp(max=draft.shape[1] - 1)]
        trying, accepted, below = active.clone(), torch.zeros_like(active), node
        for i in range(children.shape[2]):
            child = children[every, node, i]
            here = trying & (child >= 0)
            token = tokens[every, child.clamp(min=0)][:, None]
            chance = uniforms[:, level, i] * p.gather(1, token)[:, 0]
            good = here & (chance < q.gather(1, token)[:, 0])
            accepted, below = accepted | good, torch.where(good, child, below)
            bad = here & ~good
            q = torch.where(bad[:, None], _residual(q, p), q)
            rest = p.scatter(1, token, 0.0)
            mass = rest.sum(-1, keepdim=True)
            p = torch.where(bad[:, None] & (mass > 0), rest / mass, p)
            trying &= ~good & ~(bad & (mass[:, 0] <= 0))
        path[:, level] = torch.where(accepted, below, -1)
        q = torch.where(accepted[:, None], target[every, below], q)
        node, active = below, active & accepted
    return Accepted(path, inverse_transform(q, last))


def _residual(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """The positive part of q - p, normalised; q where rounding is all that is left."""
    left = (q - p).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > _TINY, left / mass, q)
