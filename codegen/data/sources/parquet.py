"""Parquet files, read in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen.data.sources.base import Item, file_digest
from codegen.data.sources.rows import Columns, RowDefaults, examples_of_rows, missing_columns
from codegen.errors import InputError

BATCH_ROWS = 256


@dataclass(slots=True)
class ParquetSource:
    """The rows of a ``.parquet`` file; only the columns in use are read."""

    path: Path
    spec: str
    columns: Columns = field(default_factory=Columns)
    language: str = "python"
    licence: str = ""
    _fraction: float | None = None

    def describe(self) -> Mapping[str, Any]:
        """The path as given, the file's digest and the columns."""
        return {
            "kind": "parquet",
            "spec": self.spec,
            "sha256": file_digest(self.path),
            "columns": list(self.columns.required),
            "language": self.language,
            "licence": self.licence,
        }

    def fraction(self) -> float | None:
        """The share of the rows that has been read."""
        return self._fraction

    def __iter__(self) -> Iterator[Item]:
        """Streams the rows."""
        defaults = RowDefaults(self.path.name, self.language, self.licence)
        return examples_of_rows(self._rows(), self.columns, defaults, self.spec)

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(self.path)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{self.spec} is not a readable Parquet file: {error}.") from None
        with file:
            names = file.schema_arrow.names
            wanted = [name for name in (*self.columns.required, "id") if name in names]
            if missing := [name for name in self.columns.required if name not in names]:
                raise missing_columns(set(missing), names, self.spec)
            number = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(wanted))):
                for row in batch.to_pylist():
                    number += 1
                    self._fraction = number / file.metadata.num_rows
                    yield f"{self.path.name}:{number}", row
