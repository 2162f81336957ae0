"""The edits of an open document, for prompts, and the outcomes of proposed edits."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lsprotocol.types import Range, TextDocumentContentChangeEvent

from codegen.core.errors import InputError
from codegen.core.paths import open_plain
from codegen.core.records import Change, Edit
from codegen.core.secret_scan import REDACTED, redact, secret_spans, without_spans
from codegen.edits.formats import around, window_text
from codegen.edits.sessions import View, difference, lines_of
from codegen.server.context.document import TextDocument

_PAUSE_S = 1.0  # minimum pause between two edits
_NEAR = 8  # lines; a change farther away is another edit
_BULK_CHARS, _BULK_LINES, _BULK_S = 200, 8, 1.5


@dataclass
class Tracker:
    """Edits of one document since it was opened.

    Consecutive changes of one line are one edit, so that a pause within a word does not end it.
    Changes within a second and eight lines of each other are also one edit.

    Attributes:
        before: lines before the current edit; None without one.
        done: earlier edits, oldest first.
    """

    before: list[str] | None = None
    done: list[Change] = field(default_factory=list)
    _line: int = 0
    _first: int = 0  # line where the current edit begins
    _at: float = float("-inf")
    _bulk_at: float = float("-inf")

    def changing(
        self, document: TextDocument, changes: Sequence[TextDocumentContentChangeEvent], now: float
    ) -> None:
        """Records changes; called before they are applied to the document."""
        for change in changes:
            place: Range | None = getattr(change, "range", None)
            if place is None:  # the whole text: the edit is unknown
                self._close(document, "")
                self._bulk_at = now
                continue
            size = place.end.line - place.start.line
            if len(change.text) > _BULK_CHARS or max(size, change.text.count("\n")) >= _BULK_LINES:
                self._bulk_at = now
            distance = abs(place.start.line - self._line)
            is_one = distance <= _NEAR and now - self._at < _PAUSE_S
            if self.before is not None and distance and not is_one:
                self._close(document, "")
            if self.before is None:
                self.before, self._first = list(document.lines), place.start.line
            self._first = min(self._first, place.start.line)
            self._line, self._at = place.start.line, now

    def calm(self, now: float) -> bool:
        """Returns True if there are edits and no recent bulk change."""
        return bool(self.done or self.before is not None) and now - self._bulk_at > _BULK_S

    def changes(self, document: TextDocument, path: str) -> list[Change]:
        """Returns all edits, oldest first, with their lines in the current document."""
        done, before = self.done, self.before
        if before is not None:
            done = _with_difference(done, before, document.lines, self._first)
        return [change._replace(path=path) for change in done]

    def _close(self, document: TextDocument, path: str) -> None:
        self.done = self.changes(document, path)[-3 * View().hunks :]
        self.before = None


def _with_difference(
    done: Sequence[Change], before: Sequence[str], after: Sequence[str], first: int
) -> list[Change]:
    """Appends the edits between two states; earlier edits move with their lines.

    The lines before ``first`` are the same, which locates a deletion among equal lines.
    """
    start = 0
    while start < min(len(before), len(after), first) and before[start] == after[start]:
        start += 1
    end = 0
    most = min(len(before), len(after)) - start
    while end < most and before[len(before) - 1 - end] == after[len(after) - 1 - end]:
        end += 1
    old, new = list(before[start : len(before) - end]), list(after[start : len(after) - end])
    try:
        hunks = difference(old, new, most_work=3_000_000)
    except InputError:  # the difference takes too long to compute
        return []
    found = list(done)
    moved = 0
    for hunk in hunks:
        line = start + hunk.start + moved
        added = len(hunk.new) - (hunk.end - hunk.start)
        found = [c._replace(line=c.line + added) if c.line >= line else c for c in found]
        text = "".join(old[hunk.start : hunk.end])
        found.append(Change("", line, text, "".join(hunk.new)))
        moved += added
    return found


KEPT_S = 30.0
_MOST = 20  # maximum number of watched proposals
_MOST_WORK = 3_000_000  # maximum steps for comparing two texts


@dataclass
class Watched:
    """A proposal whose outcome is not known yet.

    Attributes:
        edit: the edit state to log, redacted; None if it must not be logged.
        proposed: the window's text with the proposal.
        document: the document with the current text.
        before, after: lines without and with the proposal.
        lines: range of the proposal's lines in ``after``, end exclusive.
        count: increments a counter.
        since: time of the proposal or of its acceptance.
    """

    edit: Edit | None
    proposed: str
    uri: str
    document: TextDocument
    before: Sequence[str]
    after: Sequence[str]
    lines: tuple[int, int]
    window: tuple[int, int]
    count: Callable[[str], None]
    since: float
    shown: bool = False
    accepted: bool = False


class Outcomes:
    """Outcomes of one session's proposals.

    Args:
        path: file to append outcomes to; None only counts them.

    Attributes:
        watched: proposals without an outcome yet, by id.

    Raises:
        InputError: if the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.watched: dict[str, Watched] = {}
        self._file: int | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.fchmod(self._file, 0o600)  # the file may have existed
        except OSError as error:
            raise InputError(
                f"Cannot write {path}: {error.strerror}.", "Pass another -o edit_log=FILE."
            ) from None

    @property
    def is_written(self) -> bool:
        """True if outcomes are written to a file."""
        return self._file is not None

    def watch(self, id_: str, watched: Watched) -> None:
        """Starts watching a proposal, which replaces an identical earlier one."""
        for key, other in list(self.watched.items()):
            if other.uri == watched.uri and not other.accepted and other.after == watched.after:
                watched.shown |= self.watched.pop(key).shown
        self.watched[id_] = watched
        if len(self.watched) > _MOST:
            self._end(next(iter(self.watched)))

    def show(self, id_: str) -> None:
        """Records that the editor shows a proposal."""
        if id_ in self.watched:
            self.watched[id_].shown = True

    def accept(self, id_: str, now: float) -> None:
        """Records that a proposal was accepted."""
        if id_ in self.watched:
            self.watched[id_].accepted, self.watched[id_].since = True, now

    def changing(self, uri: str, now: float) -> None:
        """Decides the outcomes of a document's proposals that are old enough; called before each
        change, while the text is still the old one.
        """
        for id_, one in list(self.watched.items()):
            if one.uri == uri and now - one.since >= KEPT_S:
                self._end(id_)

    def close(self, uri: str = "", *, is_lost: bool = False) -> None:
        """Decides the outcomes of all proposals in a document, or in all documents.

        Args:
            uri: the document; empty for all.
            is_lost: whether the text is unknown, so proposals are dropped without an outcome.
        """
        for id_, one in list(self.watched.items()):
            if not uri or one.uri == uri:
                if is_lost:
                    del self.watched[id_]
                else:
                    self._end(id_)

    def _end(self, id_: str) -> None:
        one = self.watched.pop(id_)
        lines = lines_of(one.document.text.replace("\r\n", "\n"))
        try:
            kept = one.accepted and not _differ(one.after, lines, *one.lines)
            unchanged = not kept and not _differ(one.before, lines, *one.window)
        except InputError:  # the difference takes too long to compute
            return
        if kept:
            one.count("next_edit_kept")
        if self._file is None or one.edit is None:
            return
        row = {name: value for name, value in asdict(one.edit).items() if name != "target"}
        row |= {
            "id": f"{id_}-{time.time_ns():x}",
            "history": [list(change) for change in one.edit.history],
            "proposed": one.proposed,
            "shown": one.shown,
            "accepted": one.accepted,
            "kept": kept,
            "unchanged": unchanged,
        }
        data = (json.dumps(row) + "\n").encode("ascii")
        try:
            os.write(self._file, data)  # several editors may append to one file
        except OSError:
            one.count("next_edit_unwritten")


def _differ(old: Sequence[str], new: Sequence[str], start: int, end: int) -> bool:
    """Returns True if the lines from ``start`` to ``end`` (exclusive) of the old text changed."""
    hunks = difference(old, new, _MOST_WORK)
    if start == end:  # removed lines that were restored
        return any(hunk.start <= start <= hunk.end for hunk in hunks)
    return any(hunk.start < end and hunk.end > start for hunk in hunks)


_MOST_PLACES = 8  # maximum candidate positions of an edit whose line is uncertain


def hidden_lines(state: Edit) -> frozenset[str]:
    """Returns the lines of the file, now or before an edit, that contain a secret or a part of one,
    stripped of whitespace.

    Args:
        state: the edit state with all edits, not only the ones in a prompt.
    """
    return frozenset(
        line for text in _file_states(state) for line in _lines_in(text, secret_spans(text))
    )


def redacted(edit: Edit, hidden: Collection[str]) -> Edit | None:
    """Returns the edit without secrets; None if its window or whole history may contain secrets.

    Edits of the history that touched a secret are omitted.
    """
    above, _ = around(edit)
    window = window_text(edit)
    start, end = len(above), len(above) + len(window)
    spans = secret_spans(edit.text)
    if any(e > start and s < end for s, e in spans) or not is_clean(window, hidden):
        return None
    parts = (without_spans(edit.text, spans, *p) for p in ((0, start), (end, len(edit.text))))
    head, rest = (_without_lines(part, hidden) for part in parts)
    shown = [c._replace(old=redact(c.old), new=redact(c.new)) for c in edit.history]
    history = tuple(c for c in shown if is_clean(c.old, hidden) and is_clean(c.new, hidden))
    if edit.history and not history:
        return None
    top = len(lines_of(head))
    place = (top, top + len(lines_of(window)))
    cursor = max(0, edit.cursor + len(head) - len(above))
    return replace(edit, text=head + window + rest, history=history, window=place, cursor=cursor)


def is_clean(text: str, hidden: Collection[str]) -> bool:
    """Returns True if a text contains no secret and no hidden line."""
    lines = {line.strip() for line in text.split("\n")}
    return lines.isdisjoint(hidden) and redact(text) == text


def _without_lines(text: str, hidden: Collection[str]) -> str:
    return "".join(
        REDACTED + "\n" * line.endswith("\n") if line.strip() in hidden else line
        for line in lines_of(text)
    )


def _file_states(state: Edit) -> Iterator[str]:
    """Yields the file now and before each edit of the history, skipping edits that do not fit."""
    lines = lines_of(state.text)
    left = [(change, {change.line}) for change in state.history if change.path == state.path]
    yield state.text
    while left:
        last, places = left.pop()
        old, new = lines_of(last.old), lines_of(last.new)
        fits = (p for p in sorted(places) if p >= 0 and lines[p : p + len(new)] == new)
        if (at := next(fits, None)) is None:
            continue
        lines[at : at + len(new)] = old
        # An earlier edit may have been moved by this one.
        added = len(new) - len(old)
        left = [
            (change, set(sorted({*known, *(p - added for p in known)})[:_MOST_PLACES]))
            for change, known in left
        ]
        yield "".join(lines)


def _lines_in(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Yields the lines that overlap character ranges, stripped of whitespace."""
    for start, end in spans:
        first = text.rfind("\n", 0, start) + 1
        last = text.find("\n", end)
        lines = text[first : last if last >= 0 else None].split("\n")
        yield from filter(None, map(str.strip, lines))
