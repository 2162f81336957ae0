"""Which drafted tokens are accepted: from trees drawn without replacement, or greedily.

Recursive rejection (arXiv 2402.14160): siblings are tried in the order drawn. Token x is accepted
with probability min(1, q(x) / p(x)); each rejection replaces q by the normalized positive part of
q - p and removes the token from p. One such step turns a sample from p into one from q, so by
induction over siblings and levels the emitted tokens follow the target. A chain (arXiv 2211.17192)
is a tree with one child per node.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from codegen.errors import InputError
from codegen.kernels.backend import equal, run

TINY = 1e-12  # a smaller mass of q - p is rounding


class Accepted(NamedTuple):
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
) -> Accepted:
    """Accepts a path of each tree by recursive rejection.

    Args:
        children: int64 [B, N+1, K], each node's children in the order drawn, padded with -1.
        tokens: int64 [B, N], of nodes 1 .. N.
        depths: int64 [B, N+1], of nodes 0 .. N.
        target: the target's probabilities after each node, [B, N+1, V], any float dtype.
        draft: the probabilities by which the children of nodes 0 .. M-1 were drawn, [B, M, V].
        uniforms: float64 [B, depth, K] in [0, 1).
        last: float64 [B] in [0, 1), for the target's own token.

    Raises:
        InputError: if the shapes do not fit together.
    """
    rows, nodes, most = children.shape
    if tokens.shape != (rows, nodes - 1) or target.shape[:2] != (rows, nodes):
        raise InputError(f"A tree of {nodes} nodes needs as many target rows and tokens less one.")
    if depths.shape != (rows, nodes):
        raise InputError("depths must be [B, N+1].")
    if draft.shape[0] != rows or draft.shape[2] != target.shape[2] or uniforms.shape[2] < most:
        raise InputError("draft must be [B, M, V] and uniforms [B, depth, K].")
    given = (children, tokens, target, draft, uniforms, last)

    def kernel() -> Accepted:
        from codegen.kernels.gpu.accept import launch_tree

        return Accepted(*launch_tree(children, tokens, depths, *given[2:]))

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
) -> Accepted:
    """Recursive rejection (arXiv 2402.14160), for all rows at once, child by child.

    q is the distribution that the next token must follow; p is the one the siblings were drawn
    from.
    """
    rows, depth = len(children), uniforms.shape[1]
    every = torch.arange(rows, device=children.device)
    node = torch.zeros_like(every)  # where each row is, [B]
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
            x = tokens[every, child.clamp(min=0)][:, None]  # its token, [B, 1]
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
    return Accepted(path, (path >= 0).sum(1), inverse_transform(q, last))


def _residual(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """The positive part of q - p, normalized; q where only rounding errors are left."""
    left = (q - p).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > TINY, left / mass, q)


def accept_greedy(
    tokens: torch.Tensor, parents: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """The path down each tree along the tokens that the target chose.

    A node is accepted iff its parent is accepted and it is the token chosen after its parent.

    Args:
        tokens: int64 [B, W], of nodes 0 .. W-1.
        parents: int64 [B, W], smaller than the node's number; -1 for node 0 and for padding.
            Siblings have different tokens.
        chosen: int64 [B, W], the target's token after each node.

    Returns:
        The accepted nodes below node 0, ascending, padded with -1, int64 [B, W-1].
    """
    given = (tokens, parents, chosen)

    def kernel() -> torch.Tensor:
        from codegen.kernels.gpu.accept import launch_greedy

        return launch_greedy(*given)

    return run("accept_greedy", tokens, kernel, lambda: reference_greedy(*given), equal)


def reference_greedy(
    tokens: torch.Tensor, parents: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """The same with PyTorch; each step looks twice as far up."""
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
    """Inverse-transform sampling from rows that need not sum to one.

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
