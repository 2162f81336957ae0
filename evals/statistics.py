"""pass@k, pass^k and G-pass@k with their uncertainty, and the paired comparison of two runs.

Each estimate has two intervals:

* *tasks*: for the score on other tasks like these. It depends on the spread of the tasks' scores.
* *samples*: for the score on the same tasks with more samples each. It depends only on the sampling
  of completions.

Sources: the unbiased estimator is Chen et al. 2021 (arXiv 2107.03374, equation 1). Intervals over
tasks follow Miller 2024 (arXiv 2411.00640); below 100 tasks Wilson's interval with an effective
number of trials replaces the normal one, which is too narrow there (Bowyer et al. 2025, arXiv
2503.01747). The interval over samples is the delete-one jackknife of the U-statistic in
closed form. For tasks that are variants of one another (infilling), errors are clustered (Miller,
section 2.2). G-pass@k is from Liu et al. 2024 (arXiv 2412.13147).

Comparisons are paired by task, with Miller's standard error (section 4); the test is the sign-flip
permutation test, which for one sample per task is McNemar's exact test, with Holm's step-down
adjustment for several comparisons.

Limits: intervals are at level 95% and approximate; they can be too narrow close to 0 and 1 with few
tasks, and with few clusters. The null hypothesis of the test is "no difference on tasks like
these"; with few tasks the test cannot be significant (with six pairs p is at least 0.03).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from codegen.core.errors import InputError

Z95 = 1.959963984540054
_NORMAL_FROM = 100  # minimum number of tasks for the normal interval
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Count:
    """The samples of one task: ``n`` scored, ``c`` of them correct."""

    n: int
    c: int

    def __post_init__(self) -> None:
        if not 0 <= self.c <= self.n:
            raise InputError(f"{self.c} correct of {self.n} samples is impossible.")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean score over tasks, in [0, 1], with two 95% intervals.

    Attributes:
        value: mean over tasks.
        tasks_low, tasks_high: interval for other tasks like these; None with a single task.
        samples_low, samples_high: interval for these tasks with more samples; None if a task has no
            more than k samples.
        m: number of tasks.
        n: smallest number of samples per task.
        clusters: number of independent groups of tasks; ``m`` if all tasks are independent.
    """

    value: float
    tasks_low: float | None
    tasks_high: float | None
    samples_low: float | None
    samples_high: float | None
    m: int
    n: int
    clusters: int = 0

    def __post_init__(self) -> None:
        if not self.clusters:
            object.__setattr__(self, "clusters", self.m)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Returns the unbiased estimate of P(one of ``k`` samples passes), given ``c`` of ``n`` passed.

    1 - C(n-c, k) / C(n, k), computed as 1 - prod_{j=n-c+1..n} (1 - k/j), which neither overflows
    nor cancels.

    Raises:
        InputError: if pass@k is undefined: ``k`` < 1, ``n`` < ``k``, or ``c`` not in [0, ``n``].
    """
    if k < 1:
        raise InputError(f"pass@{k} is undefined: k must be at least 1.")
    if not 0 <= c <= n:
        raise InputError(f"{c} correct of {n} samples is impossible.")
    if n < k:
        raise InputError(
            f"pass@{k} is undefined for {n} samples.", f"Generate at least {k} per task."
        )
    if c == 0:
        return 0.0
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / j for j in range(n - c + 1, n + 1))


def estimate_pass_at_k(
    counts: Sequence[Count], k: int, clusters: Sequence[Hashable] | None = None
) -> Estimate | None:
    """Returns the mean pass@k over tasks with both intervals; None if undefined for some task.

    Args:
        counts: one count per task.
        k: number of attempts.
        clusters: the cluster of each task, such as the task it is a variant of; by default all
            tasks are independent. Affects only the interval over tasks.
    """
    if not counts or any(count.n < k for count in counts):
        return None
    scores = [pass_at_k(count.n, count.c, k) for count in counts]
    value = math.fsum(scores) / len(scores)
    tasks = clustered_interval(scores, value, clusters)
    samples = _samples_interval(counts, k, value)
    return Estimate(
        value,
        *tasks,
        *samples,
        m=len(counts),
        n=min(count.n for count in counts),
        clusters=len(set(clusters)) if clusters is not None else len(counts),
    )


def estimate_pass_hat_k(
    counts: Sequence[Count], k: int, clusters: Sequence[Hashable] | None = None
) -> Estimate | None:
    """Returns the mean pass^k over tasks with both intervals; None if undefined for some task.

    All k pass unless one fails, so this is 1 minus pass@k of the failures.
    """
    failures = estimate_pass_at_k([Count(c.n, c.n - c.c) for c in counts], k, clusters)
    if failures is None:
        return None

    def mirrored(end: float | None) -> float | None:
        return None if end is None else 1.0 - end

    return replace(
        failures,
        value=1.0 - failures.value,
        tasks_low=mirrored(failures.tasks_high),
        tasks_high=mirrored(failures.tasks_low),
        samples_low=mirrored(failures.samples_high),
        samples_high=mirrored(failures.samples_low),
    )


def clustered_error(
    scores: Sequence[float] | np.ndarray, clusters: Sequence[Hashable] | None = None
) -> float | None:
    """Returns the clustered standard error of the mean of ``scores``; None with a single cluster.

    sqrt(G / (G - 1) * sum over clusters g of (sum over i in g of (x_i - mean))^2) / m for m scores
    in G clusters. With clusters of size one it is the usual sd / sqrt(m).
    """
    values = np.asarray(scores, dtype=float)
    residuals = values - values.mean()
    if clusters is None:
        sums = residuals
    else:
        if len(clusters) != len(values):
            raise InputError(f"Got {len(clusters)} clusters for {len(values)} scores.")
        numbers: dict[Hashable, int] = {}
        places = np.array([numbers.setdefault(name, len(numbers)) for name in clusters])
        sums = np.bincount(places, weights=residuals)
    groups = len(sums)
    if groups < 2:
        return None
    return math.sqrt(groups / (groups - 1) * float(sums @ sums)) / len(values)


def default_ks(n: int) -> tuple[int, ...]:
    """Returns the values of k to report for ``n`` samples: 1-2-3-5 per decade, and ``n`` itself."""
    steps = [step * 10**power for power in range(7) for step in (1, 2, 3, 5)]
    return tuple(sorted({k for k in steps if k <= n} | ({n} if n else set())))


def clustered_interval(
    scores: Sequence[float], value: float, clusters: Sequence[Hashable] | None
) -> tuple[float, float] | tuple[None, None]:
    """Returns the clustered 95% interval of ``value``, the mean of ``scores``.

    (None, None) with one cluster.
    """
    error = clustered_error(scores, clusters)
    if error is None:
        return None, None
    groups = len(scores) if clusters is None else len(set(clusters))
    if error < TOLERANCE:  # equal scores: use their number instead of their spread
        return wilson(value, groups)
    if groups >= _NORMAL_FROM:
        return _clip(value - Z95 * error, value + Z95 * error)
    return wilson(value, value * (1 - value) / error**2)


def wilson(value: float, trials: float) -> tuple[float, float]:
    """Returns Wilson's 95% interval for a proportion over ``trials``, which may be fractional."""
    z2 = Z95**2
    centre = (value + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = value * (1 - value) / trials + z2 / (4 * trials**2)
    half = Z95 * math.sqrt(max(0.0, spread)) / (1 + z2 / trials)
    # Rounding must not push the interval off an observed 0 or 1.
    return min(value, max(0.0, centre - half)), max(value, min(1.0, centre + half))


def _samples_interval(
    counts: Sequence[Count], k: int, value: float
) -> tuple[float, float] | tuple[None, None]:
    if any(count.n - 1 < k for count in counts):
        return None, None
    passed, total = sum(count.c for count in counts), sum(count.n for count in counts)
    # With all samples alike the jackknife yields no spread. Bound the rate of single samples
    # instead. By Jensen, tasks whose mean rate is at most u have a mean pass@k of at most
    # 1 - (1 - u)^k, and tasks whose mean failure rate is at most u have a mean pass@k of at least 1
    # - u.
    if passed == 0:
        return 0.0, 1 - (1 - wilson(0.0, total)[1]) ** k
    if passed == total:
        return wilson(1.0, total)[0], 1.0
    variance = math.fsum(_jackknife_variance(count, k) for count in counts)
    error = math.sqrt(variance) / len(counts)
    return _clip(value - Z95 * error, value + Z95 * error)


def _jackknife_variance(count: Count, k: int) -> float:
    """Returns one task's variance; ``a``, ``b``: pass@k without one passed or one failed sample."""
    n, c = count.n, count.c
    a = pass_at_k(n - 1, c - 1, k) if c else 0.0
    b = pass_at_k(n - 1, c, k) if c < n else 0.0
    t = (c * a + (n - c) * b) / n
    return (n - 1) / n * (c * (a - t) ** 2 + (n - c) * (b - t) ** 2)


def _clip(low: float, high: float) -> tuple[float, float]:
    return max(0.0, low), min(1.0, high)


_BASE = re.compile(
    r"(?:^|/)(?P<variant>(?:HumanEval|Mbpp|MBPP)/\d+)(?:/|$)"
    r"|^NextEdit/(?P<repository>[^/]+/[^/]+)/"  # edit states of one repository are alike
)


def base_task(problem_id: str) -> str:
    """Returns the task that a problem is a variant of; by default the problem itself."""
    match = _BASE.search(problem_id)
    return match[1] or match[2] if match else problem_id


_ENUMERATE_UP_TO = 14  # non-zero differences: 2**14 sign patterns
_LATTICE_UP_TO = 1 << 15  # steps to one side of the exact distribution over a lattice
_DRAWS = 50_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs on the same tasks.

    Attributes:
        difference: mean over tasks of second minus first, in [-1, 1].
        low, high: 95% interval of the difference over tasks; None with a single task.
        se: standard error of the difference over tasks; None with a single task.
        p_value: two-sided sign-flip permutation test of "no difference".
        method: method for the p-value; ``exact`` or ``monte-carlo``.
        m: number of tasks in both runs.
        clusters: number of independent groups of tasks; signs are flipped by group.
        better, worse: number of tasks on which the second run scored higher or lower.
    """

    k: int
    difference: float
    low: float | None
    high: float | None
    se: float | None
    p_value: float
    method: Literal["exact", "monte-carlo"]
    m: int
    clusters: int
    better: int
    worse: int


def compare(
    first: Mapping[str, Count],
    second: Mapping[str, Count],
    k: int = 1,
    *,
    cluster: Callable[[str], Hashable] | None = None,
    seed: int = 0,
) -> Comparison | None:
    """Compares two runs by their common tasks; None without any or if pass@k is undefined.

    Args:
        first, second: task -> sample counts.
        cluster: maps a task to its cluster, such as the task it is a variant of; by default all
            tasks are independent.
        seed: seed of the random sign patterns, if the test is not exact.
    """
    shared = [id_ for id_ in first if id_ in second]
    pairs = [(first[id_], second[id_]) for id_ in shared]
    if not pairs or any(min(one.n, two.n) < k for one, two in pairs):
        return None
    differences = np.array(
        [pass_at_k(two.n, two.c, k) - pass_at_k(one.n, one.c, k) for one, two in pairs]
    )
    groups = [cluster(id_) if cluster else id_ for id_ in shared]
    sums: dict[Hashable, float] = {}
    for group, value in zip(groups, differences, strict=True):
        sums[group] = sums.get(group, 0.0) + float(value)
    p_value, method = sign_flip_p(
        np.array(list(sums.values())), lattice=_lattice(pairs, k), seed=seed
    )
    m = len(pairs)
    difference = float(differences.mean())
    se = clustered_error(differences, groups)
    return Comparison(
        k=k,
        difference=difference,
        low=None if se is None else max(-1.0, difference - Z95 * se),
        high=None if se is None else min(1.0, difference + Z95 * se),
        se=se,
        p_value=p_value,
        method=method,
        m=m,
        clusters=len(sums),
        better=int((differences > TOLERANCE).sum()),
        worse=int((differences < -TOLERANCE).sum()),
    )


def _lattice(pairs: Sequence[tuple[Count, Count]], k: int) -> int | None:
    """Returns q such that all differences are multiples of 1/q, if q is known and small."""
    if k != 1:
        return None
    q = math.lcm(*(count.n for pair in pairs for count in pair))
    return q if q * len(pairs) <= _LATTICE_UP_TO else None


def sign_flip_p(
    differences: np.ndarray, *, lattice: int | None = None, seed: int = 0
) -> tuple[float, Literal["exact", "monte-carlo"]]:
    """Returns the two-sided p of the paired sign-flip permutation test on sum(``differences``).

    ``differences`` has shape [m]. Under the null hypothesis each difference could as well have the
    other sign. The p is exact if computed over a lattice (``lattice`` q: all differences are
    multiples of 1/q) or by enumeration; otherwise it is from 50,000 random sign patterns and the
    observed one.
    """
    values = np.abs(differences[np.abs(differences) > TOLERANCE])
    if not len(values):
        return 1.0, "exact"
    observed = abs(float(differences.sum()))
    if lattice is not None:
        steps = np.rint(values * lattice).astype(int)
        return _lattice_p(steps, round(observed * lattice)), "exact"
    bar = observed - TOLERANCE * max(1.0, float(values.sum()))
    if len(values) <= _ENUMERATE_UP_TO:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums - value, sums + value])
        return float((np.abs(sums) >= bar).mean()), "exact"
    rng = np.random.Generator(np.random.Philox(seed))
    hits = 0
    for _ in range(_DRAWS // 1000):
        signs = rng.integers(0, 2, size=(1000, len(values)), dtype=np.int8) * 2 - 1
        hits += int((np.abs(signs @ values) >= bar).sum())
    return (hits + 1) / (_DRAWS + 1), "monte-carlo"


def _lattice_p(steps: np.ndarray, observed: int) -> float:
    """Returns P(abs(sum of +-steps) >= observed), by convolving two-point distributions."""
    reach = int(steps.sum())
    chance = np.zeros(2 * reach + 1)  # index i is the sum i - reach
    chance[reach] = 1.0
    for step in steps:
        chance = (np.roll(chance, step) + np.roll(chance, -step)) / 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, chance[sums >= observed].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns Holm's step-down adjusted p-values, in the given order."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
