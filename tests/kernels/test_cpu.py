"""Products of few rows on a CPU against float64, and what stands in where they are missing."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers.models.llama import modeling_llama

from codegen.kernels import cpu

needs_kernels = pytest.mark.skipif(
    not cpu.AVAILABLE, reason="not compiled, or a CPU without AVX-512 BF16"
)
# What rounding a result to bfloat16 leaves at most, as a share of its norm.
_ROUNDING = 2.0**-8.5


@pytest.fixture(params=[False, pytest.param(True, marks=needs_kernels)], ids=["plain", "kernels"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(cpu, "AVAILABLE", False)
    return request.param


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    return float((got.double() - expected.double()).norm() / expected.double().norm())


@needs_kernels
@pytest.mark.parametrize(("outputs", "inputs"), [(32, 32), (64, 96), (96, 160), (192, 64)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 11, 12, 13, 23, 25, 37])
def test_four_bits(outputs: int, inputs: int, rows: int) -> None:
    torch.manual_seed(rows)
    values = torch.randint(0, 16, (outputs, inputs))
    scales = (torch.rand(outputs, inputs // 32) * 0.01 + 1e-4).half()
    offsets = (torch.randn(outputs, inputs // 32) * 0.02).half()
    groups = (values - 8).view(outputs, -1, 32) * scales.double()[..., None]
    weight = (groups + offsets.double()[..., None]).view(outputs, inputs)
    x = torch.randn(rows, inputs).bfloat16()
    got = cpu.linear4(x, cpu.pack4(values, scales, offsets))
    assert distance(got, x.double() @ weight.T) < _ROUNDING


@needs_kernels
@pytest.mark.parametrize(("outputs", "inputs"), [(32, 32), (96, 50), (160, 64)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6, 8, 17])
def test_eight_bits(outputs: int, inputs: int, rows: int) -> None:
    torch.manual_seed(rows)
    values = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
    scales = torch.rand(outputs) + 0.1
    x = torch.randn(rows, inputs).bfloat16()
    got = cpu.linear8(x, cpu.pack8(values), scales)
    assert distance(got, x.double() @ (values * scales[:, None]).double().T) < _ROUNDING


@needs_kernels
def test_rows_of_another_size_or_type_are_refused() -> None:
    packed = cpu.pack8(torch.zeros(32, 64, dtype=torch.int8))
    for x in (torch.zeros(1, 63).bfloat16(), torch.zeros(1, 64)):
        with pytest.raises(ValueError, match=r"rows are bfloat16 \[Q, 64\]"):
            cpu.linear8(x, packed, torch.ones(32))
    with pytest.raises(ValueError, match="scales"):
        cpu.linear8(torch.zeros(1, 64).bfloat16(), packed, torch.ones(31))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(9, 3, 64), (4, 4, 32), (8, 2, 128)])
@pytest.mark.parametrize("queries", [1, 2, 5, 8, 19])
def test_attention(
    kernels: bool, heads: int, kv_heads: int, dim: int, queries: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(queries)
    for length in (queries, 33, 100):
        capacity = length + 20
        keys, values = torch.randn(2, 1, kv_heads, capacity, dim).to(dtype)
        cells = torch.randperm(capacity)[:length]
        places = torch.randperm(length)[:queries].sort().values
        # As in a step: queries lie before keys and values in one tensor.
        states = torch.randn(queries, heads + 3, dim).to(dtype)[:, :heads]
        got = cpu.attention(states, keys, values, cells, places, 0.2)
        wide = [states.transpose(0, 1)]
        wide += [
            part[0, :, cells].repeat_interleave(heads // kv_heads, 0) for part in (keys, values)
        ]
        mask = torch.arange(length) <= places[:, None]
        expected = functional.scaled_dot_product_attention(
            *(part.double() for part in wide), attn_mask=mask, scale=0.2
        )
        tolerance = 1e-6 if dtype == torch.float32 else 2 * _ROUNDING
        assert distance(got, expected.transpose(0, 1)) < tolerance


def test_a_place_without_a_cell_is_refused(kernels: bool) -> None:
    states = torch.zeros(1, 1, 8, 32).bfloat16()
    queries, cells = torch.zeros(1, 1, 32).bfloat16(), torch.arange(8)
    for place in (torch.tensor([8]), torch.tensor([1], dtype=torch.int32), torch.tensor([0, 1])):
        with pytest.raises(ValueError, match="places"):
            cpu.attention(queries, states, states, cells, place, 1.0)


def test_attention_to_keys_of_any_size(kernels: bool) -> None:
    """Scores far from zero neither overflow nor vanish, and what is not seen has no influence."""
    keys, values = torch.randn(2, 1, 1, 64, 32).bfloat16()
    keys, queries = keys * 100, torch.randn(1, 2, 32).bfloat16() * 100
    cells = torch.arange(64)
    for end in (0, 15, 16, 40):
        keys[..., end + 1 :, :] = torch.inf
        values[..., end + 1 :, :] = torch.inf
        got = cpu.attention(queries, keys, values, cells, torch.tensor([end]), 1.0)
        scores = queries[0].double() @ keys[0, 0, : end + 1].double().T
        expected = scores.softmax(-1) @ values[0, 0, : end + 1].double()
        assert distance(got[0], expected) < 2 * _ROUNDING
        keys, values = keys.nan_to_num(posinf=1.0), values.nan_to_num(posinf=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_stands_between_products_is_what_llama_computes(
    kernels: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    norm = modeling_llama.LlamaRMSNorm(96, eps=1e-5).to(dtype)
    norm.weight.data = torch.randn(96).to(dtype)
    rows = (torch.randn(7, 96) * 3).to(dtype)
    got = cpu.rms_norm(rows, norm.weight.detach(), 1e-5)
    torch.testing.assert_close(got, norm(rows).detach())

    both = (torch.randn(7, 192) * 20).to(dtype)
    gate, up = both.chunk(2, dim=-1)
    torch.testing.assert_close(cpu.gated(both), functional.silu(gate) * up)

    states = torch.randn(7, 5, 64).to(dtype)
    angles = torch.randn(7, 32).repeat(1, 2)
    cosines, sines = angles.cos().to(dtype), angles.sin().to(dtype)
    wanted, _ = modeling_llama.apply_rotary_pos_emb(
        states[None], states[None], cosines[None], sines[None], unsqueeze_dim=2
    )
    turned = cpu.rotate_(states.clone(), 3, cosines, sines)
    torch.testing.assert_close(turned[:, :3], wanted[0, :, :3])
    assert torch.equal(turned[:, 3:], states[:, 3:])
