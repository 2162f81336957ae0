"""Tree attention in two launches: the prefix in splits without a mask, then the tree and the merge.

The queries of one key head are packed into the rows of a tile, so that keys are read once for the
whole group. Each split of the prefix leaves its output and the log2 of its sum of exponentials
(flash decoding); the second kernel does the T x T part under the ancestors' bits and merges all.
"""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_LOG2E = 1.4426950408889634
_PROGRAMS = 264  # two a multiprocessor of a large GPU
_LEAST_SPLIT = 256  # slots


@triton.jit
def prefix_kernel(
    q, keys, values, lengths, partial, partial_lse, scale,
    q_row, q_node, q_head, k_row, k_head, k_slot, v_row, v_head, v_slot,
    nodes, heads, splits,
    GROUP: tl.constexpr, D: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One tile of queries against one split of the prefix; grid (tiles, B * Hkv, splits)."""
    pair = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    b, h = pair // heads, pair % heads
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    real = m < nodes * GROUP
    length = tl.load(lengths + b).to(tl.int32)
    chunk = tl.cdiv(tl.cdiv(length, splits), BLOCK_N) * BLOCK_N
    begin = split * chunk
    end = tl.minimum(begin + chunk, length)

    place = b * q_row + (m // GROUP) * q_node + (h * GROUP + m % GROUP) * q_head
    queries = tl.load(
        q + place[:, None] + d[None, :], mask=real[:, None] & (d[None, :] < D), other=0.0
    )
    keys += b * k_row + h * k_head
    values += b * v_row + h * v_head
    most = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    out = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for start in range(begin, end, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        seen = n < end
        k = tl.load(
            keys + n[None, :].to(tl.int64) * k_slot + d[:, None],
            mask=seen[None, :] & (d[:, None] < D), other=0.0,
        )  # fmt: skip
        scores = tl.dot(queries, k, input_precision=PRECISION) * scale
        scores = tl.where(seen[None, :], scores, float("-inf"))
        new = tl.maximum(most, tl.max(scores, 1))
        shrink = tl.exp2(most - new)
        weights = tl.exp2(scores - new[:, None])
        total = total * shrink + tl.sum(weights, 1)
        v = tl.load(
            values + n[:, None].to(tl.int64) * v_slot + d[None, :],
            mask=seen[:, None] & (d[None, :] < D), other=0.0,
        )  # fmt: skip
        out = out * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        most = new
    # An empty split says so by its sum, and its output is never read.
    filled = total > 0
    safe = tl.where(filled, total, 1.0)
    lse = tl.where(filled, most + tl.log2(safe), float("-inf"))
    at = (pair * splits + split) * nodes * GROUP + m
    tl.store(partial_lse + at, lse, mask=real)
    tl.store(
        partial + at[:, None] * D + d[None, :], out / safe[:, None],
        mask=real[:, None] & (d[None, :] < D) & filled[:, None],
    )  # fmt: skip


@triton.jit
def tree_kernel(
    q, keys, values, lengths, ancestors, partial, partial_lse, result, scale,
    q_row, q_node, q_head, k_row, k_head, k_slot, v_row, v_head, v_slot,
    nodes, heads, splits,
    GROUP: tl.constexpr, D: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The nodes among themselves, merged with the prefix's splits; grid (tiles, B * Hkv)."""
    pair = tl.program_id(1).to(tl.int64)
    b, h = pair // heads, pair % heads
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    j = tl.arange(0, BLOCK_T)
    node = m // GROUP
    real = m < nodes * GROUP
    wide = real[:, None] & (d[None, :] < D)
    slot = tl.load(lengths + b) + j

    place = b * q_row + node * q_node + (h * GROUP + m % GROUP) * q_head
    queries = tl.load(q + place[:, None] + d[None, :], mask=wide, other=0.0)
    k = tl.load(
        keys + b * k_row + h * k_head + slot[None, :] * k_slot + d[:, None],
        mask=(j[None, :] < nodes) & (d[:, None] < D), other=0.0,
    )  # fmt: skip
    scores = tl.dot(queries, k, input_precision=PRECISION) * scale
    bits = tl.load(ancestors + b * nodes + node, mask=real, other=0)
    sees = ((bits[:, None] >> j[None, :].to(tl.int64)) & 1) == 1
    sees = (sees | (node[:, None] == j[None, :])) & (j[None, :] < nodes)
    scores = tl.where(sees, scores, float("-inf"))
    most = tl.maximum(tl.max(scores, 1), -1e30)  # finite in the rows that only fill the tile
    weights = tl.exp2(scores - most[:, None])
    total = tl.sum(weights, 1)
    v = tl.load(
        values + b * v_row + h * v_head + slot[:, None] * v_slot + d[None, :],
        mask=(j[:, None] < nodes) & (d[None, :] < D), other=0.0,
    )  # fmt: skip
    out = tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
    for split in range(splits):
        at = (pair * splits + split) * nodes * GROUP + m
        lse = tl.load(partial_lse + at, mask=real, other=float("-inf"))
        filled = lse > float("-inf")
        part = tl.load(
            partial + at[:, None] * D + d[None, :], mask=wide & filled[:, None], other=0.0
        )
        new = tl.maximum(most, lse)
        shrink, weight = tl.exp2(most - new), tl.exp2(lse - new)
        out = out * shrink[:, None] + part * weight[:, None]
        total = total * shrink + weight
        most = new
    out = out / tl.where(real, total, 1.0)[:, None]
    to = ((b * nodes + node) * heads * GROUP + h * GROUP + m % GROUP) * D
    tl.store(result + to[:, None] + d[None, :], out.to(result.dtype.element_ty), mask=wide)


def launch(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    ancestors: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """See :func:`codegen.kernels.tree_attention.tree_attention`."""
    q, keys, values = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, keys, values))
    rows, nodes, q_heads, dim = q.shape
    heads, slots = keys.shape[1:3]
    group = q_heads // heads
    packed = nodes * group
    tile = tiling(q.dtype == torch.float32, packed, dim)
    block_m = tile["BLOCK_M"]
    tiles = triton.cdiv(packed, block_m)
    splits = split_count(tiles * rows * heads, slots)
    partial = q.new_empty(rows * heads, splits, packed, dim, dtype=torch.float32)
    lse = q.new_empty(rows * heads, splits, packed, dtype=torch.float32)
    result = q.new_empty(rows, nodes, q_heads, dim)
    strides = (*q.stride()[:3], *keys.stride()[:3], *values.stride()[:3])
    common = {"GROUP": group, "D": dim, **tile}
    lengths, ancestors = lengths.contiguous(), ancestors.contiguous()
    prefix_kernel[(tiles, rows * heads, splits)](
        q, keys, values, lengths, partial, lse, scale * _LOG2E, *strides, nodes, heads, splits,
        BLOCK_N=block_n(q.dtype == torch.float32), num_stages=2, **common,
    )  # fmt: skip
    tree_kernel[(tiles, rows * heads)](
        q, keys, values, lengths, ancestors, partial, lse, result, scale * _LOG2E, *strides,
        nodes, heads, splits, BLOCK_T=max(16, triton.next_power_of_2(nodes)), num_stages=1,
        **common,
    )  # fmt: skip
    return result


def split_count(programs: int, slots: int) -> int:
    """Splits of the prefix that fill the device, none of them shorter than 256 slots."""
    return max(1, min(triton.cdiv(_PROGRAMS, programs), triton.cdiv(slots, _LEAST_SPLIT)))


def tiling(single: bool, packed: int, dim: int) -> dict[str, Any]:
    """Block sizes and warps that keep the accumulators in registers.

    Args:
        single: float32, whose products don't go through tensor cores.
        packed: queries of a key head, T times the group.
        dim: D.
    """
    return {
        "BLOCK_M": 16 if single else min(64, max(16, triton.next_power_of_2(packed))),
        "BLOCK_D": max(16, triton.next_power_of_2(dim)),
        "PRECISION": "ieee" if single else "tf32",
        "num_warps": 4 if dim <= 64 and not single else 8,
    }


def block_n(single: bool) -> int:
    """Slots of the prefix that a program takes at a time."""
    return 32 if single else 64
