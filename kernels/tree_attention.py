"""Attention for draft trees: a node attends to its row's prefix and its ancestors.

Row b's prefix is in slots 0 .. n_b - 1 of the cache, and the W nodes of its tree are in the next W
slots; W is the same for all rows. A chain is a tree in which all earlier nodes are ancestors; plain
decoding is a tree with W = 1. Heads are grouped (GQA, arXiv 2305.13245).

Each row of a table (:func:`pack`) describes the visible nodes of one node; the table replaces a
mask over all slots. Its size is fixed, and only its values change between rounds.

A cache is contiguous, [B, Hkv, S, D], or paged (arXiv 2309.06180): [1, Hkv, P, D] for all rows
together, where a row's pages of :data:`PAGE` slots may be anywhere. The table then has page starts.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from codegen.core.errors import InputError
from codegen.kernels.backend import BITS, DEPTH, FIRST, LENGTH, PAGE, STARTS, close, run

MOST_NODES = 64  # bits of an int64


def pack(
    lengths: torch.Tensor, among: torch.Tensor, starts: torch.Tensor | None = None
) -> torch.Tensor:
    """Builds a batch's table of trees, int64 [B, W, 4], or [B, W, 4 + N] for a paged cache.

    A node's row has the prefix's length n_b, the bits of the nodes that it attends to (including
    itself), its depth, its first visible position, which is 0 here (:func:`narrow`), and the
    starts of the pages.

    Args:
        lengths: int64 [B], n_b of each prefix.
        among: True if node i attends to node j, bool [B, W, W] or [1, W, W] for all rows; true on
            the diagonal. W is at most 64.
        starts: for a paged cache, the first slot of each page of a row, int64 [B, N].
    """
    bits = (among.long() << torch.arange(among.shape[-1], device=among.device)).sum(-1)
    depths = among.sum(-1) - 1
    columns = torch.stack([torch.zeros_like(bits), bits, depths, torch.zeros_like(bits)], -1)
    table = columns.repeat(len(lengths) // len(among), 1, 1)
    table[..., LENGTH] = lengths[:, None]
    if starts is None:
        return table
    return torch.cat([table, starts[:, None].expand(-1, table.shape[1], -1)], -1)


def narrow(
    table: torch.Tensor, *, window: int | None = None, chunk: int | None = None
) -> torch.Tensor:
    """Restricts the table to the last ``window`` positions, including a node's own, or
    to the node's chunk of ``chunk`` positions.
    """
    positions = table[..., LENGTH] + table[..., DEPTH]
    if window is not None:
        first = (positions - window + 1).clamp(min=0)
    else:
        assert chunk is not None
        first = positions - positions % chunk
    return torch.cat([table[..., :FIRST], first[..., None], table[..., STARTS:]], -1)


def dense(table: torch.Tensor, queries: int, slots: int) -> torch.Tensor:
    """Converts the table to a mask, bool [B, T, S], of the trees' last T nodes over S slots."""
    nodes = table.shape[1]
    length, seen = table[:, :1, LENGTH], table[:, -queries:]  # [B, 1], [B, T, 4]
    slot = torch.arange(slots, device=table.device)
    node = slot - length  # the node in each slot, [B, S]
    inside = (node >= 0) & (node < nodes)
    index = node.clamp(0, nodes - 1)
    position = torch.where(inside, length + table[..., DEPTH].gather(1, index), slot)
    among = (seen[..., BITS, None] >> index[:, None]) & 1 == 1
    visible = torch.where(inside[:, None], among, (node < 0)[:, None])
    return visible & (position[:, None] >= seen[..., FIRST, None])


def by_rows(states: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Returns keys or values as [B, Hkv, S, D], gathered from a paged cache, else unchanged."""
    starts = table[:, 0, STARTS:]
    if not starts.shape[1]:
        return states
    slots = starts[..., None] + torch.arange(PAGE, device=starts.device)  # [B, N, PAGE]
    return states[0][:, slots.flatten(1)].transpose(0, 1)


def tree_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    scale: float | None = None,
    cap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Computes softmax attention, [B, T, Hq, D'] in the dtype of ``q``.

    Args:
        q: queries of the last T nodes of each tree, [B, T, Hq, D].
        keys, values: [B, Hkv, S, D] and [B, Hkv, S, D'], of any strides, including the nodes' own
            states; for a paged cache [1, Hkv, P, D] and [1, Hkv, P, D']. Hq is a multiple of Hkv.
        table: int64 [B, W, 4 or more], from :func:`pack`; W is at least T.
        scale: factor of the scores, by default D ** -0.5.
        cap: scores s become cap * tanh(s / cap) (Gemma 2, arXiv 2408.00118).
        sinks: [Hq], scores of a key without a value that every query attends to (gpt-oss).

    Raises:
        InputError: if the shapes do not fit together.
    """
    _check(q, keys, values, table)
    given = (q, keys, values, table, scale or q.shape[-1] ** -0.5, cap, sinks)

    def kernel() -> torch.Tensor:
        from codegen.kernels.gpu.tree_attention import launch

        return launch(*given)

    def variant() -> tuple[int, ...]:
        from codegen.kernels.gpu.tree_attention import settings_of, tree_settings

        chosen = settings_of(q, keys, values)
        block_t = tree_settings(chosen, table.shape[1], q.shape[3])["BLOCK_T"]
        group = q.shape[2] // keys.shape[1]
        paged = table.shape[2] > STARTS
        return (group, cap is not None, sinks is not None, paged, block_t, *chosen.values())

    return run("tree_attention", q, kernel, lambda: reference(*given), close, variant=variant)


def reference(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    scale: float | None = None,
    cap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Computes :func:`tree_attention` with a dense mask."""
    keys, values = by_rows(keys, table), by_rows(values, table)
    mask = dense(table, q.shape[1], keys.shape[2])[:, None]
    q = q.transpose(1, 2)
    if cap is None and sinks is None:
        found = functional.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, scale=scale, enable_gqa=True
        )
        return found.transpose(1, 2)
    group = q.shape[1] // keys.shape[1]
    keys, values = (states.repeat_interleave(group, 1) for states in (keys, values))
    scores = (q @ keys.transpose(2, 3)).float() * (scale or q.shape[-1] ** -0.5)
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~mask, -torch.inf)
    if sinks is not None:
        extra = sinks.float()[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, extra], -1)
    weights = torch.softmax(scores, -1)[..., : keys.shape[2]]
    return (weights.to(values.dtype) @ values).transpose(1, 2)


def _check(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor) -> None:
    rows, queries, heads, dim = q.shape
    nodes = table.shape[1]
    if not queries <= nodes <= MOST_NODES or queries < 1:
        raise InputError(
            f"{queries} queries of a tree of {nodes} nodes are not supported.",
            f"Pass 1 to {MOST_NODES} nodes, and at most as many queries.",
        )
    together = 1 if table.shape[-1] > STARTS else rows
    if keys.shape[:3] != values.shape[:3] or keys.shape[::3] != (together, dim):
        raise InputError(
            f"Queries {tuple(q.shape)}, keys {tuple(keys.shape)} and values {tuple(values.shape)}"
            " do not fit together.",
            "Pass [B, T, Hq, D], [B, Hkv, S, D] and [B, Hkv, S, D']; 1 for B of a paged cache.",
        )
    if heads % keys.shape[1]:
        raise InputError(f"{heads} query heads cannot share {keys.shape[1]} key heads evenly.")
    if table.ndim != 3 or len(table) != rows or table.shape[2] < STARTS:
        raise InputError(f"The table is {tuple(table.shape)}; it must be [B, W, 4], from pack().")
