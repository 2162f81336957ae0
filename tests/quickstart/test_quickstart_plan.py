"""The plan fits the time and keeps what the user chose."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.errors import ConfigError, InputError, ResumeError
from codegen.quickstart import (
    STAGES,
    Plan,
    Rates,
    Settings,
    choose_sizes,
    choose_stride,
    quickstart,
    read_plan,
)
from codegen.runs import RunDirectory

# Two quiet cores with AVX2 and the embedded model, about.
AVX2 = Rates(load=1.5, token=0.008, step=0.06, row=0.004)
TOKENS = {"whole": [110.0, 160.0], "edits": [330.0, 480.0]}
rates_of = st.builds(
    Rates,
    load=st.floats(0.05, 10),
    token=st.floats(1e-4, 0.1),
    step=st.floats(1e-4, 0.3),
    row=st.floats(1e-5, 0.02),
)
settings_of = st.builds(
    Settings,
    minutes=st.floats(0.5, 600),
    steps=st.none() | st.integers(1, 300),
    limit=st.none() | st.integers(1, 200),
)


def plan(rates: Rates, settings: Settings, spent: float) -> Plan:
    """The plan after the stages before it took so many seconds."""
    given = Plan({}, 4, TOKENS, rates, spent={STAGES[0]: spent})
    return choose_sizes(given, settings)


@given(rates_of, settings_of, st.floats(0, 100))
def test_a_plan_fits_or_is_the_least(rates: Rates, settings: Settings, spent: float) -> None:
    made = plan(rates, settings, spent)
    assert settings.steps in (None, made.steps) and settings.limit in (None, made.functions)
    assert set(made.expected) == {STAGES[0], *STAGES[4:]}
    if sum(made.expected.values()) > 60 * settings.minutes:
        assert settings.steps or made.steps == 5
        assert settings.limit or made.functions in range(20, 201)


@given(rates_of)
def test_time_is_used(rates: Rates) -> None:
    """Another step would not fit in the minutes without the reserve."""
    settings = Settings()
    made = plan(rates, settings, 60)
    if 5 < made.steps < 150:
        step_s = 4 * rates.token * sum(mean for mean, _ in TOKENS.values())
        assert sum(made.expected.values()) + step_s > 0.9 * 600


@pytest.mark.parametrize(
    ("minutes", "answer_s", "stride"),
    [(10, 0.5, 1), (10, 1.0, 2), (10, 2.0, 4), (10, 100.0, 8), (60, 2.0, 1)],
)
def test_as_many_problems_as_fit(minutes: float, answer_s: float, stride: int) -> None:
    assert choose_stride(Settings(minutes=minutes), 164, answer_s) == stride


def test_the_users_number_of_problems() -> None:
    for limit in (1, 3, 20, 164, 1000):
        stride = choose_stride(Settings(limit=limit), 164, 1.0)
        assert len(range(164)[::stride][:limit]) == min(limit, 164)


def test_a_plan_is_kept_and_another_request_is_refused(tmp_path: Path) -> None:
    path, directory = tmp_path / "plan.json", RunDirectory(tmp_path)
    assert read_plan(directory, {"steps": None}) == Plan({"steps": None})
    made = replace(plan(AVX2, Settings(), 1), request={"minutes": 10.0, "steps": None})
    path.write_text(json.dumps(asdict(made)))
    assert read_plan(directory, {"minutes": 10.0, "steps": None}) == made
    with pytest.raises(ResumeError, match=r"minutes from 10\.0 to 5\.0\. Choose another"):
        read_plan(directory, {"minutes": 5.0, "steps": None})
    for damage in ("", "[]", "{}", json.dumps({**asdict(made), "rates": {"x": 1}})):
        path.write_text(damage)
        with pytest.raises(ResumeError, match="damaged"):
            read_plan(directory, {"minutes": 10.0})


@pytest.mark.parametrize("minutes", [0, 0.4, 1e9, float("nan"), -float("inf")])
def test_times_without_sense_are_refused(minutes: float) -> None:
    with pytest.raises(ConfigError, match="minutes is"):
        Settings(minutes=minutes)


def test_two_at_once_and_links_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with RunDirectory(out).open(), pytest.raises(InputError, match="another process"):
        quickstart(Settings(out=str(out)))
    (out / "plan.json").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="symbolic link"):
        quickstart(Settings(out=str(out)))
