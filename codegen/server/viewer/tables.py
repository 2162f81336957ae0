"""Random access to the lines of a JSONL file: an index of offsets that grows with the file.

Only whole lines count, because a line that is still being written has no newline yet. Memory: 9
bytes per line.
"""

from __future__ import annotations

import json
import os
import re
import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codegen.core.errors import InputError
from codegen.core.paths import open_plain
from codegen.server.viewer.records import CPU_S, facts_of

_AT_ONCE = 4 << 20
_LONGEST = 64 << 20  # maximum bytes of a line to parse
_WORD = re.compile(r"[a-z0-9]+")


class Lines:
    """JSONL file that other processes may append to, truncate, or replace at any time.

    Args:
        path: the file; if missing, it has no lines.
        on_row: called with the value of each line (None if it is not JSON), in order, during
            indexing. After ``on_reset`` it restarts from the first line.
        on_reset: called when the file no longer has the indexed lines.
    """

    def __init__(
        self, path: Path, on_row: Callable[[Any], None], on_reset: Callable[[], None]
    ) -> None:
        self.path, self.on_row, self.on_reset = path, on_row, on_reset
        self.starts = array("Q", [0])  # start of each line, and end of the last one
        self._of: tuple[int, int] | None = None  # the file's device and inode
        self._tail = b""  # the last bytes that were indexed: an appended file still has them

    def __len__(self) -> int:
        return len(self.starts) - 1

    def refresh(self) -> bool:
        """Reads new lines, or all of a replaced or truncated file; returns True on a change."""
        with self._opened() as file:
            if file is None:
                return self._reset(None)
            found = os.fstat(file)
            of, size, tail = (found.st_dev, found.st_ino), len(self._tail), self._tail
            continues = self._of == of and os.pread(file, size, self.starts[-1] - size) == tail
            changed = not continues and self._reset(of)
            before = len(self)
            self._read(file)
            return changed or len(self) > before

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        """Yields the file's descriptor; None if it is missing, a link or not a plain file."""
        try:
            descriptor = open_plain(self.path, os.O_RDONLY)
        except (OSError, InputError):
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _reset(self, of: tuple[int, int] | None) -> bool:
        had = len(self) > 0
        self._of, self._tail = of, b""
        if had:
            self.starts = array("Q", [0])
            self.on_reset()
        return had

    def _read(self, file: int) -> None:
        left, at = b"", self.starts[-1]
        while data := os.pread(file, _AT_ONCE, at):
            at += len(data)
            end = data.rfind(b"\n") + 1
            if not end:
                left += data
                continue
            lines, left = (left + data[:end]).split(b"\n")[:-1], data[end:]
            for line in lines:
                self.starts.append(self.starts[-1] + len(line) + 1)
                self.on_row(decoded(line))
            self._tail = lines[-1][-63:] + b"\n"

    def read(self, numbers: Sequence[int]) -> list[bytes]:
        """Returns the bytes of lines, by number; empty if the file has been truncated."""
        with self._opened() as file:
            if file is None:
                return [b""] * len(numbers)
            starts = self.starts
            return [os.pread(file, starts[n + 1] - starts[n], starts[n]) for n in numbers]

    def search(self, text: str) -> Iterator[int]:
        """Yields the numbers of lines in which a string at any depth contains the text.

        Keys are ignored, and so is the case of ASCII letters. A line is parsed only if its bytes
        contain the text's longest word that JSON does not escape.
        """
        wanted = _lower(text)
        needle = max((at[0] for at in _WORD.finditer(wanted)), key=len, default="").encode()
        for first, block in self._blocks():
            for number, line in enumerate(block.split(b"\n")[:-1], first):
                if needle in line.lower() and contains(decoded(line), wanted):
                    yield number

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """Yields blocks of whole lines, some megabytes each, with the number of the first line."""
        with self._opened() as file:
            first, count = 0, len(self)
            while file is not None and first < count:
                start = self.starts[first]
                last = max(first + 1, bisect_right(self.starts, start + _AT_ONCE) - 1)
                last = min(last, count)
                data = os.pread(file, self.starts[last] - start, start)
                if len(data) < self.starts[last] - start:
                    return  # the file was truncated
                yield first, data
                first = last


def decoded(line: bytes) -> Any:
    """Returns the value of a line; None if it is not JSON or too long."""
    if len(line) > _LONGEST:
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def contains(value: Any, wanted: str) -> bool:
    """Returns True if a string in a JSON value contains ``wanted``, which is in lower case."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if wanted in _lower(value):
                return True
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


_ASCII = {ord(letter): ord(letter) + 32 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def _lower(text: str) -> str:
    return text.translate(_ASCII)


Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_MOST_VALUES = 20_000  # per facet; more would not help in a filter
_LISTED = 1_500  # maximum values of a facet on a page
_MISSING = -1


class TableRow(NamedTuple):
    """Row: file number, line number, value (None if not JSON) and verdict."""

    file: int
    line: int
    value: Any
    verdict: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The row's identifier in links, valid while its file only grows."""
        return f"{self.file}.{self.line}" if self.file else str(self.line)


@dataclass(frozen=True, slots=True)
class Selection:
    """Filter and order of a table's rows.

    Attributes:
        filters: (facet, value) pairs that rows must have.
        text: text that a string of each row must contain, ignoring case.
        sort: a number's name, with the prefix ``-`` for descending order; "" for file order.
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


class RecordTable:
    """Table with rows of one kind; thread-safe.

    Args:
        paths: returns the current files, in order.
        verdicts: verdict file, if the rows are samples.
    """

    def __init__(
        self,
        name: str,
        title: str,
        paths: Callable[[], Sequence[Path]],
        verdicts: Path | None = None,
    ) -> None:
        self.name, self.title = name, title
        self.paths = paths
        self._codes: dict[str, dict[str, int]] = {}
        self._files: list[_File] = []
        self._verdicts = _File(verdicts, self._codes) if verdicts else None
        self._facets: dict[str, Ints] = {}
        self._numbers: dict[str, Floats] = {}
        self._joined: Ints | None = None  # the line of each row's verdict
        self._chosen: tuple[Selection, Ints] | None = None  # the last selection
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return sum(len(file.lines) for file in self._files)

    def refresh(self) -> None:
        """Reads new rows."""
        with self._lock:
            paths = list(self.paths())
            known = [file.lines.path for file in self._files]
            changed = paths[: len(known)] != known
            if changed:
                self._files, self._codes = [], {}
                if self._verdicts:
                    self._verdicts = _File(self._verdicts.lines.path, self._codes)
            self._files += [_File(path, self._codes) for path in paths[len(self._files) :]]
            for file in [*self._files, *([self._verdicts] if self._verdicts else [])]:
                changed |= file.lines.refresh()
            if changed:
                self._chosen = None
                self._join()

    def _join(self) -> None:
        """Concatenates the files' columns, and finds each row's verdict."""
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

    def facets(self) -> dict[str, dict[str, int]]:
        """Returns value -> number of rows, in order, for each facet that differs between rows."""
        with self._lock:
            found = {}
            for name, column in self._facets.items():
                counts = np.bincount(column[column >= 0], minlength=len(self._codes[name]))
                values = {v: int(counts[c]) for v, c in self._codes[name].items() if counts[c]}
                if len(values) + (column < 0).any() > 1 and 1 <= len(values) <= _LISTED:
                    found[name] = values
            return found

    def numbers(self) -> list[str]:
        """Returns the names of the numbers that differ between rows."""
        with self._lock:
            return [
                name
                for name, column in self._numbers.items()
                if name != "index" and np.unique(column[~np.isnan(column)]).size > 1
            ]

    def select(self, wanted: Selection) -> Ints:
        """Returns the numbers of the selected rows, in order."""
        with self._lock:
            if self._chosen is None or self._chosen[0] != wanted:
                self._chosen = wanted, self._select(wanted)
            return self._chosen[1]

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

    def rows(self, numbers: Sequence[int]) -> list[TableRow]:
        """Returns rows by number."""
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
                TableRow(*place, value, verdict)
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
        """Returns the number of the row with a key; None if absent."""
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
    """Returns a facet's codes [rows] over all files, ``_MISSING`` where rows lack it."""
    return np.concatenate([_filled(f.facets.get(name, ()), f.count, _MISSING) for f in files])


def _values(files: Sequence[_File], name: str) -> Floats:
    """Returns a number's values [rows] over all files, NaN where rows lack it."""
    return np.concatenate([_filled(f.numbers.get(name, ()), f.count, np.nan) for f in files])


def _filled(column: Sequence[float], count: int, missing: float) -> np.ndarray:
    found = np.full(count, missing)
    found[: len(column)] = column
    return found


def _keys(files: Sequence[_File], unknown: int) -> Ints:
    """Returns one key [rows] per sample from problem and index, ``unknown`` where missing."""
    problems, indices = _codes(files, "problem"), _values(files, "index")
    known = (problems >= 0) & (indices >= 0) & (indices < 1 << 31)
    numbers = problems * (1 << 32) + np.where(known, indices, 0).astype(np.int64)
    return np.where(known, numbers, unknown)
