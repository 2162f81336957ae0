"""Results are compared by value and type, exactly or by tolerance, and by digest."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.evals.tasks import comparators
from codegen.evals.tasks.comparators import (
    close,
    digest,
    is_large,
    matches,
    read_value,
    write_value,
)

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3)
)
HASHABLE = st.one_of(st.booleans(), st.integers(), st.text(max_size=5), st.tuples(st.integers()))
VALUES = st.recursive(
    st.one_of(SCALARS, st.complex_numbers(allow_nan=False), st.sets(HASHABLE, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.frozensets(HASHABLE, max_size=3),
    ),
    max_leaves=10,
)


@given(VALUES)
def test_values_come_back_with_their_types(value: Any) -> None:
    again = read_value(write_value(value))
    assert repr(again) == repr(value) or again == value  # sets print in any order
    assert type(again) is type(value)
    assert write_value(again) == write_value(value)


def test_values_that_need_care() -> None:
    for value in (10**5000, -(2**2000), range(1, 9, 2), [{"t": [1]}], {"t": 1}):
        assert read_value(write_value(value)) == value


def test_what_is_not_plain_is_refused() -> None:
    with pytest.raises(TypeError, match="type object cannot be compared"):
        write_value([object()])


@pytest.mark.parametrize(
    ("got", "expected", "atol", "right"),
    [
        (0.1 + 0.2, 0.3, 1e-6, True),
        (0.3001, 0.3, 1e-6, False),
        (0.3001, 0.3, 1e-3, True),
        (1e9 + 1, 1e9, 1e-6, True),  # relative 1e-7, numpy's
        (1e9 + 1000, 1e9, 1e-6, False),
        ([0.1 + 0.2, "a"], [0.3, "a"], 1e-6, True),
        ([0.1 + 0.2, "b"], [0.3, "a"], 1e-6, False),
        ([0.3, 0.3], [0.3], 1e-6, False),
        ((0.3,), [0.3], 1e-6, False),
        ({"a": [0.1 + 0.2]}, {"a": [0.3]}, 1e-6, True),
        ({"b": 0.3}, {"a": 0.3}, 1e-6, False),
        (math.nan, math.nan, 1e-6, True),
        (math.inf, math.inf, 1e-6, True),
        (math.inf, 1.0, 1e-6, False),
        (1.0, math.inf, 1e-6, False),
        (-math.inf, math.inf, 1e-6, False),
        (1j, complex(math.inf, 0), 1e-6, False),
        (3, 3.0, 1e-6, True),
        (3, 3.0000001, 1e-6, False),  # EvalPlus too wants the same type unless equal
        ("3", 3, 1e-6, False),
        (None, 0.0, 1e-6, False),
        (1 + 1e-9j, 1 + 0j, 1e-6, True),
        (True, 1, 1e-6, True),
    ],
)
def test_close(got: Any, expected: Any, atol: float, right: bool) -> None:
    assert close(got, expected, atol) is right


@pytest.mark.parametrize(
    ("oracle", "got", "expected", "arguments", "right"),
    [
        ("set", [2, 1, 1], (1, 2), [], True),
        ("set", [1], (1, 2), [], False),
        ("not_none", "match", True, [], True),
        ("not_none", None, True, [], False),
        ("not_none", None, False, [], True),
        ("not_none", False, False, [], True),
        ("not_none", True, False, [], False),
        ("root", -0.5, -0.5, [[1, 2]], True),
        ("root", 2.0, 1.0, [[2, -3, 1]], True),  # another root than the reference's
        ("root", 1.5, 1.0, [[2, -3, 1]], False),
        ("root", -30.0, 0, [[0, 1]], False),  # a negative residual is no small one
        ("any", "whatever", True, [1, 2], True),
        ("or_zero", 0, 7, [8], True),
        ("or_zero", 7, 7, [8], True),
        ("or_zero", 1, 7, [8], False),
        ("pyramid", 33, 33, [3, 4], True),
        ("pyramid", 35, 33, [3, 4], True),  # the height is the pyramid's, not the face's
        ("pyramid", 36, 33, [3, 4], False),
        ("digits", 7, 7, [123, 256], True),
        ("digits", 2, 1, [1, 21], True),
        ("digits", 3, 1, [1, 21], False),
        ("equal", 0.1 + 0.2, 0.3, [], True),
    ],
)
def test_oracles(oracle: str, got: Any, expected: Any, arguments: Any, right: bool) -> None:
    assert matches(oracle, got, expected, arguments, 0) is right


def test_the_digest_is_equal_for_equal_values() -> None:
    assert digest([1, 2.0, 2.5]) == digest([1.0, 2, 2.5])
    assert digest([True, 1]) == digest([1, 1])
    different = [[1, 2], (1, 2), [2, 1], [1, [2]], "12", ["1", "2"], [12], [1, 2, None]]
    assert len({digest(value) for value in different}) == len(different)
    assert digest(math.inf) != digest(math.nan)


def test_what_is_too_large_to_be_kept() -> None:
    large = [[0] * 130_000, "x" * 1_000_001, [["y" * 9] * 100] * 2000, ("z",) * 130_000]
    small = [[0] * 120_000, "x" * 1_000_000, [["y" * 9] * 100] * 500, None, {1: [2]}, 10**6000]
    assert all(map(is_large, large))
    assert not any(map(is_large, small))


def test_the_tests_side_gets_the_file_as_it_was_when_it_was_read() -> None:
    namespace: dict[str, Any] = {}
    exec(comparators.SOURCE, namespace)  # our own file
    assert namespace["close"](1.0, 1.0 + 1e-9, 1e-6)
    assert "with_digests" not in namespace
