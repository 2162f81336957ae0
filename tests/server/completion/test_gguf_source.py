"""``codegen serve --model file.gguf``: a llama.cpp child that is started again and ends with us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import lives, wait_for


@dataclass
class Serving:
    """A running ``codegen serve http``."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str
    token: str

    def post(self, route: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + route,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def child(self) -> int:
        pid = self.process.pid
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        (child,) = {int(word) for task in tasks for word in task.read_text().split()}
        return child


@pytest.fixture
def served(fim_gguf: Path, tmp_path: Path) -> Iterator[Serving]:
    log, token = tmp_path / "log", tmp_path / "token"
    words = ["serve", "http", "--model", fim_gguf, "--port", "0", "--token-file", token]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "codegen", *map(str, words), "-o", "threads=1"], stderr=file
        )
    with process:
        for _ in range(600):
            if "Serving" in log.read_text() or process.poll() is not None:
                break
            time.sleep(0.1)
        said = log.read_text()
        assert "Serving" in said, said
        url = next(word for word in said.split() if word.startswith("http://"))
        yield Serving(process, log, url, token.read_text().strip())
        process.kill()


@pytest.mark.slow
def test_an_editor_is_answered_and_a_dead_child_is_replaced(served: Serving) -> None:
    shown = served.post("/api/show", {"model": ""})
    assert shown["capabilities"] == ["completion", "insert"]
    turn = {"messages": [{"role": "user", "content": "Name a colour."}], "model": ""}
    said = served.post("/api/chat", {**turn, "options": {"num_predict": 8}, "stream": False})
    assert said["message"]["content"] and said["prompt_eval_count"] > 8
    assert 0 < said["eval_count"] <= 8  # what is sampled may end earlier
    infill = {"input_prefix": "def add(a, b):\n    re", "input_suffix": "\n", "n_predict": 4}
    made = served.post("/infill", infill)
    assert made["content"]
    first = served.child()
    os.kill(first, signal.SIGKILL)
    body = {"prompt": "def sub(a, b):\n    return", "max_tokens": 6}
    assert served.post("/v1/completions", body)["choices"][0]["text"]
    second = served.child()
    assert second != first
    log = served.log.read_text()
    assert "fim.gguf stopped: llama.cpp was killed by SIGKILL." in log and "Traceback" not in log
    served.process.kill()
    served.process.wait()
    wait_for(lambda: not lives(second))


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["--model", "none.gguf"], 1, "Cannot read none.gguf: No such file"),
        (["--model", "text.gguf"], 1, "text.gguf is not a GGUF file"),
        (["--model", "{gguf}", "-o", "precision=full"], 2, "precision cannot be used with a GGUF"),
        (["--model", "{gguf}", "-o", "fim=infill"], 1, "offers no completions with -o fim=infill"),
    ],
)
def test_mistakes_get_one_line(
    embedded_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codegen: Any,
    words: list[str],
    code: int,
    what: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.gguf").write_text("hello")
    given = [word.format(gguf=embedded_gguf) for word in words]
    ended, _, err = codegen("serve", "http", "--port", 0, *given)
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert (ended, len(lines)) == (code, 1), lines
    assert what in lines[0]
