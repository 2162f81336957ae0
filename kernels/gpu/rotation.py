"""Gather, turn and scatter in one pass."""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def turn_kernel(
    encoded, states, cells, cosines, sines, heads,
    e_row, e_head, e_slot, e_dim, s_row, s_head, s_slot, s_dim,
    HALF: tl.constexpr, D: tl.constexpr, NEIGHBOURS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One head of one cell; grid (N, B * H)."""
    n, pair = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    row, head = pair // heads, pair % heads
    cell = tl.load(cells + n)
    encoded += row * e_row + head * e_head + cell * e_slot
    states += row * s_row + head * s_head + cell * s_slot
    t = tl.arange(0, BLOCK)
    turns = t < HALF
    if NEIGHBOURS:
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
    for start in tl.static_range(2 * HALF, D, BLOCK):  # channels that do not turn
        rest = start + t
        kept = tl.load(encoded + rest * e_dim, mask=rest < D, other=0.0)
        tl.store(states + rest * s_dim, kept, mask=rest < D)


def launch(
    encoded: torch.Tensor,
    states: torch.Tensor,
    cells: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    neighbours: bool,
) -> None:
    """See :func:`codegen.kernels.rotation.turn_cells`."""
    rows, heads, _, dim = states.shape
    half = cosines.shape[1]
    turn_kernel[(len(cells), rows * heads)](
        encoded, states, cells.contiguous(), cosines.contiguous(), sines.contiguous(), heads,
        *encoded.stride(), *states.stride(),
        HALF=half, D=dim, NEIGHBOURS=neighbours, BLOCK=triton.next_power_of_2(half), num_warps=1,
    )  # fmt: skip
