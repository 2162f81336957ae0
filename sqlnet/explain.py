"""A query in plain words, so that somebody who reads no SQL sees what was asked.

    the number of orders whose status is 'pending'
    the name of products, sorted by price, highest first, the first 5 alone

It is made of the clauses of the query (:class:`codegen.sqlnet.query.Clause`), not of the question:
it says what will be answered, right or wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.sqlnet.query import Clause
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
    "like": "contains {}",
    "not like": "does not contain {}",
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
    """The clauses of one query as one noun phrase, without a full stop; there is a SELECT."""

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
    for clause in of("never"):
        text += f" without {_name(clause.table)}"
    if groups := of("group"):
        text += f", for each {_listed([_column(clause, main) for clause in groups])}"
    if having := of("having"):
        text += f", where {_joined(having, main)}"
    limits = [int(value) for clause in of("limit") for value in clause.values]
    for clause in of("order"):
        text += f", sorted by {_item(clause, main).removeprefix('the ')}, {_direction(clause)}"
    if limits:
        text += ", the first one alone" if limits[0] == 1 else f", the first {limits[0]} alone"
    return text


def _item(clause: Clause, main: str) -> str:
    if clause.aggregate == "COUNT":
        if clause.column is None:
            return f"the number of {_name(clause.table)}"
        if clause.distinct:
            return f"the number of different {_column(clause, main)} of {_name(clause.table)}"
        return f"the number of {_name(clause.table)} with a {_column(clause, main)}"
    if clause.column is None:
        return f"the {_name(clause.table)}"
    return _AGGREGATES[clause.aggregate].format(_column(clause, main))


def _joined(clauses: Sequence[Clause], main: str) -> str:
    text = ""
    for number, clause in enumerate(clauses):
        if number:
            text += f" {clause.connective} "
        left = _item(clause, main) if clause.aggregate else _column(clause, main)
        values = [f"'{value}'" for value in clause.values]
        text += f"{left} {_test(clause, values)}"
    return text


def _test(clause: Clause, values: Sequence[str]) -> str:
    if clause.operator == "in":
        return f"is {' or '.join(values)}"
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
