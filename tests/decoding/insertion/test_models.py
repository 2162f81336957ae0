"""The insertion language model's loss against the dense form, and against all subsets there are."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import cast

import numpy as np
import pytest
import torch
from models_under_test import SPECIAL, fixed_mask_lm, flexible_mask_lm, insertion_lm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from codegen.decoding.insertion import (
    FillOptions,
    FlexibleMaskConfig,
    FlexibleMaskLM,
    InsertionLM,
    Text,
    TextBatch,
)
from codegen.decoding.insertion.models import DroppedText, InterpolatedText, drop, interpolate


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


MASK = 3


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([7, number]) for number in range(count)]


@torch.no_grad()
def plain_flexible_loss(model: FlexibleMaskLM, item: InterpolatedText) -> float:
    batch = TextBatch.of([item.text], model.config)
    summary = model.time_mlp(torch.tensor([[item.time]], dtype=torch.float64))
    hidden = model.encoder(batch, summary=summary)[0]
    total, targets = 0.0, iter(item.targets)
    start = int(batch.starts)
    for slot, gap in enumerate(item.gaps):
        expected = float(model.gap_head(hidden[start + slot])[0].exp())
        total += expected - gap + (gap * np.log(gap / expected) if gap else 0.0)
        if slot and item.text.body[slot - 1] == MASK:
            log_p = model.head(hidden[start + slot]).log_softmax(-1)
            total -= float(log_p[next(targets)])
    return total / (1 - item.time) / model.config.loss_length


@pytest.mark.parametrize("seed", range(3))
def test_the_flexible_loss_by_a_plain_loop(seed: int) -> None:
    model = flexible_mask_lm(seed=seed, loss_length=9)
    rng = np.random.default_rng(seed)
    texts = [Text([5, 6], [7, 8, 7, 5, 6, 8]), Text([], [5]), Text([8], [6] * 9)]
    items = [model.corrupt(text, rng) for text in texts * 5]
    inputs = model.collate(items)
    inputs["time"] = inputs["time"].double()
    expected = [plain_flexible_loss(model, item) for item in items]
    np.testing.assert_allclose(
        model(**inputs).losses.detach().numpy(), expected, rtol=2e-6
    )  # times are float32


def test_tokens_come_as_masks_and_masks_become_tokens() -> None:
    """At time t a token is missing, a mask or there with the probabilities of linear schedules."""
    rng = np.random.default_rng(0)
    late: list[InterpolatedText] = []
    while len(late) < 3000:
        item = interpolate(Text([], [5] * 4), MASK, rng)
        assert sum(item.gaps) + len(item.text.body) == 4
        assert len(item.targets) == list(item.text.body).count(MASK)
        if 0.55 < item.time < 0.65:
            late.append(item)
    missing = np.mean([sum(item.gaps) for item in late]) / 4
    masks = np.mean([len(item.targets) for item in late]) / 4
    assert abs(missing - 0.4) < 0.02
    # P(T1 <= t < T2) is the integral of (1 - t) / (1 - s) over s < t.
    assert abs(masks - -0.4 * np.log(0.4)) < 0.02


def test_the_expected_gap_is_what_minimises_the_loss() -> None:
    """The Bregman divergence's minimiser is the mean: of 1, 1 and 4 missing tokens it is 2."""
    gaps = torch.tensor([1.0, 1.0, 4.0], dtype=torch.float64)
    log_g = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        loss = (log_g.exp() - gaps * log_g).sum()
        (gradient,) = torch.autograd.grad(loss, log_g)
        log_g = (log_g - 0.1 * gradient).detach().requires_grad_()
    assert abs(log_g.exp().item() - 2) < 1e-6


@pytest.mark.long
def test_short_and_long_texts_are_sampled_as_often_as_trained() -> None:
    """Half the data has one token, half has eight; so have the samples."""
    torch.manual_seed(0)
    config = FlexibleMaskConfig(
        vocab_size=SPECIAL + 2,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        dropout=0.0,
        initializer_range=32**-0.5,
        loss_length=8,
        forbidden_token_ids=list(range(SPECIAL)),
    )
    model, steps, texts = FlexibleMaskLM(config), 1000, [Text([], [5]), Text([], [6] * 8)]
    smooth = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = model.collate([model.corrupt(text, rng) for text in texts * 96])
        model(**batch).losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        smooth.update_parameters(model)
    options = FillOptions(temperature=1.0, order="random", max_new_tokens=20)
    model = cast(FlexibleMaskLM, smooth.module.eval())
    filled = model.fill([Text([])] * 2000, options, rngs(2000))
    shares = [np.mean([item.body == text.body for item in filled]) for text in texts]
    assert np.abs(np.array(shares) - 0.5).max() < 0.03


def fills(model: FlexibleMaskLM, length: int, tokens: list[int]) -> None:
    """Makes the model expect what is missing of ``length`` tokens behind [BOS], and name them."""

    def scores(
        batch: TextBatch, time: torch.Tensor, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gaps = torch.full(batch.open_slots.shape, -30.0)
        left = length - (batch.lengths - 2)
        gaps[torch.arange(len(batch)), batch.starts] = left.clamp(min=1e-9).log().float()
        masks = model.masks(batch)
        logits = torch.full((int(masks.sum()), model.config.vocab_size), -20.0)
        place = masks.nonzero()[:, 1] - 2
        logits[torch.arange(len(logits)), torch.tensor(tokens)[place % len(tokens)]] = 0.0
        return logits, gaps[batch.open_slots]

    model.scores = scores  # type: ignore[method-assign]


@pytest.mark.parametrize("order", ["confident", "random"])
def test_masks_appear_as_expected_and_are_all_filled(order: str) -> None:
    model = flexible_mask_lm()
    fills(model, 6, [5, 6])
    options = FillOptions(steps=200, order=order)  # type: ignore[arg-type]
    filled = model.fill([Text([])] * 60, options, rngs(60))
    lengths = [len(item.body) for item in filled]
    assert np.mean([length == 6 for length in lengths]) > 0.9
    assert all(MASK not in item.body and min(item.body) >= SPECIAL for item in filled)
    assert all(item.steps == 201 and item.finished for item in filled)


def test_flexible_masks_keep_what_is_given_and_the_limit() -> None:
    model = flexible_mask_lm(seed=2)
    text = Text([5], [6, 7, 8], [False, True, False, False])
    for item in model.fill([text] * 20, FillOptions(steps=30, max_new_tokens=4), rngs(20)):
        assert item.body[0] == 6 and item.body[-2:] == [7, 8]
        assert len(item.body) <= 7 and item.finished == (len(item.body) < 7)
        assert [t for t, g in zip(item.body, item.given, strict=True) if g] == [6, 7, 8]


def test_the_fixed_loss_is_the_mean_cross_entropy_at_masks() -> None:
    model = fixed_mask_lm()
    rng = np.random.default_rng(0)
    items = [model.corrupt(text, rng) for text in [Text([5], [6, 7]), Text([], [8] * 5)] * 6]
    got = model(**model.collate(items)).losses.tolist()
    for item, loss in zip(items, got, strict=True):
        batch = TextBatch.of([item.text], model.config)
        hidden = model.encoder(batch)[0, int(batch.starts) + 1 :]
        log_p = model.head(hidden).log_softmax(-1)
        places = [k for k, token in enumerate(item.text.body) if token == MASK]
        losses = [-log_p[k, t].item() for k, t in zip(places, item.targets, strict=True)]
        assert abs(np.mean(losses) - loss) < 1e-12
    with pytest.raises(ValueError, match="model supports 5"):
        model.corrupt(Text([], [5] * 6), rng)


@pytest.mark.parametrize("steps", [0, 2])
def test_fixed_masks_are_filled_surest_first(steps: int) -> None:
    model = fixed_mask_lm(seed=1)
    text = Text([5, 6])
    (item,) = model.fill([text], FillOptions(steps=steps), rngs(1))
    body, left = [MASK] * 5, 5
    for number in range(steps or 5):
        batch = TextBatch.of([Text([5, 6], body)], model.config)
        hidden = model.encoder(batch)[0, int(batch.starts) + 1 :]
        logits = model.head(hidden)
        logits[:, [0, 1, 2, 3]] = -torch.inf  # the end may be written
        sure = logits.log_softmax(-1).amax(-1)
        masks = [k for k in range(5) if body[k] == MASK]
        goal = 5 - int(np.ceil(5 * (number + 1) / (steps or 5)))
        for k in sorted(masks, key=lambda k: -sure[k].item())[: left - goal]:
            body[k] = int(logits[k].argmax())
        left = goal
    end = body.index(4) if 4 in body else 5
    assert item.body == body[:end]
    assert item.steps == (steps or 5)
