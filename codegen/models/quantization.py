"""Quantized weights for decoding on a CPU, where reading the weights takes most of the time.

Each linear layer keeps its own weights for passes of many tokens, which are compute-bound,
and gets a quantized copy for passes of few tokens. The copy has four bits, with a scale and an
offset per 32 inputs, if that reproduces the layer's weights (they came from a quantized file, as
for the embedded model); else eight bits with a scale per output.

With one thread, the kernels of :mod:`codegen.kernels.cpu` compute the products for any row count:
float32 on a CPU with AVX2, bfloat16 on a CPU that multiplies it natively. They round rows to eight
bits, with a scale per 32 inputs (docs/kernels.md lists the loss). Without these kernels or with
several threads, bfloat16 uses PyTorch's kernels for few rows. Other layers are unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from codegen.kernels import cpu

_GROUP = cpu.GROUP
_LEVELS = 15  # steps between the 16 values of four bits
_SAME = 0.015  # maximum relative error of reproduced weights; other weights have 0.07
# Maximum rows for which quantized weights are faster: with our kernels, and with PyTorch's by bits.
_ANY = 1 << 30
_FEW = {4: 12, 8: 4}
MIN_WEIGHTS = 64 * 64  # smaller layers are not quantized
_AT_ONCE = 4096  # outputs quantized at a time, for less memory; a multiple of 32

# PyTorch kernels without public names.
_int8_product: Any = getattr(torch, "_weight_int8pack_mm", None)
_int4_product: Any = getattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu", None)
_int4_pack: Any = getattr(torch.ops.aten, "_convert_weight_to_int4pack_for_cpu", None)


@dataclass(frozen=True)
class QuantizedWeights:
    """A quantized copy of weights [O, I].

    Attributes:
        bits: bits per weight.
        most: maximum rows for which it is faster than the original weights.
        product: maps rows [Q, I] of the weights' dtype to [Q, O].
    """

    bits: int
    most: int
    product: Callable[[torch.Tensor], torch.Tensor]


def quantized_copy(
    weight: torch.Tensor, bits: int = 0, compiled: bool | None = None
) -> QuantizedWeights | None:
    """Returns a quantized copy of weights [O, I]; None if it is too small or unsupported.

    Args:
        bits: 4 or 8; 0 for four if they reproduce the weights, else eight.
        compiled: True uses our kernels; None uses them only with one thread.
    """
    compiled = cpu.preferable(weight.dtype) if compiled is None else compiled
    theirs = None not in (_int8_product, _int4_product, _int4_pack)
    right = compiled or (weight.dtype == torch.bfloat16 and theirs)
    right = right and weight.device.type == "cpu"
    # The kernels take whole blocks of 32 outputs and 32 inputs.
    whole = weight.shape[0] % 32 == 0 and weight.shape[1] % _GROUP == 0
    if not (right and whole and weight.numel() >= MIN_WEIGHTS):
        return None
    weight = weight.detach()
    four = None if bits == 8 else _four_bits(weight, compiled, exact=bits == 0)
    return four or _eight_bits(weight, compiled)


def quantized_product(
    layers: Sequence[nn.Linear], bits: int = 0, compiled: bool | None = None
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Joins layers with the same inputs into one product with concatenated outputs, if possible.

    The layers are unchanged and compute passes with more rows. The arguments and None are as in
    :func:`quantized_copy`.
    """
    weights = torch.cat([layer.weight.detach() for layer in layers])
    quantized = quantized_copy(weights, bits, compiled)
    if quantized is None:
        return None
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    if biases and len(biases) < len(layers):
        return None
    bias = torch.cat(biases) if biases else None

    def wide(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([layer(rows) for layer in layers], dim=-1)

    if isinstance(quantized.product, cpu.Product):
        return quantized.product.joined(bias, quantized.most, wide)

    def product(rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > quantized.most:
            return wide(rows)
        result = quantized.product(rows)
        return result if bias is None else result.add_(bias)

    return product


class _QuantizedLinear(nn.Module):
    """A linear layer without bias, with a quantized copy of its weights."""

    def __init__(self, linear: nn.Linear, quantized: QuantizedWeights) -> None:
        super().__init__()
        self.weight = linear.weight
        self.quantized = quantized

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Maps [..., I] to [..., O]."""
        rows = states.reshape(-1, states.shape[-1])
        if len(rows) > self.quantized.most:
            return functional.linear(states, self.weight)
        return self.quantized.product(rows).view(*states.shape[:-1], -1)


def add_quantized_weights(model: nn.Module) -> dict[int, int]:
    """Adds quantized copies to the linear layers of a model on a CPU.

    Returns:
        The number of quantized layers by bits.
    """
    changed: dict[int, int] = {}
    for parent in list(model.modules()):
        if hasattr(parent, "trainable_tokens_delta"):  # peft's wrapper requires its layer's class
            continue
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear or child.bias is not None:
                continue
            if quantized := quantized_copy(child.weight):
                setattr(parent, name, _QuantizedLinear(child, quantized))
                changed[quantized.bits] = changed.get(quantized.bits, 0) + 1
    return changed


def _eight_bits(weight: torch.Tensor, compiled: bool) -> QuantizedWeights:
    """Quantizes to int8 with a scale for each output."""
    scales = weight.abs().amax(1).float().clamp(min=1e-8) / 127
    parts = (
        (rows.float() / of_rows[:, None]).round().to(torch.int8)
        for rows, of_rows in zip(weight.split(_AT_ONCE), scales.split(_AT_ONCE), strict=True)
    )
    if compiled:
        packed = torch.cat([cpu.pack8(part) for part in parts])
        return QuantizedWeights(8, _ANY, cpu.Product(weight.dtype, packed, scales))
    values, scales = torch.cat(list(parts)), scales.to(weight.dtype)
    return QuantizedWeights(8, _FEW[8], lambda rows: _int8_product(rows, values, scales))


def _four_bits(weight: torch.Tensor, compiled: bool, *, exact: bool) -> QuantizedWeights | None:
    """Quantizes to four bits by groups; None if ``exact`` and the weights would change.

    A value q from 0 to 15 represents (q - 8) * scale + offset. The smallest and the largest weight
    of a group are 0 and 15, as in GGUF's Q4_1.
    """
    kept = torch.float16 if compiled else weight.dtype
    parts, lost, total = [], 0.0, 0.0
    for rows in weight.split(_AT_ONCE):
        groups = rows.float().view(len(rows), -1, _GROUP)
        low, high = groups.aminmax(dim=-1)  # [O, I / 32]
        scales = ((high - low) / _LEVELS).clamp(min=1e-8)
        values = ((groups - low[..., None]) / scales[..., None]).round().clamp(0, _LEVELS)
        scales, offsets = scales.to(kept), (low + 8 * scales).to(kept)
        back = (values - 8) * scales.float()[..., None] + offsets.float()[..., None]
        lost += float((back - groups).square().sum())
        total += float(groups.square().sum())
        values = values.view(rows.shape)
        parts.append(
            [cpu.pack4(values, scales, offsets)]
            if compiled
            else [values.to(torch.int32), scales, offsets]
        )
    most = _SAME if exact else 1.0
    if not lost <= most**2 * total:  # also True if float16 overflows
        return None
    if compiled:
        product = cpu.Product(weight.dtype, torch.cat([packed for (packed,) in parts]))
        return QuantizedWeights(4, _ANY, product)
    values, scales, offsets = (torch.cat(column) for column in zip(*parts, strict=True))
    packed = _int4_pack(values, 8)
    numbers = torch.stack([scales, offsets], dim=-1).transpose(0, 1).contiguous()
    return QuantizedWeights(4, _FEW[4], lambda rows: _int4_product(rows, packed, _GROUP, numbers))
