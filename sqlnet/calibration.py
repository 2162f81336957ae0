"""Calibrated probabilities of slots: a probability becomes the share of right answers.

On questions that the network was not trained on, a logistic curve is fitted to each kind of slot
and to the whole query (Platt 1999; with a shift of 0 it is temperature scaling, Guo et al. 2017,
arXiv 1706.04599, and the scale is one over the temperature). Curves rise, so calibration never
changes which query is the most probable. :func:`calibration_error` on further questions measures
the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SLOTS = ("select", "aggregate", "number", "column", "operator", "value", "query", "guided")
_BINS = 10
_LARGEST = 12.0  # of log-odds: a probability of 0.999994


@dataclass(frozen=True, slots=True)
class Curve:
    """sigmoid(scale * log-odds + shift)."""

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, log_probability: float) -> float:
        """The confidence of a slot that the network gives this log-probability."""
        return _sigmoid(self.scale * log_odds(log_probability) + self.shift)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A curve for each kind of slot; without one, the identity."""

    curves: Mapping[str, Curve] = field(default_factory=dict)

    def confidence(self, slot: str, log_probability: float) -> float:
        """The confidence of a slot."""
        return self.curves.get(slot, Curve())(log_probability)

    def to_row(self) -> dict[str, list[float]]:
        """As JSON values: slot -> [scale, shift]."""
        return {slot: [curve.scale, curve.shift] for slot, curve in self.curves.items()}


def calibration_from_row(row: Mapping[str, Sequence[float]]) -> Calibration:
    """From :meth:`Calibration.to_row`."""
    return Calibration({slot: Curve(*map(float, pair)) for slot, pair in row.items()})


def fit_curve(outcomes: Sequence[tuple[float, bool]]) -> Curve:
    """The likeliest curve for (log-probability, right) pairs, by Newton's method.

    A weak prior around the identity keeps it finite if all are right. With fewer than 10 pairs, or
    if the curve would fall, it is the identity.
    """
    if len(outcomes) < 10:
        return Curve()
    scale, shift, pull = 1.0, 0.0, 1.0
    odds = [log_odds(log_probability) for log_probability, _ in outcomes]
    rights = [float(right) for _, right in outcomes]
    for _ in range(50):
        g_scale, g_shift = pull * (scale - 1), pull * shift
        h_scale, h_shift, h_both = pull, pull, 0.0
        for x, right in zip(odds, rights, strict=True):
            p = _sigmoid(scale * x + shift)
            weight = max(p * (1 - p), 1e-9)
            g_scale += (p - right) * x
            g_shift += p - right
            h_scale += weight * x * x
            h_shift += weight
            h_both += weight * x
        determinant = h_scale * h_shift - h_both * h_both
        d_scale = (h_shift * g_scale - h_both * g_shift) / determinant
        d_shift = (h_scale * g_shift - h_both * g_scale) / determinant
        step = min(1.0, 2.0 / max(abs(d_scale), abs(d_shift), 1e-9))
        scale, shift = scale - step * d_scale, shift - step * d_shift
        if max(abs(d_scale), abs(d_shift)) < 1e-7:
            break
    return Curve(scale, shift) if scale > 0 else Curve()


def fit(outcomes: Iterable[Mapping[str, Sequence[tuple[float, bool]]]]) -> Calibration:
    """Curves for the slots of questions; see :func:`codegen.sqlnet.metrics.outcomes`."""
    joined = join(outcomes)
    return Calibration({slot: fit_curve(joined[slot]) for slot in SLOTS if joined[slot]})


def join(
    outcomes: Iterable[Mapping[str, Sequence[tuple[float, bool]]]],
) -> dict[str, list[tuple[float, bool]]]:
    """Joins the outcomes of questions by slot."""
    joined: dict[str, list[tuple[float, bool]]] = {slot: [] for slot in SLOTS}
    for question in outcomes:
        for slot, pairs in question.items():
            joined[slot].extend(pairs)
    return joined


def calibration_error(pairs: Iterable[tuple[float, bool]]) -> float:
    """The expected calibration error of (confidence, right) pairs, in ten bins of equal width.

    The mean, over the pairs, of how far their bin's mean confidence is from its share of right
    ones (Guo et al. 2017, equation 3); 0 if there are none.
    """
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for confidence, right in pairs:
        bins[min(int(confidence * _BINS), _BINS - 1)].append((confidence, right))
    total = sum(map(len, bins))
    gaps = (abs(sum(c for c, _ in held) - sum(right for _, right in held)) for held in bins)
    return sum(gaps) / total if total else 0.0


def log_odds(log_probability: float) -> float:
    """The log-odds of a log-probability, cut to finite values."""
    below = min(log_probability, -1e-12)
    odds = below - math.log(-math.expm1(below))
    return max(-_LARGEST, min(_LARGEST, odds))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
