"""Moves states within caches, in one launch for all layers with a table of addresses, and rotates
keys in one pass that gathers, rotates and scatters.
"""

# Triton's language is typed only for its compiler.

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl


@triton.jit
def compact_kernel(
    table, like, sources, targets, count, row_stride, head_stride, slot_stride, dim_stride,
    D: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Moves one head of a row of a tensor; grid (tensors, B, H). Each channel has one thread."""
    row, head = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    states = tl.load(table + tl.program_id(0)).to(tl.pointer_type(like.dtype.element_ty))
    d = tl.arange(0, BLOCK_D)
    states += row * row_stride + head * head_stride + d * dim_stride
    for i in range(count):
        source, target = tl.load(sources + row * count + i), tl.load(targets + row * count + i)
        moves = (d < D) & ((d * 0 + source) != target)
        state = tl.load(states + source * slot_stride, mask=moves, other=0.0)
        tl.store(states + target * slot_stride, state, mask=moves)


def launch_compact(
    states: Sequence[torch.Tensor], sources: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Launches :func:`codegen.kernels.kv_cache.compact`; returns the first and last states."""
    first, (rows, count) = states[0], sources.shape
    heads, dim = first.shape[1], first.shape[3]
    table = _addresses(tuple(tensor.data_ptr() for tensor in states), first.device)
    compact_kernel[(len(states), rows, heads)](
        table, first, sources.contiguous(), targets.contiguous(), count,
        *first.expand(rows, -1, -1, -1).stride(),
        D=dim, BLOCK_D=triton.next_power_of_2(dim), num_warps=1,
    )  # fmt: skip
    return first, states[-1]


@functools.lru_cache(maxsize=16)
def _addresses(pointers: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Builds the table of a cache's layers, whose addresses are the same in all rounds."""
    return torch.tensor(pointers, device=device)


@triton.jit
def turn_kernel(
    encoded, states, slots, cosines, sines, heads,
    e_row, e_head, e_slot, e_dim, s_row, s_head, s_slot, s_dim,
    HALF: tl.constexpr, D: tl.constexpr, NEIGHBORS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rotates one head of one slot; grid (N, B * H)."""
    n, pair = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    row, head = pair // heads, pair % heads
    slot = tl.load(slots + n)
    encoded += row * e_row + head * e_head + slot * e_slot
    states += row * s_row + head * s_head + slot * s_slot
    t = tl.arange(0, BLOCK)
    turns = t < HALF
    if NEIGHBORS:
        first, second = 2 * t, 2 * t + 1
    else:
        first, second = t, t + HALF
    u = tl.load(encoded + first * e_dim, mask=turns, other=0.0).to(tl.float32)
    v = tl.load(encoded + second * e_dim, mask=turns, other=0.0).to(tl.float32)
    cosine = tl.load(cosines + n * HALF + t, mask=turns, other=1.0)
    sine = tl.load(sines + n * HALF + t, mask=turns, other=0.0)
    kind = states.dtype.element_ty
    tl.store(states + first * s_dim, (u * cosine - v * sine).to(kind), mask=turns)
    tl.store(states + second * s_dim, (v * cosine + u * sine).to(kind), mask=turns)
    for start in tl.static_range(2 * HALF, D, BLOCK):  # channels without rotation
        rest = start + t
        kept = tl.load(encoded + rest * e_dim, mask=rest < D, other=0.0)
        tl.store(states + rest * s_dim, kept, mask=rest < D)


def launch_turn(
    encoded: torch.Tensor,
    states: torch.Tensor,
    slots: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    neighbors: bool,
) -> torch.Tensor:
    """Launches :func:`codegen.kernels.kv_cache.turn_slots`; returns ``states``."""
    rows, heads, _, dim = states.shape
    half = cosines.shape[1]
    turn_kernel[(len(slots), rows * heads)](
        encoded, states, slots.contiguous(), cosines.contiguous(), sines.contiguous(), heads,
        *encoded.stride(), *states.stride(),
        HALF=half, D=dim, NEIGHBORS=neighbors, BLOCK=triton.next_power_of_2(half), num_warps=1,
    )  # fmt: skip
    return states
