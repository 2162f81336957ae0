"""Fits the confidence of ``codegen sqlnet ask`` (``sqlnet/weights/default/trust.json``).

    python -m codegen.benchmarks.tools.sql_trust SET DATA --out trust.json

SET is a set of :mod:`codegen.benchmarks.tools.sql_sets`, such as ``spider_train``, and DATA the
folder ``sql`` of the shared data. The fit uses half of the databases (``is_fitted_to``). Every
other question is also used without a column that it needs, so that it has no answer. A fit on
several tables also chooses the threshold: the lowest at which at most 4% of the questions get a
wrong answer.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import sqlglot
import torch
from sqlglot import exp
from sqlglot.errors import SqlglotError

from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.sql_sets import (
    Outcome,
    SetQuestion,
    ask,
    is_fitted_to,
    prepare,
    read_questions,
)
from codegen.sqlnet import Schema, SQLNet
from codegen.sqlnet.calibration import SIGNS, ConfidenceModel, kind_of

LOWERING = ("empty", "rows_unread", "words_left", "unused", "who", "elsewhere", "relinked")
"""Features that must not raise the confidence; a fit omits those that would."""

_PENALTY, _TOLERATED, _ANY = 4.0, 0.04, 1e-9


def main() -> None:
    """Fits and writes the file."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("set")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net, rng = SQLNet.from_pretrained(), random.Random(0)
    outcomes = []
    with tempfile.TemporaryDirectory() as made:
        questions = read_questions(*prepare(given.set, given.data, Path(made)))
        for number, question in enumerate(q for q in questions if is_fitted_to(q.database)):
            outcomes.append(ask(net, question, _ANY))
            if number % 2 == 0:
                outcomes += [ask(net, one, _ANY) for one in without_a_column(question, rng)]
    found = fit_trust(net.trust, outcomes)
    row = {"threshold": found.threshold, "weights": found.weights}
    given.out.write_text(json.dumps(row, indent=2) + "\n")
    say(f"{len(outcomes)} questions: {given.out}")


def fit_trust(before: ConfidenceModel, outcomes: Sequence[Outcome]) -> ConfidenceModel:
    """Fits the confidence to outcomes; kinds without outcomes keep their weights."""
    weights, threshold = dict(before.weights), before.threshold
    for kind in ("one", "several", "plans"):
        of_kind = [one for one in outcomes if kind_of(one.signs) == kind]
        answered = [one for one in of_kind if not one.code]
        if not answered:
            continue
        weights[kind] = fit([o.signs for o in answered], [o.answered_right for o in answered])
        if kind != "one":
            scores = ConfidenceModel(weights)
            wrong = [scores.confidence(o.signs) for o in answered if not o.answered_right]
            steps = (step / 100 for step in range(20, 100))
            threshold = next(
                (t for t in steps if sum(w >= t for w in wrong) <= _TOLERATED * len(of_kind)), 0.99
            )
    return ConfidenceModel(weights, threshold)


def without_a_column(question: SetQuestion, rng: random.Random) -> Iterator[SetQuestion]:
    """Yields the question on a schema without a column of its query, if the query has one."""
    try:
        tree = sqlglot.parse_one(question.query, dialect="sqlite")
    except SqlglotError:
        return
    used = {column.name.lower() for column in tree.find_all(exp.Column)}
    named = {c.name.lower() for table in question.schema.tables for c in table.columns}
    if not (hidden := sorted(used & named)):
        return
    name, tables = rng.choice(hidden), []
    for table in question.schema.tables:
        kept = [n for n, column in enumerate(table.columns) if column.name.lower() != name]
        if kept:
            tables.append(table.only(kept))
    if tables:
        schema = Schema(tuple(tables), question.schema.database)
        yield replace(question, schema=schema, expected=(), query="")


def fit(signs: Sequence[Mapping[str, float]], right: Sequence[bool]) -> dict[str, float]:
    """Returns the most likely weights, given the features and the correctness of answers."""
    names = ["bias", *SIGNS]
    y = np.array(right, dtype=float)
    while True:
        x = np.array([[1.0, *(row.get(sign, 0.0) for sign in names[1:])] for row in signs])
        weights = dict(zip(names, _weights(x, y), strict=True))
        if not (wrong := [sign for sign in LOWERING if weights.get(sign, 0.0) > 0]):
            return {name: round(float(weights.get(name, 0.0)), 5) for name in ("bias", *SIGNS)}
        names.remove(max(wrong, key=lambda sign: weights[sign]))


def _weights(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the most likely weights [F]: features [N, F], the first constant; outcomes [N]."""
    mean, spread = x.mean(0), x.std(0)
    mean[0], spread = 0.0, np.where(spread > 1e-9, spread, 1.0)  # the bias is not scaled
    scaled = (x - mean) / spread
    pull = np.full(x.shape[1], _PENALTY)
    pull[0] = 1e-3
    w = np.zeros(x.shape[1])
    for _ in range(50):  # Newton's method
        p = 0.5 * (1 + np.tanh(scaled @ w / 2))
        gradient = scaled.T @ (p - y) + pull * w
        curvature = (scaled * np.maximum(p * (1 - p), 1e-9)[:, None]).T @ scaled + np.diag(pull)
        step = np.linalg.solve(curvature, gradient)
        w = w - step * min(1.0, 3.0 / max(1e-9, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-8:
            break
    plain = w / spread
    plain[0] -= float((plain[1:] * mean[1:]).sum())
    return plain


if __name__ == "__main__":
    main()
