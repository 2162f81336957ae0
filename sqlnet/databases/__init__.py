"""Read-only databases, and the limits of a statement.

A statement must pass :func:`codegen.sqlnet.sql.validate`; then the engines' own guards apply
(:mod:`.engines`, :mod:`.server`) and, for files (:mod:`.files`), a child process
that can be killed (:mod:`.child`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from codegen.core.errors import CodegenError, ConfigError
from codegen.sqlnet.query import Statement, Table

OPENING_S = 10.0
"""Seconds to read a database's schema."""

MOST_ANSWER = 32 * 2**20
"""Maximum characters and bytes in the rows of one answer."""


class DatabaseError(CodegenError):
    """Error for a database that cannot be opened or read, or a statement that takes too long."""


class TooSlowError(DatabaseError):
    """Error for a statement that was stopped at its time limit."""


@dataclass(frozen=True, slots=True)
class StatementLimits:
    """Time limit of a statement, and the maximum rows of its answer."""

    seconds: float = 5.0
    rows: int = 1000

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.rows < 1:
            raise ConfigError(
                f"A limit of {self.seconds} s and {self.rows} rows is invalid.",
                "Set more than 0 s and at least 1 row.",
            )


DEFAULT_LIMITS = StatementLimits()


@dataclass(frozen=True, slots=True)
class ResultSet:
    """The result of a statement; ``cut`` if there were more rows than the limit."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    cut: bool = False


class Engine(Protocol):
    """Runs statements in this process, in a child process, or on a server."""

    def tables(self) -> tuple[Table, ...]:
        """Returns the tables and views.

        Raises:
            TooSlowError: if reading them takes longer than :data:`OPENING_S`.
            DatabaseError: if reading fails.
        """
        ...

    def query(self, statement: Statement, limits: StatementLimits) -> ResultSet:
        """Runs a statement that was checked; raises like
        :meth:`codegen.sqlnet.databases.files.Database.execute`.
        """
        ...

    def close(self) -> None:
        """Closes the engine."""
        ...


def too_slow(seconds: float) -> TooSlowError:
    """Returns the error for a statement that hit its time limit."""
    return TooSlowError(f"The statement took longer than {seconds:g} s.", "Raise the time limit.")


def too_slow_to_open(name: str) -> TooSlowError:
    """Returns the error for a database whose schema takes too long to read."""
    return TooSlowError(
        f"Reading the tables of {name} took longer than {OPENING_S:g} s.",
        "One of its views may never finish; copy the needed tables into a separate file.",
    )


def taken(
    rows: Iterable[tuple[Any, ...]], columns: tuple[str, ...], limits: StatementLimits
) -> ResultSet:
    """Returns the rows of a cursor, up to the limits."""
    found: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if len(found) == limits.rows or (found and size > MOST_ANSWER):
            return ResultSet(columns, tuple(found), cut=True)
        found.append(tuple(row))
    return ResultSet(columns, tuple(found))
