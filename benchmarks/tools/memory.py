"""Samples the memory of this process and its descendants while a job runs."""

from __future__ import annotations

import threading

from codegen.benchmarks.tools.timing import tree_rss_mib


class MemoryProbe:
    """A context manager whose thread samples the resident memory.

    Args:
        interval_s: seconds between samples.

    Attributes:
        peak: the largest sample, MiB.
    """

    def __init__(self, interval_s: float) -> None:
        self.peak = 0.0
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.peak = max(self.peak, tree_rss_mib())

    def __enter__(self) -> MemoryProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
