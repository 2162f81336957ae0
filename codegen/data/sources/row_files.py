"""Files of rows, of any format that can be read row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen.data.sources.base import Item, Rejected, file_digest
from codegen.data.sources.jsonl import jsonl_rows
from codegen.data.sources.parquet import parquet_rows
from codegen.data.sources.rows import Columns, RowDefaults, examples_of_rows

Reader = Callable[[Path, str, Columns], Iterator[tuple[str, Mapping[str, Any] | Rejected, float]]]
"""Reads the file at a path, named so on the command line, with some columns: yields each row's
place, the row, and the share of the file that has been read."""

READERS: Mapping[str, Reader] = {"jsonl": jsonl_rows, "parquet": parquet_rows}
_ENDINGS = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def format_of(path: Path) -> str | None:
    """The format of a file by its name; None if it is no file of rows."""
    return next((kind for ending, kind in _ENDINGS.items() if path.name.endswith(ending)), None)


@dataclass(slots=True)
class RowFileSource:
    """The rows of one file; ``kind`` names its format."""

    kind: str
    path: Path
    spec: str
    columns: Columns = field(default_factory=Columns)
    language: str = "python"
    licence: str = ""
    _fraction: float | None = None

    def describe(self) -> Mapping[str, Any]:
        """The path as given, the file's digest and the columns."""
        return {
            "kind": self.kind,
            "spec": self.spec,
            "sha256": file_digest(self.path),
            "columns": self.columns.describe(),
            "language": self.language,
            "licence": self.licence,
        }

    def fraction(self) -> float | None:
        """The share of the file that has been read."""
        return self._fraction

    def __iter__(self) -> Iterator[Item]:
        """Streams the rows."""
        defaults = RowDefaults(self.path.name, self.language, self.licence)
        return examples_of_rows(self._rows(), self.columns, defaults, self.spec)

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any] | Rejected]]:
        for place, row, fraction in READERS[self.kind](self.path, self.spec, self.columns):
            self._fraction = fraction
            yield place, row
