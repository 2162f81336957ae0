"""The confidence means shares, and answers are judged as the data set says."""

from __future__ import annotations

import math
import random

import pytest

from codegen.benchmarks.tools.sql_trust import fit
from codegen.sqlnet.calibration import ConfidenceModel


def test_a_fit_finds_the_curve_that_made_the_answers() -> None:
    rng = random.Random(0)
    truth = {"bias": -0.5, "run": 1.2, "words_left": -0.8}
    made = ConfidenceModel({"one": truth})
    signs = [
        {
            "run": rng.gauss(1, 2),
            "words_left": float(rng.randrange(5)),
            "who": rng.gauss(0, 1),
            "several": 0.0,
        }
        for _ in range(6000)
    ]
    right = [rng.random() < made.confidence(row) for row in signs]
    found = fit(signs[:3000], right[:3000])
    for name, weight in truth.items():
        assert found[name] == pytest.approx(weight, abs=0.2)
    assert abs(found["who"]) < 0.15 and found["empty"] == 0
    fitted = ConfidenceModel({"one": found})
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, is_right in zip(signs[3000:], right[3000:], strict=True):
        confidence = fitted.confidence(row)
        bins.setdefault(int(confidence * 5), []).append((confidence, is_right))
    for pairs in bins.values():
        mean = sum(confidence for confidence, _ in pairs) / len(pairs)
        share = sum(is_right for _, is_right in pairs) / len(pairs)
        assert abs(mean - share) < 4 * math.sqrt(0.25 / len(pairs))
