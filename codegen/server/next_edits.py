"""The next edit in an open document.

:class:`NextEditor` prompts the engine's model in one format (:mod:`codegen.methods.edits.formats`),
unless nothing was edited or a lot was pasted. It drops answers that change nothing or only white
space, delete all that was shown, undo the last edit, were turned down before, break a Python file's
syntax, are cut off or not in the format. A proposal belongs to one version of a document, and is
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

from codegen.methods.edits import formats
from codegen.methods.edits.due import due_lines
from codegen.methods.edits.sessions import View, apply, breaks, difference, lines_of, undone
from codegen.records import Edit
from codegen.server.document import OutOfStep, TextDocument, units
from codegen.server.edit_answers import MOST_TOKENS, answer
from codegen.server.edit_history import Outcomes, Tracker, Watched, hidden_lines, is_clean, redacted
from codegen.server.requests import DocumentKey
from codegen.server.text import safe_text
from codegen.server.upstream import Upstream

if TYPE_CHECKING:
    from codegen.server.engine import CompletionEngine
    from codegen.server.model import CompletionModel

_MOST_LINES, _MOST_WIDTH = 50_000, 240  # per file, and its mean line
_REMEMBERED = 20  # proposals that were turned down
_SEEN_S = 1.0  # on the screen for so long, a proposal was seen
_CHARS_A_TOKEN = 3
_MOST_JUMPS = 2  # places far from the cursor at which the model is asked
VIEWS = (View(), View(6, 6, 4, 500), View(4, 4, 2, 300))
"""How much the prompt shows, from most to least; the first that fits is used."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One edit of a version of a document.

    Attributes:
        id: for clients that report what they showed or accepted.
        uri, version: the document and its version.
    """

    id: str
    uri: str
    version: int
    place: Range
    text: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """An edit worth showing: lines of a file and what they become.

    Attributes:
        edit: the moment that the model saw; its window holds the lines.
        after: the window's new text.
        lines: first and last of the changed lines, from 0, end not included.
        old, new: their texts.
        hidden: lines of the file that may not be written.
    """

    edit: Edit
    after: str
    lines: tuple[int, int]
    old: str
    new: str
    hidden: Collection[str] = frozenset()


@dataclass
class _Made:
    """A proposal that was made.

    Attributes:
        change: what would be refused: the URI, the old and the new lines.
        text: the document's with the proposal, its line ends newlines.
        count: adds to a counter.
        shown_at: when it came to the screen; infinity if the client did not report it.
    """

    id: str
    change: tuple[str, str, str]
    text: str
    count: Callable[[str], None]
    shown_at: float = float("inf")


class NextEditor:
    """Proposes next edits for the documents of one session, with prompts in one format.

    Args:
        load: makes the engine of a model for next edits alone; called in a thread at the first
            request. None uses the session's engine.
        outcomes: records what becomes of the proposals; by default they are only counted.

    Attributes:
        trackers: the edits of the open documents, by URI.
    """

    def __init__(
        self,
        form: formats.EditFormat,
        load: Callable[[], CompletionEngine] | None = None,
        outcomes: Outcomes | None = None,
    ) -> None:
        self.form = form
        self._load = load
        self.outcomes = outcomes or Outcomes()
        self._loading: asyncio.Future[CompletionEngine] | None = None
        self.trackers: dict[str, Tracker] = {}
        self._refused: deque[tuple[str, str, str]] = deque(maxlen=_REMEMBERED)
        self._pending: dict[str, _Made] = {}  # by URI: the latest, until the document changes
        self._numbers = count(1)

    def forget(self, uri: str, *, is_lost: bool = False) -> None:
        """Forgets a document's edits, when it is opened or closed, or its text is lost."""
        self.trackers.pop(uri, None)
        self._pending.pop(uri, None)
        self.outcomes.close(uri, is_lost=is_lost)

    def changing(
        self, uri: str, document: TextDocument, changes: Sequence[TextDocumentContentChangeEvent]
    ) -> bool:
        """Notes changes before they are applied; returns whether they accept the proposal.

        They do if they lead to its text, in whatever parts the editor sends them. A proposal that
        was seen and is not accepted is turned down.
        """
        now = time.monotonic()
        self.trackers.setdefault(uri, Tracker()).changing(document, changes, now)
        self.outcomes.changing(uri, now)
        pending = self._pending.get(uri)
        if pending is None:
            return False
        texts = list(_texts(document, changes))
        if not texts or texts[-1] == _plain(document.text):  # nothing was changed
            return False
        del self._pending[uri]
        taken = any(text.rstrip("\n") == pending.text.rstrip("\n") for text in texts)
        if taken:
            self.outcomes.accept(pending.id, now)
            pending.count("next_edit_accepted")
        elif now - pending.shown_at >= _SEEN_S:
            self._refused.append(pending.change)
        return taken

    def show(self, id_: str) -> None:
        """The client reports that a proposal is on the screen."""
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
        """The next edit; None if nothing is worth showing.

        It is looked for around the position, and where else the program shows that a change is due
        (:func:`codegen.methods.edits.due.due_lines`): a jump.

        Raises:
            CodegenError: if the request was given up, or the model's server is gone.
        """
        uri, version = key.document, document.version
        tracker = self.trackers.get(uri)
        if tracker is None or not tracker.calm(time.monotonic()) or not _is_readable(document):
            return None
        text = _plain(document.text)
        changes = tracker.changes(document, path)
        if not changes:  # what was typed was taken back
            return None
        cursor = len(_plain("".join(document.lines[: position.line])))
        cursor += document.offset_in_line(position)
        whole = (0, len(lines_of(text)))
        moment = Edit("", path, text, tuple(changes), whole, cursor, language=language)

        def is_current() -> bool:
            is_open = self.trackers.get(uri) is tracker  # still, or it was closed meanwhile
            return is_open and document.version == version and _plain(document.text) == text

        found = await self._find(engine, key, moment, uri, is_current)
        return self._proposal(engine, found, uri, document) if found else None

    async def rewrite(self, engine: CompletionEngine, key: DocumentKey, moment: Edit) -> str:
        """The window of a moment with the next edit in it; unchanged if none is worth showing.

        For clients that render whole moments. The window may have any number of lines; the history
        may have more changes than a prompt shows.

        Raises:
            CodegenError: as :meth:`propose`.
        """
        found = await self._find(engine, key, moment) if moment.history else None
        lines, top = formats.window_lines(moment), moment.window[0]
        if found:
            start, end = found.lines
            lines[start - top : end - top] = [found.new]
        return "".join(lines)

    async def _find(
        self,
        engine: CompletionEngine,
        key: DocumentKey,
        moment: Edit,
        uri: str = "",
        is_current: Callable[[], bool] = lambda: True,
    ) -> Rewrite | None:
        """The first edit worth showing, of those at the cursor and where else one is due.

        Args:
            moment: its window is where to look, its history all that was edited.
            uri: the document whose refused proposals are not made again.
            is_current: whether an answer is still wanted.
        """
        asked = await self._asked(engine)
        is_private = asked.model.remote or self.outcomes.is_written
        # In threads: reading a long file would keep other requests waiting.
        hidden = await asyncio.to_thread(hidden_lines, moment) if is_private else frozenset[str]()
        lines = lines_of(moment.text)
        cursor_line = moment.text.count("\n", 0, moment.cursor)
        last = undone(moment.history, moment.text)
        for line in await asyncio.to_thread(_places, moment, cursor_line):
            there = len("".join(lines[:line]))
            at = moment if line == cursor_line else replace(moment, cursor=there)
            edit, prompt = self._window(asked, at, line, hidden)
            if not prompt:
                continue
            is_far = line != cursor_line
            said = await answer(self.form, asked, key, prompt, edit, is_sure=is_far)
            if not is_current():
                return None
            if said is None:
                continue
            try:
                after = self.form.read(edit, said)
            except formats.Unreadable:
                engine.metrics.count("next_edit_unreadable")
                continue
            if found := self._worth(engine, edit, after, uri, last):
                return replace(found, hidden=hidden)
        return None

    def _window(
        self, asked: CompletionEngine, moment: Edit, line: int, hidden: Collection[str]
    ) -> tuple[Edit, str]:
        """The moment with a window around a line, and the prompt; empty if there is none."""
        edit = moment
        for view in VIEWS:
            edit = _viewed(moment, view, line)
            if prompt := self.prompt(asked, edit, hidden):
                shown = formats.window_text(edit)
                return edit, prompt if safe_text(shown) == shown else ""
        return edit, ""

    async def _asked(self, shared: CompletionEngine) -> CompletionEngine:
        """The engine that proposes edits: one of its own, loaded now if need be, or the shared."""
        if self._load is None:
            return shared
        if self._loading is None:
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        return await asyncio.shield(self._loading)

    def prompt(self, engine: CompletionEngine, edit: Edit, hidden: Collection[str]) -> str:
        """The prompt; empty if it is too long or this model may not see the text.

        Args:
            hidden: lines that another machine may not see (:mod:`.edit_redaction`).
        """
        model = engine.model
        if model.remote:
            shown = redacted(edit, hidden)
            if shown is None:
                return ""
            edit = shown
        try:
            prompt = self.form.prompt(edit)
        except formats.Unwritable:
            return ""
        if isinstance(model, Upstream):
            tokens = len(prompt) // _CHARS_A_TOKEN
        else:
            own = (edit.text, *(part for c in edit.history for part in (c.old, c.new)))
            local = cast("CompletionModel", model)
            if any(local.prompter.control.search(part) for part in own):
                return ""  # text that spells a control token would become one
            tokens = len(local.tokenizer(prompt).input_ids)
        return prompt if tokens + MOST_TOKENS <= model.limit else ""

    def _worth(
        self, engine: CompletionEngine, edit: Edit, after: str, uri: str, last: str
    ) -> Rewrite | None:
        """What an answer changes, if it is worth showing.

        Args:
            last: the file without the last edit.
        """
        lines = formats.window_lines(edit)
        if safe_text(after) != after:  # an answer must not add or remove invisible characters
            return None
        hunks = difference(lines, lines_of(after))
        whole = formats.with_window(edit, after)
        # A model that stops at once has not asked to delete all that it saw.
        is_same = "".join(after.split()) in ("", "".join("".join(lines).split()))
        if is_same or whole == last:
            engine.metrics.count("next_edit_nothing")
            return None
        start, end = hunks[0].start, hunks[-1].end
        cut = [h._replace(start=h.start - start, end=h.end - start) for h in hunks]
        old, new = "".join(lines[start:end]), "".join(apply(lines[start:end], cut))
        if (uri, old, new) in self._refused or breaks(edit.text, whole, edit.language):
            engine.metrics.count("next_edit_dropped")
            return None
        engine.metrics.count("next_edit_proposed")
        top = edit.window[0]
        return Rewrite(edit, after, (top + start, top + end), old, new)

    def _proposal(
        self, engine: CompletionEngine, found: Rewrite, uri: str, document: TextDocument
    ) -> Proposal:
        """The proposal of an edit, whose outcome is watched from now on."""
        edit = found.edit
        top, bottom = found.lines
        new = _with_ends(document.lines, top, bottom, found.new)
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


def _viewed(moment: Edit, view: View, line: int) -> Edit:
    """The moment as a view around a line shows it; no more than its own window."""
    first, last = moment.window
    top, bottom = view.window(line, last)
    return replace(moment, history=view.history(moment.history), window=(max(first, top), bottom))


def _places(moment: Edit, line: int) -> list[int]:
    """The lines around which an edit is looked for; none is in the window of another.

    The cursor's comes first, unless it is still at the last edit, and the program shows lines that
    are due, but none there.
    """
    here = _viewed(moment, VIEWS[0], line)
    first, last = moment.window
    top, bottom = here.window
    all_due = [due for due in due_lines(here) if first <= due < last]
    seen, far = [here.window], list[int]()
    for due in all_due:
        if len(far) < _MOST_JUMPS and not any(top <= due < bottom for top, bottom in seen):
            seen.append(_viewed(moment, VIEWS[0], due).window)
            far.append(due)
    stays = bool(moment.history) and top <= moment.history[-1].line < bottom
    is_here = any(top <= due < bottom for due in all_due)
    return [*far, line] if stays and not is_here else [line, *far]


def in_line(found: Proposal, document: TextDocument, line: int) -> Proposal | None:
    """The proposal as a replacement within a line; None if it replaces more or less than that.

    The lines of a proposal end with their line ends, which such a replacement leaves out.
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
    """About how many tokens a prompt and its answer take at least."""
    return len(form.render(Edit("", "", ""))) // _CHARS_A_TOKEN + MOST_TOKENS


def _plain(text: str) -> str:
    """A text whose lines end in a newline alone."""
    return text.replace("\r\n", "\n")


def _with_ends(lines: Sequence[str], top: int, bottom: int, new: str) -> str:
    """Text for some lines of a document, with their line ends and those of the lines that stay."""
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
    """The text after each of some changes, as far as they fit."""
    after = TextDocument("", document.encoding)
    after.lines, after.size = list(document.lines), document.size
    for change in changes:
        try:
            after.apply([change])
        except OutOfStep:
            return
        yield _plain(after.text)


def _is_readable(document: TextDocument) -> bool:
    r"""Whether the formats support the line ends, and lines are not too many or too long."""
    count = len(document.lines)
    if count > _MOST_LINES or document.size > count * _MOST_WIDTH:
        return False
    return not any(line.endswith("\r") for line in document.lines)
