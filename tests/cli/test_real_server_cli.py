"""``codegen eval run`` over a real llama.cpp server: the same problems, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import wait_for

pytestmark = pytest.mark.slow


def sampling(server: Any, out: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "codegen", "eval", "run", "humaneval-short", "--limit", "4",
        "--backend", "openai", "--endpoint", f"{server.url}/v1", "--model", server.model,
        "--api-key-env", "LLAMA_KEY", "--cache", "", "--temperature", "0", "--style", "chat",
        "--max-new-tokens", "48", "--concurrency", "2", "--out", str(out), "--json", *more,
    ]  # fmt: skip


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.long
def test_a_run_is_killed_resumed_and_scored(llama_server: Any, tmp_path: Path) -> None:
    from codegen.evals.tasks import find_style, load

    environment = {**os.environ, "LLAMA_KEY": llama_server.api_key}
    command = sampling(llama_server, tmp_path / "run", "-n", "2")
    partial = tmp_path / "run" / "samples.partial.jsonl"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        wait_for(partial.exists, 120)
        wait_for(lambda: partial.read_bytes().count(b"\n") >= 2)
        process.send_signal(signal.SIGKILL)
    kept = rows(partial)
    assert 2 <= len(kept) < 8
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    summary = json.loads(done.stdout)
    assert summary["llm"]["new_answers"] == 8 - len(kept)  # none is paid for twice
    samples = rows(tmp_path / "run" / "samples.jsonl")
    task = load("humaneval-short")
    problems = list(task.problems())[:4]
    assert [(row["problem_id"], row["index"]) for row in samples] == [
        (problem.id, index) for problem in problems for index in range(2)
    ]
    assert all(row in samples for row in kept)
    for row, problem in zip(samples[::2], problems, strict=True):
        assert row["prompt"] == task.request(problem, find_style("chat"), 0).prompt
        assert row["meta"]["usage"]["completion_tokens"] == row["completion_tokens"] <= 48
    score = [sys.executable, "-m", "codegen", "eval", "score", str(tmp_path / "run"), "--out",
             str(tmp_path / "run"), "-o", "unsafe_local=true", "--json"]  # fmt: skip
    scored = json.loads(subprocess.run(score, capture_output=True, check=True).stdout)
    assert scored["complete"] and scored["samples"] == 8
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(llama_server.api_key.encode() in path.read_bytes() for path in files)


def test_a_wrong_key_and_a_prompt_that_is_too_long(llama_server: Any, tmp_path: Path) -> None:
    command = sampling(llama_server, tmp_path / "run")
    wrong = {**os.environ, "LLAMA_KEY": "not-the-key"}
    done = subprocess.run(command, env=wrong, capture_output=True, text=True)
    assert done.returncode == 2 and "HTTP 401" in done.stderr and "--api-key-env" in done.stderr
    long = tmp_path / "long.txt"
    long.write_text("word " * 5000)
    arguments = ["generate", "--file", str(long), *command[command.index("--endpoint") :][:6]]
    environment = {**os.environ, "LLAMA_KEY": llama_server.api_key}
    done = subprocess.run(
        [*command[:3], *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("Error: ") == 1 and "context size" in done.stderr
