"""Puzzles through the data commands: the same texts as a recipe draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from codegen.data import make, open_source, read_texts, run
from codegen.data.manifest import digests

SPEC = "puzzles:star-medium:validation:12"


def test_the_engine_writes_what_a_recipe_draws(tmp_path: Path) -> None:
    manifest = run(make("plain"), open_source(SPEC), tmp_path / "data", workers=1)
    assert manifest.kept == 12
    written, drawn = list(read_texts(tmp_path / "data")), list(read_texts(SPEC))
    assert [(t.id, t.segments) for t in written] == [(t.id, t.segments) for t in drawn]
    assert digests(SPEC) == [f"{SPEC}@1"]
    assert len(digests(tmp_path / "data")) == 1


def test_a_typo_gives_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codegen", "data", "plain", "puzzles:star", "--out", "x"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert ran.returncode == 2
    assert "Unknown puzzles 'star'" in ran.stderr and "Traceback" not in ran.stderr
