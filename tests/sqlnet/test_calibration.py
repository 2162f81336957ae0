"""The confidence means shares, and answers are judged as the data set says."""

from __future__ import annotations

import math
import random
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.benchmarks.tools.sql_trust import fit
from codegen.sqlnet.answers import GoldRows, same_rows
from codegen.sqlnet.calibration import ConfidenceModel


def test_a_fit_finds_the_curve_that_made_the_answers() -> None:
    rng = random.Random(0)
    truth = {"bias": -0.5, "run": 1.2, "words_left": -0.8}
    made = ConfidenceModel({"one": truth})
    signs = [
        {
            "run": rng.gauss(1, 2),
            "words_left": float(rng.randrange(5)),
            "who": rng.gauss(0, 1),
            "several": 0.0,
        }
        for _ in range(6000)
    ]
    right = [rng.random() < made.confidence(row) for row in signs]
    found = fit(signs[:3000], right[:3000])
    for name, weight in truth.items():
        assert found[name] == pytest.approx(weight, abs=0.2)
    assert abs(found["who"]) < 0.15 and found["empty"] == 0
    fitted = ConfidenceModel({"one": found})
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, is_right in zip(signs[3000:], right[3000:], strict=True):
        confidence = fitted.confidence(row)
        bins.setdefault(int(confidence * 5), []).append((confidence, is_right))
    for pairs in bins.values():
        mean = sum(confidence for confidence, _ in pairs) / len(pairs)
        share = sum(is_right for _, is_right in pairs) / len(pairs)
        assert abs(mean - share) < 4 * math.sqrt(0.25 / len(pairs))


cells = st.sampled_from([1, 2.0, "a", "A ", None, 0.33333])


@given(
    st.integers(1, 3).flatmap(lambda w: st.lists(st.tuples(*[cells] * w), max_size=4)), st.data()
)
def test_rows_in_any_order_are_the_same_answer(
    rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    width = len(rows[0]) if rows else 1
    order = data.draw(st.permutations(range(width)))
    moved = [tuple(row[i] for i in order) for row in shuffled]
    assert same_rows(moved, GoldRows(tuple(rows)))
    more = [(*row, "x") for row in moved]
    assert same_rows(more, GoldRows(tuple(rows), exact=False))
    assert not rows or not same_rows(more, GoldRows(tuple(rows)))
    other = [*moved[1:], tuple("other" for _ in range(width))] if moved else [("other",)]
    assert not same_rows(other, GoldRows(tuple(rows)))


def test_order_rounding_and_case() -> None:
    assert same_rows([("B",), ("a",)], GoldRows((("b",), ("A",)), ordered=True))
    assert not same_rows([("a",), ("B",)], GoldRows((("b",), ("A",)), ordered=True))
    assert same_rows([(0.333333,)], GoldRows(((0.33334,),)))
    assert not same_rows([(0.334,)], GoldRows(((0.3333,),)))
    assert not same_rows([("1",)], GoldRows(((1,),)))
    wide = [tuple(range(8))]
    assert same_rows(wide, GoldRows(tuple(wide)))
    for order in permutations(range(3)):
        assert same_rows([order], GoldRows(((0, 1, 2),)))
