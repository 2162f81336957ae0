"""A database in a child process, which is killed if it takes too long.

A SQL function call cannot be interrupted within its process: ``INSTR`` on two strings of some
megabytes takes minutes. Before each request the child sets an alarm, whose default action kills it
in any state; the parent then starts another child. The child cannot write files, and its
memory is bounded.

Messages are JSON, each preceded by its length in 8 bytes; a number or date that JSON lacks is an
object with the type's name, anything else a string. The parent does not trust the child, since the
child has read the file.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, replace
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any, Literal

from codegen.core.errors import CodegenError, ConfigError
from codegen.core.records import conform
from codegen.sqlnet import databases
from codegen.sqlnet.databases.engines import DuckDBEngine, SqliteEngine
from codegen.sqlnet.query import Statement, Table, UnsafeSQLError

Kind = Literal["sqlite", "duckdb"]

_GRACE_S = 0.5  # for an interrupted statement to stop by itself
_STARTING_S = 60.0  # enough on a busy machine
_MEMORY = 8 * 2**30  # bytes of address space; the engines set lower limits
_SQLITE_MEMORY = 2**30
_MOST_REPLY = 256 * 2**20
# -P: no module is imported from the working directory, which is untrusted.
_COMMAND = [sys.executable, "-P", "-c", "from codegen.sqlnet.databases.child import main; main()"]
_ERRORS = {
    e.__name__: e
    for e in (databases.DatabaseError, databases.TooSlowError, UnsafeSQLError, ConfigError)
}


class Child:
    """An engine in a child process. See :class:`Engine`.

    Args:
        path: path of the file; a name for an image.
        image: the content of a SQLite database, instead of a file.

    Raises:
        DatabaseError: if the file cannot be opened.
    """

    def __init__(self, kind: Kind, path: str, image: bytes = b"") -> None:
        self._kind, self._path, self._image = kind, path, image
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def tables(self) -> tuple[Table, ...]:
        """Returns the tables; see :class:`Engine`."""
        with self._lock:
            reply = self._ask(
                {"do": "tables"}, databases.OPENING_S, databases.too_slow_to_open(self._path)
            )
        found: tuple[Table, ...] = _conform(tuple[Table, ...], reply)
        return found

    def query(self, statement: Statement, limits: databases.StatementLimits) -> databases.ResultSet:
        """Runs a statement; see :class:`Engine`."""
        request = {
            "do": "query",
            "text": statement.text,
            "parameters": list(statement.parameters),
            "seconds": limits.seconds,
            "rows": limits.rows,
        }
        with self._lock:
            reply = self._ask(request, limits.seconds, databases.too_slow(limits.seconds))
        found: databases.ResultSet = _conform(databases.ResultSet, reply)
        try:
            return replace(found, rows=tuple(tuple(map(decode_value, row)) for row in found.rows))
        except (ValueError, TypeError, KeyError, ArithmeticError):
            raise _damaged(self._path) from None

    def close(self) -> None:
        """Stops the child."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()

    def __del__(self, suppress: type[suppress] = suppress) -> None:  # globals may be gone at exit
        with suppress(Exception):
            self.close()

    def _ask(self, request: dict[str, Any], seconds: float, slow: databases.TooSlowError) -> Any:
        process = self._process or self._start()
        try:
            reply = _exchange(process, request, seconds + 2 * _GRACE_S)
        except BaseException:  # including Ctrl-C: the child must be killed
            self.close()
            raise
        if reply is None:
            ended_by_alarm = process.poll() in (None, -signal.SIGALRM)
            self.close()
            raise slow if ended_by_alarm else _damaged(self._path)
        return _unwrapped(reply)

    def _start(self) -> subprocess.Popen[bytes]:
        """Starts a child and opens the database in it."""
        self._process = process = subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        opening = {"kind": self._kind, "path": self._path, "image": len(self._image)}
        try:
            reply = _exchange(process, opening, _STARTING_S, self._image)
            if reply is None:
                if process.poll() == -signal.SIGALRM:
                    raise databases.too_slow_to_open(self._path)
                raise _damaged(self._path)
            _unwrapped(reply)
        except BaseException:
            self.close()
            raise
        return process


def _conform(kind: type, reply: Any) -> Any:
    try:
        return conform(kind, reply)
    except ValueError:
        raise databases.DatabaseError("The database process sent a malformed response.") from None


def _unwrapped(reply: Any) -> Any:
    if not isinstance(reply, dict) or "error" not in reply:
        return reply.get("value") if isinstance(reply, dict) else None
    kind = _ERRORS.get(reply["error"], databases.DatabaseError)
    raise kind(str(reply.get("message")), str(reply.get("remedy")))


def _damaged(path: str) -> databases.DatabaseError:
    return databases.DatabaseError(
        f"The process that read {path} stopped without a response.",
        "The file may be corrupt, or the statement needs too much memory.",
    )


def _exchange(
    process: subprocess.Popen[bytes], request: dict[str, Any], seconds: float, data: bytes = b""
) -> Any:
    """Sends a request and waits for the reply; None on timeout."""
    assert process.stdin and process.stdout
    deadline = time.monotonic() + seconds
    try:
        _write(process.stdin, request)
        process.stdin.write(data)
        process.stdin.flush()
    except BrokenPipeError:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        return None
    head = _read(process.stdout.fileno(), 8, deadline)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    body = _read(process.stdout.fileno(), length, deadline) if length <= _MOST_REPLY else None
    try:
        return None if body is None else json.loads(body)
    except (ValueError, RecursionError):
        return None


def _read(descriptor: int, length: int, deadline: float) -> bytes | None:
    """Reads ``length`` bytes; None on timeout, or at the end of the stream."""
    parts: list[bytes] = []
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while length:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        if not (part := os.read(descriptor, min(length, 1 << 20))):
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _write(file: IO[bytes], message: Any) -> None:
    data = json.dumps(message).encode()
    file.write(len(data).to_bytes(8, "big") + data)
    file.flush()


_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "bytes": base64.b64decode,
    "Decimal": Decimal,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "float": float,
    "int": int,
}


def encode_value(value: Any) -> Any:
    """Encodes a value as JSON: strings, numbers and NULL unchanged, other known types by name."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float)) and abs(value) < 2**63:  # JSON has no infinity
        return value
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    name = type(value).__name__
    return {name: str(value)} if name in _FROM_TEXT else str(value)


def decode_value(value: Any) -> Any:
    """Returns the value that :func:`encode_value` encoded."""
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    return _FROM_TEXT[name](content)


def main() -> None:
    """Opens the database in the first message, then processes requests until EOF."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for what, most in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, _MEMORY),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(ValueError):  # macOS cannot limit the address space
            resource.setrlimit(what, (most, most))
    # Keeps output of libraries out of the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    engine: list[databases.Engine] = []
    while len(head := requests.read(8)) == 8:
        request = json.loads(requests.read(int.from_bytes(head, "big")))
        image = requests.read(request["image"]) if "image" in request else b""
        seconds = request.get("seconds", databases.OPENING_S)
        signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE_S)
        try:
            if engine:
                reply = {"value": _answer(engine[0], request)}
            else:
                engine.append(_open(request["kind"], request["path"], image))
                reply = {"value": None}
        except CodegenError as error:
            kind = type(error).__name__
            reply = {"error": kind, "message": error.message, "remedy": error.remedy}
        except MemoryError:
            message = "The statement failed: it exceeded the memory limit."
            reply = {"error": "DatabaseError", "message": message, "remedy": ""}
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(replies, reply)


def _open(kind: Kind, path: str, image: bytes) -> databases.Engine:
    if kind == "duckdb":
        return DuckDBEngine.open(path)
    with closing(sqlite3.connect(":memory:")) as any_connection:  # the limit applies to the process
        any_connection.execute(f"PRAGMA hard_heap_limit = {_SQLITE_MEMORY}")
    return SqliteEngine.open(path, image)


def _answer(engine: databases.Engine, request: dict[str, Any]) -> Any:
    if request["do"] == "tables":
        return [asdict(table) for table in engine.tables()]
    statement = Statement(request["text"], tuple(request["parameters"]))
    rows = engine.query(statement, databases.StatementLimits(request["seconds"], request["rows"]))
    return {
        "columns": rows.columns,
        "rows": [list(map(encode_value, row)) for row in rows.rows],
        "cut": rows.cut,
    }
