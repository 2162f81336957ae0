"""Charts: ticks, points and bars are where the numbers say."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.evals.report import LossCurve, loss_picture, write_report
from codegen.evals.report.charts import (
    NARROW,
    WIDE,
    Axis,
    Band,
    Series,
    line_chart,
    linear_ticks,
    log_ticks,
    stacked_bars,
)
from tests.evals.report.test_page import scored


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_linear_ticks_enclose_the_range_evenly(low: float, span: float) -> None:
    ticks = linear_ticks(low, low + span)
    rounding = 4 * math.ulp(abs(low) + span)
    slack = 1e-6 * span + rounding
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 9
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert max(steps) - min(steps) <= 1e-3 * max(steps) + rounding


def test_ticks_of_a_single_value_and_of_logs() -> None:
    assert linear_ticks(0.0, 0.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert log_ticks(1, 20) == [1, 2, 5, 10, 20]
    assert log_ticks(1, 8) == [1, 2, 5, 8]
    assert log_ticks(1, 6) == [1, 2, 5]
    assert log_ticks(3, 3) == [3]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_points_lie_where_the_axes_say(width: int) -> None:
    svg = line_chart(
        [
            Series(
                "s",
                [(1, 0.0), (10, 0.5), (100, 1.0)],
                [Band("tasks", [(1, 0, 0.1), (100, 0.9, 1)])],
            )
        ],
        Axis("k", str, log=True),
        Axis("y", str),
        id_="i",
        title="t <",
        description="d",
        width=width,
    )
    line = re.search(r'class="line" points="([^"]+)"', svg)
    assert line is not None
    spots = [tuple(map(float, pair.split(","))) for pair in line[1].split()]
    (x1, y1), (x2, y2), (x3, y3) = spots
    assert x2 == pytest.approx((x1 + x3) / 2, abs=0.1)  # equal ratios, equal distances
    assert y2 == pytest.approx((y1 + y3) / 2, abs=0.1)
    assert y3 < y1
    assert all(0 <= x <= width for x, _ in spots)
    assert "t &lt;" in svg
    assert 'class="band tasks"' in svg


def test_bars_are_as_long_as_their_share() -> None:
    svg = stacked_bars(
        [("a", [("passed", 3), ("wrong", 1)]), ("none", [])], id_="i", title="t", description="d"
    )
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert widths == [WIDE * 0.75, WIDE * 0.25]
    assert "75.0%" in svg


@pytest.mark.parametrize("points", [[], [(1, math.nan)], [(1, math.nan), (2, math.inf)]])
def test_a_curve_without_a_finite_point_is_empty_axes(
    points: list[tuple[float, float]], tmp_path: Path
) -> None:
    curve = LossCurve("diverged", points or [(1, -math.inf)])
    picture = loss_picture([curve])
    assert "polyline" not in picture and "Step" in picture
    page = write_report([scored("one", [1, 0])], tmp_path / "r.html", losses=[curve])
    assert "diverged" in page.read_text()
