"""`codegen data unicode` as a process: its messages, and what survives its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, Reply, error
from unicode_helpers import PROGRAM, write

from tests.selection import some


def codegen(*args: str | int | Path, cwd: Path, **popen: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "codegen", "data", "unicode", *map(str, args)]
    environment = {**os.environ, "CODEGEN_CACHE": str(cwd / "cache")}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, cwd=cwd, env=environment, **popen
    )


def rows(folder: Path, number: int) -> Path:
    path = folder / "rows.jsonl"
    lines = [
        json.dumps({"id": f"e{i}", "instruction": f"Do {i}.", "program": PROGRAM})
        for i in range(number)
    ]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("args", "message"),
    some(
        [
            (["--mode", "llm"], "Mode llm requires a model. Pass --endpoint URL"),
            (["--llm", "embedded"], "Mode ast calls no model, so --llm cannot be used."),
            (
                ["--cache", "c", "-o", "price_in=1", "--model", "m"],
                "--model, -o price_in, --cache cannot be used.",
            ),
            (["-o", "min_score=4"], "Mode ast calls no model"),
            (
                ["--mode", "llm", "--llm", "embedded", "--model", "m", "--concurrency", "3"],
                "--llm cannot be combined with --endpoint or --model.",
            ),
            (
                ["--mode", "llm", "--endpoint", "http://localhost:1/v1", "--batch-size", "3"],
                "Cannot use --batch-size with a server.",
            ),
            (["--language", "a b"], "'a b' is not a language name"),
            (
                ["--mode", "llm", "--endpoint", "http://h", "--llm", "embedded"],
                "--llm cannot be combined with --endpoint",
            ),
            (["--mode", "llm", "--endpoint", "http://127.0.0.1:9"], "No model is set"),
            (
                ["--mode", "llm", "--endpoint", "h:8", "--model", "m"],
                "'h:8' is not an http or https URL",
            ),
            (["--objectives", "qa,xx"], "objective 'xx'"),
            (["--mode", "llm", "--llm", "./nowhere"], "no model directory './nowhere'"),
        ],
        3,
    ),
)
def test_the_command_refuses_in_one_line(tmp_path: Path, args: list[str], message: str) -> None:
    rows(tmp_path, 2)
    process = codegen("rows.jsonl", "--out", "o", *args, cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and message in err and "Traceback" not in err


def llm(model: Model, *more: str | int) -> list[Any]:
    return ["--mode", "llm", "--endpoint", model.url, "--model", "m", "--json", *more]


def test_how_failed_questions_are_asked_again(model: Model, tmp_path: Path) -> None:
    bad = [True]

    def answer(body: dict[str, Any]) -> Reply:
        if bad and "Do 1." in body["messages"][0]["content"]:
            return error(400, "no")
        return write(body)

    model.answer = answer
    rows(tmp_path, 4)
    process = codegen("rows.jsonl", *llm(model, "--out", "o"), cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert "1 example got no response (RequestFailed in rejects.jsonl)." in err
    assert "run the command with another --out; all other responses come from" in err
    bad.clear()
    asked = len(model.bodies)
    process = codegen("rows.jsonl", *llm(model, "--out", "p"), cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert json.loads(out)["counts"]["kept"] == 4 and "got no response" not in err
    assert len(model.bodies) == asked + 1
