"""Signatures on disk, found again by digest and by bands.

Locality-sensitive hashing (Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, ch. 3): the
MinHash values are cut into bands; programs that share a band are candidates, and their similarity
is estimated by the share of equal values. All is kept in SQLite, so that memory stays flat.

The keys of bands are random, so that each one written by itself would write a page of the file:
100 KiB and more for each program. So those of the newest programs are held in memory, and written
many at a time in their order. After a crash they are made again from the MinHash values.

Limit: of the candidates that one band names, the first 100 are compared. More share a band only
where many programs have long common parts and yet are not near-duplicates of each other.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from codegen.data.screens.dedup import Dedup, Signature

_CANDIDATES = 100
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL, exact BLOB NOT NULL, minhash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS exact (
    digest BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bands (
    key INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (key, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS flushed (position INTEGER NOT NULL);
"""
_HELD = 10_000  # programs whose bands are in memory: about 50 MiB


class Found(NamedTuple):
    """An earlier entry that is alike: its id and the similarity, 1.0 for an exact duplicate."""

    id: str
    exact: bool
    similarity: float


class SignatureTable:
    """Signatures in one SQLite file, found again by digest and by bands; a context manager."""

    def __init__(self, connection: sqlite3.Connection, dedup: Dedup) -> None:
        self.connection = connection
        self.dedup = dedup
        self._recent: dict[int, tuple[int, ...]] = {}
        self._held = 0
        self._hold_unflushed()

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], dedup: Dedup, *, durable: bool = True
    ) -> SignatureTable:
        """Opens or makes a table to write; one that isn't durable is faster and lost in a crash."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None)
        with full_disk_as_os_error():
            connection.execute(f"PRAGMA journal_mode = {'WAL' if durable else 'OFF'}")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN")
        return cls(connection, dedup)

    @classmethod
    def open_to_read(cls, path: Path, dedup: Dedup) -> SignatureTable:
        """Opens a whole table that nobody writes any more."""
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        return cls(sqlite3.connect(uri, uri=True, isolation_level=None), dedup)

    def find(self, signature: Signature) -> Found | None:
        """The entry that is equal, else the most similar one from the threshold on.

        Of equally similar ones it is the first.
        """
        row = self._execute(
            "SELECT id FROM exact JOIN entries USING (position) WHERE digest = ?",
            (signature.exact,),
        ).fetchone()
        if row:
            return Found(row[0], True, 1.0)
        if not signature.minhash:
            return None
        return self._nearest(signature)

    def _nearest(self, signature: Signature) -> Found | None:
        import numpy as np

        positions: set[int] = set()
        for key in self._keys(signature):
            rows = self._execute(
                f"SELECT position FROM bands WHERE key = ? ORDER BY position LIMIT {_CANDIDATES}",
                (key,),
            )
            # All that are held came later.
            found = [*(row[0] for row in rows), *self._recent.get(key, ())]
            positions.update(found[:_CANDIDATES])
        own = np.frombuffer(signature.minhash, "<u4")
        best: Found | None = None
        for position in sorted(positions):
            id_, minhash = self._execute(
                "SELECT id, minhash FROM entries WHERE position = ?", (position,)
            ).fetchone()
            similarity = np.count_nonzero(own == np.frombuffer(minhash, "<u4")) / len(own)
            least = self.dedup.threshold if best is None else np.nextafter(best.similarity, 2)
            if similarity >= least:
                best = Found(id_, False, float(similarity))
        return best

    def insert(self, position: int, id_: str, signature: Signature) -> None:
        """Adds an entry; positions are unique, a digest that is there stays with its first one."""
        self._execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (position, _utf8(id_), *signature))
        self._execute("INSERT OR IGNORE INTO exact VALUES (?, ?)", (signature.exact, position))
        self._hold(position, signature)
        if self._held >= _HELD:
            self.flush()

    def _hold(self, position: int, signature: Signature) -> None:
        for key in self._keys(signature):
            self._recent[key] = (*self._recent.get(key, ()), position)
        self._held += 1

    def _hold_unflushed(self) -> None:
        self._recent.clear()
        self._held = 0
        rows = self._execute(
            "SELECT position, exact, minhash FROM entries WHERE position >= "
            "(SELECT coalesce(max(position), 0) FROM flushed) ORDER BY position"
        )
        for position, *signature in rows:
            self._hold(position, Signature(*signature))

    def flush(self) -> None:
        """Writes the bands that are held in memory."""
        rows = ((key, place) for key in sorted(self._recent) for place in self._recent[key])
        with full_disk_as_os_error():
            self.connection.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", rows)
        self._set_flushed("SELECT coalesce(max(position) + 1, 0) FROM entries")
        self._recent.clear()
        self._held = 0

    def _set_flushed(self, select: str, values: tuple[int, ...] = ()) -> None:
        """Says from which position on the bands are not written."""
        position = self._execute(select, values).fetchone()[0]
        self._execute("DELETE FROM flushed")
        self._execute("INSERT INTO flushed VALUES (?)", (position,))

    def delete_from(self, position: int) -> None:
        """Removes the entries at and after a position."""
        rows = self._execute(
            "SELECT position, exact, minhash FROM entries WHERE position >= ?", (position,)
        ).fetchall()
        for place, exact, minhash in rows:
            for key in self._keys(Signature(exact, minhash)):
                self._execute("DELETE FROM bands WHERE key = ? AND position = ?", (key, place))
            self._execute("DELETE FROM exact WHERE digest = ? AND position = ?", (exact, place))
        self._execute("DELETE FROM entries WHERE position >= ?", (position,))
        self._set_flushed(
            "SELECT min(?, (SELECT coalesce(max(position), 0) FROM flushed))", (position,)
        )
        self._hold_unflushed()

    def _keys(self, signature: Signature) -> list[int]:
        """A 64-bit key for each band, which holds the band's number too."""
        if not signature.minhash:
            return []
        bands, rows = self.dedup.bands()
        width = 4 * rows
        return [
            int.from_bytes(
                hashlib.blake2b(
                    signature.minhash[band * width : (band + 1) * width],
                    digest_size=8,
                    salt=band.to_bytes(2, "little"),
                ).digest(),
                "little",
                signed=True,
            )
            for band in range(bands)
        ]

    def commit(self) -> None:
        """Makes the entries survive a crash."""
        self._execute("COMMIT")
        self._execute("BEGIN")

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        with full_disk_as_os_error():
            return self.connection.execute(statement, values)

    def close(self) -> None:
        """Closes the file; what was not committed is forgotten."""
        self.connection.close()


@contextmanager
def full_disk_as_os_error() -> Iterator[None]:
    """SQLite's error for a full disk as the system's own, which the engine explains."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname not in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None


def _utf8(id_: str) -> str:
    """An id as SQLite can store it."""
    return id_.encode("utf-8", "backslashreplace").decode("utf-8")
