"""Paired comparison of two runs, task by task.

Sources: pairing and its standard error are Miller 2024 (arXiv 2411.00640, section 4); the test is
the sign-flip permutation test, which for one sample a task is McNemar's exact test; Holm's
step-down adjustment is for several comparisons at once.

Limits: the test is of "no difference on tasks like these"; with few tasks it can't be significant,
whatever the difference (with six pairs p is at least 0.03).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .scores import TOLERANCE, Z95, Count, clustered_error, pass_at_k

_ENUMERATE_UP_TO = 14  # non-zero differences: 2**14 sign patterns
_LATTICE_UP_TO = 1 << 15  # steps to one side of the exact distribution over a lattice
_DRAWS = 50_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs on the same tasks.

    Attributes:
        k: of the pass@k compared.
        difference: mean over tasks of second minus first, in [-1, 1].
        low, high: its 95 % interval over tasks; None with a single task.
        se: its standard error over tasks; None with a single task.
        p_value: two-sided sign-flip permutation test of "no difference".
        method: how the p-value was found; ``exact`` or ``monte-carlo``.
        m: tasks in both runs.
        clusters: groups of tasks taken as independent; signs are flipped by group.
        better, worse: tasks on which the second scored higher, lower.
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
    """Compares two runs by the tasks they share; None if pass@k is undefined or nothing is shared.

    Args:
        first, second: task -> its samples.
        k: of the pass@k compared.
        cluster: what a task shares with others, such as the task it is a variant of; by default all
            tasks are independent.
        seed: of the random sign patterns, where the test is not exact.
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
    """The number q for which all differences are multiples of 1/q, if it is known and small."""
    if k != 1:
        return None
    q = math.lcm(*(count.n for pair in pairs for count in pair))
    return q if q * len(pairs) <= _LATTICE_UP_TO else None


def sign_flip_p(
    differences: np.ndarray, *, lattice: int | None = None, seed: int = 0
) -> tuple[float, Literal["exact", "monte-carlo"]]:
    """Two-sided p of the paired sign-flip permutation test on the sum of ``differences``, [m].

    Under the null hypothesis each difference could as well have had the other sign. Exact by the
    distribution over a lattice (``lattice`` q: all differences are multiples of 1/q) or by
    enumeration; otherwise by 50,000 random sign patterns, the observed one counted among them.
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
    """The chance that abs(sum of +-steps) >= observed, by convolving two-point distributions."""
    reach = int(steps.sum())
    chance = np.zeros(2 * reach + 1)  # index i stands for the sum i - reach
    chance[reach] = 1.0
    for step in steps:
        chance = (np.roll(chance, step) + np.roll(chance, -step)) / 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, chance[sums >= observed].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down method, in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
