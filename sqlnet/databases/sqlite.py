"""SQLite files, and rows held in memory, that can only be read.

Guards below :func:`codegen.sqlnet.sql.validate`: a read-only connection, ``query_only``, an
authorizer that allows reading the schema's tables and a list of functions (from the reading of the
schema on, which can run views), limits on sizes, and a time limit by the progress handler. SQLite
calls that handler between two steps of a statement, never within a function, and some functions
take quadratic time on long texts. So what may hold long texts, that is every file, is opened in a
child process (:mod:`codegen.sqlnet.databases.child`) that can be killed. Only rows in memory whose
texts are all short are read here, with a low limit on what a function can make of them.

Limit: a file in WAL mode that no process has open is read without its lock files, so that nothing
is written beside it; a process that begins to write to it meanwhile is not noticed.
"""

from __future__ import annotations

import csv
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from codegen.errors import InputError
from codegen.sqlnet.databases.base import (
    OPENING_S,
    Engine,
    EngineDatabase,
    Limits,
    Rows,
    taken,
    too_slow,
    too_slow_to_open,
)
from codegen.sqlnet.databases.child import Child
from codegen.sqlnet.errors import DatabaseError, UnsafeSQLError
from codegen.sqlnet.schema import (
    Column,
    ColumnType,
    Table,
    column_type,
    number_of,
    unique_names,
)
from codegen.sqlnet.sql import Statement

SAMPLE_ROWS = 1000  # how many values of an untyped column decide its type
SAMPLE_S = 0.5  # how long reading them may take; a column that takes longer is text
MOST_COLUMNS = 2000  # of a table; SQLite's own limit

# Reading a table and calling these is all that a statement may do.
_FUNCTIONS = """
    abs avg ceil ceiling coalesce concat count date day floor ifnull instr length like lower ltrim
    max min month nullif replace round rtrim strftime substr substring sum total trim upper year
"""
_ALLOWED = frozenset(_FUNCTIONS.split())
_LONGEST_IN_CHILD = 10_000_000  # bytes of a value
_LONGEST_HERE = 50_000  # a quadratic function takes about 30 ms on such a text
_SHORT = 10_000  # bytes; rows with longer texts go to a child
# What sqlite3 says when the progress handler or ``_lower`` ended a statement. Neither raises an
# error of its own: but for the time limit, it is a Ctrl-C that came while one of them ran.
_STOPPED = ("interrupted", "user-defined function raised exception")


class SqliteEngine:
    """A connection with its guards, in this process. See :class:`Engine`.

    Args:
        connection: open; closed with the engine.
        name: for messages.
        longest: bytes of the longest value that a statement may read or make.
        steps: of SQLite's machine between two looks at the clock.
    """

    def __init__(
        self, connection: sqlite3.Connection, name: str, *, longest: int, steps: int
    ) -> None:
        self.name = name
        self.connection = connection
        self._deadline = float("inf")
        self._readable: frozenset[str] | None = None  # None while the schema is read
        self._prepare(longest, steps)

    @classmethod
    def open(cls, path: str, image: bytes = b"") -> SqliteEngine:
        """Opens a file for reading, or the content of one, with the limits of a child process.

        Raises:
            DatabaseError: if it can't be opened.
        """
        try:
            if image:
                connection = sqlite3.connect(":memory:")
                connection.deserialize(image)
            else:
                options = "mode=ro&immutable=1" if _is_idle_wal(Path(path)) else "mode=ro"
                connection = sqlite3.connect(f"file:{quote(path)}?{options}", uri=True, timeout=2.0)
                connection.execute("PRAGMA temp_store = MEMORY")  # sorting must write no files
            return cls(connection, path, longest=_LONGEST_IN_CHILD, steps=1000)
        except sqlite3.Error as error:
            raise DatabaseError(f"Cannot open {path}: {error}.", _remedy(error)) from None

    def _prepare(self, longest: int, steps: int) -> None:
        connection = self.connection
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        # Python's own, so that text matches without regard to case beyond ASCII too.
        connection.create_function("lower", 1, _lower, deterministic=True)
        for limit, most in (
            (sqlite3.SQLITE_LIMIT_LENGTH, longest),
            (sqlite3.SQLITE_LIMIT_SQL_LENGTH, min(longest, 100_000)),
            (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
            (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100),
            (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 20),
            (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
        ):
            connection.setlimit(limit, most)
        connection.set_progress_handler(lambda: time.monotonic() > self._deadline, steps)
        connection.set_authorizer(self._authorize)

    def tables(self) -> tuple[Table, ...]:
        """See :class:`Engine`."""
        end = time.monotonic() + OPENING_S
        self._deadline = end
        self._readable = None
        try:
            listed = self.connection.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
                " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'"
                " ORDER BY name"
            ).fetchall()
            read = (self._read_table(name, end) for (name,) in listed)
            found = tuple(table for table in read if table)
        except sqlite3.Error as error:
            if _was_stopped(error):
                if time.monotonic() > end:
                    raise too_slow_to_open(self.name) from None
                raise KeyboardInterrupt from None
            raise DatabaseError(f"Cannot read {self.name}: {error}.", _remedy(error)) from None
        finally:
            self._deadline = float("inf")
        self._readable = frozenset(table.name.lower() for table in found)
        return found

    def _read_table(self, name: str, end: float) -> Table | None:
        try:
            described = self.connection.execute(
                "SELECT name, type FROM pragma_table_info(?)", (name,)
            ).fetchall()
        except sqlite3.OperationalError as error:
            if _was_stopped(error):
                raise
            return None  # a view whose table is gone: it can't be asked
        columns = tuple(
            Column(column, self._column_type(name, column, declared, end))
            for column, declared in described
        )
        return Table(name, columns) if columns else None

    def _column_type(self, table: str, column: str, declared: str, end: float) -> ColumnType:
        """The type by the declaration's affinity; without one, by the first values."""
        kind = declared.upper()
        if any(word in kind for word in ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC")):
            return "real"
        if any(word in kind for word in ("CHAR", "CLOB", "TEXT", "DATE", "TIME", "BOOL")):
            return "text"
        sample = f"SELECT {_quoted(column)} FROM {_quoted(table)} LIMIT {SAMPLE_ROWS}"
        self._deadline = min(end, time.monotonic() + SAMPLE_S)
        # A view's functions can't be interrupted, so they get short texts alone.
        longest = self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_HERE)
        try:
            return column_type(value for (value,) in self.connection.execute(sample))
        except sqlite3.DatabaseError as error:
            if _was_stopped(error) and not self._deadline < time.monotonic() < end:
                raise
            return "text"  # long texts, or it is not known: too slow, or a function not allowed
        finally:
            self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
            self._deadline = end

    def query(self, statement: Statement, limits: Limits) -> Rows:
        """See :class:`Engine`."""
        self._deadline = time.monotonic() + limits.seconds
        try:
            with closing(self.connection.execute(statement.text, statement.parameters)) as cursor:
                names = tuple(column[0] for column in cursor.description)
                return taken(cursor, names, limits)
        except sqlite3.Error as error:
            if _was_stopped(error):
                if time.monotonic() > self._deadline:
                    raise too_slow(limits.seconds) from None
                raise KeyboardInterrupt from None
            if "prohibited" in str(error) or "not authorized" in str(error):
                raise UnsafeSQLError(f"The database refused the statement: {error}.") from None
            raise DatabaseError(f"The statement failed: {error}.", _remedy(error)) from None
        except OverflowError:
            raise DatabaseError("The statement failed: a number is too large.") from None
        finally:
            self._deadline = float("inf")

    def _authorize(
        self, action: int, first: str | None, second: str | None, _db: str | None, via: str | None
    ) -> int:
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA and self._readable is None and first == "table_info":
            return sqlite3.SQLITE_OK
        # A view reads tables in the user's name: what the schema's author wrote is allowed.
        if action == sqlite3.SQLITE_READ and first and (self._reads(first) or via):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and second and second.lower() in _ALLOWED:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    def _reads(self, table: str) -> bool:
        return self._readable is None or table.lower() in self._readable

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()


class SqliteDatabase(EngineDatabase):
    """A SQLite database, on disk or in memory. See :class:`Database`."""

    dialect = "sqlite"

    @classmethod
    def open(cls, path: str | Path) -> SqliteDatabase:
        """Opens a file for reading.

        Raises:
            DatabaseError: if it is damaged, locked, takes too long to read, or holds no table.
        """
        path = str(Path(path).resolve())
        return cls(Child("sqlite", path), path)

    @classmethod
    def from_rows(
        cls, columns: Sequence[str], rows: Iterable[Sequence[Any]], table: str = "table"
    ) -> SqliteDatabase:
        """A table in memory, from its column names and rows; types are read off the values.

        Raises:
            InputError: if a row has another number of values than there are columns, or a table
                can't hold what is given.
        """
        return cls._in_memory([(table, columns, rows, None)], table)

    @classmethod
    def from_table(cls, table: Table, rows: Iterable[Sequence[Any]]) -> SqliteDatabase:
        """A table in memory with the columns and types that ``table`` says.

        Raises:
            InputError: see :meth:`from_rows`.
        """
        types: list[ColumnType] = [column.type for column in table.columns]
        columns = [column.name for column in table.columns]
        return cls._in_memory([(table.name, columns, rows, types)], table.name)

    @classmethod
    def from_csv(cls, *paths: str | Path) -> SqliteDatabase:
        """Tables in memory from CSV files with a header, each called as its file.

        Raises:
            InputError: if one can't be read, is not UTF-8, or a row has another number of values.
        """
        names = unique_names([Path(path).stem for path in paths])
        found = zip(map(Path, paths), names, strict=True)
        read = ((name, *_read_csv(path), None) for path, name in found)
        return cls._in_memory(read, ", ".join(map(str, paths)))

    @classmethod
    def from_dataframe(cls, frame: Any, table: str = "table") -> SqliteDatabase:
        """A table in memory from a pandas DataFrame (its index left out)."""
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
                engine = SqliteEngine(connection, name, longest=_LONGEST_HERE, steps=100)
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
                raise InputError(f"{path} is empty.", "It needs a line with column names.")
            return header, [row for row in reader if row]
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
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
    """Makes a table and fills it; without types, they are read off the values.

    Returns:
        The bytes of its longest text.
    """
    if len(columns) > MOST_COLUMNS:
        raise InputError(
            f"The table {table!r} has {len(columns)} columns; at most {MOST_COLUMNS} are taken.",
            "Leave out those that are not asked for.",
        )
    names = unique_names(columns)
    for name in (table, *names):
        if "\0" in name or not _is_utf8(name):
            raise InputError(f"{name!r} can't be the name of a table or column.", "Rename it.")
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
    longest = max((_bytes(value) for row in held for value in row), default=0)
    marks = ", ".join("?" * len(names))
    try:
        connection.execute(f"CREATE TABLE {_quoted(table)} ({quoted})")
        connection.executemany(
            f"INSERT INTO {_quoted(table)} VALUES ({marks})",
            (tuple(_typed(v, kind) for v, kind in zip(row, types, strict=True)) for row in held),
        )
    except (sqlite3.Error, UnicodeEncodeError) as error:
        raise InputError(f"The table {table!a} can't be made: {error}.") from None
    connection.commit()
    return longest


def _bytes(value: Any) -> int:
    """Of a text in UTF-8, at most."""
    return len(value) * (1 if value.isascii() else 4) if isinstance(value, str) else 0


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _was_stopped(error: sqlite3.Error) -> bool:
    return any(text in str(error) for text in _STOPPED)


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
