"""Overlap of a benchmark's problems with each other and with training data.

Training data is searched by :mod:`.decontamination`; problems of the same set are compared by
:mod:`.dedup`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from codegen.data.filters.decontamination import Decontamination, Reference, ReferenceSet
from codegen.data.filters.dedup import Dedup, DedupIndex
from codegen.data.sources.rows import format_of, jsonl_rows, open_hub, parquet_rows
from codegen.errors import InputError
from codegen.hub import parse_hub
from codegen.records import Example


def find_overlap(problems: Sequence[Reference], against: Sequence[str]) -> dict[str, list[str]]:
    """Returns what each problem overlaps with, by id; problems without overlap are left out.

    Args:
        problems: with one prompt and at most one solution each.
        against: training data: JSONL or Parquet files, or ``hub:org/name[:config][:split]``.

    Raises:
        InputError: for training data that cannot be read.
    """
    found: dict[str, list[str]] = {}
    dedup = Dedup("near")
    index = DedupIndex(dedup)
    for problem in problems:
        text = "\n".join((*problem.prompt, *problem.solution))
        if same := index.add(problem.id, dedup.signature(Example(problem.id, "", text))):
            kind = same.reason.replace("_", " ")
            found.setdefault(problem.id, []).append(f"{kind}: {same.detail}")
    if against:
        reference = ReferenceSet("audited", tuple(problems))
        contained = Decontamination.build([reference])
        for place, row in (pair for spec in against for pair in _rows(spec)):
            for text in _texts(row):
                if match := contained.check(Example(place, "", text)):
                    what, _, id_ = match.detail.partition(" set=audited problem=")
                    found.setdefault(id_, []).append(f"{place}: {what}")
    return found


def _rows(spec: str) -> Iterator[tuple[str, object]]:
    if spec.startswith("hub:"):
        name, config, split = parse_hub(spec.removeprefix("hub:"))
        rows = open_hub(name, config, split, spec)
        yield from ((f"{spec}:{number}", row) for number, row in enumerate(rows))
        return
    path = Path(spec)
    kind = format_of(path) if path.is_file() else None
    if kind is None:
        raise InputError(
            f"Cannot read the training data {spec!r}.",
            "Pass a .jsonl, .jsonl.gz or .parquet file, or hub:org/name.",
        )
    for place, row, _ in jsonl_rows(path) if kind == "jsonl" else parquet_rows(path, spec):
        yield place, row


def _texts(value: Any) -> Iterator[str]:
    """Yields the strings of a row, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
