"""The main job on a small random model: all stages for real, killed at random moments, run again.

The model can't write Python, which is as good: what is compared is every sample, verdict, loss and
number, between a run left alone and one killed again and again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codegen.quickstart import STAGES
from tests.processes import run

SETTINGS = ["-o", "max_new_tokens=64"]
VOLATILE = {
    "cpu_s",
    "wall_s",
    "memory_mib",
    "seconds",
    "tokens_per_s",
    "trained_per_s",
    "throughput",
}


def start(out: Path, model: Path) -> subprocess.Popen[str]:
    # Settings files hold the paths they were given, so those must not differ: out is relative.
    out.parent.mkdir(exist_ok=True)
    arguments = ["--out", out.name, "--model", model, "--limit", 6, "--steps", 6]
    arguments += [*SETTINGS, "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "codegen", "quickstart", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=out.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def steady(value: Any) -> Any:
    """A JSON value without its times."""
    if isinstance(value, dict):
        return {key: steady(item) for key, item in value.items() if key not in VOLATILE}
    return [steady(item) for item in value] if isinstance(value, list) else value


def results(out: Path) -> dict[str, Any]:
    """Everything that must be the same, by relative path."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*.json*")):
        # A log in the order of finishing; what was measured.
        if path.name in ("plan.json",):
            continue
        text = path.read_text(encoding="utf-8")
        name = str(path.relative_to(out))
        if path.suffix == ".jsonl":
            found[name] = [steady(json.loads(line)) for line in text.splitlines()]
        else:
            found[name] = steady(json.loads(text))
    for path in sorted(out.rglob("*.safetensors")):
        found[str(path.relative_to(out))] = path.read_bytes()
    return found


def compare(one: Path, other: Path) -> None:
    left, right = results(one), results(other)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name] == right[name], name


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path
) -> tuple[Path, dict[str, Any], float]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    started = time.monotonic()
    summary = finish(start(out, tiny_model_dir))
    return out, summary, time.monotonic() - started


@pytest.mark.slow
def test_the_whole_chain(undisturbed: tuple[Path, dict[str, Any], float]) -> None:
    out, summary, _ = undisturbed
    assert summary["ok"]
    assert list(summary["scores"]) == ["humaneval", "before", "whole", "edits"]
    for score in summary["scores"].values():
        assert score["samples"] == 6
        assert score["reference"]["passed"] == score["reference"]["total"] == 6
    manifest = json.loads((out / "data" / "edits" / "manifest.json").read_text())
    assert manifest["counts"]["inputs"] == manifest["counts"]["kept"] == 4000
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "pass@" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    plan = json.loads((out / "plan.json").read_text())
    assert plan["steps"] == 6
    assert plan["spent"].keys() == plan["expected"].keys() == set(STAGES)
    losses = json.loads((out / "train" / "edits" / "train.json").read_text())["losses"]
    assert losses[-1][1] < losses[0][1]


def run_with_kills(out: Path, model: Path, kills: int, seconds: float) -> None:
    moments = random.Random(kills)
    for _ in range(kills):
        process = start(out, model)
        time.sleep(moments.uniform(0.05, 0.9) * seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(out, model))


@pytest.mark.long
@pytest.mark.parametrize("kills", [3, 10])
def test_killed_at_random_moments_and_run_again_it_ends_the_same(
    kills: int,
    undisturbed: tuple[Path, dict[str, Any], float],
    tiny_model_dir: Path,
    tmp_path: Path,
) -> None:
    out, _, seconds = undisturbed
    run_with_kills(tmp_path / "run", tiny_model_dir, kills, seconds)
    compare(out, tmp_path / "run")


@pytest.mark.slow
def test_other_settings_do_not_mix(
    undisturbed: tuple[Path, dict[str, Any], float], tiny_model_dir: Path
) -> None:
    out, _, _ = undisturbed
    command = [sys.executable, "-m", "codegen", "quickstart", "--out", out.name, "--steps", "7"]
    command += ["--model", str(tiny_model_dir), "--limit", "6", *SETTINGS]
    done = run(*command, cwd=out.parent)
    assert done.returncode == 1
    assert "steps from 6 to 7" in done.stderr
