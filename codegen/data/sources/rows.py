"""Rows with named columns (JSONL, Parquet, a dataset of the hub) as examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codegen.data.sources.base import Item, Rejected
from codegen.errors import InputError
from codegen.records import Example, has_lone_surrogate

PROBE_ROWS = 100
"""A column that none of the first so many rows has is a mistake of the caller, not of the rows."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what.

    Attributes:
        instruction: the column with the instruction; empty leaves all examples without one.
        id: the column with a row's id; empty takes ``id`` where a row has it, else the row's place.
        licence: the column with a row's licence; empty takes the source's licence for all rows.
        language: the column with the program's language; empty takes the source's for all rows.
    """

    instruction: str = "instruction"
    program: str = "program"
    id: str = ""
    licence: str = ""
    language: str = ""
    extra: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Each column that was named, by what it holds."""
        named = {what: name for what, name in asdict(self).items() if name}
        return named | ({"extra": list(self.extra)} if self.extra else {})

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return (*self.texts.values(), *filter(None, (self.id, self.licence)))

    @property
    def texts(self) -> Mapping[str, str]:
        """Those of them that must hold text, by what it is."""
        optional = {"instruction": self.instruction, "language": self.language}
        used = {what: name for what, name in optional.items() if name}
        return {**used, "program": self.program}


@dataclass(frozen=True, slots=True)
class RowDefaults:
    """What holds for all rows of a source."""

    source: str
    language: str = "python"
    licence: str = ""


def examples_of_rows(
    rows: Iterable[tuple[str, Mapping[str, Any] | Rejected]],
    columns: Columns,
    defaults: RowDefaults,
    where: str,
) -> Iterator[Item]:
    """Turns (place, row) pairs into examples; a broken row becomes a :class:`Rejected`.

    Raises:
        InputError: if a required column is in none of the first 100 rows, naming those that exist.
    """
    unseen = set(columns.required)
    present: dict[str, None] = {}  # the columns seen, in their order
    held: list[Item] = []  # a mistake of the caller should be told before any row is given out
    probed = 0
    for place, row in rows:
        if unseen and not isinstance(row, Rejected):
            probed += 1
            present.update(dict.fromkeys(row))
            unseen.difference_update(row)
            if unseen and probed >= PROBE_ROWS:
                raise missing_columns(unseen, present, where)
        item = row if isinstance(row, Rejected) else _example(place, row, columns, defaults)
        held.append(item)
        if not unseen or len(held) >= PROBE_ROWS:
            yield from held
            held.clear()
    if unseen and probed:
        raise missing_columns(unseen, present, where)
    yield from held


def missing_columns(missing: set[str], present: Iterable[str], where: str) -> InputError:
    """The error for columns that the rows lack, naming those that they have."""
    names = ", ".join(repr(name) for name in sorted(missing))
    return InputError(
        f"{where} has no column {names}. Its columns are: {', '.join(present) or '(none)'}.",
        "Name the right ones with --instruction-column, --program-column and their like.",
    )


def _example(place: str, row: Mapping[str, Any], columns: Columns, defaults: RowDefaults) -> Item:
    id_ = _row_id(place, row, columns)
    if isinstance(id_, Rejected):
        return id_
    for name in columns.required:
        if name not in row:
            return Rejected(id_, "missing_column", f"no column {name!r} in {place}")
    texts = {"instruction": "", "language": defaults.language}
    for what, name in columns.texts.items():
        value = row[name]
        if not isinstance(value, str):
            detail = f"column {name!r} in {place} holds {type(value).__name__}, not text"
            return Rejected(id_, "wrong_type", detail)
        if has_lone_surrogate(value):
            return Rejected(id_, "not_unicode", f"column {name!r} in {place}: a lone surrogate")
        if not value.strip():
            return Rejected(id_, f"empty_{what}", f"column {name!r} in {place}", "skipped")
        texts[what] = value
    if not (language := language_tag(texts["language"])):
        detail = f"column {columns.language!r} in {place} names no language"
        return Rejected(id_, "bad_language", detail)
    licence = row[columns.licence] if columns.licence else defaults.licence
    return Example(
        id=id_,
        instruction=texts["instruction"],
        program=texts["program"],
        language=language,
        source=defaults.source,
        licence=licence if isinstance(licence, str) else defaults.licence,
        meta={name: row[name] for name in columns.extra if name in row} | {"place": place},
    )


def language_tag(name: str) -> str:
    """A language as the tag of a Markdown block, ``JavaScript`` as ``javascript``.

    Empty if the name can't be one.
    """
    tag = name.strip().lower()
    return tag if re.fullmatch(r"[^\s`~]{1,40}", tag) else ""


def _row_id(place: str, row: Mapping[str, Any], columns: Columns) -> str | Rejected:
    value = row.get(columns.id or "id")
    is_id = isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
    if is_id and not (isinstance(value, str) and has_lone_surrogate(value)):
        return str(value)
    if not columns.id or columns.id not in row:
        return place
    return Rejected(place, "wrong_type", f"column {columns.id!r} in {place} holds no usable id")
