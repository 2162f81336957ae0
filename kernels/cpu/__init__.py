"""Products of few rows on a CPU: narrow weights, and attention over cells.

A forward pass of few tokens waits for the weights and the cached states to be read. The kernels
(``few_rows.hpp``, C++ with AVX-512 BF16 for one thread) read them once, in few bytes, and compute
in bfloat16 with sums in float32; activations are not quantised. ``AVAILABLE`` says whether they
were compiled and this CPU has the instructions. Without them :func:`attention` computes with
PyTorch, and there are no narrow products: their weights' layout is the kernels' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

try:
    from codegen.kernels.cpu import _core as _compiled
except ImportError:  # there was no compiler, or one that does not know the instructions
    _compiled = None

_core: Any = _compiled
AVAILABLE: bool = _core is not None and _core.SUPPORTED

GROUP = 32  # inputs that share a scale and an offset of four-bit weights
_LANES = 16  # outputs of a block
_MOST_CHANNELS = 256  # of a head

__all__ = [
    "AVAILABLE", "GROUP", "attention", "gated", "linear4", "linear8", "pack4", "pack8",
    "preferable", "rms_norm", "rotate_",
]  # fmt: skip


def preferable() -> bool:
    """Whether to take these kernels: they use one thread, PyTorch's as many as it is given."""
    return AVAILABLE and torch.get_num_threads() == 1


def pack4(values: torch.Tensor, scales: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Weights ``(values - 8) * scales + offsets`` as :func:`linear4` reads them.

    Args:
        values: 0 to 15, any integer type [O, I]; O and I are multiples of 32.
        scales, offsets: of 32 inputs each, float [O, I / 32]; kept in float16.

    Returns:
        uint8 [O / 16, I / 32, 320].
    """
    outputs, inputs = values.shape
    blocks, groups = outputs // _LANES, inputs // GROUP
    # Inputs of a group as 8 z + 2 j + e; see few_rows.hpp.
    nibbles = values.to(torch.int32).view(blocks, _LANES, groups, 4, 4, 2)
    shifts = 4 * torch.arange(4)[:, None] + 16 * torch.arange(2)
    words = (nibbles << shifts.int()).sum((-1, -2), dtype=torch.int32).permute(0, 2, 3, 1)
    parts = [words.contiguous().view(torch.uint8).view(blocks, groups, -1)]
    for numbers in (scales, offsets):
        by_block = numbers.view(blocks, _LANES, groups).transpose(1, 2)
        parts.append(by_block.half().contiguous().view(torch.uint8).view(blocks, groups, -1))
    return torch.cat(parts, dim=-1).contiguous()


def linear4(rows: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
    """Rows [Q, I] times the transpose of weights of four bits, bfloat16 [Q, O].

    Args:
        rows: bfloat16.
        packed: from :func:`pack4`.
    """
    outputs, inputs = packed.shape[0] * _LANES, packed.shape[1] * GROUP
    rows = _checked(rows, inputs)
    result = rows.new_empty(len(rows), outputs)
    _core.linear4(rows.data_ptr(), packed.data_ptr(), result.data_ptr(), len(rows), outputs, inputs)
    return result


def pack8(values: torch.Tensor) -> torch.Tensor:
    """Weights int8 [O, I], O a multiple of 32, as :func:`linear8` reads them: [O / 16, I, 16]."""
    outputs, inputs = values.shape
    return values.view(outputs // _LANES, _LANES, inputs).transpose(1, 2).contiguous()


def linear8(rows: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Rows [Q, I] times the transpose of weights of eight bits, bfloat16 [Q, O].

    Args:
        rows: bfloat16.
        packed: from :func:`pack8`.
        scales: of the outputs, float32 [O].
    """
    outputs, inputs = packed.shape[0] * _LANES, packed.shape[1]
    rows = _checked(rows, inputs)
    if scales.dtype != torch.float32 or scales.shape != (outputs,):
        raise ValueError(f"scales are float32 [{outputs}], not {scales.dtype} {scales.shape}")
    result = rows.new_empty(len(rows), outputs)
    _core.linear8(
        rows.data_ptr(), packed.data_ptr(), scales.data_ptr(), result.data_ptr(), len(rows),
        outputs, inputs,
    )  # fmt: skip
    return result


def rms_norm(rows: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Root mean square normalisation (arXiv 1910.07467) of rows [Q, H], with Llama's rounding."""
    width = len(weight)
    if not (_fits(rows, weight) and width % _LANES == 0):
        wide = rows.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        return weight * wide.to(rows.dtype)
    result = torch.empty_like(rows)
    _core.norm(rows.data_ptr(), weight.data_ptr(), result.data_ptr(), len(rows), width, epsilon)
    return result


def gated(rows: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up`` [Q, I] of rows [Q, 2 I] that hold both (SwiGLU, arXiv 2002.05202)."""
    width = rows.shape[-1] // 2
    if not (_fits(rows) and width % _LANES == 0):
        gate, up = rows.split(width, dim=-1)
        return functional.silu(gate) * up
    result = rows.new_empty(len(rows), width)
    _core.gate(rows.data_ptr(), result.data_ptr(), len(rows), width)
    return result


def rotate_(
    heads: torch.Tensor, turned: int, cosines: torch.Tensor, sines: torch.Tensor
) -> torch.Tensor:
    """Turns the first heads in place, channel t with channel t + D / 2 (RoPE, arXiv 2104.09864).

    Args:
        heads: [Q, heads, D], contiguous.
        turned: how many of them.
        cosines, sines: [Q, D], contiguous.
    """
    count, number, dim = heads.shape
    if _fits(heads, cosines, sines) and dim % (2 * _LANES) == 0:
        _core.rotate(
            heads.data_ptr(), cosines.data_ptr(), sines.data_ptr(), count, number, turned, dim
        )
        return heads
    these = heads[:, :turned]
    one, other = these.chunk(2, dim=-1)
    across = torch.cat([-other, one], dim=-1)
    these.copy_(these * cosines[:, None] + across * sines[:, None])
    return heads


def attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    cells: torch.Tensor,
    places: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Causal attention of few queries over states that lie in cells, in any order.

    Args:
        queries: [Q, heads, D], rotated; the last two dimensions contiguous.
        keys, values: [1, kv_heads, capacity, D]; heads is a multiple of kv_heads.
        cells: the cell of each position of the sequence, int64 [N], contiguous.
        places: the queries' positions, ascending, int64 [Q]; each sees itself and what is before.
        scale: of the scores.

    Returns:
        [Q, heads, D], contiguous.

    Raises:
        ValueError: for a place without a cell, and for indices of other types.
    """
    count, heads, dim = queries.shape
    _, kv_heads, capacity, _ = keys.shape
    right = cells.dtype == places.dtype == torch.int64 and places.shape == (count,)
    right &= cells.is_contiguous() and places.is_contiguous()
    if not (right and int(places[-1]) < len(cells)):
        raise ValueError("cells are int64 [N], places int64 [Q] below N, both contiguous")
    fits = _fits(keys, values) and queries.dtype == torch.bfloat16 and keys.shape == values.shape
    fits &= queries.stride()[1:] == (dim, 1) and cells.device == places.device == keys.device
    if not (fits and dim % 32 == 0 and dim <= _MOST_CHANNELS):
        return _attention(queries, keys[0], values[0], cells, places, scale)
    result = queries.new_empty(count, heads, dim)
    _core.attend(
        queries.data_ptr(), keys.data_ptr(), values.data_ptr(), cells.data_ptr(),
        places.data_ptr(), result.data_ptr(), count, heads, kv_heads, dim, capacity,
        queries.stride(0), scale,
    )  # fmt: skip
    return result


def _attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    cells: torch.Tensor,
    places: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """:func:`attention` by products in float32 or wider, the heads that share a key together."""
    count, heads, dim = queries.shape
    kv_heads = len(keys)
    shared = heads // kv_heads
    length = int(places[-1]) + 1
    seen = cells[:length]
    # Rows [kv_heads, Q * shared, D]: those of one query lie together.
    rows = queries.view(count, kv_heads, shared, dim).transpose(0, 1).reshape(kv_heads, -1, dim)
    hidden = torch.arange(length, device=places.device) > places.repeat_interleave(shared)[:, None]
    mask = rows.new_zeros(hidden.shape, dtype=torch.float32).masked_fill_(hidden, -torch.inf)
    wide = keys.index_select(1, seen).float()
    scores = torch.baddbmm(mask[None], rows.float(), wide.transpose(1, 2), alpha=scale)
    weights = torch.softmax(scores, dim=-1)
    result = torch.bmm(weights, values.index_select(1, seen).float()).to(queries.dtype)
    return result.view(kv_heads, count, shared, dim).transpose(0, 1).reshape(count, heads, dim)


def _fits(*tensors: torch.Tensor) -> bool:
    """Whether the kernels take these tensors as they are."""
    return AVAILABLE and all(
        t.dtype == torch.bfloat16 and t.is_contiguous() and t.device.type == "cpu" for t in tensors
    )


def _checked(rows: torch.Tensor, inputs: int) -> torch.Tensor:
    """The rows, contiguous.

    Raises:
        ValueError: if they are not bfloat16 [Q, inputs] on the CPU.
    """
    if rows.dtype != torch.bfloat16 or rows.device.type != "cpu" or rows.shape[1:] != (inputs,):
        raise ValueError(f"rows are bfloat16 [Q, {inputs}], not {rows.dtype} {list(rows.shape)}")
    return rows.contiguous()
