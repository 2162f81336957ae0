"""Statistics of training texts: sums and quantiles in bounded memory, as JSON.

Quantiles come from histograms with sixteen bins for each power of two (the layout of
HdrHistogram), so they are exact below 32 and within 1/32 of the value above. Integer arithmetic
alone: the same bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from codegen.records import DataRecord

HISTOGRAMS = ("characters", "edits")
"""The measures whose distribution is kept; only the sum is kept of others."""

MAX_NAMES = 100
"""Most measures that are kept, so that a generator with many names can't fill the memory."""

LABELS = frozenset({"bkspc", "pair", "pairs", "score"})
"""Ints of ``meta`` that are no amounts (a token's id, a place, a grade) and are not summed."""

_BITS = 4  # bins for each power of two, as a power of two


def measures(text: DataRecord) -> dict[str, int]:
    """The measures of one text: ``characters``, and the amounts (ints, no bools) of its meta."""
    found = {"characters": sum(len(segment.text) for segment in text.segments)}
    for name, value in text.meta.items():
        if isinstance(value, int) and not isinstance(value, bool) and name not in LABELS:
            found.setdefault(name, value)
    return found


@dataclass(slots=True)
class Histogram:
    """The distribution of non-negative whole numbers; negative ones are counted as 0.

    Attributes:
        bins: bin -> number of values in it; bins are numbered in the order of their values.
    """

    bins: dict[int, int] = field(default_factory=dict)
    least: int | None = None
    most: int | None = None

    def add(self, value: int) -> None:
        """Counts one value."""
        value = max(0, value)
        place = _bin(value)
        self.bins[place] = self.bins.get(place, 0) + 1
        self.least = value if self.least is None else min(self.least, value)
        self.most = value if self.most is None else max(self.most, value)

    def quantile(self, q: float) -> int | None:
        """The value at rank ceil(q * number), at least the first; None if there are no values."""
        total = sum(self.bins.values())
        if not total or self.least is None or self.most is None:
            return None
        rank = max(1, math.ceil(q * total))
        if rank >= total:
            return self.most
        seen = 0
        for place in sorted(self.bins):
            seen += self.bins[place]
            if seen >= rank:
                return min(max(_middle(place), self.least), self.most)
        return self.most

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        bins = [[place, self.bins[place]] for place in sorted(self.bins)]
        return {"least": self.least, "most": self.most, "bins": bins}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Histogram:
        """Back from :meth:`to_json`."""
        return cls(dict(row["bins"]), row["least"], row["most"])


@dataclass(slots=True)
class Statistics:
    """Of all texts so far: their number, the sum of each measure, and some distributions."""

    texts: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def add(self, measured: Mapping[str, int]) -> None:
        """Adds the :func:`measures` of one text."""
        self.texts += 1
        for name, value in measured.items():
            if name not in self.totals and len(self.totals) >= MAX_NAMES:
                continue
            self.totals[name] = self.totals.get(name, 0) + value
            if name in HISTOGRAMS:
                self.histograms.setdefault(name, Histogram()).add(value)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "texts": self.texts,
            "totals": dict(self.totals),
            "histograms": {name: h.to_json() for name, h in self.histograms.items()},
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Statistics:
        """Back from :meth:`to_json`; an empty mapping is of no texts."""
        return cls(
            row.get("texts", 0),
            dict(row.get("totals", {})),
            {name: Histogram.from_json(h) for name, h in row.get("histograms", {}).items()},
        )

    def dirty_rate(self) -> tuple[float, float, float] | None:
        """The share of audited states with messages of pylint, and its 95 % interval (Wilson).

        None if no state was audited. The states of one program are not independent of each other,
        so the interval is somewhat too narrow.
        """
        audited = self.totals.get("audited_states", 0)
        if audited <= 0:
            return None
        rate = self.totals.get("dirty_states", 0) / audited
        from codegen.evals.statistics import wilson  # loads numpy, which workers need not

        return rate, *wilson(rate, audited)


def statistics_lines(statistics: Mapping[str, object]) -> Iterator[str]:
    """A manifest's statistics, one fact a line; none if there are no texts."""
    found = Statistics.from_json(statistics)
    if not found.texts:
        return
    for name, histogram in found.histograms.items():
        low, middle, high = (histogram.quantile(q) for q in (0.05, 0.5, 0.95))
        mean = found.totals.get(name, 0) / found.texts
        yield (
            f"{name} a text: mean {mean:.1f}, median {middle}, 5 % to 95 % {low} to {high}, "
            f"least {histogram.least}, most {histogram.most}"
        )
    for name, total in found.totals.items():
        if name not in found.histograms and name not in _COMPARED:
            yield f"{name}: {total} in all, {total / found.texts:.1f} a text"
    if rate := found.dirty_rate():
        share, low, high = (100 * value for value in rate)
        audited = found.totals["audited_states"]
        yield (
            f"dirty states: {share:.2f} % of {audited} audited (95 % interval {low:.2f} to "
            f"{high:.2f} %)"
        )
    if number := found.totals.get("compared_sequences", 0):
        ours, theirs = (found.totals.get(name, 0) / number for name in _COMPARED[1:])
        yield (
            f"edits a sequence: {ours:.2f}, and {theirs:.2f} by the published algorithm, on the "
            f"same {number} programs"
        )


_COMPARED = ("compared_sequences", "compared_edits", "reference_edits")


def _bin(value: int) -> int:
    shift = max(0, value.bit_length() - _BITS - 1)
    return (shift << _BITS) + (value >> shift)


def _middle(place: int) -> int:
    if place < 2 << _BITS:
        return place
    shift = (place >> _BITS) - 1
    low = (place - (shift << _BITS)) << shift
    return low + ((1 << shift) - 1) // 2
