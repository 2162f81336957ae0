"""JSON Lines, plain or gzipped: one object a line, read line by line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from codegen.data.sources.base import Rejected
from codegen.data.sources.rows import Columns
from codegen.errors import InputError

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is skipped unread, so that a file without line ends can't fill the memory."""


def jsonl_rows(
    path: Path, _spec: str, _columns: Columns
) -> Iterator[tuple[str, Mapping[str, Any] | Rejected, float]]:
    """The rows of a ``.jsonl`` or ``.jsonl.gz`` file: place, row, share of the bytes read."""
    size = max(1, path.stat().st_size)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    with raw:
        zipped = path.suffix == ".gz"
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if zipped else raw)
        number = 0
        try:
            for number, line in enumerate(_lines(file), 1):
                place = f"{path.name}:{number}"
                row = _parse(line, place, first=number == 1)
                if row is not None:
                    yield place, row, min(1.0, raw.tell() / size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            # A cut download: what came before is sound, and the loss must be visible.
            place = f"{path.name}:{number + 1}"
            yield place, Rejected(place, "damaged_archive", f"{error}; the rest is lost"), 1.0


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
