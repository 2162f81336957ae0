"""Links a question to a database: to tables by their words, to abbreviated columns, to values.

Columns (:func:`spelled_out`): word vectors do not say that ``dep_delay`` is a departure delay. If a
question has the long form of a column's word and not the short one, the long form becomes the
column's alias. Only common abbreviations are known; any other (``st_cd``) needs an alias.

Values (:class:`Linker`): a question may contain "toronto raptors" or "two", the table "Toronto
Raptors (NBA)" or 2. The value of each equality is looked up among the column's distinct values.
This reads the table's content, which the WikiSQL leaderboard forbids; results state whether it was
used.
"""

from __future__ import annotations

import math
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from codegen.core.config import read_yaml
from codegen.sqlnet.databases import DatabaseError, StatementLimits
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.query import OPERATORS, Column, Condition, Query, Table, UnsafeSQLError
from codegen.sqlnet.sql import distinct_values
from codegen.sqlnet.words import (
    MAX_TOKENS,
    WordToken,
    number_in_words,
    number_of,
    stem,
    tokenize,
    words_of,
)

_ARTICLES = "a an the of in on at to for is was are were be by and or what which who"
_COMMON = frozenset(re.findall(r"\w+", _ARTICLES))


def overlaps(question: str, tables: Sequence[Table]) -> list[float]:
    """Returns the weighted fraction of the question's words in each table's names.

    A word weighs log(1 + n / df), for n tables, df of which have the word. Words of the
    table's own name count again, times their fraction of the name: "downloads" means
    the table downloads rather than downloads_slices.
    """
    names = [{stem(word) for word in table.words} - _COMMON for table in tables]
    held = [_stems(table) for table in tables]
    counts = Counter(word for words in held for word in words)
    encoded = {stem(token.text.lower()) for token in tokenize(question)} - _COMMON
    weights = {word: math.log(1 + len(tables) / (counts[word] or len(tables))) for word in encoded}
    total = sum(weights.values()) or 1.0
    return [
        (
            sum(weights[w] for w in encoded & words)
            + sum(weights[w] for w in encoded & name) * len(encoded & name) / max(1, len(name))
        )
        / total
        for words, name in zip(held, names, strict=True)
    ]


def _stems(table: Table) -> set[str]:
    names = [*table.words, *(word for column in table.columns for word in column.words)]
    return {stem(name) for name in names} - _COMMON


_FORMS = read_yaml(Path(__file__).with_name("abbreviations.yaml"))
_LONG = {short: [tuple(form.split()) for form in forms] for short, forms in _FORMS.items()}


def spelled_word(word: str) -> tuple[str, ...]:
    """Returns an abbreviation's long form, if unambiguous: first name for fname."""
    forms = _LONG.get(word, ())
    return forms[0] if len(forms) == 1 and word not in ("cat", "mo") else (word,)


def spelled_out(table: Table, question: str) -> Table:
    """Adds aliases to the table: abbreviations' long forms, and synonyms, in the question."""
    words = [token.text.lower() for token in tokenize(question)[:MAX_TOKENS]]
    stems = [stem(word) for word in words]
    encoded = set(stems)
    # Skips reading the columns, since few questions contain a long form.
    long = {s: [f for f in fs if encoded.issuperset(map(stem, f))] for s, fs in _LONG.items()}
    held = {short: forms for short, forms in long.items() if forms and short not in words}
    if not held and not table.synonyms and not any(column.synonyms for column in table.columns):
        return table
    columns = tuple(_spelled(column, held, stems) for column in table.columns)
    alias = _synonym(table, stems) or table.alias
    if columns == table.columns and alias == table.alias:
        return table
    return replace(table, columns=columns, alias=alias)


def _synonym(named: Column | Table, stems: list[str]) -> str:
    """Returns the longest synonym in a question without the name itself; "" if none."""
    held = [text for text in named.synonyms if _occurs_in(words_of(text), stems)]
    return max(held, key=len, default="") if not _occurs_in(named.words, stems) else ""


def _spelled(column: Column, long: Mapping[str, list[tuple[str, ...]]], stems: list[str]) -> Column:
    if synonym := _synonym(column, stems):
        return replace(column, alias=synonym)
    words = column.words
    if column.alias or not any(word in long for word in words):
        return column
    found: list[str] = []
    for word in words:
        forms = (form for form in long.get(word, ()) if _occurs_in(form, stems))
        found += next(forms, (word,))
    return column if tuple(found) == words else replace(column, alias=" ".join(found))


def _occurs_in(form: tuple[str, ...], stems: list[str]) -> bool:
    sought = [stem(word) for word in form]
    starts = range(len(stems) - len(sought) + 1)
    return any(stems[i : i + len(sought)] == sought for i in starts)


MOST_VALUES = 5000
_LIKENESS = 0.85  # difflib's ratio above which two strings differ by a typo
_WORD_LIKENESS = 0.75  # the same for each pair of words, if there are equally many
_LIMITS = StatementLimits(seconds=1.0, rows=MOST_VALUES)
_MOST_SECONDS = 2.0
_LONGEST_MENTION = 8  # tokens
_LONGEST_VALUE = 1000  # characters; questions do not quote longer ones
# Question words that are never values, although Many, Louisiana, is a city.
_ASKING = """
    a all an and any are as at be by can did do does for from had has have how in is it list many me
    more most much no not of on or over show tell than that the there to under was were what when
    where which who whom whose why with
"""
ASKING_WORDS = frozenset(_ASKING.split())

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTH_NUMBERS = {word: number for number, word in enumerate(_MONTHS.split(), 1)}


@dataclass(frozen=True, slots=True)
class Link:
    """A value in the question, and the column's value that it was linked to."""

    column: str
    said: str
    found: str


@dataclass(slots=True)
class ValueCache:
    """Distinct values read from a database, by (namespace, table, column); None for a column that
    could not be read completely. ``folded``: the same in lower case. ``seconds``: reading times, by
    (namespace, table).
    """

    values: dict[tuple[str, str, int], tuple[str, ...] | None] = field(default_factory=dict)
    folded: dict[tuple[str, str, int], frozenset[str]] = field(default_factory=dict)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Linker:
    """Links values to a table's values; ``held`` caches values that were read.

    A column with more than ``MOST_VALUES`` values, or one that takes over a second to read, is not
    linked, nor are a table's other columns after ``_MOST_SECONDS``.
    """

    database: Database
    table: Table
    held: ValueCache = field(default_factory=ValueCache)
    _found: dict[Condition, str | None] = field(default_factory=dict)

    def link(self, query: Query) -> Query:
        """Replaces a query's values by the table's, where found."""
        conditions = []
        for condition in query.conditions:
            value = self._nearest(condition)
            conditions.append(condition if value is None else replace(condition, value=value))
        return replace(query, conditions=tuple(conditions))

    def selects(self, condition: Condition) -> bool | None:
        """Returns True if a linked condition selects a row; None if that requires a query."""
        if not self._is_text_equality(condition) or self.values(condition.column) is None:
            return None
        return self._nearest(condition) is not None

    def mentioned(
        self, question: str, tokens: Sequence[WordToken]
    ) -> dict[int, list[tuple[int, int]]]:
        """Returns the spans (first and last token) of the question that are cells, by column,
        without spans inside a longer one of the same column.
        """
        spans = {}
        for first in range(len(tokens)):
            for last in range(first, min(first + _LONGEST_MENTION, len(tokens))):
                text = question[tokens[first].start : tokens[last].end].casefold()
                if len(text) > 1 and text not in ASKING_WORDS:
                    spans.setdefault(text, []).append((first, last))
        found = {}
        for column, described in enumerate(self.table.columns):
            if described.type == "text":
                texts = spans.keys() & self.folded(column)
                texts |= spans.keys() & {said for said, _ in described.called}
                if held := [span for text in texts for span in spans[text]]:
                    found[column] = _longest(held)
        return found

    def values(self, column: int) -> tuple[str, ...] | None:
        """Returns a text or date column's distinct values; None if not all could be read."""
        key = self.table.namespace, self.table.name, column
        if key not in self.held.values:
            self.held.values[key] = self._read(column)
        return self.held.values[key]

    def folded(self, column: int) -> frozenset[str]:
        """Returns a column's distinct values in lower case; none if not all could be read."""
        key = self.table.namespace, self.table.name, column
        if key not in self.held.folded:
            values = self.values(column) or ()
            self.held.folded[key] = frozenset(value.casefold() for value in values)
        return self.held.folded[key]

    def _read(self, column: int) -> tuple[str, ...] | None:
        of_table = self.table.namespace, self.table.name
        before = self.held.seconds.get(of_table, 0.0)
        if before > _MOST_SECONDS:
            return None
        began = time.monotonic()
        statement = distinct_values(self.table, column, MOST_VALUES + 1, self.database.dialect)
        try:
            rows = self.database.execute(statement, _LIMITS)
        except (DatabaseError, UnsafeSQLError):  # such as a view that calls a forbidden function
            return None
        finally:
            self.held.seconds[of_table] = before + time.monotonic() - began
        return None if rows.cut else tuple(_texts(rows.rows))

    def _nearest(self, condition: Condition) -> str | None:
        if condition not in self._found:
            self._found[condition] = self._sought(condition)
        return self._found[condition]

    def _sought(self, condition: Condition) -> str | None:
        called = dict(self.table.columns[condition.column].called)
        if found := called.get(condition.value.lower()):
            return found
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
    """Returns the values that linking changed by more than case."""
    return tuple(
        Link(table.columns[old.column].name, old.value, new.value)
        for old, new in zip(before.conditions, after.conditions, strict=True)
        if old.value.lower() != new.value.lower()
    )


def nearest(value: str, values: Sequence[str]) -> str | None:
    """Returns the value that is meant, or None.

    In this order: equal except for case; equal except for accents, punctuation and spaces; the same
    date; the only one with all its words; the most similar one, if it differs by a typo.
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
    """Returns True if the words are pairwise similar, unlike angeles airport and wales airport."""
    return len(wanted) != len(found) or all(
        one == other or SequenceMatcher(None, one, other, autojunk=False).ratio() > _WORD_LIKENESS
        for one, other in zip(wanted, found, strict=True)
    )


def date_in(text: str) -> date | None:
    """Parses the date of a string such as 2021-05-03, May 3, 2021 or 3 May 2021; else None."""
    bare = text.strip().lower()
    if found := re.fullmatch(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[ t]00:00(?::00)?)?", bare):
        year, month, day = map(int, found.groups())
    elif found := re.fullmatch(r"([a-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})", bare):
        month, day, year = month_number(found[1]), int(found[2]), int(found[3])
    elif found := re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)? ([a-z]{3,9})\.?,? (\d{4})", bare):
        day, month, year = int(found[1]), month_number(found[2]), int(found[3])
    else:
        return None
    try:
        return date(year, month, day)
    except ValueError:
        return None


def month_number(word: str) -> int:
    """Returns 1 to 12 for an English month or its abbreviation; else 0."""
    return _MONTH_NUMBERS.get(word[:3], 0)


def _bare(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in plain if sign.isalnum())


def _texts(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Returns strings, and dates in ISO format."""
    values = (value for (value,) in rows)
    return [v.isoformat() if isinstance(v, date) else v for v in values if _is_text(v)]


def _is_text(value: Any) -> bool:
    return isinstance(value, date) or (isinstance(value, str) and 0 < len(value) <= _LONGEST_VALUE)
