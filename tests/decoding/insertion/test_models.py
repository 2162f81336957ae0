"""The insertion language model's loss against the dense form, and against all subsets there are."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from models_under_test import insertion_lm

from codegen.decoding.insertion import InsertionLM, Text, TextBatch
from codegen.decoding.insertion.models import DroppedText, drop


@torch.no_grad()
def dense_loss(model: InsertionLM, item: DroppedText) -> tuple[float, float]:
    """Token and stop loss of one text with d[k, v] written out, as the paper has it."""
    batch = TextBatch.of([item.text], model.config)
    hidden = model.encoder(batch)[0]
    logits = hidden @ model.head.weight.T  # [S, V]
    start = int(batch.starts)
    d = torch.zeros_like(logits)
    for slot, token in zip(item.slots, item.targets, strict=True):
        d[start + slot, token] += 1 / len(item.targets)
    logits[~batch.open_slots[0]] = -torch.inf
    log_p = logits.flatten().log_softmax(0).view_as(logits)
    token_loss = -(d * log_p)[d > 0].sum()
    stop = model.stop_head(hidden[0] + model.stop_mlp(hidden[0])).log_softmax(0)
    return token_loss.item(), -stop[1 if item.targets else 0].item()


@pytest.mark.parametrize("infill_rate", [0.0, 1.0])
@pytest.mark.parametrize("prefix_apart", [False, True])
def test_the_gathered_loss_is_the_dense_one(infill_rate: float, prefix_apart: bool) -> None:
    model = insertion_lm(
        infill_rate=infill_rate,
        marks_open_slots=infill_rate > 0,
        stop_weight=0.5,
        prefix_apart=prefix_apart,
    )
    rng = np.random.default_rng(1)
    texts = [
        Text([5, 6], [7, 8, 7, 5, 6, 8]),
        Text([], [5]),
        Text([8, 8, 8], []),
        Text([5], [6] * 9),
    ]
    items = [model.corrupt(text, rng) for text in texts * 8]
    assert {len(item.targets) for item in items} >= {0, 1, 3}
    got = model(**model.collate(items))
    expected = [dense_loss(model, item) for item in items]
    tokens, stops = zip(*expected, strict=True)
    np.testing.assert_allclose(got.parts["token"].numpy(), tokens, atol=1e-12)
    np.testing.assert_allclose(got.parts["stop"].numpy(), stops, atol=1e-12)
    np.testing.assert_allclose(
        got.losses.detach().numpy(), np.add(tokens, np.multiply(0.5, stops)), atol=1e-12
    )


def test_mean_loss_over_draws_is_that_over_all_subsets() -> None:
    """By brute force: every size equally probable, every subset of a size too."""
    model = insertion_lm()
    text = Text([5], [6, 7, 6, 8])
    exact = 0.0
    for size in range(5):
        subsets = list(combinations(range(4), size))
        for gone in subsets:
            kept = [k for k in range(4) if k not in gone]
            item = DroppedText(
                Text([5], [text.body[k] for k in kept]),
                [text.body[k] for k in gone],
                [sum(1 for j in kept if j < k) for k in gone],
            )
            exact += sum(dense_loss(model, item)) / len(subsets) / 5
    rng = np.random.default_rng(0)
    with torch.no_grad():
        draws = model(**model.collate([drop(text, rng) for _ in range(6_000)])).losses.numpy()
    assert abs(draws.mean() - exact) < 4 * draws.std() / 6_000**0.5


def test_every_subset_is_drawn_and_the_order_is_kept() -> None:
    rng = np.random.default_rng(0)
    text = Text([], [5, 6, 7])
    seen = Counter(tuple(drop(text, rng).text.body) for _ in range(8000))
    assert set(seen) == {(), (5,), (6,), (7,), (5, 6), (5, 7), (6, 7), (5, 6, 7)}
    for body, count in seen.items():
        expected = 8000 / 4 / (1 if len(body) in (0, 3) else 3)
        assert abs(count - expected) < 5 * expected**0.5


def test_spans_have_gaps_only_in_open_slots() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        item = drop(Text([9], list(range(10, 18))), rng, infill_rate=1.0)
        flags = item.text.slots
        assert all(flags[slot] for slot in item.slots)
        inside = [number for number, flag in enumerate(flags) if flag]
        assert inside == list(range(inside[0], inside[-1] + 1))
        rebuilt = {slot: [t for s, t in zip(item.slots, item.targets, strict=True) if s == slot]
                   for slot in range(len(flags))}  # fmt: skip
        whole = list(rebuilt[0])
        for number, token in enumerate(item.text.body, 1):
            whole += [token, *rebuilt[number]]
        assert whole == list(range(10, 18))
