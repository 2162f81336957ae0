"""An exception of the program that Python's own protocols swallow does not end a test early."""

from __future__ import annotations

import pytest
from suites import suite

from codegen.sandbox import Job, Sandbox

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
