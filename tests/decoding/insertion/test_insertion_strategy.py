"""The models behind the decoding loop's interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models_under_test import fixed_mask_lm, flexible_mask_lm, insertion_lm
from transformers import LlamaConfig, LlamaForCausalLM

from codegen.core.errors import ModelError
from codegen.decoding.insertion import FillOptions, GapRow, Insertion, Text
from codegen.decoding.loop import Row, decode

CASES: dict[str, tuple[Any, list[Text]]] = {
    "insertion": (insertion_lm, [Text([5, 6]), Text([], [5, 6, 7], [False, True, False, False])]),
    "flexible": (flexible_mask_lm, [Text([5, 6]), Text([7], [5, 8])]),
    "fixed": (fixed_mask_lm, [Text([5, 6]), Text([])]),
}


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


@pytest.mark.parametrize("name", CASES)
def test_rows_are_filled_as_the_model_fills_texts(name: str) -> None:
    make, texts = CASES[name]
    model = make().eval()
    options = FillOptions(max_new_tokens=6, temperature=0.8, top_p=0.9, steps=4)
    wanted = model.fill(texts, options, rngs(len(texts)))
    rows = [GapRow.of(text) for text in texts]
    decode(
        model, rows, max_new_tokens=6, temperature=0.8, top_p=0.9, eos=frozenset(),
        strategy=Insertion(FillOptions(steps=4), rngs(len(rows))),
    )  # fmt: skip
    assert [row.filled for row in rows] == wanted
    assert [row.tokens for row in rows] == [found.body for found in wanted]
    assert {row.finish for row in rows} <= {"eos", "length"}


def test_other_models_insert_nothing() -> None:
    config = LlamaConfig(vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=2)  # fmt: skip
    rows: list[Row] = [GapRow.of(Text([5]))]
    with pytest.raises(ModelError, match="LlamaForCausalLM generates from left to right"):
        decode(
            LlamaForCausalLM(config).eval(), rows, max_new_tokens=3, temperature=0, top_p=1,
            eos=frozenset(), strategy=Insertion(FillOptions(), rngs(1)),
        )  # fmt: skip
