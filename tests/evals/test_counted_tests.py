"""Tests counted one by one, against a plain loop; no program can forge a count."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codegen.evals import tasks
from codegen.evals.counted_tests import constant_programs, counted, is_hidden, results
from codegen.rewards.suspicious import suspects
from codegen.sandbox import Job, Limits, Outcome, Sandbox
from tests.rewards.test_judge import WRONG, custom


def test_counts_are_those_of_a_plain_loop(sandbox: Sandbox) -> None:
    rng = random.Random(7)
    jobs, expected = {}, {}
    for number in range(12):
        table = {x: rng.choice([x, x * x, x + 1]) for x in rng.sample(range(-9, 10), 7)}
        program = f"def f(x):\n    return {rng.choice(['x * x', 'x + 1', '1 // (x - 1)', 'x'])}\n"
        names: dict[str, Any] = {}
        exec(program, names)
        flags = []
        for x, value in table.items():
            try:
                flags.append(names["f"](x) == value)
            except ZeroDivisionError:
                flags.append(False)
        lines = [f"assert f({x}) == {value}" for x, value in table.items()]
        kind = number % 3
        if kind == 0:
            test, entry = "\n".join(lines), ""
        elif kind == 1:
            body = "".join(f"    {line.replace('f(', 'candidate(')}\n" for line in lines)
            test, entry = f"def check(candidate):\n{body}", "f"
        else:
            test = (
                f"for x, y in {list(table.items())}:\n    got = f(x)\n    assert got == y, 'no'\n"
            )
            entry = ""
        jobs[number], expected[number] = Job(program, test=test, entry_point=entry), flags
    plain = {key: outcome.passed for key, outcome in sandbox.map(jobs.items())}
    rewritten: dict[int, Any] = {}
    for key, job in jobs.items():
        rewritten[key] = counted(job)
        assert rewritten[key]
    found = dict(sandbox.map((key, test.job) for key, test in rewritten.items()))
    for key, flags in expected.items():
        got = results(rewritten[key], found[key], 0.0)
        assert list(got.seen) == (flags if not all(flags) else [True])
        assert found[key].passed == plain[key] == all(flags)
        half = results(rewritten[key], found[key], 0.5)
        if not all(flags):
            assert list(half.seen) == flags[::2] and list(half.hidden) == flags[1::2]


@pytest.mark.parametrize(
    "program",
    [
        "import os\ndef f(x):\n    os._exit(0)\n",
        "import sys\nsys.exit(0)\n",
        "class E:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return E()\n",
        "def f(x):\n    raise AssertionError('tests 1,1,1 | ')\n",
        "_counted = [[True]] * 3\n_counted_errors = ()\ndef f(x):\n    return x\n",
        "def f(x):\n    while True:\n        pass\n",
        "print('passed')\n",
    ],
)
def test_counts_cannot_be_forged(sandbox: Sandbox, program: str) -> None:
    tests = counted(Job(program, test="assert f(1) == 2\nassert f(2) == 3\nassert f(3) == 4\n"))
    assert tests
    outcome = sandbox.run(replace(tests.job, limits=Limits(cpu_s=0.3)))
    assert not any(results(tests, outcome, 0.0).seen)


@pytest.mark.parametrize("places", [1, 3, 40])
def test_a_failure_behind_many_passed_tests_is_one(sandbox: Sandbox, places: int) -> None:
    """Notes are bounded; what does not fit must not be taken for passed."""
    last = 2000 // places
    loop = f"for i in range({last + 1}):\n    assert f(i) == i\n"
    tests = counted(Job(f"def f(x):\n    return x % {last}\n", test=loop * places))
    assert tests
    found = results(tests, sandbox.run(tests.job), 0.0)
    assert found.status == "wrong" and 0 < found.share < 1, found
    right = sandbox.run(replace(tests.job, program="def f(x):\n    return x\n"))
    assert right.passed and all(results(tests, right, 0.0).seen)


@pytest.mark.parametrize("words", ["tests 1 | x", "tests 1", "AssertionError: tests 1 | x"])
def test_what_a_program_says_is_no_note_of_tests(sandbox: Sandbox, words: str) -> None:
    """Tests may raise with a value of the program's."""
    text = "assert f(0)\nif f(1) != 2:\n    raise AssertionError(f(1))\n"
    tests = counted(Job(f"def f(x):\n    return {words!r}\n", test=text))
    assert tests
    outcome = sandbox.run(tests.job)
    assert outcome.status == "wrong" and not any(results(tests, outcome, 0.0).seen)


def test_what_is_not_counted_is_one_test() -> None:
    for text in (
        "def test_it():\n    assert f(1) == 1\n",
        "try:\n    assert f(1)\nexcept AssertionError:\n    pass\nassert f(2)\n",
        "def same(x):\n    assert x\ntry:\n    same(f(1))\nexcept Exception:\n    pass\n",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        assert f(1)\n",
        "f(1)\n",
        "def check(candidate):\n    assert candidate(1)\n",  # nobody calls it
        "assert f(1) ==\n",
    ):
        assert counted(Job(WRONG, test=text)) is None
    assert counted(Job(WRONG, test="assert f(1)", mode="in_sandbox")) is None
    assert results(None, Outcome("wrong", "isolated"), 0.5).seen == (False,)


def test_hidden_tests_are_a_share_and_never_the_first() -> None:
    for share in (0.0, 0.1, 0.5, 0.75, 0.9):
        flags = [is_hidden(place, 0, share) for place in range(100)]
        assert not flags[0] and abs(sum(flags) - 100 * share) <= 1


def test_calls_and_inputs_of_rows_are_counted(sandbox: Sandbox) -> None:
    task = custom(
        {"prompt": "p", "entry_point": "f", "calls": [[1], [2], [3]], "expected": [1, 4, 9]},
        {"prompt": "p", "stdin": ["1", "2", "3"], "stdout": ["1", "4", "9"]},
    )
    programs = (WRONG, "print(int(input()))\n")
    for problem, program in zip(task.problems(), programs, strict=True):
        job = task.job(problem, program)
        assert isinstance(job, Job)
        tests = counted(job)
        assert tests
        assert results(tests, sandbox.run(tests.job), 0.0).seen == (True, False, False)


@pytest.mark.long
def test_verdicts_of_mbpp_do_not_change(data_folder: Path) -> None:
    """References, and references with another program's name, judged with and without counting."""
    task = tasks.load("mbpp", str(data_folder / "mbpp" / "mbpp.jsonl.gz"))
    problems = list(task.problems())[:400]
    jobs = {}
    for number, problem in enumerate(problems):
        other = task.reference(problems[(number + 1) % len(problems)])
        name = task.entry_point(problem)  # type: ignore[attr-defined]
        twisted = f"_right = {name}\ndef {name}(*a):\n    return _right(*a) or 0\n"
        twisted = f"{task.reference(problem)}\n{twisted}"
        for kind, program in (
            ("right", task.reference(problem)),
            ("other", other),
            ("or", twisted),
        ):
            job = task.job(problem, program)
            assert isinstance(job, Job)
            jobs[problem.id, kind] = job
    with Sandbox() as sandbox:
        plain = dict(sandbox.map(jobs.items()))
        tests = {key: found for key, job in jobs.items() if (found := counted(job))}
        assert len(tests) > 0.9 * len(jobs)
        found = dict(sandbox.map((key, test.job) for key, test in tests.items()))
    differ = {key for key, outcome in found.items() if outcome.passed != plain[key].passed}
    assert not differ
    assert 0.4 < sum(outcome.passed for outcome in found.values()) / len(found) < 0.9


@pytest.mark.parametrize(
    "deep",
    ["x" + ".a" * 900 + "()", "raise " + "+".join("a" * 900), "{" + "-" * 900 + "3: 1}",
     "if x == [1, " + "+".join("a" * 900) + "]:\n    def f(): return 2"],
)  # fmt: skip
def test_nesting_ends_no_judging(deep: str) -> None:
    """What a model writes may be nested deeper than Python's own tools can follow."""
    test = f"assert f(31) == {'+'.join('1' * 900)}\nassert f(41) == 16\n"
    assert suspects(f"import sys\nsys.exit(0)\n{deep}\n", test)[:1] == ["exit"]
    assert counted(Job(deep, test=test)) is None
    assert constant_programs(Job(deep, test=test))
