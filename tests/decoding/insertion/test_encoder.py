"""The encoder with its prefix apart against one dense mask over the whole text."""

from __future__ import annotations

import torch
from models_under_test import insertion_lm

from codegen.decoding.insertion import Text, TextBatch
from codegen.decoding.insertion.base import rotary_angles

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
