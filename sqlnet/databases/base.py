"""What a database is to this room, and what one statement may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from codegen.errors import ConfigError
from codegen.sqlnet.errors import DatabaseError, TooSlowError
from codegen.sqlnet.schema import Schema, Table
from codegen.sqlnet.sql import Statement, validate

OPENING_S = 10.0
"""What reading a database's schema may take."""

MOST_ANSWER = 32 * 2**20
"""Characters and bytes that the rows of one answer hold at most, beyond which it is cut."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one statement may take: seconds, and rows, beyond which the answer is cut."""

    seconds: float = 5.0
    rows: int = 1000

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.rows < 1:
            raise ConfigError(
                f"A limit of {self.seconds} s and {self.rows} rows can't be kept.",
                "Give more than 0 s and at least 1 row.",
            )


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Rows:
    """What a statement gave; ``cut`` says that there were more rows than the limit."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    cut: bool = False


class Database(Protocol):
    """A database that can be asked, and never changed."""

    dialect: str
    schema: Schema

    def execute(self, statement: Statement, limits: Limits = DEFAULT_LIMITS) -> Rows:
        """Runs one statement.

        Raises:
            UnsafeSQLError: if it is not a single SELECT on the schema; nothing has run.
            TooSlowError: if it takes longer than the limit.
            DatabaseError: if it fails.
        """
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...


class Engine(Protocol):
    """What holds the data: an engine in this process, or in a child process."""

    def tables(self) -> tuple[Table, ...]:
        """The tables and views.

        Raises:
            TooSlowError: if reading them takes longer than :data:`OPENING_S`.
            DatabaseError: if that fails.
        """
        ...

    def query(self, statement: Statement, limits: Limits) -> Rows:
        """Runs a statement that has passed the gate; raises as :meth:`Database.execute`."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


class EngineDatabase:
    """A database on an engine: the gate in front of it. See :class:`Database`."""

    dialect = ""

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self.engine = engine
        try:
            if not (tables := engine.tables()):
                raise DatabaseError(f"{name} holds no table.")
            self.schema = Schema(tables, self)
        except BaseException:
            engine.close()
            raise

    def execute(self, statement: Statement, limits: Limits = DEFAULT_LIMITS) -> Rows:
        """See :class:`Database`."""
        validate(statement.text, self.schema, self.dialect)
        return self.engine.query(statement, limits)

    def close(self) -> None:
        """Closes the engine."""
        self.engine.close()


def too_slow(seconds: float) -> TooSlowError:
    """The error of a statement that was cut off."""
    return TooSlowError(f"The statement took longer than {seconds:g} s.", "Raise the time limit.")


def too_slow_to_open(name: str) -> TooSlowError:
    """The error of a database whose schema takes too long to read."""
    return TooSlowError(
        f"Reading the tables of {name} took longer than {OPENING_S:g} s.",
        "One of its views may never end; copy the tables that matter into a file of their own.",
    )


def taken(rows: Any, columns: tuple[str, ...], limits: Limits) -> Rows:
    """The rows of a cursor, up to the limits.

    Args:
        rows: an iterator of tuples.
    """
    found: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if len(found) == limits.rows or (found and size > MOST_ANSWER):
            return Rows(columns, tuple(found), cut=True)
        found.append(tuple(row))
    return Rows(columns, tuple(found))
