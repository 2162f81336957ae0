"""Values of conditions, matched with what stands in the column.

A question says "toronto raptors" or "two"; the table says "Toronto Raptors (NBA)" or 2. With
linking, the value of each equality is looked for among the column's distinct values. This uses the
table's content, which the WikiSQL leaderboard forbids: figures without it are made without it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import SequenceMatcher
from typing import Any

from codegen.sqlnet.databases.base import Database, Limits
from codegen.sqlnet.errors import DatabaseError
from codegen.sqlnet.numbers import number_in_words
from codegen.sqlnet.query import OPERATORS, Condition, Query
from codegen.sqlnet.schema import Table, number_of
from codegen.sqlnet.sql import distinct_values

MOST_VALUES = 5000
_LIKENESS = 0.85  # of difflib, above which two texts count as the same but for a slip
_LIMITS = Limits(seconds=1.0, rows=MOST_VALUES)

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTH_NUMBERS = {word: number for number, word in enumerate(_MONTHS.split(), 1)}


@dataclass(frozen=True, slots=True)
class Link:
    """A value of the question and the value of the column it was taken for."""

    column: str
    said: str
    found: str


# (namespace, table, column) -> the column's distinct values; none where they were not read.
Values = dict[tuple[str, str, int], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Linker:
    """Links values on one database; ``held`` keeps the distinct values that it has read.

    A column with more than ``MOST_VALUES`` values, or one that can't be read within a second, is
    not linked.
    """

    database: Database
    held: Values = field(default_factory=dict)

    def link(self, query: Query, table: Table) -> Query:
        """The query with its values as the table has them, where they are found there."""
        conditions = tuple(self._linked(condition, table) for condition in query.conditions)
        return Query(query.select, query.aggregate, conditions)

    def _linked(self, condition: Condition, table: Table) -> Condition:
        column, value = table.columns[condition.column], condition.value
        if column.type == "real" and number_of(value) is None:
            number = number_in_words(value)
            found = None if number is None else f"{number:g}" if number % 1 else str(int(number))
        elif OPERATORS[condition.operator] == "=" and column.type == "text":
            found = nearest(value, self._values(table, condition.column))
        else:
            found = None
        return (
            condition if found is None else Condition(condition.column, condition.operator, found)
        )

    def _values(self, table: Table, column: int) -> tuple[str, ...]:
        key = table.namespace, table.name, column
        if key not in self.held:
            statement = distinct_values(table, column, MOST_VALUES + 1, self.database.dialect)
            try:
                rows = self.database.execute(statement, _LIMITS)
            except DatabaseError:
                rows = None
            texts = () if rows is None or rows.cut else tuple(_texts(rows.rows))
            self.held[key] = texts
        return self.held[key]


def links_of(before: Query, after: Query, table: Table) -> tuple[Link, ...]:
    """What linking has changed; the case of letters aside."""
    return tuple(
        Link(table.columns[old.column].name, old.value, new.value)
        for old, new in zip(before.conditions, after.conditions, strict=True)
        if old.value.lower() != new.value.lower()
    )


def nearest(value: str, values: Sequence[str]) -> str | None:
    """The one of the values that is meant, or None.

    Tried in turn: equal but for case; equal but for accents, signs and spaces; the same date; the
    only one that holds all its words; the one that is most like it, if it is nearly the same.
    """
    wanted, bare, day = value.casefold(), _bare(value), date_in(value)
    for found in values:
        if found.casefold() == wanted:
            return found
    if not bare:
        return None
    for found in values:
        if _bare(found) == bare:
            return found
    if day:
        for found in values:
            if date_in(found) == day:
                return found
    words = set(re.findall(r"\w+", wanted))
    holders = [found for found in values if words <= set(re.findall(r"\w+", found.casefold()))]
    if len(holders) == 1 and not bare.isdigit():
        return holders[0]
    return _most_like(wanted, values) if len(wanted) >= 4 and not bare.isdigit() else None


def _most_like(wanted: str, values: Sequence[str]) -> str | None:
    best, best_likeness = None, _LIKENESS
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)
    for found in values:
        if abs(len(found) - len(wanted)) > 0.3 * len(wanted):
            continue
        matcher.set_seq1(found.casefold())
        if matcher.quick_ratio() > best_likeness and (likeness := matcher.ratio()) > best_likeness:
            best, best_likeness = found, likeness
    return best


def date_in(text: str) -> date | None:
    """The date that a text is, as in 2021-05-03, May 3, 2021 or 3 May 2021; else None."""
    bare = text.strip().lower()
    if found := re.fullmatch(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[ t]00:00(?::00)?)?", bare):
        year, month, day = map(int, found.groups())
    elif found := re.fullmatch(r"([a-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})", bare):
        month, day, year = _month(found[1]), int(found[2]), int(found[3])
    elif found := re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)? ([a-z]{3,9})\.?,? (\d{4})", bare):
        day, month, year = int(found[1]), _month(found[2]), int(found[3])
    else:
        return None
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _month(word: str) -> int:
    return _MONTH_NUMBERS.get(word[:3], 0)


def _bare(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in plain if sign.isalnum())


def _texts(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """The texts, and the days of columns that hold days, as ISO writes them."""
    values = (value for (value,) in rows)
    return [v.isoformat() if isinstance(v, date) else v for v in values if _is_text(v)]


def _is_text(value: Any) -> bool:
    return isinstance(value, date) or (isinstance(value, str) and bool(value))
