"""The cheapest joins against brute force; keys that are guessed or have several columns."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest

from codegen.sqlnet.joins import JoinGraph, PlanError
from codegen.sqlnet.plan import ColumnRef, QueryPlan, SelectItem, to_statement
from codegen.sqlnet.query import Column, ForeignKey, Table


def tables_of(*described: str) -> tuple[Table, ...]:
    """Tables from lines such as "orders: id customer_id>customers.id": the first is the key."""
    found = []
    for line in described:
        name, _, columns = line.partition(": ")
        parts = [part.partition(">") for part in columns.split()]
        keys = tuple(
            ForeignKey((i,), target.split(".")[0], (target.split(".")[1],))
            for i, (_, _, target) in enumerate(parts)
            if target
        )
        own = tuple(Column(part, "real") for part, _, _ in parts)
        found.append(Table(name, own, primary_key=(0,), foreign_keys=keys))
    return tuple(found)


def test_the_least_tree_is_that_of_brute_force() -> None:
    """On a graph with two ways round, against all sets of joins."""
    graph = JoinGraph(
        tables_of(
            "a: id", "b: id a>a.id", "c: id b>b.id", "d: id c>c.id a>a.id", "e: id d>d.id", "f: id"
        )
    )
    sets = [joins for count in range(5) for joins in combinations(graph.joins, count)]
    for size in (2, 3):
        for wanted in combinations(range(5), size):
            costs = [sum(j.cost for j in joins) for joins in sets if _connects(joins, wanted)]
            trees = graph.trees(wanted)
            assert {sum(join.cost for join in tree.joins) for tree in trees} == {min(costs)}
            assert len(trees) == costs.count(min(costs))
    with pytest.raises(PlanError):
        graph.trees((0, 5))


def _connects(joins: Sequence[Any], wanted: Sequence[int]) -> bool:
    reached, grew = {wanted[0]}, True
    while grew:
        grew = False
        for join in joins:
            if (join.child in reached) != (join.parent in reached):
                reached |= {join.child, join.parent}
                grew = True
    return set(wanted) <= reached and all(join.child in reached for join in joins)


def test_joins_are_guessed_by_names_where_none_is_declared() -> None:
    tables = (
        Table("customers", (Column("id", "real"), Column("name"))),
        Table("orders", (Column("id", "real"), Column("customer_id", "real"), Column("name"))),
        Table("lists", (Column("person"), Column("classroom", "real"))),
        Table("teachers", (Column("surname"), Column("classroom", "real"))),
    )
    joins = [(j.child, j.parent, j.origin) for j in JoinGraph(tables).joins]
    assert joins == [(1, 0, "guessed"), (2, 3, "same name")]


def test_a_composite_key_joins_by_all_its_columns() -> None:
    parent = Table("p", (Column("a", "real"), Column("b", "real")), primary_key=(0, 1))
    key = ForeignKey((0, 1), "p", ())
    child = Table("c", (Column("x", "real"), Column("y", "real"), Column("z")), foreign_keys=(key,))
    graph = JoinGraph((parent, child))
    text = to_statement(
        QueryPlan((SelectItem(ColumnRef(1, 2)), SelectItem(ColumnRef(0, 0)))), graph
    ).text
    assert '"c"."x" = "p"."a" AND "c"."y" = "p"."b"' in text
