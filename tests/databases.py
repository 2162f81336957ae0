"""Makes database files for tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path


def sqlite_file(path: Path, script: str, **rows: Sequence[Sequence[object]]) -> Path:
    """Runs a script in a new database, then adds rows, by table; no journal is left beside it."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    for table, values in rows.items():
        marks = ", ".join("?" * len(values[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
    connection.commit()
    connection.close()
    return path
