"""``codegen bench gpu`` on a CPU with tiny shapes: every line runs, and what was cut is resumed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from codegen.benchmarks import gpu
from codegen.benchmarks.tools import kernel_cases
from codegen.benchmarks.tools.gpu_decoding import OURS, PEERS
from codegen.errors import ConfigError, MachineError


def run(out: Path, **options: Any) -> dict[str, Any]:
    return dict(gpu.run(out=str(out), dry_run=True, **options))


@pytest.mark.slow
def test_kernels_decoding_and_caches(tmp_path: Path) -> None:
    found = run(tmp_path, parts="device,kernels,decoding,caches")
    units = {name: found[name] for name in found if "/" in name}
    assert not [row for row in units.values() if row and "error" in row], units
    assert {name for name in units if name.startswith("kernels")} == {
        f"kernels/{name}" for name in kernel_cases.cases()
    }
    for batch in (1, 2):
        for method in (*OURS, *PEERS):
            row = units[f"decoding/1.5B batch {batch} {method}"]
            assert row["tokens_per_s"] is None or row["tokens_per_s"] > 0
            if method not in ("plain", *PEERS):
                assert row["tokens_per_pass"] > 1.2  # drafts of the given text are accepted
    page = (tmp_path / "report.md").read_text()
    assert "## kernels" in page and "| compaction |" in page
    # Nothing is measured again; what failed or is missing is.
    path = tmp_path / "gpu.json"
    row = json.loads(path.read_text())
    row["results"]["kernels/compaction"] = {"error": "cut"}
    row["results"]["device"] = {"kept": 1.0}
    path.write_text(json.dumps(row))
    again = run(tmp_path, parts="device,kernels")
    assert again["device"] == {"kept": 1.0}
    assert again["kernels/compaction"]["us"] > 0
    with pytest.raises(ConfigError, match="another seed"):
        run(tmp_path, seed=1)
    path.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        run(tmp_path)


def test_a_run_ends_in_time_and_says_what_is_left(tmp_path: Path) -> None:
    found = run(tmp_path, parts="device,kernels", minutes=0.0)
    assert found["device"] is None and "Left for the next run: device" in found["notes"][0]


def test_what_fails_does_not_end_the_others(tmp_path: Path, monkeypatch) -> None:
    def fails(name: str, *_: Any) -> Any:
        raise RuntimeError(f"{name}: an\nillegal address")

    monkeypatch.setattr(gpu, "make", fails)
    found = run(tmp_path, parts="device,kernels")
    assert found["kernels/rotation"] == {"error": "RuntimeError: rotation: an illegal address"}
    assert any("kernels/rotation failed" in note for note in found["notes"])


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no part 'speed'"):
        run(tmp_path, parts="speed")
    with pytest.raises(ConfigError, match="drafter is"):
        run(tmp_path, drafter="eagle3")
    if not torch.cuda.is_available():
        with pytest.raises(MachineError, match="no GPU"):
            gpu.run(out=str(tmp_path))


@pytest.mark.long
def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    """Killed at some moment after its first, fourth and seventh result; none is measured again."""
    path, given = tmp_path / "gpu.json", {"dry_run": True, "parts": "device,kernels"}
    code = f"from codegen.benchmarks import gpu; gpu.run(out={str(tmp_path)!r}, **{given!r})"
    kept: dict[str, Any] = {}
    for count in (1, 4, 7):
        child = subprocess.Popen([sys.executable, "-c", code])
        try:
            while len(kept) < count:
                assert child.poll() is None
                time.sleep(0.01)
                results = json.loads(path.read_text())["results"] if path.exists() else {}
                assert results.items() >= kept.items()
                kept = results
            time.sleep(random.random() / 2)
        finally:
            child.kill()
            child.wait()
        kept = json.loads(path.read_text())["results"]
    found = run(tmp_path, parts="device,kernels")
    assert {name: found[name] for name in kept} == kept
    assert not [row for name, row in found.items() if "/" in name and "error" in row]


@pytest.mark.long
def test_training(tmp_path: Path) -> None:
    """Ours and TRL's, packed and not, in processes of their own."""
    pytest.importorskip("trl", reason="pip install trl")
    found = run(tmp_path, parts="training")
    rows = {name: row for name, row in found.items() if name.startswith("training/")}
    assert len(rows) == 4
    for name, row in rows.items():
        assert row.get("tokens_per_s", 0) > 0, (name, row)
