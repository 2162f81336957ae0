"""Tasks of your own: every way of judging, and what is said about a broken file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suites import suite

from codegen.core.errors import InputError
from codegen.core.records import Sample, Verdict
from codegen.evals import tasks
from codegen.evals.scoring import score
from codegen.evals.tasks.validate import check
from codegen.sandbox import Job, Sandbox

ADD = {
    "id": "add",
    "prompt": "Write add(a, b).",
    "solution": "def add(a, b):\n    return a + b\n",
    "buggy": ["def add(a, b):\n    return a - b\n", "x = 1"],
}
ECHO = {
    "id": "echo",
    "prompt": "Print each line of the input backwards.",
    "solution": "import sys\nfor line in sys.stdin:\n    print(line.strip()[::-1])\n",
    "buggy": ["print(input())", "x = (", "raise SystemExit(3)"],
}
ROWS: dict[str, dict[str, Any]] = suite("custom")


def load(write_rows: Callable[[list[Any]], Path], *rows: Any) -> tasks.Task[Any]:
    return tasks.load(f"file:{write_rows(list(rows))}")


@pytest.mark.parametrize("kind", ROWS)
def test_every_way_of_judging(
    kind: str, write_rows: Callable[[list[Any]], Path], sandbox: Sandbox
) -> None:
    task = load(write_rows, ROWS[kind])
    assert task.name == "file:rows.jsonl"
    found = check(task, sandbox)
    assert (found.failures, found.accepted) == ({}, [])
    assert (found.references, found.buggy) == (1, len(ROWS[kind]["buggy"]))
    assert found.holds


def test_the_isolated_ways_say_so(write_rows: Callable[[list[Any]], Path]) -> None:
    for kind, mode in {
        "tests": "isolated",
        "calls": "isolated",
        "cases": "isolated",
        "one case": "stdio",
        "in_sandbox": "in_sandbox",
    }.items():
        task = load(write_rows, ROWS[kind])
        job = task.job(task.problems()[0], "x = 1")
        assert isinstance(job, Job)
        assert job.mode == mode


def sample(id_: str, index: int, text: str, style: str = "chat") -> Sample:
    return Sample("", id_, index, "", text, "stop", {}, 0, 0, 0, meta={"style": style})


def test_answers_in_every_wrapping(
    write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox
) -> None:
    rows = [ROWS["calls"], ROWS["answer"] | {"id": "sum"}, ROWS["code"] | {"id": "code"}]
    task = load(write_rows, *rows)
    right = [
        sample("add", 0, f"Here:\n```python\n{ADD['solution']}```"),
        sample("add", 1, ADD["solution"], "continue"),
        sample("sum", 0, "4"),
        sample("sum", 1, "I think.\nThe final answer: four"),
        sample("sum", 2, "Answer: 5\n**Answer:** 4"),
        sample("sum", 3, "[ANSWER]\n4\n[/ANSWER] as 2 + 2 = 4"),
        sample("code", 0, ROWS["code"]["solution"], "continue"),
        sample("code", 1, "```\ndef area(r):\n    return math.pi * r * r\n```"),
    ]
    wrong = [
        sample("add", 2, "I can't."),
        sample("sum", 4, "The answer is 5"),
        sample("sum", 5, " "),
    ]
    result = score([*right, *wrong], task, out=tmp_path, sandbox=sandbox)
    assert result.statuses == {"passed": len(right), "wrong": 1, "empty": 1, "no_answer": 1}
    assert result.complete


def test_a_program_that_prints_wrong_is_told_where(
    write_rows: Callable[[list[Any]], Path], sandbox: Sandbox
) -> None:
    task = load(write_rows, ROWS["cases"])
    job = task.job(task.problems()[0], "for i in range(2): print('ba')")
    assert isinstance(job, Job)
    outcome = sandbox.run(job)
    assert outcome.status == "wrong"
    assert "case 1, line 2: 'ba', expected '(the end)'" in outcome.message
    syntax = task.job(task.problems()[0], "x = (")
    assert isinstance(syntax, Verdict)
    assert syntax.status == "syntax_error"
    # Whatever a program does to its own streams, the cases are compared elsewhere.
    cheat = "import sys\nsys.stdout.write = lambda s: 1 / 0\nprint('ba')\n"
    cheating = task.job(task.problems()[0], cheat)
    assert isinstance(cheating, Job)
    assert sandbox.run(cheating).status == "error"


def test_limits_of_a_row_hold(write_rows: Callable[[list[Any]], Path], sandbox: Sandbox) -> None:
    task = load(write_rows, {**ROWS["tests"], "cpu_s": 0.3, "memory_mib": 256})
    job = task.job(task.problems()[0], "def add(a, b):\n    while True: pass")
    assert isinstance(job, Job)
    assert (job.limits.cpu_s, job.limits.memory_mib) == (0.3, 256)
    assert sandbox.run(job).status == "timeout"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "x"}, "rows.jsonl:1: the row has no column for scoring answers"),
        ({"prompt": "x", "tests": "", "answer": ""}, "has tests and answer"),
        ({"tests": "x"}, "the field 'prompt' is missing"),
        ({"prompt": 1, "tests": "x"}, "the field 'prompt' is not a string"),
        ({"prompt": "x", "tests": [1]}, "'tests' must be a string or a list of strings"),
        ({"prompt": "x", "expected": [1]}, "calls and expected must both be lists"),
        ({"prompt": "x", "expected": [1], "calls": []}, "0 calls and 1 expected values"),
        ({"prompt": "x", "expected": [1], "calls": [[1]]}, r"the call \[1\] cannot be read"),
        ({"prompt": "x", "expected": [1], "calls": [["a b", []]]}, "cannot be read"),
        ({"prompt": "x", "stdout": ["a"], "stdin": ["b", "c"]}, "2 strings in stdin and 1"),
        ({"prompt": "x", "stdout": []}, "0 strings in stdin and 0 in stdout"),
        ({"prompt": "x", "answer": []}, "'answer' is empty"),
        ({"prompt": "x", "answer": 4}, "'answer' must be a string or a list"),
        ({"prompt": "x", "answer": "4", "id": True}, "'id' must be a string or a number"),
        ({"prompt": "x", "tests": "a", "mode": "unsafe"}, "the mode 'unsafe' must be"),
        ({"prompt": "x", "tests": "a", "cpu_s": "3"}, "limit cpu_s is"),
        ({"prompt": "x", "tests": "a", "entry_point": "f()"}, "is not a Python identifier"),
        ({"prompt": "x", "tests": "a", "buggy": 3}, "'buggy' must be a string or a list"),
        ([1], "expected a JSON object, got list"),
    ],
)
def test_broken_rows_are_named(
    write_rows: Callable[[list[Any]], Path], row: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        load(write_rows, row)


def test_ids(write_rows: Callable[[list[Any]], Path], tmp_path: Path) -> None:
    rows = [{"prompt": "é", "answer": "x"}, {"prompt": "y", "answer": "x", "id": 7}]
    assert [p.id for p in load(write_rows, *rows).problems()] == ["1", "7"]
    with pytest.raises(InputError, match="the id '2' appears twice"):
        load(write_rows, rows[0], {**rows[0]}, {**rows[1], "id": 2})
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(InputError, match="has no problems"):
        tasks.load(f"file:{empty}")
    with pytest.raises(InputError, match="Cannot read"):
        tasks.load("file:none.jsonl")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 5, "1024"])
def test_a_limit_that_no_program_can_have_is_refused_with_its_row(
    write_rows: Callable[[list[Any]], Path], value: object
) -> None:
    with pytest.raises(InputError, match=r":1: .*memory_mib"):
        load(write_rows, {"prompt": "x", "tests": "a", "memory_mib": value})
