"""Databases that can only be read, and what one statement may take.

Every statement that reaches one has passed :func:`codegen.sqlnet.sql.validate`; below that hold the
engines' own guards (:mod:`.sqlite`, :mod:`.duckdb`) and, for files (:mod:`.files`), a process that
can be killed (:mod:`.child`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from codegen.errors import CodegenError, ConfigError
from codegen.sqlnet.query import Statement, Table

OPENING_S = 10.0
"""What reading a database's schema may take."""

MOST_ANSWER = 32 * 2**20
"""Characters and bytes that the rows of one answer hold at most, beyond which it is cut."""


class DatabaseError(CodegenError):
    """A database can't be opened or read, or a statement on it ran too long."""


class TooSlowError(DatabaseError):
    """A statement was cut off by its time limit."""


@dataclass(frozen=True, slots=True)
class StatementLimits:
    """What one statement may take: seconds, and rows, beyond which the answer is cut."""

    seconds: float = 5.0
    rows: int = 1000

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.rows < 1:
            raise ConfigError(
                f"A limit of {self.seconds} s and {self.rows} rows can't be kept.",
                "Give more than 0 s and at least 1 row.",
            )


DEFAULT_LIMITS = StatementLimits()


@dataclass(frozen=True, slots=True)
class Rows:
    """What a statement gave; ``cut`` says that there were more rows than the limit."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    cut: bool = False


class Engine(Protocol):
    """What holds the data: an engine in this process, or in a child process."""

    def tables(self) -> tuple[Table, ...]:
        """The tables and views.

        Raises:
            TooSlowError: if reading them takes longer than :data:`OPENING_S`.
            DatabaseError: if that fails.
        """
        ...

    def query(self, statement: Statement, limits: StatementLimits) -> Rows:
        """Runs a statement that has passed the gate; raises as
        :meth:`codegen.sqlnet.databases.files.Database.execute`.
        """
        ...

    def close(self) -> None:
        """Closes it."""
        ...


def too_slow(seconds: float) -> TooSlowError:
    """The error of a statement that was cut off."""
    return TooSlowError(f"The statement took longer than {seconds:g} s.", "Raise the time limit.")


def too_slow_to_open(name: str) -> TooSlowError:
    """The error of a database whose schema takes too long to read."""
    return TooSlowError(
        f"Reading the tables of {name} took longer than {OPENING_S:g} s.",
        "One of its views may never end; copy the tables that matter into a file of their own.",
    )


def taken(
    rows: Iterable[tuple[Any, ...]], columns: tuple[str, ...], limits: StatementLimits
) -> Rows:
    """The rows of a cursor, up to the limits."""
    found: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if len(found) == limits.rows or (found and size > MOST_ANSWER):
            return Rows(columns, tuple(found), cut=True)
        found.append(tuple(row))
    return Rows(columns, tuple(found))
