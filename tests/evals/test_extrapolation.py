"""Fits of success rates and of coverage, against scipy, theory and simulated benchmarks."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import integrate, stats

from codegen.errors import InputError
from codegen.evals.statistics import (
    BetaBinomial,
    Count,
    extrapolate,
    extrapolation,
    fit_beta_binomial,
    fit_coverage,
    pass_at_k,
    sampling_flops,
)


def simulated(
    rng: np.random.Generator, model: BetaBinomial, tasks: int, n: int
) -> tuple[np.ndarray, list[Count]]:
    rates = rng.beta(model.alpha, model.beta, tasks) * (rng.random(tasks) >= model.zero)
    return rates, [Count(n, int(c)) for c in rng.binomial(n, rates)]


@pytest.mark.parametrize(("a", "b", "zero", "k"), [(0.3, 1, 0, 7), (2, 5, 0.25, 40), (1, 1, 0, 1)])
def test_pass_at_k_of_the_model_is_the_integral(a: float, b: float, zero: float, k: int) -> None:
    expected, _ = integrate.quad(
        lambda rate: (1 - (1 - rate) ** k) * stats.beta.pdf(rate, a, b), 0, 1, limit=200
    )
    assert BetaBinomial(a, b, zero).pass_at_k(k) == pytest.approx((1 - zero) * expected, rel=1e-5)


@pytest.mark.parametrize("point", [(-0.5, 0.3), (1.5, -2.0), (-0.5, 0.3, -1.0), (0.2, 3.0, 1.5)])
def test_the_slopes_of_the_likelihood_are_those_of_differences(point: tuple[float, ...]) -> None:
    n, c = np.array([10.0, 10, 20, 7]), np.array([0.0, 3, 20, 0])
    weights = np.array([4.0, 2, 1, 3])

    def value(at: np.ndarray) -> float:
        return extrapolation._log_likelihood(extrapolation._model(at), n, c, weights)[0]

    at = np.array(point)
    _, slopes = extrapolation._log_likelihood(extrapolation._model(at), n, c, weights)
    steps = 1e-6 * np.eye(len(at))
    differences = [(value(at + step) - value(at - step)) / 2e-6 for step in steps]
    assert slopes[: len(at)] == pytest.approx(differences, rel=1e-5, abs=1e-6)


def test_the_likelihood_is_scipys_and_the_fit_is_its_top() -> None:
    rng = np.random.default_rng(5)
    _, counts = simulated(rng, BetaBinomial(0.4, 1.2), 164, 20)
    fitted = fit_beta_binomial(counts, zero=False)
    c = np.array([count.c for count in counts])
    constant = sum(math.log(math.comb(20, int(one))) for one in c)

    def likelihood(a: float, b: float) -> float:
        return float(stats.betabinom.logpmf(c, 20, a, b).sum()) - constant

    top = likelihood(fitted.alpha, fitted.beta)
    assert fitted.log_likelihood == pytest.approx(top, abs=1e-6)
    for a, b in [(1.02, 1), (0.98, 1), (1, 1.02), (1, 0.98), (1.02, 1.02), (0.98, 0.98)]:
        assert likelihood(fitted.alpha * a, fitted.beta * b) <= top + 1e-6


def test_one_sample_more_is_what_the_model_says_it_is() -> None:
    """For k up to n the model agrees with the estimator that assumes nothing."""
    rng = np.random.default_rng(9)
    _, counts = simulated(rng, BetaBinomial(0.5, 1.0), 2000, 20)
    fitted = fit_beta_binomial(counts)
    for k in (1, 5, 20):
        unbiased = np.mean([pass_at_k(count.n, count.c, k) for count in counts])
        assert fitted.pass_at_k(k) == pytest.approx(unbiased, abs=0.01)


@pytest.mark.parametrize(
    "truth", [BetaBinomial(0.3, 1.0), BetaBinomial(0.2, 1.5, 0.3), BetaBinomial(0.4, 6.0)]
)
def test_five_times_the_samples_are_foretold_without_bias(truth: BetaBinomial) -> None:
    rng = np.random.default_rng(11)
    n, k, runs = 20, 100, 12
    naive, errors, covered = [], [], 0
    for _ in range(runs):
        _, counts = simulated(rng, truth, 164, n)
        (found,) = extrapolate(counts, [k], draws=40)
        assert found.extrapolated and found.n == n
        errors.append(found.value - truth.pass_at_k(k))
        covered += found.low <= truth.pass_at_k(k) <= found.high
        plain = np.mean([1 - (1 - count.c / count.n) ** k for count in counts])
        naive.append(plain - truth.pass_at_k(k))
    assert abs(np.mean(errors)) < 0.04
    assert np.sqrt(np.mean(np.square(errors))) < 0.1
    assert np.mean(naive) < -0.08  # what the usual shortcut would have said
    assert covered >= runs - 3


def test_mass_at_zero_is_found_where_it_is_and_only_there() -> None:
    rng = np.random.default_rng(13)
    _, counts = simulated(rng, BetaBinomial(3.0, 3.0, 0.4), 400, 20)
    assert fit_beta_binomial(counts).zero == pytest.approx(0.4, abs=0.06)
    _, counts = simulated(rng, BetaBinomial(3.0, 3.0), 400, 20)
    assert fit_beta_binomial(counts).zero == 0.0


def test_the_lower_tail_gives_the_power_law() -> None:
    """Schaeffer et al. 2025: 1 - pass@k goes as k^-alpha."""
    model = BetaBinomial(0.37, 2.0)
    misses = [1 - model.pass_at_k(k) for k in (10**6, 10**7)]
    assert math.log10(misses[0] / misses[1]) == pytest.approx(0.37, abs=1e-3)


def test_all_failed_all_passed_and_no_spread() -> None:
    (none,) = extrapolate([Count(10, 0)] * 30, [100], draws=20)
    assert none.value < 0.05
    (every,) = extrapolate([Count(10, 10)] * 30, [100], draws=20)
    assert every.value > 0.99
    (same,) = extrapolate([Count(1000, 100)] * 50, [2000], draws=20)
    assert same.value == pytest.approx(1.0, abs=1e-3)
    model = fit_beta_binomial([Count(1000, 100)] * 50)
    assert model.pass_at_k(5) == pytest.approx(1 - 0.9**5, abs=0.01)


def test_what_can_not_be_extrapolated_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        fit_beta_binomial([Count(1, 1)] * 5)
    with pytest.raises(InputError, match="at least 2"):
        fit_beta_binomial([])
    with pytest.raises(InputError, match="needs no extrapolation"):
        extrapolate([Count(10, 3)] * 5, [10])


def test_draws_repeat() -> None:
    counts = [Count(8, c) for c in (0, 0, 1, 4, 8, 2, 0, 7)]
    assert extrapolate(counts, [16], draws=10) == extrapolate(counts, [16], draws=10)


def test_a_coverage_curve_is_found_again() -> None:
    truth = {k: math.exp(-1.7 * k**-0.45) for k in (1, 2, 3, 5, 10, 20, 50, 100)}
    fit = fit_coverage({**truth, 200: 1.0})
    assert (fit.a, fit.b, fit.points) == pytest.approx((-1.7, -0.45, 8))
    assert fit.worst < 1e-9
    assert fit.coverage(30) == pytest.approx(math.exp(-1.7 * 30**-0.45))
    with pytest.raises(InputError, match="three"):
        fit_coverage({1: 0.1, 2: 0.2, 3: 0.0})


def test_flops_by_hand() -> None:
    once = sampling_flops(10, parameters=100, prompt_tokens=7, completion_tokens=3)
    assert once == 2 * 100 * (7 + 30)
    each = sampling_flops(
        10, parameters=100, prompt_tokens=7, completion_tokens=3, prompt_cached=False
    )
    assert each == 2 * 100 * 100


def test_a_fit_starts_no_threads_and_leaves_the_environment_alone() -> None:
    script = (
        "import os, numpy\n"
        "from codegen.evals.statistics import Count, fit_beta_binomial\n"
        "before = len(os.listdir('/proc/self/task')), dict(os.environ)\n"
        "fit_beta_binomial([Count(4, 1), Count(4, 2), Count(4, 0)])\n"
        "assert before == (len(os.listdir('/proc/self/task')), dict(os.environ))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == 0
