"""``codegen bench training_scale`` on a small model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codegen.benchmarks import training_scale


@pytest.mark.long
def test_it_measures_both_parts(tiny_model_dir: Path) -> None:
    figures: Any = training_scale.run(quick=True, model=str(tiny_model_dir))
    assert figures["samples"]["cache_mb"] == 10 * figures["samples"]["cache_tenth_mb"] == 2000
    assert figures["cache_tokens_per_s"] > 0 and figures["planned_lora_gb"] > 0
    assert figures["ratio_lora"] == pytest.approx(
        figures["planned_lora_gb"] / figures["measured_lora_gb"], rel=0.01
    )
