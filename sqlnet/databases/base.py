"""What a database is to this room, and what one statement may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from codegen.errors import ConfigError
from codegen.sqlnet.errors import TooSlowError
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import Statement


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


def too_slow(limits: Limits) -> TooSlowError:
    """The error of a statement that was cut off."""
    return TooSlowError(
        f"The statement took longer than {limits.seconds:g} s.", "Raise the time limit."
    )
