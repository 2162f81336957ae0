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


def test_eval_run(tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    found = plan(
        capsys, "eval", "run", "humaneval", "--model", str(tiny_model_dir), "-n", "3", "--out",
        str(out), "--limit", "50", "--batch-size", "6", "--max-new-tokens", "2",
    )  # fmt: skip
    assert (found["total"], found["measured"]) == (150, 6)
    assert found["seconds"] > 0 and found["disk"] > 0 and not out.exists()


def test_eval_matrix(
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "{n: 3, limit: 50, batch_size: 6, max_new_tokens: 2}"
    tasks = "[humaneval, {task: humaneval, name: few, n: 1, limit: 9}]"
    models = f"[{{name: tiny, model: {tiny_model_dir}}}]"
    Path("m.yaml").write_text(
        f"tasks: {tasks}\nmodels: {models}\nseeds: [0, 1]\ntries: 2\noptions: {options}\n"
    )
    found = plan(capsys, "eval", "matrix", "m.yaml", "--out", "runs")
    assert [(cell["total"], cell["measured"]) for cell in found["cells"]] == [(150, 6), (9, 6)]
    assert found["total"] == 4 * 159
    assert found["seconds"] == pytest.approx(4 * sum(c["seconds"] for c in found["cells"]))
    assert found["disk"] == 4 * sum(cell["disk"] for cell in found["cells"])
    assert [path.name for path in tmp_path.iterdir()] == ["m.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize(("more", "total"), [((), 80), (("--every", "2", "--limit", "10"), 20)])
def test_eval_check(
    more: tuple[str, ...],
    total: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of 40 problems, each with a solution and a known bug."""
    monkeypatch.chdir(tmp_path)
    problem = {"prompt": "f", "entry_point": "f", "calls": [[1]], "expected": [2],
               "solution": "def f(x):\n    return 2\n",
               "buggy": ["def f(x):\n    return 1\n"]}  # fmt: skip
    rows = [{"id": f"p{i}", **problem} for i in range(40)]
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = plan(capsys, "eval", "check", "file:own.jsonl", *more)
    assert found["total"] == total and found["measured"] == min(total, 48)
    assert found["seconds"] > 0 and found["disk"] == 0


@pytest.mark.slow
def test_eval_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    problems = [
        {"id": f"p{i}", "prompt": "f", "entry_point": "f", "calls": [[i]], "expected": [i + 1],
         "solution": "def f(x):\n    return x + 1\n"}
        for i in range(40)
    ]  # fmt: skip
    samples = [
        {"task_id": row["id"], "completion": f"def f(x):\n    return x + {k + 2}\n"}
        for row in problems
        for k in range(5)
    ]
    for name, rows in (("own.jsonl", problems), ("samples.jsonl", samples)):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("eval", "score", "samples.jsonl", "--task", "file:own.jsonl", "--out", "scored")
    found = plan(capsys, *command)
    assert found["measured"] == 60  # of ten problems: five samples each, and the solution
    assert found["total"] == 240 and found["seconds"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.jsonl", "samples.jsonl"]
    with pytest.raises(SystemExit):
        main([*command])
    written = sum(path.stat().st_size for path in Path("scored").iterdir())
    assert found["disk"] == pytest.approx(written, rel=0.5)
