"""Databases are read, and nothing else can be done with them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codegen.core.errors import InputError
from codegen.sqlnet.databases import DatabaseError, StatementLimits
from codegen.sqlnet.databases.engines import DuckDBEngine
from codegen.sqlnet.databases.files import SqliteDatabase, open_database
from codegen.sqlnet.query import Column, Condition, Query, Statement
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import to_sql
from tests.processes import python
from tests.sqlnet.databases.test_child import FOR_EVER_S


def test_a_sqlite_file_is_read_with_types_and_views(path: Path) -> None:
    database = open_database(path)
    people = Schema.of(database).table("peo PLE")
    assert people.columns == (Column('Na"me'), Column("age", "real"), Column("x", "real"))
    assert [table.name for table in database.tables] == ["Peo ple", "older"]
    rows = database.execute(to_sql(Query(1, 0, (Condition(0, 0, "éva"),)), people))
    assert (rows.columns, rows.rows) == (("age",), ((40,),))
    assert database.execute(Statement("SELECT next FROM older ORDER BY 1")).rows == (
        (None,),
        (31,),
        (41,),
    )
    assert database.execute(
        Statement('WITH y AS (SELECT age FROM "Peo ple") SELECT MAX(age) FROM y')
    ).rows == ((40,),)


def test_rows_are_capped(path: Path) -> None:
    rows = open_database(path).execute(
        Statement('SELECT age FROM "Peo ple"'), StatementLimits(seconds=5, rows=2)
    )
    assert (len(rows.rows), rows.cut) == (2, True)


def test_locked_damaged_and_foreign_files_get_one_clear_line(path: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.db").write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    (tmp_path / "text.db").write_bytes(b"hello")
    (tmp_path / "empty.db").write_bytes(b"")
    sqlite3.connect(tmp_path / "bare.db").executescript("PRAGMA user_version = 1").close()
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN EXCLUSIVE');"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(DatabaseError, match=r"locked.*try again"):
            open_database(path)
    finally:
        holder.communicate()
    for name, what in [
        ("damaged.db", "damaged|malformed|not a database"),
        ("text.db", "not a readable database"),
        ("empty.db", "is empty"),
        ("bare.db", "has no tables"),
        ("none.db", "No such file"),
    ]:
        with pytest.raises((DatabaseError, InputError), match=what):
            open_database(tmp_path / name)
    with pytest.raises(InputError, match="Is a directory"):
        open_database(tmp_path)


def test_csv_files_become_tables(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text('\ufeffName;Age;Age\n"A; B";"1,5";x\nÉ;2;\n', encoding="utf-8")
    database = open_database(path)
    table = Schema.of(database).table("people")
    assert table.columns == (Column("Name"), Column("Age", "real"), Column("Age 2"))
    assert database.execute(Statement('SELECT "Name" FROM people')).rows == (("A; B",), ("É",))


def test_data_frames_become_tables() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": [1, 2, None], "big": [2**70, 1, 2], "s": ["x", None, "3"]})
    database = SqliteDatabase.from_dataframe(frame, "f")
    assert database.execute(Statement("SELECT SUM(n), MAX(s) FROM f")).rows == ((3.0, "x"),)


def test_duckdb_files_are_read_and_closed_in(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "x.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t (a INTEGER, b VARCHAR, c DECIMAL(5, 2))")
        connection.execute("INSERT INTO t VALUES (1, 'x', 1.5), (2, 'Ÿ', 2.5)")
    database = open_database(path)
    table = Schema.of(database).table()
    assert [column.type for column in table.columns] == ["real", "text", "real"]
    query = Query(0, 0, (Condition(1, 0, "ÿ"),))
    assert database.execute(to_sql(query, table, "duckdb")).rows == ((2,),)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for sql in [
        f"SELECT * FROM read_text('{secret}')",
        f"COPY t TO '{tmp_path / 'out.csv'}'",
        f"ATTACH '{tmp_path / 'other.duckdb'}'",
        "SET memory_limit = '100GB'",
        "CREATE TABLE z (a INTEGER)",
        "DELETE FROM t",
    ]:
        with pytest.raises(duckdb.Error):
            DuckDBEngine.open(str(path)).connection.execute(sql)
    product = ", ".join(f"t t{i}" for i in range(40))
    with pytest.raises(DatabaseError, match="longer than"):
        database.execute(
            Statement(f"SELECT COUNT(*) FROM {product} WHERE t0.a + t39.a > 1", dialect="duckdb"),
            StatementLimits(seconds=0.3),
        )
    assert database.execute(Statement("SELECT MAX(a) FROM t")).rows == ((2,),)


def test_nothing_is_written_beside_any_database(tmp_path: Path) -> None:
    """Sorting more than fits in memory fails, and is not spilled to the disk."""
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT range AS n, repeat('x', 200) || range AS s FROM range(100000)"
        )
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            seen.update(path.name for path in tmp_path.rglob("*"))

    database = open_database(tmp_path / "x.duckdb")
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(DatabaseError):
            database.execute(
                Statement("SELECT a.s, b.s FROM t a CROSS JOIN t b ORDER BY b.s || a.s", (),
                          "duckdb"),
                StatementLimits(seconds=20),
            )  # fmt: skip
    finally:
        done.set()
        watcher.join()
    assert seen == {"x.duckdb"}
    assert database.execute(Statement("SELECT MAX(n) FROM t", (), "duckdb")).rows == ((99_999,),)


LONG_CELLS = {
    "digits and a letter": "1" * 3_000_000 + "x",
    "commas": "," * 3_000_000,
    "spaces": " " * 3_000_000 + "x",
    "exponents": "1e" * 1_000_000,
}


@pytest.mark.parametrize("text", LONG_CELLS.values(), ids=LONG_CELLS)
def test_no_cell_takes_long_to_be_told_from_a_number(text: str) -> None:
    script = (
        "from codegen.sqlnet.query import column_type; import sys\n"
        "from codegen.sqlnet.words import number_of\n"
        "text = sys.stdin.read(); print(number_of(text), column_type([text]))"
    )
    done = python(script, input=text, timeout=FOR_EVER_S, check=True)
    assert done.stdout.split() == ["None", "text"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (",".join(f"c{i}" for i in range(3000)) + "\n", "3000 columns"),
        ("", "is empty"),
        ("a,b\n1\n", "Row 1 of 'x' has 1 values for 2 columns"),
        ("a,b\n\udcff,1\n", "not valid UTF-8"),
        ("a\0b,c\n1,2\n", "not a valid table"),
        ("a,b\n" + "x" * 200_000 + ",1\n", "not a CSV file: field larger"),
        ('a,b\n"1,2\n', "Row 1 of 'x' has 1 values"),
    ],
)
def test_odd_csv_files_are_one_clear_line(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "x.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=what) as caught:
        open_database(tmp_path / "x.csv")
    assert "\n" not in str(caught.value)


def test_names_that_are_no_text_are_refused() -> None:
    for columns, table in ((["\ud800"], "t"), (["a"], "\ud800"), (["a"], "a\0b")):
        with pytest.raises(InputError, match="not a valid table"):
            SqliteDatabase.from_rows(columns, [(1,)], table)
    with pytest.raises(InputError, match="cannot be created"):
        SqliteDatabase.from_rows(["a"], [("\ud800",)], "t")
