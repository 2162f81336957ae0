"""PostgreSQL and MariaDB are read, and nothing else can be done with them: against real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'codegen-toolkit[servers]'")


from servers import PASSWORD, Server, mariadb, postgres

from codegen.core.errors import ConfigError, InputError
from codegen.sqlnet.databases import DatabaseError, StatementLimits, TooSlowError
from codegen.sqlnet.databases.files import Database, open_database
from codegen.sqlnet.linking import Linker
from codegen.sqlnet.query import Condition, Query, Statement, UnsafeSQLError
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import to_sql

pytestmark = pytest.mark.slow
SECOND = StatementLimits(seconds=1, rows=3)


@pytest.fixture(scope="module", params=[postgres, mariadb], ids=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with request.param() as running:
        yield running


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("MYSQL_PWD", PASSWORD)


@pytest.fixture
def shop(server: Server) -> Iterator[Database]:
    database = open_database(server.address("reader"))
    yield database
    database.close()


def test_tables_have_their_columns_types_and_keys(shop: Database) -> None:
    schema = Schema.of(shop)
    assert sorted(table.name for table in shop.tables) == ["berliners", "customers", "orders"]
    orders = schema.table("orders")
    assert [(c.name, c.type) for c in orders.columns] == [
        *(("id", "real"), ("customer_id", "real"), ("status", "text"), ("ordered_on", "text")),
        ("win %", "real"),
    ]
    assert orders.primary_key == (0,)
    assert {(key.columns, key.table, key.targets) for key in orders.foreign_keys} == {
        ((1,), "customers", ("id",))
    }


def test_queries_give_what_the_rows_say(shop: Database) -> None:
    orders = Schema.of(shop).table("orders")

    def ask(query: Query) -> list[tuple[object, ...]]:
        return list(shop.execute(to_sql(query, orders, shop.dialect)).rows)

    assert ask(Query(0, 3, (Condition(2, 0, "PENDING"),), counts_rows=True)) == [(2,)]
    assert ask(Query(4, 3)) == [(2,)]  # of three rows, one has no share
    assert [float(row[0]) for row in ask(Query(4, 4))] == [30.5]  # type: ignore[arg-type]
    assert ask(Query(0, 0, (Condition(4, 1, "15"),))) == [(2,)]
    assert ask(Query(2, 0, (Condition(3, 0, "2025-03-01"),))) == [("pending",)]
    linker = Linker(shop, orders)
    assert linker.values(2) and set(linker.values(2) or ()) == {"pending", "shipped"}
    assert set(linker.values(3) or ()) == {"2025-03-01", "2025-04-01"}


def test_rows_are_capped_and_long_statements_end(shop: Database, server: Server) -> None:
    both = "SELECT o.id FROM orders AS o, orders AS p"
    rows = shop.execute(Statement(both, (), shop.dialect), SECOND)
    assert (len(rows.rows), rows.cut) == (3, True)
    sleep = "SELECT pg_sleep(20)" if server.kind == "postgresql" else "SELECT SLEEP(20)"
    began = time.monotonic()
    with pytest.raises((TooSlowError, DatabaseError)) as failed:
        rows = shop.engine.query(Statement(sleep, (), shop.dialect), SECOND)
        if rows.rows == ((1,),):  # MariaDB: an interrupted SLEEP answers 1
            raise TooSlowError("interrupted")
    assert time.monotonic() - began < 15
    assert isinstance(failed.value, TooSlowError)
    assert shop.execute(Statement(both, (), shop.dialect), SECOND).cut


EVADING = {
    # Each batch of rows is quick; a view lifts the limit of its session; another ignores it.
    "postgresql": """
        CREATE VIEW dripping AS SELECT pg_sleep(0.008)::text AS name FROM generate_series(1, 9999);
        CREATE VIEW lifting AS SELECT CASE g
            WHEN 1 THEN set_config('statement_timeout', '0', false)
            WHEN 150 THEN pg_sleep(30)::text END AS name FROM generate_series(1, 300) AS g;
        CREATE FUNCTION stubborn() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
            FOR i IN 1..10 LOOP BEGIN PERFORM pg_sleep(3);
            EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
        CREATE VIEW ignoring AS SELECT stubborn() AS name;
        GRANT SELECT ON dripping, lifting, ignoring TO reader;
        """,
    "mysql": """
        CREATE VIEW dripping AS SELECT SLEEP(0.008) AS name FROM orders, orders a, orders b,
            orders c, orders d, orders e, orders f, orders g;
        """,
}


@pytest.mark.long
def test_a_view_does_not_evade_the_time_limit(server: Server) -> None:
    server.do(EVADING[server.kind])
    views = [line.split()[2] for line in EVADING[server.kind].split("\n") if "CREATE VIEW" in line]
    database = open_database(server.address("reader"))
    limits = StatementLimits(seconds=1, rows=2000)
    for view in views:
        began = time.monotonic()
        with pytest.raises(TooSlowError):
            database.execute(Statement(f"SELECT name FROM {view}", (), database.dialect), limits)
            pytest.fail(view)
        assert time.monotonic() - began < 12, view
    assert database.execute(Statement("SELECT id FROM orders", (), database.dialect)).rows
    database.close()
    server.do(f"DROP VIEW {', '.join(views)};")


WRITES = """
INSERT INTO customers VALUES (9, 'x', 'y')
UPDATE orders SET status = 'x'
DELETE FROM orders
DROP TABLE orders
CREATE TABLE z (a INT)
ALTER TABLE orders ADD COLUMN z INT
TRUNCATE TABLE orders
CREATE VIEW z AS SELECT 1 AS a
GRANT ALL ON orders TO reader
CREATE USER z
"""
OF_POSTGRES = """
COPY orders TO '/tmp/codegen-copied'
COPY orders TO PROGRAM 'touch /tmp/codegen-copied'
SELECT pg_read_file('/etc/passwd')
SELECT lo_import('/etc/passwd')
SELECT nextval('x')
WITH x AS (DELETE FROM orders RETURNING id) SELECT id FROM x
VACUUM
"""
OF_MARIADB = """
SELECT LOAD_FILE('/etc/passwd') INTO OUTFILE '/tmp/codegen-copied'
SELECT id FROM orders INTO OUTFILE '/tmp/codegen-copied'
LOAD DATA INFILE '/etc/passwd' INTO TABLE orders
REPLACE INTO orders (id) VALUES (1)
SET GLOBAL general_log = 1
LOCK TABLES orders WRITE
"""


@pytest.mark.parametrize("role", ["reader", "writer"])
def test_below_the_gate_the_session_itself_writes_nothing(server: Server, role: str) -> None:
    own = OF_POSTGRES if server.kind == "postgresql" else OF_MARIADB
    database = open_database(server.address(role), may_write=True)
    everything = "SELECT * FROM orders ORDER BY id; SELECT * FROM customers ORDER BY id;"
    before = server.do(everything)
    for text in (*WRITES.strip().split("\n"), *own.strip().split("\n")):
        statement = Statement(text, (), database.dialect)
        with pytest.raises(UnsafeSQLError):
            database.execute(statement)
        with pytest.raises((DatabaseError, UnsafeSQLError)):
            database.engine.query(statement, SECOND)
            pytest.fail(text)
    assert server.do(everything) == before
    assert not Path("/tmp/codegen-copied").exists()
    database.close()


def test_comments_do_not_run(shop: Database) -> None:
    text = "SELECT /*! SLEEP(20), */ /*!50000 SLEEP(20), */ id FROM orders /*! , customers */"
    began = time.monotonic()
    assert len(shop.execute(Statement(text, (), shop.dialect)).rows) == 3
    assert time.monotonic() - began < 15


def test_a_role_that_can_write_is_refused_unless_accepted(server: Server) -> None:
    with pytest.raises(ConfigError, match=r"may write to public\.orders|privilege UPDATE"):
        open_database(server.address("writer"))
    open_database(server.address("writer"), may_write=True).close()


def test_what_is_wrong_with_an_address_is_one_line_without_the_password(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.address("reader")
    for wrong, what in [
        (address.replace("reader@", f"reader:{PASSWORD}@"), "environment variable"),
        (f"{address}?password={PASSWORD}", "environment variable"),
        (address.rpartition("/")[0], "has no database"),
        ("postgresql://", "has no database"),
        ("mysql://reader@host:port/shop", "is invalid"),
    ]:
        with pytest.raises(InputError, match=what) as error:
            open_database(wrong)
        assert PASSWORD not in f"{error.value} {error.value.remedy}"
    monkeypatch.setenv("PGPASSWORD", "wrong-one")
    monkeypatch.setenv("MYSQL_PWD", "wrong-one")
    for unreachable in (address, address.replace(str(server.port), "1")):
        with pytest.raises(DatabaseError) as error:
            open_database(unreachable)
        assert "wrong-one" not in str(error.value) and "\n" not in str(error.value)
