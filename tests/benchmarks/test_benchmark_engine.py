"""The engine's benchmark: real runs with one and two workers, small."""

from __future__ import annotations

from typing import Any

import pytest

from codegen.benchmarks import engine
from codegen.errors import ConfigError


@pytest.mark.long
def test_both_numbers_of_workers_make_the_same_files() -> None:
    figures: dict[str, Any] = dict(engine.run(items=160, rounds=1))
    assert figures["same_bytes"] == 1
    # 160 inputs in chunks of 32: all but those of the first result are timed.
    assert figures["samples"]["workers_1_items_per_s"] == 128
    assert figures["samples"]["workers_2_items_per_s"] == 128
    speeds = figures["workers_2_items_per_s"], figures["workers_1_items_per_s"]
    assert figures["ratio"] == pytest.approx(speeds[0] / speeds[1], rel=1e-3)
    assert figures["peak_mb"] > 20


def test_options_out_of_range() -> None:
    with pytest.raises(ConfigError, match="items is 5"):
        engine.run(items=5)
