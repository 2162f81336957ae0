"""Noise, labels and replay against slow, independent constructions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.core.records import Example, TrainingText
from codegen.methods.backspace import (
    IGNORE,
    Backspace,
    Codec,
    StackLayout,
    Trajectory,
    from_text,
    replay,
    stack_layout,
)
from codegen.methods.backspace.actions import (
    add_noise,
    demonstrator_labels,
    is_trajectory,
    kinds,
    open_text,
    overview,
    render,
    steps,
    to_meta,
)

BKSPC = 9


def noised(prompt, clean, seed, eta, span):
    """Noise from a vocabulary of 8 tokens, so that wrong tokens often occur elsewhere in clean."""
    rng = random.Random(seed)

    def propose(at: int, most: int) -> list[int]:
        first = rng.choice([token for token in range(8) if token != clean[at]])
        return [first, *(rng.randrange(8) for _ in range(most - 1))]

    return add_noise(prompt, clean, propose, rng, bkspc=BKSPC, eta=eta, span=span)


def slow_labels(actions, clean, prompt_tokens):
    """For each action, the demonstrator's choice, by rebuilding the state from the start."""
    labels = []
    for time in range(len(actions)):
        if time < prompt_tokens:
            labels.append(-100)
            continue
        state = list(actions[:prompt_tokens])
        for action in actions[prompt_tokens:time]:
            state = state[:-1] if action == BKSPC else [*state, action]
        right_so_far = state == clean[: len(state)]
        labels.append(clean[len(state)] if right_so_far else BKSPC)
    return labels


trajectories = st.builds(
    noised,
    prompt=st.lists(st.integers(0, 7), min_size=1, max_size=4),
    clean=st.lists(st.integers(0, 7), min_size=1, max_size=12),
    seed=st.integers(0, 2**32),
    eta=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    span=st.integers(1, 4),
)


@given(trajectories)
def test_labels_are_the_demonstrators(result) -> None:
    trajectory = result.trajectory
    expected = slow_labels(trajectory.actions, trajectory.clean, trajectory.prompt_tokens)
    assert list(trajectory.labels) == expected
    assert demonstrator_labels(trajectory) == expected


@given(trajectories)
def test_counts_and_what_is_never_done(result) -> None:
    trajectory = result.trajectory
    start = trajectory.prompt_tokens
    actions, labels = trajectory.actions[start:], trajectory.labels[start:]
    assert actions[0] != BKSPC
    assert actions.count(BKSPC) == result.wrong == kinds(trajectory).count("wrong")
    assert kinds(trajectory).count("kept") == len(trajectory.clean) - start
    # A label that is a token is the next token of the clean text: none is ever wrong.
    tokens = [label for label in labels if label != BKSPC]
    assert len(tokens) == len(trajectory.clean) - start + result.events
    again = iter(trajectory.clean[start:])
    collapsed = [next(again) for kind in kinds(trajectory) if kind == "kept"]
    assert collapsed == trajectory.clean[start:]
    assert all(label == IGNORE for label in trajectory.labels[:start])


@given(
    prompt=st.lists(st.integers(0, 9), max_size=3),
    actions=st.lists(st.sampled_from([0, 1, 2, BKSPC])),
)
def test_replay_against_string_surgery(prompt: list[int], actions: list[int]) -> None:
    state, illegal = list(prompt), False
    for action in actions:
        if action == BKSPC:
            illegal = illegal or len(state) == len(prompt)
            state = state[:-1]
        else:
            state = [*state, action]
    if illegal:
        with pytest.raises(InputError, match="only the prompt is left"):
            replay([*prompt, *actions], BKSPC, len(prompt))
    else:
        assert replay([*prompt, *actions], BKSPC, len(prompt)) == state


def test_the_papers_example() -> None:
    """... x_i, x', <bkspc>, x_{i+1} ... with labels x_{i+1}, <bkspc>, x_{i+1}."""
    draws = iter([0.9, 0.0, 0.9])
    rng = random.Random()
    rng.random = lambda: next(draws)
    result = add_noise([5], [1, 2, 3], lambda at, most: [7], rng, bkspc=BKSPC, eta=0.5)
    assert result.trajectory.actions == (5, 1, 7, BKSPC, 2, 3)
    assert result.trajectory.labels == (-100, 1, 2, BKSPC, 2, 3)
    assert (result.events, result.wrong, result.no_candidate) == (1, 1, 0)


def test_a_run_of_wrong_tokens() -> None:
    """The label is right once, then the backspace until nothing wrong is left."""
    rng = random.Random(0)
    result = add_noise([5], [1], lambda at, most: [7, 6, 1], rng, bkspc=BKSPC, eta=1.0, span=3)
    assert result.trajectory.actions == (5, 7, 6, 1, BKSPC, BKSPC, BKSPC, 1)
    assert result.trajectory.labels == (-100, 1, *[BKSPC] * 5, 1)


@pytest.mark.parametrize("eta", [0.001, 0.05, 0.5])
def test_the_noise_rate_is_eta(eta: float) -> None:
    """Within five standard deviations of the binomial; lengths of runs are even from 1 to span."""
    positions, span = 200_000, 4
    clean = [i % 7 for i in range(positions)]
    result = noised([7], clean, seed=1, eta=eta, span=span)
    spread = math.sqrt(positions * eta * (1 - eta))
    assert abs(result.events - positions * eta) < 5 * spread
    mean = result.wrong / result.events
    deviation = math.sqrt((span**2 - 1) / 12 / result.events)
    assert abs(mean - (span + 1) / 2) < 5 * deviation


def text_with(**changes) -> TrainingText:
    meta = to_meta(Trajectory((5, 1, 7, BKSPC, 2), (-100, 1, 2, BKSPC, 2), 1, BKSPC))
    return TrainingText("t", "e", "backspace", (), {**meta, **changes})


def test_from_text_gives_back_what_to_meta_took() -> None:
    text = text_with()
    assert is_trajectory(text) and not is_trajectory(replace(text, generator="lintseq"))
    trajectory = from_text(text)
    assert trajectory.actions == (5, 1, 7, BKSPC, 2)
    assert trajectory.clean == [5, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bkspc": None}, "'bkspc'"),
        ({"bkspc": True}, "'bkspc'"),
        ({"prompt_tokens": 0}, "are inconsistent"),
        ({"prompt_tokens": 5}, "are inconsistent"),
        ({"actions": "5 1"}, "'actions'"),
        ({"actions": [5, 1.0, 7, 9, 2]}, "'actions'"),
        ({"labels": [-100, 1, 2]}, "are inconsistent"),
        ({"labels": [-100, 1, 7, 9, 2]}, "label 2 is 7, but 2"),
        ({"labels": [-100, 1, 2, 7, 2]}, "label 3 is 7, but 9"),
        ({"labels": [5, 1, 2, 9, 2]}, "label 0 is 5, but -100"),
        ({"actions": [5, 9, 7, 9, 2]}, "Action 1 is a backspace"),
    ],
)
def test_unsound_records_are_refused(changes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        from_text(text_with(**changes))
    assert "'t'" in str(caught.value)


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


@given(
    clean=st.lists(st.integers(0, 7), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
    eta=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_steps_agree_with_replay(clean: list[int], seed: int, eta: float) -> None:
    rng = random.Random(seed)

    def propose(at: int, most: int) -> list[int]:
        return [(clean[at] + 1) % 8, *(rng.randrange(8) for _ in range(most - 1))]

    trajectory = add_noise([3], clean, propose, rng, bkspc=BKSPC, eta=eta, span=3).trajectory
    found = steps(trajectory)
    assert found[0].time == 0 and found[-1].time == len(trajectory.actions) - 1
    for step in found:
        executed = trajectory.actions[: 1 + step.time]
        assert replay(executed, BKSPC, 1) == [3, *clean[: step.kept], *step.wrong]
        following = trajectory.labels[1 + step.time : 2 + step.time]
        assert (step.label,) == following or (step.label is None and not following)
    assert len(found) == len({step.time for step in found})


def test_control_characters_do_not_reach_the_terminal(embedded: Codec) -> None:
    program = "x = '\x1b[2J\x07\u202e'\n"
    for seed in range(20):
        options = Backspace(eta=0.5, span=2)
        (text,) = options.generate(Example("e", "Do it.", program), random.Random(seed))
        trajectory, decode = open_text(text)
        pages = [render(step, trajectory, decode).plain for step in steps(trajectory)]
        whole = overview(trajectory, decode).plain
        for page in (*pages, whole):
            assert not {"\x1b", "\x07", "\u202e"} & set(page)
        assert "\\x1b" in whole
