"""Deduplication: signatures of examples, their table on disk, and decisions in the inputs' order.

As for The Stack (Kocetkov et al. 2022, arXiv 2211.15533, and its published script): MinHash over
5-grams of words, 256 permutations, Jaccard similarity 0.7. Unlike there, a candidate is compared
before it is removed, so that the bands can be chosen for recall. The first of several similar
programs is kept, and later ones are compared with kept ones only: a program that is similar only to
a removed one stays.

Locality-sensitive hashing (Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, ch. 3): the
MinHash values are cut into bands; programs that share a band are candidates, and the share of equal
values estimates their similarity. Everything is in SQLite, so that memory stays flat.

Band keys are random, so writing each one by itself would write a page of the file: over 100 KiB for
each program. The keys of the latest programs are therefore held in memory, and written many at a
time in order. After a crash they are computed again from the MinHash values.

Limit: only the first 100 candidates of a band are compared. More share a band only if many programs
have long common parts without being near-duplicates.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from codegen.data.filters.text_forms import digest, exact_form, ngram_hashes, words
from codegen.data.sources import Rejected, open_source
from codegen.errors import ConfigError, InputError
from codegen.paths import new_folder
from codegen.records import Example

if TYPE_CHECKING:
    from datasketch import MinHash

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
_BATCH = 4096  # shingles hashed at once, which bounds the memory that a huge program takes


class Signature(NamedTuple):
    """The data by which an example's duplicates are found.

    Attributes:
        exact: digest of the exact form, 16 bytes.
        minhash: the MinHash values as little-endian uint32; empty for a text shorter than a
            shingle, or if only exact duplicates are dropped.
    """

    exact: bytes
    minhash: bytes


@dataclass(frozen=True, slots=True)
class Dedup:
    """How duplicates are found.

    Attributes:
        kind: ``exact``, or ``near`` for near-duplicates too.
        compare: ``program`` alone, or the ``pair`` of instruction and program.
        threshold: least Jaccard similarity of near-duplicates' sets of shingles.
        num_perm: number of MinHash values. The estimate of a similarity s has the standard error
            sqrt(s (1 - s) / num_perm): 0.03 with the defaults.
        shingle: number of words in a shingle.
        references: sources (as on the command line) whose programs are dropped, too.
    """

    kind: Literal["exact", "near"] = "near"
    compare: Literal["program", "pair"] = "program"
    threshold: float = 0.7
    num_perm: int = 256
    shingle: int = 5
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("exact", "near"):
            raise ConfigError(f"dedup {self.kind!r} is unknown.", "Choose exact or near.")
        if self.compare not in ("program", "pair"):
            raise ConfigError(
                f"dedup can't compare {self.compare!r}.", "It compares: program, pair."
            )
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"The threshold {self.threshold} of dedup is not in (0, 1].")
        if not 16 <= self.num_perm <= 4096:
            raise ConfigError(f"num_perm is {self.num_perm}; it must be from 16 to 4096.")
        if self.shingle < 1:
            raise ConfigError(f"shingle is {self.shingle}; it must be at least 1.")

    def signature(self, example: Example) -> Signature:
        """The example's signature, which depends on its texts and these settings alone."""
        pair = self.compare == "pair"
        exact = exact_form(example.program, example.language)
        instruction = " ".join(example.instruction.split()) if pair else ""
        if self.kind == "exact":
            return Signature(digest(instruction, exact), b"")
        tokens = words(example.program)
        if pair:
            tokens = words(example.instruction) + tokens
        return Signature(digest(instruction, exact), self._minhash(tokens))

    def _minhash(self, tokens: list[str]) -> bytes:
        shingles = ngram_hashes(tokens, self.shingle) >> 32  # what MinHash permutes is 32 bits wide
        if not len(shingles):
            return b""
        sketch = _empty(self.num_perm).copy()
        for start in range(0, len(shingles), _BATCH):
            sketch.update_batch(shingles[start : start + _BATCH].tolist())
        return sketch.hashvalues.astype("<u4").tobytes()

    def bands(self) -> tuple[int, int]:
        """The number of bands and the values in each, of locality-sensitive hashing."""
        return _bands(self.threshold, self.num_perm)

    def describe(self) -> Mapping[str, Any]:
        """The settings and the digests of the references, as JSON values."""
        settings: dict[str, object] = {"kind": self.kind, "compare": self.compare}
        if self.kind == "near":
            bands, rows = self.bands()
            settings |= {
                "threshold": self.threshold,
                "num_perm": self.num_perm,
                "shingle": self.shingle,
                "bands": bands,
                "rows": rows,
            }
        described = [dict(open_source(spec).describe()) for spec in self.references]
        return {**settings, "references": described}


def _identity(value: int) -> int:
    return value


@lru_cache(maxsize=8)
def _empty(num_perm: int) -> MinHash:
    from datasketch import MinHash

    return MinHash(num_perm, seed=1, hashfunc=_identity, scheme="affine32")


@lru_cache(maxsize=8)
def _bands(threshold: float, num_perm: int) -> tuple[int, int]:
    from datasketch import MinHashLSH

    # A false candidate costs one comparison, a missed duplicate stays in the data.
    index = MinHashLSH(threshold=threshold, num_perm=num_perm, weights=(0.1, 0.9))
    return index.b, index.r


# --- signatures on disk ------------------------------------------------------------------------


class Found(NamedTuple):
    """A similar earlier entry: its id and the similarity, 1.0 for an exact duplicate."""

    id: str
    exact: bool
    similarity: float


class SignatureTable:
    """Signatures in one SQLite file, searched by digest and by bands."""

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
        """Opens or makes a table to write; without ``durable`` faster, but lost in a crash."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(f"PRAGMA journal_mode = {'WAL' if durable else 'OFF'}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN")
        return cls(connection, dedup)

    @classmethod
    def open_to_read(cls, path: Path, dedup: Dedup) -> SignatureTable:
        """Opens a complete table, which is not written any more."""
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        return cls(sqlite3.connect(uri, uri=True, isolation_level=None), dedup)

    def find(self, signature: Signature) -> Found | None:
        """The equal entry, else the first of the most similar ones above the threshold."""
        row = self.connection.execute(
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
            rows = self.connection.execute(
                f"SELECT position FROM bands WHERE key = ? ORDER BY position LIMIT {_CANDIDATES}",
                (key,),
            )
            # Those held in memory came later.
            found = [*(row[0] for row in rows), *self._recent.get(key, ())]
            positions.update(found[:_CANDIDATES])
        own = np.frombuffer(signature.minhash, "<u4")
        best: Found | None = None
        for position in sorted(positions):
            id_, minhash = self.connection.execute(
                "SELECT id, minhash FROM entries WHERE position = ?", (position,)
            ).fetchone()
            similarity = np.count_nonzero(own == np.frombuffer(minhash, "<u4")) / len(own)
            least = self.dedup.threshold if best is None else np.nextafter(best.similarity, 2)
            if similarity >= least:
                best = Found(id_, False, float(similarity))
        return best

    def insert(self, position: int, id_: str, signature: Signature) -> None:
        """Adds an entry at a new position; an existing digest keeps its first position."""
        self.connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?)", (position, _utf8(id_), *signature)
        )
        self.connection.execute(
            "INSERT OR IGNORE INTO exact VALUES (?, ?)", (signature.exact, position)
        )
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
        rows = self.connection.execute(
            "SELECT position, exact, minhash FROM entries WHERE position >= "
            "(SELECT coalesce(max(position), 0) FROM flushed) ORDER BY position"
        )
        for position, *signature in rows:
            self._hold(position, Signature(*signature))

    def flush(self) -> None:
        """Writes the bands that are held in memory."""
        rows = ((key, place) for key in sorted(self._recent) for place in self._recent[key])
        self.connection.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", rows)
        self._set_flushed("SELECT coalesce(max(position) + 1, 0) FROM entries")
        self._recent.clear()
        self._held = 0

    def _set_flushed(self, select: str, values: tuple[int, ...] = ()) -> None:
        """Stores the position from which on bands are not written."""
        position = self.connection.execute(select, values).fetchone()[0]
        self.connection.execute("DELETE FROM flushed")
        self.connection.execute("INSERT INTO flushed VALUES (?)", (position,))

    def delete_from(self, position: int) -> None:
        """Removes the entries at and after a position."""
        execute = self.connection.execute
        rows = execute(
            "SELECT position, exact, minhash FROM entries WHERE position >= ?", (position,)
        ).fetchall()
        for place, exact, minhash in rows:
            for key in self._keys(Signature(exact, minhash)):
                execute("DELETE FROM bands WHERE key = ? AND position = ?", (key, place))
            execute("DELETE FROM exact WHERE digest = ? AND position = ?", (exact, place))
        execute("DELETE FROM entries WHERE position >= ?", (position,))
        self._set_flushed(
            "SELECT min(?, (SELECT coalesce(max(position), 0) FROM flushed))", (position,)
        )
        self._hold_unflushed()

    def _keys(self, signature: Signature) -> list[int]:
        """A 64-bit key for each band, which depends on the band's number."""
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
        self.connection.execute("COMMIT")
        self.connection.execute("BEGIN")

    def close(self) -> None:
        """Closes the file; uncommitted entries are lost."""
        self.connection.close()


def _utf8(id_: str) -> str:
    """An id as SQLite can store it."""
    return id_.encode("utf-8", "backslashreplace").decode("utf-8")


# --- decisions, in the order of the inputs -----------------------------------------------------


class DedupIndex:
    """The signatures of the examples kept so far, on disk, and of the reference corpora.

    A context manager. Decisions depend on the settings and the order of ``add`` alone.

    Args:
        path: the SQLite file, which may exist.
        dedup: the settings, the same for all uses of one file.

    Raises:
        InputError: if a reference can't be read or holds no program.
    """

    def __init__(self, path: str | os.PathLike[str], dedup: Dedup) -> None:
        self.dedup = dedup
        self._reference = reference_table(dedup) if dedup.references else None
        self._kept = SignatureTable.open(path, dedup)

    def add(self, position: int, id_: str, signature: Signature) -> Rejected | None:
        """Adds an example at a position after earlier ones, or returns its rejection."""
        if self._reference and (found := self._reference.find(signature)):
            return _rejected(id_, found, "_of_reference")
        if found := self._kept.find(signature):
            return _rejected(id_, found, "")
        self._kept.insert(position, id_, signature)
        return None

    def commit(self) -> None:
        """Makes added examples survive a crash."""
        self._kept.commit()

    def rollback_to(self, position: int) -> None:
        """Removes examples added at or after an input position, committed or not."""
        self._kept.delete_from(position)
        self._kept.commit()

    def close(self) -> None:
        """Closes the files; uncommitted examples are lost."""
        self._kept.close()
        if self._reference:
            self._reference.close()

    def __enter__(self) -> DedupIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rejected(id_: str, found: Found, where: str) -> Rejected:
    reason = "duplicate" if found.exact else "near_duplicate"
    similarity = "" if found.exact else f"jaccard={found.similarity:.3f} "
    # The id comes last, since it may be any text.
    return Rejected(id_, reason + where, f"{similarity}of={found.id}", "skipped")


def reference_table(dedup: Dedup) -> SignatureTable:
    """The signatures of the reference corpora, made once and kept in the user's cache.

    The cache identifies a corpus by its description: files by content, a dataset of the hub by
    name.
    """
    from codegen.paths import cache_folder

    key = digest(json.dumps(dedup.describe(), sort_keys=True), _version()).hex()
    path = cache_folder() / "dedup" / f"{key}.sqlite"
    if not path.exists():
        _make_reference(path, dedup)
    return SignatureTable.open_to_read(path, dedup)


def _make_reference(path: Path, dedup: Dedup) -> None:
    folder = new_folder(path)
    partial = folder / path.name
    try:
        table = SignatureTable.open(partial, dedup, durable=False)
        try:
            for number, (id_, example) in enumerate(_programs(dedup)):
                signature = dedup.signature(example)
                if not table.find(signature):  # one of several similar ones is enough
                    table.insert(number, id_, signature)
            table.flush()
            table.commit()
        finally:
            table.close()
        partial.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs(dedup: Dedup) -> Iterator[tuple[str, Example]]:
    for spec in dedup.references:
        number = 0
        for item in open_source(spec):
            if isinstance(item, Example):
                number += 1
                yield f"{spec} {item.id}", item
        if not number:
            raise InputError(
                f"The reference {spec!r} holds no program.",
                "Give a source that codegen data can read, with its columns instruction and "
                "program.",
            )


def _version() -> str:
    import datasketch

    return datasketch.__version__
