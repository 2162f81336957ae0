"""Tree attention against PyTorch's attention under a dense mask."""

from __future__ import annotations

import pytest
import torch

from codegen.kernels.tree_attention import PAGE, narrow, pack, reference, tree_attention

pytestmark = pytest.mark.slow

TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3}


def _ancestors(rows: int, nodes: int, g: torch.Generator) -> torch.Tensor:
    among = torch.eye(nodes, dtype=torch.bool).repeat(rows, 1, 1)
    for row in range(rows):
        for node in range(1, nodes):
            parent = int(torch.randint(node, (1,), generator=g))
            among[row, node] |= among[row, parent]
    return among


@pytest.mark.parametrize(
    ("nodes", "queries", "heads", "group", "dim", "width", "lengths", "dtype", "narrowed"),
    [
        (1, 1, 1, 1, 16, 16, [5], torch.float16, {"window": 3}),
        (9, 9, 2, 3, 32, 32, [0, 70], torch.float32, {}),
        # Bit 63 is the sign; more queries of a head than a tile has.
        (64, 64, 1, 3, 16, 16, [3], torch.float16, {}),
        # Several splits; no power of two; the last nodes.
        (5, 2, 1, 4, 80, 48, [1100, 1, 257], torch.float32, {"window": 300}),
        (5, 2, 1, 4, 80, 48, [1100, 1, 257], torch.float16, {"chunk": 100}),
    ],
)
def test_as_dense(
    nodes, queries, heads, group, dim, width, lengths, dtype, narrowed, device
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


@pytest.mark.parametrize(
    "window", [PAGE + 1, *(pytest.param(n, marks=pytest.mark.long) for n in (1, PAGE - 1, PAGE))]
)
def test_windows_at_borders_of_pages(window, device) -> None:
    """A prefix that ends at a border, before it and behind it; all that is not seen is poison."""
    g = torch.Generator().manual_seed(window)
    lengths, dim = [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 0], 24
    rows = len(lengths)
    q = torch.randn(rows, 2, 2, dim, generator=g).to(device)
    starts = PAGE * torch.arange(3 * rows).view(rows, 3).flip(0)
    keys, values = torch.randn(2, 1, 1, 3 * PAGE * rows, dim, generator=g).to(device)
    table = narrow(pack(torch.tensor(lengths), _ancestors(rows, 2, g), starts), window=window)
    table = table.to(device)
    wanted = reference(q, keys, values, table)
    for row, length in enumerate(lengths):
        seen = range(max(0, length + 1 - window), length + 2)
        own = [int(starts[row, slot // PAGE]) + slot % PAGE for slot in seen]
        poisoned_keys, poisoned_values = (torch.full_like(each, 1e4) for each in (keys, values))
        poisoned_keys[:, :, own], poisoned_values[:, :, own] = keys[:, :, own], values[:, :, own]
        found = tree_attention(q[row, None], poisoned_keys, poisoned_values, table[row, None])
        torch.testing.assert_close(found, wanted[row, None], atol=2e-5, rtol=0)


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
