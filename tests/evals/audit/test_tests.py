"""The chosen tests kill everything that can be killed, and nearly as few as brute force needs."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from codegen.evals.audit.tests import (
    MAX_TEXT,
    assertion_text,
    choose_tests,
    find_assertions,
    spread_tests,
    with_assertions,
)

KILLS = st.lists(st.sets(st.integers(0, 5), max_size=4), max_size=6)


def smallest_cover(kills: list[set[int]]) -> int:
    left = [k for k in kills if k]
    return next(
        size
        for size in range(7)
        for chosen in itertools.combinations(range(6), size)
        if all(k & set(chosen) for k in left)
    )


@given(KILLS)
def test_greedy_covers_all_with_few_inputs(kills: list[set[int]]) -> None:
    chosen = choose_tests(kills)
    assert all(k & set(chosen) for k in kills if k)
    assert smallest_cover(kills) <= len(chosen) <= 2 * smallest_cover(kills)


def test_the_first_of_equal_inputs_is_chosen() -> None:
    assert choose_tests([{0, 1, 2}, {1, 2}]) == [1]


def test_added_assertions_accept_rounding_and_reject_other_values() -> None:
    lines = [assertion_text("f(1)", [0.1, "a"]), assertion_text("f(2)", {3})]
    test = with_assertions("assert True\n", lines)
    assert test.startswith("assert True\n")

    def passes(one: object, two: object) -> bool:
        try:
            exec(test, {"f": {1: one, 2: two}.__getitem__})
        except AssertionError:
            return False
        return True

    assert passes([0.1 + 1e-9, "a"], {3})
    assert not passes([0.2, "a"], {3})
    assert not passes([0.1, "a"], {4})
    assert not passes((0.1, "a"), {3})
    assert assertion_text("f(1)", float("nan")) == "" == assertion_text("f(1)", "x" * 3000)


def test_tests_are_spread_over_lines_and_results() -> None:
    lines = [{1, 2}, {1, 2}, {1, 3, 4}, {1, 2}]
    assert spread_tests(lines, ["a", "a", "b", "c"], 6) == [0, 2, 3]
    assert spread_tests(lines, list("abcd"), 1) == [2]
    assert spread_tests([], [], 9) == []


def test_expected_values_change_and_inputs_stay() -> None:
    (found,) = find_assertions("assert f(1, 'a') == [2, 'b']")
    assert found.twins == (
        "assert f(1, 'a') == [3, 'b']",
        "assert f(1, 'a') == [2, 'b_']",
        "assert not f(1, 'a') == [2, 'b']",
    )


def test_tolerances_stay_and_methods_of_unittest_are_negated() -> None:
    test = "assert abs(f(1) - 2.0) < 0.01\nself.assertEqual(f(3), 4)\nself.assertTrue(f(5))"
    first, second, third = find_assertions(test)
    assert first.twins[0].splitlines()[0] == "assert abs(f(1) - 3.0) < 0.01"
    assert "assert not abs(f(1) - 2.0) < 0.01" in first.twins[-1]
    assert [t.splitlines()[1] for t in second.twins] == [
        "self.assertEqual(f(3), 5)",
        "self.assertNotEqual(f(3), 4)",
    ]
    assert third.twins[-1].endswith("self.assertFalse(f(5))") and third.line == 3


def test_long_tests_have_no_twins() -> None:
    assert find_assertions("assert f(1) == 2\n" + "#" * MAX_TEXT) == []
