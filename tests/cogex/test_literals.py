"""Outputs: whatever literal is written is read, and nothing is ever evaluated."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.cogex import Invalid, parse_output
from codegen.cogex.literals import normalized, same_value

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False,
    allow_infinity=False) | st.text() | st.binary(max_size=8)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    st.dictionaries(st.text(max_size=5), _VALUES, max_size=4),
    st.sampled_from(["", "output = ", "Example Output:\n"]),
    st.sampled_from(["", "\n", "\n\n### Instruction\n{x}", " # } {"]),
)
def test_what_python_writes_is_read_back(value: dict[str, Any], before: str, after: str) -> None:
    assert parse_output(before + repr(value) + after) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_output"),
        ("The answer is 4.", "no_output"),
        ("{'answer': 4", "unbalanced"),
        ("{'answer': '4}", "not_literal"),
        ("{" * 60, "unbalanced"),
        ("{'answer': open('/etc/passwd').read()}", "not_literal"),
        ("{'answer': __import__('os').system('true')}", "not_literal"),
        ("{'answer': [x for x in range(3)]}", "not_literal"),
        ("{'answer': yes}", "not_literal"),
        ("{'a' 'answer': }", "not_literal"),
        ("{'answer': 10 ** 10 ** 10}", "not_literal"),
        ("{1: 2, 'answer': 3}", "not_dict"),
        ("{1, 2}", "not_dict"),
        ("{[]: 1}", "not_literal"),
    ],
)
def test_anything_else_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_output(text)
    assert caught.value.reason == reason


@given(st.text(alphabet="{}[]()'\"\\\n,:a1 ", max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(Invalid):
        assert isinstance(parse_output(text), dict)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Yes", "yes."), ([1, 2], "1 2"), (["b", "a"], "b a"), (("x",), ["X"]), (12.0, "12"),
        ("1,200", 1200), ("  a   b ", "a b"), ("'a', 'b'", "a, b"), ("2.0 dollars", "2 dollars"),
    ],
)  # fmt: skip
def test_answers_that_are_the_same(one: Any, other: Any) -> None:
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("yes", "no"), (1, -1), ("1.5", "15"), ("a b", "ab"), (12, "120"), ("1.05", "1.5")],
)
def test_answers_that_differ(one: Any, other: Any) -> None:
    assert normalized(one) != normalized(other)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True), ((1, 2), [1, 2], True), (0.1 + 0.2, 0.3, True),
        ({"a": [1]}, {"a": (1,)}, True),
        ("3", 3, False), ([1], [1, 1], False), ({"a": 1}, {"b": 1}, False), (None, 0, False),
        ("a", "A", False), (float("inf"), float("inf"), True), (True, 1, True), (3, 3.1, False),
    ],
)  # fmt: skip
def test_values(one: Any, other: Any, same: bool) -> None:
    assert same_value(one, other) is same_value(other, one) is same
