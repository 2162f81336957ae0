"""Ratios of paired costs, rates and means with their 95% intervals.

Each unit (a program, a block of work) has a cost on each side; :func:`ratio_of_sums` is the ratio
of the total costs. Its interval is a percentile bootstrap over units (Efron and Tibshirani 1993,
chapter 13), resampled within strata if the composition of the corpus is fixed by design.

Limit: with fewer than about ten units a percentile interval is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codegen.core.errors import InputError

DRAWS = 10_000


class Estimate(NamedTuple):
    """A value with its 95% interval; the bounds are None for a single unit."""

    value: float
    low: float | None
    high: float | None

    @property
    def interval(self) -> list[float | None]:
        """The bounds as a JSON value."""
        return [self.low, self.high]


def ratio_of_sums(
    numerators: Sequence[float],
    denominators: Sequence[float],
    strata: Sequence[str] | None = None,
    seed: int = 0,
) -> Estimate:
    """Returns the sum of the numerators over the sum of the denominators.

    Args:
        numerators: costs of the peer, one per unit.
        denominators: our costs for the same units, above 0.
        strata: each unit's group, if the sizes of the groups are fixed; default: one group.
        seed: seed of the resampling.

    Raises:
        InputError: if there are no units, the lengths differ or a cost is not positive.
    """
    import numpy as np

    top = np.asarray(numerators, dtype=float)
    bottom = np.asarray(denominators, dtype=float)
    names = np.asarray(strata if strata is not None else [""] * len(top))
    if not len(top) or not len(top) == len(bottom) == len(names):
        raise InputError(
            f"A ratio needs pairs, got {len(top)} numerators, {len(bottom)} denominators and "
            f"{len(names)} strata."
        )
    costs = np.concatenate([top, bottom])
    if not (np.isfinite(costs) & (costs > 0)).all():
        raise InputError("A ratio of costs needs finite costs above 0.")
    value = float(top.sum() / bottom.sum())
    if len(top) == 1:
        return Estimate(value, None, None)
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(names == name) for name in np.unique(names)]
    drawn = np.concatenate([rng.choice(group, (DRAWS, len(group))) for group in groups], axis=1)
    ratios = top[drawn].sum(axis=-1) / bottom[drawn].sum(axis=-1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def rate(count: int, total: int) -> Estimate:
    """Returns a rate with Wilson's 95% interval (Wilson 1927), for independent trials.

    Raises:
        InputError: if the count is not in [0, total], or the total is 0.
    """
    from codegen.evals.statistics import wilson

    if not 0 <= count <= total or total == 0:
        raise InputError(f"{count} of {total} is not a fraction.")
    return Estimate(count / total, *wilson(count / total, total))


def clustered_mean(
    values: Sequence[float], clusters: Sequence[str], seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """Returns the mean of values, such as differences, with a bootstrap interval over clusters.

    Args:
        values: one per unit.
        clusters: each unit's cluster; whole clusters are resampled.
        seed: seed of the resampling.
        draws: number of resamples.

    Raises:
        InputError: if there are no units, or the lengths differ.
    """
    import numpy as np

    if not len(values) or len(values) != len(clusters):
        raise InputError(f"No values, or {len(values)} values with {len(clusters)} clusters.")
    names, places = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(places, weights=np.asarray(values, dtype=float))
    counts = np.bincount(places)
    value = float(sums.sum() / counts.sum())
    if len(names) == 1:
        return Estimate(value, None, None)
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
