"""Overlap of a benchmark's problems with each other and with training data.

Training data is searched by :mod:`.decontamination`; problems of the same set are compared by
:mod:`.dedup`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codegen.data.filters.decontamination import (
    Decontamination,
    Reference,
    ReferenceSet,
    open_rows,
)
from codegen.data.filters.dedup import Dedup, DedupIndex
from codegen.records import Example


def find_overlap(
    problems: Mapping[str, tuple[str, str]], against: Sequence[str]
) -> dict[str, list[str]]:
    """Returns what each problem overlaps with, by id; problems without overlap are left out.

    Args:
        problems: prompt and solution by id.
        against: training data: JSONL or Parquet files, or ``hub:org/name[:config][:split]``.

    Raises:
        InputError: for training data that cannot be read.
    """
    found: dict[str, list[str]] = {}
    dedup = Dedup("near")
    index = DedupIndex(dedup)
    for id_, texts in problems.items():
        if same := index.add(id_, dedup.signature(Example(id_, "", "\n".join(texts)))):
            found.setdefault(id_, []).append(f"{same.reason.replace('_', ' ')}: {same.detail}")
    parts = [Reference(id_, (p,), (s,) if s else ()) for id_, (p, s) in problems.items()]
    contained = Decontamination.build([ReferenceSet("audited", tuple(parts))])
    rows = (row for spec in against for row in open_rows(spec)[1])
    for place, text in ((place, text) for place, row in rows for text in _texts(row)):
        if match := contained.check(Example(place, "", text)):
            what, _, id_ = match.detail.partition(" set=audited problem=")
            found.setdefault(id_, []).append(f"{place}: {what}")
    return found


def _texts(value: Any) -> Iterator[str]:
    """Yields the strings of a row, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
