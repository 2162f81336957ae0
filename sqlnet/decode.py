"""Decoding of logits to queries: slot probabilities, the best queries, and execution guidance.

Greedy (:func:`best_query`), as in the paper (section 3.3): the WHERE columns are the K most likely
ones, where K is the most likely number. Joint (:func:`candidates`): the queries with the highest
product of slot probabilities. A ``text`` column is neither summed nor ordered.

:func:`choose` runs candidates: Wang et al. 2018, "Robust Text-to-SQL Generation with
Execution-Guided Decoding" (arXiv 1807.03100), and its form in SQLova (arXiv 1902.01069). There,
queries without a result are dropped. About a tenth of WikiSQL's correct answers are empty, NULL or
0, so that rule costs a good model more than it gains; here each observation subtracts a penalty
from the log-probability: small for an empty answer, large for an equality that selects no row by
itself. The penalties were fitted on questions of WikiSQL's rebuilt development set that the model
was not trained on.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from codegen.core.errors import CodegenError
from codegen.sqlnet.databases import DEFAULT_LIMITS, ResultSet, StatementLimits, TooSlowError
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.features import Tensors
from codegen.sqlnet.layout import MAX_CONDITIONS, Layout, ValueSpan, lowest
from codegen.sqlnet.linking import Linker
from codegen.sqlnet.plan import QueryPlan
from codegen.sqlnet.query import AGGREGATES, OPERATORS, Condition, Query, Table
from codegen.sqlnet.sql import to_sql
from codegen.sqlnet.words import WordToken, number_in_words, number_of

_NUMERIC_AGGREGATES = tuple(AGGREGATES.index(name) for name in ("MAX", "MIN", "SUM", "AVG"))
_ORDERING = tuple(OPERATORS.index(name) for name in (">", "<"))


@dataclass(frozen=True, slots=True)
class SlotScores:
    """Log-probabilities of one question's slots; C columns.

    Attributes:
        select: [C]. aggregate: [C, aggregates], given that the column is selected.
        where: [C], that the column is in a condition. number: [MAX_CONDITIONS + 1].
        operator: [C, operators]. values: (column, operator) -> its best spans, best first, for the
            columns most likely in a condition, most likely first.
    """

    select: Tensor
    aggregate: Tensor
    where: Tensor
    number: Tensor
    operator: Tensor
    values: dict[tuple[int, int], tuple[ValueSpan, ...]]


@torch.inference_mode()
def slots(
    model: Layout, batch: Tensors, tables: Sequence[Table], *, beam: int = 1
) -> list[SlotScores]:
    """Returns the slots of each question.

    Args:
        model: network in evaluation mode.
        beam: spans kept for each (column, operator); with 1, only the best operator's spans.
    """
    states = model.encode(batch)
    outputs = model.slots(states)
    aggregate, operator = model.aggregates(states), model.operators(states)
    for b, table in enumerate(tables):
        text = [c for c, column in enumerate(table.columns) if column.type == "text"]
        for masked, logits in ((_NUMERIC_AGGREGATES, aggregate), (_ORDERING, operator)):
            for index in masked:
                logits[b, text, index] = lowest(logits)
    operator = operator.log_softmax(-1)
    values = _values(model, states, outputs.where, operator, beam)
    aggregate, where = aggregate.log_softmax(-1), logsigmoid(outputs.where)
    select, number = outputs.select.log_softmax(-1), outputs.number.log_softmax(-1)
    widths = batch.column_mask.sum(1).tolist()
    return [
        SlotScores(
            select[b, :c], aggregate[b, :c], where[b, :c], number[b], operator[b, :c], values[b]
        )
        for b, c in enumerate(widths)
    ]


def _values(
    model: Layout, states: object, where: Tensor, operator: Tensor, beam: int
) -> list[dict[tuple[int, int], tuple[ValueSpan, ...]]]:
    columns = where.topk(min(MAX_CONDITIONS, where.shape[1])).indices  # [B, K]
    ranked = operator[torch.arange(len(columns))[:, None], columns].argsort(-1, descending=True)
    ranks = 1 if beam == 1 else len(OPERATORS)
    operators = ranked[..., :ranks].transpose(1, 2).flatten(1)  # [B, ranks K], the best first
    repeated = columns.repeat(1, ranks)
    spans = model.values(states, repeated, operators, beam)
    return [
        dict(zip(zip(*keys, strict=True), row, strict=True))
        for *keys, row in zip(repeated.tolist(), operators.tolist(), spans, strict=True)
    ]


def best_query(found: SlotScores, question: str, tokens: Sequence[WordToken]) -> Query:
    """Returns the most likely query, filled slot by slot along the paper's dependency graph."""
    select = int(found.select.argmax())
    aggregate = int(found.aggregate[select].argmax())
    number = min(int(found.number.argmax()), len(found.where))
    conditions = []
    for column in list(dict.fromkeys(column for column, _ in found.values))[:number]:
        operator = int(found.operator[column].argmax())
        span = found.values[column, operator][0]
        conditions.append(Condition(column, operator, value_of(question, tokens, span)))
    return Query(select, aggregate, tuple(conditions))


def value_of(question: str, tokens: Sequence[WordToken], span: ValueSpan) -> str:
    """Returns the text of a span."""
    return question[tokens[span.first].start : tokens[span.last].end]


MAX_RUNS = 12  # maximum statements per search
_COLUMNS = 6  # number of columns considered for conditions
_MENTION = math.log(0.5)
_COUNT = AGGREGATES.index("COUNT")

# Penalties in log-probability.
DEAD = 8.0  # for each equality that selects no row by itself
EMPTY = 2.0  # if each selects some row, but the query returns none
FAILED = 50.0  # if the database rejects the query
_CLOSE = 6.0  # values are looked up for candidates this close to the best


@dataclass(frozen=True, slots=True)
class ScoredQuery:
    """A query with its slots' joint log-probability and the log-probability of each value."""

    query: Query
    log_probability: float
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SlotProbabilities:
    """Log-probabilities of a candidate's slots; per condition: column, operator, value."""

    select: float
    aggregate: float
    number: float
    conditions: tuple[tuple[float, float, float], ...]


def slot_probabilities(slots: SlotScores, candidate: ScoredQuery) -> SlotProbabilities:
    """Returns the factors of a candidate's probability, without unused columns."""
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
    """A condition on a column; ``gain`` is its log-probability relative to omitting the column."""

    condition: Condition
    gain: float
    value: float  # log-probability of the value


def candidates(
    slots: SlotScores,
    question: str,
    tokens: Sequence[WordToken],
    beam: int = 4,
    most: int = 64,
    table: Table | None = None,
) -> list[ScoredQuery]:
    """Returns the most likely queries, best first.

    A query's probability is the product of the SELECT column, the aggregate given that column, the
    number of conditions, for each column whether it is in a condition, and the operator and value
    of each condition.

    Args:
        slots: slots made with the same ``beam``.
        beam: (column, aggregate) pairs, and conditions per column, to consider.
        table: if set, its columns of numbers are compared only with numbers.
    """
    heads = list(_heads(slots, beam))
    bodies = heapq.nlargest(
        most, _bodies(slots, question, tokens, beam, table), key=lambda pair: pair[1]
    )
    joined = (
        ScoredQuery(
            Query(select, aggregate, tuple(option.condition for option in options)),
            head + body,
            tuple(option.value for option in options),
        )
        for select, aggregate, head in heads
        for options, body in bodies
    )
    return heapq.nlargest(most, joined, key=lambda candidate: candidate.log_probability)


def with_mentions(
    slots: SlotScores, mentioned: Mapping[int, Sequence[tuple[int, int]]]
) -> SlotScores:
    """Adds values to the slots: spans of the question that are cells of a column.

    Each gets at least the probability :data:`_MENTION`.
    """
    values = dict(slots.values)
    equals = OPERATORS.index("=")
    for column, spans in mentioned.items():
        held = {(span.first, span.last): span for span in values.get((column, equals), ())}
        for first, last in spans:
            known = held.get((first, last))
            if known is None or known.log_probability < _MENTION:
                held[first, last] = ValueSpan(first, last, _MENTION)
        values[column, equals] = tuple(sorted(held.values(), key=lambda s: -s.log_probability))
    return replace(slots, values=values)


def _heads(slots: SlotScores, beam: int) -> Iterator[tuple[int, int, float]]:
    joint = (slots.select[:, None] + slots.aggregate).flatten()
    best = joint.topk(min(beam, len(joint)))
    for index, score in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        yield index // len(AGGREGATES), index % len(AGGREGATES), score


def _bodies(
    slots: SlotScores, question: str, tokens: Sequence[WordToken], beam: int, table: Table | None
) -> Iterator[tuple[tuple[_Option, ...], float]]:
    """Yields sets of conditions with their log-probabilities: for each set of columns the best
    conditions, and variants with one other condition.
    """
    where = slots.where.tolist()
    left_out = [math.log1p(-min(math.exp(score), 1 - 1e-7)) for score in where]  # log(1 - p)
    none = sum(left_out)
    operators = slots.operator.tolist()
    usable = []
    for column in slots.where.topk(min(_COLUMNS, len(where))).indices.tolist():
        numeric = table is not None and table.columns[column].type == "real"
        gain = where[column] - left_out[column]
        gains = [gain + score for score in operators[column]]
        if found := _options(slots, column, gains, question, tokens, beam, numeric):
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
    slots: SlotScores,
    column: int,
    gains: Sequence[float],
    question: str,
    tokens: Sequence[WordToken],
    beam: int,
    numeric: bool,
) -> list[_Option]:
    """Returns the best conditions on a column; ``gains`` are the operators' gains."""
    found: dict[tuple[int, str], _Option] = {}
    for (of, operator), spans in slots.values.items():
        if of != column:
            continue
        for span in spans:
            value = value_of(question, tokens, span)
            if numeric and number_of(value) is None and number_in_words(value) is None:
                continue
            score = gains[operator] + span.log_probability
            option = _Option(Condition(column, operator, value), score, span.log_probability)
            held = found.get((operator, value.lower()))
            if held is None or held.gain < score:
                found[operator, value.lower()] = option
    return heapq.nlargest(beam, found.values(), key=lambda option: option.gain)


@dataclass(frozen=True, slots=True)
class ExecutedChoice:
    """A candidate chosen by execution.

    Attributes:
        number: its index among the candidates.
        candidate: the candidate, with linked values if there is a linker.
        log_probability: total of all equivalent candidates, minus their penalties. Penalties of
            other candidates do not raise it: for a question that fits no table well, some candidate
            always remains.
        rows: its result; None if it failed or was not run.
        failure: reason for the failure.
        other: the index of the next best candidate with a different meaning, if any.
        margin: the difference of their log-probabilities, including penalties.
    """

    number: int
    candidate: ScoredQuery
    log_probability: float
    rows: ResultSet | None = None
    failure: str = ""
    other: int | None = None
    margin: float = math.inf


def likeliest(found: Sequence[ScoredQuery]) -> ExecutedChoice:
    """Returns the first candidate, without running any."""
    return _choice(found, [candidate.log_probability for candidate in found], 0)


def _choice(found: Sequence[ScoredQuery], scores: Sequence[float], best: int) -> ExecutedChoice:
    asks = found[best].query
    others = [i for i, c in enumerate(found) if not _asks_alike(c.query, asks)]
    other = max(others, key=lambda i: scores[i], default=None)
    return ExecutedChoice(
        best,
        found[best],
        found[best].log_probability,
        other=other,
        margin=math.inf if other is None else scores[best] - scores[other],
    )


def choose(
    found: Sequence[ScoredQuery],
    table: Table,
    database: Database,
    limits: StatementLimits = DEFAULT_LIMITS,
    linker: Linker | None = None,
) -> ExecutedChoice:
    """Runs candidates and returns the most likely one after penalties.

    Since penalties are never negative, candidates are tried in order until the next one cannot win.
    Runs at most ``MAX_RUNS`` statements, and one for the answer; the search stops once their total
    time reaches one statement's limit, or one is cut off, which is not penalized.

    Args:
        found: candidates, best first, at least one.
        linker: links values to the table's values, if set.
    """
    linked = [replace(c, query=linker.link(c.query)) for c in found] if linker else list(found)
    trial = _Trial(table, database, limits, linker, time.monotonic() + limits.seconds)
    scores = [candidate.log_probability for candidate in linked]
    best, ran, looked_at = 0, {}, set()
    for number, candidate in enumerate(linked):
        if number and (candidate.log_probability <= scores[best] or trial.is_over):
            break
        looked_at.add(number)
        dead = trial.dead_conditions(candidate.query)
        scores[number] -= DEAD * dead
        if not dead:
            ran[number] = trial.run(candidate.query)
            scores[number] -= ran[number][2]
        best = max(best, number, key=lambda i: scores[i])
    rows, failure, _ = ran.get(best) or trial.run(linked[best].query)
    alike = sum(
        math.exp(score)
        for score, candidate in zip(scores, linked, strict=True)
        if _asks_alike(candidate.query, linked[best].query)
    )
    log_probability = math.log(min(max(alike, 1e-30), 1.0))
    for number in range(len(linked)):
        if number not in looked_at and scores[number] > scores[best] - _CLOSE:
            dead = (
                [linker.selects(c) is False for c in linked[number].query.conditions]
                if linker
                else []
            )
            scores[number] -= DEAD * sum(dead)
    choice = _choice(linked, scores, best)
    return replace(choice, log_probability=log_probability, rows=rows, failure=failure)


@dataclass(slots=True)
class _Trial:
    """Runs queries and computes their penalties."""

    table: Table
    database: Database
    limits: StatementLimits
    linker: Linker | None
    deadline: float  # monotonic time when the search ends
    runs: int = 0
    selects: dict[Condition, bool] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.runs >= MAX_RUNS or time.monotonic() > self.deadline

    def run(self, query: Query) -> tuple[ResultSet | None, str, float]:
        """Returns rows, the reason for missing ones, and the penalty."""
        self.runs += 1
        try:
            rows = self.database.execute(
                to_sql(query, self.table, self.database.dialect), self.limits
            )
        except TooSlowError as error:
            self.deadline = 0.0
            return None, str(error), 0.0
        except CodegenError as error:
            return None, str(error), FAILED
        return rows, "", 0.0 if gives_something(rows, query) else EMPTY

    def dead_conditions(self, query: Query) -> int:
        """Counts the query's equalities that select no row by themselves."""
        equals = OPERATORS.index("=")
        conditions = [c for c in query.conditions if c.operator == equals]
        return sum(not self._selects(condition) for condition in conditions)

    def _selects(self, condition: Condition) -> bool:
        if condition not in self.selects:
            known = self.linker.selects(condition) if self.linker else None
            if known is None and not self.is_over:
                rows, _, penalty = self.run(Query(condition.column, _COUNT, (condition,)))
                known = rows.rows != ((0,),) if rows else not penalty
            self.selects[condition] = known is not False
        return self.selects[condition]


def _asks_alike(one: Query, other: Query) -> bool:
    """Returns True if queries are equal, or count rows (except NULL) by different columns."""
    counts = AGGREGATES[one.aggregate] == "COUNT" == AGGREGATES[other.aggregate]
    return one.matches(replace(other, select=one.select) if counts else other)


def gives_something(rows: ResultSet, query: Query | QueryPlan) -> bool:
    """Returns True if a result has a value other than NULL or a count of 0."""
    if isinstance(query, Query):
        counts = AGGREGATES[query.aggregate] == "COUNT"
    else:
        counts = all(AGGREGATES[shown.aggregate] == "COUNT" for shown in query.select)
    if counts and rows.rows in ((), ((0,),)):
        return False
    return any(value is not None for row in rows.rows for value in row)
