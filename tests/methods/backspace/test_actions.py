"""Noise, labels and replay against slow, independent constructions."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.core.records import TrainingText
from codegen.methods.backspace import IGNORE, Trajectory, from_text, replay
from codegen.methods.backspace.actions import (
    add_noise,
    demonstrator_labels,
    is_trajectory,
    kinds,
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
