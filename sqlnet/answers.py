"""Checks of rows against correct answers: rows in any order unless one was requested, columns
in any order, numbers to four places, strings without regard to case.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from codegen.sqlnet.databases import DatabaseError, StatementLimits
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.query import Statement, UnsafeSQLError

_MOST_COLUMNS = 6  # maximum columns for trying other column orders


@dataclass(frozen=True, slots=True)
class GoldRows:
    """Rows that are a correct answer.

    Attributes:
        ordered: True if the order of rows matters.
        exact: True if extra columns make an answer wrong.
    """

    rows: tuple[tuple[Any, ...], ...]
    ordered: bool = False
    exact: bool = True


def ran(database: Database, query: str, limits: StatementLimits) -> GoldRows | None:
    """Returns the rows of a gold query, without the check for safe SQL; None if the query fails."""
    try:
        rows = database.engine.query(Statement(query, (), database.dialect), limits)
    except (DatabaseError, UnsafeSQLError):
        return None
    return GoldRows(rows.rows, bool(re.search(r"\border\s+by\b", query, re.IGNORECASE)))


def same_rows(found: Sequence[Sequence[Any]], expected: GoldRows) -> bool:
    """Returns True if rows are the expected ones; see the module."""
    how = {"ordered": expected.ordered, "exact": expected.exact}
    return equal_rows(found, expected.rows, plain=_plain, **how)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip().casefold()
    found = rounded(value)
    return found if type(found) is float else repr(value)


def equal_rows(
    found: Sequence[Sequence[Any]],
    wanted: Sequence[Sequence[Any]],
    *,
    ordered: bool,
    exact: bool = True,
    plain: Callable[[Any], Any] | None = None,
) -> bool:
    """Compares results: rows in any order unless ``ordered``, columns in any order.

    Args:
        found: may have extra columns, unless ``exact``.
        plain: maps a cell to its compared value; by default numbers are rounded to four places,
            nearly as in Spider's execution accuracy.
    """
    if len(found) != len(wanted):
        return False
    if not wanted:
        return True
    width, given = len(wanted[0]), len(found[0])
    if given < width or (exact and given != width):
        return False
    left, right = ([tuple(map(plain or rounded, row)) for row in rows] for rows in (found, wanted))
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
        if picked == right if ordered else Counter(picked) == Counter(right):
            return True
    return False


def rounded(value: Any) -> Any:
    """Rounds a number to four places; returns other values unchanged."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return round(float(value), 4)
