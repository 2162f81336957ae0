"""Attention that verifies trees of drafts: a row's prefix, and of the tree a node's ancestors.

Row b's prefix lies in slots 0 .. n_b - 1 of the cache and its T nodes in the T slots behind; T
differs not by row, n_b does. A chain is a tree in which all earlier nodes are ancestors, and plain
decoding one with T = 1. Heads are grouped (GQA, arXiv 2305.13245).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from codegen.errors import InputError
from codegen.kernels.backend import close, run

MOST_NODES = 64  # bits of a mask


def tree_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    ancestors: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """Softmax attention, [B, T, Hq, D] in the type of ``q``.

    Args:
        q: [B, T, Hq, D], with T from 1 to 64.
        keys, values: [B, Hkv, S, D], S at least the longest prefix and T; the nodes' own states are
            in them. Hq is a multiple of Hkv.
        lengths: int64 [B], the prefixes' n_b.
        ancestors: int64 [B, T], 64 bits: bit j says whether node i sees node j. It always sees
            itself. :func:`pack` makes them.
        scale: of the scores, by default D ** -0.5.

    Raises:
        InputError: if the shapes do not fit together.
    """
    _check(q, keys, values, lengths, ancestors)
    given = (q, keys, values, lengths, ancestors, scale or q.shape[-1] ** -0.5)

    def kernel() -> torch.Tensor:
        from codegen.kernels.gpu.tree_attention import launch

        return launch(*given)

    shape = (q.shape[1], q.shape[2] // keys.shape[1])
    return run("tree_attention", q, kernel, lambda: reference(*given), close, variant=shape)


def reference(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    ancestors: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """The same by PyTorch's attention with a dense mask."""
    nodes = q.shape[1]
    number = torch.arange(nodes, device=q.device)
    among = (ancestors[:, :, None] >> number) & 1 == 1
    among = among | torch.eye(nodes, dtype=torch.bool, device=q.device)
    node = torch.arange(keys.shape[2], device=q.device) - lengths[:, None]  # [B, S]
    index = node.clamp(0, nodes - 1)[:, None, :].expand(-1, nodes, -1)
    inside = ((node >= 0) & (node < nodes))[:, None, :]
    mask = (node < 0)[:, None, :] | (inside & among.gather(2, index))
    found = functional.scaled_dot_product_attention(
        q.transpose(1, 2), keys, values, attn_mask=mask[:, None], scale=scale, enable_gqa=True
    )
    return found.transpose(1, 2)


def pack(among: torch.Tensor) -> torch.Tensor:
    """Masks bool [B, T, T] (does node i see node j?) as int64 [B, T]."""
    bits = torch.arange(among.shape[-1], device=among.device)
    return (among.long() << bits).sum(-1)


def _check(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    ancestors: torch.Tensor,
) -> None:
    rows, nodes, heads, dim = q.shape
    if not 1 <= nodes <= MOST_NODES:
        raise InputError(f"A tree of {nodes} nodes does not fit a mask of 64 bits.", "Split it.")
    if keys.shape != values.shape or keys.shape[0] != rows or keys.shape[3] != dim:
        raise InputError(
            f"Queries {tuple(q.shape)}, keys {tuple(keys.shape)} and values {tuple(values.shape)}"
            " do not fit together.",
            "Give [B, T, Hq, D] and twice [B, Hkv, S, D].",
        )
    if heads % keys.shape[1]:
        raise InputError(f"{heads} query heads can't share {keys.shape[1]} key heads evenly.")
    if lengths.shape != (rows,) or ancestors.shape != (rows, nodes):
        raise InputError("lengths must be [B] and ancestors [B, T].")
