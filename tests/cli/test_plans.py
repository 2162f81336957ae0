"""``--plan`` says what a run needs, from a part of it, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codegen.cli import main


def plan(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--plan", "--json"])
    assert not stop.value.code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("more", "total"), [((), 400), (("--limit", "90"), 90),
                                             (("--shard", "1/4"), 100)])  # fmt: skip
def test_data(
    more: tuple[str, ...],
    total: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"instruction": "do", "program": "def f(x):\n    y = x\n    return y\n"}
    Path("rows.jsonl").write_text((json.dumps(row) + "\n") * 400)
    command = ("data", "whole", "rows.jsonl", "--out", "out", "--workers", "1", *more)
    found = plan(capsys, *command)
    assert found["total"] == total and found["measured"] == min(total, 256)
    assert found["seconds"] > 0 and 0 < found["memory"] < 1e10
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    with pytest.raises(SystemExit):
        main([*command])
    written = sum(path.stat().st_size for path in Path("out").iterdir())
    assert found["disk"] == pytest.approx(written, rel=1.0)
