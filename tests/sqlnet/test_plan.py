"""Plans become SQL: each rule against rows that were worked out by hand, or by other SQL."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.joins import JoinGraph, PlanError
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
    to_statement,
)
from codegen.sqlnet.query import AGGREGATES
from codegen.sqlnet.sql import validate

from .clinic import SCRIPT, clinic

MAX, MIN, SUM, AVG = (AGGREGATES.index(name) for name in ("MAX", "MIN", "SUM", "AVG"))


class Clinic:
    """Plans by names, and what they give."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database, self.graph = database, JoinGraph(database.tables)

    def item(self, name: str) -> ColumnRef:
        table, _, column = name.partition(".")
        number = [t.name for t in self.database.tables].index(table)
        return ColumnRef(number, self.database.tables[number].index(column) if column else ROWS)

    def show(self, *names: str, aggregate: int = 0, **options: Any) -> tuple[SelectItem, ...]:
        return tuple(SelectItem(self.item(name), aggregate, **options) for name in names)

    def test(self, name: str, operator: str, *values: str, aggregate: int = 0) -> PlanCondition:
        return PlanCondition(self.item(name), operator, tuple(map(PlanValue, values)), aggregate)

    def table(self, name: str) -> int:
        return self.item(name).table

    def rows(self, plan: QueryPlan) -> list[tuple[Any, ...]]:
        """What a plan gives; the statement passes the gate on the way."""
        return list(self.database.execute(to_statement(plan, self.graph)).rows)

    def sql(self, plan: QueryPlan, dialect: str = "sqlite") -> str:
        return to_statement(plan, self.graph, dialect).text


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    database = clinic(tmp_path_factory.mktemp("clinic"))
    yield Clinic(database)
    database.close()


def by_hand(query: str) -> list[tuple[Any, ...]]:
    """What SQLite gives for SQL that a person wrote."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCRIPT)
    return connection.execute(query).fetchall()


def same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return sorted(map(repr, one)) == sorted(map(repr, other))


def test_a_list_that_a_join_repeats_has_each_row_once(db: Clinic) -> None:
    plan = QueryPlan(db.show("patients.last_name"), where=(db.test("visits.fee", "<", "25"),))
    assert db.rows(plan) == [("Lee",)]


def test_a_sum_over_what_a_join_repeats_counts_each_row_once(db: Clinic) -> None:
    keys = (db.item("visits.doctor_id"),)
    where = (db.test("visits.fee", "<", "25"),)
    plan = QueryPlan(db.show("doctors.salary", aggregate=SUM), where=where, keys=keys)
    assert db.rows(plan) == [(5000.0,)]  # Dr. Hill has two such visits


def test_a_sum_per_group_that_a_join_repeats_is_refused(db: Clinic) -> None:
    plan = QueryPlan(
        (*db.show("doctors.specialty"), *db.show("doctors.salary", aggregate=SUM)),
        tables=(db.table("visits"),),
        keys=(db.item("visits.doctor_id"),),
    )
    with pytest.raises(PlanError, match="several times"):
        db.sql(plan)


def test_a_mean_per_group_that_the_join_leads_to_is_allowed(db: Clinic) -> None:
    plan = QueryPlan((*db.show("patients.city"), *db.show("visits.fee", aggregate=AVG)))
    expected = by_hand(
        "SELECT city, AVG(fee) FROM visits JOIN patients p ON p.id = patient_id GROUP BY city"
    )
    assert same(db.rows(plan), expected)


def test_rows_are_counted_once_each(db: Clinic) -> None:
    count = db.show("patients", aggregate=COUNT)
    plan = QueryPlan(count, where=(db.test("visits.fee", ">", "0"),))
    assert db.rows(plan) == [(3,)]
    visits = QueryPlan(
        db.show("visits", aggregate=COUNT), where=(db.test("patients.city", "=", "rome"),)
    )
    assert db.rows(visits) == [(3,)]


def test_a_group_by_a_name_is_a_group_by_the_row(db: Clinic) -> None:
    plan = QueryPlan(
        (*db.show("patients.first_name", "patients.last_name"), *db.show("visits", aggregate=COUNT))
    )
    assert same(db.rows(plan), [("Ann", "Lee", 2), ("Ann", "Lee", 1), ("Bob", "Fox", 2)])


def test_a_group_by_a_value_is_by_value(db: Clinic) -> None:
    plan = QueryPlan((*db.show("patients.city"), *db.show("patients", aggregate=COUNT)))
    assert same(db.rows(plan), [("Oslo", 1), ("Rome", 2), (None, 1)])


def test_having_counts_the_rows_of_a_group(db: Clinic) -> None:
    test = db.test("visits", ">=", "2", aggregate=COUNT)
    plan = QueryPlan(db.show("patients.first_name", "patients.last_name"), where=(test,))
    assert same(db.rows(plan), [("Ann", "Lee"), ("Bob", "Fox")])


def test_never_is_not_undone_by_a_null(db: Clinic) -> None:
    wrong = by_hand("SELECT name FROM doctors WHERE id NOT IN (SELECT doctor_id FROM visits)")
    assert wrong == []  # NOT IN (..., NULL) is never true
    plan = QueryPlan(
        db.show("doctors.name"),
        companion=SecondBlock("never", (db.table("visits"),)),
        keys=(db.item("visits.doctor_id"),),
    )
    assert db.rows(plan) == [("Dr. West",)]


def test_never_with_a_test_on_another_table(db: Clinic) -> None:
    where = (db.test("doctors.specialty", "=", "heart"),)
    plan = QueryPlan(
        db.show("patients.id"),
        companion=SecondBlock("never", (db.table("visits"),), where),
        keys=(db.item("visits.doctor_id"),),
    )
    assert same(db.rows(plan), [(1,), (4,)])


def test_never_of_values_of_the_listed_table_is_by_value(db: Clinic) -> None:
    """Rome has a patient without a phone, and one with."""
    where = (db.test("patients.phone", "is null"),)
    never = SecondBlock("never", (db.table("patients"),), where)
    plan = QueryPlan(db.show("patients.city"), companion=never)
    assert same(db.rows(plan), [("Oslo",), (None,)])
    rows = QueryPlan(db.show("patients.id"), companion=never)
    assert same(db.rows(rows), [(1,), (3,), (4,)])


def test_two_keys_between_one_pair_are_two_readings(db: Clinic) -> None:
    plan = QueryPlan(db.show("doctors.name"), where=(db.test("visits.fee", "=", "20"),))
    with pytest.raises(PlanError, match=r"visits\.doctor_id or by visits\.substitute_id"):
        db.sql(plan)
    found = {}
    for key in ("visits.doctor_id", "visits.substitute_id"):
        chosen = QueryPlan(plan.select, where=plan.where, keys=(db.item(key),))
        found[key] = db.rows(chosen)
    assert found == {"visits.doctor_id": [("Dr. Hill",)], "visits.substitute_id": [("Dr. Park",)]}


def test_tables_that_no_key_connects_are_refused(db: Clinic) -> None:
    with pytest.raises(PlanError, match="No key connects"):
        db.sql(QueryPlan(db.show("rooms.floor", "patients.city")))


def test_both_is_of_rows_not_of_names(db: Clinic) -> None:
    """Two people of one name, each with one of two kinds of visits, are no person with both."""
    first = db.test("visits.fee", "=", "20")
    second = db.test("visits.fee", "=", "30")
    plan = QueryPlan(
        db.show("patients.last_name"), where=(first,), companion=SecondBlock("both", (), (second,))
    )
    assert db.rows(plan) == []
    own = SecondBlock("both", (), (db.test("visits.fee", "=", "10"),))
    assert db.rows(QueryPlan(plan.select, where=(first,), companion=own)) == [("Lee",)]


def test_both_of_values_of_the_listed_table_is_an_intersection(db: Clinic) -> None:
    plan = QueryPlan(
        db.show("patients.city"),
        where=(db.test("patients.first_name", "=", "Ann"),),
        companion=SecondBlock("both", (), (db.test("patients.first_name", "=", "Bob"),)),
    )
    assert db.rows(plan) == [("Rome",)]


def test_except_and_union(db: Clinic) -> None:
    second = (db.test("patients.first_name", "=", "Ann"),)
    select = db.show("patients.city")
    taken = QueryPlan(select, companion=SecondBlock("except", (), second))
    assert db.rows(taken) == [(None,)]
    first = (db.test("patients.first_name", "=", "Bob"),)
    added = QueryPlan(select, where=first, companion=SecondBlock("union", (), second))
    assert same(db.rows(added), [("Oslo",), ("Rome",)])


def test_a_comparison_with_the_mean_of_all(db: Clinic) -> None:
    companion = SecondBlock("scalar", item=db.item("doctors.salary"), operator=">", aggregate=AVG)
    assert db.rows(QueryPlan(db.show("doctors.name"), companion=companion)) == [("Dr. Park",)]


def test_among_the_values_of_others(db: Clinic) -> None:
    where = (db.test("doctors.name", "=", "Dr. West"),)
    companion = SecondBlock("scalar", (), where, db.item("doctors.specialty"), "=")
    plan = QueryPlan(db.show("doctors.name"), companion=companion)
    assert same(db.rows(plan), [("Dr. Park",), ("Dr. West",)])


def test_the_first_of_an_order_is_no_null(db: Clinic) -> None:
    order = OrderBy(db.item("patients.born"))
    plan = QueryPlan(db.show("patients.id"), order=order, limit=1)
    assert by_hand("SELECT id FROM patients ORDER BY born LIMIT 1") == [(4,)]
    assert db.rows(plan) == [(2,)]


def test_the_most_rows(db: Clinic) -> None:
    order = OrderBy(db.item("visits"), COUNT, True)
    keys = (db.item("visits.doctor_id"),)
    plan = QueryPlan(db.show("doctors.name"), order=order, limit=2, keys=keys)
    assert same(db.rows(plan), [("Dr. Hill",), ("Dr. Park",)])


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("=", [1, 2]),
        ("!=", [3, 4, 5]),
        ("<", [5]),
        (">", [3, 4]),
        (">=", [1, 2, 3, 4]),
        ("<=", [1, 2, 5]),
    ],
)
def test_a_month_on_a_column_of_days(db: Clinic, operator: str, expected: list[int]) -> None:
    march = PlanValue("March 2024", "2024-03-01", "2024-04-01")
    test = PlanCondition(db.item("visits.day"), operator, (march,))
    rows = db.rows(QueryPlan(db.show("visits.id"), where=(test,)))
    assert sorted(row[0] for row in rows) == expected


def test_between_two_years_holds_the_last_day(db: Clinic) -> None:
    years = tuple(PlanValue(str(y), f"{y}-01-01", f"{y + 1}-01-01") for y in (2023, 2024))
    plan = QueryPlan(
        db.show("visits", aggregate=COUNT),
        where=(PlanCondition(db.item("visits.day"), "between", years),),
    )
    assert db.rows(plan) == [(4,)]


def test_alternatives_nulls_and_patterns(db: Clinic) -> None:
    def ids(*tests: PlanCondition, any_of: bool = False) -> list[int]:
        plan = QueryPlan(db.show("patients.id"), where=tests, any_of=any_of)
        return sorted(row[0] for row in db.rows(plan))

    city = db.test("patients.city", "=", "Oslo")
    assert ids(db.test("patients.city", "=", "Oslo", "Rome")) == [1, 2, 3]
    assert ids(db.test("patients.city", "!=", "Oslo", "Rome")) == []
    assert ids(city, db.test("patients.first_name", "=", "cyd"), any_of=True) == [1, 4]
    assert ids(db.test("patients.phone", "is null")) == [2]
    assert ids(db.test("patients.phone", "is not null")) == [1, 3, 4]
    assert ids(db.test("patients.last_name", "contains", "E")) == [1, 2]
    assert ids(db.test("patients.last_name", "starts", "f")) == [3]
    assert ids(db.test("patients.last_name", "ends", "y")) == [4]
    assert ids(db.test("patients.last_name", "not contains", "e")) == [3, 4]
    assert ids(db.test("patients.last_name", "contains", "%")) == []


def test_all_columns_and_different_values(db: Clinic) -> None:
    assert db.rows(QueryPlan(db.show("rooms"))) == [(1, 0), (2, 0), (3, 1)]
    different = db.show("rooms.floor", aggregate=COUNT, distinct=True)
    assert db.rows(QueryPlan(different)) == [(2,)]
    assert same(db.rows(QueryPlan(db.show("rooms.floor"), distinct=True)), [(0,), (1,)])


def test_values_are_parameters_in_the_order_of_the_text(db: Clinic) -> None:
    hostile = "x'; DROP TABLE patients; --"
    plan = QueryPlan(
        db.show("patients.first_name"),
        where=(
            db.test("patients.city", "=", hostile),
            db.test("visits", ">", "7", aggregate=COUNT),
        ),
        companion=SecondBlock("never", (), (db.test("visits.fee", "<", "5"),)),
    )
    statement = to_statement(plan, db.graph)
    assert statement.parameters == (hostile, 5, 7)
    assert hostile not in statement.text


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb", "postgres", "mysql"])
def test_every_kind_of_plan_passes_the_gate_in_every_dialect(db: Clinic, dialect: str) -> None:
    never = SecondBlock("never", (db.table("visits"),), (db.test("visits.fee", ">", "1"),))
    both = SecondBlock("both", (), (db.test("visits.fee", "<", "1"),))
    scalar = SecondBlock("scalar", item=db.item("patients.born"), operator=">", aggregate=MIN)
    like = db.test("patients.city", "contains", "o")
    order = OrderBy(db.item("patients.born"), 0, True)
    select = db.show("patients.first_name")
    plans = [
        QueryPlan(select, where=(like,), order=order, limit=3),
        QueryPlan(select, companion=never),
        QueryPlan(select, where=(db.test("visits.fee", ">", "1"),), companion=both),
        QueryPlan(select, companion=scalar),
        QueryPlan(select, where=(like,), companion=SecondBlock("union", (), (like,))),
        QueryPlan((*select, *db.show("visits", aggregate=COUNT)), distinct=True),
        QueryPlan(db.show("patients")),
    ]
    for plan in plans:
        validate(db.sql(plan, dialect), db.database.tables, dialect)


def test_names_that_are_sql_are_quoted(tmp_path: Any) -> None:
    connection = sqlite3.connect(path := tmp_path / "odd.sqlite")
    connection.executescript("""
        CREATE TABLE "a""b; --" ("select" INTEGER PRIMARY KEY, "x y" TEXT);
        CREATE TABLE "t1" ("of" INTEGER REFERENCES "a""b; --"("select"), n INTEGER);
        INSERT INTO "a""b; --" VALUES (1, 'one'), (2, 'two');
        INSERT INTO t1 VALUES (1, 5);
    """)
    connection.close()
    odd = Clinic(SqliteDatabase.open(path))
    plan = QueryPlan(
        (SelectItem(ColumnRef(0, 1)),),
        companion=SecondBlock("never", (1,)),
        where=(PlanCondition(ColumnRef(0, 1), "!=", (PlanValue("x"),)),),
    )
    assert odd.rows(plan) == [("two",)]
    odd.database.close()


# -- joins
