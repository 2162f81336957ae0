"""Rows against right answers: their order, rounding, case and columns."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from codegen.sqlnet.answers import GoldRows, equal_rows, same_rows

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


def test_results_are_compared_as_sets_of_rows_with_columns_in_any_order() -> None:
    rows = [(1, "a"), (2, "b"), (2, "b")]
    assert equal_rows(rows, [("b", 2), ("a", 1.00001), ("b", 2)], ordered=False)
    assert not equal_rows(rows, [("a", 1), ("b", 2)], ordered=False)
    assert not equal_rows(rows, [("b", 1), ("a", 2), ("b", 2)], ordered=False)
    assert not equal_rows(rows, [(2, "b"), (1, "a"), (2, "b")], ordered=True)
    assert equal_rows([], [], ordered=True)
    assert not equal_rows([(None,)], [], ordered=False)
