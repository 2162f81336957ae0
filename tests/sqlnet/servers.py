"""PostgreSQL and MariaDB servers of the tests' own, on loopback, in a folder of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHOP = """
CREATE TABLE customers (id INT PRIMARY KEY, first_name VARCHAR(50), city VARCHAR(50));
CREATE TABLE orders (id INT PRIMARY KEY, customer_id INT REFERENCES customers (id),
    status VARCHAR(20), ordered_on DATE, "win %" DECIMAL(8, 2),
    FOREIGN KEY (customer_id) REFERENCES customers (id));
INSERT INTO customers VALUES (1, 'Ann', 'Berlin'), (2, 'Bob', 'Paris'), (3, 'Eve', 'Berlin');
INSERT INTO orders VALUES (1, 1, 'pending', '2025-03-01', 10.5), (2, 1, 'shipped', NULL, 20),
    (3, 2, 'pending', '2025-04-01', NULL);
CREATE VIEW berliners AS SELECT first_name FROM customers WHERE city = 'Berlin';
"""
PASSWORD = "s3cret-of-the-reader"


class Server:
    """A server that runs: its addresses, and statements as its owner."""

    def __init__(self, kind: str, port: int, client: list[str]) -> None:
        self.kind, self.port, self._client = kind, port, client

    def address(self, role: str) -> str:
        return f"{self.kind}://{role}@127.0.0.1:{self.port}/shop"

    def do(self, sql: str) -> str:
        """Runs statements as the owner; what they print."""
        plain = {name: value for name, value in os.environ.items() if name != "MYSQL_PWD"}
        done = subprocess.run(
            self._client, input=sql, capture_output=True, text=True, timeout=60, env=plain
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _program(name: str, package: str) -> str:
    places = [os.environ["PATH"], "/usr/sbin"]
    places += map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    found = shutil.which(name, path=os.pathsep.join(places))
    if not found:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {package})")
    return found


@contextmanager
def _folder() -> Iterator[tuple[Path, str | None]]:
    """A folder, and who may own servers in it: these refuse to run as root."""
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="codegen-servers-", dir="/tmp"))
    if user:
        shutil.chown(folder, user)
    try:
        yield folder, user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(command: list[str], user: str | None, server: Server) -> Iterator[Server]:
    process = subprocess.Popen(
        command, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            assert process.poll() is None, f"{command[0]} ended"
            try:
                server.do("SELECT 1;")
                break
            except AssertionError:
                time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def postgres() -> Iterator[Server]:
    initdb, program = (_program(name, "postgresql") for name in ("initdb", "postgres"))
    psql = _program("psql", "postgresql-client")
    with _folder() as (folder, user):
        data, port = folder / "data", _free_port()
        made = [initdb, "-D", str(data), "-U", "boss", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run(
            [*made, "--locale", "C"], user=user, cwd="/", check=True, capture_output=True
        )
        rules = "host all boss 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (data / "pg_hba.conf").write_text(rules)
        command = [program, "-D", str(data), "-p", str(port), "-k", str(folder)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        client = [psql, "-h", "127.0.0.1", "-p", str(port), "-U", "boss", "-qtAX"]
        client += ["-v", "ON_ERROR_STOP=1", "-d"]
        with _running(command, user, Server("postgresql", port, [*client, "postgres"])) as first:
            first.do("CREATE DATABASE shop;")
            server = Server("postgresql", port, [*client, "shop"])
            server.do(SHOP)
            server.do(
                f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}';"
                f"CREATE ROLE writer LOGIN PASSWORD '{PASSWORD}';"
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader, writer;"
                "GRANT UPDATE ON orders TO writer;"
            )
            yield server


@contextmanager
def mariadb() -> Iterator[Server]:
    install, program = (
        _program(name, "mariadb-server") for name in ("mariadb-install-db", "mariadbd")
    )
    client = _program("mariadb", "mariadb-client")
    with _folder() as (folder, user):
        data, port, path = folder / "data", _free_port(), folder / "socket"
        owner = user or pwd.getpwuid(os.geteuid()).pw_name
        made = [install, "--no-defaults", f"--datadir={data}", f"--user={owner}"]
        made += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(made, cwd="/", check=True, capture_output=True)
        command = [program, "--no-defaults", f"--datadir={data}", f"--socket={path}"]
        command += [f"--port={port}", "--bind-address=127.0.0.1", f"--user={owner}"]
        command += ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M"]
        call = [client, "--no-defaults", f"--socket={path}", "-uroot", "-N", "-B"]
        with _running(command, None, Server("mysql", port, call)) as first:
            first.do("CREATE DATABASE shop;")
            server = Server("mysql", port, [*call, "shop"])
            server.do(f"SET sql_mode = 'ANSI_QUOTES'; {SHOP}")
            for role, rights in (("reader", "SELECT"), ("writer", "SELECT, UPDATE")):
                server.do(
                    f"CREATE USER {role}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';"
                    f"GRANT {rights} ON shop.* TO {role}@'127.0.0.1';"
                )
            yield server
