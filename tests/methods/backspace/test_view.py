"""How trajectories look."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from codegen.core.records import Example
from codegen.methods.backspace import Backspace, Codec, replay
from codegen.methods.backspace.actions import add_noise, open_text, overview, render, steps

BKSPC = 9


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
