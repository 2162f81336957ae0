"""Background index of an editor's workspace, and snippets of its files for prompts.

Each declared folder has an index of its files (:mod:`codegen.server.context.snippets`) while it is
open. :mod:`codegen.server.context.sources` decides which files may be read; an open document
replaces its file, under the same rules. Strings that look like secrets are replaced before
indexing. One low-priority thread does all of this and spends at most a quarter of the time
indexing; changed files are re-indexed.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

from codegen.core.errors import InputError
from codegen.core.secret_scan import redact
from codegen.server.completion.requests import Snippet
from codegen.server.context import symbols
from codegen.server.context.document import TextDocument, split_lines
from codegen.server.context.snippets import (
    KINDS,
    CodeSnippet,
    CursorContext,
    FileIndex,
    Kind,
    SnippetSet,
    definitions,
    edits,
    similar,
)
from codegen.server.context.sources import (
    FILE_BYTES,
    FileRejected,
    SourceFolder,
    family,
    is_generated,
    language_of,
    local_path,
)

log = logging.getLogger(__name__)

MAX_FILES = 10_000  # maximum indexed files per folder
MAX_ENTRIES = 200_000  # maximum directory entries to scan per folder
MAX_INDEX_CHARS = 20_000_000  # maximum indexed characters per folder
_SHARE = 0.25  # fraction of its time that the thread uses while indexing
_NICE = 10
_DESCRIPTION = 300  # maximum characters of a definition; at least a quarter of the budget
_PLACES = 16  # number of recent edit positions to remember
_SAME_PLACE = 6  # lines


class Folder:
    """One folder with its index; not thread-safe.

    Args:
        path: the editor's path of the folder.
        exclude: path patterns of files not to read, in addition to secrets.
        closed: whether to read files that are not open.
    """

    def __init__(
        self, path: PurePosixPath, exclude: tuple[str, ...] = (), closed: bool = True
    ) -> None:
        self.sources = SourceFolder(path, exclude, closed)
        self.index = FileIndex()
        self._states: dict[str, object] = {}  # path -> state of the indexed file
        self._open: dict[str, list[str]] = {}
        self._shelves: dict[str, SnippetSet] = {}
        self._entries = 0
        self._folders: deque[str] = deque()  # to be listed
        self._pending: OrderedDict[str, None] = OrderedDict()  # to be indexed
        self._seen: set[str] | None = None  # files of the running scan
        self._scan()

    @property
    def busy(self) -> bool:
        """True if :meth:`step` has work to do."""
        return bool(self._pending or self._folders or self._seen is not None)

    def step(self) -> None:
        """Lists one folder or indexes one file."""
        if self._pending:
            self._update(self._pending.popitem(last=False)[0])
        elif self._folders:
            self._list(self._folders.popleft())
        elif self._seen is not None:
            for path in set(self._states) - self._seen - set(self._open):
                self._remove(path)
            self._seen = None
            log.info("Workspace indexed: %d files.", len(self._states))

    def _scan(self) -> None:
        """Schedules a background scan of all files."""
        if self.sources.is_read:
            self.sources.forget_rules()
            self._entries = 0
            self._folders, self._seen = deque([""]), set()

    def _list(self, folder: str) -> None:
        found: list[str] = []
        for path, is_folder in self.sources.entries(folder):
            self._entries += 1
            if self._entries > MAX_ENTRIES or len(self._states) + len(found) >= MAX_FILES:
                self._folders.clear()
                break
            if path and is_folder:
                self._folders.append(path)
            elif path:
                found.append(path)
        for path in sorted(found):
            self._pending[path] = None
            if self._seen is not None:
                self._seen.add(path)

    def _update(self, path: str) -> None:
        """Updates the index of a file that is not open."""
        if path in self._open:
            return
        try:
            if path not in self._states and len(self._states) >= MAX_FILES:
                raise FileRejected("beyond the limits")
            state = self.sources.state(path)
            if state is not None and self._states.get(path) == state and self._seen is None:
                return
            text, state = self.sources.read(path)
            if self._states.get(path) != state:
                self._put(path, text, state)
        except (FileRejected, OSError, InputError):  # gone, a link, a pipe, forbidden
            self._remove(path)

    def _remove(self, path: str) -> None:
        self._states.pop(path, None)
        self.index.remove(path)

    def _put(self, path: str, text: str, state: object) -> list[str]:
        """Adds a text to the index; returns its lines without secrets.

        Raises:
            FileRejected: if the text is generated or exceeds the limits.
        """
        if is_generated(text):
            raise FileRejected("generated")
        if self.index.chars + len(text) > MAX_INDEX_CHARS:
            raise FileRejected("beyond the limits")
        text, language = redact(text), language_of(path)
        defined, _ = symbols.read(text, language)
        self.index.put(path, text, family(language), defined)
        self._states[path] = state
        return split_lines(text)

    def changed(self, path: str) -> None:
        """Handles the creation, change or removal of a file or folder."""
        if not self.sources.is_read:
            return
        if PurePosixPath(path).name == ".gitignore":
            self._scan()
        elif language_of(path):
            self._pending[path] = None
            self._pending.move_to_end(path, last=False)
            if self._seen is not None:
                self._seen.add(path)
        else:
            for known in [known for known in self._states if known.startswith(f"{path}/")]:
                self._pending[known] = None

    def buffer(self, path: str, text: str | None, number: int) -> None:
        """Indexes an open document's text instead of its file; None closes it.

        Args:
            number: number of the document's changes, which identifies the text.
        """
        was_open = self._open.pop(path, None) is not None
        if text is None:
            self._shelves.pop(path, None)
            if was_open:
                self._remove(path)
                self.changed(path)
            return
        try:
            if len(text) > FILE_BYTES or not language_of(path) or not self.sources.allowed(path):
                raise FileRejected("ignored")
            self._open[path] = self._put(path, text, ("open", number))
        except FileRejected:
            self._open[path] = []  # also hides its file
            self._remove(path)

    def choose(
        self,
        place: CursorContext,
        kinds: Sequence[Kind],
        room: int,
        edited: Sequence[tuple[str, int]],
    ) -> tuple[Snippet, ...]:
        """Returns the snippets of other files to show, the latest and most important last.

        Args:
            room: maximum total characters.
            edited: path and line of edits, oldest first.
        """
        shelf = self._shelves.setdefault(place.path, SnippetSet())
        shelf.pieces = [one for one in shelf.pieces if one[0].key[0] in kinds]
        found = self._find(place, kinds, room, edited, shelf)
        shown = {piece.path for piece in chain(*found.values(), (p for p, *_ in shelf.pieces))}
        if stale := [path for path in shown if not self._is_current(path)]:
            for path in stale:
                self._update(path)
            found = self._find(place, kinds, room, edited, shelf)
        wanted: list[CodeSnippet] = []
        for pieces in found.values():  # first an equal share of the budget for each kind
            left = room // len(found)
            for piece in pieces:
                left -= piece.size
                if left >= 0:
                    wanted.append(piece)
        wanted += chain(*found.values())
        shelf.arrange(_distinct(wanted), room, self._states.get)
        return tuple(Snippet(piece.path, piece.text) for piece, *_ in shelf.pieces)

    def _find(
        self,
        place: CursorContext,
        kinds: Sequence[Kind],
        room: int,
        edited: Sequence[tuple[str, int]],
        shelf: SnippetSet,
    ) -> dict[Kind, list[CodeSnippet]]:
        find: Mapping[Kind, Callable[[], Iterable[CodeSnippet]]] = {
            "definitions": lambda: definitions(self.index, place, max(_DESCRIPTION, room // 4)),
            "edits": lambda: edits(self._open.get, place, edited),
            "similar": lambda: similar(self.index, place, shelf, self._states.get),
        }
        return {kind: _filling(find[kind](), room) for kind in KINDS if kind in kinds}

    def _is_current(self, path: str) -> bool:
        """Returns True if the index has a file's current version, on disk or in the editor."""
        return path in self._open or self._states.get(path) == self.sources.state(path)


def _distinct(pieces: Iterable[CodeSnippet]) -> list[CodeSnippet]:
    """Drops snippets whose text is part of an earlier snippet of the same file."""
    found: list[CodeSnippet] = []
    for piece in pieces:
        if not any(one.path == piece.path and piece.text in one.text for one in found):
            found.append(piece)
    return found


def _filling(pieces: Iterable[CodeSnippet], room: int) -> list[CodeSnippet]:
    """Returns the first snippets that fit the room."""
    found: list[CodeSnippet] = []
    for piece in pieces:
        found.append(piece)
        room -= piece.size
        if room <= 0:
            break
    return found


Folders = dict[PurePosixPath, Folder]


@dataclass
class _Open:
    """Document open in the editor.

    Attributes:
        document: its text, modified by the event loop.
        changes: number of changes so far.
        indexed: number of changes in the index; -1 for none.
    """

    document: TextDocument
    changes: int = 0
    indexed: int = -1


class Workspace:
    """The folders of one editor, and the thread that reads them.

    All methods are for the event loop; none of them blocks.

    Args:
        exclude: path patterns of files not to read, in addition to secrets.
        closed: whether to read files that are not open.

    Attributes:
        updates: number of times that an index has become up to date.
    """

    def __init__(self, exclude: tuple[str, ...] = (), closed: bool = True) -> None:
        self.updates = 0
        self._exclude, self._closed = exclude, closed
        self._paths: list[PurePosixPath] = []
        self._documents: dict[PurePosixPath, _Open] = {}
        self._edited: deque[tuple[PurePosixPath, int]] = deque(maxlen=_PLACES)
        self._names: dict[PurePosixPath, Mapping[str, int]] = {}
        self._calls: queue.SimpleQueue[Callable[[Folders], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, uri: str) -> None:
        """Adds a folder of the editor."""
        path = local_path(uri)
        if path is not None and path not in self._paths:
            self._paths.append(path)
            self._start(path)

    def _start(self, path: PurePosixPath) -> None:
        exclude, closed = self._exclude, self._closed

        def start(folders: Folders) -> None:
            if path in folders:
                folders.pop(path).index.close()
            try:
                folders[path] = Folder(path, exclude, closed)
            except sqlite3.OperationalError as error:
                log.warning("No snippets from other files: %s.", error)
            else:
                self._names[path] = folders[path].index.names

        self._call(start)
        for one in self._documents.values():
            one.indexed = -1

    def remove(self, uri: str) -> None:
        """Removes a folder of the editor, with its index."""
        path = local_path(uri)
        if path is None or path not in self._paths:
            return
        self._paths.remove(path)

        def close(folders: Folders) -> None:
            self._names.pop(path, None)
            if path in folders:
                folders.pop(path).index.close()

        self._call(close)
        for one in self._documents.values():
            one.indexed = -1  # the document may belong to an enclosing folder now

    def configure(self, exclude: tuple[str, ...], closed: bool) -> None:
        """Changes the settings; if they differ, all folders are rescanned."""
        if (exclude, closed) != (self._exclude, self._closed):
            self._exclude, self._closed = exclude, closed
            for path in self._paths:
                self._start(path)

    def close(self) -> None:
        """Stops the thread and drops all indexes."""
        self._calls.put(None)
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _place(self, uri: str) -> tuple[PurePosixPath, PurePosixPath, str] | None:
        """Returns a file's path, its innermost folder, and its path relative to that."""
        path = local_path(uri)
        folder = self._folder_of(path) if path is not None else None
        if path is None or folder is None:
            return None
        return path, folder, str(path.relative_to(folder))

    def _folder_of(self, path: PurePosixPath) -> PurePosixPath | None:
        found = [folder for folder in self._paths if folder in path.parents]
        return max(found, key=lambda folder: len(folder.parts), default=None)

    def name(self, uri: str) -> tuple[str, str]:
        """Returns a document's folder name and its path relative to the folder; outside of all
        folders, an empty name and the file name.
        """
        place = self._place(uri)
        return (place[1].name, place[2]) if place else ("", uri.rpartition("/")[2])

    def opened(self, uri: str, document: TextDocument) -> None:
        """Records that the editor has opened a document, or replaced its whole text."""
        if path := local_path(uri):
            self._documents[path] = _Open(document)

    def edited(self, uri: str, line: int) -> None:
        """Records that the editor has changed a document at a line."""
        path = local_path(uri)
        if path is None or path not in self._documents:
            return
        self._documents[path].changes += 1
        for known in [one for one in self._edited if one[0] == path]:
            if abs(known[1] - line) <= _SAME_PLACE:
                self._edited.remove(known)
        self._edited.append((path, line))

    def closed(self, uri: str) -> None:
        """Records that the editor has closed a document, or that its completions are disabled."""
        path = local_path(uri)
        if path is not None and self._documents.pop(path, None) is not None:
            self._send(path, None, 0)

    def changed(self, uri: str) -> None:
        """Handles the creation, change or removal of a file."""
        if place := self._place(uri):
            _, folder, name = place
            self._call_for(folder, lambda found: found.changed(name))

    def _send(self, path: PurePosixPath, text: str | None, number: int) -> None:
        if folder := self._folder_of(path):
            name = str(path.relative_to(folder))
            self._call_for(folder, lambda found: found.buffer(name, text, number))

    def behind(self, uri: str) -> bool:
        """Returns True if another document has changed since the last choice of snippets; False for
        a document outside of all folders, which gets no snippets.
        """
        place = self._place(uri)
        return place is not None and any(
            one.indexed != one.changes
            for other, one in self._documents.items()
            if other != place[0]
        )

    def knows(self, name: str) -> bool:
        """Returns True if an indexed file defines a name."""
        return any(name in names for names in list(self._names.values()))

    def choose(
        self,
        uri: str,
        language: str,
        texts: tuple[str, str],
        kinds: Sequence[Kind],
        room: int,
    ) -> Future[tuple[Snippet, ...]]:
        """Returns the snippets of other files for a position in a document, the most important
        last; none for a document outside of all folders.

        Args:
            language: LSP language id.
            texts: all text before and after the cursor.
            room: maximum total characters.
        """
        future: Future[tuple[Snippet, ...]] = Future()
        place = self._place(uri)
        if place is None or not kinds or room <= 0:
            future.set_result(())
            return future
        path, folder, name = place
        for other, one in self._documents.items():
            if other != path and one.indexed != one.changes:
                one.indexed = one.changes
                self._send(other, one.document.text, one.changes)
        edited = [
            (str(other.relative_to(folder)), line)
            for other, line in self._edited
            if self._folder_of(other) == folder
        ]

        def choose(folders: Folders) -> None:
            chosen: tuple[Snippet, ...] = ()
            try:
                if folder in folders:
                    where = CursorContext(name, language, *texts)
                    chosen = folders[folder].choose(where, kinds, room, edited)
            finally:
                if future.set_running_or_notify_cancel():
                    future.set_result(chosen)

        self._call(choose)
        return future

    def _call(self, call: Callable[[Folders], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="workspace", daemon=True)
            self._thread.start()
        self._calls.put(call)

    def _call_for(self, path: PurePosixPath, call: Callable[[Folder], None]) -> None:
        def find(folders: Folders) -> None:
            if path in folders:
                call(folders[path])

        self._call(find)

    def _work(self) -> None:
        with suppress(OSError):  # on Linux, lowers only this thread's priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        folders: Folders = {}
        rest_s = 0.0
        while True:
            busy = next((folder for folder in folders.values() if folder.busy), None)
            try:
                call = self._calls.get(timeout=rest_s if busy else None)
            except queue.Empty:
                began = time.thread_time()
                if busy:
                    _safely(busy.step)
                    self.updates += not busy.busy
                rest_s = (time.thread_time() - began) * (1 / _SHARE - 1)
                continue
            if call is None:
                break
            _safely(lambda call=call: call(folders))
        for folder in folders.values():
            folder.index.close()


def _safely(action: Callable[[], None]) -> None:
    """Runs an action; logs errors, which must not stop the thread."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - its message may quote a file
        log.error("Indexing the workspace failed: %s.", type(error).__name__)
