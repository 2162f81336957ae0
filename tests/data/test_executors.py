"""Executors on this machine: order, bounds, and workers that die, hang or can't start."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_helpers import outcomes, programs
from tiny_generators import Each, Echo

from codegen.data import EngineOptions, FailedItem, LocalExecutor, read_rejects, read_texts, run
from codegen.data.outcomes import MapTask
from codegen.lintseq import LintSeq


@pytest.mark.slow
def test_dying_and_frozen_workers(tmp_path: Path) -> None:
    words = [str(i) for i in range(40)]
    words[5] = words[21] = "die"
    words[30] = "freeze"
    options = EngineOptions(item_timeout_s=0.2, chunk_size=8)
    source = programs(*words)
    executor = LocalExecutor(2, hang_s=1.5)
    manifest = run(Echo(), source, tmp_path / "a", executor=executor, options=options)
    assert outcomes(tmp_path / "a") == {
        "e5": ("failed", "worker_died"),
        "e21": ("failed", "worker_died"),
        "e30": ("failed", "timeout"),
    }
    assert manifest.kept == 37
    details = {row["id"]: row["detail"] for row in read_rejects(tmp_path / "a")}
    assert "SIGKILL" in details["e5"]
    # The others' texts are those of a run without the killers.
    harmless = programs(*(word if word.isdigit() else "skip" for word in words))
    run(Echo(), harmless, tmp_path / "b", workers=1, options=options)
    assert list(read_texts(tmp_path / "a")) == list(read_texts(tmp_path / "b"))


def test_workers_that_cannot_start() -> None:
    script = (
        "from codegen.data import LocalExecutor\n"
        "list(LocalExecutor(2).map(list, [[-1]]))\n"  # without a __main__ guard
    )
    done = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, timeout=60
    )
    assert "A worker process could not start" in done.stderr
    assert "__main__" in done.stderr.splitlines()[-1]


def test_executor_keeps_order_and_bound() -> None:
    drawn = 0

    def chunks() -> Iterator[list[float]]:
        nonlocal drawn
        for i in range(60):
            drawn += 1
            yield [0.02 if i % 9 == 0 else 0.0, 0.0]

    executor = LocalExecutor(2, ahead=3)
    for given, results in enumerate(executor.map(Each(time.sleep), chunks())):
        assert results == [None, None]
        assert drawn - given <= 6
    assert drawn == 60
    order = list(executor.map(Each(abs), ([-i, -i - 100] for i in range(50))))
    assert order == [[i, i + 100] for i in range(50)]
    assert not any(isinstance(answer, FailedItem) for answers in order for answer in answers)


def test_a_worker_loads_no_heavy_library() -> None:
    """Its imports, times the number of workers, are memory that every run takes."""
    code = (
        "import pickle, sys\n"
        "pickle.loads(sys.stdin.buffer.read())\n"
        "print(*sorted({'jinja2', 'numpy', 'pydantic', 'rich', 'torch'} & sys.modules.keys()))\n"
    )
    task = MapTask(LintSeq(), 0, 60.0)
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(task), capture_output=True, check=True
    )
    assert done.stdout.split() == []
