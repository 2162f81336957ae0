"""Killed at any moment, the same call again makes the files of an undisturbed run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from engine_helpers import HELPER, SMALL, Breaking, contents, survives_kills
from tiny_generators import Counter, Echo, Rows

from codegen.core.records import Example
from codegen.data import run


@pytest.fixture
def problems(tmp_path: Path) -> str:
    """A test set that holds two of the programs of Rows."""
    path = tmp_path / "problems.jsonl"
    rows = [item for item in Rows(20) if isinstance(item, Example)]
    chosen = [rows[4], rows[13]]
    path.write_text(
        "".join(
            json.dumps({"id": e.id, "instruction": e.instruction, "program": e.program}) + "\n"
            for e in chosen
        )
    )
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_few_kills(tmp_path: Path, workers: str) -> None:
    survives_kills([sys.executable, str(HELPER), "240", workers, "none"], tmp_path, 3, seed=1)


@pytest.mark.long
def test_a_few_kills_with_filters(tmp_path: Path, problems: str) -> None:
    survives_kills([sys.executable, str(HELPER), "240", "2", problems], tmp_path, 3, seed=2)
    counts = json.loads((tmp_path / "whole" / "manifest.json").read_text())["counts"]
    assert counts["skipped"]["near_duplicate"] > 20
    assert counts["skipped"]["contaminated"] >= 2


@pytest.mark.long
def test_a_few_kills_of_a_real_generator(tmp_path: Path) -> None:
    """Edit sequences of HumanEval, with ruff and an audit by pylint."""
    survives_kills([sys.executable, str(HELPER), "60", "2", "lintseq"], tmp_path, 2, seed=4)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("screened", [False, True])
def test_twenty_kills(tmp_path: Path, problems: str, workers: str, screened: bool) -> None:
    command = [sys.executable, str(HELPER), "400", workers, problems if screened else "none"]
    survives_kills(command, tmp_path, 20, seed=3)


def test_cut_at_every_state_of_the_journal(tmp_path: Path) -> None:
    """Crashes replayed: a torn line of the journal, and data beyond the last state."""
    whole = tmp_path / "whole"
    run(Echo(), Counter(60), whole, seed=5, workers=1, options=SMALL)
    expected = contents(whole)
    broken = tmp_path / "broken"
    with pytest.raises(RuntimeError):
        run(Echo(), Breaking(60), broken, seed=5, workers=1, options=SMALL)
    journal = broken / ".partial" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) > 5
    for keep in range(len(lines) + 1):
        out = tmp_path / f"cut-{keep}"
        subprocess.run(["cp", "-r", broken, out], check=True)
        torn = b"".join(lines[:keep]) + (lines[keep][:20] if keep < len(lines) else b"")
        (out / ".partial" / "journal.jsonl").write_bytes(torn)
        with (out / ".partial" / "rejects.jsonl").open("ab") as file:
            file.write(b'{"half a li')
        run(Echo(), Counter(60), out, seed=5, workers=1, options=SMALL)
        assert contents(out) == expected


def test_killed_between_the_last_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen.data import output

    run(Echo(), Counter(60), tmp_path / "whole", workers=1, options=SMALL)
    calls = 0

    def failing(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == step:
            raise RuntimeError("killed here")
        return original(self, target)

    original = Path.replace
    step = 0
    for step in range(1, 30):
        calls = 0
        out = tmp_path / f"step-{step}"
        monkeypatch.setattr(output.Path, "replace", failing)
        try:
            run(Echo(), Counter(60), out, workers=1, options=SMALL)
        except RuntimeError:
            monkeypatch.undo()
            run(Echo(), Counter(60), out, workers=1, options=SMALL)
            assert contents(out) == contents(tmp_path / "whole")
        else:
            monkeypatch.undo()
            break
    assert step > 5
