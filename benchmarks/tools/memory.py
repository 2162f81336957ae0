"""Samples the memory of this process and its descendants while a job runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from statistics import median

from codegen.benchmarks.tools.timing import tree_rss_mib


class MemoryProbe:
    """A thread that samples (fraction of the job done, MiB resident) at a fixed interval.

    A context manager. Samples before the first progress, while processes start, are omitted.

    Args:
        interval_s: seconds between samples.
        read: returns the MiB.
    """

    def __init__(self, interval_s: float = 1.0, read: Callable[[], float] = tree_rss_mib) -> None:
        self.share = 0.0
        self.samples: list[tuple[float, float]] = []
        self._interval_s = interval_s
        self._read = read
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(self._interval_s):
            if self.share > 0:
                self.samples.append((self.share, self._read()))

    def __enter__(self) -> MemoryProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def at(self, share: float, width: float = 0.05) -> float | None:
        """Returns the median of the samples in (share - width, share]; None without samples."""
        inside = [mib for done, mib in self.samples if share - width < done <= share]
        return median(inside) if inside else None

    def peak(self) -> float | None:
        """Returns the largest sample."""
        return max((mib for _, mib in self.samples), default=None)
