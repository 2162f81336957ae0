"""The DuckDB engine: a connection that can only read; needs the package duckdb.

Guards below :func:`codegen.sqlnet.sql.validate`: a read-only connection with locked settings and
without access to other files, extensions or temporary files, a memory limit, an interrupt at the
time limit, and a child process that is killed if the interrupt does not help.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.extras import missing
from codegen.sqlnet.databases import (
    OPENING_S,
    DatabaseError,
    Rows,
    StatementLimits,
    taken,
    too_slow,
    too_slow_to_open,
)
from codegen.sqlnet.query import Column, ForeignKey, Statement, Table
from codegen.sqlnet.words import quoted

if TYPE_CHECKING:
    import duckdb


class DuckDBEngine:
    """A connection with its guards. See :class:`Engine`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        self.name = name
        self.connection = connection

    @classmethod
    def open(cls, path: str) -> DuckDBEngine:
        """Opens a file; raises like :meth:`codegen.sqlnet.databases.files.DuckDBDatabase.open`."""
        duckdb = _duckdb(path)
        try:
            connection = duckdb.connect(
                path, read_only=True, config={"enable_external_access": "false", **_SETTINGS}
            )
            connection.execute("SET lock_configuration = true")
        except duckdb.Error as error:
            raise DatabaseError(f"Cannot open {path}: {_first_line(error)}.") from None
        return cls(connection, path)

    @classmethod
    def from_parquet(cls, path: str) -> DuckDBEngine:
        """Reads a Parquet file into memory, then blocks other files; raises like :meth:`open`."""
        duckdb = _duckdb(path)
        try:
            connection = duckdb.connect(":memory:", config=_SETTINGS)
            name = quoted(Path(path).stem)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM read_parquet(?)", [path])
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
        except duckdb.Error as error:
            raise DatabaseError(f"Cannot open {path}: {_first_line(error)}.") from None
        return cls(connection, path)

    def tables(self) -> tuple[Table, ...]:
        """See :class:`Engine`."""
        import duckdb

        found: dict[tuple[str, str], list[Column]] = {}
        try:
            with _interrupting(self.connection.interrupt, OPENING_S):
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
            raise too_slow_to_open(self.name) from None
        except duckdb.Error as error:
            raise DatabaseError(f"Cannot read {self.name}: {_first_line(error)}.") from None
        for namespace, table, column, declared in rows:
            numeric = declared.split("(")[0] in _NUMBERS.split()
            found.setdefault((namespace, table), []).append(
                Column(column, "real" if numeric else "text")
            )
        primary: dict[tuple[str, str], tuple[int, ...]] = {}
        foreign: dict[tuple[str, str], list[ForeignKey]] = {}
        for namespace, table, kind, names, target, targets in constraints:
            held = [column.name for column in found.get((namespace, table), ())]
            if not set(names) <= set(held):
                continue
            numbers = tuple(held.index(name) for name in names)
            if kind == "PRIMARY KEY":
                primary[namespace, table] = numbers
            else:
                key = ForeignKey(numbers, target, tuple(targets))
                foreign.setdefault((namespace, table), []).append(key)
        return tuple(
            Table(
                name[1],
                tuple(columns),
                name[0],
                primary.get(name, ()),
                tuple(foreign.get(name, ())),
            )
            for name, columns in found.items()
        )

    def query(self, statement: Statement, limits: StatementLimits) -> Rows:
        """See :class:`Engine`."""
        import duckdb

        try:
            with _interrupting(self.connection.interrupt, limits.seconds):
                done = self.connection.execute(statement.text, list(statement.parameters))
                names = tuple(column[0] for column in done.description or ())
                batches = iter(lambda: done.fetchmany(_ROWS_AT_ONCE), [])
                return taken(chain.from_iterable(batches), names, limits)
        except duckdb.InterruptException:
            raise too_slow(limits.seconds) from None
        except duckdb.Error as error:
            raise DatabaseError(f"The statement failed: {_first_line(error)}.") from None

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()


_ROWS_AT_ONCE = 100
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "1GB",
    "threads": "1",
    # Nothing is written beside the file; what exceeds memory fails.
    "temp_directory": "",
    "max_temp_directory_size": "0B",
}


def _duckdb(path: str) -> Any:
    try:
        import duckdb
    except ImportError:
        message = f"{path} is a DuckDB or Parquet file, and duckdb is not installed."
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
        timer.join()  # so that a late interrupt can't hit the next statement


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
