"""Counters and latencies of this process; they contain no document text.

``/metrics`` shows them in Prometheus's text format, and the log in one line.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STAGES = ("queue", "prompt", "encode", "recompute", "decode", "total", "typed")
_WINDOW = 1000  # latest durations of a stage, for the log's quantiles
_PREFIX = "codegen_"
_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.4, 0.7, 1, 2, 4, 8, 20,
)  # fmt: skip


class Metrics:
    """Counters, gauges and latencies; thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._known: dict[str, Any] = {}
        self._latest: dict[str, deque[float]] = {stage: deque(maxlen=_WINDOW) for stage in STAGES}
        self._seconds = Histogram(
            f"{_PREFIX}stage_seconds", "Seconds by stage of a completion.", ["stage"],
            registry=self.registry, buckets=_BUCKETS,
        )  # fmt: skip

    def count(self, name: str, by: int = 1) -> None:
        """Increments a counter, shown as ``codegen_NAME_total``."""
        self._of(Counter, name).inc(by)

    def observe(self, stages: Mapping[str, float]) -> None:
        """Records durations by stage, in seconds."""
        for stage, seconds in stages.items():
            self._latest[stage].append(seconds)
            self._seconds.labels(stage).observe(seconds)

    def gauge(self, name: str, value: float) -> None:
        """Sets a gauge, shown as ``codegen_NAME``."""
        self._of(Gauge, name).set(value)

    def _of(self, kind: type[Counter] | type[Gauge], name: str) -> Any:
        with self._lock:
            if name not in self._known:
                text = name.replace("_", " ").capitalize()
                self._known[name] = kind(_PREFIX + name, text, registry=self.registry)
            return self._known[name]

    def value(self, name: str) -> int:
        """Returns a counter's value."""
        return int(self.registry.get_sample_value(f"{_PREFIX}{name}_total") or 0)

    def quantile(self, stage: str, share: float) -> float | None:
        """Returns a quantile of a stage's latest durations, in seconds; None without data."""
        ordered = sorted(self._latest[stage].copy())
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

    def line(self) -> str:
        """Returns all metrics in one line, for a log."""
        counters = sorted(name for name, one in self._known.items() if isinstance(one, Counter))
        parts = [" ".join(f"{name}={self.value(name)}" for name in counters)]
        for stage in STAGES:
            if (middle := self.quantile(stage, 0.5)) is not None:
                high = self.quantile(stage, 0.95) or 0.0
                parts.append(f"{stage}_ms p50={middle * 1e3:.1f} p95={high * 1e3:.1f}")
        return " | ".join(part for part in parts if part)

    def prometheus(self) -> str:
        """Returns all metrics in Prometheus's text format."""
        return generate_latest(self.registry).decode()
