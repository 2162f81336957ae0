"""The SQLite and DuckDB engines: connections that can only read.

Their guards, besides :func:`codegen.sqlnet.sql.validate`: SQLite has a read-only connection,
``query_only``, an authorizer that allows the schema's tables and listed functions (already while
the schema is read, which may run views), size limits, and a time limit in the progress handler.
SQLite calls that handler between steps, never within a function, and some functions take quadratic
time on long strings, so every file is opened in a child process that can be killed
(:mod:`codegen.sqlnet.databases.child`). DuckDB has a read-only connection with locked settings and
without access to other files, extensions or temporary files, a memory limit, and an interrupt at
the time limit.

Limit: a SQLite file in WAL mode that no process has open is read without its lock files, so that
no file is written next to it; a writer that starts in the meantime goes unnoticed.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from codegen.core.optional_deps import missing
from codegen.sqlnet import databases
from codegen.sqlnet.query import (
    Column,
    ColumnType,
    Statement,
    Table,
    UnsafeSQLError,
    column_type,
)
from codegen.sqlnet.words import quoted

if TYPE_CHECKING:
    import duckdb


SAMPLE_ROWS = 1000  # number of values that decide an untyped column's type
SAMPLE_S = 0.5  # time limit for reading these values; slower columns are text

# Functions that a statement may call.
_FUNCTIONS = """
    abs avg ceil ceiling coalesce concat count date day floor ifnull instr length like lower ltrim
    max min month nullif replace round rtrim strftime substr substring sum total trim upper year
"""
_ALLOWED = frozenset(_FUNCTIONS.split())
_PRAGMAS = ("table_info", "foreign_key_list")  # allowed during schema reading
_LONGEST_IN_CHILD = 10_000_000  # maximum bytes per value
LONGEST_HERE = 50_000  # a quadratic function takes about 30 ms on such a string
# sqlite3's message when the progress handler or ``_lower`` stopped a statement: at the time limit,
# or because of Ctrl-C while one of them was running.
_STOPPED = ("interrupted", "user-defined function raised exception")


class SqliteEngine:
    """A connection with its guards, in this process. See :class:`Engine`.

    Args:
        connection: closed with the engine.
        longest: maximum bytes of a value that a statement may read or create.
        steps: virtual machine steps of SQLite between two checks of the clock.
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
        """Opens a file, or an image of one, for reading, with a child process's limits.

        Raises:
            DatabaseError: if it cannot be opened.
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
            raise databases.DatabaseError(f"Cannot open {path}: {error}.", _remedy(error)) from None

    def _prepare(self, longest: int, steps: int) -> None:
        connection = self.connection
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        # Python's lower() also ignores the case of non-ASCII text.
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
        """Returns the tables; see :class:`Engine`."""
        end = time.monotonic() + databases.OPENING_S
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
                    raise databases.too_slow_to_open(self.name) from None
                raise KeyboardInterrupt from None
            raise databases.DatabaseError(
                f"Cannot read {self.name}: {error}.", _remedy(error)
            ) from None
        finally:
            self._deadline = float("inf")
        self._readable = frozenset(table.name.lower() for table in found)
        return found

    def _read_table(self, name: str, end: float) -> Table | None:
        try:
            described = self.connection.execute(
                "SELECT name, type, pk FROM pragma_table_info(?)", (name,)
            ).fetchall()
            references = self.connection.execute(
                'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?)'
                " ORDER BY id DESC, seq",
                (name,),
            ).fetchall()
        except sqlite3.OperationalError as error:
            if _was_stopped(error):
                raise
            return None  # a view without its table cannot be queried
        columns = [
            Column(column, self._column_type(name, column, declared, end))
            for column, declared, _ in described
        ]
        if not columns:
            return None
        key = sorted((place, column) for column, _, place in described if place)
        foreign = []
        for _, group in groupby(references, key=lambda row: row[0]):  # in declaration order
            rows = list(group)
            targets = [target for *_, target in rows if target is not None]
            foreign.append(([source for _, _, source, _ in rows], rows[0][1], targets))
        return Table.of(name, columns, primary=[column for _, column in key], foreign=foreign)

    def _column_type(self, table: str, column: str, declared: str, end: float) -> ColumnType:
        """Returns the type by the declaration's affinity; without one, by the first values."""
        kind = declared.upper()
        if any(word in kind for word in ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC")):
            return "real"
        if any(word in kind for word in ("CHAR", "CLOB", "TEXT", "DATE", "TIME", "BOOL")):
            return "text"
        sample = f"SELECT {quoted(column)} FROM {quoted(table)} LIMIT {SAMPLE_ROWS}"
        self._deadline = min(end, time.monotonic() + SAMPLE_S)
        # A view's functions cannot be interrupted, so they get only short strings.
        longest = self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_HERE)
        try:
            return column_type(value for (value,) in self.connection.execute(sample))
        except sqlite3.DatabaseError as error:
            if _was_stopped(error) and not self._deadline < time.monotonic() < end:
                raise
            return "text"  # long strings, or unknown (too slow or forbidden)
        finally:
            self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
            self._deadline = end

    def query(self, statement: Statement, limits: databases.StatementLimits) -> databases.ResultSet:
        """Runs a statement; see :class:`Engine`."""
        self._deadline = time.monotonic() + limits.seconds
        try:
            with closing(self.connection.execute(statement.text, statement.parameters)) as cursor:
                names = tuple(column[0] for column in cursor.description)
                return databases.taken(cursor, names, limits)
        except sqlite3.Error as error:
            if _was_stopped(error):
                if time.monotonic() > self._deadline:
                    raise databases.too_slow(limits.seconds) from None
                raise KeyboardInterrupt from None
            if "prohibited" in str(error) or "not authorized" in str(error):
                raise UnsafeSQLError(f"The database rejected the statement: {error}.") from None
            raise databases.DatabaseError(
                f"The statement failed: {error}.", _remedy(error)
            ) from None
        except OverflowError:
            raise databases.DatabaseError("The statement failed: a number is too large.") from None
        finally:
            self._deadline = float("inf")

    def _authorize(
        self, action: int, first: str | None, second: str | None, _db: str | None, via: str | None
    ) -> int:
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA and self._readable is None and first in _PRAGMAS:
            return sqlite3.SQLITE_OK
        # Views read tables on the user's behalf, so the schema author's code is allowed.
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


def _was_stopped(error: sqlite3.Error) -> bool:
    return any(text in str(error) for text in _STOPPED)


def _is_idle_wal(path: Path) -> bool:
    """Returns True if a SQLite file is in WAL mode and not open (it has no log next to it)."""
    with path.open("rb") as file:
        head = file.read(20)
    log = path.with_name(path.name + "-wal")
    return head[18:20] == b"\x02\x02" and not log.exists()


def _remedy(error: sqlite3.Error) -> str:
    text = str(error)
    if "locked" in text or "busy" in text:
        return "Another program is writing to the file; try again later."
    if "unable to open" in text:
        return "If the file has a log (its name and -wal), copy both into a writable folder."
    if "malformed" in text or "not a database" in text:
        return "The file is corrupt; try: sqlite3 FILE .recover"
    return ""


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class DuckDBEngine:
    """A connection with its guards. See :class:`Engine`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        self.name = name
        self.connection = connection

    @classmethod
    def open(cls, path: str) -> DuckDBEngine:
        """Opens a file; raises like :func:`codegen.sqlnet.databases.files.open_database`."""
        duckdb = _duckdb(path)
        try:
            connection = duckdb.connect(
                path, read_only=True, config={"enable_external_access": "false", **_SETTINGS}
            )
            connection.execute("SET lock_configuration = true")
        except duckdb.Error as error:
            raise databases.DatabaseError(f"Cannot open {path}: {_first_line(error)}.") from None
        return cls(connection, path)

    def tables(self) -> tuple[Table, ...]:
        """Returns the tables; see :class:`Engine`."""
        import duckdb

        found: dict[tuple[str, str], list[Column]] = {}
        try:
            with _interrupting(self.connection.interrupt, databases.OPENING_S):
                rows = self.connection.execute(
                    "SELECT table_schema, table_name, column_name, data_type"
                    " FROM information_schema.columns WHERE table_catalog = current_catalog()"
                    " ORDER BY table_schema, table_name, ordinal_position"
                ).fetchall()
                constraints = self.connection.execute(
                    "SELECT schema_name, table_name, constraint_type, constraint_column_names,"
                    " referenced_table, referenced_column_names FROM duckdb_constraints()"
                    " WHERE database_name = current_catalog()"
                    " AND constraint_type IN ('PRIMARY KEY', 'FOREIGN KEY')"
                    " ORDER BY schema_name, table_name, constraint_index"
                ).fetchall()
        except duckdb.InterruptException:
            raise databases.too_slow_to_open(self.name) from None
        except duckdb.Error as error:
            raise databases.DatabaseError(
                f"Cannot read {self.name}: {_first_line(error)}."
            ) from None
        for namespace, table, column, declared in rows:
            numeric = declared.split("(")[0] in _NUMBERS.split()
            found.setdefault((namespace, table), []).append(
                Column(column, "real" if numeric else "text")
            )
        keys: dict[tuple[str, str, str], list[tuple[list[str], str, list[str]]]] = {}
        for namespace, table, kind, *key in constraints:
            keys.setdefault((namespace, table, kind), []).append((key[0], key[1], key[2]))
        return tuple(
            Table.of(
                *(name, columns, namespace),
                primary=keys.get((namespace, name, "PRIMARY KEY"), [([], "", [])])[0][0],
                foreign=keys.get((namespace, name, "FOREIGN KEY"), ()),
            )
            for (namespace, name), columns in found.items()
        )

    def query(self, statement: Statement, limits: databases.StatementLimits) -> databases.ResultSet:
        """Runs a statement; see :class:`Engine`."""
        import duckdb

        try:
            with _interrupting(self.connection.interrupt, limits.seconds):
                done = self.connection.execute(statement.text, list(statement.parameters))
                names = tuple(column[0] for column in done.description or ())
                batches = iter(lambda: done.fetchmany(_ROWS_AT_ONCE), [])
                return databases.taken(chain.from_iterable(batches), names, limits)
        except duckdb.InterruptException:
            raise databases.too_slow(limits.seconds) from None
        except duckdb.Error as error:
            raise databases.DatabaseError(f"The statement failed: {_first_line(error)}.") from None

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()


_ROWS_AT_ONCE = 100
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "1GB",
    "threads": "1",
    # Write no files next to the database; exceeding memory fails.
    "temp_directory": "",
    "max_temp_directory_size": "0B",
}


def _duckdb(path: str) -> Any:
    try:
        import duckdb
    except ImportError:
        message = f"{path} is a DuckDB file, and duckdb is not installed."
        raise missing("duckdb", message) from None
    return duckdb


_NUMBERS = """
    TINYINT SMALLINT INTEGER BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT UHUGEINT
    FLOAT DOUBLE DECIMAL
"""


@contextmanager
def _interrupting(interrupt: Callable[[], None], seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # so that a late interrupt cannot hit the next statement


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
