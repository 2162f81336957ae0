"""Each twin differs from the tests in one expected value; inputs stay."""

from __future__ import annotations

from codegen.evals.audit.tests import MAX_TEXT, find_assertions


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
