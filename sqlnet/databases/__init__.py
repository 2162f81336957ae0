"""Databases that can only be read, opened by file.

Whatever statement reaches one passes :func:`codegen.sqlnet.sql.validate` first; below that the
engines' own guards hold.
"""

from __future__ import annotations

from pathlib import Path

from codegen.errors import InputError
from codegen.sqlnet.databases.base import Database, Limits, Rows
from codegen.sqlnet.databases.duckdb import DuckDBDatabase
from codegen.sqlnet.databases.sqlite import SqliteDatabase

_REMEDY = "Give a SQLite, DuckDB, .csv or .tsv file."

__all__ = ["Database", "DuckDBDatabase", "Limits", "Rows", "SqliteDatabase", "open_database"]


def open_database(path: str | Path) -> Database:
    """A database by its file: SQLite, DuckDB, or CSV (``.csv``, ``.tsv``); by content, then name.

    Raises:
        InputError: if there is no such file, or it is none of these.
        DatabaseError: if it is damaged or locked.
    """
    path = Path(path)
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():
            raise InputError(f"{path} is no file, but a pipe, a device or a socket.", _REMEDY)
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    if not head:
        raise InputError(f"{path} is empty.", _REMEDY)
    if head.startswith(b"SQLite format 3\0"):
        return SqliteDatabase.open(path)
    if head[8:12] == b"DUCK":
        return DuckDBDatabase.open(path)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return SqliteDatabase.from_csv(path)
    raise InputError(f"{path} is no database that can be read.", _REMEDY)
