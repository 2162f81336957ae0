"""Filters, which drop examples before a generator sees them.

A :class:`Filter` checks one example and runs in the workers; decontamination is one, and other
packages add filters by an entry point (:mod:`codegen.plugins`). Deduplication has two parts:
:meth:`Dedup.signature` runs in the workers, :class:`DedupIndex` decides in the order of the inputs,
so that the result is the same for any number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from codegen.data.filters.decontamination import Decontamination, write_report
from codegen.data.filters.dedup import Dedup, DedupIndex, Signature
from codegen.data.sources import Rejected
from codegen.records import Example


class Filter(Protocol):
    """Decides which examples are wanted; picklable."""

    def check(self, example: Example) -> Rejected | None:
        """None to keep the example, else its rejection. It depends on the example alone."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """The settings (JSON values); a resumed run must find the same description."""
        ...


__all__ = ["Decontamination", "Dedup", "DedupIndex", "Filter", "Signature", "write_report"]
