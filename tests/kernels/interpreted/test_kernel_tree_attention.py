"""Tree attention against PyTorch's attention under a dense mask."""

from __future__ import annotations

import pytest
import torch

from codegen.kernels.tree_attention import PAGE, narrow, pack, reference, tree_attention

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
    ("nodes", "queries", "heads", "group", "dim", "width", "lengths"),
    [
        (1, 1, 1, 1, 16, 16, [5]),
        (9, 9, 2, 3, 32, 32, [0, 70]),
        (64, 64, 1, 3, 16, 16, [3]),  # bit 63 is the sign; more queries of a head than a tile has
        (5, 2, 1, 4, 80, 48, [1100, 1, 257]),  # several splits; no power of two; the last nodes
    ],
)
@pytest.mark.parametrize("narrowed", [{}, {"window": 3}, {"window": 300}, {"chunk": 100}])
def test_as_dense(
    narrowed, dtype, nodes, queries, heads, group, dim, width, lengths, device
) -> None:
    g = torch.Generator().manual_seed(nodes)
    rows = len(lengths)
    slots = max(lengths) + nodes + 40  # the capacity is more than any row holds
    q = torch.randn(rows, queries, heads * group, dim, generator=g).to(device, dtype)
    keys = torch.randn(rows, heads, slots, dim, generator=g).to(device, dtype)
    values = torch.randn(rows, heads, slots, width, generator=g).to(device, dtype)
    for row, length in enumerate(lengths):  # what lies behind a row is never read
        keys[row, :, length + nodes :] = torch.nan
        values[row, :, length + nodes :] = torch.nan
    table = pack(torch.tensor(lengths), _ancestors(rows, nodes, g))
    table = (narrow(table, **narrowed) if narrowed else table).to(device)
    found = tree_attention(q, keys, values, table)
    assert found.dtype == dtype
    clean_keys, clean_values = (states.float().nan_to_num(0.0) for states in (keys, values))
    wide = reference(q.float(), clean_keys, clean_values, table)
    assert float((found.float() - wide).abs().max()) < TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("nodes", "queries", "dtype", "narrowed"),
    [
        (1, 1, torch.float16, {}),
        (9, 9, torch.float32, {"window": 300}),
        (5, 2, torch.float16, {"chunk": 100}),
    ],
)
def test_pages_as_contiguous(nodes, queries, dtype, narrowed, device) -> None:
    """The same states in scattered pages, also where a tree crosses a border."""
    g = torch.Generator().manual_seed(nodes)
    lengths, rows, heads, dim = [2 * PAGE - 3, 0, 1100], 3, 2, 16
    q = torch.randn(rows, queries, 2 * heads, dim, generator=g).to(device, dtype)
    keys, values = torch.randn(2, rows, heads, 5 * PAGE, dim, generator=g).to(device, dtype)
    starts = PAGE * (1 + torch.randperm(5 * rows, generator=g).view(rows, 5))
    pool = torch.full((2, 1, heads, 17 * PAGE, dim), torch.nan, device=device, dtype=dtype)
    for row, page in torch.cartesian_prod(torch.arange(rows), torch.arange(5)).tolist():
        own = slice(int(starts[row, page]), int(starts[row, page]) + PAGE)
        for states, part in zip((keys, values), pool, strict=True):
            part[0, :, own] = states[row, :, page * PAGE : (page + 1) * PAGE]
    among = _ancestors(rows, nodes, g)
    table, paged = (
        pack(torch.tensor(lengths), among, given).to(device) for given in (None, starts)
    )
    if narrowed:
        table, paged = narrow(table, **narrowed), narrow(paged, **narrowed)
    found = tree_attention(q, pool[0], pool[1], paged)
    assert torch.equal(found, tree_attention(q, keys, values, table))
    by_hand = reference(q, pool[0], pool[1], paged)
    torch.testing.assert_close(found, by_hand, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("sinks", [False, True])
def test_strided_cache_scale_cap_and_sinks(cap, sinks, device) -> None:
    g = torch.Generator().manual_seed(1)
    cache = torch.randn(2, 2, 300, 2, 32, generator=g).to(device)
    keys, values = cache[:, :, :290, 0], cache[:, :, :290, 1]
    q = torch.randn(2, 4, 3, 32, generator=g).to(device).transpose(1, 2)
    own = torch.randn(4, generator=g).to(device) if sinks else None
    chain = torch.ones(3, 3, dtype=torch.bool).tril()[None]
    table = pack(torch.tensor([280, 7]), chain).to(device)
    found = tree_attention(q, keys, values, table, 0.3, cap, own)
    expected = reference(q, keys, values, table, 0.3, cap, own)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    plain = reference(q, keys, values, table, 0.3)
    assert torch.equal(expected, plain) == (cap is None and not sinks)
