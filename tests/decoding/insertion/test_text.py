"""Framing and inserting against lists."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.decoding.insertion import EncoderConfig, Text, TextBatch

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
