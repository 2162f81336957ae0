"""Tests that pass whatever a program returns are told, and judge nobody."""

from __future__ import annotations

import pytest
from suites import suite

from codegen.sandbox import Job, Mode, Sandbox
from codegen.sandbox.protocol.orders import CHANNEL_FD

RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 41\n"
CHECK = "    assert f(1, 2) == 3\n"
CASE = "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        "
MODES: tuple[Mode, ...] = ("isolated", "in_sandbox")

IDLE = suite("idle_tests")["idle"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", IDLE)
def test_tests_that_test_nothing(sandbox: Sandbox, name: str, mode: Mode) -> None:
    test, entry_point, reason = IDLE[name]
    for program in (RIGHT, WRONG):
        outcome = sandbox.run(Job(program, test, entry_point, mode=mode))
        assert outcome.status == "bad_test", outcome
        assert reason in outcome.message


TESTING = suite("idle_tests")["testing"]


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


@pytest.mark.parametrize("mode", MODES)
def test_a_variable_is_a_result(sandbox: Sandbox, mode: Mode) -> None:
    """EditEval/57 asserts one that the program sets at its end; a function is true anyway."""
    for test in ("assert success\n", "def check():\n    assert success\ncheck()\n"):
        assert sandbox.run(Job("success = True\n", test, mode=mode)).passed
        assert sandbox.run(Job("success = False\n", test, mode=mode)).status == "wrong"
    assert sandbox.run(Job(RIGHT, "assert add\n", mode="in_sandbox")).status == "bad_test"


def test_no_program_can_call_its_function_a_variable(sandbox: Sandbox) -> None:
    """A stand-in of a variable cannot be called, which idle tests would notice."""
    program = (
        "import json, os, struct\n"
        "def send(*message):\n"
        "    data = json.dumps(message).encode()\n"
        f"    os.write({CHANNEL_FD}, struct.pack('>I', len(data)) + data)\n"
        "send('loaded', {'add': 'value'})\n"
        f"os.read({CHANNEL_FD}, 1000)\n"
        "send('value', 3)\n"
        f"os.read({CHANNEL_FD}, 1000)\n"
    )
    assert sandbox.run(Job(program, "assert add(1, 2) == 3\n")).passed  # the lie is understood
    assert sandbox.run(Job(program, "assert add(1, 2) or True\n")).status == "bad_test"


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
