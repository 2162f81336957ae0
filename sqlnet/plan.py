"""Query plans over several tables, and the rules that turn them into SQL.

A plan names tables, columns, tests, groups and an order, but neither FROM nor joins: these follow
from the database's keys (:mod:`codegen.sqlnet.joins`), as in SemQL (Guo et al. 2019, arXiv
1905.08205) and NatSQL (Gan et al. 2021, arXiv 2109.05153). Every part is a set or a class, as in
SQLNet's sketch (arXiv 1711.04436), so that a network can predict each independently.

How a plan becomes SQL (:func:`to_statement`):

- FROM is the cheapest tree of joins over all tables of the plan.
- A list whose rows a join repeats is DISTINCT.
- A sum or mean over rows that a join repeats counts each row once (EXISTS), or is rejected.
- "Never" is NOT EXISTS, so that NULLs cause no errors; for values of the listed table itself (the
  countries that never won) it is EXCEPT.
- A group by a name also groups by the primary key, if a join repeats the table's rows, so that
  customers with the same name stay separate.
- An order with a limit skips NULLs.
- A period (a day, a month, a year) on a column of dates is a half-open range.

Limits: at most two blocks; AND or OR between tests, not both; no arithmetic, no table twice in one
block; groups without a row are not listed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from sqlglot import exp

from codegen.sqlnet.joins import JoinGraph, JoinTree, PlanError, TableJoin
from codegen.sqlnet.query import AGGREGATES, Statement, Table
from codegen.sqlnet.query import Value as Parameter
from codegen.sqlnet.sql import AGGREGATE_NODES, COMPARISON_NODES, check_dialect, table_node
from codegen.sqlnet.words import number_of, words_of

ROWS = -1
"""Column number of an item that means its table's rows."""

COUNT = AGGREGATES.index("COUNT")
_SUMMING = (AGGREGATES.index("SUM"), AGGREGATES.index("AVG"))

PLAN_OPERATORS = (
    *("=", "!=", ">", "<", ">=", "<=", "between"),
    *("contains", "not contains", "starts", "ends", "is null", "is not null"),
)
Kind = Literal["never", "both", "except", "union", "scalar"]
KINDS: tuple[Kind, ...] = ("never", "both", "except", "union", "scalar")


@dataclass(frozen=True, slots=True, order=True)
class ColumnRef:
    """A column of a table, by their indices, or with ``ROWS`` the table's rows."""

    table: int
    column: int = ROWS


@dataclass(frozen=True, slots=True)
class SelectItem:
    """An item in SELECT with an index into ``AGGREGATES``; ``distinct`` drops repeated values.

    Rows without an aggregate mean all columns of their table.
    """

    item: ColumnRef
    aggregate: int = 0
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class PlanValue:
    """A value of a test.

    Attributes:
        text: text as in the question, or the cell that it was linked to.
        start, end: a period's first day and the day after its last, in ISO format; else "".
    """

    text: str
    start: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class PlanCondition:
    """A condition; with an aggregate, on a group.

    Attributes:
        item: the compared item.
        values: none for "is null", two for "between"; else alternatives ("=" any of them, "!=" none
            of them).
        aggregate: index into ``AGGREGATES``.
    """

    __test__ = False  # pytest collects classes of this name

    item: ColumnRef
    operator: str = "="
    values: tuple[PlanValue, ...] = ()
    aggregate: int = 0


@dataclass(frozen=True, slots=True)
class OrderBy:
    """An order by an item or its aggregate."""

    item: ColumnRef
    aggregate: int = 0
    descending: bool = False


@dataclass(frozen=True, slots=True)
class SecondBlock:
    """A second query block, combined with the first.

    Attributes:
        kind: ``never``: no row of ``tables`` that meets ``where`` belongs to a listed row.
            ``both``: listed rows also meet ``where``, maybe by another row. ``except`` and
            ``union``: the same list under ``where`` is subtracted or added. ``scalar``: ``item`` is
            compared by ``operator`` with its aggregate over the rows that meet ``where``; without
            an aggregate, "=" means one of their values.
        tables: its tables, in addition to its tests' tables.
        where: tests, joined by AND.
        item, operator, aggregate: for ``scalar`` only.
    """

    kind: Kind
    tables: tuple[int, ...] = ()
    where: tuple[PlanCondition, ...] = ()
    item: ColumnRef | None = None
    operator: str = "="
    aggregate: int = 0


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A question on the tables of a :class:`~codegen.sqlnet.joins.JoinGraph`.

    Attributes:
        select: selected items, at least one.
        tables: tables in addition to those of the items below.
        distinct: True returns each row once.
        where: tests on rows (WHERE) and, with an aggregate, on groups (HAVING).
        any_of: True joins the tests on rows by OR.
        group: columns of GROUP BY.
        order, limit: "the five cheapest" has both.
        companion: a second block.
        keys: foreign keys to prefer where tables can be joined in several ways.
    """

    select: tuple[SelectItem, ...]
    tables: tuple[int, ...] = ()
    distinct: bool = False
    where: tuple[PlanCondition, ...] = ()
    any_of: bool = False
    group: tuple[ColumnRef, ...] = ()
    order: OrderBy | None = None
    limit: int | None = None
    companion: SecondBlock | None = None
    keys: tuple[ColumnRef, ...] = ()

    def items(self) -> Iterator[ColumnRef]:
        """Yields all items of the first block."""
        yield from (selected.item for selected in self.select)
        yield from (test.item for test in self.where)
        yield from self.group
        if self.order:
            yield self.order.item
        if self.companion and self.companion.item:
            yield self.companion.item

    def grouped(self) -> tuple[ColumnRef, ...]:
        """Returns ``group``, else the columns shown next to an aggregate."""
        order = [self.order] if self.order else []
        if self.group or not any(p.aggregate for p in (*self.select, *self.where, *order)):
            return self.group
        return tuple(shown.item for shown in self.select if not shown.aggregate)

    def to_row(self) -> dict[str, Any]:
        """Returns its fields as JSON values; tables and columns by number."""
        return asdict(self)

    def required(self) -> frozenset[int]:
        """Returns the tables of the first block."""
        return frozenset((*self.tables, *(item.table for item in self.items())))


def label_columns(table: Table) -> list[int]:
    """Returns the columns by which people know a row: a name or title, or first and last name."""
    found = [
        number
        for number, column in enumerate(table.columns)
        if column.type == "text" and set(column.words) & {"name", "title", "fname", "lname"}
    ]
    parts = [n for n in found if set(table.columns[n].words) & {"first", "last", "fname", "lname"}]
    return parts[:2] if len(parts) > 1 else found[:1]


def is_identifier(table: Table, column: int) -> bool:
    """Returns True if a column identifies rows: never summed, averaged or compared by size."""
    if column in table.primary_key or any(column in key.columns for key in table.foreign_keys):
        return True
    words = words_of(table.columns[column].name)
    return words[-1] in ("id", "ids", "uuid", "code", "phone", "zip", "postcode", "isbn")


def to_statement(plan: QueryPlan, graph: JoinGraph, dialect: str = "sqlite") -> Statement:
    """Builds the statement of a plan.

    Raises:
        PlanError: if the tables are not connected, or in several ways, or a join would repeat rows
            in a sum.
        ConfigError: for a dialect that sqlglot does not know.
    """
    check_dialect(dialect)
    writer = _Writer(graph, frozenset(plan.keys))
    written = writer.plan(plan)
    return Statement(written.sql(dialect=dialect), tuple(writer.parameters), dialect)


def the_tree(
    graph: JoinGraph, required: Iterable[int], keys: Collection[ColumnRef] = ()
) -> JoinTree:
    """Returns the cheapest tree; of several, the one that uses most of the ``keys``.

    Raises:
        PlanError: if several trees remain; names two of the joins.
    """
    found = graph.trees(required)
    if len(found) > 1:
        used = [sum(_uses(join, keys) for join in tree.joins) for tree in found]
        found = [tree for tree, count in zip(found, used, strict=True) if count == max(used)]
    if len(found) == 1:
        return found[0]
    one, other = (sorted(found[i].joins - found[1 - i].joins)[0] for i in (0, 1))
    raise PlanError(
        f"The tables can be joined by {_named(graph, one)} or by {_named(graph, other)}.",
        "Say which one is meant.",
    )


def _uses(join: TableJoin, keys: Collection[ColumnRef]) -> bool:
    return any(ColumnRef(join.child, column) in keys for column in join.child_columns)


def _named(graph: JoinGraph, join: TableJoin) -> str:
    table = graph.tables[join.child]
    return f"{table.name}.{table.columns[join.child_columns[0]].name}"


@dataclass(slots=True)
class _Scope:
    """The table names in one block; if ``bare``, columns are not qualified."""

    names: dict[int, str]
    bare: bool = False


@dataclass(slots=True)
class _Writer:
    """Builds one statement; parameters are collected in text order."""

    graph: JoinGraph
    keys: frozenset[ColumnRef] = frozenset()
    parameters: list[Parameter] = field(default_factory=list)
    _aliases: int = 0

    def plan(self, plan: QueryPlan) -> exp.Query:
        companion = plan.companion
        if companion and companion.kind == "never" and self._is_by_value(plan, companion):
            companion = replace(companion, kind="except")
        if companion is None or companion.kind in ("never", "scalar"):
            return self.block(plan)
        if plan.order or plan.limit is not None or plan.group:
            raise PlanError(f"An order or groups cannot be combined with {companion.kind!r} here.")
        if companion.kind != "union" and self._is_by_row(plan, companion):
            return self._by_row(plan, companion)
        kinds = {"both": exp.Intersect, "except": exp.Except, "union": exp.Union}
        first = replace(plan, companion=None)
        second = replace(first, tables=companion.tables, where=companion.where, any_of=False)
        left, right = self.block(first), self.block(second)
        return kinds[companion.kind](this=left, expression=right, distinct=True)

    def _is_by_value(self, plan: QueryPlan, companion: SecondBlock) -> bool:
        """Returns True if "never" is about values of the listed table: countries without gold."""
        listed = {selected.item.table for selected in plan.select}
        about = {*companion.tables, *(test.item.table for test in companion.where)}
        keys = {
            ColumnRef(table, key) for table in listed if (key := self.graph.key(table)) is not None
        }
        shown = {selected.item for selected in plan.select}
        is_list = not any(s.aggregate for s in plan.select) and not (plan.group or plan.order)
        return is_list and len(listed) == 1 and about == listed and not shown & keys

    def _is_by_row(self, plan: QueryPlan, companion: SecondBlock) -> bool:
        """Returns True if the plan lists rows of one table, and both blocks test other tables."""
        listed = {selected.item.table for selected in plan.select}
        if len(listed) > 1 or any(s.aggregate for s in plan.select):
            return False
        (table,) = listed
        others = {*companion.tables, *(test.item.table for test in companion.where)} - {table}
        tested = {test.item.table for test in companion.where}
        firsts = {test.item.table for test in plan.where if companion.kind == "both"}
        return self.graph.key(table) is not None and bool(others) and table not in tested | firsts

    def _by_row(self, plan: QueryPlan, companion: SecondBlock) -> exp.Query:
        """Builds INTERSECT and EXCEPT of rows, not their names, by EXISTS and NOT EXISTS."""
        table = plan.select[0].item.table
        if companion.kind == "except":
            return self.block(replace(plan, companion=replace(companion, kind="never")))
        others = tuple(t for t in sorted(plan.required()) if t != table)
        bare = replace(plan, companion=None, where=(), tables=())
        select, scope, _ = self._select(bare, JoinTree(frozenset({table})), nested=True)
        first = self._exists(scope, [table], others, plan.where, plan.any_of)
        second = self._exists(scope, [table], companion.tables, companion.where, False)
        return select.where(first, second)

    def block(self, plan: QueryPlan) -> exp.Select:
        """Builds one SELECT, with a companion that is a part of its WHERE."""
        tree = the_tree(self.graph, plan.required(), self.keys)
        if split := self._repeated_aggregate(plan, tree):
            return split
        nested = plan.companion is not None
        select, scope, tree = self._select(plan, tree, nested)
        tests = [self._test(test, scope, tree) for test in plan.where if not test.aggregate]
        found = _any_or_all(tests, plan.any_of)
        is_first = plan.limit is not None and plan.order and not plan.order.aggregate
        if plan.order and is_first:
            column = self._column(plan.order.item, scope)
            found.append(exp.Not(this=exp.Is(this=column, expression=exp.Null())))
        if plan.companion:
            found.append(self._companion(plan, plan.companion, scope))
        if found:
            select = select.where(*found)
        if groups := self._groups(plan, tree):
            select = select.group_by(*(self._column(item, scope) for item in groups))
        if having := [self._test(test, scope, tree) for test in plan.where if test.aggregate]:
            select = select.having(*having)
        if plan.order:
            key = SelectItem(plan.order.item, plan.order.aggregate)
            ordered = self._aggregated(key, scope, tree, plan.group)
            select = select.order_by(exp.Ordered(this=ordered, desc=plan.order.descending))
        return select if plan.limit is None else select.limit(plan.limit)

    def _select(
        self, plan: QueryPlan, tree: JoinTree, nested: bool
    ) -> tuple[exp.Select, _Scope, JoinTree]:
        """Builds SELECT and FROM."""
        bare = len(tree.tables) == 1 and not nested
        scope = _Scope({t: self.graph.tables[t].name for t in tree.tables}, bare)
        shown = [self._aggregated(s, scope, tree, plan.group) for s in plan.select]
        select = self._from(exp.select(*shown), tree, plan.select[0].item.table, scope)
        if plan.distinct or self._repeats_list(plan, tree):
            select = select.distinct()
        return select, scope, tree

    def _repeats_list(self, plan: QueryPlan, tree: JoinTree) -> bool:
        if plan.group or any(part.aggregate for part in (*plan.select, *plan.where)):
            return False
        if plan.order and plan.order.item not in [s.item for s in plan.select]:
            return False  # most engines order distinct rows only by selected columns
        listed = {s.item.table for s in plan.select}
        return is_repeated(listed, tree)

    def _from(self, select: exp.Select, tree: JoinTree, start: int, scope: _Scope) -> exp.Select:
        select = select.from_(self._table(start, scope))
        done, todo = {start}, [start]
        while todo:
            here = todo.pop(0)
            for join in tree.of(here):
                there = join.other(here)
                if there not in done:
                    done.add(there)
                    todo.append(there)
                    on = self._on(join, scope, scope)
                    select = select.join(self._table(there, scope), on=on)
        return select

    def _on(self, join: TableJoin, child: _Scope, parent: _Scope) -> exp.Expr:
        pairs = zip(join.child_columns, join.parent_columns, strict=True)
        return exp.and_(
            *(
                self._equal(
                    ColumnRef(join.child, one), child, ColumnRef(join.parent, other), parent
                )
                for one, other in pairs
            )
        )

    def _equal(self, one: ColumnRef, scope: _Scope, other: ColumnRef, others: _Scope) -> exp.Expr:
        return exp.EQ(this=self._column(one, scope), expression=self._column(other, others))

    def _table(self, table: int, scope: _Scope) -> exp.Expr:
        found, name = table_node(self.graph.tables[table]), scope.names[table]
        return found if name == found.name else exp.alias_(found, name, table=True, quoted=True)

    def _column(self, item: ColumnRef, scope: _Scope) -> exp.Column:
        name = self.graph.tables[item.table].columns[item.column].name
        table = None if scope.bare else exp.to_identifier(scope.names[item.table], quoted=True)
        return exp.column(exp.to_identifier(name, quoted=True), table=table)

    def _aggregated(
        self, selected: SelectItem, scope: _Scope, tree: JoinTree, group: Sequence[ColumnRef]
    ) -> exp.Expr:
        item, aggregate = selected.item, selected.aggregate
        fixed = frozenset(one.table for one in group)
        repeated = is_repeated({item.table}, tree, fixed)
        if item.column == ROWS:
            if not aggregate:
                table = None if scope.bare else exp.to_identifier(scope.names[item.table], True)
                return exp.Column(this=exp.Star(), table=table)
            if aggregate != COUNT:
                raise PlanError("Only COUNT applies to a table's rows.")
            if not (selected.distinct or repeated):
                return exp.Count(this=exp.Star())
            return exp.Count(this=exp.Distinct(expressions=[self._key(item.table, scope)]))
        column: exp.Expr = self._column(item, scope)
        if not aggregate:
            return column
        if aggregate in _SUMMING:
            if repeated:
                table = self.graph.tables[item.table]
                raise PlanError(
                    f"A join would count rows of {table.name} several times in the"
                    f" {AGGREGATES[aggregate]} of {table.columns[item.column].name}."
                )
            if self.graph.tables[item.table].columns[item.column].type == "text":
                column = exp.cast(column, exp.DataType.Type.DOUBLE)
        inner = exp.Distinct(expressions=[column]) if selected.distinct else column
        return AGGREGATE_NODES[AGGREGATES[aggregate]](this=inner)

    def _key(self, table: int, scope: _Scope) -> exp.Expr:
        key = self.graph.key(table)
        if key is None:
            name = self.graph.tables[table].name
            raise PlanError(f"A join would count rows of {name}, which has no key, several times.")
        return self._column(ColumnRef(table, key), scope)

    def _groups(self, plan: QueryPlan, tree: JoinTree) -> list[ColumnRef]:
        """Returns the columns of GROUP BY; a name adds its row's key if a join repeats the row."""
        groups: list[ColumnRef] = []
        plain = [s.item for s in plan.select if not s.aggregate]
        for item in plan.grouped():
            key = self.graph.key(item.table)
            is_label = item.column in label_columns(self.graph.tables[item.table])
            if key is not None and is_label and is_repeated({item.table}, tree):
                groups.append(ColumnRef(item.table, key))
            groups.append(item)
        # Except in SQLite, all shown columns must be grouped, which is harmless with a row's key.
        return list(dict.fromkeys([*groups, *plain])) if groups else []

    def _test(self, test: PlanCondition, scope: _Scope, tree: JoinTree) -> exp.Expr:
        table = self.graph.tables[test.item.table]
        if test.aggregate:
            left = self._aggregated(SelectItem(test.item, test.aggregate), scope, tree, ())
            is_number = True
        else:
            if test.item.column == ROWS:
                raise PlanError("Rows cannot be compared with a value.")
            left = self._column(test.item, scope)
            is_number = table.columns[test.item.column].type == "real"
        return self._compared(test, left, is_number)

    def _compared(self, test: PlanCondition, left: exp.Expr, is_number: bool) -> exp.Expr:
        operator, values = test.operator, test.values
        if operator in ("is null", "is not null"):
            null = exp.Is(this=left, expression=exp.Null())
            return null if operator == "is null" else exp.Not(this=null)
        if not values or (operator == "between" and len(values) != 2):
            raise PlanError(f"The operator {operator!r} does not accept {len(values)} values.")
        if operator == "between":
            low, high = values
            return exp.and_(
                self._one(">=", left, low, is_number), self._one("<=", left, high, is_number)
            )
        parts = [self._one(operator, left, value, is_number) for value in values]
        if len(parts) == 1:
            return parts[0]
        negative = operator in ("!=", "not contains")
        return exp.paren((exp.and_ if negative else exp.or_)(*parts))

    def _one(self, operator: str, left: exp.Expr, value: PlanValue, is_number: bool) -> exp.Expr:
        left = left.copy()
        if value.start:
            return self._in_period(operator, left, value)
        if operator in ("contains", "not contains", "starts", "ends"):
            before, after = operator != "starts", operator != "ends"
            pattern = "%" * before + _escaped(value.text.lower()) + "%" * after
            like = exp.Escape(
                this=exp.Like(this=exp.Lower(this=left), expression=self._mark(pattern)),
                expression=exp.Literal.string("\\"),
            )
            return exp.Not(this=like) if operator == "not contains" else like
        kind = COMPARISON_NODES[operator]
        number = number_of(value.text)
        if number is not None and (is_number or operator not in ("=", "!=")):
            if not is_number:
                left = exp.cast(left, exp.DataType.Type.DOUBLE)
            return kind(this=left, expression=self._mark(number))
        if number is not None:  # a text column may contain numbers, such as SQLite's booleans
            left = exp.cast(left, exp.DataType.Type.TEXT)
        right = exp.Lower(this=self._mark(value.text))
        return kind(this=exp.Lower(this=left), expression=right)

    def _in_period(self, operator: str, left: exp.Expr, value: PlanValue) -> exp.Expr:
        if operator in ("=", "!="):
            inside = exp.and_(
                exp.GTE(this=left.copy(), expression=self._mark(value.start)),
                exp.LT(this=left.copy(), expression=self._mark(value.end)),
            )
            return inside if operator == "=" else exp.Not(this=exp.paren(inside))
        bounds = {
            ">": (exp.GTE, value.end),
            ">=": (exp.GTE, value.start),
            "<": (exp.LT, value.start),
            "<=": (exp.LT, value.end),
        }
        if operator not in bounds:
            raise PlanError(f"A period cannot be compared by {operator!r}.")
        kind, bound = bounds[operator]
        return kind(this=left, expression=self._mark(bound))

    def _mark(self, value: Parameter) -> exp.Placeholder:
        self.parameters.append(value)
        return exp.Placeholder()

    def _companion(self, plan: QueryPlan, companion: SecondBlock, scope: _Scope) -> exp.Expr:
        if companion.kind == "scalar":
            return self._scalar(companion, scope)
        first = [selected.item.table for selected in plan.select]
        anchors = list(dict.fromkeys([*first, *sorted(scope.names)]))
        found = self._exists(scope, anchors, companion.tables, companion.where, False)
        return exp.Not(this=found)

    def _scalar(self, companion: SecondBlock, scope: _Scope) -> exp.Expr:
        item = companion.item
        if item is None or item.column == ROWS:
            raise PlanError("A comparison with all rows needs a column.")
        left = self._column(item, scope)
        shown = (SelectItem(item, companion.aggregate),)
        query = self.block(QueryPlan(shown, companion.tables, where=companion.where))
        if not companion.aggregate and companion.operator in ("=", "!="):
            among = exp.In(this=left, query=exp.Subquery(this=query))
            return among if companion.operator == "=" else exp.Not(this=among)
        kind = COMPARISON_NODES[companion.operator]
        return kind(this=left, expression=exp.Subquery(this=query))

    def _exists(
        self,
        scope: _Scope,
        anchors: Sequence[int],
        tables: Sequence[int],
        where: Sequence[PlanCondition],
        any_of: bool,
    ) -> exp.Expr:
        """Builds EXISTS: a row of ``tables`` that meets ``where`` and belongs to a row of the
        nearest of the outer tables ``anchors``.
        """
        wanted = {*tables, *(test.item.table for test in where)}
        _, _, anchor = min(
            (self._cost(wanted | {anchor}), place, anchor) for place, anchor in enumerate(anchors)
        )
        tree = the_tree(self.graph, wanted | {anchor}, self.keys)
        at = tree.of(anchor)
        inner = _Scope({table: self._alias() for table in sorted(tree.tables)})
        if anchor in wanted or len(at) != 1:
            key = self.graph.key(anchor)
            if key is None:
                raise PlanError(f"{self.graph.tables[anchor].name} has no single-column key.")
            start, rest = anchor, tree
            own = ColumnRef(anchor, key)
            link = self._equal(own, inner, own, scope)
        else:
            (join,) = at
            start = join.other(anchor)
            rest = JoinTree(tree.tables - {anchor}, tree.joins - {join})
            sides = (scope, inner) if anchor == join.child else (inner, scope)
            link = self._on(join, *sides)
        one = exp.select(exp.Literal.number(1))
        query = self._from(one, rest, start, inner).where(link)
        tests = [self._test(test, inner, rest) for test in where]
        return exp.Exists(this=query.where(*_any_or_all(tests, any_of)) if tests else query)

    def _cost(self, tables: set[int]) -> float:
        try:
            return sum(join.cost for join in self.graph.trees(tables)[0].joins)
        except PlanError:
            return float("inf")

    def _alias(self) -> str:
        taken = {table.name.lower() for table in self.graph.tables}
        while True:
            self._aliases += 1
            if (name := f"t{self._aliases}") not in taken:
                return name

    def _repeated_aggregate(self, plan: QueryPlan, tree: JoinTree) -> exp.Select | None:
        """Builds a sum, mean or count over each row once, for a column with repeated rows."""
        listed = {selected.item.table for selected in plan.select}
        if plan.group or plan.companion or plan.order or len(listed) > 1:
            return None
        (table,) = listed
        summed = [s for s in plan.select if s.aggregate in _SUMMING or s.aggregate == COUNT]
        has_column = any(s.item.column != ROWS and not s.distinct for s in summed)
        if not has_column or any(test.aggregate for test in plan.where):
            return None
        if not all(s.aggregate for s in plan.select) or not is_repeated({table}, tree):
            return None
        own = [test for test in plan.where if test.item.table == table]
        if plan.any_of and own and len(own) < len(plan.where):
            return None
        rest = [test for test in plan.where if test.item.table != table]
        alone = JoinTree(frozenset({table}))
        select, scope, _ = self._select(replace(plan, where=(), tables=()), alone, nested=True)
        tests = _any_or_all([self._test(test, scope, alone) for test in own], plan.any_of)
        others = sorted(plan.required() - {table})
        return select.where(*tests, self._exists(scope, [table], others, rest, plan.any_of))


def _any_or_all(tests: list[exp.Expr], any_of: bool) -> list[exp.Expr]:
    return [exp.or_(*tests)] if any_of and len(tests) > 1 else tests


def is_repeated(listed: set[int], tree: JoinTree, fixed: frozenset[int] = frozenset()) -> bool:
    """Returns True if a join repeats the rows of the listed tables.

    Joins from these tables, or from their parents, to a child repeat rows, unless they lead to a
    ``fixed`` table, whose group the row then belongs to.
    """
    seen = set(listed)
    todo = list(listed)
    while todo:
        here = todo.pop()
        for join in tree.of(here):
            there = join.other(here)
            if there in seen:
                continue
            if join.repeats(here) and not (tree.behind(join, here) & fixed):
                return True
            seen.add(there)
            todo.append(there)
    return False


def _escaped(text: str) -> str:
    return "".join("\\" + sign if sign in "%_\\" else sign for sign in text)
