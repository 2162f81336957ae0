"""JSON Lines, plain or gzipped: one object a line, read line by line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from codegen.data.sources.base import Item, Rejected, file_digest
from codegen.data.sources.rows import Columns, RowDefaults, examples_of_rows
from codegen.errors import InputError

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is skipped unread, so that a file without line ends can't fill the memory."""


@dataclass(slots=True)
class JsonlSource:
    """The rows of a ``.jsonl`` or ``.jsonl.gz`` file."""

    path: Path
    spec: str
    columns: Columns = field(default_factory=Columns)
    language: str = "python"
    licence: str = ""
    _fraction: float | None = None

    def describe(self) -> Mapping[str, Any]:
        """The path as given, the file's digest and the columns."""
        return {
            "kind": "jsonl",
            "spec": self.spec,
            "sha256": file_digest(self.path),
            "columns": list(self.columns.required),
            "language": self.language,
            "licence": self.licence,
        }

    def fraction(self) -> float | None:
        """The share of the file's bytes that has been read."""
        return self._fraction

    def __iter__(self) -> Iterator[Item]:
        """Streams the rows."""
        defaults = RowDefaults(self.path.name, self.language, self.licence)
        return examples_of_rows(self._rows(), self.columns, defaults, self.spec)

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any] | Rejected]]:
        size = max(1, self.path.stat().st_size)
        try:
            raw = self.path.open("rb")
        except OSError as error:
            raise InputError(f"Cannot read {self.path}: {error.strerror}.") from None
        with raw:
            zipped = self.path.suffix == ".gz"
            file = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if zipped else raw)
            number = 0
            try:
                for number, line in enumerate(_lines(file), 1):
                    self._fraction = min(1.0, raw.tell() / size)
                    place = f"{self.path.name}:{number}"
                    row = _parse(line, place, first=number == 1)
                    if row is not None:
                        yield place, row
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                # A cut download: what came before is sound, and the loss must be visible.
                place = f"{self.path.name}:{number + 1}"
                yield place, Rejected(place, "damaged_archive", f"{error}; the rest is lost")


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines of a file; None stands for one that is too long."""
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None


def _parse(line: bytes | None, place: str, first: bool) -> Mapping[str, Any] | Rejected | None:
    """A decoded row, a rejection, or None for a blank line."""
    if line is None:
        return Rejected(place, "line_too_long", f"over {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode("utf-8-sig" if first else "utf-8").strip()
    except UnicodeDecodeError as error:
        return Rejected(place, "not_utf8", str(error))
    if not text:
        return None
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Rejected(place, "bad_json", str(error))
    if not isinstance(row, dict):
        return Rejected(place, "not_an_object", f"a JSON {type(row).__name__}")
    return row
