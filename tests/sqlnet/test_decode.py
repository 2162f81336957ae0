"""Queries chosen by running them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from codegen.sqlnet.databases import DEFAULT_LIMITS, DatabaseError, ResultSet, StatementLimits
from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.decode import MAX_RUNS, ScoredQuery, choose
from codegen.sqlnet.linking import Linker
from codegen.sqlnet.query import Condition, Query, Statement
from codegen.sqlnet.schema import Schema
from tests.databases import sqlite_file

ROWS = [("Ann", 30, "Toronto"), ("Bob", 41, "Boston")]


class Counting(SqliteDatabase):
    """Counts what runs, and fails for statements with a word."""

    runs = 0
    bad = "\0"

    def execute(self, statement: Statement, limits: StatementLimits = DEFAULT_LIMITS) -> ResultSet:
        self.runs += 1
        if self.bad in statement.text:
            raise DatabaseError("The statement failed: for the test.")
        return super().execute(statement, limits)


def database() -> Counting:
    return Counting.from_rows(["name", "age", "city"], ROWS, "t")  # type: ignore[return-value]


def candidate(probability: float, query: Query) -> ScoredQuery:
    return ScoredQuery(query, math.log(probability), (0.0,) * len(query.conditions))


def test_an_equality_that_selects_nothing_makes_way_for_one_that_does() -> None:
    held = database()
    found = [
        candidate(0.5, Query(0, 0, (Condition(2, 0, "Ann"),))),
        candidate(0.3, Query(1, 0, (Condition(0, 0, "ann"),))),
    ]
    choice = choose(found, Schema.of(held).table(), held)
    assert (choice.number, choice.rows and choice.rows.rows) == (1, ((30,),))
    assert choice.log_probability == pytest.approx(math.log(0.3))


def test_an_empty_answer_alone_does_not_condemn_a_probable_query() -> None:
    held = database()
    conditions = (Condition(0, 0, "Ann"), Condition(2, 0, "Boston"))  # each selects a row
    found = [candidate(0.8, Query(1, 0, conditions)), candidate(0.05, Query(1, 0, conditions[:1]))]
    assert choose(found, Schema.of(held).table(), held).number == 0
    found[1] = candidate(0.7, Query(1, 0, conditions[:1]))
    assert choose(found, Schema.of(held).table(), held).number == 1


def test_a_query_that_fails_is_never_chosen_where_another_runs() -> None:
    held = database()
    held.bad = '"age"'
    found = [candidate(0.6, Query(1)), candidate(0.2, Query(0))]
    choice = choose(found, Schema.of(held).table(), held)
    assert (choice.number, choice.failure) == (1, "")
    only = choose(found[:1], Schema.of(held).table(), held)
    assert (only.rows, only.failure) == (None, "The statement failed: for the test.")


def test_if_none_gives_anything_the_most_probable_stands() -> None:
    held = database()
    found = [candidate(0.02, Query(0, 0, (Condition(2, 0, f"x{i}"),))) for i in range(40)]
    choice = choose(found, Schema.of(held).table(), held)
    assert (choice.number, choice.rows and choice.rows.rows) == (0, ())
    assert held.runs <= MAX_RUNS + 1


def test_with_a_linker_dead_conditions_cost_no_run() -> None:
    held = database()
    found = [candidate(0.02, Query(0, 0, (Condition(2, 0, f"x{i}"),))) for i in range(40)]
    found.append(candidate(0.01, Query(0, 0, (Condition(2, 0, "tornto"),))))
    choice = choose(
        found, Schema.of(held).table(), held, linker=Linker(held, Schema.of(held).table())
    )
    assert choice.candidate.query.conditions[0].value == "Toronto"
    assert choice.rows and choice.rows.rows == (("Ann",),)
    assert held.runs == 2  # the column's values, and the chosen query


def test_counts_by_different_columns_support_one_another() -> None:
    held = database()
    found = [candidate(0.4, Query(0, 3)), candidate(0.3, Query(1, 3)), candidate(0.2, Query(1))]
    choice = choose(found, Schema.of(held).table(), held)
    assert choice.log_probability == pytest.approx(math.log(0.4 + 0.3))


def slow_view(folder: Path) -> Counting:
    """A view on which whatever looks at many rows takes long."""
    path = sqlite_file(
        folder / "slow.db",
        "CREATE TABLE t (name TEXT, age INT);"
        "CREATE VIEW many AS SELECT a.name, c.age FROM t a, t b, t c, t d;",
        t=[(f"Name {i}", i) for i in range(2000)],
    )
    return Counting.open(path)  # type: ignore[return-value]


def test_a_statement_that_is_cut_off_ends_the_search_and_condemns_nobody(tmp_path: Path) -> None:
    held = slow_view(tmp_path)
    found = [
        candidate(0.5 - number / 100, Query(1, 4, (Condition(0, 0, f"Name {number}"),)))
        for number in range(20)
    ]
    choice = choose(found, Schema.of(held).table("many"), held, StatementLimits(seconds=0.1))
    assert choice.number == 0 and choice.rows is None
    assert "took longer than 0.1 s" in choice.failure
    assert held.runs == 2  # whether the condition selects anything, and the query itself
    assert choice.log_probability == pytest.approx(math.log(0.5))
