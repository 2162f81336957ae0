"""SVG charts for reports, and functions that make text safe for a page.

Charts have classes and no colors: the page's style sheet colors them for light, dark and print, so
the page can forbid inline styles. Series differ by color, marker and name. Text in charts is
escaped here; functions that return safe markup have the type ``Markup``.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from codegen.evals.report.content import LossCurve, NamedScore

SERIES_STYLES = 6  # colors in the style sheet; more series reuse them

# Each chart is drawn for wide and for narrow pages, since scaled-down text is unreadable; the style
# sheet shows one of the two.
WIDE, NARROW = 720, 350
_HEIGHT = {WIDE: 350, NARROW: 300}
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 36, 54
_MOST_POINTS = 300  # maximum points per loss curve; longer curves are averaged in bins
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(value: object) -> str:
    """Returns a value's text, with invisible characters as code points.

    So control characters, direction overrides and lone surrogates cannot hide text. The result is
    not escaped for HTML.
    """
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in _UNSEEN else f"\\u{ord(c):04x}"
        for c in str(value)
    )


def safe_text(value: object) -> str:
    """Returns the text of :func:`visible`, escaped for HTML and SVG."""
    return escape(visible(value))


def percent(value: float, digits: int = 1) -> str:
    """Formats 0.125 as ``12.5%``."""
    return f"{100 * value:.{digits}f}%"


def pass_chart(number: int, task: str, runs: Sequence[NamedScore]) -> Markup:
    """Returns a chart of pass@k over k; each run needs two ks. ``number`` is the task's index."""
    return _both_widths(
        lambda width: line_chart(
            [_pass_series(run) for run in runs],
            Axis("Attempts k", lambda value: f"{value:,.0f}", log=True),
            Axis("Problems solved in k attempts", lambda value: percent(value, 0)),
            id_=f"pass-{number}-{width}",
            title=f"pass@k on {task}",
            description="; ".join(_described(run) for run in runs),
            width=width,
        )
    )


def _pass_series(run: NamedScore) -> Series:
    """Returns pass@k with its intervals."""
    estimates = sorted(run.score.estimates.items())
    bands = []
    for kind in ("tasks", "samples"):
        edges = [
            (float(k), low, high)
            for k, e in estimates
            for low, high in [(getattr(e, f"{kind}_low"), getattr(e, f"{kind}_high"))]
            if low is not None
        ]
        bands.append(Band(kind, edges))
    half = min(estimate.n for _, estimate in estimates) / 2
    points = [(float(k), e.value) for k, e in estimates]
    return Series(run.name, points, bands, max(1.0, half))


def _described(run: NamedScore) -> str:
    values = [f"pass@{k} {percent(e.value)}" for k, e in sorted(run.score.estimates.items())]
    return f"{run.name}: {', '.join(values)}"


def verdict_chart(runs: Sequence[NamedScore], statuses: Sequence[str]) -> Markup:
    """Returns a chart of each run's sample counts by status."""
    rows = [
        (run.name, [(s, count) for s in statuses if (count := run.score.statuses.get(s, 0))])  # type: ignore[call-overload]
        for run in runs
    ]
    described = "; ".join(
        f"{name}: {', '.join(f'{count} {kind}' for kind, count in parts)}" for name, parts in rows
    )
    return _both_widths(
        lambda width: stacked_bars(
            rows,
            id_=f"verdict-bars-{width}",
            title="Verdicts by run",
            description=described,
            width=width,
        )
    )


def loss_chart(curves: Sequence[LossCurve], quantity: str = "Loss") -> Markup:
    """Returns a chart of losses, or another quantity, over steps; each curve needs a point."""
    return _both_widths(lambda width: _loss_chart(curves, width, quantity))


def is_thinned(curve: LossCurve) -> bool:
    """Returns True if a curve is drawn as bin averages."""
    return len(curve.points) > _MOST_POINTS


def loss_picture(losses: Sequence[LossCurve], quantity: str = "Loss") -> str:
    """Returns curves over steps as a standalone SVG file; each needs at least one point."""
    return standalone(_loss_chart(losses, WIDE, quantity))


def _loss_chart(curves: Sequence[LossCurve], width: int, quantity: str = "Loss") -> str:
    described = "; ".join(
        f"{c.name}: from {c.points[0][1]:.3g} to {c.points[-1][1]:.3g}" for c in curves
    )
    return line_chart(
        [Series(curve.name, _thin(curve.points), markers=False) for curve in curves],
        Axis("Step", lambda value: f"{value:,.0f}"),
        Axis(quantity, lambda value: f"{value:g}"),
        id_=f"{quantity.lower().replace(' ', '-')}-{width}",
        title="Training loss" if quantity == "Loss" else quantity,
        description=described,
        y_from_zero=False,
        width=width,
    )


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(step, loss) for step, loss in points if math.isfinite(loss)]
    size = -(-len(finite) // _MOST_POINTS) or 1
    bins = [finite[start : start + size] for start in range(0, len(finite), size)]
    return [(sum(s for s, _ in b) / len(b), sum(v for _, v in b) / len(b)) for b in bins]


def _both_widths(draw: Callable[[int], str]) -> Markup:
    return Markup(draw(WIDE) + draw(NARROW))


@dataclass(frozen=True, slots=True)
class Band:
    """An interval at each x: (x, low, high). ``kind`` is a style sheet class."""

    kind: Literal["tasks", "samples"]
    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Series:
    """A named line.

    Attributes:
        points: (x, y), sorted by x.
        bands: intervals, drawn under the line.
        solid_up_to: last x of the solid line; the rest is dotted.
    """

    name: str
    points: Sequence[tuple[float, float]]
    bands: Sequence[Band] = ()
    solid_up_to: float = math.inf
    markers: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its label, the format of its ticks, and whether it is logarithmic."""

    label: str
    text: Callable[[float], str]
    log: bool = False


def line_chart(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    id_: str,
    title: str,
    description: str,
    y_from_zero: bool = True,
    width: int = WIDE,
    legend: bool = False,
) -> str:
    """Returns a line chart; ``legend`` adds the series' names at the top.

    ``id_`` must be unique on the page; screen readers read ``description``.

    ``width`` is :data:`WIDE` or :data:`NARROW`. Without points the chart has only axes.
    """
    every = [point for s in series for point in s.points] or [(0.0, 0.0)]
    xs, ys = [px for px, _ in every], [py for _, py in every]
    ys += [edge for s in series for band in s.bands for point in band.points for edge in point[1:]]
    y_ticks = linear_ticks(0.0 if y_from_zero else min(ys), max(ys))
    low, high = min(xs), max(xs)
    x_ticks = log_ticks(low, high) if x.log else linear_ticks(low, high, outer=False)
    # A short axis of whole numbers would otherwise have several ticks with the same label.
    x_ticks = list({x.text(tick): tick for tick in reversed(x_ticks)}.values())[::-1]
    across = _scale(low, high, _LEFT, width - _RIGHT, log=x.log)
    up = _scale(y_ticks[0], y_ticks[-1], _HEIGHT[width] - _BOTTOM, _TOP)
    parts = _axes(x, y, [(v, across(v)) for v in x_ticks], [(v, up(v)) for v in y_ticks], width)
    for number, one in enumerate(series):
        parts.append(f'<g class="series s{number % SERIES_STYLES}">')
        parts.append(f"<title>{safe_text(one.name)}</title>")
        for band in one.bands:
            edge = [f"{across(px):.1f},{up(hi):.1f}" for px, _, hi in band.points]
            edge += [f"{across(px):.1f},{up(lo):.1f}" for px, lo, _ in reversed(band.points)]
            if len(band.points) > 1:
                parts.append(f'<polygon class="band {band.kind}" points="{" ".join(edge)}"/>')
        spots = [(px, across(px), up(py)) for px, py in one.points]
        solid = [spot for spot in spots if spot[0] <= one.solid_up_to]
        parts.append(_polyline("line", solid))
        parts.append(_polyline("line beyond", spots[max(0, len(solid) - 1) :]))
        if one.markers:
            parts += [marker(number, sx, sy) for _, sx, sy in spots]
        parts.append("</g>")
    if legend:
        parts.append(_legend([one.name for one in series], width))
    return _svg("".join(parts), width, _HEIGHT[width], id_, title, description)


def _legend(names: Sequence[str], width: int) -> str:
    parts, right = list[str](), width - _RIGHT
    for number, name in reversed(list(enumerate(names))):
        parts.append(f'<text class="tick end" x="{right}" y="13">{safe_text(name)}</text>')
        right -= 7 * len(name) + 10
        parts.append(f'<g class="series s{number % SERIES_STYLES}">{marker(number, right, 9)}</g>')
        right -= 16
    return "".join(parts)


def _polyline(kind: str, spots: Sequence[tuple[float, float, float]]) -> str:
    if len(spots) < 2:
        return ""
    path = " ".join(f"{sx:.1f},{sy:.1f}" for _, sx, sy in spots)
    return f'<polyline class="{kind}" points="{path}"/>'


def marker(number: int, x: float, y: float) -> str:
    """Returns the mark of the ``number``-th series at (x, y); marks differ even without color."""
    shapes = {
        0: f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3.6"/>',
        1: f'<rect class="mark" x="{x - 3.3:.1f}" y="{y - 3.3:.1f}" width="6.6" height="6.6"/>',
        2: _closed(x, y, (0, -4.6), (4.3, 3.2), (-4.3, 3.2)),
        3: _closed(x, y, (0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0)),
        4: _closed(x, y, (0, 4.6), (4.3, -3.2), (-4.3, -3.2)),
        5: f'<rect class="mark" x="{x - 1.8:.1f}" y="{y - 4.6:.1f}" width="3.6" height="9.2"/>',
    }
    return shapes[number % SERIES_STYLES]


def _closed(x: float, y: float, *corners: tuple[float, float]) -> str:
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="mark" points="{points}"/>'


def swatch(number: int) -> Markup:
    """Returns a line with its mark, for a legend."""
    return Markup(
        f'<svg class="swatch series s{number % SERIES_STYLES}" viewBox="0 0 30 12" '
        'aria-hidden="true">'
        f'<line class="line" x1="1" x2="29" y1="6" y2="6"/>{marker(number, 15, 6)}</svg>'
    )


def stacked_bars(
    rows: Sequence[tuple[str, Sequence[tuple[str, int]]]],
    *,
    id_: str,
    title: str,
    description: str,
    width: int = WIDE,
) -> str:
    """Returns full-width stacked bars; a row is (label, parts), and a part is (class, count)."""
    pitch, thick, top = 52, 22, 20
    parts: list[str] = []
    for number, (label, counts) in enumerate(rows):
        y = top + number * pitch
        total = sum(count for _, count in counts)
        room = width // 9  # characters; the table has the whole label
        short = label if len(label) <= room else label[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"
        parts.append(f'<text class="bar-label" x="0" y="{y - 6}">{safe_text(short)}</text>')
        x = 0.0
        for kind, count in counts:
            length = width * count / total if total else 0.0
            share = f"{100 * count / total:.1f}%" if total else ""
            parts.append(
                f'<g class="status {safe_text(kind)}">'
                f"<title>{safe_text(kind)}: {count} ({share})</title>"
                f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="{thick}"/>'
            )
            if length > 48:
                middle = x + length / 2
                parts.append(f'<text x="{middle:.1f}" y="{y + thick / 2 + 4:.1f}">{share}</text>')
            parts.append("</g>")
            x += length
    height = top + len(rows) * pitch - (pitch - thick) + 4
    return _svg("".join(parts), width, height, id_, title, description)


def standalone(chart: str) -> str:
    """Returns a chart as a standalone SVG file with namespace, style sheet and background."""
    style = (Path(__file__).parent / "assets" / "report.css").read_text(encoding="utf-8")
    head, _, inside = chart.partition(">")
    font = "svg { background: var(--paper); font-family: system-ui, sans-serif; }"
    opening = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{opening}><style>{style}{font}</style>{inside}\n"


def _svg(inside: str, width: int, height: int, id_: str, title: str, description: str) -> str:
    size = "wide" if width == WIDE else "narrow"
    return (
        f'<svg class="chart {size}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="{id_}-t {id_}-d"><title id="{id_}-t">{safe_text(title)}</title>'
        f'<desc id="{id_}-d">{safe_text(description)}</desc>{inside}</svg>'
    )


def _axes(
    x: Axis,
    y: Axis,
    x_ticks: Sequence[tuple[float, float]],
    y_ticks: Sequence[tuple[float, float]],
    width: int,
) -> list[str]:
    bottom, right = _HEIGHT[width] - _BOTTOM, width - _RIGHT
    parts = ['<g class="axes">']
    for value, sy in y_ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{sy:.1f}" y2="{sy:.1f}"/>')
        text = safe_text(y.text(value))
        parts.append(f'<text class="tick end" x="{_LEFT - 10}" y="{sy + 4:.1f}">{text}</text>')
    for value, sx in x_ticks:
        parts.append(
            f'<line class="stub" x1="{sx:.1f}" x2="{sx:.1f}" y1="{bottom}" y2="{bottom + 5}"/>'
        )
        text = safe_text(x.text(value))
        parts.append(f'<text class="tick middle" x="{sx:.1f}" y="{bottom + 22}">{text}</text>')
    parts.append(f'<line class="base" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text class="name middle" x="{middle}" y="{bottom + 46}">{safe_text(x.label)}</text>'
    )
    parts.append(f'<text class="name" x="0" y="13">{safe_text(y.label)}</text></g>')
    return parts


def _scale(
    low: float, high: float, start: float, end: float, *, log: bool = False
) -> Callable[[float], float]:
    """Returns a map from [low, high] to [start, end]; a single value goes to the middle."""
    on = math.log if log else float
    span = on(high) - on(low)

    def place(value: float) -> float:
        share = (on(value) - on(low)) / span if span else 0.5
        return start + share * (end - start)

    return place


def linear_ticks(low: float, high: float, *, outer: bool = True) -> list[float]:
    """Returns about five round values from ``low`` to ``high``, enclosing both if ``outer``."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.floor(low / step + 1e-9) if outer else math.ceil(low / step - 1e-9)
    last = math.ceil(high / step - 1e-9) if outer else math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Returns 1, 2, 5, 10, ... within the range, and ``high`` unless it is near the last one."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    return ticks + ([high] if not ticks or high / ticks[-1] > 1.35 else [])
