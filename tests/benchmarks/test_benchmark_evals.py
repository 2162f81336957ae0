"""The benchmarks of the statistics and of the KoLMogorov test, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codegen.benchmarks import extrapolation, kolmogorov
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


@pytest.mark.slow
def test_drawn_programs_and_answers_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    rows = [{"sequence": [7] * 50, "program": f"output = [{value}] * 50"} for value in (7, 8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    figures: dict[str, Any] = dict(kolmogorov.run(programs=100, answers=str(file)))
    assert figures["code_round_trips"] == 1.0
    assert figures["learned_rate"] < figures["uniform_rate"] < figures["gzip_rate"]
    assert (figures["answers_accuracy"], figures["answers_execution"]) == (0.5, 1.0)
    assert figures["samples"]["answers_accuracy"] == 2
    without: dict[str, Any] = dict(kolmogorov.run(programs=20))
    assert without["answers_accuracy"] is None
    assert "answers=FILE" in without["notes"][0]
