"""CPU kernels for few rows: low-bit products, attention over slots, and whole passes.

A forward pass of few tokens is bound by reading the weights and the cached states. The kernels
(C++) read them once, in few bytes, and sum in float32. There are four sets of kernels, each for
one dtype; the CPU and PyTorch's setting ``ATEN_CPU_CAPABILITY`` decide which are available:

- ``avx2`` (AVX2, FMA and F16C): float32 rows, float16 slots (or float32 slots in a whole pass);
- ``avx2_vnni`` (also AVX-VNNI), ``avx512_vnni``: the same results in less time;
- ``avx512_bf16`` (AVX-512 BF16): bfloat16 rows and slots.

:data:`KERNELS` names the sets by dtype. For other dtypes, and without a compiler, PyTorch is used;
quantized products are then unavailable, as only the kernels read their layout. A row's result
does not depend on the other rows, to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

try:
    from codegen.kernels.cpu import _core as _compiled
except ImportError:  # built without a compiler
    _compiled = None

_core: Any = _compiled

GROUP = 32  # inputs that share a scale and an offset of four-bit weights
_LANES = 16  # outputs per block
_MOST_CHANNELS = 256  # per head
_MOST_HELPERS = 3

Addresses = NDArray[np.int64]


def available() -> Sequence[str]:
    """Returns the names of the kernel sets that this CPU supports."""
    return getattr(_core, "SETS", ())  # missing in an older build


def _kernels() -> dict[torch.dtype, str]:
    """Returns the kernel sets to use, by dtype."""
    names = available()
    capability = torch.backends.cpu.get_cpu_capability()
    found: dict[torch.dtype, str] = {}
    if "avx2" in names and capability != "DEFAULT":
        wide = ["avx512_vnni"] if capability.startswith("AVX512") else []
        found[torch.float32] = next(s for s in [*wide, "avx2_vnni", "avx2"] if s in names)
    if "avx512_bf16" in names and capability.startswith("AVX512"):
        found[torch.bfloat16] = "avx512_bf16"
    return found


KERNELS: dict[torch.dtype, str] = _kernels()
# The slots' dtype, by the kernels' dtype.
SLOTS = {torch.float32: torch.float16, torch.bfloat16: torch.bfloat16}

__all__ = [
    "GROUP", "KERNELS", "SLOTS", "CompiledPass", "Product", "SequenceRows", "attend", "attention",
    "available", "gated", "pack4", "pack8", "preferable", "rms_norm", "rotate_",
]  # fmt: skip


def preferable(dtype: torch.dtype) -> bool:
    """Returns True if the kernels suit a dtype; they use one thread, PyTorch may use more."""
    return dtype in KERNELS and torch.get_num_threads() == 1


def pack4(values: torch.Tensor, scales: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Packs weights ``(values - 8) * scales + offsets`` for :class:`Product`.

    Args:
        values: 0 to 15, any integer type [O, I]; O is a multiple of 16, I of 32.
        scales, offsets: one per 32 inputs, float [O, I / 32]; kept in float16.

    Returns:
        uint8 [O / 16, I / 32, 320].
    """
    outputs, inputs = values.shape
    blocks, groups = outputs // _LANES, inputs // GROUP
    # Inputs of a group as 8 z + 2 j + e; see avx2.hpp.
    nibbles = values.to(torch.int32).view(blocks, _LANES, groups, 4, 4, 2)
    shifts = 4 * torch.arange(4)[:, None] + 16 * torch.arange(2)
    words = (nibbles << shifts.int()).sum((-1, -2), dtype=torch.int32).permute(0, 2, 3, 1)
    parts = [words.contiguous().view(torch.uint8).view(blocks, groups, -1)]
    for numbers in (scales, offsets):
        by_block = numbers.view(blocks, _LANES, groups).transpose(1, 2)
        parts.append(by_block.half().contiguous().view(torch.uint8).view(blocks, groups, -1))
    return torch.cat(parts, dim=-1).contiguous()


def pack8(values: torch.Tensor) -> torch.Tensor:
    """Packs weights int8 [O, I], O a multiple of 16, I of 32, for :class:`Product`.

    Returns:
        int8 [O / 16, I / 32, 512].
    """
    outputs, inputs = values.shape
    blocks, groups = outputs // _LANES, inputs // GROUP
    fours = values.view(blocks, _LANES, groups, GROUP // 4, 4).permute(0, 2, 3, 1, 4)
    return fours.reshape(blocks, groups, -1)


class Product:
    """A linear layer from rows [Q, I] to [Q, O], with low-bit or unchanged weights.

    Args:
        dtype: dtype of rows and results, a key of :data:`KERNELS`.
        packed: from :func:`pack4` or :func:`pack8`; or the weights of layers with the same inputs,
            ``dtype`` [O, I] each, contiguous, O a multiple of 16, I of 32. These are read in place,
            and their outputs are concatenated.
        scales: scales of the outputs, float32 [O], for 8-bit weights.
        bias: bias in ``dtype``, [O].
        most: number of rows up to which this product is faster than ``wide``.
        wide: the product for more rows; None to always use this one.
        kernels: an :func:`available` set for this dtype; by default from :data:`KERNELS`.

    Raises:
        ValueError: if scales or bias have a wrong dtype or shape.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        packed: torch.Tensor | Sequence[torch.Tensor],
        scales: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        *,
        most: int = 1 << 30,
        wide: Callable[[torch.Tensor], torch.Tensor] | None = None,
        kernels: str = "",
    ) -> None:
        self.dtype, self.most, self._wide = dtype, most, wide
        if isinstance(packed, torch.Tensor):
            self.bits = 4 if packed.dtype == torch.uint8 else 8
            blocks, self.inputs = len(packed), packed.shape[1] * GROUP
            address = packed.data_ptr()
        else:
            self.bits, self.inputs = 8 * dtype.itemsize, packed[0].shape[1]
            of_block = dtype.itemsize * self.inputs * _LANES
            starts = [
                weights.data_ptr() + of_block * block
                for weights in packed
                for block in range(len(weights) // _LANES)
            ]
            self._starts = np.array(starts, dtype=np.int64)
            blocks, address = len(starts), self._starts.ctypes.data
        self.outputs = blocks * _LANES
        if self.bits == 8 and (scales is None or scales.dtype != torch.float32):
            raise ValueError("8-bit weights need float32 scales")
        for name, part in (("scales", scales), ("bias", bias)):
            if part is not None and part.shape != (self.outputs,):
                raise ValueError(f"{name} must be [{self.outputs}], not {list(part.shape)}")
        if bias is not None and bias.dtype != dtype:
            raise ValueError(f"bias must be {dtype}, not {bias.dtype}")
        bias = None if bias is None else bias.contiguous()
        self._tensors = packed, scales, bias
        addresses = [address, *(0 if t is None else t.data_ptr() for t in (scales, bias))]
        self.words: Addresses = np.array(
            [self.bits, *addresses, self.outputs, self.inputs], dtype=np.int64
        )
        self._linear = getattr(_core, f"linear_{kernels or KERNELS[dtype]}")

    def joined(
        self, bias: torch.Tensor | None, most: int, wide: Callable[[torch.Tensor], torch.Tensor]
    ) -> Product:
        """Returns a product of the same weights with a bias, and ``wide`` above ``most`` rows."""
        packed, scales, _ = self._tensors
        return Product(self.dtype, packed, scales, bias, most=most, wide=wide)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Applies the layer.

        Raises:
            ValueError: if the rows have a wrong dtype or length, or are not on the CPU.
        """
        if (
            rows.dtype != self.dtype
            or rows.device.type != "cpu"
            or rows.shape[1:] != (self.inputs,)
        ):
            raise ValueError(
                f"rows must be {self.dtype} [Q, {self.inputs}], not {rows.dtype} {list(rows.shape)}"
            )
        if self._wide is not None and len(rows) > self.most:
            return self._wide(rows)
        rows = rows.contiguous()
        result = rows.new_empty(len(rows), self.outputs)
        self._linear(rows.data_ptr(), self.words.ctypes.data, result.data_ptr(), len(rows))
        return result


def rms_norm(rows: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Normalizes rows [Q, H] by root mean square (arXiv 1910.07467), with Llama's rounding."""
    width = len(weight)
    if not (_fits(rows, weight) and width % _LANES == 0):
        wide = rows.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        return weight * wide.to(rows.dtype)
    result = torch.empty_like(rows)
    norm = _kernel("norm", rows.dtype)
    norm(rows.data_ptr(), weight.data_ptr(), result.data_ptr(), len(rows), width, epsilon)
    return result


def gated(rows: torch.Tensor) -> torch.Tensor:
    """Computes ``silu(gate) * up`` [Q, I] of rows [Q, 2 I] (SwiGLU, arXiv 2002.05202)."""
    width = rows.shape[-1] // 2
    if not (_fits(rows) and width % _LANES == 0):
        gate, up = rows.split(width, dim=-1)
        return functional.silu(gate) * up
    result = rows.new_empty(len(rows), width)
    _kernel("gate", rows.dtype)(rows.data_ptr(), result.data_ptr(), len(rows), width)
    return result


def rotate_(
    heads: torch.Tensor, turned: int, cosines: torch.Tensor, sines: torch.Tensor
) -> torch.Tensor:
    """Rotates the first heads in place, channel t with t + D / 2 (RoPE, arXiv 2104.09864).

    Args:
        heads: [Q, heads, D], contiguous.
        turned: number of heads to rotate.
        cosines, sines: [Q, D], contiguous.
    """
    count, number, dim = heads.shape
    if _fits(heads, cosines, sines) and dim % (2 * _LANES) == 0:
        _kernel("rotate", heads.dtype)(
            heads.data_ptr(), cosines.data_ptr(), sines.data_ptr(), count, number, turned, dim
        )
        return heads
    these = heads[:, :turned]
    one, other = these.chunk(2, dim=-1)
    across = torch.cat([-other, one], dim=-1)
    these.copy_(these * cosines[:, None] + across * sines[:, None])
    return heads


@dataclass(frozen=True, slots=True)
class SequenceRows:
    """Consecutive rows of a pass that belong to one sequence with its states in slots.

    Attributes:
        places: the rows' ascending positions, int64 [Q]; each attends up to and including itself.
        order: the slot of each position of the sequence, in any order, int64 [N].
    """

    places: torch.Tensor
    order: torch.Tensor

    def __post_init__(self) -> None:
        places, order = self.places, self.order
        right = order.dtype == places.dtype == torch.int64 and places.ndim == order.ndim == 1
        right = right and order.is_contiguous() and places.is_contiguous()
        if not (right and len(places) and int(places[-1]) < len(order)):
            raise ValueError("slots must be int64 [N], places int64 [Q] below N, both contiguous")


def attend(
    states: torch.Tensor,
    sequences: Sequence[SequenceRows],
    slots: Addresses,
    capacities: Sequence[int],
    *,
    heads: int,
    kv_heads: int,
    scale: float,
) -> torch.Tensor:
    """Writes new keys and values into slots and attends, for all sequences in one call.

    Args:
        states: queries, keys and values, rotated, [Q, heads + 2 kv_heads, D], of a dtype in
            :data:`KERNELS`; D must satisfy :meth:`CompiledPass.takes`.
        sequences, capacities: see :meth:`CompiledPass.__call__`.
        slots: as in that call, but of one layer, int64 [sequences, 3].
        heads, kv_heads: heads is a multiple of kv_heads.
        scale: factor of the scores.

    Returns:
        [Q, heads, D].
    """
    count, _, dim = states.shape
    parts = _parts(sequences, capacities, count)
    result = states.new_empty(count, heads, dim)
    _kernel("attend", states.dtype)(
        states.data_ptr(), parts.ctypes.data, slots.ctypes.data, len(parts), result.data_ptr(),
        heads, kv_heads, dim, scale,
    )  # fmt: skip
    return result


def attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rows: SequenceRows,
    scale: float,
) -> torch.Tensor:
    """Computes causal attention of few queries over states in slots, with PyTorch.

    Args:
        queries: [Q, heads, D], rotated.
        keys, values: [1, kv_heads, capacity, D]; heads is a multiple of kv_heads.
        rows: the queries' sequence.
        scale: factor of the scores.

    Returns:
        [Q, heads, D], contiguous.
    """
    count, heads, dim = queries.shape
    kv_heads, places = keys.shape[1], rows.places
    shared = heads // kv_heads
    length = int(places[-1]) + 1
    seen = rows.order[:length]
    # Rows [kv_heads, Q * shared, D], grouped by query.
    flat = queries.reshape(count, kv_heads, shared, dim).transpose(0, 1)
    flat = flat.reshape(kv_heads, -1, dim)
    hidden = torch.arange(length, device=places.device) > places.repeat_interleave(shared)[:, None]
    mask = flat.new_zeros(hidden.shape, dtype=torch.float32).masked_fill_(hidden, -torch.inf)
    wide = keys[0].index_select(1, seen).float()
    scores = torch.baddbmm(mask[None], flat.float(), wide.transpose(1, 2), alpha=scale)
    weights = torch.softmax(scores, dim=-1)
    result = torch.bmm(weights, values[0].index_select(1, seen).float()).to(queries.dtype)
    return result.view(kv_heads, count, shared, dim).transpose(0, 1).reshape(count, heads, dim)


class CompiledPass:
    """A whole forward pass in one call, for models built like Llama with quantized products only.

    Args:
        layers: for each layer the first norm's weights [H], the projection to queries, keys and
            values, attention's output projection, the second norm's weights, the gate and up
            projection, and the down projection.
        norm: the last norm's weights [H].
        head: the projection to logits.
        heads, kv_heads, dim: heads of attention, and channels per head.
        scale: factor of the scores. epsilon: epsilon of the norms.

    Attributes:
        most: maximum rows for which quantized products are faster than PyTorch's.
        helpers: maximum helper threads, used while a core is free. They sleep between passes, and
            pause for a while if they did not save time.

    Raises:
        ValueError: if :meth:`takes` is false for these sizes.
    """

    def __init__(
        self,
        layers: Sequence[tuple[torch.Tensor, Product, Product, torch.Tensor, Product, Product]],
        norm: torch.Tensor,
        head: Product,
        *,
        heads: int,
        kv_heads: int,
        dim: int,
        scale: float,
        epsilon: float,
    ) -> None:
        self.dtype, self._hidden, self._feed_forward = norm.dtype, len(norm), layers[0][5].inputs
        if not self.takes(self._hidden, self._feed_forward, dim):
            raise ValueError("hidden and head sizes must be multiples of 32, heads at most 256")
        self._heads, self._kv_heads, self._dim = heads, kv_heads, dim
        self._scale, self._epsilon = scale, epsilon
        self._parts = [part for layer in layers for part in layer], norm, head  # keeps them alive
        self._layers: Addresses = np.array(
            [
                word
                for layer in layers
                for part in layer
                for word in ([part.data_ptr()] if isinstance(part, torch.Tensor) else part.words)
            ],
            dtype=np.int64,
        )
        self._count, self._norm, self._head = len(layers), norm, head
        kernels = KERNELS[self.dtype]
        self._run = {SLOTS[self.dtype]: getattr(_core, f"run_{kernels}")}
        if self.dtype == torch.float32:
            self._run[torch.float32] = getattr(_core, f"run_{kernels}_wide")
        products = [part for layer in layers for part in layer if isinstance(part, Product)]
        self.most = min(product.most for product in products)
        self.helpers = _helpers()

    @staticmethod
    def takes(hidden: int, feed_forward: int, dim: int) -> bool:
        """Returns True if the kernels support these hidden, feed-forward and head sizes."""
        whole = all(size % 32 == 0 for size in (hidden, feed_forward, dim))
        return whole and dim <= _MOST_CHANNELS

    def __call__(
        self,
        states: torch.Tensor,
        cosines: torch.Tensor,
        sines: torch.Tensor,
        sequences: Sequence[SequenceRows],
        slots: Addresses,
        capacities: Sequence[int],
        kept: NDArray[np.int64],
        held: torch.dtype | None = None,
    ) -> torch.Tensor:
        """Runs rows of some sequences, and writes their new states into slots.

        Args:
            states: the tokens' embeddings [Q, H], which are overwritten.
            cosines, sines: rotations of their positions [Q, D].
            sequences: the sequences of the rows, in order.
            slots: addresses of the keys, the values and the keys as encoded (0 for none), int64
                [layers, sequences, 3].
            capacities: the number of slots of each sequence.
            kept: rows with logits, int64 [K].
            held: the slots' dtype: that of :data:`SLOTS` (default) or of the pass.

        Returns:
            Logits [K, V].
        """
        for part in (states, cosines, sines):
            if part.dtype != self.dtype or not part.is_contiguous() or part.device.type != "cpu":
                raise ValueError(f"states, cosines, sines must be contiguous {self.dtype} on CPU")
        parts = _parts(sequences, capacities, len(states))
        if slots.shape != (self._count, len(parts), 3) or not slots.flags.c_contiguous:
            raise ValueError("slots must match the layers and sequences")
        logits = states.new_empty(len(kept), self._head.outputs)
        self._run[held or SLOTS[self.dtype]](
            self._layers.ctypes.data, self._count, self._norm.data_ptr(),
            self._head.words.ctypes.data, self._hidden, self._feed_forward, self._heads,
            self._kv_heads, self._dim, self._scale, self._epsilon, states.data_ptr(),
            cosines.data_ptr(), sines.data_ptr(), parts.ctypes.data, slots.ctypes.data, len(parts),
            kept.ctypes.data, len(kept), logits.data_ptr(), self.helpers,
        )  # fmt: skip
        return logits


def _parts(sequences: Sequence[SequenceRows], capacities: Sequence[int], count: int) -> Addresses:
    """Describes the sequences of ``count`` rows for the kernels, int64 [sequences, 4]."""
    parts = np.array(
        [
            (len(rows.places), capacity, rows.order.data_ptr(), rows.places.data_ptr())
            for rows, capacity in zip(sequences, capacities, strict=True)
        ],
        dtype=np.int64,
    )
    if count != parts[:, 0].sum():
        raise ValueError(f"the sequences have {parts[:, 0].sum()} rows, not {count}")
    return parts


def _helpers() -> int:
    """Returns the number of helper threads: one per other core, up to a limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(0, min(_MOST_HELPERS, (cores or 1) - 1))


def _kernel(name: str, dtype: torch.dtype) -> Any:
    return getattr(_core, f"{name}_{KERNELS[dtype]}")


def _fits(*tensors: torch.Tensor) -> bool:
    """Returns True if the kernels support these tensors."""
    dtype = tensors[0].dtype
    return dtype in KERNELS and all(
        t.dtype == dtype and t.is_contiguous() and t.device.type == "cpu" for t in tensors
    )
