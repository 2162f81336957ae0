"""The stack-expiry layout against a simulation that keeps every state as a list."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.methods.backspace import StackLayout, Trajectory, stack_layout

BKSPC = 9


@st.composite
def legal_trajectories(draw: st.DrawFn) -> Trajectory:
    """Any legal actions, right tokens removed and doubled backspaces among them."""
    prompt = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    actions: list[int] = []
    depth = 0
    for action in draw(st.lists(st.sampled_from([0, 1, 2, 3, BKSPC, BKSPC]), max_size=30)):
        if action == BKSPC and not depth:
            continue
        depth += -1 if action == BKSPC else 1
        actions.append(action)
    labels = [-100] * len(prompt) + [draw(st.integers(0, 3)) for _ in actions]
    return Trajectory((*prompt, *actions), tuple(labels), len(prompt), BKSPC)


def simulate(trajectory: Trajectory) -> tuple[list[list[int]], list[list[int]]]:
    """(the stack of slots when each slot was made, the stack before each action and at the end)."""
    slots = 0
    at_birth: list[list[int]] = []
    stack: list[int] = []
    before: list[list[int]] = []
    for time, action in enumerate(trajectory.actions):
        if time >= trajectory.prompt_tokens:
            before.append(stack)
        if time >= trajectory.prompt_tokens and action == BKSPC:
            stack = stack[:-1]
        else:
            stack = [*stack, slots]
            at_birth.append(stack)
            slots += 1
    return at_birth, [*before, stack]


@given(legal_trajectories())
def test_against_simulation(trajectory: Trajectory) -> None:
    layout = stack_layout(trajectory)
    at_birth, before = simulate(trajectory)
    size = len(layout.tokens)
    assert size == len(at_birth) == len(layout.positions) == len(layout.end)
    for query in range(size):
        seen = [key for key in range(size) if key <= query < layout.end[key]]
        assert seen == at_birth[query]
        assert layout.positions[query] == len(seen) - 1
    assert list(layout.nodes) == [stack[-1] for stack in before]
    # What a node's slot sees spells the state in which the action was chosen.
    kept: list[int] = list(trajectory.actions[: trajectory.prompt_tokens])
    for time, action in enumerate(layout.actions):
        assert [layout.tokens[slot] for slot in at_birth[layout.nodes[time]]] == kept
        kept = kept[:-1] if action == BKSPC else [*kept, action]
    assert [layout.tokens[slot] for slot in at_birth[layout.nodes[-1]]] == kept == trajectory.clean
    assert layout.labels == trajectory.labels[trajectory.prompt_tokens :]
    assert len(layout.nodes) == len(layout.actions) + 1 == len(layout.labels) + 1


def test_a_small_case_by_hand() -> None:
    """Prompt 5; then 1, wrong 7, wrong 6, two backspaces, 2, EOS 0."""
    actions = (5, 1, 7, 6, BKSPC, BKSPC, 2, 0)
    layout = stack_layout(Trajectory(actions, (-100, 1, 2, 9, 9, 9, 2, 0), 1, BKSPC))
    assert layout.tokens == (5, 1, 7, 6, 2, 0)
    assert layout.positions == (0, 1, 2, 3, 2, 3)
    assert layout.end == (6, 6, 4, 4, 6, 6)
    assert layout.nodes == (0, 1, 2, 3, 2, 1, 4, 5)


def test_the_prompt_can_not_be_removed() -> None:
    with pytest.raises(InputError, match="Action 2 is a backspace, but only the prompt is left"):
        stack_layout(Trajectory((5, 5, BKSPC), (-100, -100, 1), 2, BKSPC))


@pytest.mark.slow
def test_one_pass_gives_the_logits_of_sequential_execution(tiny_model_dir) -> None:
    """Each state run by itself, and all in one pass, through a random Llama with rotary positions.

    The difference is of rounding alone (transformers' norms and softmax are in float32), hundreds
    of times smaller than what a removed token would make if it were seen.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        tiny_model_dir, dtype=torch.float64, attn_implementation="eager"
    ).eval()

    def one_pass(layout: StackLayout, end: Sequence[int]) -> torch.Tensor:
        index = torch.arange(len(layout.tokens))
        seen = (index <= index[:, None]) & (index[:, None] < torch.tensor(end))
        bias = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, float("-inf"))
        ids, positions = torch.tensor([layout.tokens]), torch.tensor([layout.positions])
        logits = model(ids, attention_mask=bias[None, None], position_ids=positions).logits[0]
        return logits[torch.tensor(layout.nodes)]

    rng = random.Random(3)
    worst, blind = 0.0, []
    for _ in range(10):
        actions, depth = [rng.randrange(10, 400) for _ in range(3)], 0
        for _ in range(25):
            back = depth > 0 and rng.random() < 0.4
            actions.append(BKSPC if back else rng.randrange(10, 400))
            depth += -1 if back else 1
        layout = stack_layout(Trajectory(tuple(actions), tuple(actions), 3, BKSPC))
        state = list(actions[:3])
        with torch.inference_mode():
            alone = [model(torch.tensor([state])).logits[0, -1]]
            for action in layout.actions:
                state = state[:-1] if action == BKSPC else [*state, action]
                alone.append(model(torch.tensor([state])).logits[0, -1])
            together = one_pass(layout, layout.end)
            unmasked = one_pass(layout, [len(layout.tokens)] * len(layout.tokens))
        worst = max(worst, float((together - torch.stack(alone)).abs().max()))
        blind.append(float((unmasked - torch.stack(alone)).abs().max()))
    assert worst < 1e-4 < 1e-2 < min(blind)
