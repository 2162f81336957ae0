"""Generated inputs have the types and the common properties of the recorded ones."""

from __future__ import annotations

import random
from typing import Any

import pytest

from codegen.evals.audit.inputs import (
    CallArgs,
    constants_of,
    edges,
    find_view,
    read_calls,
    recorder,
    vary,
)
from codegen.sandbox import Job, Sandbox


def inputs(*args: tuple[Any, ...]) -> list[CallArgs]:
    return [CallArgs("f", a) for a in args]


def varied(*args: tuple[Any, ...], count: int = 200) -> list[tuple[Any, ...]]:
    return [i.args for i in vary(inputs(*args), count, random.Random(0))]


def test_variations_are_many_distinct_and_reproducible() -> None:
    found = varied(([1, 2, 3], "ab"), ([], "b a"))
    assert len(found) > 150 and len({repr(a) for a in found}) == len(found)
    assert found == varied(([1, 2, 3], "ab"), ([], "b a"))
    assert all(type(a) is list and type(b) is str for a, b in found)


def test_signs_characters_order_and_relations_are_kept() -> None:
    seen = (([1, 4, 9], 3, "(())"), ([2, 3], 2, "()"), ([5, 6, 7, 8], 4, "()()"))
    for items, n, text in varied(*seen):
        assert items == sorted(items) and items and n == len(items)
        assert min(items) > 0 and set(text) <= set("()")


def test_few_letters_that_recur_are_all_letters() -> None:
    found = varied(("010110",), ("110",), ("0011",))
    assert len(found) > 20 and all(set(text) <= set("01") for (text,) in found)
    assert any(set(text) - set("01") for (text,) in varied(("019",), ("27",), ("84",)))


def test_constants_and_edges() -> None:
    program = 'def f(x):\n    """Docs 5."""\n    return 3 if x > 70.5 else "no"\n'
    assert sorted(map(str, constants_of(program))) == ["3", "70.5", "no"]
    seen = inputs((20.5,), (30.0,))
    assert any(i.args == (70.5,) for i in vary(seen, 100, random.Random(0), (), [70.5]))
    found = edges(100, random.Random(0), inputs(([5, 7], "ab", True), ([3], "c", False)))
    assert all((0 in i.args[0]) != (i.args[1] not in ("ab", "c")) for i in found)
    assert any(" " in i.args[1] for i in found) and len(set(map(str, found))) == len(found) > 20


def test_variations_around_one_input_are_like_the_recorded_ones() -> None:
    seen = inputs(([5, 3, 8], 2), ([4, 4], 1))
    found = vary(seen, 100, random.Random(0), parents=[CallArgs("f", ([6, 9, 7], 2))])
    parts = [set(i.args[0]) for i in found]
    assert {6, 9, 7} in parts and any(len(part) == 2 and part < {6, 9, 7} for part in parts)
    assert all(min(part) > 0 for part in parts if part)
    assert [len(str(i)) for i in found] == sorted(len(str(i)) for i in found)


VIEWS = [
    ("assert f(1) == 2", "{}"), ("assert abs(f(1) - 2) < 0.1", "{}"),
    ("def check(candidate):\n    assert sorted(candidate([1])) == [1]", "sorted({})"),
    ("assert set((1,)) == set(f(1))", "set({})"),
    ("assert round(f(1), 2) == 0.5", "round({}, 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("test", "view"), VIEWS)
def test_the_view_is_the_form_in_which_tests_compare(test: str, view: str) -> None:
    assert find_view(test, ["f"]) == view


def test_the_recorder_notes_calls_of_loops_helpers_and_unittest() -> None:
    program = "def f(x, k=1):\n    return f(x - 1, k) if x > 0 else k\n"
    test = (
        "import unittest\ndef helper(n):\n    assert f(n, 2) == 2\n"
        "for i in range(2):\n    helper(i)\nf(object())\n"
    )
    case = "class T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(f(5), 1)\n"
    plain = test.replace("f(object())\n", "") + case
    with Sandbox(workers=1) as sandbox:
        outcome = sandbox.run(recorder(Job(program, plain), ["f"]))
        found = read_calls(outcome.values[0])
        assert [str(i) for i in found] == ["f(0, 2)", "f(1, 2)", "f(5)"]
        outcome = sandbox.run(recorder(Job(program, test), ["f"]))
    assert [str(i) for i in read_calls(outcome.values[0])] == ["f(0, 2)", "f(1, 2)"]
