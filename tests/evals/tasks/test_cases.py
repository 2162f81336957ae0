"""Many inputs for one program: each run and told apart."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from codegen.evals.tasks.cases import RULES, cases_test, with_runner
from codegen.sandbox import Job, Sandbox


def test_each_input_finds_the_program_as_it_began(sandbox: Sandbox) -> None:
    program = (
        "import builtins, sys\nassert not hasattr(builtins, 'seen')\nbuiltins.seen = 1\n"
        "sys.setrecursionlimit(60)\nsys.stdout.write(sys.stdin.read())\nsys.stdin.close()\n"
    )
    cases = [(str(n) * n, str(n) * n) for n in range(5)] + [("x" * 3_000_000, "x" * 3_000_000)]
    found = sandbox.run(Job(with_runner(program), test=cases_test(cases, "lines")))
    assert found.passed, found.message


def test_what_an_input_raised_is_told(sandbox: Sandbox) -> None:
    program = "class Odd(Exception): pass\n\nraise {}\n"
    for raised, said in (
        ("Odd('why')", "RuntimeError: Odd: why"),
        ("KeyError('why')", "KeyError: \"'why'\""),
        ("UnicodeDecodeError('utf-8', b'a', 0, 1, 'why')", "RuntimeError: UnicodeDecodeError: "),
    ):
        job = Job(with_runner(program.format(raised)), test=cases_test([("", "")], "lines"))
        found = sandbox.run(job)
        assert found.status == "error"
        assert found.message.startswith(said), found.message
    memory = with_runner("x = [0] * (1 << 40)")
    assert sandbox.run(Job(memory, test=cases_test([("", "")], "lines"))).status == "memory"
    killed = with_runner("import os\nos.kill(os.getpid(), 11)")
    found = sandbox.run(Job(killed, test=cases_test([("", "")], "lines")))
    assert "SIGSEGV" in found.message


def lcb_equal(got: str, expected: str) -> bool:
    """The rule as testing_util.py of LiveCodeBench writes it."""

    def stripped(text: str) -> list[str]:
        return [line.strip() for line in text.strip().split("\n")]

    def decimals(line: str) -> tuple[bool, list[Decimal]]:
        try:
            return True, [Decimal(word) for word in line.split()]
        except ArithmeticError:
            return False, []

    one, other = stripped(got), stripped(expected)
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):
        if a == b:
            continue
        (good_a, numbers_a), (good_b, numbers_b) = decimals(a), decimals(b)
        if not (good_a and good_b and numbers_a == numbers_b):
            return False
    return True


WORDS = st.sampled_from(
    ["1", "1.0", "1e0", "2", "-0", "0.10", ".1", "a", "NaN", "inf", "", "é", "１"]
)
TEXTS = st.lists(st.lists(WORDS, max_size=3).map(" ".join), max_size=4).map("\n".join)


@given(TEXTS, TEXTS)
def test_the_rule_for_text_is_the_authors(one: str, other: str) -> None:
    space: dict[str, Any] = {}
    exec(RULES, space)
    for got, expected in ((one, other), (one, one), (f" {one} \n\n", one), (other, one)):
        assert (space["decimals"](got, expected) == "") == lcb_equal(got, expected)
