"""Tests that pass whatever a program returns are told, and judge nobody."""

from __future__ import annotations

import pytest

from codegen.evals.sandbox import Job, Mode, Sandbox

RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 41\n"
CHECK = "    assert f(1, 2) == 3\n"
CASE = "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        "
MODES: tuple[Mode, ...] = ("isolated", "in_sandbox")

IDLE = {
    "check without an entry point": (f"def check(f):\n{CHECK}", "", "no entry point"),
    "empty": ("", "add", "empty"),
    "empty check": ("def check(f):\n    pass\n", "add", "assert nothing"),
    "check that returns early": (f"def check(f):\n    return\n{CHECK}", "add", "return"),
    "check that returns its result": (
        "def check(f):\n    return f(1, 2) == 3\n",
        "add",
        "assert nothing",
    ),
    "generator": (f"def check(f):\n    yield\n{CHECK}", "add", "generator"),
    "asynchronous generator": (f"async def check(f):\n    yield\n{CHECK}", "add", "generator"),
    "bare comparison": ("add(1, 2) == 3\n", "", "compares, but asserts nothing"),
    "bare comparison in check": ("def check(f):\n    f(1, 2) == 3\n", "add", "compares"),
    "assert of a tuple": ("assert (add(1, 2) == 3, 'sum')\n", "", "tuple"),
    "assert of a constant": ("add(1, 2)\nassert True\n", "", "constant"),
    "assert of the function": ("assert add\nassert callable(add)\n", "", "whatever"),
    "or True": ("assert add(1, 2) == 3 or True\n", "", "whatever"),
    "nothing of the program": ("assert sorted([2, 1]) == [1, 2]\n", "", "whatever"),
    "its own copy": (
        "def plus(a, b):\n    return a + b\nassert plus(1, 2) == 3\n",
        "",
        "whatever",
    ),
    "swallows everything": (
        "try:\n    assert add(1, 2) == 3\nexcept Exception:\n    pass\n",
        "",
        "catches whatever fails",
    ),
    "swallows with a bare except": (
        "for x in range(3):\n    try:\n        assert add(x, 2) == 3\n    except:\n        pass\n",
        "",
        "catches whatever fails",
    ),
    "suppresses": (
        "import contextlib\nwith contextlib.suppress(BaseException):\n    assert add(1, 2) == 3\n",
        "",
        "whatever",
    ),
    "a loop over nothing": ("for x in []:\n    assert add(x, x) == 2 * x\n", "", "whatever"),
    "a function nobody calls": (f"def run(f):\n{CHECK}", "add", "whatever"),
    "a lambda nobody calls": ("t = lambda: add(1, 2) == 3\n", "", "assert nothing"),
    "under a false condition": (
        "DEBUG = 0\nif DEBUG:\n    assert add(1, 2) == 3\n",
        "",
        "whatever",
    ),
    "ends before it begins": ("import sys\nsys.exit()\nassert add(1, 2) == 3\n", "", "whatever"),
    "a function of tests that needs a fixture": (
        "def test_a(adder):\n    assert adder(1, 2) == 3\n",
        "",
        "no fixture 'adder'",
    ),
    "a function of tests that asserts nothing": ("def test_a():\n    add(1, 2)\n", "", "nothing"),
    "a test case without tests": (f"{CASE}pass\n    def a(self): pass\n", "", "nothing"),
    "a test case that is skipped": (
        f"{CASE}self.skipTest('later')\n        self.assertEqual(add(1, 2), 3)\n",
        "",
        "whatever",
    ),
    "a test case of constants": (f"{CASE}self.assertTrue(add(1, 2) or True)\n", "", "whatever"),
    "bare call of a predicate": ("import math\nmath.isclose(add(1, 2), 3)\n", "", "nothing"),
    "expected value as a message": (
        f"{CASE}self.assertTrue(add(1, 2), 3)\n",
        "",
        "gives the expected value as the message",
    ),
    "expected value as a message of assert": ("assert add(1, 2), 3\n", "", "as the message"),
    "prints": ("print('ok' if add(1, 2) == 3 else 'wrong')\n", "", "assert nothing"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", IDLE)
def test_tests_that_test_nothing(sandbox: Sandbox, name: str, mode: Mode) -> None:
    test, entry_point, reason = IDLE[name]
    for program in (RIGHT, WRONG):
        outcome = sandbox.run(Job(program, test, entry_point, mode=mode))
        assert outcome.status == "bad_test", outcome
        assert reason in outcome.message


TESTING = {
    "check": (f"def check(f):\n{CHECK}", "add"),
    "asynchronous check": (f"async def check(f):\n{CHECK}", "add"),
    "asserts": ("assert add(1, 2) == 3\n", ""),
    "not equal": ("assert add(1, 2) != 41\n", ""),
    "not a value": ("assert add(1, 2) is not None and add(1, 2) < 40\n", ""),
    "not in": ("assert add(1, 2) not in (41, 42)\n", ""),
    "raises by itself": ("if add(1, 2) != 3:\n    raise ValueError('wrong')\n", ""),
    "guard": (f"def run(f):\n{CHECK}if __name__ == '__main__':\n    run(add)\n", ""),
    "pytest's functions": ("def test_a():\n    assert add(1, 2) == 3\n", ""),
    "asynchronous function": ("async def test_a():\n    assert add(1, 2) == 3\n", ""),
    "pytest's classes": (
        "class TestAdd:\n    def setup_method(self):\n        self.x = 3\n"
        "    def test_a(self):\n        assert add(1, 2) == self.x\n",
        "",
    ),
    "functions it calls itself": (
        f"def test_it(f):\n{CHECK}def test_all():\n    test_it(add)\ntest_all()\n",
        "",
    ),
    "test case": (f"{CASE}self.assertEqual(add(1, 2), 3)\n", ""),
    "test case with main": (
        f"{CASE}self.assertEqual(add(1, 2), 3)\nif __name__ == '__main__':\n    unittest.main()\n",
        "",
    ),
    "subtests": (
        f"{CASE}for x in (1, 2):\n            with self.subTest(x=x):\n"
        "                self.assertEqual(add(x, 2), x + 2)\n",
        "",
    ),
    "asynchronous test case": (
        "import unittest\nclass T(unittest.IsolatedAsyncioTestCase):\n"
        "    async def test_a(self):\n        self.assertEqual(add(1, 2), 3)\n",
        "",
    ),
    "a predicate with its value as a message": (
        f"{CASE}self.assertTrue(add(1, 2) == 3, True)\n",
        "",
    ),
    "exit code": ("import sys\nsys.exit(add(1, 2) != 3)\n", ""),
    "exit after the tests": ("import sys\nassert add(1, 2) == 3\nsys.exit(0)\n", ""),
    "one of many": ("assert True\nadd(3, 4) == 7\nassert (1, 'x')\nassert add(1, 2) == 3\n", ""),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TESTING)
def test_tests_that_test_something(sandbox: Sandbox, name: str, mode: Mode) -> None:
    test, entry_point = TESTING[name]
    right = sandbox.run(Job(RIGHT, test, entry_point, mode=mode))
    assert right.passed, right
    wrong = sandbox.run(Job(WRONG, test, entry_point, mode=mode))
    assert wrong.status in ("wrong", "error"), wrong


def test_an_expected_exception_is_a_test(sandbox: Sandbox) -> None:
    program = "def f(x):\n    raise ValueError(x)\n"
    for test in (
        "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    assert False\n",
        f"{CASE}self.assertRaises(ValueError, f, 1)\n",
    ):
        assert sandbox.run(Job(program, test)).passed
        assert not sandbox.run(Job("def f(x):\n    return x\n", test)).passed


@pytest.mark.parametrize("start", ["", "def test_a():\n    "])
def test_a_relation_of_classes_is_a_test(sandbox: Sandbox, start: str) -> None:
    test = f"{start}assert issubclass(B, A)\n"
    assert sandbox.run(Job("class A: ...\nclass B(A): ...\n", test)).passed
    assert sandbox.run(Job("class A: ...\nclass B: ...\n", test)).status == "wrong"


@pytest.mark.parametrize("test", ["os._exit(0)\nassert add(1, 2) == 3", "add(1, 2)\nos._exit(3)"])
def test_tests_that_end_their_process_are_unusable(sandbox: Sandbox, test: str) -> None:
    outcome = sandbox.run(Job(RIGHT, f"import os\n{test}\n"))
    assert outcome.status == "bad_test" and "os._exit" in outcome.message, outcome


def test_what_was_found_of_a_test_holds_for_that_test_alone(sandbox: Sandbox) -> None:
    """Tests share a process, and it is remembered of each whether it tests something."""
    good, idle = "assert add(1, 2) == 3\n", "assert add(1, 2)\n"
    expected = {good: "passed", idle: "passed", idle + "or True\n": "bad_test"}
    for test in (good, "assert add(1, 2) or 1\n", good, idle, "assert add(1, 2) or 1\n", idle):
        status = sandbox.run(Job(RIGHT, test)).status
        assert status == expected.get(test, "bad_test"), test


def test_a_program_cannot_call_the_tests_unusable(sandbox: Sandbox) -> None:
    program = (
        "class BadTestError(Exception):\n    pass\nraise BadTestError('check is a generator')\n"
    )
    for mode in MODES:
        outcome = sandbox.run(Job(program, f"def check(f):\n{CHECK}", "add", mode=mode))
        assert outcome.status == "error", outcome
