"""Values of conditions, matched with what stands in the column.

A question says "toronto raptors" or "two"; the table says "Toronto Raptors (NBA)" or 2. With
linking, the value of each equality is looked for among the column's distinct values. This uses the
table's content, which the WikiSQL leaderboard forbids: figures without it are made without it.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from difflib import SequenceMatcher
from typing import Any

from codegen.sqlnet.databases.base import Database, Limits
from codegen.sqlnet.errors import DatabaseError
from codegen.sqlnet.examples import Asked
from codegen.sqlnet.numbers import number_in_words
from codegen.sqlnet.query import OPERATORS, Condition, Query
from codegen.sqlnet.schema import Table, number_of
from codegen.sqlnet.sql import distinct_values

MOST_VALUES = 5000
_LIKENESS = 0.85  # of difflib, above which two texts count as the same but for a slip
_WORD_LIKENESS = 0.75  # that each of their words must have besides, if they have as many
_LIMITS = Limits(seconds=1.0, rows=MOST_VALUES)
_MOST_SECONDS = 2.0
_LONGEST_MENTION = 8  # tokens
_LONGEST_VALUE = 1000  # characters; no question quotes a longer one
# Words that a question has for its own sake; Many, Louisiana, is a city.
_ASKING = """
    a all an and any are as at be by can did do does for from had has have how in is it list many me
    more most much no not of on or over show tell than that the there to under was were what when
    where which who whom whose why with
"""
_COMMON = frozenset(_ASKING.split())

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTH_NUMBERS = {word: number for number, word in enumerate(_MONTHS.split(), 1)}


@dataclass(frozen=True, slots=True)
class Link:
    """A value of the question and the value of the column it was taken for."""

    column: str
    said: str
    found: str


@dataclass(slots=True)
class Held:
    """What was read of a database: distinct values by (namespace, table, column), and links.

    A column whose values were not read, or not all of them, has None. ``seconds``: how long the
    reading took, by (namespace, table).
    """

    values: dict[tuple[str, str, int], tuple[str, ...] | None] = field(default_factory=dict)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Linker:
    """Links values to those of one table; ``held`` keeps what was read of the database.

    A column with more than ``MOST_VALUES`` values, or one that can't be read within a second, is
    not linked; nor is any further one of its table after ``_MOST_SECONDS`` of reading.
    """

    database: Database
    table: Table
    held: Held = field(default_factory=Held)
    _found: dict[Condition, str | None] = field(default_factory=dict)

    def link(self, query: Query) -> Query:
        """The query with its values as the table has them, where they are found there."""
        conditions = []
        for condition in query.conditions:
            value = self._nearest(condition)
            conditions.append(condition if value is None else replace(condition, value=value))
        return Query(query.select, query.aggregate, tuple(conditions))

    def selects(self, condition: Condition) -> bool | None:
        """Whether a linked condition selects a row; None if it must be run to know."""
        if not self._is_text_equality(condition) or self.values(condition.column) is None:
            return None
        return self._nearest(condition) is not None

    def mentioned(self, asked: Asked) -> dict[int, list[tuple[int, int]]]:
        """The spans of the question that stand in a column as they are, by column.

        Spans are first and last tokens; one that lies in a longer one of its column is left out.
        """
        spans = {}
        for first in range(len(asked.tokens)):
            for last in range(first, min(first + _LONGEST_MENTION, len(asked.tokens))):
                text = asked.text[asked.tokens[first].start : asked.tokens[last].end].casefold()
                if len(text) > 1 and text not in _COMMON:
                    spans.setdefault(text, []).append((first, last))
        found = {}
        for column, described in enumerate(self.table.columns):
            if described.type == "text":
                texts = {value.casefold() for value in self.values(column) or ()}
                held = [span for text in texts & spans.keys() for span in spans[text]]
                if held:
                    found[column] = _longest(held)
        return found

    def values(self, column: int) -> tuple[str, ...] | None:
        """The distinct values of a column of texts or days; None if they were not all read."""
        key = self.table.namespace, self.table.name, column
        if key not in self.held.values:
            self.held.values[key] = self._read(column)
        return self.held.values[key]

    def _read(self, column: int) -> tuple[str, ...] | None:
        of_table = self.table.namespace, self.table.name
        before = self.held.seconds.get(of_table, 0.0)
        if before > _MOST_SECONDS:
            return None
        began = time.monotonic()
        statement = distinct_values(self.table, column, MOST_VALUES + 1, self.database.dialect)
        try:
            rows = self.database.execute(statement, _LIMITS)
        except DatabaseError:
            return None
        finally:
            self.held.seconds[of_table] = before + time.monotonic() - began
        return None if rows.cut else tuple(_texts(rows.rows))

    def _nearest(self, condition: Condition) -> str | None:
        if condition not in self._found:
            self._found[condition] = self._sought(condition)
        return self._found[condition]

    def _sought(self, condition: Condition) -> str | None:
        if self.table.columns[condition.column].type == "real":
            if number_of(condition.value) is not None:
                return None
            number = number_in_words(condition.value)
            return None if number is None else f"{number:.12g}"
        if self._is_text_equality(condition):
            return nearest(condition.value, self.values(condition.column) or ())
        return None

    def _is_text_equality(self, condition: Condition) -> bool:
        is_text = self.table.columns[condition.column].type == "text"
        return is_text and OPERATORS[condition.operator] == "="


def _longest(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [
        (first, last)
        for first, last in sorted(spans)
        if not any(a <= first and last <= b and (a, b) != (first, last) for a, b in spans)
    ]


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
        if (
            matcher.quick_ratio() > best_likeness
            and (likeness := matcher.ratio()) > best_likeness
            and _words_alike(wanted.split(), found.casefold().split())
        ):
            best, best_likeness = found, likeness
    return best


def _words_alike(wanted: Sequence[str], found: Sequence[str]) -> bool:
    """False for angeles airport and wales airport, which are alike as a whole."""
    return len(wanted) != len(found) or all(
        one == other or SequenceMatcher(None, one, other, autojunk=False).ratio() > _WORD_LIKENESS
        for one, other in zip(wanted, found, strict=True)
    )


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
    return isinstance(value, date) or (isinstance(value, str) and 0 < len(value) <= _LONGEST_VALUE)
