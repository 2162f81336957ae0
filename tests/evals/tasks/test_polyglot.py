"""Blocks of search and replace, instructed edits, and aider's exercises with their second try."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import FakeGenerator

from codegen.core.errors import ConfigError, InputError
from codegen.core.generation import Decoder, SamplingParams
from codegen.core.records import Sample, read_jsonl
from codegen.evals import tasks
from codegen.evals.run import run
from codegen.evals.scoring import score
from codegen.sandbox import Sandbox


def block(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"


def exercise(name: str, body: str) -> dict[str, Any]:
    return {
        "id": f"python/{name}",
        "solution": [f"{name}.py"],
        "test": [f"{name}_test.py"],
        "example": [".meta/example.py"],
        "files": {
            f"{name}.py": "def twice(x):\n    pass\n\n\nclass Odd(Exception):\n    pass\n",
            f"{name}_test.py": (
                f"import unittest\nimport {name}\nfrom {name} import twice as double\n\n\n"
                f"class TwiceTest(unittest.TestCase):\n"
                f"    def test_one(self):\n        self.assertEqual(double(2), {body})\n\n"
                f"    def test_two(self):\n        self.assertEqual({name}.twice(0), 0)\n"
            ),
            ".meta/example.py": "def twice(x):\n    return 2 * x\n",
            ".docs/instructions.md": "# Instructions\n\nDouble it.\n",
            ".docs/instructions.append.md": "# More\n\nReally.\n",
        },
    }


ROWS = [exercise("one", "4"), exercise("two", "4")]
RIGHT, WRONG = "def twice(x):\n    return 2 * x\n", "def twice(x):\n    return x\n"


def go(task: Any, out: Path, completion: Any, **more: Any) -> list[Sample]:
    generator = FakeGenerator(completion=completion, shuffle=False)
    path = run(
        task, generator, SamplingParams(max_new_tokens=16), Decoder(), n=1,
        style=tasks.STYLES["chat"], out=out, **more,
    )  # fmt: skip
    return list(read_jsonl(Sample, path))


@pytest.mark.parametrize("name", ["aider-polyglot", "aider-polyglot-diff"])
def test_two_tries(
    name: str, write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox
) -> None:
    task = tasks.load(name, str(write_rows(ROWS)))
    first, second = tmp_path / "first", tmp_path / "second"

    def answer(program: str, before: str = "    pass\n\n\n") -> str:
        if name.endswith("-diff"):
            return block(f"def twice(x):\n{before}", program)
        return f"```python\n{program}```"

    made = go(task, first, lambda r: answer(RIGHT if r.problem_id == "python/one" else WRONG))
    with pytest.raises(InputError, match="codegen eval score"):
        go(task, second, lambda r: "", after=first)
    before = score(first / "samples.jsonl", task, out=first, sandbox=sandbox)
    assert before.statuses == {"passed": 1, "wrong": 1}

    asked: list[str] = []

    def again(request: Any) -> str:
        asked.append(request.prompt)
        return answer(RIGHT, "    return x\n")

    after = go(task, second, again, after=first)
    (prompt,) = asked
    assert "Double it.\n\n# More\n\nReally." in prompt
    assert "1 of 2 tests failed" in prompt
    assert "AssertionError: 2 != 4" in prompt
    assert "See the testing errors above." in prompt
    assert "    return x\n" in prompt  # the file as the first try left it
    assert after[0] == made[0]  # what passed is kept
    assert (after[1].problem_id, after[1].meta["try"]) == ("python/two", 2)
    result = score(second / "samples.jsonl", task, out=second, sandbox=sandbox)
    assert result.statuses == {"passed": 2}
    assert result.measures["well_formed"].mean == 1
    assert go(task, second, again, after=first) == after  # nothing is asked twice
    assert len(asked) == 1


def test_a_second_try_of_what_was_not_tried(
    write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox
) -> None:
    task = tasks.load("aider-polyglot", str(write_rows(ROWS)))
    go(task, tmp_path / "first", lambda r: f"```\n{WRONG}```", limit=1)
    score(tmp_path / "first" / "samples.jsonl", task, out=tmp_path / "first", sandbox=sandbox)
    with pytest.raises(ConfigError, match="no sample 0 of python/two"):
        go(task, tmp_path / "second", lambda r: "", after=tmp_path / "first")


def test_any_task_can_be_tried_again(
    toy: tasks.Task[Any], tmp_path: Path, sandbox: Sandbox
) -> None:
    made = go(toy, tmp_path / "a", lambda r: "```\ndef add0(x):\n    return x\n```", limit=2)
    score(tmp_path / "a" / "samples.jsonl", toy, out=tmp_path / "a", sandbox=sandbox)
    asked: list[str] = []
    go(
        toy,
        tmp_path / "b",
        lambda r: asked.append(r.prompt) or "x = 1",
        after=tmp_path / "a",
        limit=2,
    )
    assert len(made) == 2
    assert len(asked) == 1
    assert "This answer failed:" in asked[0]
    assert "def add0(x)" in asked[0]


def test_exercises_of_a_copy_of_the_repository(tmp_path: Path, sandbox: Sandbox) -> None:
    for made in ROWS:
        folder = tmp_path / "python/exercises/practice" / made["id"].split("/")[1]
        for path, text in made["files"].items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        (folder / ".meta/config.json").write_text(
            json.dumps({"files": {k: made[k] for k in ("solution", "test", "example")}})
        )
    task = tasks.load("aider-polyglot", str(tmp_path))
    assert [p.id for p in task.problems()] == ["python/one", "python/two"]
    jobs = [(p.id, p, task.reference(p)) for p in task.problems()]
    assert all(found.status == "passed" for _, found in task.judge(jobs, sandbox))
    escaping = tmp_path / "python/exercises/practice/one/.meta/config.json"
    escaping.write_text(json.dumps(
        {"files": {"solution": ["../../../../../etc/passwd"], "test": ["t"], "example": ["e"]}}
    ))  # fmt: skip
    with pytest.raises(InputError, match="solution"):
        tasks.load("aider-polyglot", str(tmp_path))
    with pytest.raises(InputError, match="copy of Aider-AI"):
        tasks.load("aider-polyglot", str(tmp_path / "python"))
