"""Moves within caches: one launch for all layers, by a table of their addresses."""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl


@triton.jit
def compact_kernel(
    table, like, path, cursors, depth, row_stride, head_stride, slot_stride, dim_stride,
    D: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One head of one row of one tensor; grid (tensors, B, H).

    A channel stays with one thread, which reads a slot before it writes the ones below; the slots
    ascend and none moves up, so nothing is overwritten unread.
    """
    row, head = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    states = tl.load(table + tl.program_id(0)).to(tl.pointer_type(like.dtype.element_ty))
    d = tl.arange(0, BLOCK_D)
    cursor = tl.load(cursors + row)
    states += row * row_stride + head * head_stride + d * dim_stride
    for i in range(depth):
        node = tl.load(path + row * depth + i)
        moves = (d < D) & ((d * 0 + node) > i + 1)
        state = tl.load(states + (cursor + node) * slot_stride, mask=moves, other=0.0)
        tl.store(states + (cursor + 1 + i) * slot_stride, state, mask=moves)


def launch(states: Sequence[torch.Tensor], path: torch.Tensor, cursors: torch.Tensor) -> None:
    """See :func:`codegen.kernels.compaction.compact`."""
    first = states[0]
    rows, heads, _, dim = first.shape
    table = torch.tensor([tensor.data_ptr() for tensor in states], device=first.device)
    compact_kernel[(len(states), rows, heads)](
        table, first, path.contiguous(), cursors.contiguous(), path.shape[1], *first.stride(),
        D=dim, BLOCK_D=triton.next_power_of_2(dim), num_warps=1,
    )  # fmt: skip
