"""The edits of an open document, as prompts for the next one show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lsprotocol.types import Range, TextDocumentContentChangeEvent

from codegen.errors import InputError
from codegen.methods.edits.sessions import View, difference
from codegen.records import Change
from codegen.server.document import TextDocument

_PAUSE_S = 1.0  # between two edits
_NEAR = 8  # lines: a change farther away is another edit
_BULK_CHARS, _BULK_LINES, _BULK_S = 200, 8, 1.5


@dataclass
class Tracker:
    """The edits of one document since it was opened.

    Changes in a row of one line are one edit, so that a pause within a word does not end it, and so
    are changes within a second of each other, at most eight lines apart.

    Attributes:
        before: the lines before the current edit; None if there is none.
        done: the edits before that one, oldest first.
    """

    before: list[str] | None = None
    done: list[Change] = field(default_factory=list)
    _line: int = 0
    _at: float = float("-inf")
    _bulk_at: float = float("-inf")

    def changing(
        self, document: TextDocument, changes: Sequence[TextDocumentContentChangeEvent], now: float
    ) -> None:
        """Notes changes; called before they are applied to the document."""
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
                self.before = list(document.lines)
            self._line, self._at = place.start.line, now

    def calm(self, now: float) -> bool:
        """Whether something was edited, and no bulk change was made just now."""
        return bool(self.done or self.before is not None) and now - self._bulk_at > _BULK_S

    def changes(self, document: TextDocument, path: str) -> list[Change]:
        """All edits, oldest first, with their lines in the current document."""
        done, before = self.done, self.before
        if before is not None:
            done = _with_difference(done, before, document.lines)
        return [change._replace(path=path) for change in done]

    def _close(self, document: TextDocument, path: str) -> None:
        self.done = self.changes(document, path)[-3 * View().hunks :]
        self.before = None


def _with_difference(
    done: Sequence[Change], before: Sequence[str], after: Sequence[str]
) -> list[Change]:
    """The edits and those between two states; earlier ones move with their lines."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
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
