"""Framing and inserting against lists."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_under_test import insertion_lm

from codegen.decoding.insertion import EncoderConfig, Text, TextBatch
from codegen.decoding.insertion.base import rotary_angles

CONFIG = EncoderConfig(vocab_size=30)


def test_frame_and_padding() -> None:
    batch = TextBatch.of([Text([7, 8], [9]), Text([], [], [True])], CONFIG)
    assert batch.input_ids.tolist() == [[0, 7, 8, 1, 9], [0, 1, 2, 2, 2]]
    assert batch.attention_mask.tolist() == [[True] * 5, [True] * 2 + [False] * 3]
    assert batch.kinds[0].tolist() == [0, 1, 1, 1, 2]
    assert batch.open_slots.tolist() == [[False] * 3 + [True] * 2, [False, True] + [False] * 3]
    assert batch.bodies() == [[9], []]


texts = st.builds(
    lambda prefix, body, seed: Text(
        prefix, body, [bool(seed >> k & 1) for k in range(len(body) + 1)]
    ),
    st.lists(st.integers(5, 29), max_size=3),
    st.lists(st.integers(5, 29), max_size=5),
    st.integers(0, 255),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=1, max_size=4), st.data())
def test_inserting_is_inserting_into_lists(texts: list[Text], data: st.DataObject) -> None:
    batch = TextBatch.of(texts, CONFIG)
    where = torch.zeros_like(batch.attention_mask)
    tokens = torch.randint(5, 30, where.shape, generator=torch.Generator().manual_seed(0))
    bodies, flags = [], []
    for row, text in enumerate(texts):
        marks = data.draw(st.lists(st.booleans(), min_size=len(text.body) + 1,
                                   max_size=len(text.body) + 1))  # fmt: skip
        start = 1 + len(text.prefix)
        body: list[int] = []
        slots: list[bool] = []
        for number, mark in enumerate(marks):
            where[row, start + number] = mark
            if number:
                body.append(text.body[number - 1])
            slots.append(text.slots[number])
            if mark:
                body.append(int(tokens[row, start + number]))
                slots.append(True)
        bodies.append(body)
        flags.append(slots)
    grown = batch.insert(where, tokens)
    assert grown.bodies() == bodies
    expected = TextBatch.of(
        [Text(t.prefix, b, f) for t, b, f in zip(texts, bodies, flags, strict=True)], CONFIG
    )
    assert torch.equal(grown.open_slots, expected.open_slots)
    assert torch.equal(grown.attention_mask, expected.attention_mask)
    keep = grown.attention_mask
    assert torch.equal(grown.input_ids[keep], expected.input_ids[keep])
    assert torch.equal(grown.kinds[keep], expected.kinds[keep])


TEXTS = [
    Text([5, 6, 7], [8, 5], [True, False, True]),
    Text([5, 6, 7], []),
    Text([8], [6, 6, 6, 5]),
    Text([], [7]),
]


def test_a_prefix_apart_is_a_mask_over_the_whole_text() -> None:
    apart = insertion_lm(prefix_apart=True, marks_open_slots=True)
    batch = TextBatch.of(TEXTS, apart.config)
    assert batch.prefixes is not None and len(batch.prefixes.input_ids) == 3  # equal ones once
    got = apart.encoder(batch)
    joint = insertion_lm(marks_open_slots=True)
    for row, text in enumerate(TEXTS):
        whole = TextBatch.of([text], joint.config)
        encoder, prefix = joint.encoder, len(text.prefix)
        x = encoder.embed(whole.input_ids, whole.attention_mask, whole.kinds, whole.open_slots)
        size = x.shape[1]
        seen = torch.ones(size, size, dtype=torch.bool)
        seen[1 : 1 + prefix] = False
        seen[1 : 1 + prefix, 1 : 1 + prefix] = True
        angles = rotary_angles(torch.arange(size), encoder.head_size, encoder.theta)
        rotation = (angles.cos(), angles.sin())
        for layer in encoder.layers:
            x = layer.update(x, *layer.project(x, rotation), seen[None, None])
        keep = [0, *range(1 + prefix, size)]  # [CLS], [BOS], body
        torch.testing.assert_close(got[row, : len(keep)], x[0, keep], atol=1e-12, rtol=0)


def test_neighbours_are_mixed_in_but_not_padding() -> None:
    encoder = insertion_lm(mixes_neighbours=True).encoder
    config = insertion_lm().config
    batch = TextBatch.of([Text([5, 6], [7]), Text([8], [])], config)
    got = encoder.embed(batch.input_ids, batch.attention_mask, batch.kinds, batch.open_slots)
    assert encoder.neighbours is not None
    left, right = encoder.neighbours.weight.chunk(2, 1)
    plain = encoder.tokens(batch.input_ids) + encoder.kinds(batch.kinds)
    for row, length in enumerate(batch.lengths.tolist()):
        for k in range(length):
            expected = plain[row, k].clone()
            if k > 0:
                expected += left @ plain[row, k - 1]
            if k + 1 < length:
                expected += right @ plain[row, k + 1]
            torch.testing.assert_close(got[row, k], expected, atol=1e-12, rtol=0)
