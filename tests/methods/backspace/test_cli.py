"""``codegen data backspace``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from codegen.data import read_texts
from codegen.methods.backspace import Codec, from_text

ROWS = (
    '{"instruction": "do", "program": "def f(x):\\n    return x\\n"}\n'
    '{"instruction": "no", "program": ""}\n'
)


def codegen(*args: str | int | float, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codegen", "data", "backspace", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_options_reach_the_generator(tiny: Codec, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    args = ["rows.jsonl", "--out", "out", "--model", tiny.name, "--eta", 0.5, "--span", 2]
    args += ["--noise", "syntax,uniform", "--sequences", 3, "--workers", 1, "--json"]
    done = codegen(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["generator"] == "backspace" and summary["texts"] == 3
    assert summary["counts"]["inputs"] == 2 and summary["counts"]["kept"] == 1
    texts = list(read_texts(tmp_path / "out"))
    assert sum(text.meta["noised"] for text in texts) > 0
    assert all(from_text(text).clean for text in texts)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    config = manifest["run"]["config"]
    assert (config["eta"], config["span"], config["noise"]) == (0.5, 2, "syntax,uniform")


def test_mistakes_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    for option, value, code, message in (
        ("--model", "./nowhere", 2, "no model directory './nowhere'"),
        ("--noise", "typos", 2, "noise 'typos'"),
        ("--eta", 2, 2, "0<=x<=1"),
    ):
        done = codegen("rows.jsonl", "--out", "out", option, value, cwd=tmp_path)
        assert done.returncode == code and message in done.stderr
        assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
