"""A task of one's own in Python: what it has to say, and what it gets for that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import InputError
from codegen.core.records import Sample, Verdict
from codegen.evals.tasks import STYLES, CodeTask, Problem
from codegen.evals.tasks.dataset_rows import DataLocation, problem_of_columns
from codegen.evals.tasks.validate import check
from codegen.sandbox import Job, Sandbox


@dataclass(frozen=True, slots=True)
class PalindromeProblem(Problem):
    """A word; the function must say whether it is a palindrome."""

    entry_point: str
    solution: str
    word: str


class Palindromes(CodeTask[PalindromeProblem]):
    """The whole task."""

    home = DataLocation("palindromes.jsonl")

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> PalindromeProblem:
        return problem_of_columns(PalindromeProblem, place, row, id="word")

    def job(self, problem: PalindromeProblem, program: str) -> Job | Verdict:
        if "[::-1]" not in program:
            return Verdict(problem.id, 0, "wrong", message="nothing is reversed")
        right = problem.word == problem.word[::-1]
        return Job(program, test=f"assert {problem.entry_point}({problem.word!r}) is {right}")

    def reference(self, problem: PalindromeProblem) -> str:
        return problem.prompt + problem.solution

    def buggy(self, problem: PalindromeProblem) -> list[str]:
        return [f"{problem.prompt}    return None\n", self.reference(problem) + "x = [1][::-1\n"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "palindromes.jsonl"
    with path.open("w") as file:
        for word in ("level", "ladder"):
            prompt, solution = "def p(word):\n", "    return word == word[::-1]\n"
            row = {"word": word, "prompt": prompt, "solution": solution, "entry_point": "p"}
            file.write(json.dumps(row) + "\n")
    return path


def test_it_is_asked_and_read_in_every_style(rows: Path) -> None:
    task = Palindromes.load("palindromes", "words", str(rows))
    first = task.problems()[0]
    assert [problem.id for problem in task.problems()] == ["level", "ladder"]
    assert task.request(first, STYLES["continue"], 2).prompt == "def p(word):\n"
    sample = Sample("", "level", 0, "", "    return 1\n\nprint(p)", "stop", {}, 0, 0, 0,
                    meta={"style": "continue"})  # fmt: skip
    assert task.extract(first, sample).program == "def p(word):\n    return 1\n"


def test_verdicts_with_and_without_the_sandbox(rows: Path, sandbox: Sandbox) -> None:
    task = Palindromes.load("palindromes", "words", str(rows))
    programs = [
        (number, problem, program)
        for number, problem in enumerate(task.problems())
        for program in (task.reference(problem), *task.buggy(problem))
    ]
    found = sorted((key, verdict.status) for key, verdict in task.judge(programs, sandbox))
    expected = ["passed", "syntax_error", "wrong"]
    assert found == [(number, status) for number in (0, 1) for status in expected]
    gate = check(task, sandbox)
    assert (gate.passed, gate.rejected, gate.holds) == (2, 4, True)


def test_a_row_without_a_column_is_named(rows: Path) -> None:
    rows.write_text('{"word": "x", "prompt": "p", "solution": "s"}\n')
    with pytest.raises(InputError, match=r"jsonl:1: the field 'entry_point' is missing"):
        Palindromes.load("palindromes", "words", str(rows))
