"""``codegen audit``: exit codes, JSON, the hardened file, and few options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen.cli import main

ROW = {
    "id": "a", "prompt": "Count.", "entry_point": "f", "tests": "assert f([3, -2]) == 1",
    "solution": "def f(items):\n    return len([i for i in items if i > 0])\n",
}  # fmt: skip


@pytest.mark.slow
def test_fail_on_sets_the_exit_code_and_json_is_alone_on_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text(json.dumps(ROW) + "\n")
    call = ["audit", "mine.jsonl", "--out", "out", "-o", "workers=1", "--json"]
    for options, code in (
        (["--harden", "hard.jsonl"], 0),
        (["--fail-on", "weak"], 1),
        (["--fail-on", "forgeable", "--fail-on", "reference"], 0),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*call, *options])
        assert int(stop.value.code or 0) == code
        assert json.loads(capsys.readouterr().out)["weak"]["count"] == 1
    assert len(json.loads((tmp_path / "hard.jsonl").read_text())["tests"]) > len(ROW["tests"])
    names = {"audit.jsonl", "audit.json", "audit.html", "README.md"}
    assert names <= {path.name for path in (tmp_path / "out").iterdir()}
