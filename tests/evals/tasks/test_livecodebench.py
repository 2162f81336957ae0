"""LiveCodeBench: its rows and rule of comparison, dates, and programs run once for each input."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Sample
from codegen.evals import tasks
from codegen.evals.report import NamedScore, write_report
from codegen.evals.scoring import score
from codegen.evals.tasks.livecodebench import LiveCodeBench, read_tests
from codegen.sandbox import Sandbox


def packed(value: object, protocol: int = 4) -> str:
    """As the authors pack private tests."""
    data = pickle.dumps(value, protocol)
    return base64.b64encode(zlib.compress(data)).decode()


def row(id_: str, tests: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    hidden = [{"input": "7 8\n", "output": "15\n", "testtype": "stdin"}]
    return {
        "question_title": id_,
        "question_content": "Print the sum of two numbers.",
        "platform": "atcoder",
        "question_id": id_,
        "contest_id": "abc",
        "contest_date": "2024-03-02T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(tests),
        "private_test_cases": packed(json.dumps(hidden)),
        "metadata": "{}",
        **more,
    }


READS = row("sum", [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}])
CALLED = row(
    "pairs",
    [{"input": '[1, 2]\n"ab"', "output": '[[1, "ab"], [2, "ab"]]', "testtype": "functional"}],
    starter_code="class Solution:\n    def pairs(self, a: List[int], b: str):\n        ",
    metadata=json.dumps({"func_name": "pairs"}),
    private_test_cases="",
    platform="leetcode",
    difficulty="hard",
    contest_date="2024-09-01T00:00:00",
)


def load(write_rows: Callable[[list[Any]], Path], *rows: Any) -> Any:
    return tasks.load("livecodebench", str(write_rows(list(rows))))


def answer(id_: str, program: str, index: int) -> Sample:
    text = f"Let me see.\n```python\nnot this one\n```\nSo:\n```python\n{program}\n```\n"
    return Sample("", id_, index, "", text, "stop", {}, 0, 1, 1, meta={"style": "chat"})


def test_both_kinds_are_scored_by_difficulty(
    write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox
) -> None:
    task = load(write_rows, READS, CALLED)
    pairs = "class Solution:\n    def pairs(self, a: List[int], b: str):\n        return {}\n"
    programs = {
        "atcoder/sum": [
            ("print(sum(map(int, input().split())))", "passed"),
            ("import os\nn = sum(map(int, open(0).read().split()))\nos.write(1, b'%d' % n)",
             "passed"),
            ("import threading\nthreading.Thread(target=lambda: print(sum(map(int, input().split())"
             "))).start()", "passed"),
            ("print(sum(map(int, input().split())))\nexit()", "passed"),
            ("print(sum(map(int, input().split())))\nraise SystemExit(1)", "error"),
            ("print(3)", "wrong"),  # the public test's answer
            ("import os\nprint(3)\nos._exit(0)", "wrong"),
            ("print(1 / 0)", "error"),
            ("print(", "syntax_error"),
        ],
        "leetcode/pairs": [
            (pairs.format("[[x, b] for x in a]"), "passed"),
            (pairs.format("tuple([x, b] for x in a)"), "passed"),  # the outermost only
            (pairs.format("[(x, b) for x in a]"), "wrong"),
            (pairs.format("defaultdict(list) or [[x, b] for x in a]"), "passed"),
            (pairs.format("object()"), "error"),
            ("class Solution: pass", "error"),
        ],
    }  # fmt: skip
    samples = [
        answer(id_, program, index)
        for id_, of_problem in programs.items()
        for index, (program, _) in enumerate(of_problem)
    ]
    result = score(samples, task, out=tmp_path / "out", sandbox=sandbox)
    lines = (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()
    verdicts = [json.loads(line) for line in lines]
    expected = [status for of_problem in programs.values() for _, status in of_problem]
    assert [v["status"] for v in verdicts] == expected, verdicts
    assert {v["trust"] for v in verdicts} == {"isolated"}
    assert {label: round(e.value, 3) for label, e in result.groups.items()} == {
        "easy": round(4 / 9, 3), "atcoder": round(4 / 9, 3), "hard": 0.5, "leetcode": 0.5,
    }  # fmt: skip
    page = write_report([NamedScore("run", result)], tmp_path / "report.html").read_text()
    assert "Groups of problems" in page
    assert '<th scope="row" class="">hard</th>' in page
    assert "The problems are from contests from 2024-03-02 to 2024-09-01." in result.notes


@pytest.mark.slow
def test_an_input_that_takes_too_long_is_a_timeout(
    write_rows: Callable[[list[Any]], Path], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegen.evals.tasks.livecodebench.CPU_S", 1.0)
    task = load(write_rows, READS)
    problem = task.problems()[0]
    for program in ("while True: pass", "import time\ntime.sleep(60)"):
        ((_, found),) = task.judge([(0, problem, program)], sandbox)
        assert found.status == "timeout", found
    ((_, found),) = task.judge([(0, problem, "import time\ntime.sleep(0.5)\nprint(3)")], sandbox)
    assert found.status == "wrong"  # the second test's answer is another


def test_a_pickle_is_never_loaded(write_rows: Callable[[list[Any]], Path], tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {canary}",)

    for value in (Evil(), [json.dumps([])], {"a": Evil()}, 1.5):
        for protocol in (0, 2, 4):
            bad = {**READS, "private_test_cases": packed(value, protocol)}
            task = load(write_rows, bad)
            with pytest.raises(InputError, match=r"rows\.jsonl:1: the tests cannot be read"):
                task.job(task.problems()[0], "print(1)")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, "has no tests"),
        ({"public_test_cases": "%%%"}, "cannot be read"),
        ({"public_test_cases": '[{"input": 1, "output": "1"}]'}, "not a string"),
        ({"private_test_cases": base64.b64encode(b"no zlib").decode()}, "cannot be read"),
        ({"private_test_cases": packed(json.dumps(READS))[:-9]}, "cannot be read"),
        ({"metadata": "{"}, "metadata or contest_date"),
        ({"contest_date": "yesterday"}, "metadata or contest_date"),
        ({"metadata": '{"func_name": "a b"}'}, "not a Python identifier"),
        ({"question_id": None}, "question_id"),
    ],
)
def test_rows_that_cant_be_used(
    change: dict[str, Any], message: str, write_rows: Callable[[list[Any]], Path]
) -> None:
    with pytest.raises(InputError, match=message) as error:
        task = load(write_rows, {**READS, **change})
        task.job(task.problems()[0], "print(1)")
    assert "rows.jsonl:1" in str(error.value)


def test_dates_choose_problems(write_rows: Callable[[list[Any]], Path]) -> None:
    task = load(write_rows, READS, CALLED)
    assert [p.id for p in task.dated(date(2024, 3, 3), None).problems()] == ["leetcode/pairs"]
    assert [p.id for p in task.dated(None, date(2024, 3, 2)).problems()] == ["atcoder/sum"]
    assert len(task.dated(date(2024, 3, 2), date(2024, 9, 1)).problems()) == 2
    with pytest.raises(ConfigError, match="from 2024-03-02 to 2024-09-01"):
        task.dated(date(2025, 1, 1), None)
    with pytest.raises(InputError, match="no contest_date"):
        load(write_rows, {**READS, "contest_date": ""}).dated(date(2024, 1, 1), None)
    with pytest.raises(ConfigError, match="no dates"):
        tasks.load("humaneval").dated(date(2024, 1, 1), None)


def test_prompts_show_the_starter_code(write_rows: Callable[[list[Any]], Path]) -> None:
    task = load(write_rows, READS, CALLED)
    reads, called = (task.request(p, tasks.STYLES["chat"], 0).prompt for p in task.problems())
    assert "# YOUR CODE HERE" in reads
    assert "standard" not in reads
    assert "def pairs(self" in called
    assert called.endswith("### Answer: (use the provided format with backticks)\n\n")
    begun = task.request(task.problems()[1], tasks.STYLES["continue"], 0).prompt
    assert begun.startswith('"""\nPrint the sum')


SOLUTIONS = {
    "codeforces/1873_A": (
        "for _ in range(int(input())):\n"
        "    print('NO' if input().strip() in ('bca', 'cab') else 'YES')\n"
    ),
    "leetcode/2727": (
        "class Solution:\n    def countSeniors(self, details: List[str]) -> int:\n"
        "        return sum(int(d[11:13]) > 60 for d in details)\n"
    ),
    "atcoder/abc301_a": (
        "n, s = input(), input()\nt, a = s.count('T'), s.count('A')\n"
        "print('T' if t > a or (t == a and s[-1] == 'A') else 'A')\n"
    ),
}


def test_the_samples_of_the_data_folder(data_folder: Path, sandbox: Sandbox) -> None:
    folder = data_folder / "languages" / "samples"
    if not folder.is_dir():
        pytest.skip("no languages/samples in CODEGEN_TEST_DATA")
    task = tasks.load("livecodebench", str(folder / "live_code_bench_v1.jsonl.gz"))
    problems = {p.id: p for p in task.problems()}
    right = [((id_, True), problems[id_], text) for id_, text in SOLUTIONS.items()]
    wrong = [((p.id, False), p, "import sys; sys.exit(0)") for p in task.problems()]
    found = dict(task.judge(right + wrong, sandbox))
    assert {key: v.status == "passed" for key, v in found.items()} == {key: key[1] for key in found}
    assert len(found) == 6
    contests = tasks.load("livecodebench", str(folder / "code_contests.jsonl.gz"))
    assert isinstance(contests, LiveCodeBench)
    assert sum(len(read_tests(p)) for p in contests.problems()) == 2233
