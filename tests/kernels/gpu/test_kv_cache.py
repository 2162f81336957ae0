"""Kernels that move or turn cached states, against their references; bit by bit where they move."""

from __future__ import annotations

import pytest
import torch

from codegen.kernels import kv_cache as kernel_states

DTYPES = [torch.float32, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_compaction(dtype, device) -> None:
    g = torch.Generator().manual_seed(0)
    states = [torch.randn(3, 2, 20, 24, generator=g).to(device, dtype) for _ in range(4)]
    expected = [tensor.clone() for tensor in states]
    sources = torch.tensor([[5, 8, 9], [1, 2, 3], [19, 17, 18]], device=device)
    targets = torch.tensor([[4, 5, 6], [1, 2, 3], [16, 17, 18]], device=device)
    before = states[0].clone()
    kernel_states.compact(states, sources, targets)
    kernel_states.reference_compact(expected, sources, targets)
    for one, other in zip(states, expected, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(states[0][0, :, 4:7], before[0, :, [5, 8, 9]])
    # Rows that share slots.
    together = [tensor.clone() for tensor in states[:1]]
    kernel_states.compact([together[0][:1]], sources[:2] + 1, targets[:2])
    assert torch.equal(together[0][0, :, [1, 4, 5, 6]], states[0][0, :, [2, 6, 9, 10]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize(("dim", "rotary"), [(32, 32), (80, 32), (24, 24)])
def test_rotation(dim, rotary, neighbours, dtype, device) -> None:
    g = torch.Generator().manual_seed(dim)
    encoded = torch.randn(2, 2, 9, dim, generator=g).to(device, dtype)
    states = torch.randn(2, 2, 9, dim, generator=g).to(device, dtype)
    expected = states.clone()
    cells = torch.tensor([7, 0, 3], device=device)
    angles = torch.randn(3, rotary // 2, generator=g).to(device)
    given = (cells, angles.cos(), angles.sin(), neighbours)
    kernel_states.turn_slots(encoded, states, *given)
    kernel_states.reference_turn(encoded, expected, *given)
    close = 1e-6 if dtype == torch.float32 else 2e-3  # one unit in the last place
    torch.testing.assert_close(states, expected, atol=close, rtol=close)
    assert torch.equal(states[:, :, 1], expected[:, :, 1])
