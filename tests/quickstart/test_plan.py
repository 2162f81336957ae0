"""The plan fits the time, keeps what the user chose, and is lowered rather than overrun."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codegen.errors import ConfigError, InputError, ResumeError
from codegen.quickstart import STAGES, Plan, Settings, quickstart
from codegen.quickstart.plan import (
    FULL_N,
    FULL_STEPS,
    MODELS,
    SHARD,
    Fixed,
    Rates,
    Sizes,
    choose,
    expect,
    lower,
    read_plan,
)
from codegen.runs import RunDirectory

# Two quiet cores with AVX2 and the embedded model, about.
AVX2 = Rates(
    measuring=15, data=15, load=1.5, example_tokens=250, train_token=0.006, prompt_tokens=140,
    prompt_token=0.002, step=0.06, step_row=0.004,
)  # fmt: skip
FIXED = Fixed(10.0, None, None, None, 8, 256, 40)
times = st.floats(1e-5, 1.0)
rates_of = st.builds(
    Rates,
    measuring=st.floats(1, 60),
    data=st.floats(0.1, 100),
    load=st.floats(0.05, 10),
    example_tokens=st.floats(10, 500),
    train_token=st.floats(1e-5, 0.05),
    prompt_tokens=st.floats(10, 500),
    prompt_token=st.floats(1e-6, 0.02),
    step=st.floats(1e-4, 0.3),
    step_row=st.floats(1e-5, 0.02),
)
fixed_of = st.builds(
    Fixed,
    minutes=st.floats(0.5, 600),
    steps=st.none() | st.integers(1, 300),
    n=st.none() | st.integers(1, 30),
    limit=st.none() | st.integers(1, 200),
    batch_size=st.integers(1, 16),
    max_new_tokens=st.integers(1, 512),
    task_problems=st.integers(1, 164),
)


def total(rates: Rates, fixed: Fixed, sizes: Sizes) -> float:
    return sum(expect(rates, fixed, sizes).values())


def plan(rates: Rates, fixed: Fixed, spent: dict[str, float] | None = None) -> Plan:
    sizes = choose(rates, fixed)
    return Plan({}, rates, sizes, expect(rates, fixed, sizes), spent or {})


def slower(rates: Rates, factor: float) -> Rates:
    return replace(
        rates,
        load=factor * rates.load,
        train_token=factor * rates.train_token,
        prompt_token=factor * rates.prompt_token,
        step=factor * rates.step,
        step_row=factor * rates.step_row,
    )


@given(rates_of, fixed_of)
def test_a_plan_fits_or_is_the_least(rates: Rates, fixed: Fixed) -> None:
    sizes = choose(rates, fixed)
    assert fixed.minutes is not None
    assert 1 <= sizes.problems <= min(fixed.task_problems, fixed.limit or 10**9)
    assert fixed.steps in (None, sizes.steps)
    assert fixed.n in (None, sizes.n)
    if total(rates, fixed, sizes) > 60 * fixed.minutes:
        # Nothing that is smaller in one size only.
        assert fixed.steps or sizes.steps == 2
        assert fixed.n or sizes.n == 1
        assert fixed.limit or sizes.problems == min(4, fixed.task_problems)


@given(rates_of, fixed_of, st.floats(1.0, 10.0))
def test_more_time_is_never_used_for_less(rates: Rates, fixed: Fixed, more: float) -> None:
    assert fixed.minutes is not None
    now = choose(rates, fixed)
    then = choose(rates, replace(fixed, minutes=more * fixed.minutes))
    assert then.steps >= now.steps
    assert total(rates, fixed, then) >= total(rates, fixed, now)


@given(rates_of)
def test_time_is_used(rates: Rates) -> None:
    """One more step of both fine-tunings, or another sample of each problem, would not fit."""
    sizes = choose(rates, FIXED)
    assume(sizes.n < 20 and total(rates, FIXED, sizes) <= 600)
    bigger = (
        replace(sizes, n=sizes.n + 1)
        if sizes.problems == 40
        else replace(sizes, problems=sizes.problems + 1)
    )
    assert total(rates, FIXED, bigger) > 0.95 * 600 - 1e-6


def test_the_whole_comparison_does_not_look_at_the_clock() -> None:
    fixed = replace(FIXED, minutes=None)
    for factor in (0.01, 1, 100):
        assert choose(slower(AVX2, factor), fixed) == Sizes(FULL_STEPS, FULL_N, 40)
        assert lower(slower(AVX2, factor), fixed, plan(AVX2, fixed)) == Sizes(32, 5, 40)


def test_what_a_run_takes_is_the_sum_over_what_it_does() -> None:
    """Counted in a loop over steps, batches and tokens, all live samples at their mean share."""
    sizes = Sizes(7, 3, 33)
    seconds = expect(AVX2, FIXED, sizes)
    training = sum(AVX2.train_token * AVX2.example_tokens for _ in range(7 * 8))
    assert seconds[STAGES[3]] == seconds[STAGES[4]] == pytest.approx(training + 5 * AVX2.load)
    made = 0.0
    left = 3 * 33
    while left:
        rows = min(SHARD, left)
        left -= rows
        made += rows * AVX2.prompt_tokens * AVX2.prompt_token
        made += sum(AVX2.step + 0.75 * rows * AVX2.step_row for _ in range(256))
    again = 2 * AVX2.load  # measured once more
    again += 2 * (4 * AVX2.prompt_tokens * AVX2.prompt_token + 12 * (AVX2.step + 3 * AVX2.step_row))
    assert seconds["samples"] == pytest.approx(MODELS * (made + 2 * AVX2.load) + again)


@pytest.mark.parametrize("minutes", [5, 10, 30])
@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0])
def test_a_machine_that_gets_slower_ends_within_twice(minutes: float, factor: float) -> None:
    """Another process comes right after the measurement: all that follows takes ``factor``."""
    fixed = replace(FIXED, minutes=minutes)
    made = plan(AVX2, fixed)
    assert made.seconds <= 60 * minutes
    spent = {
        name: (1 if name == STAGES[0] else factor) * made.expected[name] for name in STAGES[:5]
    }
    sizes = lower(slower(AVX2, factor), fixed, replace(made, spent=spent))
    assert (sizes == made.sizes) == (factor == 1.0)
    rest = expect(slower(AVX2, factor), fixed, sizes)
    took = sum(spent.values()) + sum(rest[name] for name in STAGES[5:])
    assert took <= (1.15 if factor < 2 else 1.5) * 60 * minutes


@given(rates_of, fixed_of, st.floats(0.1, 20))
def test_lowering_only_lowers(rates: Rates, fixed: Fixed, factor: float) -> None:
    made = plan(rates, fixed, {STAGES[3]: 60.0})
    sizes = lower(slower(rates, factor), fixed, made)
    assert sizes.steps == made.sizes.steps
    assert sizes.n <= made.sizes.n and sizes.problems <= made.sizes.problems
    assert fixed.n in (None, sizes.n)
    assert not fixed.limit or sizes.problems == made.sizes.problems


def test_a_plan_is_kept_and_another_request_is_refused(tmp_path: Path) -> None:
    path, directory = tmp_path / "plan.json", RunDirectory(tmp_path)
    assert read_plan(directory, {"minutes": 10.0}) is None
    made = replace(plan(AVX2, FIXED), request={"minutes": 10.0, "n": None}).write(directory)
    assert read_plan(directory, {"minutes": 10.0, "n": None}) == made
    with pytest.raises(ResumeError, match=r"minutes from 10\.0 to 5\.0\. Choose another"):
        read_plan(directory, {"minutes": 5.0, "n": None})
    for damage in ("", "[]", "{}", json.dumps({**json.loads(path.read_text()), "rates": {"x": 1}})):
        path.write_text(damage)
        with pytest.raises(ResumeError, match="damaged"):
            read_plan(directory, {"minutes": 10.0})


@pytest.mark.parametrize("minutes", [0, -1, 0.4, 1e9, float("nan"), float("inf"), -float("inf")])
def test_times_without_sense_are_refused(minutes: float) -> None:
    with pytest.raises(ConfigError, match="minutes is"):
        Settings(minutes=minutes)


def test_two_at_once_and_links_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with RunDirectory(out).open(), pytest.raises(InputError, match="another process"):
        quickstart(Settings(out=str(out)))
    assert [path.name for path in out.iterdir()] == [".lock"]
    (out / "plan.json").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="symbolic link"):
        quickstart(Settings(out=str(out)))
