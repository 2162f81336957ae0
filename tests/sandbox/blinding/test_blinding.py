"""Blinded tests: what is inside gives nothing away, and no program passes without the answers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
from suites import suite

from codegen.benchmarks.tools.suites import HONEST
from codegen.sandbox import Job, Limits, Sandbox
from codegen.sandbox.blinding import blind

SPLIT = suite("blinded")["split"]
ATTACKERS = suite("blinded")["attackers"]
RIGHT, TEST = suite("blinded")["right"], suite("blinded")["test"]
SECRETS = ("86028157", "the answer is", "LookupError", "31337")


def split(test: str, entry_point: str = "") -> tuple[str, int, int]:
    blinded = blind("", test, entry_point)
    assert blinded is not None
    return blinded.inside, blinded.sites, len(blinded.open)


@pytest.mark.parametrize("name", SPLIT)
def test_what_is_closed(name: str) -> None:
    """In these tests 77 and words with ``secret`` are expected values."""
    test, closed, opened = SPLIT[name]
    inside, sites, still_open = split(test)
    assert (sites - still_open, still_open) == (closed, opened), inside
    if not opened:
        assert "77" not in inside and "secret" not in inside, inside


def _twins(test: str) -> Iterator[tuple[int, str]]:
    """Line and tests in which one expected literal of an assertion is another."""
    tree = ast.parse(test)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare)):
            continue
        for part in ast.walk(node.test.comparators[0]):
            if isinstance(part, ast.Constant) and type(part.value) in (int, str):
                kept: Any = part.value
                part.value = kept * 2 + type(kept)(9)
                try:
                    ast.literal_eval(node.test.comparators[0])
                    yield node.lineno, ast.unparse(tree)
                except ValueError:
                    pass
                part.value = kept


def test_expected_values_leave_no_trace_inside() -> None:
    """Tests that differ in an expected value of a closed site are the same inside."""
    compared = 0
    for row in HONEST[::4]:
        test = ast.unparse(ast.parse(row.test))
        blinded = blind("", test, "")
        if blinded is None or "try:" in test:  # open, with all that is in it
            continue
        opened = {place.partition(":")[0] for place in blinded.open}
        for line, twin in _twins(test):
            if f"line {line}" not in opened:
                assert split(twin)[0] == blinded.inside, twin
                compared += 1
    assert compared > 100


def test_a_right_program_passes(sandbox: Sandbox) -> None:
    outcome = sandbox.run(Job(RIGHT, TEST))
    assert outcome.passed and outcome.trust == "blinded", outcome
    assert (outcome.sites, outcome.open_sites) == (7, ())
    inside, _, _ = split(TEST)
    assert not [secret for secret in SECRETS if secret in inside], inside


@pytest.mark.parametrize("name", ATTACKERS)
def test_no_attacker_passes(sandbox: Sandbox, name: str) -> None:
    """Each has a wrong ``Stack``, and tries something else to pass."""
    outcome = sandbox.run(Job(suite("blinded")["wrong"] + ATTACKERS[name], TEST))
    assert not outcome.passed, outcome


FORGERIES = {
    name: row for rows in suite("blinded")["forgeries"].values() for name, row in rows.items()
}


def _forgery(row: dict[str, Any]) -> Job:
    program = suite("blinded")["forgery_parts"].get(row.get("part"), "") + row.get("program", "")
    limits = Limits(cpu_s=4, memory_mib=1024)
    given = {name: row.get(name, "") for name in ("setup", "entry_point")}
    return Job(program, row["test"], limits=limits, **given)


@pytest.mark.parametrize("packages", [(), ("numpy",), ("pandas",)], ids=["none", "numpy", "pandas"])
def test_no_forgery_is_believed(packages: tuple[str, ...]) -> None:
    """Each has wrong results; a mistake of the split once let it pass."""
    rows = {n: r for n, r in FORGERIES.items() if tuple(r.get("packages", ())) == packages}
    jobs = [(name, _forgery(row)) for name, row in rows.items()]
    trusted = [each for each in jobs if each[1].trust in ("blinded", "isolated")]
    pytest.importorskip((*packages, "pytest")[0])
    with Sandbox(workers=1, packages=(*packages, "pytest")) as sandbox:
        assert not [name for name, outcome in sandbox.map(trusted) if outcome.passed]


def test_an_open_assertion_is_named_and_its_failure_cannot_be_caught(sandbox: Sandbox) -> None:
    program = (
        "class P:\n    def __init__(self, x): self.x = x\n"
        "    def __eq__(self, other): return self.x == other.x\n"
        "def each(f, items):\n"
        "    for item in items:\n        try: f(item)\n        except AssertionError: pass\n"
    )
    test = "assert P(3).x == 3\nassert P(3) == P(3)\n"
    outcome = sandbox.run(Job(program, test))
    assert outcome.passed and outcome.trust == "partly_blinded" and outcome.sites == 2
    assert outcome.open_sites == ("line 2: assert P(3) == P(3)",)
    swallowed = (
        "def check_it(n):\n    assert P(n).x == 4\neach(check_it, [3])\nassert P(1).x == 1\n"
    )
    assert sandbox.run(Job(program, swallowed)).status == "wrong"
    alone = sandbox.run(Job(program, "assert P(3) == P(3)\n"))
    assert alone.passed and alone.trust == "in_sandbox"


@pytest.mark.parametrize(("test", "status"), suite("blinded")["statuses"])
def test_statuses(sandbox: Sandbox, test: str, status: str) -> None:
    program = "class Stack(list):\n    pass\n"
    assert sandbox.run(Job(program, test, mode="blinded")).status == status


@pytest.mark.parametrize("name", suite("blinded")["set_up"])
def test_programs_use_what_the_setup_defines(sandbox: Sandbox, name: str) -> None:
    outcome = sandbox.run(Job(**suite("blinded")["set_up"][name]))
    assert outcome.passed and outcome.trust == "blinded", outcome


def test_changes_in_place_are_seen(sandbox: Sandbox) -> None:
    program = "def sort(items):\n    items.sort()\n"
    for test in suite("blinded")["in_place"]:
        job = Job(program, test)
        assert job.mechanism != "isolated" and sandbox.run(job).passed, test


def test_tests_choose_the_mechanism() -> None:
    for test, mechanism in suite("blinded")["mechanisms"]:
        assert Job("x = 1\n", test).mechanism == mechanism, test


@pytest.mark.parametrize(("check", "is_reported"), suite("blinded")["reported"])
def test_what_open_assertions_read_is_reported_whole(
    sandbox: Sandbox, check: str, is_reported: bool
) -> None:
    """If one part cannot be, or is easily guessed, a reference does not close the assertion."""
    program = (
        "class Box:\n    items = [400, 500]\n"
        "    def total(self): return sum(self.items)\n"
        "    def pair(self): return [777, 777]\n"
        "    def order(self, v): return v - 400\n"
        "    def yes(self): return True\n"
    )
    head = (
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        b = Box()\n"
    )
    outcome = sandbox.run(Job(program, test=f"{head}        {check}\n"))
    assert outcome.passed and len(outcome.open_sites) == 1, outcome
    assert bool(outcome.seen) == is_reported


@pytest.mark.parametrize("size", [10, 20_000, 300_000])
def test_an_expected_text_within_a_later_argument_is_open(size: int) -> None:
    """Also among so many characters that they are not searched."""
    test = f"""\
def test_f():
    assert f(1) == "the expected answer"
    other = f("{"x" * size} the expected answer")
    assert other == "b c d"
"""
    blinded = Job("def f(x): return x", test=test, mode="blinded").blinded
    assert blinded and len(blinded.open) == 1 and "the expected answer" in blinded.open[0]
