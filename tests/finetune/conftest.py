"""Fixtures for the tests of training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from codegen.core.records import TrainingText, to_json


@pytest.fixture
def recipe_of(tmp_path: Path, tiny_model_dir: Path) -> Callable[..., dict[str, Any]]:
    """A recipe that trains the tiny model on these rows, with these fields."""

    def make(rows: Iterable[TrainingText | dict[str, Any]], **fields: Any) -> dict[str, Any]:
        data = tmp_path / "data.jsonl"
        lines = (to_json(r) if isinstance(r, TrainingText) else json.dumps(r) for r in rows)
        data.write_text("".join(line + "\n" for line in lines))
        return {
            "model": str(tiny_model_dir),
            "data": str(data),
            "output": str(tmp_path / "out"),
            "learning_rate": 0.01,
            "dtype": "float32",
            **fields,
        }

    return make
