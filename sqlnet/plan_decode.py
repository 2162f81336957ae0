"""Decoding of a plan network's scores to the most likely plans, and execution guidance.

Each group of slots has a short list of ways to fill it, with log-probabilities; the plans are the
best combinations. Classes that types exclude (a sum of text, a mean of keys) are masked.
Execution guidance (Wang et al. 2018, arXiv 1807.03100): a plan that fails loses to one that runs;
an empty answer, or a string that its column lacks, is penalized slightly.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from codegen.core.errors import CodegenError, InputError
from codegen.sqlnet import plan_network
from codegen.sqlnet.databases import DEFAULT_LIMITS, ResultSet, StatementLimits
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.joins import PlanError, TableJoin
from codegen.sqlnet.plan import (
    COUNT,
    ROWS,
    ColumnRef,
    OrderBy,
    PlanCondition,
    PlanValue,
    QueryPlan,
    SecondBlock,
    SelectItem,
    is_identifier,
    to_statement,
)
from codegen.sqlnet.plan_features import LinkedSchema, Mention, PlanQuestion, read_question
from codegen.sqlnet.query import AGGREGATES, Statement
from codegen.sqlnet.schema import Schema

MOST_PLANS = 8
_SLOT_WAYS = 4  # maximum ways to fill a slot
_USED_TWICE = -3.0  # log-probability of a value that two tests use
_UNUSED = -1.5  # log-probability of a value in the question that no test uses
_POOL = 3  # ratio of compared to returned plans
_EMPTY = -1.5  # log-probability of an empty answer
_NO_CELL = -2.0  # log-probability of a string that is not a cell
_OUT = -1e4
_MAX, _MIN, _SUM, _AVG = (AGGREGATES.index(name) for name in ("MAX", "MIN", "SUM", "AVG"))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Way(Generic[T]):
    """One way to fill a slot, its log-probability, and the mentions that it uses."""

    content: T
    score: float
    used: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredPlan:
    """A plan with its log-probability, in total and per group of slots.

    Attributes:
        slots: ``select``, ``where``, ``group``, ``order``, ``companion``, ``tables``, ``flags``.
        used: numbers of the mentions that are its values or limit.
    """

    plan: QueryPlan
    log_probability: float
    slots: Mapping[str, float] = field(default_factory=dict)
    used: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanChoice:
    """The plan that execution chose.

    Attributes:
        number: its index among the candidates.
        statement: its SQL; None if no plan could be written as SQL.
        rows: its result; None if it failed or was not run.
        failure: reason for the failure.
        log_probability: log-probability including the penalties of execution.
    """

    number: int
    statement: Statement | None
    rows: ResultSet | None
    failure: str
    log_probability: float


def plan_candidates(
    question: PlanQuestion, scores: Mapping[str, np.ndarray], most: int = MOST_PLANS
) -> list[ScoredPlan]:
    """Returns the ``most`` most likely plans, at least one, best first.

    ``scores``: from :meth:`codegen.sqlnet.plan_network.PlanNetwork.read`.
    """
    return _Decoder(question, scores).plans(most)


def choose_plan(
    candidates: Sequence[ScoredPlan],
    question: PlanQuestion,
    database: Database | None,
    limits: StatementLimits,
    dialect: str = "sqlite",
) -> PlanChoice:
    """Returns the best plan after execution; without a database, the first expressible in SQL."""
    best: PlanChoice | None = None
    failed: PlanChoice | None = None
    for number, candidate in enumerate(candidates):
        if best and candidate.log_probability <= best.log_probability:
            break
        strange = [*strange_texts(candidate.plan, question)]
        score = candidate.log_probability + _NO_CELL * len(strange)
        statement = None
        try:
            statement = to_statement(candidate.plan, question.schema.graph, dialect)
            if database is None:
                return PlanChoice(number, statement, None, "", score)
            rows = database.execute(statement, limits)
        except CodegenError as error:
            failed = failed or PlanChoice(
                number, statement, None, error.message, candidate.log_probability
            )
            continue
        if not rows.rows or all(value is None for row in rows.rows for value in row):
            score += _EMPTY
        if best is None or score > best.log_probability:
            best = PlanChoice(number, statement, rows, "", score)
    found = best or failed
    assert found is not None  # candidates are not empty
    return found


def strange_texts(plan: QueryPlan, question: PlanQuestion) -> Iterator[tuple[ColumnRef, str]]:
    """Yields strings that a plan compares with a column known not to contain them."""
    tests = [*plan.where, *(plan.companion.where if plan.companion else ())]
    for test in tests:
        item = test.item
        if test.operator not in ("=", "!=") or item.column == ROWS or test.aggregate:
            continue
        if question.schema.is_real(item) or not question.schema.is_read(item):
            continue
        for value in test.values:
            if not value.start and not question.schema.holds(item, value.text):
                yield item, value.text


class _Decoder:
    def __init__(self, question: PlanQuestion, scores: Mapping[str, np.ndarray]) -> None:
        self.question, self.schema = question, question.schema
        self.items = [question.item(place) for place in range(len(question.items))]
        self.scores = scores
        keys = scores["key"][:, 0].tolist()
        self._key_scores = dict(zip(self.items, keys, strict=True))
        self._likeliest = self._keys()
        self.whole = {
            name: _log_softmax(scores[name]).tolist()
            for name in (
                *("selected", "tests", "groups", "ordering", "distinct", "any_of"),
                *("companion", "second_tests", "scalar_aggregate"),
            )
        }

    def plans(self, most: int) -> list[ScoredPlan]:
        ways: dict[str, list[_Way[Any]]] = {
            "select": self._select(),
            "where": self._where(),
            "group": self._groups(),
            "order": self._orders(),
            "companion": self._companions(),
            "tables": self._tables(),
            "flags": self._flags(),
        }
        found: dict[QueryPlan, ScoredPlan] = {}
        for score, chosen in _products([*ways.values()]):
            plan = self._plan(chosen)
            used = [number for way in chosen for number in way.used]
            score += _USED_TWICE * (len(used) - len(set(used))) + _UNUSED * self._unused(used)
            slots = {name: way.score for name, way in zip(ways, chosen, strict=True)}
            for way in self._joined(plan):
                if way.content not in found:
                    parts = slots | {"tables": slots["tables"] + way.score}
                    found[way.content] = ScoredPlan(
                        way.content, score + way.score, parts, tuple(sorted(set(used)))
                    )
            if len(found) >= _POOL * most:
                break
        return sorted(found.values(), key=lambda p: -p.log_probability)[:most]

    def _plan(self, ways: Sequence[_Way[Any]]) -> QueryPlan:
        select, where, group, (order, limit), companion, tables, (distinct, any_of) = (
            way.content for way in ways
        )
        aggregated = any(s.aggregate for s in select)
        any_of = any_of and sum(not test.aggregate for test in where) > 1
        distinct = distinct and not aggregated
        plan = QueryPlan(select, tables, distinct, where, any_of, group, order, limit, companion)
        extra = tuple(sorted(set(tables) - {item.table for item in plan.items()}))
        return replace(plan, tables=extra, keys=tuple(sorted(self._likeliest.values())))

    def _unused(self, used: Sequence[int]) -> int:
        """Counts the certain values that share no token with a used one."""
        found = self.question.found
        taken = {token for n in used for token in range(found[n].first, found[n].last + 1)}
        return sum(
            mention.is_certain and taken.isdisjoint(range(mention.first, mention.last + 1))
            for mention in found
        )

    def _allowed(self, name: str) -> np.ndarray:
        """Returns the classes that types allow, bool [items, classes]."""
        allowed = np.zeros((len(self.items), plan_network.ITEM_HEADS.get(name, 1)), bool)
        for place, item in enumerate(self.items):
            if item.column == ROWS:
                if name == "select":
                    allowed[place, [0, COUNT]] = True
                elif name in ("where", "order"):
                    allowed[place, COUNT] = True
                continue
            allowed[place, 0] = True
            if name not in ("select", "where", "order"):
                continue
            is_key = is_identifier(self.schema.tables[item.table], item.column)
            is_real = self.schema.is_real(item)
            allowed[place, COUNT] = name == "select"
            allowed[place, [_MAX, _MIN]] = not is_key and (is_real or item in self.schema.dates)
            allowed[place, [_SUM, _AVG]] = is_real and not is_key
            if name == "select":
                allowed[place, -1] = True
        return allowed

    def _members(self, name: str, most: int) -> list[tuple[float, int, int]]:
        """Returns the most likely members (probability, item, class) of a set."""
        logits = np.where(self._allowed(name), self.scores[name], _OUT)
        chances = np.exp(_log_softmax(logits.ravel()))
        order = np.argsort(-chances, kind="stable")[:most]
        classes = logits.shape[1]
        return [
            (float(chances[i]), int(i) // classes, int(i) % classes)
            for i in order
            if chances[i] > 1e-9
        ]

    def _sets(self, name: str, count: str, first: int) -> list[_Way[tuple[tuple[int, int], ...]]]:
        """Returns the best sets of (item, class), for each likely number of members."""
        members = self._members(name, 7)
        found: list[_Way[tuple[tuple[int, int], ...]]] = []
        for number, chance in enumerate(self.whole[count], first):
            if chance < -6 or number > len(members):
                continue
            for chosen in combinations(members, number):
                score = chance + sum(min(0.0, math.log(p * number)) for p, _, _ in chosen)
                found.append(_Way(tuple((place, kind) for _, place, kind in chosen), score))
        return _best(found, 2 * _SLOT_WAYS)

    def _select(self) -> list[_Way[tuple[SelectItem, ...]]]:
        found = []
        for way in self._sets("select", "selected", 1):
            chosen = sorted(way.content, key=lambda member: self._said_at(member[0]))
            select = tuple(self._selected(place, kind) for place, kind in chosen)
            found.append(_Way(select, way.score))
        if not found:  # fewer likely columns than requested
            ((chance, place, kind),) = self._members("select", 1)
            return [_Way((self._selected(place, kind),), math.log(chance))]
        return found[:_SLOT_WAYS]

    def _selected(self, place: int, kind: int) -> SelectItem:
        distinct = kind == plan_network.ITEM_HEADS["select"] - 1
        return SelectItem(self.items[place], COUNT if distinct else kind, distinct)

    def _said_at(self, place: int) -> int:
        """Returns the first token that names an item; the number of tokens if none does."""
        length = len(self.question.words)
        base = length + len(self.question.found)
        names = np.uint32(0b101000000)  # named_whole, named_part
        tokens = np.flatnonzero(self.question.relations[:length, base + place] & names)
        return int(tokens[0]) if len(tokens) else length

    def _where(self) -> list[_Way[tuple[PlanCondition, ...]]]:
        found: list[_Way[tuple[PlanCondition, ...]]] = []
        for way in self._sets("where", "tests", 0):
            heads = ("operator", "value", "other_value")
            tests = [self._tests(place, kind, *heads) for place, kind in way.content]
            if all(tests):
                for score, chosen in _products(tests, _SLOT_WAYS):
                    used = tuple(number for one in chosen for number in one.used)
                    twice = _USED_TWICE * (len(used) - len(set(used)))
                    content = tuple(one.content for one in chosen)
                    found.append(_Way(content, way.score + score + twice, used))
        return _best(found, 2 * _SLOT_WAYS) or [_Way((), 0.0)]

    def _tests(
        self, place: int, aggregate: int, operator: str, value: str, other: str
    ) -> list[_Way[PlanCondition]]:
        """Returns ways to compare an item."""
        item = self.items[place]
        operators = _log_softmax(self.scores[operator][place])
        found: list[_Way[PlanCondition]] = []
        for kind in np.argsort(-operators, kind="stable")[:3]:
            score = float(operators[kind])
            name = plan_network.OPERATOR_CLASSES[kind]
            if name in ("is null", "is not null"):
                if not aggregate:
                    found.append(_Way(PlanCondition(item, name), score))
                continue
            fits = [self._fits(item, aggregate, name, m) for m in self.question.found]
            if not any(fits):
                continue
            firsts = _log_softmax(np.where(fits, self.scores[value][place], _OUT))
            if name in ("between", "= either"):
                seconds = _log_softmax(np.where(fits, self.scores[other][place], _OUT))
                found += self._pairs(item, aggregate, name, score, firsts[:, None] + seconds)
                continue
            for number in np.argsort(-firsts, kind="stable")[:2]:
                if fits[number]:
                    test = PlanCondition(
                        item, name, (self._value(item, aggregate, int(number)),), aggregate
                    )
                    found.append(_Way(test, score + float(firsts[number]), (int(number),)))
        return _best(found, _SLOT_WAYS)

    def _pairs(
        self, item: ColumnRef, aggregate: int, operator: str, score: float, sums: np.ndarray
    ) -> Iterator[_Way[PlanCondition]]:
        """Returns the best pair of values for "between" or "= either", by the sum of scores."""
        np.fill_diagonal(sums, 2 * _OUT)
        one, two = np.unravel_index(int(np.argmax(sums)), sums.shape)
        if sums[one, two] < _OUT:
            return
        used = (int(one), int(two))
        values = [self._value(item, aggregate, number) for number in used]
        if operator == "between":
            found = self.question.found
            order = sorted((0, 1), key=lambda i: _size(found[used[i]]))
            values = [values[i] for i in order]
        name = operator.removesuffix(" either")
        yield _Way(
            PlanCondition(item, name, tuple(values), aggregate), score + float(sums[one, two]), used
        )

    def _value(self, item: ColumnRef, aggregate: int, number: int) -> PlanValue:
        mention = self.question.found[number]
        place = ColumnRef(item.table) if aggregate else item
        table = self.schema.tables[item.table]
        return mention.value_for(place, table, place in self.schema.dates)

    def _fits(self, item: ColumnRef, aggregate: int, operator: str, mention: Mention) -> bool:
        """Returns True if a mention can be the value of a test."""
        if aggregate or item.column == ROWS:
            return mention.number is not None
        if self.schema.is_real(item):
            return mention.number is not None
        if item in self.schema.dates:
            return bool(mention.start) or item in mention.cells
        if operator in (">", "<", ">=", "<=", "between"):
            return mention.number is not None
        return True

    def _groups(self) -> list[_Way[tuple[ColumnRef, ...]]]:
        found = [
            _Way(tuple(self.items[place] for place, _ in way.content), way.score)
            for way in self._sets("group", "groups", 0)
        ]
        return found[:_SLOT_WAYS] or [_Way((), 0.0)]

    def _orders(self) -> list[_Way[tuple[OrderBy | None, int | None]]]:
        found: list[_Way[tuple[OrderBy | None, int | None]]] = []
        chances = self.whole["ordering"]
        members = self._members("order", 3)
        numbers = [
            (place, int(number))
            for place, mention in enumerate(self.question.found)
            if (number := mention.number) is not None and 1 <= number <= 1000
        ]
        for kind in sorted(range(len(plan_network.ORDERINGS)), key=lambda k: -chances[k])[:3]:
            if kind == 0:
                found.append(_Way((None, None), chances[0]))
                continue
            down = kind % 2 == 0
            limit, used, score = 1 if kind >= 3 else None, (), chances[kind]
            if kind >= 5:
                if not numbers:
                    continue
                pointed = _log_softmax(self.scores["limit"][[place for place, _ in numbers]])
                best = int(np.argmax(pointed))
                used, limit = (numbers[best][0],), numbers[best][1]
                score += float(pointed[best])
            for chance, place, aggregate in members:
                order = OrderBy(self.items[place], aggregate, down)
                found.append(_Way((order, limit), score + math.log(chance), used))
        return _best(found, _SLOT_WAYS) or [_Way((None, None), 0.0)]

    def _companions(self) -> list[_Way[SecondBlock | None]]:
        chances = self.whole["companion"]
        found: list[_Way[SecondBlock | None]] = [_Way(None, chances[0])]
        for number in sorted(range(1, len(plan_network.COMPANIONS)), key=lambda k: -chances[k])[:2]:
            if chances[number] > -5:
                found += self._companion(plan_network.COMPANIONS[number], chances[number])
        return _best(found, _SLOT_WAYS + 1)

    def _companion(self, kind: Any, chance: float) -> Iterator[_Way[SecondBlock | None]]:
        logits = self.scores["second_takes_part"][: self.question.tables, 0]
        tables = tuple(self.items[place].table for place in np.flatnonzero(logits > 0))
        if kind == "never" and not tables and len(logits):
            tables = (self.items[int(np.argmax(logits))].table,)
        certain = -float(np.logaddexp(0, -np.abs(logits)).sum())
        for where in self._second_tests():
            score = chance + where.score + certain
            if kind != "scalar":
                if kind != "never" and not where.content and not tables:
                    continue
                yield _Way(SecondBlock(kind, tables, where.content), score, where.used)
                continue
            aggregates = self.whole["scalar_aggregate"]
            aggregate = int(np.argmax(aggregates))
            for probability, place, _ in self._members("scalar", 2):
                item = self.items[place]
                allowed = self._allowed("order")[place]
                if aggregate and not allowed[aggregate]:
                    continue
                operators = _log_softmax(self.scores["second_operator"][place][:6])
                best = int(np.argmax(operators))
                more = math.log(probability) + aggregates[aggregate] + float(operators[best])
                operator = plan_network.OPERATOR_CLASSES[best]
                companion = SecondBlock(kind, tables, where.content, item, operator, aggregate)
                yield _Way(companion, score + more, where.used)

    def _second_tests(self) -> list[_Way[tuple[PlanCondition, ...]]]:
        found: list[_Way[tuple[PlanCondition, ...]]] = []
        for way in self._sets("second_where", "second_tests", 0)[:3]:
            heads = ("second_operator", "second_value", "second_other_value")
            tests = [self._tests(place, 0, *heads) for place, _ in way.content]
            if all(tests):
                best = [ways[0] for ways in tests]
                used = tuple(number for one in best for number in one.used)
                content = tuple(one.content for one in best)
                found.append(_Way(content, way.score + sum(one.score for one in best), used))
        return found[:2] or [_Way((), 0.0)]

    def _tables(self) -> list[_Way[tuple[int, ...]]]:
        """Returns sets of tables: the likely set, and variants with an uncertain table flipped."""
        logits = self.scores["takes_part"][: self.question.tables, 0].astype(float)
        yes = logits > 0
        score = -float(np.logaddexp(0, -np.abs(logits)).sum())

        def of(chosen: np.ndarray) -> tuple[int, ...]:
            return tuple(self.items[place].table for place in np.flatnonzero(chosen))

        found = [_Way(of(yes), score)]
        for place in np.argsort(np.abs(logits), kind="stable")[:2]:
            if abs(logits[place]) < 3:
                other = yes.copy()
                other[place] = not other[place]
                found.append(_Way(of(other), score - abs(float(logits[place]))))
        return found

    def _flags(self) -> list[_Way[tuple[bool, bool]]]:
        found = [
            _Way((bool(d), bool(a)), self.whole["distinct"][d] + self.whole["any_of"][a])
            for d in (0, 1)
            for a in (0, 1)
        ]
        return _best(found, 3)

    def _joined(self, plan: QueryPlan) -> list[_Way[QueryPlan]]:
        """Returns the plan, once for each way to join its tables."""
        try:
            trees = self.schema.graph.trees(plan.required())
        except PlanError:
            trees = []
        if len(trees) < 2:
            return [_Way(plan, 0.0)]
        shared = frozenset.intersection(*(tree.joins for tree in trees))
        scores = [sum(self._key_score(join) for join in tree.joins - shared) for tree in trees]
        chances = _log_softmax(np.array(scores))
        found = []
        for tree, chance in zip(trees, chances.tolist(), strict=True):
            mine = {ColumnRef(join.child, join.child_columns[0]) for join in tree.joins}
            pairs = {frozenset((join.child, join.parent)) for join in tree.joins}
            others = {key for pair, key in self._likeliest.items() if pair not in pairs}
            keys = tuple(sorted(mine | others))
            found.append(_Way(replace(plan, keys=keys), chance))
        return found

    def _key_score(self, join: TableJoin) -> float:
        ends = (
            ColumnRef(join.child, join.child_columns[0]),
            ColumnRef(join.parent, join.parent_columns[0]),
        )
        return sum(self._key_scores.get(end, _OUT) for end in ends)

    def _keys(self) -> dict[frozenset[int], ColumnRef]:
        """Returns the foreign key of the most likely join, by pair of tables."""
        best: dict[frozenset[int], TableJoin] = {}
        for join in self.schema.graph.joins:
            pair = frozenset((join.child, join.parent))
            if pair not in best or self._key_score(join) > self._key_score(best[pair]):
                best[pair] = join
        return {
            pair: ColumnRef(join.child, join.child_columns[0])
            for pair, join in best.items()
            if self._key_score(join) > _OUT
        }


def _best(ways: list[_Way[T]], most: int) -> list[_Way[T]]:
    return sorted(ways, key=lambda way: -way.score)[:most]


def _size(mention: Mention) -> tuple[float, str]:
    number = mention.number
    return (number if number is not None else 0.0, mention.start)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    if not logits.size:
        return logits.astype(float)
    shifted = logits.astype(float) - logits.max()
    return shifted - math.log(np.exp(shifted).sum())


def _products(
    ways: Sequence[Sequence[_Way[Any]]], most: int = 200
) -> Iterator[tuple[float, list[_Way[Any]]]]:
    """Yields combinations of one way from each sorted list, best sum first."""
    if not all(ways):
        return
    first = (0,) * len(ways)

    def score(places: Sequence[int]) -> float:
        return sum(options[i].score for options, i in zip(ways, places, strict=True))

    queue: list[tuple[float, tuple[int, ...]]] = [(-score(first), first)]
    seen: set[tuple[int, ...]] = {first}
    for _ in range(most):
        if not queue:
            return
        negative, places = heapq.heappop(queue)
        yield -negative, [options[i] for options, i in zip(ways, places, strict=True)]
        for slot, options in enumerate(ways):
            if places[slot] + 1 < len(options):
                following = (*places[:slot], places[slot] + 1, *places[slot + 1 :])
                if following not in seen:
                    seen.add(following)
                    heapq.heappush(queue, (-score(following), following))


DEFAULT_PLAN_MODEL = Path(__file__).parent / "weights" / "plans"


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """Interpretations of a question.

    Attributes:
        candidates: the most likely plans, best first.
        choice: the plan that execution chose.
    """

    question: PlanQuestion
    candidates: tuple[ScoredPlan, ...]
    choice: PlanChoice

    @property
    def best(self) -> ScoredPlan:
        """The chosen plan."""
        return self.candidates[self.choice.number]

    @property
    def statement(self) -> Statement | None:
        """SQL of the chosen plan; None if it cannot be written as SQL."""
        return self.choice.statement

    @property
    def rows(self) -> ResultSet | None:
        """Result of the chosen plan; None if it failed or was not run."""
        return self.choice.rows


class PlanParser:
    """A question parser that uses a trained plan network."""

    def __init__(self, network: plan_network.PlanNetwork) -> None:
        self.network = network
        self._linked: WeakKeyDictionary[Database, LinkedSchema] = WeakKeyDictionary()
        self._bare: LinkedSchema | None = None  # the last schema without a database

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> PlanParser:
        """Loads a directory that ``codegen sqlnet train-plans`` made, by default the package's.

        Raises:
            ModelError: if the directory has no plan network, or a corrupt one.
        """
        return cls(plan_network.PlanNetwork.load(DEFAULT_PLAN_MODEL if path is None else path))

    def linked(self, schema: Schema) -> LinkedSchema:
        """Returns the schema with its index of cells, which is built once per database."""
        database = schema.database
        found = self._linked.get(database) if database else self._bare
        if found is None or found.tables != schema.tables:
            found = LinkedSchema(schema.tables, database)
            if database:
                self._linked[database] = found
            else:
                self._bare = found
        return found

    def parse(
        self,
        question: str,
        schema: Schema,
        *,
        execute: bool = True,
        limits: StatementLimits = DEFAULT_LIMITS,
        today: date | None = None,
    ) -> PlanAnswer:
        """Parses a question.

        Args:
            question: English question; its first 80 tokens are read.
            execute: look up values and run candidates, if the schema has a database.
            today: reference day for "last month" (default: the current day).

        Raises:
            InputError: if the question has no word.
        """
        linked = self.linked(schema if execute else Schema(schema.tables))
        read = read_question(question, linked, self.network.likeness, today)
        if not read.words:
            raise InputError("The question is empty.", "Ask about a table or column.")
        candidates = plan_candidates(read, self.network.read([read])[0])
        database = schema.database if execute else None
        dialect = schema.database.dialect if schema.database else "sqlite"
        choice = choose_plan(candidates, read, database, limits, dialect)
        return PlanAnswer(read, tuple(candidates), choice)
