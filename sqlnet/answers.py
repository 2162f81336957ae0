"""Whether rows are a right answer: in any order unless it was asked for, columns in any order,
numbers to four places, texts without regard to case.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from codegen.sqlnet.databases import DatabaseError, StatementLimits
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.query import Statement, UnsafeSQLError

_MOST_COLUMNS = 6  # of an answer whose columns may be in another order


@dataclass(frozen=True, slots=True)
class Expected:
    """Rows that are a right answer.

    Attributes:
        rows: the rows.
        ordered: whether their order counts.
        exact: whether further columns make an answer wrong.
    """

    rows: tuple[tuple[Any, ...], ...]
    ordered: bool = False
    exact: bool = True


def ran(database: Database, query: str, limits: StatementLimits) -> Expected | None:
    """What a gold query gives, behind the engine's guards but not the gate's list; None if it
    can't be run.
    """
    try:
        rows = database.engine.query(Statement(query, (), database.dialect), limits)
    except (DatabaseError, UnsafeSQLError):
        return None
    return Expected(rows.rows, bool(re.search(r"\border\s+by\b", query, re.IGNORECASE)))


def same_rows(found: Sequence[Sequence[Any]], expected: Expected) -> bool:
    """Whether rows are the expected ones; see the module."""
    wanted = expected.rows
    if len(found) != len(wanted):
        return False
    if not wanted:
        return True
    width, given = len(wanted[0]), len(found[0])
    if given < width or (expected.exact and given != width):
        return False
    left = [tuple(map(_plain, row)) for row in found]
    right = [tuple(map(_plain, row)) for row in wanted]
    orders: Iterable[Sequence[int]] = (range(width),)
    if given <= _MOST_COLUMNS:
        columns = [Counter(row[i] for row in left) for i in range(given)]
        needed = [Counter(row[i] for row in right) for i in range(width)]
        orders = (
            order
            for order in permutations(range(given), width)
            if all(columns[i] == needed[j] for j, i in enumerate(order))
        )
    for order in orders:
        picked = [tuple(row[i] for i in order) for row in left]
        if picked == right if expected.ordered else Counter(picked) == Counter(right):
            return True
    return False


def _plain(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(float(value), 4)
    return value.strip().casefold() if isinstance(value, str) else repr(value)
