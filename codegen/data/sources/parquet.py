"""Parquet files, read in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codegen.data.sources.rows import Columns, missing_columns
from codegen.errors import InputError

BATCH_ROWS = 256


def parquet_rows(
    path: Path, spec: str, columns: Columns
) -> Iterator[tuple[str, Mapping[str, Any], float]]:
    """The rows of a ``.parquet`` file, of the columns in use: place, row, share of the rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{spec} is not a readable Parquet file: {error}.") from None
    with file:
        names = file.schema_arrow.names
        wanted = [name for name in (*columns.required, *columns.extra, "id") if name in names]
        if missing := [name for name in columns.required if name not in names]:
            raise missing_columns(set(missing), names, spec)
        number = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(wanted))):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}:{number}", row, number / file.metadata.num_rows
