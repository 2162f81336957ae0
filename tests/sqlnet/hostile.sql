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
