"""The engines' own connections: read only, cut off in time, and beside a live writer."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codegen.sqlnet.databases import DatabaseError, StatementLimits
from codegen.sqlnet.databases.engines import SqliteEngine
from codegen.sqlnet.databases.files import SqliteDatabase, open_database
from codegen.sqlnet.query import Statement
from tests.databases import sqlite_file


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
