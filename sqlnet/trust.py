"""The confidence in slots and in an answer: logistic regression on questions not trained on.

A slot's probability becomes the share of right answers by a logistic curve for its kind, or for the
whole query (Platt 1999; with a shift of 0 it is temperature scaling, Guo et al. 2017, arXiv
1706.04599, and the scale is one over the temperature). Curves rise, so calibration never changes
which query is the most probable. :func:`calibration_error` on further questions measures the
result.

The confidence that an answer is right is fitted on signs in question and query (:data:`SIGNS`): a
network's probabilities say how sure each slot is among the columns that it was shown, not that the
question needs another table or that a word was left out. It is fitted separately for databases of
one table, databases of several, where a query is far more often wrong, and plans; on databases that
the network was not trained on; for a share of the questions a needed column is hidden, so that they
have no answer (:mod:`codegen.sqlnet.trials`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from codegen.errors import ModelError
from codegen.records import write_atomic

SIGNS = (
    *("select", "aggregate", "number", "column", "operator", "value"),
    *("run", "margin", "table", "empty", "conditions", "aggregated", "rows_unread"),
    *("words_left", "unused", "table_named", "select_named", "columns_unnamed", "who", "elsewhere"),
    "relinked",
)
"""What the confidence is computed from.

The log-odds, cut to [-6, 6], of the least certain slot of a kind (``select`` to ``value``), of the
query chosen by running (``run``) and of its table (``table``); ``margin``, the log-probability
over that of the next query that asks for something else, at most 6; whether the answer is empty;
the number of conditions; whether there is an aggregate; whether no value could be looked up;
content words that nothing explains, at most 4; columns and tables that are named and not used, at
most 3; the shares of the table's and of the SELECT column's words that the question has; condition
columns without a
word in the question; whether who, when or where meets a column of another sort; values that other
columns hold too.
"""

PLAN_SLOTS = {
    "select": "select",
    "aggregate": "companion",
    "number": "order",
    "column": "where",
    "operator": "group",
    "value": "flags",
    "table": "tables",
}
"""Sign -> the slots of a plan that it is of (:class:`codegen.sqlnet.plan_decode.ScoredPlan`).

The curve for several tables is fitted on plans, where the package has a network for them.
"""

LOWERING = ("empty", "rows_unread", "words_left", "unused", "who", "elsewhere", "relinked")
"""Signs that must not raise a confidence; a fit leaves out those that would."""

_PENALTY = 4.0
_FILE = "trust.json"


@dataclass(frozen=True, slots=True)
class Trust:
    """Weights of :data:`SIGNS` and ``bias``, by kind (:func:`kind_of`), and the default
    ``threshold``, the confidence below which no answer is given.
    """

    weights: Mapping[str, Mapping[str, float]]
    threshold: float = 0.5

    def confidence(self, kind: str, signs: Mapping[str, float]) -> float:
        """The confidence of an answer with these signs."""
        weights = self.weights.get(kind) or self.weights["several"]
        score = weights.get("bias", 0.0) + sum(weights.get(k, 0.0) * v for k, v in signs.items())
        return float(_sigmoid(np.array(score)))

    def save(self, folder: Path) -> None:
        """Writes it beside a network."""
        row = {"threshold": self.threshold, "weights": {k: {**w} for k, w in self.weights.items()}}
        write_atomic(folder / _FILE, json.dumps(row, indent=2) + "\n")


def kind_of(signs: Mapping[str, float]) -> str:
    """The curve for an answer: ``one`` table, ``several``, or ``plans`` over several."""
    if signs.get("planned"):
        return "plans"
    return "several" if signs["several"] else "one"


def load(*folders: Path) -> Trust:
    """Reads ``trust.json`` from the first of the folders that has it.

    Raises:
        ModelError: if none has it, or it is damaged.
    """
    for folder in folders:
        try:
            row = json.loads((folder / _FILE).read_text("utf-8"))
            weights = {
                str(kind): {str(sign): float(weight) for sign, weight in signs.items()}
                for kind, signs in row["weights"].items()
            }
            if not {"one", "several"} <= weights.keys():
                raise KeyError("a curve is missing")
            return Trust(weights, float(row["threshold"]))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{folder / _FILE} can't be read: {error}.") from None
    raise ModelError(f"None of these folders holds {_FILE}: {', '.join(map(str, folders))}.")


def fit(signs: Sequence[Mapping[str, float]], right: Sequence[bool]) -> dict[str, float]:
    """The likeliest weights, given the signs of answers and whether each was right."""
    names = ["bias", *SIGNS]
    y = np.array(right, dtype=float)
    while True:
        x = np.array([[1.0, *(row.get(sign, 0.0) for sign in names[1:])] for row in signs])
        weights = dict(zip(names, _weights(x, y), strict=True))
        if not (wrong := [sign for sign in LOWERING if weights.get(sign, 0.0) > 0]):
            return {name: round(float(weights.get(name, 0.0)), 5) for name in ("bias", *SIGNS)}
        names.remove(max(wrong, key=lambda sign: weights[sign]))


def _weights(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The likeliest weights [F] of features [N, F], the first one constant, for outcomes [N]."""
    mean, spread = x.mean(0), x.std(0)
    mean[0], spread = 0.0, np.where(spread > 1e-9, spread, 1.0)  # the bias stays as it is
    scaled = (x - mean) / spread
    pull = np.full(x.shape[1], _PENALTY)
    pull[0] = 1e-3
    w = _likeliest(scaled, y, np.zeros(x.shape[1]), pull)
    plain = w / spread
    plain[0] -= float((plain[1:] * mean[1:]).sum())
    return plain


def _likeliest(x: np.ndarray, y: np.ndarray, prior: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """Logistic regression by Newton's method: weights [F] of features [N, F] for outcomes [N].

    ``pull`` [F] is the strength of a normal prior around ``prior`` [F].
    """
    w = prior
    for _ in range(50):
        p = _sigmoid(x @ w)
        gradient = x.T @ (p - y) + pull * (w - prior)
        curvature = (x * np.maximum(p * (1 - p), 1e-9)[:, None]).T @ x + np.diag(pull)
        step = np.linalg.solve(curvature, gradient)
        w = w - step * min(1.0, 3.0 / max(1e-9, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-8:
            break
    return w


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


# --- calibrated probabilities of slots ------------------------------------------------------------

SLOTS = ("select", "aggregate", "number", "column", "operator", "value", "query", "guided")
_BINS = 10
_LARGEST = 12.0  # log-odds: a probability of 0.999994


@dataclass(frozen=True, slots=True)
class Curve:
    """sigmoid(scale * log-odds + shift)."""

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, log_probability: float) -> float:
        """The confidence of a slot that the network gives this log-probability."""
        score = self.scale * log_odds(log_probability) + self.shift
        return 1 / (1 + math.exp(-max(-700.0, score)))


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
    """The likeliest curve for (log-probability, right) pairs.

    A weak prior around the identity keeps it finite if all are right. With fewer than 10 pairs, or
    if the curve would fall, it is the identity.
    """
    if len(outcomes) < 10:
        return Curve()
    x = np.array([[log_odds(log_probability), 1.0] for log_probability, _ in outcomes])
    y = np.array([right for _, right in outcomes], dtype=float)
    scale, shift = map(float, _likeliest(x, y, np.array([1.0, 0.0]), np.ones(2)))
    return Curve(scale, shift) if scale > 0 else Curve()


def fit_curves(outcomes: Iterable[Mapping[str, Sequence[tuple[float, bool]]]]) -> Calibration:
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
