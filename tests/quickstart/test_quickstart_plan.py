"""The plan fits the time, keeps what the user chose, and is lowered rather than overrun."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codegen.errors import ConfigError, InputError, ResumeError
from codegen.quickstart import (
    FULL_N,
    FULL_STEPS,
    STAGES,
    Plan,
    Rates,
    Settings,
    Sizes,
    choose,
    expect,
    lower,
    quickstart,
    read_plan,
)
from codegen.runs import RunDirectory

# Two quiet cores with AVX2 and the embedded model, about.
AVX2 = Rates(load=1.5, train_step=12.0, prompt=0.28, step=0.06, step_row=0.004)
rates_of = st.builds(
    Rates,
    load=st.floats(0.05, 10),
    train_step=st.floats(0.01, 100),
    prompt=st.floats(1e-4, 2),
    step=st.floats(1e-4, 0.3),
    step_row=st.floats(1e-5, 0.02),
)
settings_of = st.builds(
    Settings,
    minutes=st.floats(0.5, 600),
    steps=st.none() | st.integers(1, 300),
    n=st.none() | st.integers(1, 30),
    limit=st.none() | st.integers(1, 200),
)


def total(rates: Rates, settings: Settings, sizes: Sizes) -> float:
    return sum(expect(rates, settings, sizes).values())


def plan(rates: Rates, settings: Settings, slower: float) -> Plan:
    """A plan after two fine-tunings that took ``slower`` times what was expected."""
    sizes = choose(rates, settings, 40, 30)
    expected = {STAGES[0]: 20.0, STAGES[1]: 10.0} | expect(rates, settings, sizes)
    spent = {name: seconds * slower for name, seconds in list(expected.items())[:4]}
    return Plan({}, rates, sizes, expected, spent)


@given(rates_of, settings_of, st.floats(0, 100))
def test_a_plan_fits_or_is_the_least(rates: Rates, settings: Settings, spent: float) -> None:
    sizes = choose(rates, settings, 164, spent)
    assert 1 <= sizes.problems <= min(164, settings.limit or 164)
    assert settings.steps in (None, sizes.steps) and settings.n in (None, sizes.n)
    assert settings.budget
    if spent + total(rates, settings, sizes) > settings.budget:
        assert settings.steps or sizes.steps == 2
        assert settings.n or sizes.n == 1
        assert settings.limit or sizes.problems == 4


@given(rates_of)
def test_time_is_used(rates: Rates) -> None:
    """Another sample of each problem, or another problem, would not fit."""
    settings = Settings()
    sizes = choose(rates, settings, 40, 0)
    assume(sizes.n < 20 and total(rates, settings, sizes) <= 600)
    more = {"n": sizes.n + 1} if sizes.problems == 40 else {"problems": sizes.problems + 1}
    assert total(rates, settings, replace(sizes, **more)) > 0.95 * 600 - 1e-6


def test_the_whole_comparison_does_not_look_at_the_clock() -> None:
    settings = Settings(full=True)
    assert choose(AVX2, settings, 40, 1e6) == Sizes(FULL_STEPS, FULL_N, 40)
    assert lower(plan(AVX2, settings, 100), settings) == Sizes(32, 5, 40)


@pytest.mark.parametrize("minutes", [5, 10, 30])
@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0])
def test_a_machine_that_gets_slower_ends_within_twice(minutes: float, factor: float) -> None:
    settings = Settings(minutes=minutes)
    made = plan(AVX2, settings, factor)
    sizes = lower(made, settings)
    assert made.sizes and sizes.steps == made.sizes.steps
    assert sizes.n <= made.sizes.n and sizes.problems <= made.sizes.problems
    assert (sizes == made.sizes) == (factor == 1.0)
    rest = {k: v for k, v in expect(AVX2, settings, sizes).items() if k not in made.spent}
    took = sum(made.spent.values()) + factor * sum(rest.values())
    assert took <= (1.2 if factor < 2 else 1.6) * 60 * minutes


def test_a_plan_is_kept_and_another_request_is_refused(tmp_path: Path) -> None:
    path, directory = tmp_path / "plan.json", RunDirectory(tmp_path)
    assert read_plan(directory, {"n": None}) == Plan({"n": None})
    made = replace(plan(AVX2, Settings(), 1), request={"seconds": 600.0, "n": None})
    path.write_text(json.dumps(asdict(made)))
    assert read_plan(directory, {"seconds": 600.0, "n": None}) == made
    with pytest.raises(ResumeError, match=r"seconds from 600\.0 to 300\.0\. Choose another"):
        read_plan(directory, {"seconds": 300.0, "n": None})
    for damage in ("", "[]", "{}", json.dumps({**asdict(made), "rates": {"x": 1}})):
        path.write_text(damage)
        with pytest.raises(ResumeError, match="damaged"):
            read_plan(directory, {"seconds": 600.0})


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
