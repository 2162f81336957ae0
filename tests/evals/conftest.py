"""Fixtures of the evals tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codegen.evals import tasks


@pytest.fixture(autouse=True)
def _executions(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of executions go to a temporary folder."""
    folder = tmp_path_factory.getbasetemp() / "executions"
    monkeypatch.setattr("codegen.evals.scoring.cache_folder", lambda: folder)


ROWS: list[dict[str, str]] = [
    {
        "task_id": f"Toy/{i}",
        "prompt": f'def add{i}(x: int) -> int:\n    """Add {i} to x.{" Please." * (i % 3)}"""\n',
        "entry_point": f"add{i}",
        "canonical_solution": f"    return x + {i}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {i + 1}\n",
    }
    for i in range(7)
]


@pytest.fixture
def toy_file(tmp_path: Path) -> Path:
    """Seven problems in HumanEval's format."""
    path = tmp_path / "toy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def toy(toy_file: Path) -> tasks.Task[Any]:
    """The task of these problems."""
    return tasks.load("humaneval", str(toy_file))


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[[list[Any]], Path]:
    """Writes rows, or raw lines, to a file."""

    def write(rows: list[Any]) -> Path:
        path = tmp_path / "rows.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
