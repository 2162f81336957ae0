"""The quickstart's plan fits the time and keeps the user's choices."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import ConfigError, InputError, ResumeError
from codegen.core.runs import RunDirectory
from codegen.quickstart import (
    STAGES,
    Plan,
    QuickstartOptions,
    choose_steps,
    quickstart,
    read_plan,
    rounds_of,
)

settings_of = st.builds(
    QuickstartOptions, minutes=st.floats(0.5, 600), steps=st.none() | st.integers(1, 300)
)
step_s_of = st.fixed_dictionaries({"whole": st.floats(0.01, 9), "edits": st.floats(0.01, 9)})


@given(settings_of, step_s_of, st.floats(0.1, 100), st.floats(0, 100))
def test_a_plan_fits_and_uses_the_time(
    settings: QuickstartOptions, step_s: dict[str, float], sampling_s: float, spent: float
) -> None:
    """It fits or is the least; another step would not fit in the minutes without the reserve."""
    given = Plan({}, 4, 1.0, step_s, sampling_s, spent={STAGES[0]: spent})
    made = choose_steps(given, settings)
    assert settings.steps in (None, made.steps)
    assert set(made.expected) == {STAGES[0], *STAGES[4:]}
    total = sum(made.expected.values())
    if total > 60 * settings.minutes:
        assert settings.steps or made.steps == 20
    elif not settings.steps and 20 < made.steps < 600:
        assert total + sum(step_s.values()) > 0.85 * 60 * settings.minutes


def test_rounds_spread_evenly_and_cover_all() -> None:
    rounds = rounds_of(range(164), None)
    assert [len(one) for one in rounds] == [6, 5, 10, 20, 41, 82]
    for number in range(1, len(rounds) + 1):
        asked = sorted(problem for one in rounds[:number] for problem in one)
        assert asked == list(range(0, 164, 64 >> number))


def test_the_users_number_of_problems() -> None:
    for limit in (1, 3, 20, 164, 1000):
        (chosen,) = rounds_of(range(164), limit)
        assert len(set(chosen)) == min(limit, 164)


def test_a_plan_is_kept_and_another_request_is_refused(tmp_path: Path) -> None:
    path, directory = tmp_path / "plan.json", RunDirectory(tmp_path)
    assert read_plan(directory, {"steps": None}) == Plan({"steps": None})
    made = Plan(
        {"minutes": 10.0, "steps": None}, 2, 9.5, {"whole": 0.3}, 1.5, 30, {}, {"report": 2.0}
    )
    path.write_text(json.dumps(asdict(made)))
    assert read_plan(directory, {"minutes": 10.0, "steps": None}) == made
    with pytest.raises(ResumeError, match=r"minutes from 10\.0 to 5\.0\. Choose another"):
        read_plan(directory, {"minutes": 5.0, "steps": None})
    for damage in ("", "[]", "{}", json.dumps({**asdict(made), "x": 1})):
        path.write_text(damage)
        with pytest.raises(ResumeError, match="corrupt"):
            read_plan(directory, {"minutes": 10.0})


@pytest.mark.parametrize("minutes", [0, 0.4, 1e9, float("nan"), -float("inf")])
def test_times_without_sense_are_refused(minutes: float) -> None:
    with pytest.raises(ConfigError, match="minutes is"):
        QuickstartOptions(minutes=minutes)


def test_one_model_answers() -> None:
    with pytest.raises(ConfigError, match="Pass one"):
        QuickstartOptions(small=True, model="mine")


def test_two_at_once_and_links_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with RunDirectory(out).open(), pytest.raises(InputError, match="another process"):
        quickstart(QuickstartOptions(out=str(out)))
    (out / "plan.json").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="symbolic link"):
        quickstart(QuickstartOptions(out=str(out)))
