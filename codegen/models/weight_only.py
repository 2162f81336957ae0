"""Eight-bit weights for decoding on a CPU: one token at a time waits for the weights to be read.

Each linear layer keeps its bfloat16 weights for passes of many tokens, where arithmetic counts, and
has an int8 copy, with one scale for each output channel, for passes of one or two. The copy costs
half as much memory again. Activations stay as they are.

It takes a CPU that multiplies bfloat16 natively; elsewhere PyTorch's int8 kernel is slower than
plain weights, and nothing is changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

# A kernel without a public name: int8 weights times activations as they are.
_int8_product: Any = getattr(torch, "_weight_int8pack_mm", None)
_FEW = 2  # rows up to which the int8 kernel is faster
_SMALLEST = 64 * 64  # weights of a layer that is worth it


class _Int8Linear(nn.Module):
    """A linear layer without bias, its weights in both precisions."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight
        wide = linear.weight.detach().float()
        scale = wide.abs().amax(1).clamp(min=1e-8) / 127
        self.register_buffer("narrow", (wide / scale[:, None]).round().to(torch.int8), False)
        self.register_buffer("scale", scale.to(linear.weight.dtype), False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[..., I] to [..., O]."""
        rows = states.reshape(-1, states.shape[-1])
        if len(rows) > _FEW:
            return functional.linear(states, self.weight)
        product = _int8_product(rows, self.narrow, self.scale)
        return product.view(*states.shape[:-1], -1)


def add_int8(model: nn.Module) -> int:
    """Gives the linear layers of a bfloat16 model on a CPU their int8 copies.

    Returns:
        The number of layers; 0 where it would not help.
    """
    if _int8_product is None:
        return 0
    changed = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _fits(child):
                setattr(parent, name, _Int8Linear(child))  # type: ignore[arg-type]
                changed += 1
    return changed


def _fits(layer: nn.Module) -> bool:
    if type(layer) is not nn.Linear or layer.bias is not None:
        return False
    weight = layer.weight
    right = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
    # The kernel takes whole blocks of 32 outputs and 16 inputs.
    whole = weight.shape[0] % 32 == 0 and weight.shape[1] % 16 == 0
    return right and whole and weight.numel() >= _SMALLEST
