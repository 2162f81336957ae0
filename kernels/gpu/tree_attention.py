"""Tree attention in two launches: the prefix in splits without a mask, then the tree and the merge.

The queries of one key head are packed into the rows of a tile, so keys are read once for the whole
group. Each split of the prefix stores its output and the log2 of its sum of exponentials (flash
decoding); the second kernel computes the tree's part with the ancestors' bits and merges all parts.

The split depends on the prefix's length, which only the device knows: the grid has enough
programs to fill the device, and programs without slots exit immediately.
"""

# Triton's language is typed only for its compiler.

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
import triton
import triton.language as tl

from codegen.kernels.backend import PAGE, STARTS, known

_PAGE = tl.constexpr(PAGE)  # a multiple of every BLOCK_N
_STARTS = tl.constexpr(STARTS)
_LOG2E = tl.constexpr(1.4426950408889634)
_LEAST_SPLIT = tl.constexpr(256)  # slots


@triton.jit
def _capped(scores, cap):
    """Returns cap * tanh(scores), for scores that are already divided by the cap."""
    return cap * (2.0 * tl.sigmoid(2.0 * scores) - 1.0)


@triton.jit
def _shares(own, columns, queries, nodes, splits, BLOCK_N: tl.constexpr):
    """Returns the first slot that any query of a row attends to, and the slots per split; both are
    multiples of BLOCK_N, so that a block of slots is in one page.
    """
    j = tl.arange(0, 64)
    asked = (j >= nodes - queries) & (j < nodes)
    length = tl.load(own).to(tl.int32)
    first = tl.load(own + j * columns + 3, mask=asked, other=2147483647).to(tl.int32)
    begin = tl.minimum(tl.min(first, 0), length) // BLOCK_N * BLOCK_N
    share = tl.maximum(tl.cdiv(length - begin, splits), _LEAST_SPLIT)
    return begin, tl.cdiv(share, BLOCK_N) * BLOCK_N


@triton.jit
def prefix_kernel(
    q, keys, values, table, partial, partial_lse, scale, cap,
    q_row, q_node, q_head, k_row, k_head, k_slot, v_row, v_head, v_slot,
    columns, queries, nodes, heads, splits,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, CAPPED: tl.constexpr,
    PAGED: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Attends from a tile of queries to one split of the prefix; grid (tiles, B * Hkv, splits)."""
    pair = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    b, h = pair // heads, pair % heads
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    d, e = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    real = m < queries * GROUP
    own = table + b * nodes * columns
    row = own + (nodes - queries + m // GROUP) * columns
    length = tl.load(own).to(tl.int32)
    first = tl.load(row + 3, mask=real, other=2147483647).to(tl.int32)
    begin, share = _shares(own, columns, queries, nodes, splits, BLOCK_N)
    begin += split * share
    end = tl.minimum(begin + share, length)
    if begin >= length:
        return

    place = b * q_row + (m // GROUP) * q_node + (h * GROUP + m % GROUP) * q_head
    given = tl.load(
        q + place[:, None] + d[None, :], mask=real[:, None] & (d[None, :] < D), other=0.0
    )
    keys += b * k_row + h * k_head
    values += b * v_row + h * v_head
    most = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    out = tl.zeros((BLOCK_M, BLOCK_V), tl.float32)
    for start in range(begin, end, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        slot = n.to(tl.int64)
        if PAGED:
            slot += tl.load(own + _STARTS + start // _PAGE) - start // _PAGE * _PAGE
        k = tl.load(
            keys + slot[None, :] * k_slot + d[:, None],
            mask=(n[None, :] < end) & (d[:, None] < D), other=0.0,
        )  # fmt: skip
        scores = tl.dot(given, k, input_precision=PRECISION) * scale
        if CAPPED:
            scores = _capped(scores, cap)
        seen = (n[None, :] < end) & (n[None, :] >= first[:, None])
        scores = tl.where(seen, scores, float("-inf"))
        new = tl.maximum(most, tl.max(scores, 1))
        safe = tl.where(new == float("-inf"), 0.0, new)  # a query without a visible slot so far
        shrink = tl.exp2(most - safe)
        weights = tl.exp2(scores - safe[:, None])
        total = total * shrink + tl.sum(weights, 1)
        v = tl.load(
            values + slot[:, None] * v_slot + e[None, :],
            mask=(n[:, None] < end) & (e[None, :] < DV), other=0.0,
        )  # fmt: skip
        out = out * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        most = new
    # A query with no visible slot in a split has sum 0, and its output is not read.
    filled = total > 0
    sum_ = tl.where(filled, total, 1.0)
    at = (pair * splits + split) * queries * GROUP + m
    tl.store(partial_lse + at, tl.where(filled, most + tl.log2(sum_), float("-inf")), mask=real)
    tl.store(
        partial + at[:, None] * DV + e[None, :], out / sum_[:, None],
        mask=real[:, None] & (e[None, :] < DV),
    )  # fmt: skip


@triton.jit
def tree_kernel(
    q, keys, values, table, sinks, partial, partial_lse, result, scale, cap,
    q_row, q_node, q_head, k_row, k_head, k_slot, v_row, v_head, v_slot,
    columns, queries, nodes, heads, splits,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, CAPPED: tl.constexpr,
    PAGED: tl.constexpr,
    SINKS: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Attends among the nodes, merged with the prefix's splits; grid (tiles, B * Hkv)."""
    pair = tl.program_id(1).to(tl.int64)
    b, h = pair // heads, pair % heads
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    d, e = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_V)
    j = tl.arange(0, BLOCK_T)
    query = m // GROUP
    head = h * GROUP + m % GROUP
    real = m < queries * GROUP
    wide = real[:, None] & (e[None, :] < DV)
    own = table + b * nodes * columns
    row = own + (nodes - queries + query) * columns
    prefix = tl.load(own)
    length = prefix.to(tl.int32)
    slot = prefix + j
    if PAGED:
        slot = slot % _PAGE + tl.load(own + _STARTS + slot // _PAGE, mask=j < nodes, other=0)
    bits = tl.load(row + 1, mask=real, other=0)
    first = tl.load(row + 3, mask=real, other=2147483647).to(tl.int32)
    depth = tl.load(own + j * columns + 2, mask=j < nodes, other=0).to(tl.int32)

    place = b * q_row + query * q_node + head * q_head
    given = tl.load(
        q + place[:, None] + d[None, :], mask=real[:, None] & (d[None, :] < D), other=0.0
    )
    k = tl.load(
        keys + b * k_row + h * k_head + slot[None, :] * k_slot + d[:, None],
        mask=(j[None, :] < nodes) & (d[:, None] < D), other=0.0,
    )  # fmt: skip
    scores = tl.dot(given, k, input_precision=PRECISION) * scale
    if CAPPED:
        scores = _capped(scores, cap)
    sees = ((bits[:, None] >> j[None, :].to(tl.int64)) & 1) == 1
    sees = sees & (j[None, :] < nodes) & ((length + depth)[None, :] >= first[:, None])
    scores = tl.where(sees, scores, float("-inf"))
    most = tl.maximum(tl.max(scores, 1), -1e30)  # keeps padding rows finite
    weights = tl.exp2(scores - most[:, None])
    total = tl.sum(weights, 1)
    v = tl.load(
        values + b * v_row + h * v_head + slot[:, None] * v_slot + e[None, :],
        mask=(j[:, None] < nodes) & (e[None, :] < DV), other=0.0,
    )  # fmt: skip
    out = tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
    begin, share = _shares(own, columns, queries, nodes, splits, BLOCK_N)
    for split in range(tl.cdiv(length - begin, share)):
        at = (pair * splits + split) * queries * GROUP + m
        lse = tl.load(partial_lse + at, mask=real, other=float("-inf"))
        part = tl.load(partial + at[:, None] * DV + e[None, :], mask=wide, other=0.0)
        new = tl.maximum(most, lse)
        shrink, weight = tl.exp2(most - new), tl.exp2(lse - new)
        out = out * shrink[:, None] + part * weight[:, None]
        total = total * shrink + weight
        most = new
    if SINKS:
        sink = tl.load(sinks + head, mask=real, other=0.0).to(tl.float32) * _LOG2E
        new = tl.maximum(most, sink)
        out = out * tl.exp2(most - new)[:, None]
        total = total * tl.exp2(most - new) + tl.exp2(sink - new)
    out = out / tl.where(real, total, 1.0)[:, None]
    to = ((b * queries + query) * heads * GROUP + head) * DV
    tl.store(result + to[:, None] + e[None, :], out.to(result.dtype.element_ty), mask=wide)


def launch(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    scale: float,
    cap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Launches :func:`codegen.kernels.tree_attention.tree_attention`."""
    q, keys, values = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, keys, values))
    rows, queries, q_heads, dim = q.shape
    heads, slots, width = keys.shape[1], keys.shape[2], values.shape[3]
    nodes, columns = table.shape[1:]
    packed, pages = queries * (q_heads // heads), columns - STARTS
    if pages:
        slots = pages * PAGE
        keys, values = (states.expand(rows, -1, -1, -1) for states in (keys, values))
    settings = settings_of(q, keys, values)
    tiles = triton.cdiv(packed, settings["BLOCK_M"])
    splits = split_count(tiles * rows * heads, slots, _multiprocessors(q.device))
    outputs = rows * heads * splits * packed
    workspace = _workspace(q.device, outputs * (width + 1))
    partial, lse = workspace[: outputs * width], workspace[outputs * width :]
    result = q.new_empty(rows, queries, q_heads, width)
    # A capped score is cap * tanh(s / cap), and softmax works in powers of two.
    log2e = _LOG2E.value
    factors = (scale * log2e, 0.0) if cap is None else (scale / cap, cap * log2e)
    numbers = (
        *q.stride()[:3], *keys.stride()[:3], *values.stride()[:3], columns, queries, nodes, heads,
        splits,
    )  # fmt: skip
    shape = {
        "GROUP": q_heads // heads, "D": dim, "DV": width, "CAPPED": cap is not None,
        "PAGED": pages > 0, "PRECISION": "ieee" if q.dtype == torch.float32 else "tf32",
        "BLOCK_D": _power(dim), "BLOCK_V": _power(width),
    }  # fmt: skip
    table = table.contiguous()
    prefix_kernel[(tiles, rows * heads, splits)](
        q, keys, values, table, partial, lse, *factors, *numbers, **shape, **settings
    )
    tree = tree_settings(settings, nodes, dim)
    tree_kernel[(triton.cdiv(packed, tree["BLOCK_M"]), rows * heads)](
        q, keys, values, table, q if sinks is None else sinks, partial, lse, result, *factors,
        *numbers, SINKS=sinks is not None, **shape, **tree,
    )  # fmt: skip
    return result


def split_count(programs: int, slots: int, multiprocessors: int) -> int:
    """Returns the number of splits for two programs per multiprocessor, at least 256 slots each."""
    wanted = triton.cdiv(2 * multiprocessors, programs)
    return max(1, min(wanted, triton.cdiv(slots, _LEAST_SPLIT.value)))


def settings_of(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> Mapping[str, int]:
    """Returns block sizes, warps and stages: the fastest measured on this device, or a guess.

    They depend on T only by powers of two, so trees of other sizes rarely compile anything new.
    """
    packed = _power(q.shape[1] * (q.shape[2] // keys.shape[1]))
    dim = max(_power(q.shape[3]), _power(values.shape[3]))
    single = q.dtype == torch.float32
    chosen = known(q.device).settings.get(settings_key(single, packed, dim))
    return chosen or guess(single, packed, dim)


def tree_settings(settings: Mapping[str, int], nodes: int, dim: int) -> Mapping[str, int]:
    """Returns the settings of the second launch, which keeps a tile's scores and result."""
    return {
        "BLOCK_M": min(settings["BLOCK_M"], 64),
        "BLOCK_N": settings["BLOCK_N"],
        "BLOCK_T": _power(nodes),
        "num_warps": 4 if dim <= 64 else 8,
        "num_stages": 1,
    }


def settings_key(single: bool, packed: int, dim: int) -> str:
    """Returns the name under which the fastest settings are stored."""
    return f"tree_attention {'float32' if single else 'half'} M={packed} D={dim}"


def guess(single: bool, packed: int, dim: int) -> Mapping[str, int]:
    """Returns settings that keep the accumulators in registers.

    Args:
        single: True for float32, which uses no tensor cores.
        packed: queries per key head, T times the group, rounded up to a power of two.
        dim: the larger of D and D', rounded up likewise.
    """
    if single:
        return {"BLOCK_M": 16, "BLOCK_N": 32, "num_warps": 4 if dim <= 64 else 8, "num_stages": 2}
    most = 128 if dim <= 128 else 64
    block_m = min(most, packed)
    return {
        "BLOCK_M": block_m,
        "BLOCK_N": 64,
        "num_warps": 8 if block_m * dim >= 64 * 128 else 4,
        "num_stages": 2,
    }


def candidates(single: bool, packed: int, dim: int) -> list[Mapping[str, int]]:
    """Returns the guess and other settings that ``codegen bench gpu`` tries."""
    found = [guess(single, packed, dim)]
    if not single:
        found += [
            {"BLOCK_M": block_m, "BLOCK_N": block_n, "num_warps": warps, "num_stages": stages}
            for block_m in sorted({min(packed, 64), min(packed, 128)})
            for block_n, warps, stages in ((64, 4, 3), (128, 4, 2), (128, 8, 3), (32, 4, 4))
        ]
    return found


def _power(size: int) -> int:
    return max(16, triton.next_power_of_2(size))


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 4  # enough for a few splits in tests with Triton's interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count


_workspaces: dict[tuple[torch.device, int], list[torch.Tensor]] = {}


def _workspace(device: torch.device, size: int) -> torch.Tensor:
    """Returns float32 memory for the splits' results, shared by all layers in one stream.

    Larger workspaces are added as needed and never freed, as captured graphs keep their addresses.
    Sizes are powers of two, so all together have at most twice the largest size.
    """
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    rooms = _workspaces.setdefault((device, stream), [])
    if not rooms or len(rooms[-1]) < size:
        rooms.append(torch.empty(triton.next_power_of_2(size), dtype=torch.float32, device=device))
    return rooms[-1][:size]
