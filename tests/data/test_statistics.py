"""Statistics against sorted lists, and their JSON form."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.data.manifest import MAX_NAMES, Histogram, Statistics, measures, statistics_lines
from codegen.records import Segment, TrainingText, conform

VALUES = st.lists(
    st.one_of(st.integers(0, 40), st.integers(0, 10**6), st.integers(0, 2**63)), max_size=60
)


def of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(VALUES, st.floats(0, 1))
def test_quantiles_are_near_those_of_a_sorted_list(values: list[int], q: float) -> None:
    histogram = of(values)
    found = histogram.quantile(q)
    if not values:
        assert found is None
        return
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    assert found is not None and abs(found - exact) <= exact / 32
    assert histogram.quantile(1.0) == max(values)
    assert found == exact or exact >= 32


@given(VALUES, VALUES)
def test_counting_goes_on_after_json(one: list[int], two: list[int]) -> None:
    resumed = conform(Histogram, json.loads(json.dumps(asdict(of(one)))))
    for value in two:
        resumed.add(value)
    assert resumed == of(one + two)


def test_memory_is_bounded() -> None:
    assert len(of([3**i for i in range(1000)]).bins) <= 16 * 3 ** (1000).bit_length()
    assert len(of(list(range(0, 2_000_000, 7))).bins) < 16 * 22


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
    assert "edits a text: mean 8.8, median 2, 5 % to 95 % 1 to 30, least 1, most 30" in lines
    from scipy.stats import binomtest

    low, high = (100 * bound for bound in binomtest(1, 35).proportion_ci(method="wilson"))
    assert f"dirty states: 2.86 % of 35 audited (95 % interval {low:.2f} to {high:.2f} %)" in lines


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
