"""Sampling against a naive nucleus in plain Python, and against the distribution itself."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.decoding.sampling import choose


def naive_nucleus(logits: list[float], temperature: float, top_p: float) -> dict[int, float]:
    weights = [math.exp(x / temperature) for x in logits]
    total = sum(weights)
    order = sorted(range(len(logits)), key=lambda i: (-weights[i], i))
    kept: dict[int, float] = {}
    for i in order:
        if sum(kept.values()) >= top_p:
            break
        kept[i] = weights[i] / total
    mass = sum(kept.values())
    return {i: p / mass for i, p in kept.items()}


@settings(deadline=None, max_examples=60)
@given(
    logits=st.lists(
        st.integers(-400, 400).map(lambda i: i / 100), min_size=2, max_size=12, unique=True
    ),
    temperature=st.floats(0.3, 2),
    top_p=st.floats(0.05, 0.99),
)
def test_nucleus_is_the_smallest_set_of_that_mass(
    logits: list[float], temperature: float, top_p: float
) -> None:
    expected = naive_nucleus(logits, temperature, top_p)
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    rows = torch.tensor(logits, dtype=torch.float64).expand(2000, -1)
    drawn = choose(rows, grid, temperature, top_p)
    for token in range(len(logits)):
        share = float((drawn == token).double().mean())
        assert share == pytest.approx(expected.get(token, 0.0), abs=2 / 2000)


def test_wide_nucleus_is_sorted_whole() -> None:
    """More tokens than the fast path's top 512 belong to the nucleus of a flat distribution."""
    logits = torch.randn(1, 5000, generator=torch.Generator().manual_seed(0)).double() * 0.1
    grid = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = choose(logits.expand(1000, -1), grid, 1.0, 0.9)
    expected = naive_nucleus(logits[0].tolist(), 1.0, 0.9)
    assert len(expected) > 4000
    assert set(drawn.tolist()) <= set(expected)
    assert drawn.unique().numel() == 1000  # no token has a thousandth


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = torch.full((3, 50), -torch.inf)
    logits[:, [7, 20]] = 0.0
    for u in (0.0, 0.4999, 0.5, 0.999999999999):
        for top_p in (0.3, 1.0):
            drawn = choose(logits, torch.full((3,), u, dtype=torch.float64), 1.0, top_p)
            assert set(drawn.tolist()) <= {7, 20}


def test_greedy_takes_the_lowest_of_equals() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0], [5.0, 1.0, 5.0]])
    assert choose(logits, torch.zeros(2, dtype=torch.float64), 0, 1.0).tolist() == [1, 0]
