"""``codegen eval tasks|styles|check|import|export``, as a stranger uses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codegen.evals import tasks

ROWS = [
    {"id": "é", "prompt": "Double x.", "entry_point": "f", "calls": [[2], [0]], "expected": [4, 0],
     "solution": "def f(x):\n    return 2 * x\n", "buggy": ["def f(x):\n    return x\n"]},
    {"id": "b", "prompt": "1 + 1?", "answer": "2", "solution": "2"},
]  # fmt: skip


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return f"file:{path}"


def call_json(codegen: Any, *arguments: str) -> Any:
    code, out, err = codegen(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_tasks_and_styles_have_a_line_each(codegen: Any) -> None:
    _, out, _ = codegen("eval", "tasks")
    for name, about in tasks.names():
        assert sum(line.startswith(f"{name} ") and about in line for line in out.splitlines()) == 1
    _, out, _ = codegen("eval", "styles")
    assert {line.split()[0] for line in out.splitlines()} == set(tasks.STYLES)
    listed = call_json(codegen, "eval", "styles")["styles"]
    assert {style["name"] for style in listed} == set(tasks.STYLES)


def test_checking_and_scoring_a_task_of_your_own(codegen: Any, own: str, tmp_path: Path) -> None:
    found = call_json(codegen, "eval", "check", own)
    assert (found["passed"], found["rejected"], found["task"]) == (2, 1, "file:own.jsonl")
    theirs = tmp_path / "theirs.jsonl"
    rows = [{"task_id": row["id"], "solution": row["solution"]} for row in ROWS]
    theirs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = tmp_path / "samples.jsonl"
    made = call_json(codegen, "eval", "import", own, str(theirs), "--out", str(samples))
    assert made["samples"] == 2
    out = str(tmp_path / "scored")
    result = call_json(codegen, "eval", "score", str(samples), "--task", own, "--out", out)
    assert result["statuses"] == {"passed": 2}
    assert str(tmp_path) not in json.dumps(result)
    back = tmp_path / "back.jsonl"
    call_json(
        codegen, "eval", "export", own, str(samples), "--format", "evalplus",
        "--out", str(back),
    )  # fmt: skip
    assert [json.loads(line) for line in back.read_text().splitlines()] == rows


def test_a_gate_that_fails_ends_with_1(codegen: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"prompt": "x", "tests": "assert x == 1", "solution": "x = 2"}))
    code, out, _ = codegen("eval", "check", f"file:{path}")
    assert code == 1
    assert "0 of 1 references pass\n  1 should pass: wrong" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["check", "humanevul"], 2, "Unknown task 'humanevul'"),
        (["check", "file:none.jsonl"], 1, "Cannot read none.jsonl"),
        (["import", "humaneval", "none", "--out", "x"], 1, "Cannot read none"),
        (["import", "humaneval", "none"], 2, "Missing option '--out'"),
        (["export", "humaneval", "none", "--format", "word", "--out", "x"], 2, "word"),
        (["run", "humaneval", "--model", "m", "--out", "x", "-o", "styles=none.yaml"], 1,
         "Cannot read the file of prompt styles none.yaml"),
        (["run", "humaneval", "--model", "m", "--out", "x", "--style", "shout"], 2, "'shout'"),
        # Said before the model, which is not there, is looked for.
        (["run", "humaneval", "--model", "m", "--out", "x", "--style", "fim-qwen"], 2, "fim-qwen"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(codegen: Any, arguments: list[str], code: int, said: str) -> None:
    ended, _, err = codegen("eval", *arguments)
    assert ended == code
    assert said in err
    assert "Traceback" not in err
