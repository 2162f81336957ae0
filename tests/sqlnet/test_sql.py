"""The statements that are built, and the gate that refuses all others."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import expressions as exp
from sqlglot import parse_one

from codegen.core.errors import ConfigError, InputError
from codegen.sqlnet.query import (
    AGGREGATES,
    OPERATORS,
    Column,
    Condition,
    Query,
    Table,
    UnsafeSQLError,
)
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import to_sql, validate

TABLE = Table('we"ird', (Column("Pick #", "real"), Column('School/Club "Team"'), Column("a")))
SCHEMA = Schema((TABLE, Table("o", (Column("a"), Column("b")))))

HOSTILE = Path(__file__).with_name("hostile.sql").read_text("utf-8")

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Table, Query]:
    columns = draw(st.lists(names, min_size=1, max_size=5, unique_by=str.lower))
    kinds = draw(st.lists(st.sampled_from(["text", "real"]), min_size=5, max_size=5))
    built = tuple(Column(name, kind) for name, kind in zip(columns, kinds, strict=False))  # type: ignore[arg-type]
    index = st.integers(0, len(columns) - 1)
    condition = st.builds(
        Condition, index, st.integers(0, len(OPERATORS) - 1), st.one_of(names, st.just("3"))
    )
    query = st.builds(
        Query,
        index,
        st.integers(0, len(AGGREGATES) - 1),
        st.lists(condition, max_size=4).map(tuple),
    )
    return Table(draw(names), built), draw(query)


@given(questions())
def test_whatever_the_names_a_built_statement_is_valid_and_runs(case: tuple[Table, Query]) -> None:
    table, query = case
    statement = to_sql(query, table)
    validate(statement.text, [table])
    connection = sqlite3.connect(":memory:")
    columns = ", ".join('"' + column.name.replace('"', '""') + '"' for column in table.columns)
    quoted = '"' + table.name.replace('"', '""') + '"'
    if not table.name.lower().startswith("sqlite_"):
        connection.execute(f"CREATE TABLE {quoted} ({columns})")
        connection.execute(statement.text, statement.parameters).fetchall()
    connection.close()


@given(questions(), st.sampled_from(["duckdb", "postgres", "mysql", "tsql", "bigquery", "oracle"]))
def test_in_every_dialect_values_stay_out_of_the_text(
    case: tuple[Table, Query], dialect: str
) -> None:
    table, query = case
    statement = to_sql(query, table, dialect)
    parsed = parse_one(statement.text, dialect=dialect)
    assert isinstance(parsed, exp.Select)
    assert not list(parsed.find_all(exp.Literal))
    assert len(statement.parameters) == len(query.conditions)


def test_types_decide_how_values_are_compared() -> None:
    conditions = (Condition(1, 0, "Butler CC"), Condition(0, 1, "1,000"), Condition(2, 2, "5"))
    statement = to_sql(Query(0, 1, conditions), TABLE)
    assert statement.text == (
        'SELECT MAX("Pick #") FROM "we""ird" WHERE LOWER("School/Club ""Team""") = LOWER(?)'
        ' AND "Pick #" > ? AND CAST("a" AS REAL) < ?'
    )
    assert statement.parameters == ("Butler CC", 1000, 5)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from o",
        "select A from O",
        "select a from o union select b from o",
        "with x as (select a from o) select * from x",
        "with x as (select a from o), y as (select a from x) select a from y union select a from x",
        "select o.a, count(*) from o join o p on o.a = p.b group by o.a having count(*) > 1"
        " order by 2 limit 5",
        "select (select max(a) from o)",
        "select case when a = 1 then 2 else 3 end from o",
        "select substr(a, 1, 2), a || b from o where a like '%x!%%' escape '!'",
        "select a from o where b in (select b from o where a between 1 and 2)",
    ],
)
def test_a_single_select_on_the_schema_is_accepted(sql: str) -> None:
    validate(sql, SCHEMA.tables)


BROKEN = [
    "",
    ";",
    "select",
    "select a from o where",
    "'",
    '"',
    "select a from o /*",
    "\0",
    "(" * 5000,
    " union all ".join(["select a from o"] * 400),  # the check's time grows with the square
]


@pytest.mark.parametrize("sql", [*HOSTILE.strip().split("\n"), *BROKEN])
@pytest.mark.parametrize("dialect", ["sqlite", "duckdb", "postgres", "mysql"])
def test_everything_else_is_refused(sql: str, dialect: str) -> None:
    if dialect == "mysql":
        sql = sql.replace('"nope"', "`nope`")  # in its quotes it would be a text
    with pytest.raises(UnsafeSQLError):
        validate(sql, SCHEMA.tables, dialect)


def test_unknown_dialects_and_misfits_are_named() -> None:
    with pytest.raises(ConfigError, match="Unknown SQL dialect 'sqllite'"):
        to_sql(Query(0), TABLE, "sqllite")
    with pytest.raises(InputError, match="does not fit"):
        to_sql(Query(3), TABLE)


def test_what_is_refused_is_not_written_to_the_terminal() -> None:
    """sqlglot logs what it can't parse, and without a handler Python writes that to stderr."""
    code = (
        "from codegen.sqlnet.sql import validate\n"
        "for sql in ('SHOW \\x1b]0;x\\x07', 'EXPLAIN \\x1b[2J', 'PREPARE \\x1b[2J'):\n"
        "    try:\n        validate(sql, ())\n    except Exception as error:\n"
        "        assert type(error).__name__ == 'UnsafeSQLError', error\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout + done.stderr == b""
