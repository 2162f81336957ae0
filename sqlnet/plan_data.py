"""Questions with plans, converted from datasets in Spider's format with gold SQL.

A line of a question file is ``{"db_id", "question", "query"}`` (Yu et al. 2018, arXiv 1809.08887);
the databases are SQLite files. A gold query is parsed into a plan, which is kept only if it returns
the gold result on the database; rejected queries are counted by reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from codegen.core.errors import CodegenError, InputError
from codegen.core.paths import plain_name, refuse_foreign, write_atomic
from codegen.core.records import conform, read_rows
from codegen.sqlnet.answers import equal_rows
from codegen.sqlnet.databases import StatementLimits
from codegen.sqlnet.databases.engines import SqliteEngine
from codegen.sqlnet.databases.files import Database, SqliteDatabase
from codegen.sqlnet.joins import JoinGraph, PlanError
from codegen.sqlnet.plan import (
    ColumnRef,
    OrderBy,
    PlanCondition,
    PlanValue,
    QueryPlan,
    SecondBlock,
    SelectItem,
    is_repeated,
    to_statement,
)
from codegen.sqlnet.query import AGGREGATES, Statement
from codegen.sqlnet.query import Value as Parameter
from codegen.sqlnet.sql import AGGREGATE_NODES, COMPARISON_NODES

_AGGREGATES: dict[type[exp.Expr], int] = {
    kind: AGGREGATES.index(name) for name, kind in AGGREGATE_NODES.items()
}
_OPERATORS: dict[type[exp.Expr], str] = {kind: sign for sign, kind in COMPARISON_NODES.items()}
_FLIPPED = {">": "<", "<": ">", ">=": "<=", "<=": ">="}

_LIMITS = StatementLimits(seconds=10.0, rows=20_000)


class OutsideError(Exception):
    """Error for a query that no plan can express; the message names the unsupported part."""


@dataclass(frozen=True, slots=True)
class GoldQuestion:
    """A question with gold SQL on the database ``db_id``, and paraphrases of the question."""

    id: str
    db_id: str
    question: str
    query: str
    paraphrases: tuple[str, ...] = ()


def read_gold(path: str | Path) -> list[GoldQuestion]:
    """Reads a JSONL file of questions, optionally compressed with gzip.

    Raises:
        InputError: if a line is not a question; names the line.
    """
    found = []
    for where, row in read_rows(path):
        try:
            other = row.get("question_syn")
            found.append(
                GoldQuestion(
                    str(row.get("id", where.rpartition("/")[2])),
                    str(row["db_id"]),
                    str(row["question"]),
                    str(row["query"]),
                    (str(other),) if other and other != row["question"] else (),
                )
            )
        except (KeyError, AttributeError):
            raise InputError(
                f"{where} is not a question.",
                'It needs {"db_id": ..., "question": ..., "query": ...}.',
            ) from None
    return found


def find_database(folders: Sequence[str | Path], db_id: str) -> SqliteDatabase | None:
    """Opens ``<db_id>.sqlite`` in the first folder that has it; None if absent.

    It is opened in this process, since a dataset runs some ten thousand statements.
    """
    name = plain_name(f"{db_id}.sqlite", "db_id")
    for folder in folders:
        if (path := Path(folder) / name).is_file():
            return SqliteDatabase(SqliteEngine.open(str(path.resolve())), str(path))
    return None


@dataclass(frozen=True, slots=True)
class PlannedQuestion:
    """A question on the database ``db_id`` with its plan and source."""

    db_id: str
    question: str
    plan: QueryPlan
    source: str = "gold"


def write_planned(path: str | Path, planned: Iterable[PlannedQuestion]) -> None:
    """Writes questions with plans, one JSON object per line."""
    write_atomic(Path(path), "".join(json.dumps(asdict(one)) + "\n" for one in planned))


def read_planned(path: str | Path) -> list[PlannedQuestion]:
    """Reads the output of :func:`write_planned`.

    Raises:
        InputError: if it is unreadable, or a line is not a question with a plan.
    """
    found = []
    for where, row in read_rows(path):
        try:
            found.append(conform(PlannedQuestion, row))
        except ValueError as error:
            raise InputError(f"{where} is corrupt: {error}.") from None
    return found


def planned_gold(
    golds: Iterable[GoldQuestion], folders: Sequence[str | Path]
) -> tuple[list[PlannedQuestion], Counter[str]]:
    """Returns the gold questions that have a plan, and the number without one by reason.

    ``folders`` contain the SQLite files.
    """
    found: list[PlannedQuestion] = []
    left: Counter[str] = Counter()
    by_database: dict[str, list[GoldQuestion]] = {}
    for gold in golds:
        by_database.setdefault(gold.db_id, []).append(gold)
    for db_id, group in sorted(by_database.items()):
        database = find_database(folders, db_id)
        if database is None:
            left["no database"] += len(group)
            continue
        graph = JoinGraph(database.tables)
        for gold in group:
            try:
                plan = gold_plan(gold, graph, database)
            except OutsideError as error:
                left[str(error)] += 1
                continue
            found.append(PlannedQuestion(db_id, gold.question, plan))
            found += [PlannedQuestion(db_id, p, plan, "paraphrase") for p in gold.paraphrases]
        database.close()
    return found, left


@dataclass(frozen=True, slots=True)
class PreparedCorpus:
    """Result of :func:`prepare`.

    Attributes:
        sources: source -> number of training questions.
        held_out: number of questions on held-out databases.
        left: reason -> number of gold questions without a plan.
    """

    sources: Mapping[str, int]
    held_out: int
    left: Mapping[str, int]


def prepare(
    golds: Sequence[GoldQuestion],
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    held_out: float = 0.08,
) -> PreparedCorpus:
    """Writes ``plans.jsonl`` and ``held_out.jsonl``.

    Args:
        held_out: fraction of the gold questions to hold out of training, as whole databases.

    Raises:
        InputError: if there are no gold questions, none has a plan, or ``out`` has other files with
            these names.
    """
    if not golds:
        raise InputError("No questions to prepare.", "Pass a file with questions.")
    out = Path(out)
    for name in ("held_out.jsonl", "plans.jsonl"):
        try:
            read_planned(out / name)  # an earlier run's files may be replaced
        except InputError:
            refuse_foreign(out, name)
    for folder in folders:
        if not Path(folder).is_dir():
            raise InputError(f"{folder} is not a directory.", "Pass the databases' directory.")
    planned, left = planned_gold(golds, folders)
    counts = Counter(gold.db_id for gold in golds)
    held: set[str] = set()
    for db_id in sorted(counts, key=lambda name: sha256(f"plans:{name}".encode()).hexdigest()):
        if sum(counts[name] for name in held) < held_out * len(golds):
            held.add(db_id)
    training = [one for one in planned if one.db_id not in held]
    if not planned:
        raise InputError(
            f"None of the {len(golds)} questions has a plan: "
            + ", ".join(f"{count} {reason}" for reason, count in left.items())
            + ".",
            "Check the databases and the questions' db_id.",
        )
    out.mkdir(parents=True, exist_ok=True)
    rest = [one for one in planned if one.db_id in held]
    write_planned(out / "held_out.jsonl", rest)
    write_planned(out / "plans.jsonl", training)
    return PreparedCorpus(Counter(one.source for one in training), len(rest), left)


def without_distinct(query: str) -> str:
    """Removes DISTINCT, which Spider's official execution accuracy ignores."""
    return re.sub(r"(?i)\bdistinct\b", " ", query)


def run_rows(
    database: Database,
    text: str,
    parameters: Sequence[Parameter] = (),
    *,
    keep_distinct: bool = False,
) -> list[tuple[Any, ...]] | None:
    """Returns a statement's rows, without DISTINCT unless ``keep_distinct``; None if it fails."""
    try:
        text = text if keep_distinct else without_distinct(text)
        statement = Statement(text, tuple(parameters))
        return list(database.engine.query(statement, _LIMITS).rows)
    except CodegenError:
        return None


def gold_plan(gold: GoldQuestion, graph: JoinGraph, database: Database) -> QueryPlan:
    """Returns the plan of a gold query, checked to return the gold result.

    Raises:
        OutsideError: if no plan returns it.
    """
    plan = plan_of(gold.query, graph)
    wanted = run_rows(database, gold.query)
    if wanted is None:
        raise OutsideError("the gold query fails")
    ordered = "order by" in gold.query.lower()

    def gives_gold(candidate: QueryPlan) -> bool:
        try:
            statement = to_statement(candidate, graph)
        except PlanError:
            return False
        found = run_rows(database, statement.text, statement.parameters)
        return found is not None and equal_rows(found, wanted, ordered=ordered)

    if (found := simplest(plan, gives_gold)) is None:
        raise OutsideError("another result")
    return found


def plan_of(query: str, graph: JoinGraph) -> QueryPlan:
    """Parses a gold query into a plan with the query's own groups.

    Raises:
        OutsideError: if no plan can express it.
    """
    try:
        statement = sqlglot.parse_one(query, dialect="sqlite")
    except (SqlglotError, RecursionError):
        raise OutsideError("not SQL") from None
    reader = _Reader(graph)
    if isinstance(statement, exp.SetOperation):
        return reader.pair(statement)
    if not isinstance(statement, exp.Select):
        raise OutsideError("not a SELECT")
    return reader.block(statement)


def simplest(plan: QueryPlan, gives_gold: Callable[[QueryPlan], bool]) -> QueryPlan | None:
    """Returns the plan without groups that :mod:`codegen.sqlnet.plan` infers if that returns the
    gold result, else the plan with them if that does; None if neither does.
    """
    is_shown = any(not s.aggregate for s in plan.select)
    inferred = replace(plan, group=()) if is_shown else plan
    return next(filter(gives_gold, dict.fromkeys((inferred, plan))), None)


@dataclass(slots=True)
class _Names:
    """One block's tables by name, and the columns that its joins use."""

    tables: dict[str, int]
    keys: set[ColumnRef] = field(default_factory=set)


class _Reader:
    """Parses the statements of one database."""

    def __init__(self, graph: JoinGraph) -> None:
        self.graph = graph
        self.numbers = {table.name.lower(): i for i, table in enumerate(graph.tables)}
        self._referred = {
            ColumnRef(join.child, join.child_columns[0]): ColumnRef(
                join.parent, join.parent_columns[0]
            )
            for join in reversed(graph.joins)  # the first join of a column counts
            if len(join.child_columns) == 1
        }

    def pair(self, statement: exp.SetOperation) -> QueryPlan:
        left, right = statement.this, statement.expression
        if not (isinstance(left, exp.Select) and isinstance(right, exp.Select)):
            raise OutsideError("nested set operations")
        if statement.args.get("order") or statement.args.get("limit"):
            raise OutsideError("an order over a set operation")
        first, second = self.block(left), self.block(right)
        for block in (first, second):
            if block.group or block.order or block.limit or block.companion or block.any_of:
                raise OutsideError("a set operation on grouped/sorted queries")
        is_alike = all(map(self._alike, first.select, second.select))
        if len(first.select) != len(second.select) or not is_alike:
            raise OutsideError("a set operation on different columns")
        kinds: dict[type, str] = {exp.Intersect: "both", exp.Except: "except", exp.Union: "union"}
        kind = kinds[type(statement)]
        tables = tuple(sorted(second.required()))
        companion = SecondBlock(kind, tables, second.where)  # type: ignore[arg-type]
        keys = tuple(sorted({*first.keys, *second.keys}))
        return replace(first, companion=companion, keys=keys)

    def _alike(self, one: SelectItem, other: SelectItem) -> bool:
        same = (one.aggregate, one.distinct) == (other.aggregate, other.distinct)
        return same and self._joined(one.item, other.item)

    def _joined(self, one: ColumnRef, other: ColumnRef) -> bool:
        """Returns True if two columns contain the same keys."""
        return self._root(one) == self._root(other)

    def _root(self, item: ColumnRef) -> ColumnRef:
        """Returns the key that a foreign key refers to, or the column itself."""
        for _ in range(4):
            item = self._referred.get(item, item)
        return item

    def block(self, select: exp.Select) -> QueryPlan:
        names = self._from(select)
        shown = tuple(self._selected(part, names) for part in select.expressions)
        plan = QueryPlan(shown, distinct=bool(select.args.get("distinct")))
        where = select.args.get("where")
        plan = self._where(plan, where.this, names) if where else plan
        group = select.args.get("group")
        groups = tuple(self._item(part, names) for part in group.expressions) if group else ()
        plan = replace(plan, group=groups)
        if having := select.args.get("having"):
            tests = tuple(self._tests(having.this, names, exp.And))
            if any(not test.aggregate for test in tests):
                raise OutsideError("HAVING without an aggregate")
            plan = replace(plan, where=(*plan.where, *tests))
        plan = self._ordered(plan, select, names)
        tables = set(names.tables.values()) | set(plan.tables)
        keys = set(plan.keys) | names.keys
        return replace(plan, tables=tuple(sorted(tables)), keys=tuple(sorted(keys)))

    def _ordered(self, plan: QueryPlan, select: exp.Select, names: _Names) -> QueryPlan:
        if order := select.args.get("order"):
            first = order.expressions[0]
            chosen = self._selected(first.this, names)
            if chosen.distinct:
                raise OutsideError("an order by distinct values")
            found = OrderBy(chosen.item, chosen.aggregate, bool(first.args.get("desc")))
            plan = replace(plan, order=found)
        if limit := select.args.get("limit"):
            if not plan.order:
                raise OutsideError("a limit without an order")
            number = limit.expression
            if not (isinstance(number, exp.Literal) and number.name.isdecimal()):
                raise OutsideError("a limit that is not a number")
            plan = replace(plan, limit=int(number.name))
        return plan

    def _from(self, select: exp.Select) -> _Names:
        source = select.args.get("from_") or select.args.get("from")
        if source is None:
            raise OutsideError("no FROM")
        parts = [source.this, *(join.this for join in select.args.get("joins") or ())]
        tables: dict[str, int] = {}
        for part in parts:
            if not isinstance(part, exp.Table) or part.name.lower() not in self.numbers:
                raise OutsideError("a query in FROM")
            number = self.numbers[part.name.lower()]
            if number in tables.values():
                raise OutsideError("a table twice")
            tables[(part.alias or part.name).lower()] = number
        names = _Names(tables)
        for join in select.args.get("joins") or ():
            for column in join.args["on"].find_all(exp.Column) if join.args.get("on") else ():
                if (item := self._column(column, names)) is not None:
                    names.keys.add(item)
        return names

    def _selected(self, part: exp.Expr, names: _Names) -> SelectItem:
        part = part.unalias()
        aggregate, distinct = 0, False
        if type(part) in _AGGREGATES:
            aggregate = _AGGREGATES[type(part)]
            part = part.this or exp.Star()  # COUNT() is COUNT(*)
        if isinstance(part, exp.Distinct):
            if len(part.expressions) != 1:
                raise OutsideError("several distinct columns")
            distinct, part = True, part.expressions[0]
        part = part.unnest()
        if part.is_star:
            return SelectItem(ColumnRef(self._rows_of(part, names)), aggregate, distinct)
        return SelectItem(self._item(part, names), aggregate, distinct)

    def _rows_of(self, star: exp.Expr, names: _Names) -> int:
        """Returns the table whose rows a star counts: the one that no join repeats."""
        if isinstance(star, exp.Column) and star.table.lower() in names.tables:
            return names.tables[star.table.lower()]
        tables = list(names.tables.values())
        try:
            tree = self.graph.trees(tables)[0]
        except PlanError:
            return tables[0]
        single = [t for t in tables if not is_repeated({t}, tree)]
        return (single or tables)[-1]

    def _item(self, part: exp.Expr, names: _Names) -> ColumnRef:
        if not isinstance(part, exp.Column):
            raise OutsideError(f"an expression ({type(part).__name__})")
        found = self._column(part, names)
        if found is None:
            raise OutsideError("an unknown column")
        return found

    def _column(self, part: exp.Column, names: _Names) -> ColumnRef | None:
        name = part.name.lower()
        wanted = part.table.lower()
        if wanted and wanted not in names.tables:
            return None
        for table in [names.tables[wanted]] if wanted else names.tables.values():
            for column, described in enumerate(self.graph.tables[table].columns):
                if described.name.lower() == name:
                    return ColumnRef(table, column)
        return None

    def _where(self, plan: QueryPlan, part: exp.Expr, names: _Names) -> QueryPlan:
        part = part.unnest()
        if isinstance(part, exp.Or):
            merged = self._merged(tuple(self._tests(part, names, exp.Or)))
            return replace(plan, where=merged, any_of=len(merged) > 1)
        tests: list[PlanCondition] = []
        for one in _flattened(part, exp.And):
            one = one.unnest()
            if isinstance(one, exp.Or):
                merged = self._merged(tuple(self._tests(one, names, exp.Or)))
                if len(merged) > 1:
                    raise OutsideError("AND and OR")
                tests += merged
            elif one.find(exp.Select):
                plan = self._nested(plan, one, names)
            elif not self._is_join(one, names):
                tests.append(self._test(one, names))
        return replace(plan, where=(*plan.where, *_joined_ranges(tests)))

    def _is_join(self, part: exp.Expr, names: _Names) -> bool:
        sides = [part.args.get("this"), part.args.get("expression")]
        return isinstance(part, exp.EQ) and all(
            isinstance(side, exp.Column) and self._column(side, names) is not None for side in sides
        )

    def _merged(self, tests: Sequence[PlanCondition]) -> tuple[PlanCondition, ...]:
        """Merges alternatives of one column into one test."""
        items = {(test.item, test.aggregate, test.operator) for test in tests}
        if len(items) == 1 and len(tests) > 1 and tests[0].operator in ("=", "contains"):
            values = tuple(value for test in tests for value in test.values)
            return (replace(tests[0], values=values),)
        return tuple(tests)

    def _tests(
        self, part: exp.Expr, names: _Names, kind: type[exp.Expr]
    ) -> Iterator[PlanCondition]:
        for one in _flattened(part, kind):
            if isinstance(one.unnest(), (exp.And, exp.Or)):
                raise OutsideError("AND and OR")
            if one.find(exp.Select):
                raise OutsideError("a query in OR or HAVING")
            yield self._test(one.unnest(), names)

    def _test(self, part: exp.Expr, names: _Names) -> PlanCondition:
        negated = isinstance(part, exp.Not)
        if negated:
            part = part.this.unnest()
        if isinstance(part, exp.Between) and not negated:
            chosen = self._selected(part.this, names)
            values = (_literal(part.args["low"]), _literal(part.args["high"]))
            return PlanCondition(chosen.item, "between", values, chosen.aggregate)
        if isinstance(part, exp.Like):
            chosen = self._selected(part.this, names)
            operator, text = _pattern(_literal(part.expression).text, negated)
            return PlanCondition(chosen.item, operator, (PlanValue(text),), chosen.aggregate)
        if isinstance(part, exp.Is) and isinstance(part.expression, exp.Null):
            operator = "is not null" if negated else "is null"
            return PlanCondition(self._item(part.this, names), operator)
        if isinstance(part, exp.In) and part.expressions and not negated:
            values = tuple(_literal(one) for one in part.expressions)
            return PlanCondition(self._item(part.this, names), "=", values)
        if type(part) not in _OPERATORS or negated:
            raise OutsideError(f"a test ({type(part).__name__})")
        operator, left, right = _OPERATORS[type(part)], part.this, part.expression
        if isinstance(left, exp.Literal):
            left, right, operator = right, left, _FLIPPED.get(operator, operator)
        chosen = self._selected(left, names)
        if isinstance(right, exp.Column) and self._column(right, names) is not None:
            raise OutsideError("a comparison of columns")
        return PlanCondition(chosen.item, operator, (_literal(right),), chosen.aggregate)

    def _nested(self, plan: QueryPlan, part: exp.Expr, names: _Names) -> QueryPlan:
        """Parses a test against a subquery: a companion or, for IN along a key, more tests."""
        if plan.companion:
            raise OutsideError("two nested queries")
        negated = isinstance(part, exp.Not)
        test = part.this.unnest() if negated else part
        query = test.find(exp.Select)
        if query is None or test.find(exp.SetOperation):
            raise OutsideError("a nested set operation")
        inner = self.block(query)
        if inner.group or inner.order or inner.companion or len(inner.select) != 1 or inner.any_of:
            raise OutsideError("a nested query with groups, an order or a query")
        shown = inner.select[0]
        plan = replace(plan, keys=(*plan.keys, *inner.keys))
        if isinstance(test, exp.In):
            outer = self._item(test.this, names)
            if shown.aggregate:
                raise OutsideError("IN an aggregate")
            along_key = self._joined(outer, shown.item) and outer != shown.item
            if along_key and not negated:
                where = (*plan.where, *inner.where)
                return replace(plan, where=where, tables=(*plan.tables, *inner.tables))
            if negated and (along_key or self.graph.key(outer.table) == outer.column):
                return replace(plan, companion=SecondBlock("never", inner.tables, inner.where))
            operator = "!=" if negated else "="
        elif type(test) in _OPERATORS and not negated:
            outer = self._item(test.this.unnest(), names)
            operator = _OPERATORS[type(test)]
        else:
            raise OutsideError("an unsupported nested query")
        if outer != shown.item:
            raise OutsideError("a comparison with another column")
        tables = tuple(t for t in inner.tables if t != outer.table)
        companion = SecondBlock("scalar", tables, inner.where, outer, operator, shown.aggregate)
        return replace(plan, companion=companion)


def _flattened(part: exp.Expr, kind: type[exp.Expr]) -> Iterator[exp.Expr]:
    if isinstance(part, kind):
        yield from _flattened(part.this, kind)
        yield from _flattened(part.expression, kind)
    elif isinstance(part, exp.Paren) and isinstance(part.this, kind):
        yield from _flattened(part.this, kind)
    else:
        yield part


def _joined_ranges(tests: Sequence[PlanCondition]) -> list[PlanCondition]:
    """Joins a lower and an upper bound of one column into one range."""
    found = list(tests)
    for low in tests:
        for high in tests:
            same = (low.item, low.aggregate) == (high.item, high.aggregate)
            if same and low.operator == ">=" and high.operator == "<=":
                found = [test for test in found if test not in (low, high)]
                found.append(replace(low, operator="between", values=(*low.values, *high.values)))
                return found
    return found


def _literal(part: exp.Expr) -> PlanValue:
    part = part.unnest()
    if isinstance(part, exp.Literal):
        return PlanValue(part.name)
    if isinstance(part, exp.Neg) and isinstance(part.this, exp.Literal):
        return PlanValue(f"-{part.this.name}")
    if isinstance(part, exp.Column) and not part.table:  # SQLite reads "text" as a string
        return PlanValue(part.name)
    raise OutsideError(f"a value ({type(part).__name__})")


def _pattern(text: str, negated: bool) -> tuple[str, str]:
    """Returns the plan operator and the text for a LIKE pattern."""
    bare = text.strip("%")
    if "%" in bare or "_" in bare or not bare:
        raise OutsideError("a pattern")
    before, after = text.startswith("%"), text.endswith("%")
    if negated:
        if not (before and after):
            raise OutsideError("a pattern")
        return "not contains", bare
    operators = {(True, True): "contains", (False, True): "starts", (True, False): "ends"}
    return operators.get((before, after), "="), bare
