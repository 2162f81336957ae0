"""The benchmark's keys, whatever is installed; the busy machine is a real one."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from codegen.benchmarks import finetuning

KEYS = (
    *("tokens_per_s", "trl_best_tokens_per_s", "trl_default_tokens_per_s", "ratio_best"),
    *("ratio_default", "busy_ratio", "peak_mb", "trl_peak_mb"),
)


@pytest.mark.long
def test_all_keys_are_there_with_a_remedy_for_what_is_null(tiny_model_dir: Path) -> None:
    figures = finetuning.run(quick=True, model=str(tiny_model_dir), dtype="float32")
    assert set(KEYS) <= figures.keys()
    for key in ("tokens_per_s", "peak_mb"):
        value = figures[key]
        assert isinstance(value, float) and value > 0, key
    if len(os.sched_getaffinity(0)) > 1:
        assert isinstance(figures["busy_ratio"], float) and figures["busy_ratio"] > 0
    if find_spec("trl") is None:
        assert all(figures[key] is None for key in KEYS if "trl" in key or key.startswith("ratio"))
        assert "trl" in figures["install"]  # type: ignore[operator]
