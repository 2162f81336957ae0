"""pass@k, its intervals and the paired test against enumeration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.evals.statistics import (
    Count,
    base_task,
    clustered_error,
    compare,
    default_ks,
    estimate_pass_at_k,
    estimate_pass_hat_k,
    holm,
    pass_at_k,
    sign_flip_p,
    wilson,
)


def enumerated(n: int, c: int, k: int) -> float:
    """The share of k-subsets of n samples that hold one of the c correct ones."""
    subsets = list(itertools.combinations(range(n), k))
    return sum(min(subset) < c for subset in subsets) / len(subsets)


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_is_the_enumeration_of_subsets(n: int) -> None:
    for c in range(n + 1):
        for k in range(1, n + 1):
            assert pass_at_k(n, c, k) == pytest.approx(enumerated(n, c, k), abs=1e-12)


@given(st.integers(1, 400), st.data())
def test_pass_at_k_equals_binomials_is_monotone_and_exact_at_the_edges(n: int, data) -> None:
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    value = pass_at_k(n, c, k)
    assert value == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), abs=1e-9)
    assert pass_at_k(n, 0, k) == 0.0
    assert pass_at_k(n, n, k) == 1.0
    if k < n:
        assert pass_at_k(n, c, k + 1) >= value - 1e-12
    if c < n:
        assert pass_at_k(n, c + 1, k) >= value - 1e-12


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 2, 0), (4, 5, 1), (4, -1, 1), (0, 0, 1)])
def test_undefined_values_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(InputError):
        pass_at_k(n, c, k)


def test_an_estimate_needs_k_samples_of_every_task_and_lets_n_differ() -> None:
    counts = [Count(5, 1), Count(3, 0), Count(8, 8)]
    assert estimate_pass_at_k(counts, 4) is None
    assert estimate_pass_at_k([], 1) is None
    estimate = estimate_pass_at_k(counts, 2)
    assert estimate is not None
    expected = (enumerated(5, 1, 2) + 0 + 1) / 3
    assert estimate.value == pytest.approx(expected)
    assert (estimate.m, estimate.n) == (3, 3)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_samples_interval_is_the_jackknife_done_by_deleting(k: int) -> None:
    counts = [Count(6, 2), Count(5, 0), Count(7, 7), Count(4, 3)]
    variance = 0.0
    for count in counts:
        passed = [True] * count.c + [False] * (count.n - count.c)
        left_out = np.array(
            [enumerated(count.n - 1, sum(passed) - one, k) for one in map(int, passed)]
        )
        variance += (count.n - 1) / count.n * ((left_out - left_out.mean()) ** 2).sum()
    half = 1.959963984540054 * math.sqrt(variance) / len(counts)
    estimate = estimate_pass_at_k(counts, k)
    assert estimate is not None
    assert estimate.samples_low == pytest.approx(max(0, estimate.value - half))
    assert estimate.samples_high == pytest.approx(min(1, estimate.value + half))


def test_one_sample_a_task_has_no_samples_interval_and_one_task_no_tasks_interval() -> None:
    estimate = estimate_pass_at_k([Count(1, 1), Count(1, 0)], 1)
    assert estimate is not None
    assert estimate.samples_low is None
    assert estimate.tasks_low is not None
    single = estimate_pass_at_k([Count(9, 4)], 1)
    assert single is not None
    assert single.tasks_low is None
    assert single.samples_low is not None


@pytest.mark.parametrize("m", [5, 164])
@pytest.mark.parametrize("k", [1, 3])
def test_all_failed_or_all_passed_still_has_width(m: int, k: int) -> None:
    none = estimate_pass_at_k([Count(10, 0)] * m, k)
    every = estimate_pass_at_k([Count(10, 10)] * m, k)
    assert none is not None and every is not None
    for low, high in [(none.tasks_low, none.tasks_high), (none.samples_low, none.samples_high)]:
        assert low == 0.0
        assert high is not None and 0.0 < high < 0.5
    for low, high in [(every.tasks_low, every.tasks_high), (every.samples_low, every.samples_high)]:
        assert high == 1.0
        assert low is not None and 0.5 < low < 1.0


def test_wilson_solves_its_defining_equation() -> None:
    # Wilson's limits are the p for which |x - p| = z * sqrt(p(1-p)/n).
    for x, n in [(0.3, 20), (0.0, 7), (0.95, 41.5)]:
        for p in wilson(x, n):
            assert abs(x - p) == pytest.approx(1.959963984540054 * math.sqrt(p * (1 - p) / n))


@given(st.lists(st.tuples(st.integers(2, 12), st.integers(0, 12)), min_size=2, max_size=12))
def test_intervals_hold_the_value_and_stay_in_range(pairs: list[tuple[int, int]]) -> None:
    counts = [Count(n, min(n, c)) for n, c in pairs]
    estimate = estimate_pass_at_k(counts, 1)
    assert estimate is not None
    assert estimate.tasks_low is not None and estimate.tasks_high is not None
    assert 0 <= estimate.tasks_low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.tasks_high <= 1
    assert estimate.samples_low is not None and estimate.samples_high is not None
    assert 0 <= estimate.samples_low <= estimate.value <= estimate.samples_high <= 1


@pytest.mark.parametrize(("m", "k", "least"), [(164, 1, 0.92), (164, 5, 0.92), (30, 1, 0.89)])
def test_intervals_cover_what_they_claim(m: int, k: int, least: float) -> None:
    """Tasks with Beta(0.3, 1) success rates, 10 samples each; nominal coverage is 0.95."""
    rng = np.random.default_rng(20240607)
    shape, n, runs = 0.3, 10, 400
    # E[1 - (1-p)^k] = 1 - B(a, 1+k) / B(a, 1)
    log_beta = math.lgamma(1 + k) + math.lgamma(shape + 1) - math.lgamma(shape + 1 + k)
    truth = 1 - math.exp(log_beta)
    tasks = samples = 0
    for _ in range(runs):
        rates = rng.beta(shape, 1.0, size=m)
        counts = [Count(n, int(c)) for c in rng.binomial(n, rates)]
        estimate = estimate_pass_at_k(counts, k)
        assert estimate is not None
        assert estimate.tasks_low is not None and estimate.tasks_high is not None
        assert estimate.samples_low is not None and estimate.samples_high is not None
        tasks += estimate.tasks_low <= truth <= estimate.tasks_high
        fixed = float((1 - (1 - rates) ** k).mean())
        samples += estimate.samples_low <= fixed <= estimate.samples_high
    assert least < tasks / runs <= 0.985
    assert least < samples / runs <= 0.985


def brute_force_p(differences: list[float]) -> float:
    observed = abs(sum(differences))
    hits = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed - 1e-9
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    return sum(hits) / len(hits)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=8))
def test_the_exact_test_is_the_enumeration_of_signs(pairs: list[tuple[int, int]]) -> None:
    first = {str(i): Count(4, a) for i, (a, _) in enumerate(pairs)}
    second = {str(i): Count(3, b) for i, (_, b) in enumerate(pairs)}
    comparison = compare(first, second)
    assert comparison is not None
    assert comparison.method == "exact"
    expected = brute_force_p([b / 3 - a / 4 for a, b in pairs])
    assert comparison.p_value == pytest.approx(expected)
    by_enumeration, _ = sign_flip_p(np.array([b / 3 - a / 4 for a, b in pairs]))
    assert by_enumeration == pytest.approx(expected)


def test_with_one_sample_a_task_it_is_mcnemars_exact_test() -> None:
    first = {str(i): Count(1, int(i < 12)) for i in range(100)}
    second = {str(i): Count(1, int(8 <= i < 40)) for i in range(100)}
    comparison = compare(first, second)
    assert comparison is not None
    assert (comparison.better, comparison.worse) == (28, 8)
    tail = sum(math.comb(36, i) for i in range(9)) / 2**36
    assert comparison.p_value == pytest.approx(2 * tail)
    assert comparison.difference == pytest.approx(0.20)


def test_monte_carlo_agrees_with_the_exact_test_and_repeats() -> None:
    rng = np.random.default_rng(3)
    differences = rng.integers(-5, 7, size=60) / 10
    exact, how = sign_flip_p(differences, lattice=10)
    drawn, method = sign_flip_p(differences, seed=1)
    assert (how, method) == ("exact", "monte-carlo")
    assert drawn == pytest.approx(exact, abs=0.01)
    assert sign_flip_p(differences, seed=1)[0] == drawn


def test_comparison_edges() -> None:
    same = {"a": Count(3, 1), "b": Count(3, 2)}
    comparison = compare(same, same)
    assert comparison is not None
    assert (comparison.p_value, comparison.difference) == (1.0, 0.0)
    assert compare(same, {"c": Count(3, 1)}) is None
    assert compare(same, same, k=4) is None


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_default_ks() -> None:
    assert default_ks(10) == (1, 2, 3, 5, 10)
    assert default_ks(16) == (1, 2, 3, 5, 10, 16)
    assert default_ks(1) == (1,)
    assert default_ks(0) == ()


# --- all of k, and most of k -------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_hat_k_is_the_enumeration_of_subsets(n: int) -> None:
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        hits = [sum(i < c for i in subset) for subset in itertools.combinations(range(n), k)]
        estimate = estimate_pass_hat_k([Count(n, c)], k)
        assert estimate is not None
        assert estimate.value == pytest.approx(np.mean([h == k for h in hits]), abs=1e-12)


def test_the_samples_interval_of_pass_hat_k_is_the_jackknife_done_by_deleting() -> None:
    counts, k = [Count(6, 2), Count(5, 4), Count(7, 7), Count(4, 3)], 2
    variance = 0.0
    for count in counts:
        passed = [1] * count.c + [0] * (count.n - count.c)
        left_out = np.array(
            [
                math.comb(count.c - one, k) / math.comb(count.n - 1, k) if count.c - one >= 0 else 0
                for one in passed
            ]
        )
        variance += (count.n - 1) / count.n * ((left_out - left_out.mean()) ** 2).sum()
    half = 1.959963984540054 * math.sqrt(variance) / len(counts)
    estimate = estimate_pass_hat_k(counts, k)
    assert estimate is not None
    assert estimate.value == pytest.approx(np.mean([1 / 15, 6 / 10, 1, 3 / 6]))
    assert estimate.samples_low == pytest.approx(max(0, estimate.value - half))
    assert estimate.samples_high == pytest.approx(min(1, estimate.value + half))
    assert estimate.tasks_low is not None and estimate.tasks_high is not None
    assert estimate.tasks_low < estimate.value < estimate.tasks_high
    assert estimate_pass_hat_k([Count(1, 1)], 2) is None


# --- clusters ----------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), min_size=2, max_size=20).filter(
        lambda rows: len({group for group, _ in rows}) > 1
    )
)
def test_the_clustered_error_is_millers_double_sum(rows: list[tuple[int, float]]) -> None:
    groups, scores = [g for g, _ in rows], np.array([s for _, s in rows])
    m, number = len(scores), len(set(groups))
    off = scores - scores.mean()
    # Miller 2024: the variance of independent items, and the cross terms within clusters.
    variance = (off**2).sum() / m**2
    for i, j in itertools.permutations(range(m), 2):
        if groups[i] == groups[j]:
            variance += off[i] * off[j] / m**2
    error = clustered_error(scores, groups)
    assert error == pytest.approx(math.sqrt(max(0, variance) * number / (number - 1)), abs=1e-7)
    alone = clustered_error(scores)
    assert alone == pytest.approx(scores.std(ddof=1) / math.sqrt(m), abs=1e-12)


def test_copies_of_a_task_add_nothing() -> None:
    counts = [Count(10, c) for c in (1, 5, 9, 3, 7)]
    once = estimate_pass_at_k(counts, 1)
    copied = [count for count in counts for _ in range(40)]
    clusters = [i for i in range(5) for _ in range(40)]
    fourtyfold = estimate_pass_at_k(copied, 1, clusters)
    naive = estimate_pass_at_k(copied, 1)
    assert once is not None and fourtyfold is not None and naive is not None
    assert (fourtyfold.tasks_low, fourtyfold.tasks_high) == pytest.approx(
        (once.tasks_low, once.tasks_high)
    )
    assert (fourtyfold.clusters, fourtyfold.m, naive.clusters) == (5, 200, 200)
    assert naive.tasks_low is not None and fourtyfold.tasks_low is not None
    assert naive.tasks_low > fourtyfold.tasks_low


def test_clustered_intervals_cover_where_plain_ones_do_not() -> None:
    """120 groups of 1 to 12 variants with one rate each; nominal coverage is 0.95."""
    rng = np.random.default_rng(7)
    runs, clustered, plain = 300, 0, 0
    for _ in range(runs):
        sizes = rng.integers(1, 13, size=120)
        rates = rng.beta(0.6, 0.6, size=120)
        groups = np.repeat(np.arange(120), sizes)
        counts = [Count(5, int(c)) for c in rng.binomial(5, rates[groups])]
        for clusters in (groups.tolist(), None):
            estimate = estimate_pass_at_k(counts, 1, clusters)
            assert estimate is not None
            assert estimate.tasks_low is not None and estimate.tasks_high is not None
            hit = estimate.tasks_low <= 0.5 <= estimate.tasks_high
            clustered += hit and clusters is not None
            plain += hit and clusters is None
    assert clustered / runs > 0.91
    assert plain / runs < 0.65


def test_a_clustered_comparison_flips_whole_clusters() -> None:
    first = {f"{g}/{i}": Count(2, 1) for g in range(4) for i in range(3)}
    second = {f"{g}/{i}": Count(2, 1 + (g > 0) * (i > 0)) for g in range(4) for i in range(3)}
    comparison = compare(first, second, cluster=lambda id_: id_[0])
    assert comparison is not None
    assert (comparison.m, comparison.clusters) == (12, 4)
    assert comparison.p_value == pytest.approx(brute_force_p([1.0, 1.0, 1.0]))  # 2 of 8
    single = compare(first, second)
    assert single is not None
    assert single.p_value == pytest.approx(2 / 64)


def test_variants_are_known_by_their_names() -> None:
    names = ["SingleLineInfilling/HumanEval/0/L0", "RandomSpanInfilling/HumanEval/0/1"]
    assert {base_task(name) for name in names} == {"HumanEval/0"}
    assert base_task("HumanEval/10") == "HumanEval/10"
    assert base_task("Mbpp/7") == "Mbpp/7"
    assert base_task("NotHumanEval/7x/1") == "NotHumanEval/7x/1"
