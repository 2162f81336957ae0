"""Attention by loops, and what wrong shapes get."""

from __future__ import annotations

import math

import pytest
import torch

from codegen.core.errors import InputError
from codegen.kernels import kv_cache as kernel_states
from codegen.kernels import tree_attention
from codegen.kernels.vocabulary import gumbel_top_k


@pytest.fixture
def g() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_attention_by_loops(g) -> None:
    """Against softmax written out, one query at a time, over the slots that it sees."""
    lengths = [0, 5]
    q = torch.randn(2, 4, 4, 8, generator=g)
    keys, values = torch.randn(2, 2, 2, 9, 8, generator=g)
    parents = [0, 0, 1, 0]
    among = torch.eye(4, dtype=torch.bool)
    for node in range(1, 4):
        among[node] |= among[parents[node]]
    depths = [0, 1, 2, 1]
    table = tree_attention.pack(torch.tensor(lengths), among[None])
    sinks = torch.randn(4, generator=g)
    for window, cap, sink in ((99, None, None), (3, 1.5, None), (2, None, sinks), (1, 0.7, sinks)):
        narrowed = tree_attention.narrow(table, window=window)
        found = tree_attention.tree_attention(q, keys, values, narrowed, None, cap, sink)
        later = tree_attention.tree_attention(q[:, 2:], keys, values, narrowed, None, cap, sink)
        torch.testing.assert_close(later, found[:, 2:])
        for b, length in enumerate(lengths):
            places = {s: s for s in range(length)}  # slots and their positions
            for i in range(4):
                own = {length + j: length + depths[j] for j in range(4) if among[i, j]}
                last = length + depths[i]
                slots = [s for s, at in (places | own).items() if last - window < at]
                for head in range(4):
                    k, v = keys[b, head // 2, slots], values[b, head // 2, slots]
                    scores = k @ q[b, i, head] / math.sqrt(8)
                    scores = scores if cap is None else cap * torch.tanh(scores / cap)
                    if sink is not None:
                        scores = torch.cat([scores, sink[head, None]])
                    weights = torch.softmax(scores, 0)[: len(slots)]
                    torch.testing.assert_close(found[b, i, head], weights @ v)


def test_wrong_shapes_are_named() -> None:
    q, kv = torch.zeros(1, 65, 2, 8), torch.zeros(1, 2, 80, 8)
    length, table = torch.zeros(1).long(), torch.zeros(1, 65, 4).long()
    with pytest.raises(InputError, match="65 nodes"):
        tree_attention.tree_attention(q, kv, kv, table)
    with pytest.raises(InputError, match="3 query heads"):
        tree_attention.tree_attention(torch.zeros(1, 1, 3, 8), kv, kv, table[:, :1])
    with pytest.raises(InputError, match="table is"):
        tree_attention.tree_attention(q[:, :2], kv, kv, table[:, :2, :3])
    with pytest.raises(InputError, match="k is 9"):
        gumbel_top_k(torch.zeros(1, 4), 9, length, length, length)
    with pytest.raises(InputError, match="differ"):
        kernel_states.compact([kv, kv.half()], table[:, :2, 0], length)
