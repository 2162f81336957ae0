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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from codegen.sqlnet.databases.base import DEFAULT_LIMITS, Database, Limits, Rows
from codegen.sqlnet.decode import Slots, value_of
from codegen.sqlnet.errors import DatabaseError
from codegen.sqlnet.layout import MAX_CONDITIONS
from codegen.sqlnet.query import AGGREGATES, Condition, Query
from codegen.sqlnet.schema import Table
from codegen.sqlnet.sql import to_sql
from codegen.sqlnet.tokens import Token

MAX_RUNS = 12  # statements that one question may cost
_COLUMNS = 6  # columns looked at for conditions


@dataclass(frozen=True, slots=True)
class Candidate:
    """A query, and the joint log-probability of its slots."""

    query: Query
    log_probability: float


@dataclass(frozen=True, slots=True)
class _Option:
    """One way to use a column in a condition; ``gain`` is against leaving the column out."""

    condition: Condition
    gain: float


def candidates(
    slots: Slots, question: str, tokens: Sequence[Token], beam: int = 4, most: int = 64
) -> list[Candidate]:
    """The most probable queries, best first.

    The probability of a query is the product of those of its slots: the SELECT column, the
    aggregate given it, the number of conditions, for each column whether it is in a condition, and
    the operator and the value of those that are.

    Args:
        slots: made with the same ``beam``.
        beam: (column, aggregate) pairs, and ways to use a column, that are looked at.
        most: queries to list.
    """
    heads = list(_heads(slots, beam))
    bodies = heapq.nlargest(most, _bodies(slots, question, tokens, beam), key=lambda pair: pair[1])
    joined = (
        Candidate(Query(select, aggregate, conditions), head + body)
        for select, aggregate, head in heads
        for conditions, body in bodies
    )
    return heapq.nlargest(most, joined, key=lambda candidate: candidate.log_probability)


def _heads(slots: Slots, beam: int) -> Iterator[tuple[int, int, float]]:
    joint = (slots.select[:, None] + slots.aggregate).flatten()
    best = joint.topk(min(beam, len(joint)))
    for index, score in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        yield index // len(AGGREGATES), index % len(AGGREGATES), score


def _bodies(
    slots: Slots, question: str, tokens: Sequence[Token], beam: int
) -> Iterator[tuple[tuple[Condition, ...], float]]:
    """Sets of conditions with their log-probabilities: the best way for each column, and those
    that differ from it in one condition.
    """
    where = slots.where.tolist()
    left_out = [_log_not(score) for score in where]
    none = sum(left_out)
    options = [
        (column, _options(slots, column, where[column] - left_out[column], question, tokens, beam))
        for column in slots.where.topk(min(_COLUMNS, len(where))).indices.tolist()
    ]
    usable = [found for _, found in options if found]
    number = slots.number.tolist()
    for count in range(min(MAX_CONDITIONS, len(usable)) + 1):
        for chosen in combinations(usable, count):
            best = [found[0] for found in chosen]
            score = number[count] + none + sum(option.gain for option in best)
            yield tuple(option.condition for option in best), score
            for i, found in enumerate(chosen):
                for other in found[1:]:
                    varied = [*best[:i], other, *best[i + 1 :]]
                    gain = other.gain - best[i].gain
                    yield tuple(option.condition for option in varied), score + gain


def _options(
    slots: Slots,
    column: int,
    gain: float,
    question: str,
    tokens: Sequence[Token],
    beam: int,
) -> list[_Option]:
    found: dict[tuple[int, str], _Option] = {}
    for (of, operator), spans in slots.values.items():
        if of != column:
            continue
        for span in spans:
            value = value_of(question, tokens, span)
            score = gain + float(slots.operator[column, operator]) + span.log_probability
            option = _Option(Condition(column, operator, value), score)
            held = found.get((operator, value.lower()))
            if held is None or held.gain < score:
                found[operator, value.lower()] = option
    return heapq.nlargest(beam, found.values(), key=lambda option: option.gain)


def _log_not(log_probability: float) -> float:
    """log(1 - p)."""
    return math.log1p(-min(math.exp(log_probability), 1 - 1e-7))


def choose(
    found: Sequence[Candidate], table: Table, database: Database, limits: Limits = DEFAULT_LIMITS
) -> tuple[Candidate, Rows | None]:
    """The first candidate that runs and gives something, with what it gave; else the first one.

    Runs at most ``MAX_RUNS`` statements. Rows are None if the chosen candidate fails or was not
    run.
    """
    runs = 0
    selects: dict[Condition, bool] = {}  # whether a condition alone selects a row
    first_rows: Rows | None = None
    for number, candidate in enumerate(found):
        if any(selects.get(condition) is False for condition in candidate.query.conditions):
            continue
        if runs >= MAX_RUNS:
            break
        runs += 1
        rows = _run(candidate.query, table, database, limits)
        if number == 0:
            first_rows = rows
        if rows is not None and _gives_something(rows, candidate.query):
            return candidate, rows
        for condition in candidate.query.conditions:
            if condition not in selects and runs < MAX_RUNS:
                runs += 1
                alone = _run(Query(condition.column, 3, (condition,)), table, database, limits)
                selects[condition] = alone is not None and alone.rows != ((0,),)
    return found[0], first_rows


def _run(query: Query, table: Table, database: Database, limits: Limits) -> Rows | None:
    try:
        return database.execute(to_sql(query, table, database.dialect), limits)
    except DatabaseError:
        return None


def _gives_something(rows: Rows, query: Query) -> bool:
    """Whether there is a row that is not NULL; a count of 0 is nothing either."""
    if AGGREGATES[query.aggregate] == "COUNT":
        return rows.rows != ((0,),)
    return any(value is not None for row in rows.rows for value in row)
