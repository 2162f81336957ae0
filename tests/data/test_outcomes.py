"""Statistics of texts, and their JSON form."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from codegen.core.records import Segment, TrainingText, conform
from codegen.data.manifest import MAX_NAMES, Statistics, statistics_lines
from codegen.data.outcomes import measures


def text(**meta: object) -> TrainingText:
    segments = (Segment("ab\n", False), Segment("céd", True))
    return TrainingText("t", "e", "g", segments, meta)


def test_what_is_measured() -> None:
    measured = measures(text(edits=3, done=True, share=0.5, name="x", characters=9, none=None))
    assert measured == {"characters": 6, "edits": 3}


def test_labels_are_not_added_up() -> None:
    measured = measures(text(bkspc=49152, score=4, pair=2, pairs=7, edits=3))
    assert measured == {"characters": 6, "edits": 3}


def test_statistics_of_some_texts() -> None:
    statistics = Statistics()
    for edits in (1, 2, 2, 30):
        statistics.add(measures(text(edits=edits, audited_states=edits, dirty_states=edits // 30)))
    assert statistics.texts == 4
    assert statistics.totals == {
        "characters": 24,
        "edits": 35,
        "audited_states": 35,
        "dirty_states": 1,
    }
    assert conform(Statistics, json.loads(json.dumps(asdict(statistics)))) == statistics
    lines = list(statistics_lines(statistics))
    assert "edits: 35 in total, 8.8 per text" in lines
    from scipy.stats import binomtest

    low, high = (100 * bound for bound in binomtest(1, 35).proportion_ci(method="wilson"))
    assert f"dirty states: 2.86% of 35 audited (95% interval {low:.2f} to {high:.2f}%)" in lines


def test_no_texts_and_no_audit() -> None:
    assert list(statistics_lines(Statistics())) == []
    assert Statistics().dirty_rate() is None
    clean = Statistics()
    clean.add({"audited_states": 1000, "dirty_states": 0})
    rate = clean.dirty_rate()
    assert rate and rate[:2] == (0.0, 0.0) and rate[2] == pytest.approx(0.00383, abs=1e-5)


def test_made_up_names_do_not_fill_the_memory() -> None:
    statistics = Statistics()
    for i in range(1000):
        statistics.add({"characters": 1, f"name {i}": i})
    assert len(statistics.totals) == MAX_NAMES
    assert statistics.totals["characters"] == 1000
    statistics.add({"edits": 5})  # comes too late
    assert list(statistics_lines(statistics))
