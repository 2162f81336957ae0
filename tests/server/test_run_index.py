"""Runs as they are found and listed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codegen.core.runs import RunDirectory, is_locked
from codegen.server.run_index import differing, find_runs, read_run

HOLD = (
    "import sys; from pathlib import Path; from codegen.core.runs import RunDirectory\n"
    "with RunDirectory(Path(sys.argv[1])).open(sys.argv[2]): print('held', flush=True); input()\n"
)


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n")


def evaluation(folder: Path, *, temperature: float = 0.8, finished: bool = True) -> Path:
    settings = {"task": "toy", "model": "tiny", "params": {"temperature": temperature}}
    put(folder / "run.json", {"settings": settings, "fingerprint": folder.name})
    put(folder / ("samples.jsonl" if finished else "samples.partial.jsonl"), {})
    return folder


def score(folder: Path, passed: list[bool]) -> Path:
    rate = sum(passed) / len(passed)
    estimate = {"value": rate, "tasks_low": 0.0, "tasks_high": 1.0, "samples_low": 0.0,
                "samples_high": 1.0, "m": len(passed), "n": 1, "clusters": len(passed)}  # fmt: skip
    problems = [{"problem_id": f"p/{n}", "n": 1, "c": int(p)} for n, p in enumerate(passed)]
    row = {"task": "toy", "source": "made up", "complete": True, "estimates": {"1": estimate},
           "statuses": {"passed": sum(passed), "wrong": len(passed) - sum(passed)},
           "problems": problems, "problems_in_task": len(passed), "samples": len(passed),
           "programs": 1, "settings": {"model": "tiny"}, "sandbox": {}, "versions": {},
           "reference": {"total": 0, "passed": 0}}  # fmt: skip
    put(folder / "score.json", row)
    return folder


def data(folder: Path, *, finished: bool = True) -> Path:
    run = {"generator": "lintseq", "source": {"spec": "stdlib"}, "seed": 0}
    if finished:
        put(folder / "manifest.json", {"run": run, "texts": 7, "counts": {"inputs": 9, "kept": 7}})
        put(folder / "data-00000.jsonl", {})
        put(folder / "rejects.jsonl", {})
    else:
        put(folder / ".partial" / "journal.jsonl", {"run": run, "versions": {}})
    return folder


def training(folder: Path, *, finished: bool = True) -> Path:
    recipe = {"model": "tiny", "objective": "sft", "steps": 20, "learning_rate": 0.1}
    put(folder / "recipe.json", recipe)
    (folder / "model").mkdir()
    if finished:
        put(folder / "train.json", {"losses": [[1, 2.0], [20, 0.5]], "evaluations": []})
    return folder


def test_each_kind_is_known_with_its_state_and_numbers(tmp_path: Path) -> None:
    score(evaluation(tmp_path / "a"), [True, False, False, False])
    evaluation(tmp_path / "b", finished=False)
    score(tmp_path / "c", [True])  # samples of elsewhere
    data(tmp_path / "d")
    data(tmp_path / "e", finished=False)
    training(tmp_path / "f")
    training(tmp_path / "g", finished=False)
    score(evaluation(tmp_path / "f" / "eval"), [True, True])
    put(tmp_path / "h" / "search.json", {"task": "toy", "model": "tiny", "candidates": 3})
    put(tmp_path / "q" / "plan.json", {"request": {"task": "t", "model": "m"}, "sizes": {}})
    found = {Path(run.name).name: run for run in find_runs([tmp_path])}
    shown = {name: (run.kind, run.state, run.result) for name, run in found.items()}
    assert shown == {
        "a": ("evaluation", "done", "pass@1 25.0%"),
        "b": ("evaluation", "stopped", ""),
        "c": ("evaluation", "done", "pass@1 100.0%"),
        "d": ("data", "done", "texts 7"),
        "e": ("data", "stopped", ""),
        "eval": ("evaluation", "done", "pass@1 100.0%"),
        "f": ("training", "done", "loss 0.5"),
        "g": ("training", "stopped", "steps 20"),
        "h": ("search", "stopped", ""),
        "q": ("quickstart", "stopped", ""),
    }
    assert found["b"].resume.startswith("codegen eval run toy ... --out ")
    assert found["a"].resume == ""
    assert found["a"].bytes == sum(p.stat().st_size for p in (tmp_path / "a").iterdir())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", {"name": "a web page", "icons": []}),
        ("manifest.json", [1, 2]),
        ("run.json", {"settings": "none"}),
        ("recipe.json", {"model": "flour"}),
        ("plan.json", {}),
        ("score.json", {"task": 1}),
    ],
)
def test_files_of_the_same_name_make_no_run(tmp_path: Path, name: str, content: Any) -> None:
    put(tmp_path / name, content)
    assert read_run(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"settings": {}}'])
def test_a_damaged_file_is_no_error(tmp_path: Path, content: bytes) -> None:
    folder = score(evaluation(tmp_path / "run"), [True])
    for name in ("run.json", "score.json"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        find_runs([tmp_path])
        (folder / name).write_bytes(before)


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = evaluation(tmp_path / "outside")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "link").symlink_to(outside)
    (tmp_path / "runs" / "mine" / "run.json").symlink_to(outside / "run.json")
    assert find_runs([tmp_path / "runs"]) == []
    assert [run.folder for run in find_runs([tmp_path / "runs" / "link"])] == [
        tmp_path / "runs" / "link"
    ]  # what the user names is followed


def test_a_lock_is_seen_without_being_taken(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not is_locked(path)
    with RunDirectory(tmp_path).open():
        assert is_locked(path)
    assert not is_locked(path)
    path.touch()
    assert not is_locked(path)


def test_a_running_run_is_known(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run", finished=False)
    command = [sys.executable, "-c", HOLD, str(folder), "samples.partial.jsonl"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        (run,) = find_runs([tmp_path])
        assert run.state == "running"
        holder.communicate("\n")
    (run,) = find_runs([tmp_path])
    assert run.state == "stopped"


def test_settings_that_differ_are_told(tmp_path: Path) -> None:
    one = read_run(evaluation(tmp_path / "a"))
    two = read_run(evaluation(tmp_path / "b", temperature=0.2))
    assert one and two
    assert differing(one, two) == {"params.temperature": (0.8, 0.2)}
    other = read_run(training(tmp_path / "c"))
    assert other and set(differing(one, other)) > {"task", "objective", "params.temperature"}


# --- the command line --------------------------------------------------------------------------


def test_runs_are_listed(tmp_path: Path, codegen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    score(evaluation(tmp_path / "runs" / "a"), [True, False])
    data(tmp_path / "data", finished=False)
    monkeypatch.chdir(tmp_path)
    for words in ((), (".",), ("runs", "data")):
        code, out, _ = codegen("runs", *words)
        head, *rows, resume = out.splitlines()
        assert (code, head.split()[:3], len(rows)) == (0, ["run", "kind", "state"], 2)
        assert rows[0].split()[:3] == ["data", "data", "stopped"]
        assert rows[1].split()[:5] == ["runs/a", "evaluation", "done", "pass@1", "50.0%"]
        assert resume.startswith("data stopped. To resume it")
    code, out, _ = codegen("runs", "runs", "--json")
    (row,) = json.loads(out)["runs"]
    assert (row["kind"], row["numbers"]["pass@1"]) == ("evaluation", 0.5)
    code, _, err = codegen("runs", "compar")
    assert (code, err.count("\n")) == (1, 1)
    assert "not a directory" in err
