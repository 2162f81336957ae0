"""The statements that are built, and the gate that refuses all others."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import expressions as exp
from sqlglot import parse_one

from codegen.errors import ConfigError, InputError
from codegen.sqlnet.query import (
    AGGREGATES,
    OPERATORS,
    Column,
    Condition,
    Query,
    Table,
    UnsafeSQLError,
    query_from_row,
)
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import to_sql, validate

TABLE = Table('we"ird', (Column("Pick #", "real"), Column('School/Club "Team"'), Column("a")))
SCHEMA = Schema((TABLE, Table("o", (Column("a"), Column("b")))))

HOSTILE = """
select a from o; drop table o
drop table o
delete from o
update o set a = 1
insert into o values (1, 2)
insert into o select * from o
replace into o values (1, 2)
create table z (a)
create table z as select * from o
create view z as select * from o
create trigger z after insert on o begin delete from o; end
create index z on o (a)
alter table o rename to p
attach 'x' as y
detach y
pragma table_info(o)
pragma writable_schema = 1
vacuum
vacuum into '/tmp/x'
reindex
analyze
begin
commit
rollback
savepoint x
explain select a from o
explain query plan select a from o
values (1)
with recursive x as (select 1 union all select * from x) select * from x
with x as (delete from o returning a) select * from x
with x as (select * from duckdb_settings), duckdb_settings as (select a from o) select * from x
with sqlite_master as (select * from sqlite_master) select * from sqlite_master
select * from (with sqlite_master as (select a from o) select a from sqlite_master), sqlite_master
select nope from o
select "nope" from o
select o.nope from o
select a from o where a = (select zz from o)
select a from nope
select * from sqlite_master
select * from main.sqlite_schema
select a from main.o
select a from other.o
select * from pragma_table_info('o')
select * from read_csv('/etc/passwd')
select * from read_text('/etc/passwd')
select * from '/etc/passwd'
select * from generate_series(1, 100000000)
select load_extension('x')
select readfile('/etc/passwd')
select writefile('/tmp/x', 'y')
select edit('x')
select getenv('HOME')
select zeroblob(1) from o
select randomblob(100000000)
select printf('%*c', 1000000000, 'x')
select format('%*c', 1000000000, 'x')
select hex(zeroblob(1000000000))
select sqlite_version()
select current_timestamp
select a into x from o
select a from o for update
select a from o where rowid = 1
call x()
copy o to '/tmp/x'
export database '/tmp/x'
install httpfs
load httpfs
set memory_limit = '100GB'
grant all on o to public
truncate table o
merge into o using o p on o.a = p.a when matched then delete
lock table o
do $$ begin end $$
exec xp_cmdshell 'ls'
select pg_read_file('/etc/passwd')
select * from pg_read_file('/etc/passwd')
select pg_ls_dir('/')
select lo_import('/etc/passwd')
select lo_export(1, '/tmp/x')
select pg_sleep(100)
select pg_terminate_backend(1)
select pg_reload_conf()
select set_config('x', 'y', false)
select current_setting('data_directory')
select nextval('s')
select setval('s', 1)
select dblink('host=x', 'select 1')
select query_to_xml('drop table o', true, true, '')
select * from pg_shadow
select * from pg_catalog.pg_authid
select * from information_schema.tables
select * from mysql.user
select a from o, lateral (select pg_sleep(9)) as x
select sleep(100)
select benchmark(100000000, md5('x'))
select load_file('/etc/passwd')
select a from o into outfile '/tmp/x'
select a from o into dumpfile '/tmp/x'
select a into @x from o
select @@version
select @x := 1
select get_lock('x', 100)
select updatexml(1, concat(0x7e, version()), 1)
select user()
select version()
select database()
select a from o procedure analyse(1)
select a from o lock in share mode
select a from o for share
select a from o where a = any(select pg_read_file('x'))
select a from o order by (select pg_sleep(1))
select a from o group by pg_sleep(1)
select a from o having sleep(1)
select a from o limit (select pg_sleep(1))
select case when a = 1 then sleep(5) else 1 end from o
select count(*) filter (where pg_sleep(1) is null) from o
select array_agg(a) from o
select json_agg(o) from o
select row_number() over (order by a) from o
select (select a from o limit 1)::regclass
select 'x'::regproc
select cast('/etc/passwd' as xml)
select a from o tablesample system (10)
select * from unnest(array[1, 2])
select * from json_each('{}')
select * from glob('/*')
select * from sniff_csv('/etc/passwd')
select * from postgres_scan('host=x', 'public', 'o')
select * from sqlite_scan('/tmp/x.db', 'o')
from read_csv('/etc/passwd')
pivot o on a
summarize o
describe o
show tables
show grants
use other
handler o open
load data infile '/etc/passwd' into table o
load xml infile 'x' into table o
listen x
notify x
prepare x as select 1
execute x
deallocate x
declare c cursor for select a from o
fetch all from c
create function f() returns int language sql as 'select 1'
create extension dblink
create role x superuser
alter system set x = 1
alter role x superuser
comment on table o is 'x'
security label on table o is 'x'
reassign owned by a to b
refresh materialized view o
cluster o
checkpoint
discard all
reset all
flush tables
kill 1
shutdown
rename table o to p
optimize table o
select a from o union select pg_read_file('/etc/passwd')
with x as (insert into o values (1, 2) returning a) select a from x
with x as (update o set a = 1 returning a) select a from x
with x as materialized (select pg_sleep(9)) select * from x
select a from o; select b from o
select /*! sleep(5) */ a, sleep(1) from o
select a from o where a = $$x$$ and pg_sleep(1) is null
"""

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


def test_queries_match_by_the_official_rule() -> None:
    first = Query(1, 2, (Condition(0, 0, "Ann"), Condition(2, 1, "3")))
    assert first.matches(Query(1, 2, (Condition(2, 1, "3"), Condition(0, 0, "aNN"))))
    assert not first.matches(Query(1, 2, (Condition(2, 1, "3.0"), Condition(0, 0, "Ann"))))
    assert not first.matches(Query(1, 1, first.conditions))


def test_records_come_back_as_they_were_and_wrong_ones_are_named() -> None:
    query = Query(1, 2, (Condition(0, 0, "Ann"),))
    assert query_from_row(query.to_row(), columns=2) == query
    for row, what in [
        ({}, "not a WikiSQL query"),
        ({"sel": 0, "agg": 0, "conds": [[0, 0]]}, "not a WikiSQL query"),
        ({"sel": 2, "agg": 0, "conds": []}, "sel is 2"),
        ({"sel": 0, "agg": 9, "conds": []}, "agg is 9"),
        ({"sel": True, "agg": 0, "conds": []}, "sel is True"),
        ({"sel": 0, "agg": 0, "conds": [[0, 3, "x"]]}, "operator is 3"),
    ]:
        with pytest.raises(InputError, match=what):
            query_from_row(row, columns=2)


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
