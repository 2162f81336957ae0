"""Databases made by a stranger: no view, cell or function holds the machine or the disk."""

from __future__ import annotations

import math
import os
import sqlite3
import sys
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from codegen.sqlnet.databases import DatabaseError, StatementLimits, TooSlowError
from codegen.sqlnet.databases.child import decode_value, encode_value
from codegen.sqlnet.databases.files import SqliteDatabase, open_database
from codegen.sqlnet.plan_features import LinkedSchema
from codegen.sqlnet.query import Statement, UnsafeSQLError
from codegen.sqlnet.schema import Schema
from tests.processes import run

# Whatever goes wrong goes wrong for minutes to years, so this bound is no matter of speed.
FOR_EVER_S = 120.0


def in_time(script: str, *arguments: object) -> str:
    """What a script prints, run in a process of its own, which nothing can hold up."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = run(*command, timeout=FOR_EVER_S)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


ASK = """
import sys
from codegen.core.errors import CodegenError
from codegen.sqlnet.databases import StatementLimits
from codegen.sqlnet.databases.files import open_database
from codegen.sqlnet.query import Statement
database = open_database(sys.argv[1])
limits = StatementLimits(seconds=0.5)
for sql in sys.argv[2:]:
    try:
        print(database.execute(Statement(sql, (), database.dialect), limits).rows)
    except CodegenError as error:
        print(type(error).__name__)
"""


def sqlite_file(path: Path, *statements: str | tuple[str, Sequence[object]]) -> Path:
    connection = sqlite3.connect(path)
    for statement in statements:
        sql, values = (statement, ()) if isinstance(statement, str) else statement
        connection.execute(sql, values)
    connection.commit()
    connection.close()
    return path


ENDLESS = {
    "recursive": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
    " SELECT n FROM r WHERE n < 0",
    "product": "SELECT a.x FROM " + ", ".join(f"t {name}" for name in "abcdefghijkl")
    + " WHERE a.x + b.x + c.x + d.x + e.x + f.x + g.x + h.x + i.x + j.x + k.x + l.x < 0",
    "sorted": "SELECT a.x FROM t a, t b, t c, t d, t e ORDER BY a.x + b.x + c.x + d.x + e.x",
    "counted": "SELECT COUNT(*) AS x FROM t a, t b, t c, t d, t e, t f, t g",
}  # fmt: skip


@pytest.mark.parametrize("view", ENDLESS.values(), ids=ENDLESS)
def test_a_view_that_never_ends_can_be_opened_beside_others(tmp_path: Path, view: str) -> None:
    path = sqlite_file(
        tmp_path / "x.db",
        "CREATE TABLE t (x)",
        *[("INSERT INTO t VALUES (?)", (i,)) for i in range(100)],
        f"CREATE VIEW never AS {view}",
    )
    ask = ["SELECT COUNT(*) FROM never", "SELECT MAX(x) FROM t"]
    endless, sound = in_time(ASK, path, *ask).splitlines()
    assert endless in ("TooSlowError", "UnsafeSQLError") and sound == "((99,),)"


def test_views_that_double_at_each_level_end_with_one_line(tmp_path: Path) -> None:
    views, before = [], "t"
    for level in range(40):
        views.append(f"CREATE VIEW v{level} AS SELECT x.a FROM {before} x, {before} y")
        before = f"v{level}"
    path = tmp_path / "x.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("PRAGMA writable_schema = ON")  # else making them takes for ever too
    for level, view in enumerate(views):
        connection.execute(
            "INSERT INTO sqlite_master VALUES ('view', ?, ?, 0, ?)",
            (f"v{level}", f"v{level}", view),
        )
    connection.commit()
    connection.close()
    script = (
        "import sys; from codegen.core.errors import CodegenError\n"
        "from codegen.sqlnet.databases.files import open_database\n"
        "try: print(len(open_database(sys.argv[1]).tables))\n"
        "except CodegenError as error: print(type(error).__name__)\n"
    )
    said = in_time(script, path).strip()  # views that cannot be prepared in time are left out
    assert said == "TooSlowError" or 1 <= int(said) <= 41


# (expression, whether it can only end by being killed)
FUNCTIONS = [
    "instr(a, b)",
    "a LIKE '%a%a%a%a%a%a%ab'",
    "length(a || b || a || b)",
    *(
        pytest.param(function, marks=pytest.mark.long)
        for function in (
            "instr(a || 'c', b)",
            "replace(a, b, 'x')",
            "length(trim(a, b))",
            "lower(a) = lower(b)",
            "round(a)",
            "CAST(a AS REAL)",
            "strftime(a, b)",
        )
    ),
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("through_view", [pytest.param(False, marks=pytest.mark.long), True])
def test_one_call_of_a_function_keeps_the_limit(
    tmp_path: Path, function: str, through_view: bool
) -> None:
    """The progress handler is not called within a function: hours for the first two."""
    path = sqlite_file(
        tmp_path / "x.db",
        "CREATE TABLE t (a, b)",
        ("INSERT INTO t VALUES (?, ?)", ("a" * 9_900_000, "a" * 4_900_000 + "b")),
        f"CREATE VIEW v AS SELECT {function} AS y FROM t",
    )
    asked = "SELECT y FROM v" if through_view else f"SELECT {function} FROM t"
    first, second = in_time(ASK, path, asked, "SELECT COUNT(*) FROM t").splitlines()
    assert second == "((1,),)"
    if "instr" in function:
        assert first in ("TooSlowError", "DatabaseError")


@pytest.mark.parametrize("long", [10_001, 120_000])
def test_long_cells_of_csv_files_are_asked_for_in_a_child_too(tmp_path: Path, long: int) -> None:
    (tmp_path / "x.csv").write_text(f"a,n\n{'é' * (long // 2)},1\nb,2\n", encoding="utf-8")
    database = open_database(tmp_path / "x.csv")
    assert database.execute(Statement("SELECT LENGTH(a), n FROM x")).rows == (
        (long // 2, 1.0),
        (1, 2.0),
    )
    frame = SqliteDatabase.from_rows(["a", "b"], [("a" * 9_900_000, "a" * 4_900_000 + "b")], "t")
    with pytest.raises(TooSlowError):
        frame.execute(Statement("SELECT INSTR(a, b) FROM t"), StatementLimits(seconds=0.2))


def test_short_cells_can_not_be_blown_up_in_this_process() -> None:
    database = SqliteDatabase.from_rows(["a"], [("a" * 9_000,)], "t")
    with pytest.raises(DatabaseError, match="too big"):
        database.execute(Statement("SELECT INSTR(REPLACE(a, 'a', a), 'b') FROM t"))
    assert database.execute(Statement("SELECT LENGTH(a || a) FROM t")).rows == ((18_000,),)


@pytest.mark.parametrize(
    "function",
    ["printf('%.*c', 9000000, 'x')", "hex(zeroblob(4000000))", "randomblob(10)",
     "group_concat(x)", "json_array(x)", "char(65)", "quote(x)", "x GLOB 'a*'"],
)  # fmt: skip
def test_functions_that_are_not_allowed_do_not_run_on_opening(
    tmp_path: Path, function: str
) -> None:
    """A view's columns have no declared type, so opening reads some of its rows."""
    path = sqlite_file(
        tmp_path / "x.db",
        "CREATE TABLE t (x)",
        "INSERT INTO t VALUES (1)",
        f"CREATE VIEW v AS SELECT {function} AS y FROM t",
    )
    database = open_database(path)
    assert Schema.of(database).table("v").columns[0].type == "text"
    with pytest.raises(UnsafeSQLError):
        database.execute(Statement("SELECT y FROM v"))
    linked = LinkedSchema(database.tables, database)  # the other tables can still be asked
    assert not linked.is_read(
        next(item for item in linked.items if linked.words[linked.numbers[item]] == ("y",))
    )


def test_answers_have_a_size(tmp_path: Path) -> None:
    rows = [(i, "x" * 4_000_000) for i in range(12)]
    path = sqlite_file(
        tmp_path / "x.db",
        "CREATE TABLE t (n, a)",
        *[("INSERT INTO t VALUES (?, ?)", row) for row in rows],
    )
    found = open_database(path).execute(Statement("SELECT n, a FROM t ORDER BY n"))
    assert found.cut and 0 < len(found.rows) < 12
    assert found.rows == tuple(rows[: len(found.rows)])


def test_a_call_of_duckdb_keeps_the_limit(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT repeat('ab', 3000000) AS a, 'a' AS b")
        connection.execute("CREATE VIEW v AS SELECT REPLACE(a, b, a) AS x FROM t")
        connection.execute(f"CREATE VIEW never AS {ENDLESS['recursive']}")
    ask = ["SELECT LENGTH(x) FROM v", "SELECT COUNT(*) FROM never", "SELECT LENGTH(b) FROM t"]
    slow, endless, sound = in_time(ASK, tmp_path / "x.duckdb", *ask).splitlines()
    assert slow in ("TooSlowError", "DatabaseError")
    assert (endless, sound) == ("TooSlowError", "((1,),)")


def test_no_module_of_the_working_directory_runs(tmp_path: Path) -> None:
    path = sqlite_file(tmp_path / "x.db", "CREATE TABLE t (x INT)")
    for name in ("sqlite3", "json", "codegen", "duckdb", "decimal"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert open_database(path).execute(Statement("SELECT COUNT(*) FROM t")).rows == ((0,),)
    finally:
        os.chdir(before)
    assert not (tmp_path / "ran").exists()


def test_values_of_all_kinds_cross_as_they_are(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    sql = (
        "CREATE TABLE t AS SELECT 1::HUGEINT * 1000000000000000000000 AS a,"
        " 1.50::DECIMAL(5,2) AS b,"
        " DATE '2024-02-29' AS c, TIMESTAMP '2024-02-29 01:02:03.5' AS d, TIME '01:02:03' AS e,"
        " INTERVAL 3 DAY AS f, '\\x00\\xff'::BLOB AS g, [1, NULL, 3] AS h, {'x': 1, 'y': 'z'} AS i,"
        " MAP {'k': 1.5} AS j, uuid() AS k, true AS l, 'infinity'::DOUBLE AS m, NULL AS n,"
        " TIMESTAMPTZ '2024-02-29 01:02:03+00' AS o, 'é\\x1b' AS p"
    )
    path = tmp_path / "x.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql)
        expected = connection.execute("SELECT * FROM t").fetchall()
    (found,) = open_database(path).execute(Statement("SELECT * FROM t", (), "duckdb")).rows
    for value, own in zip(found, *expected, strict=True):
        assert value == own or value == str(own)
    assert {Decimal, date, datetime, bytes} <= {type(value) for value in found}
    values = [b"\xff", math.inf, -math.inf, 2**63, -(2**70), 0.1, "\ud800", None, True]
    assert [decode_value(encode_value(value)) for value in values] == values
    assert math.isnan(decode_value(encode_value(math.nan)))


def test_a_statement_of_sqlite_is_the_same_in_a_child(tmp_path: Path) -> None:
    """The oracle is SQLite itself, without the child and the guards."""
    rows = [
        ("Ann", 30, 1.5, b"\0\xff"),
        ("ÉVA", None, float("inf"), None),
        ("x" * 20_000, 7, -0.0, b""),
    ]
    path = sqlite_file(
        tmp_path / "x.db",
        "CREATE TABLE t (a TEXT, b INT, c REAL, d BLOB)",
        *[("INSERT INTO t VALUES (?, ?, ?, ?)", row) for row in rows],
    )
    database = open_database(path)
    with sqlite3.connect(path) as connection:
        for sql in ("SELECT * FROM t", "SELECT MAX(c), COUNT(b) FROM t", "SELECT a, b + 1 FROM t"):
            expected = connection.execute(sql).fetchall()
            assert database.execute(Statement(sql)).rows == tuple(expected)
    connection.close()
    for sql, parameters in (
        ("SELECT a FROM t WHERE b = ?", (30,)),
        ("SELECT a FROM t LIMIT 1", ()),
    ):
        assert database.execute(Statement(sql, parameters)).rows == (("Ann",),)
