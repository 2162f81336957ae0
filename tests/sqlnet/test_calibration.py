"""Confidence: the fit against known truth, the error against its definition."""

from __future__ import annotations

import math
import random

import pytest

from codegen.sqlnet.trust import (
    Calibration,
    Curve,
    calibration_error,
    calibration_from_row,
    fit_curve,
    fit_curves,
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_fit_finds_the_curve_that_made_the_outcomes() -> None:
    rng = random.Random(0)
    pairs = []
    for _ in range(20_000):
        odds = rng.gauss(1, 2)
        right = rng.random() < sigmoid(0.6 * odds - 0.5)
        pairs.append((math.log(sigmoid(odds)), right))
    curve = fit_curve(pairs)
    assert curve.scale == pytest.approx(0.6, abs=0.03)
    assert curve.shift == pytest.approx(-0.5, abs=0.05)
    before = calibration_error((math.exp(p), right) for p, right in pairs)
    after = calibration_error((curve(p), right) for p, right in pairs)
    assert after < 0.02 < before


@pytest.mark.parametrize("right", [True, False])
def test_outcomes_that_are_all_alike_give_a_finite_curve(right: bool) -> None:
    curve = fit_curve([(math.log(0.9), right)] * 200)
    assert math.isfinite(curve.scale) and math.isfinite(curve.shift)
    assert (curve(math.log(0.9)) > 0.95) == right


def test_too_few_or_contrary_outcomes_leave_the_probability() -> None:
    assert fit_curve([(-0.1, True)] * 9) == Curve()
    contrary = [(math.log(0.99), False), (math.log(0.01), True)] * 100
    assert fit_curve(contrary) == Curve()


def test_a_curve_keeps_the_order_and_the_identity_keeps_the_value() -> None:
    probabilities = [1e-300, 1e-9, 0.1, 0.5, 0.9, 1 - 1e-9, 1.0]
    logs = [math.log(p) for p in probabilities]
    found = [Curve(0.7, 0.3)(x) for x in logs]
    assert found == sorted(found)
    assert Curve()(math.log(0.3)) == pytest.approx(0.3)
    assert all(0 <= Curve()(x) <= 1 for x in [*logs, float("-inf")])


def test_the_error_is_the_gap_of_each_bin_weighed_by_its_share() -> None:
    pairs = [(0.95, True), (0.95, False), (0.15, False), (0.12, True)]
    expected = 0.5 * abs(0.95 - 0.5) + 0.5 * abs(0.135 - 0.5)
    assert calibration_error(pairs) == pytest.approx(expected)
    assert calibration_error([]) == 0
    assert calibration_error([(1.0, True)]) == 0


def test_calibration_is_kept_in_a_row() -> None:
    held = fit_curves([{"query": [(-0.2, i % 3 > 0)]} for i in range(60)])
    again = calibration_from_row(held.to_row())
    assert again.confidence("query", -0.2) == held.confidence("query", -0.2)
    assert held.confidence("query", -0.2) == pytest.approx(2 / 3, abs=0.05)
    assert Calibration().confidence("query", math.log(0.4)) == pytest.approx(0.4)
