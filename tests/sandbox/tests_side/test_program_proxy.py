"""Objects that lie about comparison, order, membership or their class decide nothing."""

from __future__ import annotations

import pytest
from suites import suite

from codegen.benchmarks.tools.suites import is_believed
from codegen.sandbox import Job, Outcome, Sandbox


def believed(outcome: Outcome) -> bool:
    """Whether it passed, by assertions that the program cannot forge."""
    return outcome.passed and is_believed(outcome)


LIAR = """\
class E:
    def __init__(self,*a): pass
    def __eq__(self,o): return True
    def __ne__(self,o): return False
    def __bool__(self): return True
    def __len__(self): return 3
    def __hash__(self): return 3
    def __lt__(self,o): return True
    __le__=__gt__=__ge__=__lt__
    def __sub__(self,o): return self
    __rsub__=__add__=__radd__=__mul__=__truediv__=__rtruediv__=__mod__=__pow__=__xor__=__and__=__floordiv__=__neg__=__sub__
    def __abs__(self): return 0
    def __float__(self): return 0.0
    def __int__(self): return 0
    def __index__(self): return 0
    def __round__(self,n=None): return 0
    def __contains__(self,o): return True
    def __iter__(self): return iter([self]*3)
    def __getitem__(self,i): return self
    def __getattr__(self,n): return self
    def __call__(self,*a,**k): return self
    def __instancecheck__(self,o): return True
    @property
    def __class__(self): return int
    def __str__(self): return 'x'
    def __format__(self,s): return 'x'
"""

ADD = "def add(a, b):\n    return E()\n"
PROGRAMS = suite("lying_objects")["programs"]
_SUBCLASS = LIAR.replace("    def __init__(self,*a): pass\n", "").partition("    @property")[0]
PROGRAMS |= {
    f"subclass of {base}": _SUBCLASS.replace("class E:", f"class E({base}):") + ADD
    for base in (
        *("int", "float", "str", "list", "dict", "tuple", "set", "frozenset", "bytes", "complex"),
    )
}

# Each passes for a right program, which returns 3, or [1, 2, 3], or what is asked for.
TESTS = suite("lying_objects")["tests"]


def test_no_lie_passes(sandbox: Sandbox) -> None:
    jobs = [
        ((name, test), Job(program, test=test + "\n"))
        for name, program in PROGRAMS.items()
        for test in TESTS
        if "Solution" not in test or "Solution" in program
    ]
    assert len(jobs) > 600
    bad = {
        key: outcome
        for key, outcome in sandbox.map(jobs)
        if outcome.status not in ("wrong", "error")
    }
    assert not bad


# A program, and tests that it must not pass.
OTHERS = suite("lying_objects")["others"]


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_tests_lend_is_not_turned_against_them(sandbox: Sandbox, name: str) -> None:
    program, test = OTHERS[name]
    outcome = sandbox.run(Job(program, test=test))
    assert not believed(outcome), outcome


def test_an_object_that_knows_nothing_of_the_tests_has_operators(sandbox: Sandbox) -> None:
    program, tests = suite("lying_objects")["operators"]
    for test in tests:
        assert sandbox.run(Job(program, test=test)).passed, test


CATCHES = suite("catches")


def test_the_program_catches_no_failure_of_a_test(sandbox: Sandbox) -> None:
    tests = suite("lying_objects")["failures"]
    outcomes = dict(sandbox.map((test, Job(CATCHES, test=test)) for test in tests))
    assert not [test for test, outcome in outcomes.items() if believed(outcome)]


def test_other_exceptions_are_the_programs_to_catch(sandbox: Sandbox) -> None:
    for test in suite("lying_objects")["exceptions"]:
        assert sandbox.run(Job(CATCHES, test=test)).passed, test


# What the tests' side takes from a program since it takes more: containers by content, exit stacks,
# connections, coroutines, classes. The name, the program, and behind the dashes its tests.
TAKEN = suite("lying_objects")["taken"]


def test_what_crosses_decides_nothing(sandbox: Sandbox) -> None:
    jobs = []
    for block in TAKEN.split("=== ")[1:]:
        name, _, rest = block.partition("\n")
        program, _, test = rest.partition("---\n")
        jobs.append((name, Job(program, test=test)))
    outcomes = dict(sandbox.map(jobs))
    assert not [name for name, outcome in outcomes.items() if believed(outcome)]
    assert len(outcomes) == 16


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
