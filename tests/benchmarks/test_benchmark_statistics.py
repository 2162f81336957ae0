"""Intervals of the benchmarks against closed forms and against resampling by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.benchmarks.tools.report import Report
from codegen.benchmarks.tools.statistics import (
    Estimate,
    clustered_mean,
    geometric_mean_ratio,
    rate,
    ratio_of_sums,
)
from codegen.errors import InputError

COSTS = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12)


@given(COSTS, st.floats(1e-2, 1e2))
def test_a_constant_ratio_has_no_uncertainty(costs: list[float], factor: float) -> None:
    for estimate in (
        ratio_of_sums([factor * cost for cost in costs], costs),
        geometric_mean_ratio([factor * cost for cost in costs], costs),
    ):
        assert estimate == pytest.approx((factor, factor, factor))


def test_the_geometric_mean_agrees_with_the_normal_interval_of_its_logarithm() -> None:
    rng = np.random.default_rng(0)
    logs = rng.normal(3, 0.5, 400)
    estimate = geometric_mean_ratio(list(np.exp(logs)), [1.0] * 400)
    half = 1.96 * logs.std() / math.sqrt(400)
    assert math.log(estimate.value) == pytest.approx(logs.mean())
    assert estimate.low is not None and estimate.high is not None
    assert math.log(estimate.low) == pytest.approx(logs.mean() - half, abs=half / 10)
    assert math.log(estimate.high) == pytest.approx(logs.mean() + half, abs=half / 10)


def test_the_ratio_of_sums_agrees_with_the_delta_method() -> None:
    rng = np.random.default_rng(1)
    bottom = rng.gamma(4, 1.0, 500)
    top = 10 * bottom * rng.gamma(25, 1 / 25, 500)
    ratio = top.sum() / bottom.sum()
    half = 1.96 * np.std(top - ratio * bottom) / (math.sqrt(500) * bottom.mean())
    estimate = ratio_of_sums(list(top), list(bottom))
    assert estimate.value == pytest.approx(ratio)
    assert estimate.low == pytest.approx(ratio - half, abs=half / 10)
    assert estimate.high == pytest.approx(ratio + half, abs=half / 10)


def test_strata_keep_their_sizes() -> None:
    """Units that differ only between the sets leave nothing uncertain once the sets are fixed."""
    top, bottom = [10.0] * 5 + [90.0] * 5, [1.0] * 10
    strata = ["a"] * 5 + ["b"] * 5
    assert ratio_of_sums(top, bottom, strata) == (50, 50, 50)
    free = ratio_of_sums(top, bottom)
    assert free.low is not None and free.high is not None
    assert free.low < 40 and free.high > 60


def test_the_same_seed_gives_the_same_interval() -> None:
    costs = [float(n) for n in range(1, 31)], [float(n * n % 31) for n in range(1, 31)]
    assert ratio_of_sums(*costs, seed=3) == ratio_of_sums(*costs, seed=3)
    assert ratio_of_sums(*costs, seed=3) != ratio_of_sums(*costs, seed=4)


def test_one_unit_has_no_interval() -> None:
    assert ratio_of_sums([6.0], [2.0]) == Estimate(3.0, None, None)


@pytest.mark.parametrize(
    ("top", "bottom"),
    [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([-1.0], [1.0]), ([math.nan], [1.0])],
)
def test_costs_that_have_no_ratio_are_refused(top: list[float], bottom: list[float]) -> None:
    with pytest.raises(InputError):
        ratio_of_sums(top, bottom)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_solves_its_equation(pair: tuple[int, int]) -> None:
    """Its bounds are the p with (value - p)^2 = z^2 p (1 - p) / n."""
    count, total = pair
    value, low, high = rate(count, total)
    assert low is not None and high is not None
    assert low <= value == count / total <= high
    for bound in (low, high):
        if 0 < bound < 1:
            spread = 1.959963984540054**2 * bound * (1 - bound) / total
            assert (value - bound) ** 2 == pytest.approx(spread, abs=1e-9)


@pytest.mark.parametrize(("count", "total"), [(1, 0), (-1, 5), (6, 5), (0, 0)])
def test_a_share_of_nothing_is_refused(count: int, total: int) -> None:
    with pytest.raises(InputError):
        rate(count, total)


def test_a_report_puts_figures_first_and_what_belongs_to_them_beside() -> None:
    report = Report(seed=5)
    report.set("ratio", Estimate(123.456789, 100.000001, 150.0), n=44)
    report.set("single", Estimate(2.0, None, None))
    report.set("absent", None)
    report.set("count", 123_456_789)
    report.set("tiny", 0.000123456789)
    result = report.mapping()
    assert result["ratio"] == 123.46
    assert result["tiny"] == 0.00012346
    assert result["count"] == 123_456_789  # counts are not rounded
    assert result["absent"] is None
    assert result["intervals"] == {"ratio": [100.0, 150.0]}
    assert result["samples"] == {"ratio": 44}
    assert result["seed"] == 5


def test_the_mean_over_clusters_agrees_with_the_normal_interval_of_their_means() -> None:
    rng = np.random.default_rng(2)
    centres = rng.normal(0.2, 0.5, 300)
    values = [float(c + e) for c in centres for e in rng.normal(0, 1, 4)]
    clusters = [str(n) for n in range(300) for _ in range(4)]
    means = np.asarray(values).reshape(300, 4).mean(axis=1)
    half = 1.96 * means.std() / math.sqrt(300)
    value, low, high = clustered_mean(values, clusters)
    assert low is not None and high is not None
    assert value == pytest.approx(means.mean())
    assert low == pytest.approx(value - half, abs=half / 10)
    assert high == pytest.approx(value + half, abs=half / 10)
    # Units of one cluster count once.
    same = clustered_mean(values * 9, clusters * 9)
    assert same.low == pytest.approx(low, abs=half / 10)
    assert clustered_mean([1.0, 3.0], ["a", "a"]) == (2.0, None, None)
    with pytest.raises(InputError):
        clustered_mean([], [])
