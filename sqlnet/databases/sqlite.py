"""SQLite files, and rows held in memory, that can only be read.

Guards below :func:`codegen.sqlnet.sql.validate`: a read-only connection, ``query_only``, an
authorizer that allows reading the schema's tables and a list of functions, limits on sizes, and a
time limit by the progress handler.

Limit: a file in WAL mode that no process has open is read without its lock files, so that nothing
is written beside it; a process that begins to write to it meanwhile is not noticed.
"""

from __future__ import annotations

import csv
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from codegen.errors import InputError
from codegen.sqlnet.databases.base import DEFAULT_LIMITS, Limits, Rows, too_slow
from codegen.sqlnet.errors import DatabaseError, UnsafeSQLError
from codegen.sqlnet.schema import (
    Column,
    ColumnType,
    Schema,
    Table,
    column_type,
    number_of,
    unique_names,
)
from codegen.sqlnet.sql import Statement, validate

SAMPLE_ROWS = 1000  # how many values of an untyped column decide its type

# Reading a table and calling these is all that a statement may do.
_FUNCTIONS = """
    abs avg ceil ceiling coalesce concat count date day floor ifnull instr length like lower ltrim
    max min month nullif replace round rtrim strftime substr substring sum total trim upper year
"""
_ALLOWED = frozenset(_FUNCTIONS.split())
_OPCODES_BETWEEN_CHECKS = 1000
# What sqlite3 says when the progress handler or ``_lower`` ended a statement. Neither raises an
# error of its own: but for the time limit, it is a Ctrl-C that came while one of them ran.
_STOPPED = ("interrupted", "user-defined function raised exception")


class SqliteDatabase:
    """A SQLite database, on disk or in memory. See :class:`Database`."""

    dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self.name = name
        self._connection = connection
        self._deadline = float("inf")
        try:
            self._prepare()
            self.schema = self._read_schema()
        except sqlite3.Error as error:
            connection.close()
            raise DatabaseError(f"Cannot read {name}: {error}.", _remedy(error)) from None
        except BaseException:
            connection.close()
            raise
        self._readable = {table.name.lower() for table in self.schema.tables}
        connection.set_authorizer(self._authorize)

    @classmethod
    def open(cls, path: str | Path) -> SqliteDatabase:
        """Opens a file for reading.

        Raises:
            DatabaseError: if it is damaged, locked, or holds no table.
        """
        path = Path(path).resolve()
        options = "mode=ro"
        if _is_idle_wal(path):
            options += "&immutable=1"
        uri = f"file:{quote(str(path))}?{options}"
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=2.0, check_same_thread=False)
        except sqlite3.Error as error:
            raise DatabaseError(f"Cannot open {path}: {error}.", _remedy(error)) from None
        return cls(connection, str(path))

    @classmethod
    def from_rows(
        cls, columns: Sequence[str], rows: Iterable[Sequence[Any]], table: str = "table"
    ) -> SqliteDatabase:
        """A table in memory, from its column names and rows; types are read off the values.

        Raises:
            InputError: if a row has another number of values than there are columns.
        """
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        _fill(connection, table, columns, rows)
        return cls(connection, table)

    @classmethod
    def from_table(cls, table: Table, rows: Iterable[Sequence[Any]]) -> SqliteDatabase:
        """A table in memory with the columns and types that ``table`` says.

        Raises:
            InputError: if a row has another number of values than there are columns.
        """
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        types: list[ColumnType] = [column.type for column in table.columns]
        _fill(connection, table.name, [column.name for column in table.columns], rows, types)
        return cls(connection, table.name)

    @classmethod
    def from_csv(cls, *paths: str | Path) -> SqliteDatabase:
        """Tables in memory from CSV files with a header, each called as its file.

        Raises:
            InputError: if one can't be read, is not UTF-8, or a row has another number of values.
        """
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        names = unique_names([Path(path).stem for path in paths])
        for path, name in zip(map(Path, paths), names, strict=True):
            try:
                with path.open(encoding="utf-8-sig", newline="") as file:
                    start = file.read(65536)
                    file.seek(0)
                    reader = csv.reader(file, delimiter=_delimiter(path, start))
                    header = next(reader, None)
                    if not header:
                        raise InputError(f"{path} is empty.", "It needs a line with column names.")
                    _fill(connection, name, header, (row for row in reader if row))
            except OSError as error:
                raise InputError(f"Cannot read {path}: {error.strerror}.") from None
            except UnicodeDecodeError:
                raise InputError(f"{path} is not valid UTF-8.", "Save the file as UTF-8.") from None
            except csv.Error as error:
                raise InputError(f"{path} is not a CSV file: {error}.") from None
        return cls(connection, ", ".join(map(str, paths)))

    @classmethod
    def from_dataframe(cls, frame: Any, table: str = "table") -> SqliteDatabase:
        """A table in memory from a pandas DataFrame (its index left out)."""
        columns = [str(column) for column in frame.columns]
        return cls.from_rows(columns, frame.itertuples(index=False, name=None), table)

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        # Python's own, so that text matches without regard to case beyond ASCII too.
        connection.create_function("lower", 1, _lower, deterministic=True)
        for limit, most in (
            (sqlite3.SQLITE_LIMIT_LENGTH, 10_000_000),
            (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000),
            (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
            (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100),
            (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 20),
        ):
            connection.setlimit(limit, most)
        connection.set_progress_handler(
            lambda: time.monotonic() > self._deadline, _OPCODES_BETWEEN_CHECKS
        )

    def _read_schema(self) -> Schema:
        listed = self._connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
            " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'"
            " ORDER BY name"
        ).fetchall()
        tables = [self._read_table(name) for (name,) in listed]
        found = tuple(table for table in tables if table)
        if not found:
            raise DatabaseError(f"{self.name} holds no table.")
        return Schema(found, self)

    def _read_table(self, name: str) -> Table | None:
        try:
            described = self._connection.execute(
                "SELECT name, type FROM pragma_table_info(?)", (name,)
            ).fetchall()
        except sqlite3.OperationalError:
            return None  # a view whose table is gone: it can't be asked
        columns = tuple(
            Column(column, self._column_type(name, column, declared))
            for column, declared in described
        )
        return Table(name, columns) if columns else None

    def _column_type(self, table: str, column: str, declared: str) -> ColumnType:
        """The type by the declaration's affinity; without one, by the first values."""
        kind = declared.upper()
        if any(word in kind for word in ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC")):
            return "real"
        if any(word in kind for word in ("CHAR", "CLOB", "TEXT", "DATE", "TIME", "BOOL")):
            return "text"
        sample = f"SELECT {_quoted(column)} FROM {_quoted(table)} LIMIT {SAMPLE_ROWS}"
        try:
            return column_type(value for (value,) in self._connection.execute(sample))
        except sqlite3.OperationalError:
            return "text"

    def execute(self, statement: Statement, limits: Limits = DEFAULT_LIMITS) -> Rows:
        """See :class:`Database`."""
        validate(statement.text, self.schema, self.dialect)
        self._deadline = time.monotonic() + limits.seconds
        try:
            cursor = self._connection.execute(statement.text, statement.parameters)
            names = tuple(column[0] for column in cursor.description)
            rows = cursor.fetchmany(limits.rows + 1)
            cursor.close()
        except sqlite3.Error as error:
            if any(text in str(error) for text in _STOPPED):
                if time.monotonic() > self._deadline:
                    raise too_slow(limits) from None
                raise KeyboardInterrupt from None
            if "prohibited" in str(error) or "not authorized" in str(error):
                raise UnsafeSQLError(f"The database refused the statement: {error}.") from None
            raise DatabaseError(f"The statement failed: {error}.", _remedy(error)) from None
        except OverflowError:
            raise DatabaseError("The statement failed: a number is too large.") from None
        finally:
            self._deadline = float("inf")
        return Rows(names, tuple(rows[: limits.rows]), len(rows) > limits.rows)

    def _authorize(
        self, action: int, first: str | None, second: str | None, _db: str | None, via: str | None
    ) -> int:
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        # A view reads tables in the user's name: what the schema's author wrote is allowed.
        if action == sqlite3.SQLITE_READ and first and (first.lower() in self._readable or via):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and second and second.lower() in _ALLOWED:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def _fill(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    types: Sequence[ColumnType] | None = None,
) -> None:
    """Makes a table and fills it; without types, they are read off the values."""
    names = unique_names(columns)
    held = []
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise InputError(
                f"Row {number} of {table!r} has {len(row)} values for {len(names)} columns."
            )
        held.append(tuple(map(_storable, row)))
    if types is None:
        types = [column_type(row[i] for row in held) for i in range(len(names))]
    quoted = ", ".join(
        f"{_quoted(name)} {'REAL' if kind == 'real' else 'TEXT'}"
        for name, kind in zip(names, types, strict=True)
    )
    connection.execute(f"CREATE TABLE {_quoted(table)} ({quoted})")
    marks = ", ".join("?" * len(names))
    connection.executemany(
        f"INSERT INTO {_quoted(table)} VALUES ({marks})",
        (tuple(_typed(v, kind) for v, kind in zip(row, types, strict=True)) for row in held),
    )
    connection.commit()


def _is_idle_wal(path: Path) -> bool:
    """Whether a SQLite file is in WAL mode and nobody has it open (it has no log beside it)."""
    with path.open("rb") as file:
        head = file.read(20)
    log = path.with_name(path.name + "-wal")
    return head[18:20] == b"\x02\x02" and not log.exists()


def _remedy(error: sqlite3.Error) -> str:
    text = str(error)
    if "locked" in text or "busy" in text:
        return "Another program is writing to it: try again when that is done."
    if "unable to open" in text:
        return (
            "If it has a log beside it (its name and -wal), copy both into a folder where files may"
            " be made."
        )
    if "malformed" in text or "not a database" in text:
        return "The file is damaged; try: sqlite3 FILE .recover"
    return ""


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _storable(value: Any) -> str | int | float | None:
    """A value that SQLite can hold: NaN and None are NULL; what it does not know is text."""
    if value is None or value != value:  # NaN alone is unequal to itself
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        with suppress(AttributeError, ValueError):
            value = getattr(value, "item")()  # noqa: B009 - a numpy scalar has it
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
