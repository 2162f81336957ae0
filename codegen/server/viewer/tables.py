"""The rows of JSONL files as a table that can be filtered, searched and sorted.

The values to filter and sort by are in arrays, some bytes per row; the rows themselves are read
when they are shown.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codegen.server.viewer.lines import Lines, decoded
from codegen.server.viewer.records import CPU_S, facts_of

Progress = Callable[[int], None]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_MOST_VALUES = 20_000  # per facet; more are no help in a filter
_LISTED = 1_500  # values of a facet that a page lists
_KEPT = 16  # selections that are kept
_MISSING = -1


class Row(NamedTuple):
    """A row: number of its file, line, value (None if it is not JSON) and verdict."""

    file: int
    line: int
    value: Any
    verdict: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The row's name in links, valid while its file only grows."""
        return f"{self.file}.{self.line}" if self.file else str(self.line)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a table to show, and in which order.

    Attributes:
        filters: (facet, value) pairs that rows must have.
        text: text that a string of each row must contain, in any case.
        sort: a number's name, with ``-`` in front in descending order; "" for the file's order.
    """

    filters: tuple[tuple[str, str], ...] = ()
    text: str = ""
    sort: str = ""


class _File:
    """One file of a table with the columns of its rows."""

    def __init__(self, path: Path, codes: dict[str, dict[str, int]]) -> None:
        self._codes = codes
        self.lines = Lines(path, self._add, self._clear)
        self._clear()

    def _clear(self) -> None:
        self.count = 0
        self.facets: dict[str, array[int]] = {}
        self.numbers: dict[str, array[float]] = {}

    def _add(self, row: Any) -> None:
        facts = facts_of(row)
        for name, value in facts.facets.items():
            known = self._codes.setdefault(name, {})
            if value in known or len(known) < _MOST_VALUES:
                column = self.facets.setdefault(name, array("i"))
                column.extend([_MISSING] * (self.count - len(column)))
                column.append(known.setdefault(value, len(known)))
        for name, number in facts.numbers.items():
            column = self.numbers.setdefault(name, array("d"))
            column.extend([float("nan")] * (self.count - len(column)))
            column.append(number)
        self.count += 1


class Table:
    """Rows of the same kind. Its methods may be called from several threads.

    Args:
        paths: gives the current files, in order.
        verdicts: a file of verdicts, if the rows are samples.
    """

    def __init__(
        self,
        name: str,
        title: str,
        paths: Callable[[], Sequence[Path]],
        verdicts: Path | None = None,
    ) -> None:
        self.name, self.title = name, title
        self.version = 0  # rises whenever the rows change
        self.paths = paths
        self._codes: dict[str, dict[str, int]] = {}
        self._files: list[_File] = []
        self._verdicts = _File(verdicts, self._codes) if verdicts else None
        self._facets: dict[str, Ints] = {}
        self._numbers: dict[str, Floats] = {}
        self._joined: Ints | None = None  # the line of each row's verdict
        self._chosen: OrderedDict[Selection, Ints] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return sum(len(file.lines) for file in self._files)

    @property
    def bytes(self) -> int:
        """Bytes that are indexed."""
        return sum(file.lines.starts[-1] for file in self._files)

    def refresh(self, on_bytes: Progress | None = None) -> None:
        """Reads new rows; see :meth:`codegen.server.viewer.lines.Lines.refresh`."""
        with self._lock:
            paths = list(self.paths())
            known = [file.lines.path for file in self._files]
            changed = paths[: len(known)] != known
            if changed:
                self._files, self._codes = [], {}
                if self._verdicts:
                    self._verdicts = _File(self._verdicts.lines.path, self._codes)
            self._files += [_File(path, self._codes) for path in paths[len(self._files) :]]
            done = 0
            for file in [*self._files, *([self._verdicts] if self._verdicts else [])]:
                before = done
                report = (lambda n, before=before: on_bytes(before + n)) if on_bytes else None
                changed |= file.lines.refresh(report)
                done += file.lines.starts[-1]
            if changed or not self.version:
                self.version += 1
                self._chosen.clear()
                self._join()

    def _join(self) -> None:
        """Joins the files' columns, and finds each row's verdict."""
        names = dict.fromkeys(name for file in self._files for name in file.facets)
        self._facets = {name: _codes(self._files, name) for name in names}
        names = dict.fromkeys(name for file in self._files for name in file.numbers)
        self._numbers = {name: _values(self._files, name) for name in names}
        if self._verdicts is None or not self._verdicts.count or "problem" not in self._facets:
            self._joined = None
            return
        judged = [self._verdicts]
        mine = _keys(self._files, unknown=-1)
        theirs = _keys(judged, unknown=-2)
        order = np.argsort(theirs, kind="stable")
        place = np.minimum(np.searchsorted(theirs[order], mine), len(order) - 1)
        line = order[place]
        line = self._joined = np.where(theirs[line] == mine, line, _MISSING)
        for name in ("status", "trust"):
            if name not in self._verdicts.facets:
                continue
            column = _codes(judged, name)[line]
            self._facets[name] = np.where(line == _MISSING, _MISSING, column)
        seconds = _values(judged, CPU_S)[line]
        self._numbers[CPU_S] = np.where(line == _MISSING, np.nan, seconds)

    # --- columns ---------------------------------------------------------------------------------

    def facets(self) -> dict[str, dict[str, int]]:
        """For each facet that differs between rows: value -> number of rows, in order."""
        with self._lock:
            found = {}
            for name, column in self._facets.items():
                counts = np.bincount(column[column >= 0], minlength=len(self._codes[name]))
                values = {v: int(counts[c]) for v, c in self._codes[name].items() if counts[c]}
                if len(values) + (column < 0).any() > 1 and 1 <= len(values) <= _LISTED:
                    found[name] = values
            return found

    def numbers(self) -> list[str]:
        """The names of the numbers that differ between rows."""
        with self._lock:
            return [
                name
                for name, column in self._numbers.items()
                if name != "index" and np.unique(column[~np.isnan(column)]).size > 1
            ]

    def by_step(self, name: str, value: str = "") -> list[tuple[int, float]]:
        """(step, mean of a number) or (step, share of rows whose facet has a value), without rows
        that lack it.
        """
        with self._lock:
            if "step" not in self._numbers:
                return []
            if value:
                column = self._facets.get(name, np.empty(0, np.int64))
                numbers = (column == self._codes.get(name, {}).get(value, -2)).astype(float)
                numbers[column == _MISSING] = np.nan
            else:
                numbers = self._numbers.get(name, np.empty(0))
            known = ~(np.isnan(numbers) | np.isnan(self._numbers["step"][: len(numbers)]))
            steps, of = np.unique(self._numbers["step"][: len(numbers)][known], return_inverse=True)
            sums = np.bincount(of, numbers[known], minlength=len(steps))
            return [
                (int(step), float(total / count))
                for step, total, count in zip(steps, sums, np.bincount(of), strict=True)
            ]

    # --- choosing --------------------------------------------------------------------------------

    def select(self, wanted: Selection) -> Ints:
        """The numbers of the selected rows, in order."""
        with self._lock:
            if wanted in self._chosen:
                self._chosen.move_to_end(wanted)
                return self._chosen[wanted]
            chosen = self._select(wanted)
            self._chosen[wanted] = chosen
            while len(self._chosen) > _KEPT:
                self._chosen.popitem(last=False)
            return chosen

    def _select(self, wanted: Selection) -> Ints:
        fits = np.ones(len(self), dtype=bool)
        for name, value in wanted.filters:
            column = self._facets.get(name)
            code = self._codes.get(name, {}).get(value, -2)
            fits &= column == code if column is not None else False
        if wanted.text:
            fits &= self._search(wanted.text)
        chosen = np.flatnonzero(fits)
        name = wanted.sort.removeprefix("-")
        if name in self._numbers:
            values = self._numbers[name][chosen]
            chosen = chosen[np.argsort(-values if wanted.sort[0] == "-" else values, kind="stable")]
        return chosen

    def _search(self, text: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        found = np.zeros(len(self), dtype=bool)
        start = 0
        for file in self._files:
            for line in file.lines.search(text):
                found[start + line] = True
            start += len(file.lines)
        if self._verdicts and self._joined is not None:
            judged = np.zeros(self._verdicts.count, dtype=bool)
            for line in self._verdicts.lines.search(text):
                judged[line] = True
            found |= (self._joined != _MISSING) & judged[self._joined]
        return found

    # --- reading ---------------------------------------------------------------------------------

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Rows by their numbers."""
        with self._lock:
            places = [self._place(int(number)) for number in numbers]
            values: list[Any] = [None] * len(places)
            for number, file in enumerate(self._files):
                mine = [at for at, (of, _) in enumerate(places) if of == number]
                for at, line in zip(mine, file.lines.read([places[i][1] for i in mine]),
                                    strict=True):  # fmt: skip
                    values[at] = decoded(line)
            verdicts = self._verdicts_of([int(number) for number in numbers])
            return [
                Row(*place, value, verdict)
                for place, value, verdict in zip(places, values, verdicts, strict=True)
            ]

    def _place(self, number: int) -> tuple[int, int]:
        for place, file in enumerate(self._files):
            if number < len(file.lines):
                return place, number
            number -= len(file.lines)
        raise IndexError(number)

    def _verdicts_of(self, numbers: Sequence[int]) -> list[Mapping[str, Any]]:
        if self._verdicts is None or self._joined is None:
            return [{} for _ in numbers]
        lines = [int(self._joined[number]) for number in numbers]
        known = [line for line in lines if line != _MISSING]
        read = dict(zip(known, self._verdicts.lines.read(known), strict=True))
        rows = [decoded(read[line]) if line in read else None for line in lines]
        return [row if isinstance(row, dict) else {} for row in rows]

    def number_of(self, key: str) -> int | None:
        """The number of the row with a key; None if there is none."""
        file, _, line = key.rpartition(".")
        if not (line.isascii() and line.isdecimal() and len(line) < 12):
            return None
        if file and not (file.isascii() and file.isdecimal() and len(file) < 6):
            return None
        with self._lock:
            which, at = int(file or 0), int(line)
            if which >= len(self._files) or at >= len(self._files[which].lines):
                return None
            return at + sum(len(before.lines) for before in self._files[:which])


def _codes(files: Sequence[_File], name: str) -> Ints:
    """A facet's codes over all files, ``_MISSING`` where rows lack it. [rows]"""
    parts = [np.full(file.count, _MISSING, dtype=np.int64) for file in files]
    for part, file in zip(parts, files, strict=True):
        column = file.facets.get(name, ())
        part[: len(column)] = column
    return np.concatenate(parts)


def _values(files: Sequence[_File], name: str) -> Floats:
    """A number's values over all files, NaN where rows lack it. [rows]"""
    parts = [np.full(file.count, np.nan) for file in files]
    for part, file in zip(parts, files, strict=True):
        column = file.numbers.get(name, ())
        part[: len(column)] = column
    return np.concatenate(parts)


def _keys(files: Sequence[_File], unknown: int) -> Ints:
    """One number for each sample's problem and index, ``unknown`` if it lacks one. [rows]"""
    problems, indices = _codes(files, "problem"), _values(files, "index")
    known = (problems >= 0) & (indices >= 0) & (indices < 1 << 31)
    numbers = problems * (1 << 32) + np.where(known, indices, 0).astype(np.int64)
    return np.where(known, numbers, unknown)
