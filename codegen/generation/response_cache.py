"""Answers of models on disk, so that none is paid for twice.

One SQLite file in WAL mode: several threads and processes may use it at once, and what was put is
kept when the process is killed. The key (:func:`codegen.generation.asking.ask_key`) is a hash of
everything that decides an answer; a question stands in the file only as this hash, the answer in
full. No API key ever reaches it.

Limit: SQLite's WAL needs a local file system, not NFS.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from codegen.errors import InputError
from codegen.generation.asking import Answer, Totals

_APPLICATION_ID = 0x43_47_52_43  # "CGRC"
_FORMAT = 1
_BUSY_S = 60.0

T = TypeVar("T")


class ResponseCache:
    """A dictionary of answers on disk; a context manager.

    Raises (each method):
        InputError: if the file is damaged, is something else, or can't be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Cannot make the directory of the response cache {self.path}: {error.strerror}.",
                "Choose another --cache.",
            ) from None
        self._connection = self._try(self._open)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            _set_up(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def get(self, key: bytes) -> Answer | None:
        """The answer with a key, marked as cached."""
        query = (
            "SELECT answer, prompt_tokens, completion_tokens FROM responses WHERE key = ?",
            (key,),
        )
        with self._lock:
            row = self._try(lambda: self._connection.execute(*query).fetchone())
        if row is None:
            return None
        try:
            text, finish_reason, stopped_at = json.loads(row[0])
            return Answer(text, finish_reason, row[1], row[2], stopped_at, cached=True)
        except (ValueError, TypeError) as error:
            raise self._damaged(error) from None

    def put(self, key: bytes, model: str, answer: Answer) -> None:
        """Keeps an answer; one that is there already stays. An empty one may be a server's slip."""
        if not answer.text:
            return
        # Lone surrogates, which SQLite's text can't hold, survive as JSON escapes.
        row = json.dumps([answer.text, answer.finish_reason, answer.stopped_at])
        tokens = answer.prompt_tokens, answer.completion_tokens
        values = (key, model, row, *tokens, time.time())
        statement = "INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?, ?, ?)"
        with self._lock:
            self._try(lambda: self._connection.execute(statement, values))

    def totals(self) -> Totals:
        """Sums over all answers."""
        query = "SELECT count(*), total(prompt_tokens), total(completion_tokens) FROM responses"
        with self._lock:
            row = self._try(lambda: self._connection.execute(query).fetchone())
        return Totals(*map(int, row))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except sqlite3.OperationalError as error:
            raise InputError(
                f"The response cache {self.path} can't be used: {error}.",
                "It must be a writable file on a local disk with free space; "
                "or choose another --cache.",
            ) from None
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"{self.path} is damaged or is no response cache ({error}).",
            "Move it away, or choose another --cache.",
        )


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the table in a new file, and refuses one that is not ours."""
    # The table is counted first: one that another process makes meanwhile comes with its marks.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version")
    )
    if tables and (application, version) != (_APPLICATION_ID, _FORMAT):
        raise InputError(
            f"{path} is an SQLite file, but no response cache of this version.",
            "Choose another --cache.",
        )
    _enter_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")  # in WAL mode a killed process loses nothing
    if not tables:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS responses (key BLOB PRIMARY KEY, model TEXT, answer TEXT, "
            "prompt_tokens INTEGER, completion_tokens INTEGER, at REAL)"
        )
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("COMMIT")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switches to WAL; where two processes do so at once SQLite tells one of them it is busy."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
