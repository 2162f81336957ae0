"""Links a question to the tables of a database and builds the plan network's input.

The sequence is [tokens of the question; mentions; tables; columns]. A mention is a span of the
question that may be a value: a number, a period of time, a quotation, capitalized words, or a cell
of the database. Each pair has a set of relations (same table, foreign key, a token of a column's
name, a mention that is a cell of a column, ...) as in RAT-SQL (Wang et al. 2020, arXiv 1911.04942).

Cells are indexed once per database; a question then takes about a millisecond.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np

from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.joins import JoinGraph
from codegen.sqlnet.linking import (
    ASKING_WORDS,
    Linker,
    ValueCache,
    date_in,
    month_number,
    spelled_word,
)
from codegen.sqlnet.plan import ROWS, ColumnRef, PlanValue, is_identifier, label_columns
from codegen.sqlnet.query import Table
from codegen.sqlnet.words import WordToken, number_in_words, number_of, stem, tokenize, words_of

MAX_PLAN_TOKENS = 80  # per question; later ones are ignored
MAX_MENTIONS = 12
MAX_TABLES, MAX_COLUMNS = 14, 140  # read by the network, best-ranked first
_LONGEST_CELL = 60  # characters
_LONGEST_MENTION = 8  # tokens
_FEW = 10  # maximum distinct values of a categorical column

# Relations of element i (matrix row) to element j (matrix column).
RELATIONS = (
    "self", "previous", "next", "second_previous", "second_next", "whole_name", "named_whole",
    "part_name", "named_part", "like", "likened", "cell_token", "token_cell", "inside", "holds",
    "cell", "holds_cell", "fits", "fitted", "same_table", "in_table", "has_column", "key_of",
    "has_key", "refers", "referred", "refers_table", "referred_table", "child", "parent",
)  # fmt: skip
_BIT = {name: np.uint32(1 << number) for number, name in enumerate(RELATIONS)}

TOKEN_SIGNS = (
    "number", "capital", "capitals", "sign", "year", "follows", "in_name", "in_whole",
    "in_table", "in_cell", "quoted", "numeral",
)  # fmt: skip
MENTION_SIGNS = (
    "number", "numeral", "year", "period", "quoted", "capital", "cell", "near", "small",
    "relative",
)  # fmt: skip
TABLE_SIGNS = ("part", "whole", "cell", "columns", "link", "likeness")
COLUMN_SIGNS = (
    "real", "primary", "foreign", "identifier", "label", "dates", "few", "flag", "part",
    "whole", "words", "cells", "holds_number", "table_whole", "table_part", "likeness", "alone",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mention:
    """A span of the question that may be a value.

    Attributes:
        first, last: indices of its first and last token.
        text: text as in the question, without quotes.
        signs: flags from ``MENTION_SIGNS``.
        start, end: bounds of a period, as in :class:`~codegen.sqlnet.plan.PlanValue`.
        cells: column that has it as a cell -> the cell's text.
    """

    first: int
    last: int
    text: str
    signs: frozenset[str]
    start: str = ""
    end: str = ""
    cells: dict[ColumnRef, str] = field(default_factory=dict)

    @property
    def number(self) -> float | None:
        """The mention as a number, if it is one."""
        found = number_of(self.text)
        return number_in_words(self.text) if found is None else found

    @property
    def is_certain(self) -> bool:
        """True if it must be a value: quoted, in digits, or a capitalized cell."""
        signs = self.signs
        in_digits = "number" in signs and "numeral" not in signs
        return "quoted" in signs or in_digits or ("capital" in signs and _is_cell(self))

    def value_for(self, item: ColumnRef, table: Table, holds_dates: bool) -> PlanValue:
        """Returns the mention's value in a column: a cell, a period, a number, or its text."""
        if item in self.cells:
            return PlanValue(self.cells[item])
        if holds_dates and self.start:
            return PlanValue(self.text, self.start, self.end)
        number = self.number
        is_real = item.column == ROWS or table.columns[item.column].type == "real"
        if number is not None and is_real:
            return PlanValue(f"{number:.12g}")
        return PlanValue(self.text)


class LinkedSchema:
    """The tables of a database with an index of their names and cells.

    Attributes:
        graph: join graph of all tables.
        items: tables, then columns.
        words: words of each item's name.
        dates: columns that contain ISO dates.
        named: stem -> numbers of the items whose names contain it.
    """

    def __init__(self, tables: Sequence[Table], database: Database | None = None) -> None:
        self.graph = JoinGraph(tuple(tables))
        self.tables = self.graph.tables
        columns = [
            ColumnRef(t, c) for t, table in enumerate(tables) for c in range(len(table.columns))
        ]
        self.items = [*(ColumnRef(t) for t in range(len(tables))), *columns]
        self.numbers = {item: number for number, item in enumerate(self.items)}
        self.words = [self._words(item) for item in self.items]
        self.stems = [tuple(map(stem, words)) for words in self.words]
        self.dates: set[ColumnRef] = set()
        self._exact: dict[str, list[tuple[ColumnRef, str]]] = {}
        self._stemmed: dict[str, list[tuple[ColumnRef, str]]] = {}
        self._distinct: dict[ColumnRef, int] = {}
        if database:
            self._read(database)
        self.signs = np.array([self._signs(item) for item in columns], np.float32)
        self.relations = self._relations()
        self.named: dict[str, list[int]] = {}
        for number, stems in enumerate(self.stems):
            for one in set(stems):
                self.named.setdefault(one, []).append(number)

    def _words(self, item: ColumnRef) -> tuple[str, ...]:
        table = self.tables[item.table]
        words = words_of(table.name) if item.column == ROWS else table.columns[item.column].words
        return tuple(long for word in words[:8] for long in spelled_word(word))

    def _read(self, database: Database) -> None:
        held = ValueCache()
        for item in self.items:
            if item.column == ROWS or self.is_real(item):
                continue
            values = Linker(database, self.tables[item.table], held).values(item.column)
            if values is None:
                continue
            self._distinct[item] = len(values)
            sample = values[:50]
            if sample and sum(_is_iso(value) for value in sample) >= 0.8 * len(sample):
                self.dates.add(item)
                continue
            for value in values:
                if len(value) <= _LONGEST_CELL:
                    tokens = [token.text.casefold() for token in tokenize(value)]
                    if 0 < len(tokens) <= _LONGEST_MENTION:
                        self._exact.setdefault(" ".join(tokens), []).append((item, value))
                        stems = " ".join(map(stem, tokens))
                        self._stemmed.setdefault(stems, []).append((item, value))

    def _signs(self, item: ColumnRef) -> list[bool]:
        """Returns the first eight of ``COLUMN_SIGNS``."""
        table, words = self.tables[item.table], self.words[self.numbers[item]]
        distinct = self._distinct.get(item)
        return [
            self.is_real(item),
            item.column in table.primary_key,
            any(item.column in key.columns for key in table.foreign_keys),
            is_identifier(table, item.column),
            item.column in label_columns(table),
            item in self.dates or "date" in words,
            distinct is not None and distinct <= _FEW,
            distinct == 2 or words[0] in ("is", "has") or words[-1] in ("flag", "yn"),
        ]

    def _relations(self) -> np.ndarray:
        size = len(self.items)
        found = np.zeros((size, size), np.uint32)
        of_table = np.array([item.table for item in self.items])
        found[of_table[:, None] == of_table[None]] |= _BIT["same_table"]
        for number, item in enumerate(self.items):
            found[number, number] |= _BIT["self"]
            if item.column == ROWS:
                continue
            _mark(found, number, item.table, "in_table", "has_column")
            if item.column in self.tables[item.table].primary_key:
                _mark(found, number, item.table, "key_of", "has_key")
        for join in self.graph.joins:
            _mark(found, join.child, join.parent, "child", "parent")
            pairs = zip(join.child_columns, join.parent_columns, strict=True)
            for one, other in pairs:
                left, right = ColumnRef(join.child, one), ColumnRef(join.parent, other)
                _mark(found, self.numbers[left], self.numbers[right], "refers", "referred")
                _mark(found, self.numbers[left], join.parent, "refers_table", "referred_table")
        return found

    def is_real(self, item: ColumnRef) -> bool:
        """Returns True if a column contains numbers."""
        return self.tables[item.table].columns[item.column].type == "real"

    def cells(self, tokens: Sequence[str]) -> tuple[dict[ColumnRef, str], bool]:
        """Finds cells equal to casefolded tokens, or else to their stems, and which of the two."""
        key = " ".join(tokens)
        if key in self._exact:
            return dict(reversed(self._exact[key])), True
        if len(key) < 4:
            return {}, False
        stems = " ".join(map(stem, tokens))
        return dict(reversed(self._stemmed.get(stems, []))), False

    def cells_of(self, item: ColumnRef) -> Iterator[str]:
        """Yields the short cells of a text column."""
        for found in self._exact.values():
            yield from (value for held, value in found if held == item)

    def is_read(self, item: ColumnRef) -> bool:
        """Returns True if a column's values, except long ones, are indexed."""
        return item in self._distinct

    def holds(self, item: ColumnRef, text: str) -> bool:
        """Returns True if a column may contain a string, ignoring case; always if it is long."""
        tokens = [token.text.casefold() for token in tokenize(text)]
        if len(text) > _LONGEST_CELL or len(tokens) > _LONGEST_MENTION or item in self.dates:
            return True
        return any(held == item for held, _ in self._exact.get(" ".join(tokens), ()))


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """A question linked to a schema; L tokens, V mentions, S schema items.

    Attributes:
        words: lower-cased tokens, L.
        items: numbers of the schema's items, S: tables, then columns.
        tables: number of tables among the items.
        tokens, mentions, table_signs, column_signs: float32 signs, [L, .], [V, .], [T, .], [C, .].
        relations: [L + V + S, L + V + S] uint32, bit n for ``RELATIONS[n]``.
        likeness: [L, S] float32, cosine of word vectors above 0.4, scaled to 0..1.
    """

    text: str
    schema: LinkedSchema
    spans: tuple[WordToken, ...]
    words: tuple[str, ...]
    found: tuple[Mention, ...]
    items: tuple[int, ...]
    tables: int
    tokens: np.ndarray
    mentions: np.ndarray
    table_signs: np.ndarray
    column_signs: np.ndarray
    relations: np.ndarray
    likeness: np.ndarray

    def item(self, number: int) -> ColumnRef:
        """Returns an item by its index in ``items``."""
        return self.schema.items[self.items[number]]


class WordSimilarity:
    """Similarity of words by their vectors: the cosine, 0 below 0.4, scaled to 0..1."""

    def __init__(self, words: Sequence[str], matrix: np.ndarray) -> None:
        self.rows = {word: row for row, word in enumerate(words)}
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        self.matrix = (matrix / np.maximum(norms, 1e-6)).astype(np.float32)

    def of(self, words: Sequence[str], names: Sequence[Sequence[str]]) -> np.ndarray:
        """Returns [words, names] float32, the highest of each name's words."""
        result = np.zeros((len(words), len(names)), np.float32)
        flat = [word for name in names for word in name]
        if not words or not flat:
            return result
        left, right = self._vectors(words), self._vectors(flat)
        near = np.clip((left @ right.T - 0.4) / 0.6, 0, 1)
        starts = np.cumsum([0, *(len(name) for name in names[:-1])])
        return np.maximum.reduceat(near, starts, axis=1)

    def _vectors(self, words: Sequence[str]) -> np.ndarray:
        rows = [self.rows.get(word, -1) for word in words]
        found = self.matrix[rows]
        found[[row < 0 for row in rows]] = 0
        return found


def read_question(
    text: str, schema: LinkedSchema, likeness: WordSimilarity, today: date | None = None
) -> PlanQuestion:
    """Links a question; "last month" is relative to ``today``."""
    spans = tuple(tokenize(text)[:MAX_PLAN_TOKENS])
    words = tuple(token.text.lower() for token in spans)
    stems = [stem(word) for word in words]
    found = mentions_of(text, spans, schema, today)
    numbers = _looked_at(schema, stems, found)
    tables = sum(schema.items[n].column == ROWS for n in numbers)
    length, held = len(words), len(found)
    names = [schema.words[n] for n in numbers]
    near = likeness.of(words, names) if length else np.zeros((0, len(names)), np.float32)
    whole, part = _name_matches(stems, words, [schema.stems[n] for n in numbers])
    size = length + held + len(numbers)
    relations = np.zeros((size, size), np.uint32)
    _token_relations(relations, length)
    base = length + held
    index = np.array(numbers)
    relations[base:, base:] = schema.relations[np.ix_(index, index)]
    relations[:length, base:][whole] |= _BIT["named_whole"]
    relations[base:, :length][whole.T] |= _BIT["whole_name"]
    relations[:length, base:][part] |= _BIT["named_part"]
    relations[base:, :length][part.T] |= _BIT["part_name"]
    cells = np.zeros((held, len(numbers)), np.float32)
    places = {schema.items[n]: place for place, n in enumerate(numbers)}
    for m, mention in enumerate(found):
        _mention_relations(relations, mention, m, length, base, schema, places, cells)
    inside = relations[:length, length:base] & _BIT["inside"] > 0
    token_signs = _token_signs(spans, whole, part, tables, inside, found)
    mention_signs = np.array(
        [[sign in mention.signs for sign in MENTION_SIGNS] for mention in found], np.float32
    ).reshape(held, len(MENTION_SIGNS))
    table_signs, column_signs = _item_signs(
        schema, numbers, tables, whole, part, near, cells, found
    )
    return PlanQuestion(
        text, schema, spans, words, found, tuple(numbers), tables,
        token_signs, mention_signs, table_signs, column_signs, relations, near,
    )  # fmt: skip


def _mark(relations: np.ndarray, i: int, j: int, there: str, back: str) -> None:
    relations[i, j] |= _BIT[there]
    relations[j, i] |= _BIT[back]


def _token_relations(relations: np.ndarray, length: int) -> None:
    steps = ((0, "self"), (-1, "previous"), (1, "next"), (-2, "second_previous"))
    for step, name in (*steps, (2, "second_next")):
        rows = np.arange(max(0, -step), max(0, min(length, length - step)))
        relations[rows, rows + step] |= _BIT[name]


def _mention_relations(
    relations: np.ndarray,
    mention: Mention,
    m: int,
    length: int,
    base: int,
    schema: LinkedSchema,
    places: dict[ColumnRef, int],
    cells: np.ndarray,
) -> None:
    row = length + m
    relations[row, row] |= _BIT["self"]
    for token in range(mention.first, mention.last + 1):
        _mark(relations, token, row, "inside", "holds")
    for item in mention.cells:
        if (place := places.get(item)) is None:
            continue
        cells[m, place] = 1
        _mark(relations, row, base + place, "cell", "holds_cell")
        for token in range(mention.first, mention.last + 1):
            _mark(relations, token, base + place, "token_cell", "cell_token")
        table = places[ColumnRef(item.table)]
        _mark(relations, row, base + table, "cell", "holds_cell")
    is_number = mention.number is not None
    for item, place in places.items():
        if item.column == ROWS:
            continue
        if (is_number and schema.is_real(item)) or (mention.start and item in schema.dates):
            _mark(relations, row, base + place, "fits", "fitted")


def _name_matches(
    stems: Sequence[str], words: Sequence[str], names: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which tokens match a whole name, and which part of one: [L, S] bool each."""
    whole = np.zeros((len(stems), len(names)), bool)
    part = np.zeros((len(stems), len(names)), bool)
    at: dict[str, list[int]] = {}
    for i, (one, word) in enumerate(zip(stems, words, strict=True)):
        if word not in ASKING_WORDS:
            at.setdefault(one, []).append(i)
    for s, name in enumerate(names):
        for i in at.get(name[0], ()):
            if tuple(stems[i : i + len(name)]) == tuple(name):
                whole[i : i + len(name), s] = True
        if not whole[:, s].any():
            for one in name:
                part[at.get(one, []), s] = True
    return whole, part


def _token_signs(
    spans: Sequence[WordToken],
    whole: np.ndarray,
    part: np.ndarray,
    tables: int,
    inside: np.ndarray,
    found: Sequence[Mention],
) -> np.ndarray:
    signs = np.zeros((len(spans), len(TOKEN_SIGNS)), np.float32)
    signs[:, 6] = (whole | part)[:, tables:].any(1)
    signs[:, 7] = whole[:, tables:].any(1)
    signs[:, 8] = (whole | part)[:, :tables].any(1)
    for number, name in ((9, "cell"), (10, "quoted")):
        which = [name in mention.signs for mention in found]
        signs[:, number] = inside[:, which].any(1)
    for i, token in enumerate(spans):
        word = token.text
        signs[i, :6] = (
            word.isdigit(),
            word[:1].isupper(),
            word.isupper(),
            not word.isalnum(),
            _is_year(word),
            i > 0 and spans[i - 1].end == token.start,
        )
        signs[i, 11] = number_in_words(word) is not None
    return signs


def _item_signs(
    schema: LinkedSchema,
    numbers: Sequence[int],
    tables: int,
    whole: np.ndarray,
    part: np.ndarray,
    near: np.ndarray,
    cells: np.ndarray,
    found: Sequence[Mention],
) -> tuple[np.ndarray, np.ndarray]:
    any_whole, any_part = (np.any(one, axis=0).tolist() for one in (whole, part))
    nearest, any_cell = near.max(0, initial=0), cells.max(0, initial=0)
    of_table = [schema.items[n].table for n in numbers]
    table_place = {table: place for place, table in enumerate(of_table[:tables])}
    table_signs = np.zeros((tables, len(TABLE_SIGNS)), np.float32)
    for place in range(tables):
        table = schema.tables[of_table[place]]
        keys = {c for key in table.foreign_keys for c in key.columns} | set(table.primary_key)
        own = [p for p in range(tables, len(numbers)) if of_table[p] == of_table[place]]
        table_signs[place] = (
            any_part[place],
            any_whole[place],
            any_cell[own].max() if own else 0,
            len(table.columns) / 10,
            len(table.foreign_keys) > 1 and len(keys) >= len(table.columns) - 1,
            nearest[place],
        )
    held_number = any(mention.number is not None for mention in found)
    column_signs = np.zeros((len(numbers) - tables, len(COLUMN_SIGNS)), np.float32)
    for row, place in enumerate(range(tables, len(numbers))):
        number = numbers[place]
        own = schema.signs[number - len(schema.tables)]
        at = table_place[of_table[place]]
        column_signs[row, :8] = own
        column_signs[row, 8:] = (
            any_part[place],
            any_whole[place],
            len(schema.words[number]) / 4,
            any_cell[place],
            held_number and own[0],
            any_whole[at],
            any_part[at],
            nearest[place],
            len(schema.tables) == 1,
        )
    return table_signs, column_signs


def _looked_at(schema: LinkedSchema, stems: Sequence[str], found: Sequence[Mention]) -> list[int]:
    """Returns the items that the network reads: all of a small schema, else the best tables'."""
    columns = len(schema.items) - len(schema.tables)
    if len(schema.tables) <= MAX_TABLES and columns <= MAX_COLUMNS:
        return list(range(len(schema.items)))
    score = np.zeros(len(schema.tables))
    for one in set(stems):
        for number in schema.named.get(one, ()):
            item = schema.items[number]
            weight = 3.0 if item.column == ROWS else 1.0
            score[item.table] += (
                weight / len(schema.stems[number]) / np.sqrt(len(schema.named[one]))
            )
    for mention in found:
        for item in mention.cells:
            score[item.table] += 1.0 / len(mention.cells)
    # A link table scores like the worse of the two tables that it links.
    links = score.copy()
    for table in range(len(schema.tables)):
        ends = sorted({j.parent for j in schema.graph.joins if j.child == table})
        if len(ends) > 1:
            links[table] = max(score[table], sorted(score[ends])[-2] * 0.99)
    chosen: list[int] = []
    held = 0
    for table in np.argsort(-links, kind="stable"):
        width = len(schema.tables[table].columns)
        if len(chosen) < MAX_TABLES and (held + width <= MAX_COLUMNS or not chosen):
            chosen.append(int(table))
            held += width
    kept = set(chosen)
    wanted = [n for n, item in enumerate(schema.items) if item.table in kept]
    columns_kept = [n for n in wanted if schema.items[n].column != ROWS][:MAX_COLUMNS]
    return [*(n for n in wanted if schema.items[n].column == ROWS), *columns_kept]


_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]*[A-Za-z_])")
_QUOTED = re.compile(r"""(?<!\w)(["'`“‘])(.{1,60}?)(["'`”’])(?!\w)""")
_DAY = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}|[A-Za-z]{3,9}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}"
    r"|\d{1,2}(?:st|nd|rd|th)? [A-Za-z]{3,9}\.?,? \d{4}"
)
_MONTH = re.compile(r"([A-Za-z]{3,9}) (?:of )?(\d{4})\b")
_RELATIVE = re.compile(r"\b(today|yesterday|(?:this|last) (?:week|month|year))\b", re.I)


def mentions_of(
    text: str, spans: Sequence[WordToken], schema: LinkedSchema, today: date | None = None
) -> tuple[Mention, ...]:
    """Returns the spans of a question that may be values, at most ``MAX_MENTIONS``, in order."""
    found: dict[tuple[int, int], Mention] = {}

    def add(first: int, last: int, signs: Iterable[str], **more: Any) -> None:
        held = found.get((first, last))
        said = text[spans[first].start : spans[last].end]
        mine = frozenset(signs) | (held.signs if held else frozenset())
        more = {"start": held.start, "end": held.end, "cells": held.cells, **more} if held else more
        found[first, last] = Mention(first, last, said, mine, **more)

    for (first, last), signs, more in _spelled(text, spans, today):
        add(first, last, signs, **more)
    folded = [token.text.casefold() for token in spans]
    cells: list[tuple[int, int]] = []
    for width in range(min(_LONGEST_MENTION, len(spans)), 0, -1):
        for first in range(len(spans) - width + 1):
            last = first + width - 1
            if width == 1 and (folded[first] in ASKING_WORDS or not folded[first].isalnum()):
                continue
            held, exact = schema.cells(folded[first : last + 1])
            if held and not any(a <= first and last <= b for a, b in cells):
                cells.append((first, last))
                add(first, last, ["cell"] if exact else ["cell", "near"], cells=held)
    kept = [one for one in found.values() if not _is_part(one, found.values())]
    ranked = sorted(kept, key=lambda m: (-_weight(m), m.first))[:MAX_MENTIONS]
    return tuple(sorted(ranked, key=lambda m: (m.first, m.last)))


def _is_cell(mention: Mention) -> bool:
    return "cell" in mention.signs and "near" not in mention.signs


def _is_part(one: Mention, found: Iterable[Mention]) -> bool:
    """Returns True if a number is in a cell, a period or a quotation, as 211 in ACCT-211."""
    if not one.signs & {"number"} or one.cells:
        return False
    return any(
        other.first <= one.first
        and one.last <= other.last
        and (other.first, other.last) != (one.first, one.last)
        and (other.signs & {"quoted", "period"} or _is_cell(other))
        for other in found
    )


def _weight(mention: Mention) -> int:
    signs, is_cell = mention.signs, 2 * _is_cell(mention) + ("cell" in mention.signs)
    spelled = 4 * ("quoted" in signs) + 3 * bool(signs & {"number", "period"})
    return spelled + is_cell + ("capital" in signs)


def _spelled(
    text: str, spans: Sequence[WordToken], today: date | None
) -> Iterator[tuple[tuple[int, int], list[str], dict[str, Any]]]:
    """Yields mentions by their spelling: span, signs, other fields."""
    starts = {token.start: i for i, token in enumerate(spans)}
    ends = {token.end: i for i, token in enumerate(spans)}

    def span(begin: int, end: int) -> tuple[int, int] | None:
        if begin in starts and end in ends and starts[begin] <= ends[end]:
            return starts[begin], ends[end]
        return None

    for match in _NUMBER.finditer(text):
        if place := span(*match.span()):
            number = number_of(match[0])
            signs = ["number"]
            more: dict[str, Any] = {}
            if _is_year(match[0]):
                signs.append("year")
                more = _period(date(int(match[0]), 1, 1), date(int(match[0]) + 1, 1, 1))
            if number is not None and 0 <= number <= 10:
                signs.append("small")
            yield place, signs, more
    for i, token in enumerate(spans):
        number = None if token.text.isdigit() else number_in_words(token.text)
        if number is not None:
            yield (i, i), ["number", "numeral", *(["small"] if number <= 10 else [])], {}
    for match in _QUOTED.finditer(text):
        if place := span(*match.span(2)):
            yield place, ["quoted"], {}
    for match in _DAY.finditer(text):
        day = date_in(match[0])
        if day and day < date.max and (place := span(*match.span())):
            yield place, ["period"], _period(day, day + timedelta(1))
    for match in _MONTH.finditer(text):
        month, year = month_number(match[1].lower()), int(match[2])
        if month and 0 < year < date.max.year and (place := span(*match.span())):
            first = date(year, month, 1)
            yield place, ["period"], _period(first, _next_month(first))
    for match in _RELATIVE.finditer(text):
        if place := span(*match.span()):
            yield place, ["period", "relative"], _relative(match[1].lower(), today or date.today())
    yield from (((a, b), ["capital"], {}) for a, b in _capitals(spans))


def _capitals(spans: Sequence[WordToken]) -> Iterator[tuple[int, int]]:
    """Yields runs of capitalized tokens after the first word."""
    i = 1
    while i < len(spans):
        if not spans[i].text[:1].isupper():
            i += 1
            continue
        last = end = i
        while end + 1 < len(spans):
            end += 1
            word = spans[end].text
            if word[:1].isupper() or (word.isdigit() and end == last + 1):
                last = end
            elif word not in ("of", "the", "de", "la", "and", "-", "'", ".", "&", "s"):
                break
        yield i, last
        i = last + 1


def _period(first: date, end: date) -> dict[str, str]:
    return {"start": first.isoformat(), "end": end.isoformat()}


def _next_month(first: date) -> date:
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _relative(words: str, today: date) -> dict[str, str]:
    if words in ("today", "yesterday"):
        day = today - timedelta(words == "yesterday")
        return _period(day, day + timedelta(1))
    last, unit = words.startswith("last"), words.split()[1]
    if unit == "week":
        first = today - timedelta(today.weekday() + 7 * last)
        return _period(first, first + timedelta(7))
    if unit == "month":
        first = today.replace(day=1)
        first = (first - timedelta(1)).replace(day=1) if last else first
        return _period(first, _next_month(first))
    return _period(date(today.year - last, 1, 1), date(today.year - last + 1, 1, 1))


def _is_year(word: str) -> bool:
    return word.isdigit() and len(word) == 4 and "1000" < word <= "2100"


def _is_iso(value: str) -> bool:
    return bool(re.match(r"\d{4}-\d{2}-\d{2}", value))
