"""Tree attention against PyTorch's attention under a dense mask."""

from __future__ import annotations

import pytest
import torch

from codegen.kernels.tree_attention import pack, reference, tree_attention

TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3}


def _ancestors(rows: int, nodes: int, g: torch.Generator) -> torch.Tensor:
    among = torch.eye(nodes, dtype=torch.bool).repeat(rows, 1, 1)
    for row in range(rows):
        for node in range(1, nodes):
            parent = int(torch.randint(node, (1,), generator=g))
            among[row, node] |= among[row, parent]
    return among


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("nodes", "heads", "group", "dim", "lengths"),
    [
        (1, 1, 1, 16, [5]),
        (9, 2, 3, 32, [0, 70]),
        (64, 1, 2, 16, [3]),  # bit 63 is the sign
        (5, 1, 4, 80, [600, 1, 257]),  # several splits, some of them empty; D no power of two
    ],
)
def test_as_dense(dtype, nodes, heads, group, dim, lengths, device) -> None:
    g = torch.Generator().manual_seed(nodes)
    rows = len(lengths)
    slots = max(lengths) + nodes
    q = torch.randn(rows, nodes, heads * group, dim, generator=g).to(device, dtype)
    keys, values = (
        torch.randn(rows, heads, slots, dim, generator=g).to(device, dtype) for _ in range(2)
    )
    bits = pack(_ancestors(rows, nodes, g)).to(device)
    length = torch.tensor(lengths, device=device)
    found = tree_attention(q, keys, values, length, bits)
    wide = reference(q.float(), keys.float(), values.float(), length, bits)
    assert found.dtype == dtype
    assert float((found.float() - wide).abs().max()) < TOLERANCE[dtype]


def test_strided_cache_and_scale(device) -> None:
    g = torch.Generator().manual_seed(1)
    cache = torch.randn(2, 2, 40, 2, 32, generator=g).to(device)
    keys, values = cache[:, :, :30, 0], cache[:, :, :30, 1]
    q = torch.randn(2, 3, 4, 32, generator=g).to(device)
    bits = torch.tensor([[1, 3, 5]] * 2, device=device)
    length = torch.tensor([20, 7], device=device)
    found = tree_attention(q, keys, values, length, bits, 0.3)
    expected = reference(q, keys, values, length, bits, 0.3)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
