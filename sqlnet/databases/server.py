"""PostgreSQL and MySQL (MariaDB) servers, through SQLAlchemy: sessions that can only read.

Guards besides :func:`codegen.sqlnet.sql.validate`: a role that can write is rejected by default;
each statement runs in a read-only transaction, which is rolled back, under the server's time limit;
rows are streamed. The password is read from PGPASSWORD (or ~/.pgpass) or MYSQL_PWD, not the
address.

The server's limit applies to each batch of rows, and a view may lift or ignore it. So the
connection is closed a second after the time limit.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from codegen.core.errors import ConfigError, InputError
from codegen.core.optional_deps import require
from codegen.sqlnet import databases
from codegen.sqlnet.query import Column, Statement, Table, UnsafeSQLError
from codegen.sqlnet.words import one_line

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Inspector
    from sqlalchemy import Engine as Pool

DRIVERS = {
    "postgresql": ("postgresql+psycopg", "postgres"),
    "postgres": ("postgresql+psycopg", "postgres"),
    "mysql": ("mysql+pymysql", "mysql"),
    "mariadb": ("mysql+pymysql", "mysql"),
}
"""Scheme of an address -> SQLAlchemy's driver and sqlglot's dialect."""

_CONNECTING_S = 10
_NETWORK_S = 120  # MySQL's read timeout
_GRACE_S = 1  # for the server itself to stop a statement
_HARMLESS = frozenset(
    ("USAGE", "SELECT", "SHOW VIEW", "SHOW DATABASES", "PROCESS", "REPLICATION CLIENT")
)
_MARK = "\x00"
_MAY_WRITE = """
    SELECT CASE WHEN r.rolsuper THEN 'is a superuser'
        WHEN pg_has_role(current_user, 'pg_execute_server_program', 'member')
            THEN 'may run programs of the server' END
    FROM pg_roles r WHERE r.rolname = current_user
    UNION ALL
    (SELECT 'may write to ' || n.nspname || '.' || c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname <> 'information_schema'
        AND n.nspname !~ '^pg_'
        AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') LIMIT 1)
"""


class ServerEngine:
    """A connection with its guards. See :class:`codegen.sqlnet.databases.Engine`."""

    def __init__(self, pool: Pool, name: str, dialect: str) -> None:
        self.pool, self.name, self.dialect = pool, name, dialect

    @classmethod
    def open(cls, address: str, *, may_write: bool = False) -> ServerEngine:
        """Connects to a server.

        Args:
            address: ``postgresql://USER@HOST/DATABASE`` or ``mysql://USER@HOST/DATABASE``.
            may_write: accept a role that can write.

        Raises:
            InputError: if the address is malformed or contains a password.
            MachineError: if SQLAlchemy or the driver is not installed.
            ConfigError: if the role can write.
            DatabaseError: if the server is unreachable.
        """
        driver = "pymysql" if address.lower().startswith(("mysql", "mariadb")) else "psycopg"
        require("sqlalchemy", driver)
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        url, dialect = _url(address)
        arguments: dict[str, Any] = {"connect_timeout": _CONNECTING_S}
        if dialect == "postgres":
            # Statements use standard strings, in which a backslash is an ordinary character.
            arguments["options"] = (
                "-c default_transaction_read_only=on -c standard_conforming_strings=on"
            )
        else:
            arguments |= {"read_timeout": _NETWORK_S, "local_infile": False}
            arguments["password"] = os.environ.get("MYSQL_PWD", "")
        pool = create_engine(url, poolclass=NullPool, connect_args=arguments)
        engine = cls(pool, url.render_as_string(hide_password=True), dialect)
        if not may_write and (power := engine._power()):
            raise ConfigError(
                f"The role of {engine.name} {power}.",
                "Connect as a role that can only read, or accept this one with -o may_write=true:"
                " each statement still runs in a read-only transaction.",
            )
        return engine

    def _power(self) -> str:
        """Returns the reason why the role may write; "" if it may not."""
        with self._reading(databases.OPENING_S) as connection:
            if self.dialect == "postgres":
                powers = connection.exec_driver_sql(_MAY_WRITE).scalars()
                return next(filter(None, powers), "")
            for (grant,) in connection.exec_driver_sql("SHOW GRANTS").fetchall():
                found = re.match(r"GRANT (.+?) ON ", re.sub(r"\([^)]*\)", "", grant))
                given = {p.strip().upper() for p in found[1].split(",")} if found else set()
                if beyond := sorted(given - _HARMLESS):
                    return f"has the privilege {beyond[0]}"
            return ""

    @contextmanager
    def _reading(self, seconds: float) -> Iterator[Connection]:
        """Runs a read-only transaction with a time limit; translates the driver's errors."""
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        limit = max(1, round(seconds * 1000))
        is_broken_off = threading.Event()
        try:
            with self.pool.connect() as connection, _deadline(connection, seconds, is_broken_off):
                if self.dialect == "postgres":
                    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit}")
                else:
                    connection.exec_driver_sql(_mysql_limit(connection, limit))
                    connection.exec_driver_sql("START TRANSACTION READ ONLY")
                try:
                    yield connection
                finally:
                    connection.rollback()
        except DBAPIError as error:
            if is_broken_off.is_set() or _is_timeout(error.orig):
                raise databases.too_slow(seconds) from None
            raise databases.DatabaseError(f"{self.name}: {_first_line(error.orig)}.") from None
        except SQLAlchemyError as error:
            raise databases.DatabaseError(f"{self.name}: {_first_line(error)}.") from None

    def tables(self) -> tuple[Table, ...]:
        """Returns the tables, the default schema's first."""
        from sqlalchemy import inspect

        try:
            with self._reading(databases.OPENING_S) as connection:
                if self.dialect == "mysql":
                    return tuple(_mysql_tables(connection))
                inspector = inspect(connection)
                default = inspector.default_schema_name
                names = [n for n in inspector.get_schema_names() if not n.startswith("pg_")]
                schemas = [None, *(n for n in names if n not in (default, "information_schema"))]
                found: dict[str, Table] = {}
                for schema in schemas:
                    for table in _read_tables(inspector, schema):
                        found.setdefault(table.name.lower(), table)
                return tuple(found.values())
        except databases.TooSlowError:
            raise databases.too_slow_to_open(self.name) from None

    def query(self, statement: Statement, limits: databases.StatementLimits) -> databases.ResultSet:
        """Runs a statement; see :class:`codegen.sqlnet.databases.Engine`."""
        text = _driver_text(statement.text, self.dialect)
        with self._reading(limits.seconds) as connection:
            streamed = connection.execution_options(stream_results=True)
            result = streamed.exec_driver_sql(text, statement.parameters)
            batches = result.partitions(100)
            return databases.taken(
                map(tuple, chain.from_iterable(batches)), tuple(result.keys()), limits
            )

    def close(self) -> None:
        """Closes the connection."""
        self.pool.dispose()


def is_address(text: str) -> bool:
    """Returns True if a string is a server's address."""
    return text.partition("://")[0].partition("+")[0].lower() in DRIVERS and "://" in text


def _url(address: str) -> tuple[URL, str]:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
        driver, dialect = DRIVERS[url.drivername.partition("+")[0].lower()]
    except (ArgumentError, KeyError, ValueError):
        raise InputError(
            "The address of the server is invalid.", "Write: postgresql://USER@HOST/NAME"
        ) from None
    if url.password is not None or {"password", "passwd", "pwd"} & {k.lower() for k in url.query}:
        variable = "PGPASSWORD" if dialect == "postgres" else "MYSQL_PWD"
        raise InputError(
            "The address contains a password, which other users of this machine could see.",
            f"Remove it and set the environment variable {variable}.",
        )
    if not url.database:
        raise InputError("The address has no database.", "Add /NAME at its end.")
    return url.set(drivername=driver), dialect


@contextmanager
def _deadline(
    connection: Connection, seconds: float, is_broken_off: threading.Event
) -> Iterator[None]:
    """Closes the connection if the block takes longer; the driver then raises an error."""
    driver: Any = connection.connection.driver_connection
    is_over, lock = False, threading.Lock()

    def break_off() -> None:
        with lock, suppress(Exception):  # in case the driver has closed the connection
            if is_over:
                return
            is_broken_off.set()
            number = driver.fileno() if hasattr(driver, "fileno") else driver._sock.fileno()
            with socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as same:
                if hasattr(driver, "cancel_safe"):
                    driver.cancel_safe(timeout=_GRACE_S)  # otherwise PostgreSQL continues
                same.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds + _GRACE_S, break_off)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            is_over = True
        timer.cancel()


def _mysql_limit(connection: Connection, milliseconds: int) -> str:
    version = connection.dialect.server_version_info or ()
    if getattr(connection.dialect, "is_mariadb", False) or "MariaDB" in version:
        return f"SET SESSION max_statement_time = {milliseconds / 1000}"
    return f"SET SESSION max_execution_time = {milliseconds}"


def _is_timeout(error: BaseException | None) -> bool:
    text = str(error).lower()
    number = error.args[0] if error and error.args else None
    return "statement timeout" in text or "max_statement_time" in text or number == 3024


def _mysql_tables(connection: Connection) -> Iterator[Table]:
    """Reads the tables in the information schema, which needs no privilege but SELECT."""
    names: dict[str, list[Column]] = {}
    for table, column, kind in connection.exec_driver_sql(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position"
    ):
        is_number = str(kind).lower() in _MYSQL_NUMBERS
        names.setdefault(table, []).append(Column(column, "real" if is_number else "text"))
    keys: dict[tuple[str, str], list[tuple[str, str | None, str | None]]] = {}
    for table, name, *key in connection.exec_driver_sql(
        "SELECT table_name, constraint_name, column_name, referenced_table_name,"
        " referenced_column_name FROM information_schema.key_column_usage"
        " WHERE table_schema = DATABASE() AND (constraint_name = 'PRIMARY'"
        " OR referenced_table_schema = DATABASE())"
        " ORDER BY table_name, constraint_name, ordinal_position"
    ):
        keys.setdefault((table, name), []).append((key[0], key[1], key[2]))
    for table, columns in names.items():
        own = {name: rows for (of, name), rows in keys.items() if of == table}
        primary = [column for column, _, _ in own.pop("PRIMARY", ())]
        foreign = [
            ([column for column, _, _ in rows], str(rows[0][1]), [str(to) for _, _, to in rows])
            for rows in own.values()
        ]
        yield Table.of(table, columns, "", primary, foreign)


_NUMBERS = "tinyint smallint mediumint int bigint float double decimal year"
_MYSQL_NUMBERS = frozenset(_NUMBERS.split())


def _read_tables(inspector: Inspector, schema: str | None) -> Iterator[Table]:
    from sqlalchemy.engine import ObjectKind

    columns = inspector.get_multi_columns(schema=schema, kind=ObjectKind.ANY)
    primary = inspector.get_multi_pk_constraint(schema=schema, kind=ObjectKind.ANY)
    foreign = inspector.get_multi_foreign_keys(schema=schema, kind=ObjectKind.ANY)
    for key, described in columns.items():
        if not described:
            continue
        yield Table.of(
            key[1],
            [Column(c["name"], "real" if _is_number(c["type"]) else "text") for c in described],
            schema or "",
            (primary.get(key) or {}).get("constrained_columns", ()),
            [
                (one["constrained_columns"], one["referred_table"], one["referred_columns"])
                for one in foreign.get(key, ())
            ],
        )


def _is_number(kind: Any) -> bool:
    try:
        return kind.python_type.__name__ in ("int", "float", "Decimal")
    except NotImplementedError:
        return False


def _driver_text(text: str, dialect: str) -> str:
    """Converts a statement to %s placeholders and doubled percent signs.

    PostgreSQL has no LOWER of dates and enumerations, so columns are cast to text. Comments are
    dropped: MySQL executes some of them.
    """
    try:
        tree = sqlglot.parse_one(text, dialect=dialect)
    except SqlglotError as error:
        raise UnsafeSQLError(f"The SQL cannot be sent: {one_line(error)}.") from None
    for placeholder in list(tree.find_all(exp.Placeholder)):
        placeholder.replace(exp.Var(this=_MARK))
    if dialect == "postgres":
        for lower in tree.find_all(exp.Lower):
            if isinstance(lower.this, exp.Column):
                lower.set("this", exp.cast(lower.this.copy(), "text"))
    return tree.sql(dialect=dialect, comments=False).replace("%", "%%").replace(_MARK, "%s")


def _first_line(error: BaseException | None) -> str:
    text = str(error.args[-1] if error and error.args else error)
    return text.strip().split("\n")[0].rstrip(".")
