"""Filling gaps: against scripted distributions, and against the plainest loop there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from models_under_test import SPECIAL, fixed_mask_lm, flexible_mask_lm, insertion_lm

from codegen.core.errors import ModelError
from codegen.decoding.insertion import FillOptions, GapRow, Insertion, InsertionLM, Text, TextBatch
from codegen.decoding.insertion.models import pick
from codegen.decoding.loop import Row, decode
from tests.llamas import small_llama


def rngs(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, number]) for number in range(count)]


def plain_fill(model: InsertionLM, text: Text, options: FillOptions) -> tuple[list[int], bool]:
    """Greedy two-stage filling of one text with lists alone."""
    body, flags = list(text.body), text.slots
    written = 0
    while written < options.max_new_tokens:
        batch = TextBatch.of([Text(text.prefix, body, flags)], model.config)
        hidden = model.encoder(batch)[0]
        stop = model.stop_head(hidden[0] + model.stop_mlp(hidden[0])).softmax(-1)[0]
        if stop >= options.stop_threshold and (written or not options.insist):
            return body, True
        logits = hidden[int(batch.starts) :] @ model.head.weight.T
        logits[:, :SPECIAL] = -torch.inf
        logits[~torch.tensor(flags)] = -torch.inf
        slot = int(logits.logsumexp(-1).argmax())
        body.insert(slot, int(logits[slot].argmax()))
        flags.insert(slot + 1, True)
        written += 1
    return body, False


TEXTS = [
    Text([5, 6, 7]),
    Text([], [5, 6, 7, 8], [False, True, False, False, True]),
    Text([8], [6, 6], [True, False, False]),
    Text([5], [7]),
    Text([5, 5, 5, 5, 8]),
]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("insist", [False, True])
def test_greedy_filling_is_the_plain_loop(seed: int, insist: bool) -> None:
    model = insertion_lm(seed=seed, marks_open_slots=seed % 2 == 1, prefix_apart=seed > 2)
    options = FillOptions(max_new_tokens=7, insist=insist, stop_threshold=0.6)
    with torch.inference_mode():
        expected = [plain_fill(model, text, options) for text in TEXTS]
    filled = model.fill(TEXTS, options, rngs(len(TEXTS)))
    assert [(item.body, item.finished) for item in filled] == expected
    for text, item in zip(TEXTS, filled, strict=True):
        kept = [token for token, given in zip(item.body, item.given, strict=True) if given]
        assert kept == list(text.body)  # what stood there is never touched


def test_closed_slots_stay_closed() -> None:
    model = insertion_lm(seed=3)
    text = Text([], [5, 6, 7, 8], [False, False, True, False, False])
    options = FillOptions(max_new_tokens=6, temperature=5.0, slot_temperature=5.0, insist=True)
    for item in model.fill([text] * 40, options, rngs(40)):
        assert item.body[:2] == [5, 6] and item.body[-2:] == [7, 8] and len(item.body) > 4
        assert min(item.body) >= SPECIAL


def scripted(logits: torch.Tensor, stop: Callable[[TextBatch], torch.Tensor]) -> InsertionLM:
    """A model whose token logits [V] are the same in all slots."""
    model = insertion_lm(words=len(logits) - SPECIAL)

    def scores(batch: TextBatch, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        return logits.expand(int(batch.open_slots.sum()), -1).clone(), stop(batch)

    model.scores = scores  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("stages", [1, 2])
def test_one_draw_has_the_joint_distribution(stages: int) -> None:
    """By brute force over a tiny vocabulary: slot and token of 8,000 first insertions."""
    model = insertion_lm(words=3, seed=2)
    text = Text([5], [6, 7], [True, False, True])
    options = FillOptions(
        max_new_tokens=1, temperature=1.0, slot_temperature=1.0, stages=stages, insist=True
    )
    with torch.inference_mode():
        logits, _ = model.scores(TextBatch.of([text], model.config))
    exact = logits[:, SPECIAL:].flatten().softmax(0).view(2, 3).numpy()
    draws = 8_000
    seen: Counter[tuple[int, int]] = Counter()
    for item in model.fill([text] * draws, options, rngs(draws)):
        place = item.given.index(False)
        seen[(0 if place == 0 else 1, item.body[place] - SPECIAL)] += 1
    for (slot, token), probability in np.ndenumerate(exact):
        error = 5 * (probability * (1 - probability) / draws) ** 0.5 + 1e-4
        assert abs(seen[slot, token] / draws - probability) < error


def test_what_else_is_in_the_batch_changes_nothing() -> None:
    model = insertion_lm(seed=4)
    options = FillOptions(max_new_tokens=6, temperature=1.0, slot_temperature=1.0)
    together = model.fill(TEXTS, options, rngs(len(TEXTS)))
    for number, text in enumerate(TEXTS):
        (alone,) = model.fill([text], options, [np.random.default_rng([0, number])])
        assert alone == together[number]


def brute_force_others(joint: Sequence[float], first: int, most: int, share: float) -> set[int]:
    marked = {first}
    for slot in sorted(range(len(joint)), key=lambda k: -joint[k]):
        near = any(abs(slot - other) <= 1 for other in marked)
        if len(marked) < most and not near and joint[slot] >= joint[first] + np.log(share):
            marked.add(slot)
    return marked


def test_several_insertions_against_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        logits = torch.randn(3, 8, 2, generator=generator)
        where, _ = pick(
            logits.flatten(0, 1), torch.arange(24), torch.zeros(2, 3, 8),
            torch.tensor([9, 9, 9]), FillOptions(insertions=4, least_share=0.3),
        )  # fmt: skip
        for row in range(3):
            joint = logits[row].amax(-1).tolist()
            first = int(logits[row].logsumexp(-1).argmax())
            expected = brute_force_others(joint, first, 4, 0.3)
            assert set(where[row].nonzero().flatten().tolist()) == expected


CASES: dict[str, tuple[Any, list[Text]]] = {
    "insertion": (insertion_lm, [Text([5, 6]), Text([], [5, 6, 7], [False, True, False, False])]),
    "flexible": (flexible_mask_lm, [Text([5, 6]), Text([7], [5, 8])]),
    "fixed": (fixed_mask_lm, [Text([5, 6]), Text([])]),
}


def numbered_rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


@pytest.mark.parametrize("name", CASES)
def test_rows_are_filled_as_the_model_fills_texts(name: str) -> None:
    make, texts = CASES[name]
    model = make().eval()
    options = FillOptions(max_new_tokens=6, temperature=0.8, top_p=0.9, steps=4)
    wanted = model.fill(texts, options, numbered_rngs(len(texts)))
    rows = [GapRow.of(text) for text in texts]
    decode(
        model, rows, max_new_tokens=6, temperature=0.8, top_p=0.9, eos=frozenset(),
        strategy=Insertion(FillOptions(steps=4), numbered_rngs(len(rows))),
    )  # fmt: skip
    assert [row.filled for row in rows] == wanted
    assert [row.tokens for row in rows] == [found.body for found in wanted]
    assert {row.finish for row in rows} <= {"eos", "length"}


def test_other_models_insert_nothing() -> None:
    rows: list[Row] = [GapRow.of(Text([5]))]
    with pytest.raises(ModelError, match="LlamaForCausalLM generates from left to right"):
        decode(
            small_llama(), rows, max_new_tokens=3, temperature=0, top_p=1,
            eos=frozenset(), strategy=Insertion(FillOptions(), numbered_rngs(1)),
        )  # fmt: skip
