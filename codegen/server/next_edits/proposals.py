"""Proposals of the next edit in an open document.

:class:`NextEditor` prompts the engine's model in one format (:mod:`codegen.edits.formats`),
unless there were no edits or a large paste. It drops responses that change nothing or only
whitespace, delete everything shown, undo the last edit, were rejected before, break a Python file's
syntax, are truncated or not in the format. A proposal belongs to one version of a document, and is
invalid after a change.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, cast

from lsprotocol.types import Position, Range, TextDocumentContentChangeEvent

from codegen.core.records import Edit
from codegen.edits import formats
from codegen.edits.expected_edits import due_lines
from codegen.edits.sessions import View, apply, breaks, difference, lines_of, undone
from codegen.server.completion.postprocess import safe_text
from codegen.server.completion.requests import DocumentKey
from codegen.server.completion.upstream import Upstream
from codegen.server.context.document import OutOfStep, TextDocument, units
from codegen.server.next_edits.answers import MOST_TOKENS, answer
from codegen.server.next_edits.history import (
    Outcomes,
    Tracker,
    Watched,
    hidden_lines,
    is_clean,
    redacted,
)

if TYPE_CHECKING:
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.model import CompletionModel

_MOST_LINES, _MOST_WIDTH = 50_000, 240  # lines per file, characters per line on average
_REMEMBERED = 20  # rejected proposals to remember
SEEN_S = 1.0  # time on the screen after which a proposal counts as seen
_CHARS_A_TOKEN = 3
_MOST_JUMPS = 2  # maximum lines far from the cursor to query
VIEWS = (View(), View(6, 6, 4, 500), View(4, 4, 2, 300))
"""Views of the document for the prompt, largest first; the first that fits is used."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Proposed edit of one document version.

    Attributes:
        id: identifier for clients that report showing or accepting it.
        uri, version: the document and its version.
    """

    id: str
    uri: str
    version: int
    place: Range
    text: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """An edit worth showing: lines of a file and their replacement.

    Attributes:
        edit: the edit state in the prompt; its window contains the lines.
        after: the window's new text.
        lines: range of the changed lines, from 0, end exclusive.
        old, new: text of the lines before and after.
        hidden: lines of the file that must not be logged.
    """

    edit: Edit
    after: str
    lines: tuple[int, int]
    old: str
    new: str
    hidden: Collection[str] = frozenset()


@dataclass
class _Made:
    """A proposal that was sent to the client.

    Attributes:
        change: key of the proposal if it is rejected: URI, old lines, new lines.
        text: the document's text with the proposal, with newlines as line ends.
        count: increments a counter.
        shown_at: time when it appeared on the screen; infinity if the client did not report it.
    """

    id: str
    change: tuple[str, str, str]
    text: str
    count: Callable[[str], None]
    shown_at: float = float("inf")


class NextEditor:
    """Proposes next edits for the documents of one session, with prompts in one format.

    Args:
        load: opens the engine of a separate next-edit model; called in a thread at the first
            request. None uses the session's engine.
        outcomes: records the outcomes of proposals; by default they are only counted.
        min_probability: minimum probability of an edit that is shown; None for the model's default
            (:attr:`codegen.models.ModelCard.min_probability`).

    Attributes:
        trackers: the edits of the open documents, by URI.
        rejected: latest rejected proposals: URI, old lines, new lines.
    """

    def __init__(
        self,
        form: formats.EditFormat,
        load: Callable[[], CompletionEngine] | None = None,
        outcomes: Outcomes | None = None,
        min_probability: float | None = None,
    ) -> None:
        self.form, self.min_probability = form, min_probability
        self._load = load
        self.outcomes = outcomes or Outcomes()
        self._loading: asyncio.Future[CompletionEngine] | None = None
        self.trackers: dict[str, Tracker] = {}
        self.rejected: deque[tuple[str, str, str]] = deque(maxlen=_REMEMBERED)
        self._pending: dict[str, _Made] = {}  # by URI: the latest, until the document changes
        self._numbers = count(1)

    def forget(self, uri: str, *, is_lost: bool = False) -> None:
        """Drops a document's edits when it is opened or closed, or its text is lost."""
        self.trackers.pop(uri, None)
        self._pending.pop(uri, None)
        self.outcomes.close(uri, is_lost=is_lost)

    def changing(
        self, uri: str, document: TextDocument, changes: Sequence[TextDocumentContentChangeEvent]
    ) -> bool:
        """Records changes before they are applied; returns True if they accept the proposal.

        Changes accept a proposal if they produce its text, however the editor splits them. A
        proposal that was seen and not accepted counts as rejected.
        """
        now = time.monotonic()
        self.trackers.setdefault(uri, Tracker()).changing(document, changes, now)
        self.outcomes.changing(uri, now)
        pending = self._pending.get(uri)
        if pending is None:
            return False
        texts = list(_texts(document, changes))
        if not texts or texts[-1] == _plain(document.text):  # no change
            return False
        del self._pending[uri]
        taken = any(text.rstrip("\n") == pending.text.rstrip("\n") for text in texts)
        if taken:
            self.outcomes.accept(pending.id, now)
            pending.count("next_edit_accepted")
        elif now - pending.shown_at >= SEEN_S:
            self.rejected.append(pending.change)
        return taken

    def show(self, id_: str) -> None:
        """Records the client's report that a proposal is on the screen."""
        self.outcomes.show(id_)
        for made in self._pending.values():
            if made.id == id_:
                made.shown_at = min(made.shown_at, time.monotonic())

    async def propose(
        self,
        engine: CompletionEngine,
        key: DocumentKey,
        document: TextDocument,
        position: Position,
        path: str,
        language: str,
    ) -> Proposal | None:
        """Returns the next edit; None if none is worth showing.

        Searches around the position, and jumps to other lines where the program shows that a change
        is expected (:func:`codegen.edits.expected_edits.due_lines`).

        Raises:
            CodegenError: if the request was cancelled, or the model's server is unreachable.
        """
        uri, version = key.document, document.version
        tracker = self.trackers.get(uri)
        if tracker is None or not tracker.calm(time.monotonic()) or not _is_readable(document):
            return None
        text = _plain(document.text)
        changes = tracker.changes(document, path)
        if not changes:  # the user undid the edits
            return None
        cursor = len(_plain("".join(document.lines[: position.line])))
        cursor += document.offset_in_line(position)
        whole = (0, len(lines_of(text)))
        state = Edit("", path, text, tuple(changes), whole, cursor, language=language)

        def is_current() -> bool:
            is_open = self.trackers.get(uri) is tracker  # the document may have been closed
            return is_open and document.version == version and _plain(document.text) == text

        found = await self._find(engine, key, state, uri, is_current)
        return self.start_proposal(engine, found, uri, document) if found else None

    async def rewrite(self, engine: CompletionEngine, key: DocumentKey, state: Edit) -> str:
        """Returns the edit state's window with the next edit; unchanged if none is worth showing.

        For clients that send whole edit states. The window may have any number of lines; the
        history may have more changes than fit a prompt.

        Raises:
            CodegenError: as :meth:`propose`.
        """
        found = await self._find(engine, key, state) if state.history else None
        lines, top = formats.window_lines(state), state.window[0]
        if found:
            start, end = found.lines
            lines[start - top : end - top] = [found.new]
        return "".join(lines)

    async def _find(
        self,
        engine: CompletionEngine,
        key: DocumentKey,
        state: Edit,
        uri: str = "",
        is_current: Callable[[], bool] = lambda: True,
    ) -> Rewrite | None:
        """Returns the first edit worth showing, at the cursor or another line that needs one.

        Args:
            state: the edit state: its window is searched, its history contains all edits.
            uri: the document whose rejected proposals are not repeated.
            is_current: returns whether the result is still needed.
        """
        asked = await self._asked(engine)
        is_private = asked.source.remote or self.outcomes.is_written
        # In threads, because reading a long file would block other requests.
        hidden = await asyncio.to_thread(hidden_lines, state) if is_private else frozenset[str]()
        lines = lines_of(state.text)
        cursor_line = state.text.count("\n", 0, state.cursor)
        last = undone(state.history, state.text)
        for line in await asyncio.to_thread(_places, state, cursor_line):
            there = len("".join(lines[:line]))
            at = state if line == cursor_line else replace(state, cursor=there)
            edit, prompt = self._window(asked, at, line, hidden)
            if not prompt:
                continue
            is_far = line != cursor_line
            threshold = self.threshold_of(asked)
            said = await answer(self.form, asked, key, prompt, edit, threshold, is_sure=is_far)
            if not is_current():
                return None
            if said is None or said.probability < threshold:
                continue
            try:
                after = self.form.read(edit, said.text)
            except formats.Unreadable:
                engine.metrics.count("next_edit_unreadable")
                continue
            if found := self.worth_showing(engine, edit, after, uri, last):
                return replace(found, hidden=hidden)
        return None

    def _window(
        self, asked: CompletionEngine, state: Edit, line: int, hidden: Collection[str]
    ) -> tuple[Edit, str]:
        """Returns the edit state with a window around a line, and the prompt or ""."""
        edit = state
        for view in VIEWS:
            edit = _viewed(state, view, line)
            if prompt := self.prompt(asked, edit, hidden):
                shown = formats.window_text(edit)
                return edit, prompt if safe_text(shown) == shown else ""
        return edit, ""

    def threshold_of(self, engine: CompletionEngine) -> float:
        """Returns the minimum probability of an edit that is shown."""
        if self.min_probability is not None:
            return self.min_probability
        source = engine.source
        is_local = not isinstance(source, Upstream)
        return cast("CompletionModel", source).min_probability if is_local else 0.0

    async def _asked(self, shared: CompletionEngine) -> CompletionEngine:
        """Returns the engine for edits: a separate one, loaded on demand, or the shared one."""
        if self._load is None:
            return shared
        if self._loading is None:
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        return await asyncio.shield(self._loading)

    def prompt(self, engine: CompletionEngine, edit: Edit, hidden: Collection[str]) -> str:
        """Returns the prompt; empty if it is too long or must not be sent to this model.

        Args:
            hidden: lines that must not leave this machine (:func:`.history.hidden_lines`).
        """
        source = engine.source
        if source.remote:
            shown = redacted(edit, hidden)
            if shown is None:
                return ""
            edit = shown
        try:
            prompt = self.form.prompt(edit)
        except formats.Unwritable:
            return ""
        if isinstance(source, Upstream):
            tokens = len(prompt) // _CHARS_A_TOKEN
        else:
            own = (edit.text, *(part for c in edit.history for part in (c.old, c.new)))
            local = cast("CompletionModel", source)
            if any(local.prompter.control.search(part) for part in own):
                return ""  # would be tokenized as a control token
            tokens = len(local.tokenizer(prompt).input_ids)
        return prompt if tokens + MOST_TOKENS <= source.limit else ""

    def worth_showing(
        self, engine: CompletionEngine, edit: Edit, after: str, uri: str, last: str
    ) -> Rewrite | None:
        """Returns a response's change if it is worth showing.

        Args:
            last: the file without the last edit.
        """
        lines = formats.window_lines(edit)
        if safe_text(after) != after:  # a response must not add or remove invisible characters
            return None
        hunks = difference(lines, lines_of(after))
        whole = formats.with_window(edit, after)
        # A model that stops immediately does not mean to delete everything.
        is_same = "".join(after.split()) in ("", "".join("".join(lines).split()))
        if is_same or whole == last:
            engine.metrics.count("next_edit_nothing")
            return None
        start, end = hunks[0].start, hunks[-1].end
        cut = [h._replace(start=h.start - start, end=h.end - start) for h in hunks]
        old, new = "".join(lines[start:end]), "".join(apply(lines[start:end], cut))
        if (uri, old, new) in self.rejected or breaks(edit.text, whole, edit.language):
            engine.metrics.count("next_edit_dropped")
            return None
        engine.metrics.count("next_edit_proposed")
        top = edit.window[0]
        return Rewrite(edit, after, (top + start, top + end), old, new)

    def start_proposal(
        self, engine: CompletionEngine, found: Rewrite, uri: str, document: TextDocument
    ) -> Proposal:
        """Creates the proposal of an edit, and starts watching its outcome."""
        edit = found.edit
        top, bottom = found.lines
        new = with_line_ends(document.lines, top, bottom, found.new)
        last_line = len(document.lines) - 1
        ends = Position(bottom, 0)
        if bottom > last_line:
            ends = Position(last_line, units(document.lines[last_line], document.encoding))
        number = f"next-edit-{next(self._numbers)}"
        proposal = Proposal(number, uri, document.version, Range(Position(top, 0), ends), new)
        text = "".join([*document.lines[:top], new, *document.lines[bottom:]])
        change = (uri, found.old, found.new)
        made = _Made(number, change, _plain(text), engine.metrics.count)
        self._pending[uri] = made
        self.outcomes.watch(
            number,
            Watched(
                edit=redacted(edit, found.hidden) if is_clean(found.after, found.hidden) else None,
                proposed=found.after,
                uri=uri,
                document=document,
                before=lines_of(edit.text),
                after=lines_of(formats.with_window(edit, found.after)),
                lines=(top, top + len(lines_of(new))),
                window=edit.window,
                count=engine.metrics.count,
                since=time.monotonic(),
            ),
        )
        return proposal


def _viewed(state: Edit, view: View, line: int) -> Edit:
    """Returns the edit state limited to a view around a line, within its own window."""
    first, last = state.window
    top, bottom = view.window(line, last)
    return replace(state, history=view.history(state.history), window=(max(first, top), bottom))


def _places(state: Edit, line: int) -> list[int]:
    """Returns the lines around which to search for an edit; their windows do not overlap.

    The cursor's line comes first, unless it is still at the last edit and the program shows only
    other lines that need a change.
    """
    here = _viewed(state, VIEWS[0], line)
    first, last = state.window
    top, bottom = here.window
    all_due = [due for due in due_lines(here) if first <= due < last]
    seen, far = [here.window], list[int]()
    for due in all_due:
        if len(far) < _MOST_JUMPS and not any(top <= due < bottom for top, bottom in seen):
            seen.append(_viewed(state, VIEWS[0], due).window)
            far.append(due)
    stays = bool(state.history) and top <= state.history[-1].line < bottom
    is_here = any(top <= due < bottom for due in all_due)
    return [*far, line] if stays and not is_here else [line, *far]


def in_line(found: Proposal, document: TextDocument, line: int) -> Proposal | None:
    """Returns the proposal as a replacement within a line; None if that cannot express it.

    The lines of a proposal include their line ends, which such a replacement omits.
    """
    content = document.lines[line].rstrip("\r\n")
    ends = Position(line, units(content, document.encoding))
    next_line = Position(line + 1, 0)
    if found.place.start != Position(line, 0) or found.place.end not in (next_line, ends):
        return None
    if not found.text or (found.place.end == next_line and not found.text.endswith("\n")):
        return None
    text = found.text
    if found.place.end == next_line:
        text = text.removesuffix("\n").removesuffix("\r")
    return replace(found, place=Range(Position(line, 0), ends), text=text)


def least_tokens(form: formats.EditFormat) -> int:
    """Returns the approximate minimum number of tokens of a prompt and its response."""
    return len(form.render(Edit("", "", ""))) // _CHARS_A_TOKEN + MOST_TOKENS


def _plain(text: str) -> str:
    r"""Converts line ends to ``\n``."""
    return text.replace("\r\n", "\n")


def with_line_ends(lines: Sequence[str], top: int, bottom: int, new: str) -> str:
    """Returns a replacement for lines of a document, with the document's line ends."""
    old, made = list(lines[top:bottom]), lines_of(new)
    end = next((_end(line) for line in [*reversed(lines[:top]), *lines[top:]] if _end(line)), "\n")
    found, at = list[str](), 0
    for hunk in difference([_plain(line) for line in old], made):
        found += old[at : hunk.start]
        end = next((_end(line) for line in reversed(found) if _end(line)), end)
        replaced = [_end(line) or end for line in old[hunk.start : hunk.end]]
        for number, line in enumerate(hunk.new):
            own = replaced[min(number, len(replaced) - 1)] if replaced else end
            found.append(line.removesuffix("\n") + own if line.endswith("\n") else line)
        at = hunk.end
    return "".join([*found, *old[at:]])


def _end(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


def _texts(
    document: TextDocument, changes: Sequence[TextDocumentContentChangeEvent]
) -> Iterator[str]:
    """Yields the text after each change, until a change does not apply."""
    after = TextDocument("", document.encoding)
    after.lines, after.size = list(document.lines), document.size
    for change in changes:
        try:
            after.apply([change])
        except OutOfStep:
            return
        yield _plain(after.text)


def _is_readable(document: TextDocument) -> bool:
    r"""Returns True if the line ends, line count and line lengths are supported."""
    count = len(document.lines)
    if count > _MOST_LINES or document.size > count * _MOST_WIDTH:
        return False
    return not any(line.endswith("\r") for line in document.lines)
