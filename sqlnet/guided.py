"""The most probable queries of a question, and the choice among them by running them.

Source of the idea: Wang et al. 2018, "Robust Text-to-SQL Generation with Execution-Guided
Decoding" (arXiv 1807.03100), and its form in SQLova (arXiv 1902.01069). Here the queries are listed
by their joint probability under the sketch, and the first one that runs and gives something is
taken. A condition that alone selects no row condemns every query that holds it, so few queries are
run. Limit: where the right answer is empty (about one question of ten in WikiSQL), a strict rule
errs; if no query gives anything, the most probable one stands.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from codegen.sqlnet.databases.base import DEFAULT_LIMITS, Database, Limits, Rows
from codegen.sqlnet.decode import Slots, value_of
from codegen.sqlnet.errors import DatabaseError
from codegen.sqlnet.layout import MAX_CONDITIONS, Span
from codegen.sqlnet.linking import Linker
from codegen.sqlnet.numbers import number_in_words
from codegen.sqlnet.query import AGGREGATES, OPERATORS, Condition, Query
from codegen.sqlnet.schema import Table, number_of
from codegen.sqlnet.sql import to_sql
from codegen.sqlnet.tokens import Token

MAX_RUNS = 12  # statements that one question may cost
_COLUMNS = 6  # columns looked at for conditions
_MENTION = math.log(0.5)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A query, and the joint log-probability of its slots.

    ``values`` are the log-probabilities of its conditions' values.
    """

    query: Query
    log_probability: float
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SlotProbabilities:
    """Log-probabilities of a candidate's slots; ``conditions``: of column, operator and value."""

    select: float
    aggregate: float
    number: float
    conditions: tuple[tuple[float, float, float], ...]


def slot_probabilities(slots: Slots, candidate: Candidate) -> SlotProbabilities:
    """The factors of a candidate's probability; those of columns left out are not told."""
    query = candidate.query
    return SlotProbabilities(
        float(slots.select[query.select]),
        float(slots.aggregate[query.select, query.aggregate]),
        float(slots.number[len(query.conditions)]),
        tuple(
            (float(slots.where[c.column]), float(slots.operator[c.column, c.operator]), value)
            for c, value in zip(query.conditions, candidate.values, strict=True)
        ),
    )


@dataclass(frozen=True, slots=True)
class _Option:
    """One way to use a column in a condition; ``gain`` is against leaving the column out."""

    condition: Condition
    gain: float
    value: float  # the value's log-probability


def candidates(
    slots: Slots,
    question: str,
    tokens: Sequence[Token],
    beam: int = 4,
    most: int = 64,
    table: Table | None = None,
) -> list[Candidate]:
    """The most probable queries, best first.

    The probability of a query is the product of those of its slots: the SELECT column, the
    aggregate given it, the number of conditions, for each column whether it is in a condition, and
    the operator and the value of those that are.

    Args:
        slots: made with the same ``beam``.
        beam: (column, aggregate) pairs, and ways to use a column, that are looked at.
        most: queries to list.
        table: if given, a column of numbers is compared with values that are numbers alone.
    """
    heads = list(_heads(slots, beam))
    bodies = heapq.nlargest(
        most, _bodies(slots, question, tokens, beam, table), key=lambda pair: pair[1]
    )
    joined = (
        Candidate(
            Query(select, aggregate, tuple(option.condition for option in options)),
            head + body,
            tuple(option.value for option in options),
        )
        for select, aggregate, head in heads
        for options, body in bodies
    )
    return heapq.nlargest(most, joined, key=lambda candidate: candidate.log_probability)


def with_mentions(slots: Slots, mentioned: Mapping[int, Sequence[tuple[int, int]]]) -> Slots:
    """The slots with further values: spans of the question that stand in a column as they are.

    Each is taken to be as probable as not (:data:`_MENTION`), if the network gives it less.
    """
    values = dict(slots.values)
    equals = OPERATORS.index("=")
    for column, spans in mentioned.items():
        held = {(span.first, span.last): span for span in values.get((column, equals), ())}
        for first, last in spans:
            known = held.get((first, last))
            if known is None or known.log_probability < _MENTION:
                held[first, last] = Span(first, last, _MENTION)
        values[column, equals] = tuple(sorted(held.values(), key=lambda s: -s.log_probability))
    return replace(slots, values=values)


def _heads(slots: Slots, beam: int) -> Iterator[tuple[int, int, float]]:
    joint = (slots.select[:, None] + slots.aggregate).flatten()
    best = joint.topk(min(beam, len(joint)))
    for index, score in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        yield index // len(AGGREGATES), index % len(AGGREGATES), score


def _bodies(
    slots: Slots, question: str, tokens: Sequence[Token], beam: int, table: Table | None
) -> Iterator[tuple[tuple[_Option, ...], float]]:
    """Sets of conditions with their log-probabilities: the best way for each column, and those
    that differ from it in one condition.
    """
    where = slots.where.tolist()
    left_out = [_log_not(score) for score in where]
    none = sum(left_out)
    usable = []
    for column in slots.where.topk(min(_COLUMNS, len(where))).indices.tolist():
        numeric = table is not None and table.columns[column].type == "real"
        gain = where[column] - left_out[column]
        if found := _options(slots, column, gain, question, tokens, beam, numeric):
            usable.append(found)
    number = slots.number.tolist()
    for count in range(min(MAX_CONDITIONS, len(usable)) + 1):
        for chosen in combinations(usable, count):
            best = [found[0] for found in chosen]
            score = number[count] + none + sum(option.gain for option in best)
            yield tuple(best), score
            for i, found in enumerate(chosen):
                for other in found[1:]:
                    varied = [*best[:i], other, *best[i + 1 :]]
                    gain = other.gain - best[i].gain
                    yield tuple(varied), score + gain


def _options(
    slots: Slots,
    column: int,
    gain: float,
    question: str,
    tokens: Sequence[Token],
    beam: int,
    numeric: bool,
) -> list[_Option]:
    found: dict[tuple[int, str], _Option] = {}
    for (of, operator), spans in slots.values.items():
        if of != column:
            continue
        for span in spans:
            value = value_of(question, tokens, span)
            if numeric and number_of(value) is None and number_in_words(value) is None:
                continue
            score = gain + float(slots.operator[column, operator]) + span.log_probability
            option = _Option(Condition(column, operator, value), score, span.log_probability)
            held = found.get((operator, value.lower()))
            if held is None or held.gain < score:
                found[operator, value.lower()] = option
    return heapq.nlargest(beam, found.values(), key=lambda option: option.gain)


def _log_not(log_probability: float) -> float:
    """log(1 - p)."""
    return math.log1p(-min(math.exp(log_probability), 1 - 1e-7))


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate that was chosen by running it.

    Attributes:
        number: its place among the candidates.
        candidate: its values linked, if there is a linker.
        log_probability: of all candidates that ask alike, given that those with a condition that
            selects no row are wrong.
        rows: what it gave; None if it failed or was not run.
        failure: then why.
    """

    number: int
    candidate: Candidate
    log_probability: float
    rows: Rows | None = None
    failure: str = ""


def choose(
    found: Sequence[Candidate],
    table: Table,
    database: Database,
    limits: Limits = DEFAULT_LIMITS,
    linker: Linker | None = None,
) -> Choice:
    """The first candidate that runs and gives something; if none does, the first one.

    Runs at most ``MAX_RUNS`` statements.

    Args:
        found: best first, at least one.
        table: what they ask.
        database: what answers.
        limits: of each statement.
        linker: if given, values are linked to those of the table.
    """
    linked = [replace(c, query=linker.link(c.query)) for c in found] if linker else list(found)
    selects: dict[Condition, bool] = {}  # whether a condition alone selects a row
    if linker:
        for condition in {c for listed in linked for c in listed.query.conditions}:
            if (known := linker.selects(condition)) is not None:
                selects[condition] = known
    number, rows, failure = _first_that_gives(linked, selects, table, database, limits)
    chosen = linked[number]
    wrong = sum(
        math.exp(listed.log_probability)
        for listed in linked
        if listed is not chosen and _is_dead(listed, selects)
    )
    right = sum(math.exp(c.log_probability) for c in linked if _asks_alike(c.query, chosen.query))
    log_probability = math.log(max(right, 1e-30) / max(1 - wrong, right, 1e-12))
    return Choice(number, chosen, log_probability, rows, failure)


def _first_that_gives(
    linked: Sequence[Candidate],
    selects: dict[Condition, bool],
    table: Table,
    database: Database,
    limits: Limits,
) -> tuple[int, Rows | None, str]:
    """The candidate's number, its rows, why there are none; adds to ``selects``."""
    runs = 0
    first: tuple[int, Rows | None, str] | None = None
    for number, candidate in enumerate(linked):
        if _is_dead(candidate, selects):
            continue
        if runs >= MAX_RUNS:
            break
        runs += 1
        rows, failure = _run(candidate.query, table, database, limits)
        first = first or (number, rows, failure)
        if rows is not None and _gives_something(rows, candidate.query):
            return number, rows, failure
        for condition in candidate.query.conditions:
            if condition not in selects and runs < MAX_RUNS:
                runs += 1
                alone, _ = _run(Query(condition.column, 3, (condition,)), table, database, limits)
                selects[condition] = alone is not None and alone.rows != ((0,),)
    if first is None:  # no candidate can give anything: the most probable one is run all the same
        first = 0, *_run(linked[0].query, table, database, limits)
    return first


def _asks_alike(one: Query, other: Query) -> bool:
    """Whether two queries are the same, or count the same rows (NULL aside) by another column."""
    counts = AGGREGATES[one.aggregate] == "COUNT" == AGGREGATES[other.aggregate]
    return one.matches(replace(other, select=one.select) if counts else other)


def _is_dead(candidate: Candidate, selects: Mapping[Condition, bool]) -> bool:
    return any(selects.get(condition) is False for condition in candidate.query.conditions)


def _run(query: Query, table: Table, database: Database, limits: Limits) -> tuple[Rows | None, str]:
    try:
        return database.execute(to_sql(query, table, database.dialect), limits), ""
    except DatabaseError as error:
        return None, str(error)


def _gives_something(rows: Rows, query: Query) -> bool:
    """Whether there is a row that is not NULL; a count of 0 is nothing either."""
    if AGGREGATES[query.aggregate] == "COUNT":
        return rows.rows != ((0,),)
    return any(value is not None for row in rows.rows for value in row)
