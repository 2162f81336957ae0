"""Databases from files, data frames, rows and servers: an engine and the statement check.

Every file is opened in a child process that can be killed (:mod:`.child`), since some SQL functions
take quadratic time on long strings. Only rows in memory with short strings stay in this process,
with a low limit on the size of values.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from codegen.core.errors import InputError, cannot_read
from codegen.core.records import has_lone_surrogate
from codegen.sqlnet.databases import (
    DEFAULT_LIMITS,
    DatabaseError,
    Engine,
    ResultSet,
    StatementLimits,
)
from codegen.sqlnet.databases.child import Child
from codegen.sqlnet.databases.engines import LONGEST_HERE, SqliteEngine
from codegen.sqlnet.databases.server import ServerEngine, is_address
from codegen.sqlnet.query import ColumnType, Statement, Table, column_type, unique_names
from codegen.sqlnet.sql import validate
from codegen.sqlnet.words import number_of, one_line, quoted

MOST_COLUMNS = 2000  # per table; SQLite's own limit
_SHORT = 10_000  # bytes; rows with longer strings go to a child process
_REMEDY = "Pass a SQLite, DuckDB, .csv or .tsv file."


class Database:
    """A read-only engine whose statements are checked.

    Attributes:
        dialect: sqlglot dialect.
        tables: the tables and views, at least one.
    """

    def __init__(self, engine: Engine, name: str, dialect: str = "sqlite") -> None:
        self.name, self.dialect = name, dialect
        self.engine = engine
        try:
            if not (tables := engine.tables()):
                raise DatabaseError(f"{name} has no tables.")
            self.tables = tables
        except BaseException:
            engine.close()
            raise

    def execute(self, statement: Statement, limits: StatementLimits = DEFAULT_LIMITS) -> ResultSet:
        """Runs a statement.

        Raises:
            UnsafeSQLError: if it is not a single SELECT on the tables; nothing is executed.
            TooSlowError: if it takes longer than the limit.
            DatabaseError: if the statement fails.
        """
        validate(statement.text, self.tables, self.dialect)
        return self.engine.query(statement, limits)

    def close(self) -> None:
        """Closes the engine."""
        self.engine.close()


def open_database(path: str | Path, *, may_write: bool = False) -> Database:
    """Opens a SQLite, DuckDB, ``.csv`` or ``.tsv`` file, detected by content, then name;
    or a server, by its address (:mod:`codegen.sqlnet.databases.server`).

    Args:
        may_write: accept a server's role that can write.

    Raises:
        InputError: if the file is missing or unsupported.
        ConfigError: if duckdb or a server's driver is not installed, or the role can write.
        DatabaseError: if it is corrupt, locked, unreachable, or has no tables.
    """
    if isinstance(path, str) and is_address(path):
        server = ServerEngine.open(path, may_write=may_write)
        return Database(server, server.name, server.dialect)
    path = Path(path)
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():
            raise InputError(f"{path} is a pipe, a device or a socket, not a file.", _REMEDY)
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise cannot_read(path, error) from None
    if not head:
        raise InputError(f"{path} is empty.", _REMEDY)
    if head.startswith(b"SQLite format 3\0"):
        return SqliteDatabase.open(path)
    if head[8:12] == b"DUCK":
        full = str(path.resolve())
        return Database(Child("duckdb", full), full, "duckdb")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return SqliteDatabase.from_csv(path)
    raise InputError(f"{path} is not a readable database.", _REMEDY)


class SqliteDatabase(Database):
    """A SQLite database, on disk or in memory; see :class:`Database`."""

    @classmethod
    def open(cls, path: str | Path) -> SqliteDatabase:
        """Opens a file for reading.

        Raises:
            DatabaseError: if it is corrupt, locked, takes too long to read, or has no tables.
        """
        path = str(Path(path).resolve())
        return cls(Child("sqlite", path), path)

    @classmethod
    def from_rows(
        cls, columns: Sequence[str], rows: Iterable[Sequence[Any]], table: str = "table"
    ) -> SqliteDatabase:
        """Builds a table in memory, with types inferred from the values.

        Raises:
            InputError: if a row's number of values is not the number of columns, or SQLite cannot
                create the table.
        """
        return cls._in_memory([(table, columns, rows, None)], table)

    @classmethod
    def from_table(cls, table: Table, rows: Iterable[Sequence[Any]]) -> SqliteDatabase:
        """Builds a table in memory with the columns and types of ``table``.

        Raises:
            InputError: see :meth:`from_rows`.
        """
        types: list[ColumnType] = [column.type for column in table.columns]
        columns = [column.name for column in table.columns]
        return cls._in_memory([(table.name, columns, rows, types)], table.name)

    @classmethod
    def from_csv(cls, *paths: str | Path) -> SqliteDatabase:
        """Builds tables in memory from CSV files with a header, named after their files.

        Raises:
            InputError: if a file is unreadable or not UTF-8, or a row's number of values differs.
        """
        names = unique_names([Path(path).stem for path in paths])
        found = zip(map(Path, paths), names, strict=True)
        read = ((name, *_read_csv(path), None) for path, name in found)
        return cls._in_memory(read, ", ".join(map(str, paths)))

    @classmethod
    def from_dataframe(cls, frame: Any, table: str = "table") -> SqliteDatabase:
        """Builds a table in memory from a pandas DataFrame, without its index."""
        columns = [str(column) for column in frame.columns]
        return cls.from_rows(columns, frame.itertuples(index=False, name=None), table)

    @classmethod
    def _in_memory(cls, tables: Iterable[_Filling], name: str) -> SqliteDatabase:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            longest = max((_fill(connection, *table) for table in tables), default=0)
            engine: Engine
            if longest > _SHORT:
                engine = Child("sqlite", name, connection.serialize())
                connection.close()
            else:
                engine = SqliteEngine(connection, name, longest=LONGEST_HERE, steps=100)
        except BaseException:
            connection.close()
            raise
        return cls(engine, name)


_Filling = tuple[str, Sequence[str], Iterable[Sequence[Any]], Sequence[ColumnType] | None]


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.read(65536)
            file.seek(0)
            reader = csv.reader(file, delimiter=_delimiter(path, start))
            header = next(reader, None)
            if not header:
                raise InputError(f"{path} is empty.", "Add a line with column names.")
            return header, [row for row in reader if row]
    except OSError as error:
        raise cannot_read(path, error) from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not valid UTF-8.", "Save the file as UTF-8.") from None
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file: {error}.") from None


def _fill(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    types: Sequence[ColumnType] | None = None,
) -> int:
    """Creates and fills a table, types inferred by default; returns the longest string's bytes."""
    if len(columns) > MOST_COLUMNS:
        raise InputError(
            f"The table {table!r} has {len(columns)} columns; at most {MOST_COLUMNS} are "
            "supported.",
            "Remove unused columns.",
        )
    names = unique_names(columns)
    for name in (table, *names):
        if "\0" in name or has_lone_surrogate(name):
            raise InputError(
                f"{one_line(repr(name))} is not a valid table or column name.",
                "Rename it, or check that the file is text.",
            )
    held = []
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise InputError(
                f"Row {number} of {table!r} has {len(row)} values for {len(names)} columns.",
                "Make every row as long as the header.",
            )
        held.append(tuple(map(_storable, row)))
    if types is None:
        types = [column_type(row[i] for row in held) for i in range(len(names))]
    declared = ", ".join(
        f"{quoted(name)} {'REAL' if kind == 'real' else 'TEXT'}"
        for name, kind in zip(names, types, strict=True)
    )
    longest = max((_bytes(value) for row in held for value in row), default=0)
    marks = ", ".join("?" * len(names))
    try:
        connection.execute(f"CREATE TABLE {quoted(table)} ({declared})")
        connection.executemany(
            f"INSERT INTO {quoted(table)} VALUES ({marks})",
            (tuple(_typed(v, kind) for v, kind in zip(row, types, strict=True)) for row in held),
        )
    except (sqlite3.Error, UnicodeEncodeError) as error:
        raise InputError(f"The table {table!a} cannot be created: {error}.") from None
    connection.commit()
    return longest


def _bytes(value: Any) -> int:
    """Returns an upper bound of a string's bytes in UTF-8."""
    return len(value) * (1 if value.isascii() else 4) if isinstance(value, str) else 0


def _storable(value: Any) -> str | int | float | None:
    """Converts to a value that SQLite can store: NaN and None become NULL, unknown types text."""
    if value is None or value != value:  # only NaN is unequal to itself
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        with suppress(AttributeError, ValueError):
            value = getattr(value, "item")()  # noqa: B009 - of a numpy scalar
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if isinstance(value, float) or abs(value) < 2**63 else float(value)
    return str(value)


def _typed(value: str | int | float | None, kind: str) -> str | int | float | None:
    if kind == "real" and isinstance(value, str):
        return number_of(value)  # None for an empty cell
    return value if value is None or kind == "real" else str(value)


def _delimiter(path: Path, start: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = start.split("\n", 1)[0]
    return max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))
