"""Databases are read, and nothing else can be done with them."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codegen.core.errors import InputError
from codegen.sqlnet.databases import DatabaseError, StatementLimits
from codegen.sqlnet.databases.engines import DuckDBEngine, SqliteEngine
from codegen.sqlnet.databases.files import SqliteDatabase, open_database
from codegen.sqlnet.query import Column, Condition, Query, Statement
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import to_sql
from tests.databases import sqlite_file

PEOPLE = [("Ann", 30, 1), ("ÉVA", 40, "2"), ("Bob", None, None)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    script = (
        'CREATE TABLE "Peo ple" ("Na""me" TEXT, age INT, x);'
        'CREATE VIEW older AS SELECT age + 1 AS next FROM "Peo ple";'
        "CREATE VIEW broken AS SELECT * FROM not_there;"
    )
    return sqlite_file(tmp_path / "a b?#%.db", script, **{'"Peo ple"': PEOPLE})


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


def test_a_slow_statement_is_cut_off_and_the_next_one_runs(path: Path) -> None:
    database = open_database(path)
    product = ", ".join(f'"Peo ple" t{i}' for i in range(30))
    began = time.process_time()
    with pytest.raises(DatabaseError, match=r"longer than 0\.2 s"):
        database.execute(Statement(f"SELECT COUNT(*) FROM {product}"), StatementLimits(seconds=0.2))
    assert time.process_time() - began < 5
    assert database.execute(Statement('SELECT COUNT(*) FROM "Peo ple"')).rows == ((3,),)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM sqlite_master",
        "PRAGMA table_info(x)",
        "PRAGMA query_only = OFF",
        "ATTACH 'other.db' AS other",
        "SELECT load_extension('x')",
        'DELETE FROM "Peo ple"',
        'UPDATE "Peo ple" SET age = 1',
        "CREATE TABLE z (a)",
        "CREATE TEMP TABLE z (a)",
        'DROP TABLE "Peo ple"',
        "SELECT randomblob(10)",
        "BEGIN IMMEDIATE",
        "VACUUM INTO 'copy.db'",
        "WITH RECURSIVE x(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM x) SELECT * FROM x",
    ],
)
def test_the_connection_itself_refuses_what_passes_the_gate(path: Path, sql: str) -> None:
    before = path.read_bytes(), sorted(path.parent.iterdir())
    engine = SqliteEngine.open(str(path))
    assert engine.tables()
    with pytest.raises(sqlite3.Error):
        engine.connection.execute(sql).fetchall()
    assert (path.read_bytes(), sorted(path.parent.iterdir())) == before


def test_nothing_is_written_beside_a_file_in_wal_mode(tmp_path: Path) -> None:
    script = "PRAGMA journal_mode = WAL; CREATE TABLE t (a INT);"
    path = sqlite_file(tmp_path / "wal.db", script)
    database = open_database(path)
    assert database.execute(Statement("SELECT COUNT(*) FROM t")).rows == ((0,),)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_live_writer_has_committed_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE t (a INT)")
    writer.execute("INSERT INTO t VALUES (7)")
    writer.commit()
    assert open_database(path).execute(Statement("SELECT a FROM t")).rows == ((7,),)
    writer.close()


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


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[None]:
    """SIGINT comes in a while, to whatever runs then; Python's own handler takes it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGINT, before)


LONG = "SELECT COUNT(*) FROM t a, t b, t c, t d WHERE a.n + b.n < c.n + d.n"
LONG_IN_PYTHON = "SELECT COUNT(*) FROM t a, t b, t c, t d WHERE LOWER(a.x) = LOWER(b.x)"


@pytest.mark.parametrize("sql", [LONG, LONG_IN_PYTHON])
def test_ctrl_c_ends_a_statement_of_sqlite(sql: str) -> None:
    database = SqliteDatabase.from_rows(["n", "x"], [(i, f"x{i}") for i in range(3000)], "t")
    with ctrl_c_after(0.2), pytest.raises(KeyboardInterrupt):
        database.execute(Statement(sql), StatementLimits(seconds=60))
    assert database.execute(Statement("SELECT MAX(n) FROM t")).rows == ((2999,),)


def test_ctrl_c_ends_a_statement_of_duckdb(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect(str(tmp_path / "x.duckdb"))
    connection.execute("CREATE TABLE t AS SELECT range AS n, 'x' || range AS x FROM range(300000)")
    connection.close()
    database = open_database(tmp_path / "x.duckdb")
    sql = "SELECT COUNT(*) FROM t AS a JOIN t AS b ON a.x < b.x"
    with ctrl_c_after(0.5), pytest.raises(KeyboardInterrupt):
        database.execute(Statement(sql, (), "duckdb"), StatementLimits(seconds=60))
    assert database.execute(Statement("SELECT MAX(n) FROM t", (), "duckdb")).rows == ((299999,),)
