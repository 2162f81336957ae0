"""The benchmark of the statistics, small."""

from __future__ import annotations

from typing import Any

import pytest

from codegen.benchmarks import extrapolation
from codegen.errors import InputError


@pytest.mark.slow
def test_the_extrapolation_is_compared_with_the_truth() -> None:
    figures: dict[str, Any] = dict(extrapolation.run(benchmarks=2, draws=4))
    names = [key for key in figures if key.endswith("_naive_bias")]
    assert len(names) == 8
    for name in names:
        assert figures[name] < -0.03
        assert abs(figures[name.replace("naive_", "")]) < 0.25
        assert figures["samples"][name] == 2
    with pytest.raises(InputError):
        extrapolation.run(benchmarks=1)
