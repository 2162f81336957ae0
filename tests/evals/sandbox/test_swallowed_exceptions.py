"""An exception of the program that Python's own protocols swallow does not end a test early."""

from __future__ import annotations

import pytest
from suites import suite

from codegen.evals.sandbox import Job, Sandbox

# Every program is wrong for all but the first items. The oracle is that no test here would pass if
# f returned what it should instead of raising.
LATE = "def f(x=0, *_):\n    if x > 1:\n        raise StopIteration\n    return x\n"

ITEMS = "items = [0, 1, 7, 8]\n"

SWALLOWED = suite("swallowed_exceptions")["swallowed"]


ISOLATED = [
    name
    for name, (program, test) in SWALLOWED.items()
    if Job(program, ITEMS + test).mechanism == "isolated"
]


@pytest.mark.parametrize("name", ISOLATED)
def test_what_python_swallows_does_not_pass(sandbox: Sandbox, name: str) -> None:
    program, test = SWALLOWED[name]
    outcome = sandbox.run(Job(program, ITEMS + test))
    assert outcome.status == "error", outcome
    assert "raised by the program" in outcome.message or "bool" in outcome.message, outcome


@pytest.mark.parametrize("name", ISOLATED)
def test_nor_where_more_calls_follow(sandbox: Sandbox, name: str) -> None:
    program, test = SWALLOWED[name]
    job = Job(program + "def g():\n    return 1\n", ITEMS + test + "assert g() == 1\n")
    assert sandbox.run(job).status == "error"


CAUGHT = suite("swallowed_exceptions")["caught"]


@pytest.mark.parametrize("name", CAUGHT)
def test_what_tests_catch_may_pass(sandbox: Sandbox, name: str) -> None:
    outcome = sandbox.run(Job(LATE, CAUGHT[name]))
    assert outcome.passed, outcome
    never = sandbox.run(Job("def f(x):\n    return x\n", CAUGHT[name]))
    assert never.status in ("wrong", "error"), never


def test_iterators_of_the_program_end_as_they_should(sandbox: Sandbox) -> None:
    program = (
        "def f(n):\n    yield from range(n)\n"
        "class It:\n    def __init__(self, n):\n        self.n = n\n"
        "    def __iter__(self):\n        return self\n"
        "    def __next__(self):\n        self.n -= 1\n"
        "        if self.n < 0:\n            raise StopIteration\n        return self.n\n"
        "def g(n):\n    return It(n)\n"
    )
    test = (
        "assert list(f(3)) == [0, 1, 2]\nassert next(f(0), 7) == 7\nassert sum(f(4)) == 6\n"
        "assert list(g(3)) == [2, 1, 0]\n"
    )
    outcome = sandbox.run(Job(program, test))
    assert outcome.passed, outcome


# The program's decorators; its add is wrong.
DECORATORS = suite("decorators")
WRONG = "def test_add():\n    assert add(1, 2) == 3\ntest_add()\n"
IN_A_CLASS = "    def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n"
DROPPED = (
    f"@drops\n{WRONG}",
    f"@makes(1)\n{WRONG}",
    f"@runs\n@drops\n{WRONG}",
    f"@misuses\n{WRONG}",
    "@drops\ndef test_add():\n    assert add(1, 2) == 3\n",
    f"import unittest\nclass Tests(unittest.TestCase):\n    @drops\n{IN_A_CLASS}",
)
RUN = (
    f"@same\n{WRONG}".replace("3", "-1"),
    f"@runs\n{WRONG}".replace("3", "-1"),
    "@same\ndef handler(x):\n    assert x == 5\nassert add(1, 2) == -1\n",
    "@drops\ndef helper():\n    pass\nassert add(1, 2) == -1\n",
)


def test_a_decorator_of_the_program_keeps_no_test_from_running(sandbox: Sandbox) -> None:
    jobs = [(test, Job(DECORATORS, test=test)) for test in (*DROPPED, *RUN)]
    passed = {test: outcome.trust for test, outcome in sandbox.map(jobs) if outcome.passed}
    assert passed.keys() >= set(RUN)
    assert not {test for test in DROPPED if passed.get(test) in ("isolated", "blinded")}
