"""Selects and orders snippets of other files for a position in a document.

Three kinds (:data:`KINDS`): ``definitions`` of names that the document imports or uses near it,
recent ``edits`` in other open files, ``similar`` snippets of other files. A chosen snippet keeps
its position until its space is needed or its file changes. New snippets are appended, the most
important one last, so a cached prompt stays valid up to the first new snippet.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from codegen.server.context import symbols
from codegen.server.context.document import split_lines
from codegen.server.context.sources import family, language_of
from codegen.server.context.symbols import Definition

Kind = Literal["definitions", "edits", "similar"]
KINDS: tuple[Kind, ...] = ("definitions", "edits", "similar")

_NEAR_LINES = 40  # lines before the cursor whose names are looked up
_AMBIGUOUS = 2  # maximum definitions of a name that is not imported
_AROUND = (16, 4)  # lines before and after the cursor to search similar snippets for
_SIMILAR = 3
_SAME_SEARCH = 8  # lines that the cursor may move before a new search
_EDITS = 2
_BEFORE_EDIT, _AFTER_EDIT = 4, 6  # lines shown around an edit
_HEADER_CHARS = 8  # characters around a file name in the prompt
_ROOMY = 0.75  # fraction of the budget to keep once it is exceeded
_PARSED_CHARS = 200_000
_NAME = re.compile(r"[^\W\d]\w{2,}")


class CodeSnippet(NamedTuple):
    """Snippet of another file.

    Attributes:
        key: kind, path of the file, and an identifier within it.
    """

    key: tuple[str, str, str]
    text: str

    @property
    def path(self) -> str:
        """The file's path."""
        return self.key[1]

    @property
    def size(self) -> int:
        """Number of characters in the prompt."""
        return len(self.path) + len(self.text) + _HEADER_CHARS


@dataclass(frozen=True, slots=True)
class CursorContext:
    """Position in a document.

    Attributes:
        path: the document's path relative to its folder.
        language: LSP language id.
        prefix, suffix: all text before and after the cursor.
    """

    path: str
    language: str
    prefix: str
    suffix: str


@dataclass
class SnippetSet:
    """Snippets selected for one document.

    Attributes:
        pieces: the snippets in order, each with its file's state and the number of the last choice
            that included it.
        choices: number of choices so far.
        searched: line of the last search for similar snippets, and the results, each with its
            file's state.
    """

    pieces: list[tuple[CodeSnippet, object, int]] = field(default_factory=list)
    choices: int = 0
    searched: tuple[int, list[tuple[CodeSnippet, object]]] | None = None

    def arrange(
        self, wanted: Iterable[CodeSnippet], room: int, state: Callable[[str], object]
    ) -> None:
        """Adds wanted snippets that fit, and drops old ones that no longer fit.

        Args:
            wanted: snippets, most important first.
            room: maximum total characters.
            state: returns a file's state; unwanted snippets of a changed file are dropped.
        """
        self.choices += 1
        fitting: dict[tuple[str, str, str], CodeSnippet] = {}
        left = room
        for piece in wanted:
            if piece.key not in fitting and piece.size <= left:
                fitting[piece.key] = piece
                left -= piece.size
        kept: list[tuple[CodeSnippet, object, int]] = []
        for piece, known, last in self.pieces:
            now = state(piece.path)
            if fitting.get(piece.key) == piece:
                del fitting[piece.key]
                kept.append((piece, now, self.choices))
            elif piece.key not in fitting and now is not None and now == known:
                kept.append((piece, now, last))
        new = [(piece, state(piece.path), self.choices) for piece in fitting.values()]
        total = sum(piece.size for piece, *_ in (*kept, *new))
        if total > room:
            for one in sorted(kept, key=lambda one: one[2]):  # the first wins a tie
                if total <= room * _ROOMY or one[2] == self.choices:
                    break
                kept.remove(one)
                total -= one[0].size
        self.pieces = kept + new[::-1]


def definitions(index: FileIndex, place: CursorContext, most: int) -> Iterator[CodeSnippet]:
    """Yields definitions of names: names on the cursor's line, imported names that are unused so
    far, names used before the cursor (nearest first), and other imported names.

    Args:
        most: maximum characters of a description; a longer one is cut after the last line that
            fits.
    """
    text = place.prefix + place.suffix
    own, imports = symbols.read(text[:_PARSED_CHARS], place.language)
    targets: dict[str, list[_Target]] = {}
    originals: dict[str, str] = {}
    for one in imports:
        targets.setdefault(one.name, []).extend(_targets(place, one))
        originals[one.name] = one.original or one.name
    everywhere = [target for found in targets.values() for target in found]
    counts = Counter(_NAME.findall(text))
    unused = [name for name in originals if counts[name] == 1]
    near = [
        name
        for line in reversed(place.prefix.splitlines()[-_NEAR_LINES:])
        for name in reversed(_NAME.findall(line))
        if name in originals or re.search(rf"\.{name}\b|\b{name}\(", line)
    ]
    current = near[: len(set(near) & set(_NAME.findall(place.prefix.rpartition("\n")[2])))]
    defined = {one.name for one in own if not one.owner} - set(originals)
    for name in dict.fromkeys([*current, *unused, *near, *originals]):
        if name in defined:
            continue
        found = index.definitions(originals.get(name, name), family(place.language), place.path)
        if not found:
            continue
        ranked = [(_match(one.path, targets.get(name, everywhere)), one) for one in found]
        ranked.sort(key=lambda pair: -pair[0])
        few = name not in originals and len(found) <= _AMBIGUOUS
        for rank, one in ranked[:_AMBIGUOUS]:
            if rank == 2 or (rank == 1 and name in originals) or few:
                key = ("definitions", one.path, f"{one.owner}.{name}")
                yield CodeSnippet(key, _beginning(one.text, most))


def _beginning(text: str, most: int) -> str:
    end = len(text) if len(text) <= most else text.rfind("\n", 0, most + 1)
    return text[:end] if end > 0 else text[:most]


class _Target(NamedTuple):
    """Target of an import.

    Attributes:
        parts: parts of the module's path.
        whole: whether the path is complete from the folder, not only the end of a path.
    """

    parts: tuple[str, ...]
    whole: bool


def _targets(place: CursorContext, one: symbols.Import) -> list[_Target]:
    here = PurePosixPath(place.path).parent.parts
    if place.language == "python":
        name = one.module.lstrip(".")
        level = len(one.module) - len(name)
        base = here[: max(0, len(here) - level + 1)] if level else ()
        found = _Target((*base, *(part for part in name.split(".") if part)), level > 0)
    elif one.module.startswith("."):
        path = PurePosixPath(os.path.normpath("/".join([*here, one.module])))
        found = _Target((path.with_suffix("") if language_of(path.name) else path).parts, True)
    else:
        parts = [part for part in one.module.split("/") if part not in ("@", "~", "")]
        found = _Target(tuple(parts), False)
    if not found.parts and not found.whole:
        return []
    return [found, _Target((*found.parts, one.original), found.whole)] if one.original else [found]


def _match(path: str, targets: Iterable[_Target]) -> int:
    """Returns 2 if a file is the module of a target, 1 if it is below one, else 0."""
    parts = PurePosixPath(path).with_suffix("").parts
    if parts[-1] in ("__init__", "index"):
        parts = parts[:-1]
    best = 0
    for wanted, whole in targets:
        size = len(wanted)
        if parts == wanted or (not whole and parts[-size:] == wanted):
            return 2
        starts = range(1) if whole else range(max(0, len(parts) - size))
        if any(parts[at : at + size] == wanted for at in starts):
            best = 1
    return best


def edits(
    open_files: Callable[[str], Sequence[str] | None],
    place: CursorContext,
    places: Sequence[tuple[str, int]],
) -> Iterator[CodeSnippet]:
    """Yields the surroundings of the latest edits in other open files.

    Args:
        open_files: returns the lines of an open file, without secrets; None if it is not shown.
        places: path and line of edits, oldest first.
    """
    shown = 0
    for path, line in reversed(places):
        lines = open_files(path)
        alike = family(language_of(path)) == family(place.language)
        if path == place.path or lines is None or not alike or shown == _EDITS:
            continue
        text = "".join(lines[max(0, line - _BEFORE_EDIT) : line + _AFTER_EDIT + 1]).strip("\r\n")
        if text.strip():
            shown += 1
            yield CodeSnippet(("edits", path, str(line)), text)


def similar(
    index: FileIndex, place: CursorContext, shelf: SnippetSet, state: Callable[[str], object]
) -> list[CodeSnippet]:
    """Returns the snippets of other files that are most similar to the lines around the cursor.
    Reuses the last search if the cursor is near its line and the found files have not changed.
    """
    line = place.prefix.count("\n")
    last = shelf.searched
    if (
        last is None
        or abs(last[0] - line) > _SAME_SEARCH
        or any(state(piece.path) != known for piece, known in last[1])
    ):
        before, after = _AROUND
        around = [*place.prefix.splitlines()[-before:], *place.suffix.splitlines()[:after]]
        found = index.similar("\n".join(around), family(place.language), place.path, _SIMILAR)
        pieces = [CodeSnippet(("similar", path, str(at)), text) for path, at, text in found]
        last = shelf.searched = line, [(piece, state(piece.path)) for piece in pieces]
    return [piece for piece, _ in last[1]]


_PIECE_LINES = 12
_QUERY_WORDS = 24
_COMMON = 0.1  # words in a larger fraction of the snippets are ignored, unless in at most _FEW
_FEW = 10
_DEFINITIONS = 50  # maximum definitions to read per name
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


class DefinitionHit(NamedTuple):
    """Definition of a name: its file, its class if it is a member, its description."""

    path: str
    owner: str
    text: str


class IndexHit(NamedTuple):
    """Snippet of a file: its path, its first line, its text."""

    path: str
    line: int
    text: str


class _Rows(NamedTuple):
    first: int
    last: int
    chars: int
    names: frozenset[str]


class FileIndex:
    """Index of one folder.

    Attributes:
        chars: total characters of its files.
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
        """Size of the database in bytes."""
        pages, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "page_size")
        )
        return pages * size

    def put(self, path: str, text: str, family: str, defined: Sequence[Definition]) -> None:
        """Adds or replaces a file with its text, without secrets, and its definitions.

        Searches find only files of the same language ``family``.
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
        """Removes a file, if present."""
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

    def definitions(self, name: str, family: str, without: str) -> list[DefinitionHit]:
        """Returns definitions of a name in files other than ``without``."""
        rows = self._database.execute(
            "SELECT path, owner, text FROM definitions WHERE name = ? AND family = ? AND path != ?"
            " LIMIT ?",
            (name, family, without, _DEFINITIONS),
        )
        return [DefinitionHit(*row) for row in rows]

    def similar(self, text: str, family: str, without: str, most: int) -> list[IndexHit]:
        """Returns snippets of files other than ``without`` that share a text's rare words."""
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
        return [IndexHit(*row) for row in rows]


def _pieces(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yields snippets of a file, each with the number of its first line."""
    for at in range(0, len(lines), _PIECE_LINES):
        text = "".join(lines[at : at + _PIECE_LINES]).strip("\r\n")
        if text.strip():
            yield at, text


def words(text: str) -> list[str]:
    """Returns a text's identifiers and their parts, in lower case."""
    found: list[str] = []
    for name in _WORD.findall(text):
        found.append(name.lower())
        parts = _PARTS.findall(name)
        if len(parts) > 1:
            found += [part.lower() for part in parts if len(part) > 2]
    return found
