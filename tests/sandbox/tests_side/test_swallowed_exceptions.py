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


def test_what_python_swallows_is_not_believed(sandbox: Sandbox) -> None:
    """Such tests are not isolated, and if blinded, the program has to give the whole value."""
    jobs = {name: Job(program, ITEMS + test) for name, (program, test) in SWALLOWED.items()}
    assert not [name for name, job in jobs.items() if job.trust == "isolated"]
    truths = [
        (name, job)
        for name, job in jobs.items()
        if name != "a thread" and (" == " not in job.test or "equal" in name)
    ]
    believed = [o for _, o in sandbox.map(truths) if o.passed and o.trust == "blinded"]
    assert len(truths) > 5 and not believed


CAUGHT = suite("swallowed_exceptions")["caught"]


@pytest.mark.parametrize("name", CAUGHT)
def test_what_tests_catch_may_pass(sandbox: Sandbox, name: str) -> None:
    outcome = sandbox.run(Job(LATE, CAUGHT[name]))
    assert outcome.passed, outcome
    never = sandbox.run(Job("def f(x):\n    return x\n", CAUGHT[name]))
    assert never.status in ("wrong", "error"), never
