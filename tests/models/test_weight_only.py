"""Narrow weights against the plain product."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from codegen.models import pick_dtype
from codegen.models.weight_only import add_narrow_weights


def layer(weight: torch.Tensor) -> nn.Sequential:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.bfloat16)
    linear.weight.data = weight.to(torch.bfloat16)
    return nn.Sequential(linear)


def four_bit_weights(outputs: int, inputs: int) -> torch.Tensor:
    """As in a Q4_1 file: low + q * step in each group of 32 values, q = 0 and 15 among them."""
    q = torch.randint(0, 16, (outputs, inputs // 32, 32))
    q[..., 0], q[..., 1] = 0, 15
    step = torch.rand(outputs, inputs // 32, 1) * 0.01 + 0.001
    low = -torch.rand(outputs, inputs // 32, 1) * 0.1
    return (low + q * step).view(outputs, inputs)


@pytest.mark.parametrize(("bits", "error"), [(4, 0.01), (8, 0.012)])
@pytest.mark.parametrize("rows", [1, 3, 5, 40])
def test_the_product_is_the_same(bits: int, error: float, rows: int) -> None:
    if pick_dtype("cpu") != torch.bfloat16:
        pytest.skip("this CPU does not multiply bfloat16 natively")
    torch.manual_seed(bits)
    weight = four_bit_weights(256, 192) if bits == 4 else torch.randn(256, 192) * 0.05
    model = layer(weight)
    states = torch.randn(1, rows, 192, dtype=torch.bfloat16)
    expected = model(states).float()
    assert add_narrow_weights(model) == {bits: 1}
    got = model(states).float()
    assert got.shape == expected.shape
    assert (got - expected).norm() / expected.norm() < error


def test_what_does_not_fit_stays() -> None:
    plain = nn.Sequential(nn.Linear(64, 64), nn.Linear(50, 70, bias=False), nn.LayerNorm(64))
    assert add_narrow_weights(plain) == {}
    assert add_narrow_weights(layer(torch.randn(70, 50))) == {}
