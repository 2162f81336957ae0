"""DuckDB files that can only be read; needs the package duckdb.

Guards below :func:`codegen.sqlnet.sql.validate`: a read-only connection without access to other
files or extensions, whose settings are locked, a memory limit, and an interrupt after the time
limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from codegen.errors import ConfigError
from codegen.sqlnet.databases.base import DEFAULT_LIMITS, Limits, Rows, too_slow
from codegen.sqlnet.errors import DatabaseError
from codegen.sqlnet.schema import Column, Schema, Table
from codegen.sqlnet.sql import Statement, validate

if TYPE_CHECKING:
    import duckdb


class DuckDBDatabase:
    """A DuckDB file. See :class:`Database`; needs the package duckdb."""

    dialect = "duckdb"

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        self.name = name
        self._connection = connection
        try:
            self.schema = self._read_schema()
        except BaseException:
            connection.close()
            raise

    @classmethod
    def open(cls, path: str | Path) -> DuckDBDatabase:
        """Opens a file for reading.

        Raises:
            ConfigError: if duckdb is not installed.
            DatabaseError: if the file is damaged, locked, or holds no table.
        """
        try:
            import duckdb
        except ImportError:
            raise ConfigError(
                f"{path} is a DuckDB file, and duckdb is not installed.",
                "Run: pip install 'codegen-toolkit[duckdb]'",
            ) from None
        settings: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": "1GB",
            "threads": "1",
        }
        try:
            connection = duckdb.connect(str(path), read_only=True, config=settings)
            connection.execute("SET lock_configuration = true")
        except duckdb.Error as error:
            raise DatabaseError(f"Cannot open {path}: {_first_line(error)}.") from None
        return cls(connection, str(path))

    def _read_schema(self) -> Schema:
        found: dict[tuple[str, str], list[Column]] = {}
        rows = self._connection.execute(
            "SELECT table_schema, table_name, column_name, data_type"
            " FROM information_schema.columns WHERE table_catalog = current_catalog()"
            " ORDER BY table_schema, table_name, ordinal_position"
        ).fetchall()
        for namespace, table, column, declared in rows:
            numeric = declared.split("(")[0] in _NUMBERS.split()
            found.setdefault((namespace, table), []).append(
                Column(column, "real" if numeric else "text")
            )
        if not found:
            raise DatabaseError(f"{self.name} holds no table.")
        return Schema(
            tuple(
                Table(table, tuple(columns), namespace)
                for (namespace, table), columns in found.items()
            ),
            self,
        )

    def execute(self, statement: Statement, limits: Limits = DEFAULT_LIMITS) -> Rows:
        """See :class:`Database`."""
        import duckdb

        validate(statement.text, self.schema, self.dialect)
        try:
            with _interrupting(self._connection.interrupt, limits.seconds):
                done = self._connection.execute(statement.text, list(statement.parameters))
                names = tuple(column[0] for column in done.description or ())
                rows = done.fetchmany(limits.rows + 1)
        except duckdb.InterruptException:
            raise too_slow(limits) from None
        except duckdb.Error as error:
            raise DatabaseError(f"The statement failed: {_first_line(error)}.") from None
        except RuntimeError as error:
            if "interrupted" not in str(error):
                raise
            raise KeyboardInterrupt from None  # that is how duckdb tells of a Ctrl-C
        return Rows(names, tuple(rows[: limits.rows]), len(rows) > limits.rows)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


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
