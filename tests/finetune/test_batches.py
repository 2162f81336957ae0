"""Layouts against the plain truth: the model run on each state's own tokens, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from codegen.finetune.batches import (
    attending,
    cumulative_lengths,
    dense_mask,
    joined,
    mask_inputs,
    padded,
)
from codegen.finetune.encode import RowLayout, causal, from_stack
from codegen.finetune.recipe import Attention
from codegen.methods.backspace import Trajectory, stack_layout

BKSPC = 699


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float64).eval()


@st.composite
def walks(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """A prompt, and actions after it: tokens, and backspaces where there is something to remove."""
    prompt = draw(st.lists(st.integers(3, 600), min_size=1, max_size=3))
    actions: list[int] = []
    depth = 0
    for _ in range(draw(st.integers(1, 12))):
        if depth and draw(st.booleans()):
            actions.append(BKSPC)
            depth -= 1
        else:
            actions.append(draw(st.integers(3, 600)))
            depth += 1
    return prompt, actions


class Slots:
    """A part of a row: its tokens and layout, and for each slot the tokens that it stands for."""

    def __init__(self, prompt: list[int], actions: list[int]) -> None:
        labels = [-100] * len(prompt) + [0] * len(actions)
        found = stack_layout(Trajectory((*prompt, *actions), tuple(labels), len(prompt), BKSPC))
        self.tokens = list(found.tokens)
        self.layout = from_stack(found)
        self.states = [prompt[: k + 1] for k in range(len(prompt))]
        stack = list(prompt)
        for action in actions:
            if action == BKSPC:
                stack.pop()
            else:
                stack.append(action)
                self.states.append(list(stack))
        self.left = stack


def check(model: Any, tokens: list[int], layout: RowLayout, states: list[list[int]]) -> None:
    """Each slot's logits are those of the last token of its state, run by itself."""
    backends: tuple[Attention, ...] = ("dense", "auto")
    with torch.inference_mode():
        alone = [model(input_ids=torch.tensor([state])).logits[0, -1] for state in states]
        for attention in backends:
            with attending(model, attention):
                together = model(
                    input_ids=torch.tensor([tokens]),
                    position_ids=torch.from_numpy(layout.positions)[None],
                    **mask_inputs([layout], [layout], attention),
                ).logits[0]
            assert (together[: len(states)] - torch.stack(alone)).abs().max() < 1e-10


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(walks(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_backspaces_in_chunks_in_a_padded_pack(
    model: Any, chunks: list[list[tuple[list[int], list[int]]]]
) -> None:
    tokens: list[int] = []
    states: list[list[int]] = []
    layouts = []
    for chunk in chunks:
        before: list[int] = []
        parts = [Slots(*walk) for walk in chunk]
        for part in parts:
            tokens += part.tokens
            states += [before + state for state in part.states]
            before = before + part.left
        layouts.append(joined([part.layout for part in parts], isolated=False))
    row = padded(joined(layouts, isolated=True), len(tokens) + 3)
    check(model, [*tokens, 2, 2, 2], row, states)


def test_packed_documents_are_what_they_are_alone(model: Any) -> None:
    documents = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
    row = joined([causal(len(d)) for d in documents], isolated=True)
    states = [d[: k + 1] for d in documents for k in range(len(d))]
    check(model, [token for d in documents for token in d], row, states)


def test_padding_changes_nothing_and_sees_nothing() -> None:
    row = padded(joined([causal(2), causal(3)], isolated=False), 8)
    mask = dense_mask(torch.from_numpy(row.end)[None])[0, 0]
    assert torch.equal(mask[:5, :5], torch.ones(5, 5, dtype=torch.bool).tril())
    assert torch.equal(mask[5:], torch.eye(8, dtype=torch.bool)[5:])
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


def test_cumulative_lengths_only_of_causal_blocks() -> None:
    pack = joined([causal(3), joined([causal(2), causal(2)], isolated=False)], isolated=True)
    assert cumulative_lengths(pack) == [0, 3, 7]
    assert cumulative_lengths(padded(pack, 9)) == [0, 3, 7, 8, 9]
    assert cumulative_lengths(Slots([4], [5, 6, BKSPC, 7]).layout) is None
    assert causal(4).is_causal and not pack.is_causal
    assert joined([causal(2), causal(2)], isolated=False).is_causal
