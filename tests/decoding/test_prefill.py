"""Packed prompts have the states of prompts alone; candidates the probabilities of texts alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from codegen.decoding import prefill
from codegen.decoding.cache import KVCache
from codegen.decoding.loop import Row, decode
from codegen.decoding.prefill import padded

RAGGED = [[5, 9, 20, 31, 8], [7], [11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22], [40, 3], [6] * 4]


def states(model: Any, given: Sequence[Sequence[int]], fill: Any, **options: Any) -> list[Any]:
    """Keys and values of each row's tokens but the last, by layer."""
    cache = KVCache(model.config.num_hidden_layers, 32)
    fill(model, cache, given, **options)
    return [
        [
            (layer.keys[i, :, : len(row) - 1], layer.values[i, :, : len(row) - 1])  # type: ignore[attr-defined]
            for layer in cache.layers
        ]
        for i, row in enumerate(given)
        if len(row) > 1
    ]


@pytest.mark.parametrize(
    "given",
    [RAGGED, [[7], [8]], [[7]], [[1, 2, 3]] * 3, [list(range(3, 20)), [4, 5]]],
    ids=["ragged", "ones", "one", "equal", "two"],
)
@pytest.mark.parametrize("block", [2048, 7])
def test_states_are_those_of_prompts_alone(llama: Any, given: list[list[int]], block: int) -> None:
    packed = states(llama, given, prefill.packed, block=block)
    apart = [states(llama, [row], padded)[0] for row in given if len(row) > 1]
    assert len(packed) == len(apart)
    for ours, theirs in zip(packed, apart, strict=True):
        for pair, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(pair, other, atol=2e-6, rtol=1e-5)


def test_rows_are_full(llama: Any) -> None:
    """Eleven tokens at most a row: the sixteen to encode take two rows, not five."""
    packed = prefill.PackedPrompts.of([row[:-1] for row in RAGGED], torch.device("cpu"))
    assert packed.tokens.shape == (2, 10)
    for row, (number, column) in zip(RAGGED, packed.places, strict=True):
        length = len(row) - 1
        assert packed.tokens[number, column : column + length].tolist() == row[:-1]
        assert packed.positions[number, column : column + length].tolist() == list(range(length))


def test_the_loop_packs_ragged_prompts(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    whole = prefill.packed
    monkeypatch.setattr(prefill, "packed", lambda *a: (used.append(1), whole(*a))[1])

    def run(given: list[list[int]]) -> list[list[int]]:
        rows = [Row(list(prompt), [0.5] * 12) for prompt in given]
        decode(llama, rows, max_new_tokens=12, temperature=0, top_p=1, eos=frozenset())
        return [row.tokens for row in rows]

    together = run(RAGGED)
    assert used == [1]
    assert together == [run([prompt])[0] for prompt in RAGGED]
    assert used == [1]
