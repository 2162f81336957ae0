"""What becomes of proposed edits: shown, accepted, and kept half a minute later.

The outcomes are counted. If the user names a file, each is also appended to it as one line of JSON,
training data for ``codegen data edits --from-editor``: the moment (:class:`codegen.records.Edit`),
``proposed``, the window's text with the proposal, and

- ``shown``: the editor reported that it showed the proposal;
- ``accepted``: the document was changed as proposed;
- ``kept``: it was accepted, and its lines are still there at the end;
- ``unchanged``: the window is at the end as it was before the proposal.

The end is :data:`KEPT_S` seconds after the acceptance, else after the proposal, or when the
document is closed. Secrets are replaced in the file, and a window that holds one is not written.

Limit: whether lines are still there is told from the difference of two texts, so a line that is
deleted and written again is kept.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from codegen.errors import InputError
from codegen.methods.edits.sessions import difference, lines_of
from codegen.paths import open_plain
from codegen.records import Edit
from codegen.server.document import TextDocument

KEPT_S = 30.0
_MOST = 20  # proposals that are watched at a time
_MOST_WORK = 3_000_000  # steps of comparing two texts


@dataclass
class Watched:
    """A proposal whose outcome is not known yet.

    Attributes:
        edit: the moment, as it may be written; None if it may not.
        proposed: the window's text with the proposal.
        document: has the current text.
        before, after: the lines without and with the proposal.
        lines: the proposal's lines in ``after``, end not included.
        count: adds to a counter.
        since: when it was proposed or accepted.
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
    """The outcomes of one session's proposals.

    Args:
        path: the file to append them to; None to count them only.

    Raises:
        InputError: if the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._watched: dict[str, Watched] = {}
        self._file: int | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.fchmod(self._file, 0o600)  # it may have been there
        except OSError as error:
            raise InputError(
                f"Cannot write {path}: {error.strerror}.", "Name another file with --edit-log."
            ) from None

    @property
    def is_written(self) -> bool:
        """Whether outcomes go into a file."""
        return self._file is not None

    def watch(self, id_: str, watched: Watched) -> None:
        """Watches a proposal from now on. One that was made before, word for word, is replaced."""
        for key, other in list(self._watched.items()):
            if other.uri == watched.uri and not other.accepted and other.after == watched.after:
                watched.shown |= self._watched.pop(key).shown
        self._watched[id_] = watched
        if len(self._watched) > _MOST:
            self._end(next(iter(self._watched)))

    def show(self, id_: str) -> None:
        """The editor shows a proposal."""
        if id_ in self._watched:
            self._watched[id_].shown = True

    def accept(self, id_: str, now: float) -> None:
        """A proposal was accepted."""
        if id_ in self._watched:
            self._watched[id_].accepted, self._watched[id_].since = True, now

    def changing(self, uri: str, now: float) -> None:
        """Judges what is due in a document; called before each change, so that the text is still
        the one of the time when it was due.
        """
        for id_, one in list(self._watched.items()):
            if one.uri == uri and now - one.since >= KEPT_S:
                self._end(id_)

    def close(self, uri: str = "", *, is_lost: bool = False) -> None:
        """Judges everything in a document, or in all of them.

        Args:
            uri: the document; empty for all.
            is_lost: its text is not known, so nothing is judged.
        """
        for id_, one in list(self._watched.items()):
            if not uri or one.uri == uri:
                if is_lost:
                    del self._watched[id_]
                else:
                    self._end(id_)

    def _end(self, id_: str) -> None:
        one = self._watched.pop(id_)
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
    """Whether the lines from ``start`` to ``end`` (not included) of the old text changed."""
    hunks = difference(old, new, _MOST_WORK)
    if start == end:  # removed lines that came back
        return any(hunk.start <= start <= hunk.end for hunk in hunks)
    return any(hunk.start < end and hunk.end > start for hunk in hunks)
