"""Questions to SQL: the model that ships with the package, or one of your own, on any database.

    parser = SQLNet.from_pretrained()
    schema = Schema.from_sqlite("shop.db")
    parse = parser.parse("which city does Ann Lee live in?", schema)
    parse.statement()          # SQL text with placeholders, and their values
    parse.confidence           # that the query is the right one
    parse.rows                 # the answer

A query is one SELECT on one table of the schema (:mod:`codegen.sqlnet.query`): no column can be
invented, values are parameters. Before anything runs it passes the gate of
:mod:`codegen.sqlnet.sql`, and the database is open for reading alone.

What one sketch cannot say (:func:`beyond_the_sketch`) is detected by the words of a question:
English words for grouping, ordering, alternatives and negation. Limit: words alone; a question may
ask for a join without any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, get_args
from weakref import WeakKeyDictionary

from codegen.errors import ConfigError, InputError
from codegen.sqlnet.databases import DEFAULT_LIMITS, Rows, StatementLimits
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.decode import (
    Choice,
    ScoredQuery,
    Slots,
    candidates,
    choose,
    slot_probabilities,
    with_mentions,
)
from codegen.sqlnet.features import EncodedQuestion, encode_question
from codegen.sqlnet.linking import (
    MOST_TABLES,
    Held,
    Link,
    Linker,
    RankedTable,
    links_of,
    overlaps,
    rank,
    spelled_out,
)
from codegen.sqlnet.network import Network
from codegen.sqlnet.query import AGGREGATES, OPERATORS, Query, Statement, Table
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import to_sql
from codegen.sqlnet.words import MAX_TOKENS

DEFAULT_MODEL = Path(__file__).parent / "weights" / "default"
MIN_CONFIDENCE = 0.2
_BEAM = 4
_CLEAR = 0.8  # probability of a table, above which no other one is spoken of
_MOST_PAIRS = 1_000_000  # of columns, in tables that are read together
_PARTS = ("column", "operator", "value")  # of a condition

Execute = Literal["auto", "guided", "never"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One filled slot of the sketch, in words, with the confidence that it is right."""

    name: str
    content: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a question.

    Attributes:
        query: the filled sketch.
        table: the table that it asks.
        confidence: that it is the right query on this table.
        slots: its parts.
        links: values of the question that were taken for values of the table.
    """

    query: Query
    table: Table
    confidence: float
    slots: tuple[Slot, ...]
    links: tuple[Link, ...] = ()

    def statement(self, dialect: str = "sqlite") -> Statement:
        """SQL text in one of sqlglot's dialects, with placeholders, and the values for them."""
        return to_sql(self.query, self.table, dialect)


@dataclass(frozen=True, slots=True)
class Parse:
    """What was understood of a question.

    Attributes:
        question: as it was asked.
        readings: the best first; at least one.
        tables: all tables that were looked at, the most probable first.
        attention: slot -> how much each token counted when its column was chosen: ``select``, and
            ``where`` for each column of a condition, by its name.
        abstained: why the best reading should not be trusted; "" if it may be.
        notes: what a reader should know beside that.
        rows: what the best reading gives; None if it was not run or failed.
        failure: why it gives nothing, if it was run and failed.
    """

    question: str
    readings: tuple[Reading, ...]
    tables: tuple[RankedTable, ...]
    attention: dict[str, tuple[tuple[str, float], ...]]
    abstained: str = ""
    notes: tuple[str, ...] = ()
    rows: Rows | None = None
    failure: str = ""

    @property
    def best(self) -> Reading:
        """The best reading."""
        return self.readings[0]

    @property
    def query(self) -> Query:
        """Of the best reading."""
        return self.best.query

    @property
    def confidence(self) -> float:
        """Of the best reading, times the probability of its table."""
        return self.best.confidence * self.tables[0].probability

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Of the best reading."""
        return self.best.slots

    def statement(self, dialect: str = "sqlite") -> Statement:
        """Of the best reading; see :meth:`Reading.statement`."""
        return self.best.statement(dialect)


class SQLNet:
    """Reads questions with a trained network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._held: WeakKeyDictionary[Database, Held] = WeakKeyDictionary()

    @classmethod
    def from_pretrained(
        cls, path: str | Path | None = None, encoder: str | Path | None = None
    ) -> SQLNet:
        """Loads a directory that ``codegen sqlnet train`` made, or the model of the package.

        ``encoder`` and what is raised: see :meth:`codegen.sqlnet.network.Network.load`.
        """
        return cls(Network.load(DEFAULT_MODEL if path is None else path, encoder))

    def parse(
        self,
        question: str,
        schema: Schema,
        *,
        table: str | None = None,
        top_k: int = 3,
        execute: Execute = "auto",
        link_values: bool = True,
        min_confidence: float = MIN_CONFIDENCE,
        limits: StatementLimits = DEFAULT_LIMITS,
    ) -> Parse:
        """Reads a question.

        Args:
            question: in English; only its first 200 tokens are read.
            schema: what can be asked.
            table: a table's name; without it, the most probable one is taken.
            top_k: how many readings to give.
            execute: ``guided`` takes the first reading that runs and gives something, and runs up
                to a dozen statements for that; ``never`` runs nothing; ``auto`` is ``guided`` where
                the schema holds a database.
            link_values: whether a value may be replaced by the one of the table that it means. The
                table is read for that; with ``never`` it is not.
            min_confidence: below it the parse says that it abstains.
            limits: of each statement.

        Raises:
            InputError: if the question is empty, or there is no such table.
            ConfigError: if an option is out of range, or ``guided`` has no database.
        """
        database = _database(schema, execute)
        _check(question, top_k, min_confidence)
        tables = schema.tables if table is None else (schema.table(table),)
        encoded, slots, ranked = self._read(question, tables)
        linker = None
        if database and link_values:
            linker = Linker(database, encoded.table, self._held.setdefault(database, Held()))
            slots = with_mentions(slots, linker.mentioned(encoded))
        listed = candidates(slots, encoded.text, encoded.tokens, _BEAM, table=encoded.table)
        kind, choice = "query", Choice(0, listed[0], listed[0].log_probability)
        if database:
            kind, choice = "guided", choose(listed, encoded.table, database, limits, linker)
        whole = self.network.calibration.confidence(kind, choice.log_probability)
        said = listed[choice.number].query
        first = self._reading(encoded, slots, choice.candidate, said, whole)
        others = (c for i, c in enumerate(listed) if i != choice.number)
        rest = [self._reading(encoded, slots, c, c.query) for c in islice(others, top_k - 1)]
        return Parse(
            question,
            (first, *rest),
            tuple(ranked),
            _attention(encoded, slots, first.query),
            self._doubt(
                encoded, first.query, first.confidence * ranked[0].probability, min_confidence
            ),
            (*_notes(encoded, ranked), *_unmet(first.query, encoded, linker)),
            choice.rows,
            choice.failure,
        )

    def _read(
        self, question: str, tables: Sequence[Table]
    ) -> tuple[EncodedQuestion, Slots, list[RankedTable]]:
        """The question on its most probable table; short forms in names are read as its words."""
        spelled = [spelled_out(table, question) for table in tables]
        shared = overlaps(question, spelled)
        order = sorted(range(len(tables)), key=lambda i: -shared[i])[:MOST_TABLES]
        encoded = [encode_question(question, spelled[i]) for i in order]
        read: list[Slots] = [None] * len(encoded)  # type: ignore[list-item]
        for group in _groups([len(one.table.columns) for one in encoded]):
            some = self.network.read([encoded[i] for i in group], beam=_BEAM, attention=True)
            for i, slots in zip(group, some, strict=True):
                read[i] = slots
        best = [
            candidates(slots, one.text, one.tokens, _BEAM, 1, one.table)[0].log_probability
            for one, slots in zip(encoded, read, strict=True)
        ]
        looked_at = [tables[i] for i in order]
        ranked = rank(looked_at, [shared[i] for i in order], best)
        chosen = next(i for i, table in enumerate(looked_at) if table is ranked[0].table)
        return replace(encoded[chosen], table=ranked[0].table), read[chosen], ranked

    def _reading(
        self,
        encoded: EncodedQuestion,
        slots: Slots,
        candidate: ScoredQuery,
        said: Query,
        confidence: float | None = None,
    ) -> Reading:
        """A candidate in words; ``said`` is its query with the values as the question has them."""
        calibration, query = self.network.calibration, candidate.query
        columns = encoded.table.columns
        found = slot_probabilities(slots, candidate)
        filled = [
            ("select", columns[query.select].name, "select", found.select),
            ("aggregate", AGGREGATES[query.aggregate] or "none", "aggregate", found.aggregate),
            ("conditions", str(len(query.conditions)), "number", found.number),
        ]
        for number, (condition, parts) in enumerate(
            zip(query.conditions, found.conditions, strict=True), 1
        ):
            contents = (
                columns[condition.column].name,
                OPERATORS[condition.operator],
                condition.value,
            )
            for name, content, part in zip(_PARTS, contents, parts, strict=True):
                filled.append((f"{name} {number}", content, name, part))
        return Reading(
            query,
            encoded.table,
            calibration.confidence("query", candidate.log_probability)
            if confidence is None
            else confidence,
            tuple(
                Slot(name, content, calibration.confidence(kind, log_probability))
                for name, content, kind, log_probability in filled
            ),
            links_of(said, query, encoded.table),
        )

    def _doubt(
        self, encoded: EncodedQuestion, query: Query, confidence: float, least: float
    ) -> str:
        """Why the best reading should not be trusted, or ""."""
        words = [token.text.lower() for token in encoded.tokens if token.text.isalpha()]
        table = spelled_out(encoded.table, encoded.text)
        names = {word for column in table.columns for word in column.words}
        known = sum(word in self.network.vocabulary or word in names for word in words)
        if words and known < len(words) / 2:
            return "Most words of the question are unknown: the model reads English."
        if not query.conditions and not overlaps(encoded.text, [table])[0]:
            return "No word of the question names the table, a column or a value."
        if beyond := beyond_the_sketch(encoded.text, (column.words for column in table.columns)):
            return f"The question seems to ask for {beyond}, which a single sketch can't say."
        if confidence < least:
            return f"The confidence is {confidence:.2f}, below {least:g}."
        return ""


def _groups(widths: Sequence[int]) -> list[list[int]]:
    """Tables to read together, by their numbers of columns: a few wide ones would pad the others,
    and memory grows with the square of the width.
    """
    found: list[list[int]] = [[]]
    held = 0
    for number in sorted(range(len(widths)), key=lambda i: widths[i]):
        width, size = widths[number], len(found[-1]) + 1
        if size > 1 and (size * width > 3 * (held + width) or size * width**2 > _MOST_PAIRS):
            found.append([])
            held = 0
        found[-1].append(number)
        held += width
    return [sorted(group) for group in found]


def _database(schema: Schema, execute: Execute) -> Database | None:
    if execute not in get_args(Execute):
        raise ConfigError(
            f"execute is {execute!r}.", f"It must be one of: {', '.join(get_args(Execute))}."
        )
    if execute == "guided" and schema.database is None:
        raise ConfigError(
            "The schema was made from names alone: there is nothing to run a query on.",
            'Open a file (Schema.open), or give execute="never".',
        )
    return None if execute == "never" else schema.database


def _check(question: str, top_k: int, min_confidence: float) -> None:
    if not isinstance(question, str) or not question.strip():
        raise InputError("The question is empty.", "Ask something, such as: how many rows?")
    if top_k < 1:
        raise ConfigError(f"top_k is {top_k}; it must be at least 1.")
    if not 0 <= min_confidence <= 1:
        raise ConfigError(f"min_confidence is {min_confidence}; it must lie in [0, 1].")


def _attention(
    encoded: EncodedQuestion, slots: Slots, query: Query
) -> dict[str, tuple[tuple[str, float], ...]]:
    """What each chosen column looked at."""
    chosen = [("select", "select", query.select)]
    for condition in query.conditions:
        name = encoded.table.columns[condition.column].name
        chosen.append((f"where {name}", "where", condition.column))
    texts = [token.text for token in encoded.tokens]
    return {
        name: tuple(zip(texts, slots.attention[slot][column].tolist(), strict=True))
        for name, slot, column in chosen
    }


def _unmet(query: Query, encoded: EncodedQuestion, linker: Linker | None) -> Iterator[str]:
    """Values that their column does not hold, and values of the table that were left out."""
    if linker is None:
        return
    columns = encoded.table.columns
    for condition in query.conditions:
        if linker.selects(condition) is False:
            yield f"No {columns[condition.column].name} is {condition.value!r}."
    used = " | ".join(condition.value.casefold() for condition in query.conditions)
    names = {word for column in columns for word in column.words}
    for column, spans in linker.mentioned(encoded).items():
        for first, last in spans:
            text = encoded.text[encoded.tokens[first].start : encoded.tokens[last].end]
            if text.casefold() not in used and text.casefold() not in names:
                yield f"{text!r} is a {columns[column].name}, which the query does not use."


def _notes(encoded: EncodedQuestion, ranked: Sequence[RankedTable]) -> Iterator[str]:
    if len(encoded.tokens) == MAX_TOKENS:
        yield f"Only the first {MAX_TOKENS} tokens of the question were read."
    if len(ranked) > 1 and ranked[0].probability < _CLEAR:
        others = ", ".join(item.table.name for item in ranked[1:3])
        yield f"It could also be about another table: {others}."


_CUES = (
    ("grouping", r"\b(for|in|of|by|from) (each|every)\b|\bgroup(ed)? by\b|\bbroken down by\b"),
    ("grouping", r"\bper (?!cent\b|game\b|capita\b|day\b|hour\b|minute\b|year\b)[a-z]+\b"),
    ("grouping", r"\b(average|mean|total|sum|count|number)\b[^?]*\bby [a-z]+\s*\??$"),
    ("ordering", r"\b(sort|sorted|order|ordered|rank|ranked) by\b|\b(as|de)scending\b"),
    ("the first few", r"\b(top|first|last|bottom) (\d+|two|three|four|five|ten|twenty)\b"),
    ("an alternative", r"\beither\b|\bor (not|both)\b"),
    ("negation", r"\b(is|are|was|were|do|does|did|has|have|had)(n't| not) |\bexcept\b|\bwithout\b"),
    (
        "a share",
        r"\b(what|which) (percentage|share|proportion|fraction|ratio)\b|\bhow many percent\b",
    ),
    (
        "a comparison of columns",
        r"\bdifference between\b|\b(more|less|fewer) \w+ than \w+ (has|have)",
    ),
)
_BEYOND = tuple((what, re.compile(pattern, re.IGNORECASE)) for what, pattern in _CUES)


def beyond_the_sketch(question: str, names: Iterable[Sequence[str]] = ()) -> str:
    """What the question seems to ask for that the sketch has no place for; "" if nothing.

    Args:
        question: as it was asked.
        names: the words of columns' names, which are no cues: miles per gallon groups nothing.
    """
    for words in names:
        if any(pattern.search(" ".join(words)) for _, pattern in _BEYOND):
            name = r"\W+".join(map(re.escape, words))
            question = re.sub(rf"\b{name}\b", " ", question, flags=re.IGNORECASE)
    for what, pattern in _BEYOND:
        if pattern.search(question):
            return what
    return ""
