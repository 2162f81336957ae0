"""Definitions and pieces of many files, found by name and by words, in an in-memory database.

Pieces are ranked by BM25 (SQLite's FTS5, k1 = 1.2, b = 0.75). Words are identifiers and their
parts, so that ``ConfigReader`` finds ``read_config``. Files are added and removed one at a time.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from codegen.server.document import split_lines
from codegen.server.outline import Definition

_PIECE_LINES = 12
_QUERY_WORDS = 24
_COMMON = 0.1  # words in a larger share of the pieces are ignored, unless these are at most _FEW
_FEW = 10
_DEFINITIONS = 50  # most that are read for one name
_WORD = re.compile(r"[^\W\d]\w{2,}")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_TABLES = """
    CREATE TABLE definitions (name, owner, path, family, text);
    CREATE INDEX by_name ON definitions (name);
    CREATE INDEX by_path ON definitions (path);
    CREATE VIRTUAL TABLE pieces USING fts5(
        words, path UNINDEXED, family UNINDEXED, line UNINDEXED, text UNINDEXED,
        tokenize = "unicode61 tokenchars '_'");
    CREATE VIRTUAL TABLE vocabulary USING fts5vocab(pieces, row);
"""


class Defined(NamedTuple):
    """A definition of a name: its file, the class it is a member of, its description."""

    path: str
    owner: str
    text: str


class Found(NamedTuple):
    """A piece of a file: its path, its first line, its text."""

    path: str
    line: int
    text: str


class _Rows(NamedTuple):
    first: int
    last: int
    chars: int
    names: frozenset[str]


class FileIndex:
    """The index of one folder.

    Attributes:
        chars: characters of all files in it.
        names: defined names, with the number of files that define them.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.executescript(_TABLES)
        self._rows: dict[str, _Rows] = {}
        self._next = 1
        self.chars = 0
        self.names: Counter[str] = Counter()

    def close(self) -> None:
        """Frees the memory."""
        self._database.close()
        self.names.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of the database."""
        pages, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "page_size")
        )
        return pages * size

    def put(self, path: str, text: str, family: str, defined: Sequence[Definition]) -> None:
        """Adds or replaces a file with its text, which has no secrets, and its definitions.

        Searches find files of the same ``family`` of languages.
        """
        self.remove(path)
        pieces = list(enumerate(_pieces(split_lines(text)), self._next))
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO definitions VALUES (?, ?, ?, ?, ?)",
            [(one.name, one.owner, path, family, one.text) for one in defined],
        )
        self._database.executemany(
            "INSERT INTO pieces (rowid, words, path, family, line, text) VALUES (?, ?, ?, ?, ?, ?)",
            [(row, " ".join(words(piece)), path, family, at, piece) for row, (at, piece) in pieces],
        )
        self._database.execute("COMMIT")
        names = frozenset(one.name for one in defined)
        self._rows[path] = _Rows(self._next, self._next + len(pieces) - 1, len(text), names)
        self._next += len(pieces)
        self.chars += len(text)
        self.names.update(names)

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        rows = self._rows.pop(path, None)
        if rows is None:
            return
        self._database.execute("BEGIN")
        self._database.execute("DELETE FROM definitions WHERE path = ?", (path,))
        self._database.execute(
            "DELETE FROM pieces WHERE rowid BETWEEN ? AND ?", (rows.first, rows.last)
        )
        self._database.execute("COMMIT")
        self.chars -= rows.chars
        for name in rows.names:
            self.names[name] -= 1
            if not self.names[name]:
                del self.names[name]

    def definitions(self, name: str, family: str, without: str) -> list[Defined]:
        """Definitions of a name in other files than ``without``."""
        rows = self._database.execute(
            "SELECT path, owner, text FROM definitions WHERE name = ? AND family = ? AND path != ?"
            " LIMIT ?",
            (name, family, without, _DEFINITIONS),
        )
        return [Defined(*row) for row in rows]

    def similar(self, text: str, family: str, without: str, most: int) -> list[Found]:
        """The pieces of files other than ``without`` that share most of a text's rarer words."""
        total = self._database.execute("SELECT count(*) FROM pieces_docsize").fetchone()[0]
        rare: list[tuple[int, str]] = []
        for word in set(words(text)):
            row = self._database.execute(
                "SELECT doc FROM vocabulary WHERE term = ?", (word,)
            ).fetchone()
            if row is not None and row[0] <= max(_FEW, _COMMON * total):
                rare.append((row[0], word))
        if not rare:
            return []
        query = " OR ".join(f'"{word}"' for _, word in sorted(rare)[:_QUERY_WORDS])
        rows = self._database.execute(
            "SELECT path, line, text FROM pieces WHERE pieces MATCH ? AND family = ? AND path != ?"
            " ORDER BY rank LIMIT ?",
            (f"words : {query}", family, without, most),
        )
        return [Found(*row) for row in rows]


def _pieces(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Pieces of a file, each with its first line."""
    for at in range(0, len(lines), _PIECE_LINES):
        text = "".join(lines[at : at + _PIECE_LINES]).strip("\r\n")
        if text.strip():
            yield at, text


def words(text: str) -> list[str]:
    """A text's identifiers and their parts, in lower case."""
    found: list[str] = []
    for name in _WORD.findall(text):
        found.append(name.lower())
        parts = _PARTS.findall(name)
        if len(parts) > 1:
            found += [part.lower() for part in parts if len(part) > 2]
    return found
