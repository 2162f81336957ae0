"""Counters and latencies, kept in this process only; no text of any document.

``/metrics`` shows them in Prometheus' text format, the log in one line.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping

STAGES = ("queue", "prompt", "encode", "settle", "decode", "total", "typed")
_WINDOW = 1000  # latest values of a stage that quantiles are of
_PREFIX = "codegen_"


class Metrics:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latest: dict[str, deque[float]] = {stage: deque(maxlen=_WINDOW) for stage in STAGES}
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._numbers: Counter[str] = Counter()
        self._gauges: dict[str, float] = {}

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            self._counts[name] += by

    def observe(self, stages: Mapping[str, float]) -> None:
        """Adds durations in seconds."""
        with self._lock:
            for stage, seconds in stages.items():
                self._latest[stage].append(seconds)
                self._sums[stage] += seconds
                self._numbers[stage] += 1

    def gauge(self, name: str, value: float) -> None:
        """Sets a value that goes up and down."""
        with self._lock:
            self._gauges[name] = value

    def value(self, name: str) -> int:
        """A counter's value."""
        with self._lock:
            return self._counts[name]

    def quantile(self, stage: str, share: float) -> float | None:
        """Of a stage's latest durations, in seconds; None if there are none."""
        with self._lock:
            ordered = sorted(self._latest[stage])
        if not ordered:
            return None
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def line(self) -> str:
        """Everything in one line, for a log."""
        with self._lock:
            counts = " ".join(f"{name}={count}" for name, count in sorted(self._counts.items()))
        parts = [counts]
        for stage in STAGES:
            if (middle := self.quantile(stage, 0.5)) is not None:
                high = self.quantile(stage, 0.95) or 0.0
                parts.append(f"{stage}_ms p50={middle * 1e3:.1f} p95={high * 1e3:.1f}")
        return " | ".join(part for part in parts if part)

    def prometheus(self) -> str:
        """Everything in Prometheus' text format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        with self._lock:
            counts, gauges = dict(self._counts), dict(self._gauges)
            sums, numbers = dict(self._sums), dict(self._numbers)
        for name, count in sorted(counts.items()):
            yield f"# TYPE {_PREFIX}{name}_total counter"
            yield f"{_PREFIX}{name}_total {count}"
        for name, value in sorted(gauges.items()):
            yield f"# TYPE {_PREFIX}{name} gauge"
            yield f"{_PREFIX}{name} {value:g}"
        yield f"# TYPE {_PREFIX}stage_seconds summary"
        for stage in STAGES:
            if stage not in numbers:
                continue
            for share in (0.5, 0.95):
                value = self.quantile(stage, share) or 0.0
                yield f'{_PREFIX}stage_seconds{{stage="{stage}",quantile="{share}"}} {value:.6f}'
            yield f'{_PREFIX}stage_seconds_sum{{stage="{stage}"}} {sums[stage]:.6f}'
            yield f'{_PREFIX}stage_seconds_count{{stage="{stage}"}} {numbers[stage]}'
