"""A query in plain words, for people who do not read SQL.

    the number of orders whose status is 'pending'
    the name of products, sorted by price, highest first, only the first 5

It is built from the query's clauses (:class:`codegen.sqlnet.query.Clause`), never from the
question, so it describes the actual answer, correct or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from codegen.sqlnet.plan import ROWS, ColumnRef, PlanCondition, QueryPlan
from codegen.sqlnet.query import AGGREGATES, Clause, ClauseKind, Table, clause_of
from codegen.sqlnet.words import words_of

_AGGREGATES = {
    "": "the {}",
    "MAX": "the highest {}",
    "MIN": "the lowest {}",
    "SUM": "the sum of the {}",
    "AVG": "the average {}",
}
_OPERATORS = {
    "=": "is {}",
    "!=": "is not {}",
    ">": "is more than {}",
    "<": "is less than {}",
    ">=": "is at least {}",
    "<=": "is at most {}",
    "between": "is from {} to {}",
    "contains": "contains {}",
    "not contains": "does not contain {}",
    "starts": "starts with {}",
    "ends": "ends with {}",
    "is null": "is empty",
    "is not null": "is given",
}
_OF_DATES = {
    ">": "is after {}",
    "<": "is before {}",
    ">=": "is {} or later",
    "<=": "is {} or earlier",
}


def sentence(clauses: Sequence[Clause]) -> str:
    """Describes a query's clauses, including a SELECT, as a noun phrase without a full stop."""

    def of(*kinds: str) -> list[Clause]:
        return [clause for clause in clauses if clause.kind in kinds]

    shown = of("select")
    main = shown[0].table
    text = _listed([_item(clause, main) for clause in shown])
    if any(clause.column is not None and clause.aggregate != "COUNT" for clause in shown):
        text += f" of {_name(main)}"
    if any(clause.distinct and not clause.aggregate for clause in shown):
        text += ", each value once"
    if conditions := of("where"):
        text += f" whose {_joined(conditions, main)}"
    if barred := of("never"):
        tests = [clause for clause in barred if clause.column is not None]
        names = dict.fromkeys(_name(clause.table) for clause in barred)
        text += f" without {_listed([*names])}"
        text += f" whose {_joined(tests, barred[0].table)}" if tests else ""
    if groups := of("group"):
        text += f", for each {_listed([_column(clause, main) for clause in groups])}"
    if having := of("having"):
        text += f", where {_joined(having, main)}"
    limits = [int(value) for clause in of("limit") for value in clause.values]
    for clause in of("order"):
        text += f", sorted by {_item(clause, main).removeprefix('the ')}, {_direction(clause)}"
    if limits:
        text += ", only the first one" if limits[0] == 1 else f", only the first {limits[0]}"
    return text


def _item(clause: Clause, main: str) -> str:
    if clause.aggregate == "COUNT":
        if clause.column is None:
            return f"the number of {_name(clause.table)}"
        if clause.distinct:
            different = f"the number of different values of {_column(clause, main)}"
            return f"{different} of {_name(clause.table)}"
        return f"the number of {_name(clause.table)} with a {_column(clause, main)}"
    if clause.column is None:
        return f"the {_name(clause.table)}"
    return _AGGREGATES[clause.aggregate].format(_column(clause, main))


def _joined(clauses: Sequence[Clause], main: str) -> str:
    text = ""
    for number, clause in enumerate(clauses):
        if number:
            text += f" {clause.connective} "
        is_total = clause.aggregate and clause.kind == "having"
        left = _item(clause, main) if is_total else _column(clause, main)
        values = [f"'{value}'" for value in clause.values]
        if not values:  # compared with other rows
            values = [_item(clause, main)]
        text += f"{left} {_test(clause, values)}"
    return text


def _test(clause: Clause, values: Sequence[str]) -> str:
    if len(values) > 1 and clause.operator != "between":
        joined = " or ".join(values)
        return _OPERATORS[clause.operator].format(joined)
    words = _OF_DATES if clause.dated and not clause.aggregate else {}
    pattern = words.get(clause.operator) or _OPERATORS.get(
        clause.operator, f"{clause.operator} {{}}"
    )
    return pattern.format(*values)


def _direction(clause: Clause) -> str:
    down = clause.operator == "desc"
    if clause.dated:
        return "latest first" if down else "earliest first"
    if clause.column is not None and clause.column.type == "text" and not clause.aggregate:
        return "Z to A" if down else "A to Z"
    return "highest first" if down else "lowest first"


def _column(clause: Clause, main: str) -> str:
    if clause.column is None:
        return _name(clause.table)
    words = clause.column.alias or " ".join(words_of(clause.column.name))
    return words if clause.table == main else f"{_name(clause.table)} {words}"


def _name(table: str) -> str:
    return " ".join(words_of(table))


def _listed(items: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def clauses_of(
    plan: QueryPlan, tables: Sequence[Table], said: Mapping[str, str] | None = None
) -> tuple[Clause, ...]:
    """Returns the clauses of a plan.

    Args:
        said: value's text -> the question's wording, where they differ.
    """
    return tuple(_clauses(plan, tables, said or {}))


def _clauses(plan: QueryPlan, tables: Sequence[Table], said: Mapping[str, str]) -> Iterator[Clause]:
    def clause(kind: ClauseKind, item: ColumnRef, aggregate: int = 0) -> Clause:
        number = None if item.column == ROWS else item.column
        return clause_of(kind, tables[item.table], number, AGGREGATES[aggregate])

    def test(kind: ClauseKind, one: PlanCondition) -> Clause:
        texts = tuple(value.text for value in one.values)
        found = clause(kind, one.item, one.aggregate)
        return replace(
            found,
            operator=one.operator,
            values=texts,
            said=tuple(said.get(text, text) for text in texts),
        )

    for shown in plan.select:
        found = clause("select", shown.item, shown.aggregate)
        yield replace(found, distinct=shown.distinct or plan.distinct)
    for one in plan.where:
        found = test("having" if one.aggregate else "where", one)
        yield replace(found, connective="or" if plan.any_of else "and")
    counts = any(shown.aggregate for shown in plan.select)  # otherwise the rows are the groups
    for item in plan.grouped() if counts else plan.group:
        yield clause("group", item)
    if plan.order:
        found = clause("order", plan.order.item, plan.order.aggregate)
        yield replace(found, operator="desc" if plan.order.descending else "asc")
    if plan.limit is not None:
        yield replace(
            clause("limit", ColumnRef(plan.select[0].item.table)), values=(str(plan.limit),)
        )
    if companion := plan.companion:
        bars = companion.kind in ("never", "except")
        if companion.kind == "scalar" and companion.item:
            found = clause("where", companion.item, companion.aggregate)
            yield replace(found, operator=companion.operator)
        elif bars:
            yield from (clause("never", ColumnRef(table)) for table in companion.tables)
        for one in companion.where:
            found = test("never" if bars else "where", one)
            yield replace(found, connective="or" if companion.kind == "union" else "and")
