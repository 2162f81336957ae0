"""Products of few rows on a CPU against float64, and what stands in where they are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers.models.llama import modeling_llama

from codegen.kernels import cpu

# What kernels leave at most, as a share of a result's norm: products of the numbers that they
# multiply (:func:`multiplied`) the rounding of their type, and attention that of slots in float16.
ROUNDING = {torch.bfloat16: 2.0**-8.5, torch.float32: 1e-6}
IN_CELLS = {torch.bfloat16: 2.0**-7.5, torch.float32: 4e-4}

TYPES = [
    pytest.param(
        dtype,
        id=name,
        marks=pytest.mark.skipif(dtype not in cpu.KERNELS, reason=f"no kernels for {name} here"),
    )
    for dtype, name in ((torch.float32, "avx2"), (torch.bfloat16, "avx512_bf16"))
]
by_type = pytest.mark.parametrize("dtype", TYPES)


@pytest.fixture(params=[False, True], ids=["plain", "kernels"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(cpu, "KERNELS", {})
    return request.param


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    return float((got.double() - expected.double()).norm() / expected.double().norm())


def unaligned(values: torch.Tensor) -> torch.Tensor:
    """The same numbers at an address that is not a multiple of a register's bytes."""
    room = torch.empty(values.numel() + 1, dtype=values.dtype)
    moved = room[1:].view(values.shape).copy_(values)
    assert moved.data_ptr() % 16
    return moved


def four_bits(outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed weights, and what they stand for, float64 [O, I]."""
    values = torch.randint(0, 16, (outputs, inputs))
    scales = (torch.rand(outputs, inputs // 32) * 0.01 + 1e-4).half()
    offsets = (torch.randn(outputs, inputs // 32) * 0.02).half()
    groups = (values - 8).view(outputs, -1, 32) * scales.double()[..., None]
    weight = (groups + offsets.double()[..., None]).view(outputs, inputs)
    return cpu.pack4(values, scales, offsets), weight


def eight_bits(outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Packed weights, their scales, and what they stand for, float64 [O, I]."""
    values = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
    scales = torch.rand(outputs) + 0.1
    return cpu.pack8(values), scales, (values * scales[:, None]).double()


def quantized(
    bits: int, outputs: int, inputs: int, dtype: torch.dtype
) -> tuple[torch.Tensor | list[torch.Tensor], torch.Tensor | None, torch.Tensor]:
    """Weights, their scales if they have any, and what they stand for, float64 [O, I].

    Those of 0 bits are two layers' own.
    """
    if bits == 0:
        weight = torch.randn(outputs, inputs).to(dtype)
        return list(weight.split(outputs - 16)), None, weight.double()
    if bits == 8:
        return eight_bits(outputs, inputs)
    packed, weight = four_bits(outputs, inputs)
    return packed, None, weight


def multiplied(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers that products multiply in place of rows, and how far from these they may be.

    These are whole numbers up to 127, with a scale for each group of 32.
    """
    groups = x.float().view(len(x), -1, 32)
    most = groups.abs().amax(-1, keepdim=True)
    whole = (groups * torch.where(most > 0, 127 / most, 0)).round().double()
    scales = most.double() / 127
    assert whole.abs().max() <= 127
    return (whole * scales).view(x.shape), (scales / 2).expand(whole.shape).reshape(x.shape)


@by_type
@pytest.mark.parametrize(
    ("outputs", "inputs"), [(16, 32), (32, 32), (48, 64), (64, 96), (96, 160), (192, 64)]
)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 23, 25, 37, 64])
def test_four_bits(outputs: int, inputs: int, rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(rows)
    packed, weight = four_bits(outputs, inputs)
    x = unaligned(torch.randn(rows, inputs).to(dtype))
    got = cpu.Product(dtype, packed)(x)
    assert got.dtype == dtype
    assert distance(got, multiplied(x)[0] @ weight.T) < ROUNDING[dtype]


@by_type
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 32), (32, 96), (80, 160), (160, 64)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 13, 17])
def test_eight_bits(outputs: int, inputs: int, rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(rows)
    packed, scales, weight = eight_bits(outputs, inputs)
    bias = torch.randn(outputs).to(dtype)
    x = unaligned(torch.randn(rows, inputs).to(dtype))
    got = cpu.Product(dtype, packed, scales, bias)(x)
    expected = multiplied(x)[0] @ weight.T + bias.double()
    assert distance(got, expected) < 1.5 * ROUNDING[dtype]


@by_type
@pytest.mark.parametrize(("outputs", "inputs"), [(32, 32), (48, 96), (160, 160)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 13, 17])
def test_weights_as_they_are(outputs: int, inputs: int, rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(rows)
    weights, _, weight = quantized(0, outputs, inputs, dtype)
    bias, x = torch.randn(outputs).to(dtype), unaligned(torch.randn(rows, inputs).to(dtype))
    got = cpu.Product(dtype, weights, bias=bias)(x)
    assert distance(got, x.double() @ weight.T + bias.double()) < 1.5 * ROUNDING[dtype]


@by_type
@pytest.mark.parametrize("bits", [4, 8, 0])
def test_rows_of_any_size_of_numbers(bits: int, dtype: torch.dtype) -> None:
    """Whole numbers in the rows' place neither overflow nor vanish: one is large, all are, none."""
    torch.manual_seed(0)
    packed, scales, weight = quantized(bits, 32, 1536, dtype)
    product = cpu.Product(dtype, packed, scales)
    for size, first in ((1.0, 300.0), (1e4, 1.0), (1e-6, 1.0), (0.0, 0.0), (1e-36, 1.0)):
        x = torch.randn(3, 1536) * size
        x[:, 0] *= first
        x = x.to(dtype)
        got, expected = product(x), x.double() @ weight.T
        # An outlier's rounding is a share of the outlier, but only in its group.
        rounding = multiplied(x)[1] @ weight.abs().T + ROUNDING[dtype] * expected.norm()
        assert ((got.double() - expected).abs() <= rounding + 1e-27).all()


@by_type
@pytest.mark.parametrize("bits", [4, 8, 0])
def test_a_row_gets_the_same_whatever_is_beside_it(bits: int, dtype: torch.dtype) -> None:
    torch.manual_seed(bits)
    product = cpu.Product(dtype, *quantized(bits, 96, 64, dtype)[:2])
    x = torch.randn(30, 64).to(dtype)
    alone = torch.cat([product(row[None]) for row in x])
    for rows in range(2, 31):
        assert torch.equal(product(x[:rows]), alone[:rows])


@pytest.mark.skipif(cpu.KERNELS.get(torch.float32) in (None, "avx2"), reason="needs VNNI")
@pytest.mark.parametrize("bits", [4, 8])
def test_vnni_gives_the_bits_of_avx2(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each number of rows that is computed together, and rows of any size."""
    torch.manual_seed(bits)
    weights = quantized(bits, 96, 320, torch.float32)[:2]
    fused = cpu.Product(torch.float32, *weights)
    monkeypatch.setitem(cpu.KERNELS, torch.float32, "avx2")
    plain = cpu.Product(torch.float32, *weights)
    for rows in range(1, 26):
        x = torch.randn(rows, fused.inputs) * 10.0 ** torch.randint(-8, 9, (rows, 1))
        assert torch.equal(fused(x), plain(x))


@by_type
def test_rows_of_another_size_or_type_are_refused(dtype: torch.dtype) -> None:
    packed, scales, _ = eight_bits(32, 64)
    other = torch.float64
    for x in (torch.zeros(1, 63).to(dtype), torch.zeros(1, 64).to(other)):
        with pytest.raises(ValueError, match=r"rows must be torch\.\w+ \[Q, 64\]"):
            cpu.Product(dtype, packed, scales)(x)
    with pytest.raises(ValueError, match="scales"):
        cpu.Product(dtype, packed, torch.ones(31))
    with pytest.raises(ValueError, match="scales"):
        cpu.Product(dtype, packed)
    with pytest.raises(ValueError, match="bias"):
        cpu.Product(dtype, packed, scales, torch.ones(32, dtype=other))


def expected_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: cpu.SequenceRows
) -> torch.Tensor:
    """By PyTorch in float64, [Q, heads, D]; keys and values [kv_heads, capacity, D]."""
    shared = queries.shape[1] // len(keys)
    seen = [part[:, rows.order].repeat_interleave(shared, 0) for part in (keys, values)]
    mask = torch.arange(len(rows.order)) <= rows.places[:, None]
    wide = [part.double() for part in (queries.transpose(0, 1), *seen)]
    found = functional.scaled_dot_product_attention(*wide, attn_mask=mask, scale=0.2)
    return found.transpose(0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(9, 3, 64), (4, 4, 32), (8, 2, 128)])
@pytest.mark.parametrize("queries", [1, 2, 5, 8, 19])
def test_attention_with_pytorch(
    heads: int, kv_heads: int, dim: int, queries: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(queries)
    for length in (queries, 33, 100):
        keys, values = torch.randn(2, 1, kv_heads, length + 20, dim).to(dtype)
        rows = cpu.SequenceRows(
            torch.randperm(length)[:queries].sort().values, torch.randperm(length + 20)[:length]
        )
        states = torch.randn(queries, heads + 3, dim).to(dtype)[:, :heads]
        got = cpu.attention(states, keys, values, rows, 0.2)
        expected = expected_attention(states, keys[0], values[0], rows)
        assert distance(got, expected) < (1e-6 if dtype == torch.float32 else 2.0**-7.5)


@by_type
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"),
    [(9, 3, 64), (4, 4, 32), (8, 2, 128), (7, 1, 96), (64, 1, 32), (2, 2, 256)],
)
@pytest.mark.parametrize("most", [1, 5, 19, 64])
def test_attention_of_several_sequences(
    heads: int, kv_heads: int, dim: int, most: int, dtype: torch.dtype
) -> None:
    """Sequences of all lengths in slots of their own; what is in no such slot has no influence."""
    torch.manual_seed(most)
    sequences, slots, capacities, states, expected = [], [], [], [], []
    kept = []
    for number, queries in enumerate((most, 1, 3)):
        length = (queries, 33, 100)[number] if number else queries
        length = max(length, queries)
        capacity = length + 20
        order = torch.randperm(capacity)[:length]
        places = torch.randperm(length)[:queries].sort().values
        rows = cpu.SequenceRows(places, order)
        parts = torch.randn(3, kv_heads, capacity, dim).to(cpu.SLOTS[dtype])
        new = unaligned(torch.randn(queries, heads + 2 * kv_heads, dim).to(dtype))
        keys, values = (
            new[:, heads + first : heads + first + kv_heads].to(cpu.SLOTS[dtype]).transpose(0, 1)
            for first in (0, kv_heads)
        )
        before = parts.clone()
        before[0][:, order[places]] = keys
        before[1][:, order[places]] = values
        before[2][:, order[places]] = keys
        expected.append(expected_attention(new[:, :heads], before[0], before[1], rows))
        unseen = torch.ones(capacity, dtype=torch.bool)
        unseen[order] = False
        parts[:, :, unseen] = torch.nan
        before[:, :, unseen] = torch.nan
        kept.append((parts, before))
        base = parts[2].data_ptr() if number != 1 else 0
        slots.append([parts[0].data_ptr(), parts[1].data_ptr(), base])
        sequences.append(rows)
        capacities.append(capacity)
        states.append(new)
    got = cpu.attend(
        torch.cat(states), sequences, np.array(slots, dtype=np.int64), capacities,
        heads=heads, kv_heads=kv_heads, scale=0.2,
    )  # fmt: skip
    assert distance(got, torch.cat(expected)) < IN_CELLS[dtype]
    for number, (parts, before) in enumerate(kept):
        these = parts[:2] if number == 1 else parts
        assert torch.equal(these.nan_to_num(), before[: len(these)].nan_to_num())


def test_a_place_without_a_cell_is_refused() -> None:
    slots = torch.arange(8)
    for place in (
        torch.tensor([8]), torch.tensor([1], dtype=torch.int32), torch.zeros(0, dtype=torch.int64),
        torch.tensor([[1]]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="places"):
            cpu.SequenceRows(place, slots)


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
    rotate: Any = modeling_llama.apply_rotary_pos_emb
    wanted, _ = rotate(states[None], states[None], cosines[None], sines[None], unsqueeze_dim=2)
    turned = cpu.rotate_(states.clone(), 3, cosines, sines)
    torch.testing.assert_close(turned[:, :3], wanted[0, :, :3])
    assert torch.equal(turned[:, 3:], states[:, 3:])


@pytest.mark.parametrize(
    ("capability", "expected"), [("default", set()), ("avx2", {"avx2", "avx2_vnni"})]
)
def test_what_pytorch_may_use_decides(capability: str, expected: set[str]) -> None:
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    code = "from codegen.kernels import cpu; print(*cpu.KERNELS.values())"
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    names = set(found.stdout.split())
    assert names <= expected
    if cpu.KERNELS and capability == "avx2":
        assert len(names) == 1


def test_only_sets_that_the_cpu_has_are_offered() -> None:
    """By the kernel's word for what the CPU has, which is not the compiled code's."""
    core = pytest.importorskip("codegen.kernels.cpu._core")
    known = Path("/proc/cpuinfo")
    if not known.exists():
        pytest.skip("needs /proc/cpuinfo")
    lines = known.read_text(encoding="ascii", errors="replace").splitlines()
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    needs = {
        "avx2": {"avx2", "fma", "f16c"},
        "avx2_vnni": {"avx2", "fma", "f16c", "avx_vnni"},
        "avx512_vnni": {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni"},
        "avx512_bf16": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"},
    }
    assert set(core.SETS) == {name for name, needed in needs.items() if needed <= flags}
