"""`codegen data unicode` as a process: its messages, and what survives its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from openai_server import (  # pyright: ignore[reportMissingImports]
    Model,
    Reply,
)
from unicode_helpers import PROGRAM, write

from codegen.generation.response_cache import ResponseCache


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


def test_the_command_makes_ast_data(tmp_path: Path) -> None:
    process = codegen(
        "humaneval", "--out", "o", "--limit", 3, "--objectives", "qp, uot", "--styles", "indent",
        "--workers", 1, "--json", cwd=tmp_path,
    )  # fmt: skip
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert summary["texts"] == 6 and "llm" not in summary


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--mode", "llm"], "Mode llm needs a model. Give --endpoint URL"),
        (["--llm", "embedded"], "Mode ast asks no model"),
        (["--mode", "llm", "--endpoint", "http://h", "--llm", "embedded"], "Both --endpoint"),
        (["--mode", "llm", "--endpoint", "http://h"], "Name one of the server's models"),
        (["--mode", "llm", "--endpoint", "h:8", "--model", "m"], "'h:8' is no http or https URL"),
        (["--objectives", "qa,xx"], "no objective 'xx'"),
        (["--mode", "llm", "--body", "x"], "'x' is not FIELD=JSON"),
        (["--mode", "llm", "--llm", "./nowhere"], "no model directory './nowhere'"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path: Path, args: list[str], message: str) -> None:
    rows(tmp_path, 2)
    process = codegen("rows.jsonl", "--out", "o", *args, cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and message in err and "Traceback" not in err
    assert "Traceback" not in err


def test_a_server_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    rows(tmp_path, 2)
    args = ["--mode", "llm", "--endpoint", "http://127.0.0.1:9", "--model", "m"]
    process = codegen("rows.jsonl", "--out", "o", *args, cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "Traceback" not in err
    assert "http://127.0.0.1:9/v1/chat/completions did not answer" in err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_finished_answers_survive_the_end_of_the_process(
    model: Model, tmp_path: Path, how: signal.Signals
) -> None:
    model.answer = lambda body: Reply(write(body).body, delay_s=0.05)
    rows(tmp_path, 60)
    args: list[Any] = ["rows.jsonl", "--mode", "llm", "--endpoint", model.url, "--model", "m"]
    args += ["--concurrency", 3, "--price-in", 1, "--price-out", 2, "--json", "--out"]
    process = codegen(*args, "o", cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(model.bodies) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert out == ""
    if how is signal.SIGINT:
        assert process.returncode == 130 and "Interrupted. Run the same command again" in err
        said = re.search(r"gave (\d+) new answers: (\d+) tokens asked, .*cost 0\.", err)
        assert said and int(said[1]) >= 17 and int(said[2]) == 7 * int(said[1])
    time.sleep(0.2)  # requests that were in flight end
    asked_before = len(model.bodies)
    with ResponseCache(tmp_path / "cache" / "responses.sqlite") as cache:
        kept = cache.totals().answers
    assert asked_before - 3 <= kept <= asked_before < 60

    process = codegen(*args, "o", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert summary["counts"]["kept"] == 60
    assert len(model.bodies) == asked_before + (60 - kept)
    assert summary["llm"] == {
        "new_answers": 60 - kept,
        "prompt_tokens": 7 * (60 - kept),
        "completion_tokens": 5 * (60 - kept),
        "cost_micros": 17 * (60 - kept),
    }
    whole = codegen(*args, "p", "--cache", "other.sqlite", cwd=tmp_path)
    whole.communicate(timeout=60)
    files = [(tmp_path / name / "data-00000.jsonl").read_bytes() for name in "op"]
    assert files[0] == files[1]
