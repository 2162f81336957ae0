"""Quantized weights against the plain product."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from codegen.kernels import cpu
from codegen.models import pick_dtype, quantization
from codegen.models.quantization import add_quantized_weights, quantized_product


def layer(weight: torch.Tensor, dtype: torch.dtype = torch.bfloat16) -> nn.Sequential:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=dtype)
    linear.weight.data = weight.to(dtype)
    return nn.Sequential(linear)


def four_bit_weights(outputs: int, inputs: int) -> torch.Tensor:
    """As in a Q4_1 file: low + q * step in each group of 32 values, q = 0 and 15 among them."""
    q = torch.randint(0, 16, (outputs, inputs // 32, 32))
    q[..., 0], q[..., 1] = 0, 15
    step = torch.rand(outputs, inputs // 32, 1) * 0.01 + 0.001
    low = -torch.rand(outputs, inputs // 32, 1) * 0.1
    return (low + q * step).view(outputs, inputs)


@pytest.fixture(params=["pytorch", "avx512_bf16", "avx2"])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """Of the products of each kind."""
    found = torch.float32 if request.param == "avx2" else torch.bfloat16
    if request.param == "pytorch":
        if pick_dtype("cpu") != torch.bfloat16:
            pytest.skip("this CPU does not multiply bfloat16 natively")
    elif found not in cpu.KERNELS:
        pytest.skip(f"no kernels for {found} here")
    monkeypatch.setattr(cpu, "preferable", lambda _: request.param != "pytorch")
    return found


@pytest.mark.parametrize(("bits", "error"), [(4, 0.01), (8, 0.012)])
@pytest.mark.parametrize("rows", [1, 3, 5, 40])
def test_the_product_is_the_same(dtype: torch.dtype, bits: int, error: float, rows: int) -> None:
    torch.manual_seed(bits)
    weight = four_bit_weights(256, 192) if bits == 4 else torch.randn(256, 192) * 0.05
    model = layer(weight, dtype)
    states = torch.randn(1, rows, 192, dtype=dtype)
    expected = model(states).float()
    assert add_quantized_weights(model) == {bits: 1}
    got = model(states).float()
    assert got.shape == expected.shape
    assert (got - expected).norm() / expected.norm() < error


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_layers_of_the_same_inputs_are_multiplied_together(
    dtype: torch.dtype, rows: int, bias: bool
) -> None:
    torch.manual_seed(rows)
    layers = [nn.Linear(192, size, bias=bias, dtype=dtype) for size in (96, 64, 64)]
    for one in layers:
        one.weight.data = four_bit_weights(one.out_features, 192).to(dtype)
    states = torch.randn(rows, 192, dtype=dtype)
    expected = torch.cat([one(states) for one in layers], dim=-1).float()
    product = quantized_product(layers)
    assert product is not None
    got = product(states).float()
    assert got.shape == expected.shape
    assert (got - expected).norm() / expected.norm() < 0.01


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_weights_of_four_bits_come_back_nearly_exactly(
    kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the kernels' float16 scales what is left is the weights' own bfloat16 rounding."""
    if kind not in cpu.KERNELS:
        pytest.skip(f"no kernels for {kind} here")
    monkeypatch.setattr(cpu, "preferable", lambda _: True)
    weight = four_bit_weights(64, 96).bfloat16().to(kind)
    quantized = quantization.quantized_copy(weight)
    assert quantized is not None and quantized.bits == 4
    back = quantized.product(torch.eye(96, dtype=kind)[:12]).T.float()
    assert (back - weight[:, :12].float()).norm() / weight[:, :12].float().norm() < 0.006


def test_what_does_not_fit_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "preferable", lambda _: False)
    plain = nn.Sequential(nn.Linear(64, 64), nn.Linear(50, 70, bias=False), nn.LayerNorm(64))
    assert add_quantized_weights(plain) == {}
    assert add_quantized_weights(layer(torch.randn(70, 50))) == {}
    assert quantized_product([nn.Linear(64, 64)]) is None
