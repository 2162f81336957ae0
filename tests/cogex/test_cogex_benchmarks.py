"""The benchmarks of CoGEX, small."""

from __future__ import annotations

import pytest

from codegen.benchmarks.tools.cogex_replay import Outcomes, compare


def program(name: str) -> str:
    return f"def {name}(x):\n    return {{'answer': x}}"


def test_a_clear_winner_is_the_same_for_both() -> None:
    right = {program(f"f{n}"): [n == 3] * 30 for n in range(6)}
    trial = compare(Outcomes("t", tuple(right), right), 0.2, seed=0)
    assert (trial.full, trial.same, trial.lost) == (180, True, 0.0)
    assert trial.halving <= 36 and trial.within_noise


def test_a_worse_choice_is_seen() -> None:
    """The first item decides for halving, the others speak for the other program."""
    right = {program("a"): [True] + [False] * 99, program("b"): [False] + [True] * 99}
    outcomes = Outcomes("t", tuple(right), right)
    trials = [compare(outcomes, 0.01, seed) for seed in range(300)]
    worse = [trial for trial in trials if not trial.same]
    assert 0 < len(worse) < 20  # about one in 100
    assert all(trial.lost == pytest.approx(0.98) and not trial.within_noise for trial in worse)
