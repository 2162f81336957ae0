"""One editor's documents and settings, and what is answered where its cursor is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from codegen.errors import CodegenError
from codegen.server.delay import TypingDelay
from codegen.server.engine import CompletionEngine
from codegen.server.mirror import Change, Encoding, Mirror, OutOfStep, Position
from codegen.server.requests import (
    Completion,
    CompletionRequest,
    DocumentKey,
    Overloaded,
    Superseded,
)
from codegen.server.secrets import is_secret
from codegen.server.settings import Limits, Preferences

log = logging.getLogger(__name__)

_CHARS_A_TOKEN = 5
_CLIENT = "lsp"


@dataclass(frozen=True, slots=True)
class Status:
    """What an editor may show.

    Attributes:
        kind: ``Normal``, ``Inactive`` (nothing is suggested here), ``Warning`` or ``Error``.
        message: one line.
        busy: whether to wait.
    """

    kind: str
    message: str
    busy: bool = False


@dataclass
class OpenDocument:
    """A document that the editor has open.

    Attributes:
        mirror: its text; None for one that is not looked at (a secret, or too large).
        language: as the editor names it.
        delay: of automatic requests.
        in_step: false once a change could not belong to the text; until the whole text comes.
        changes: how many there have been.
    """

    mirror: Mirror | None
    language: str
    delay: TypingDelay
    in_step: bool = True
    changes: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The text at a request's place in the stream of messages.

    Attributes:
        request: for the engine.
        document: whose text it is.
        position: of the cursor.
        changes: how many there had been.
    """

    request: CompletionRequest
    document: OpenDocument
    position: Position
    changes: int


@dataclass
class Session:
    """The state of one connection.

    Attributes:
        limits: of documents and requests.
        exclude: patterns from the command line, beside the user's.
        encoding: of columns.
        workspace: the root's URI.
        on_status: is told when the status changes, once the editor is ready for it.
        status: the last.
        on_settled: is given an answer that replaces an earlier one, for an editor that can take a
            second answer. Without it every answer is settled before it is given.
    """

    limits: Limits
    exclude: tuple[str, ...] = ()
    encoding: Encoding = "utf-16"
    workspace: str = ""
    on_status: Callable[[Status], None] | None = None
    status: Status = Status("Normal", "The model is being loaded.", busy=True)
    preferences: Preferences = field(default_factory=Preferences)
    documents: dict[str, OpenDocument] = field(default_factory=dict)
    engine: CompletionEngine | None = None
    on_settled: Callable[[Snapshot, Completion], None] | None = None
    _settling: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, on_status: Callable[[Status], None]) -> None:
        """The editor is ready for messages."""
        self.on_status = on_status
        on_status(self.status)

    def report(self, kind: str, message: str) -> None:
        """The status has changed."""
        self.status = Status(kind, message)
        if self.on_status:
            self.on_status(self.status)

    # ------------------------------------------------------------------ documents

    def open(self, uri: str, language: str, version: int, text: str) -> None:
        """The editor opens a document, or sends the whole of it again."""
        self._forget(uri)
        mirror = None
        if is_secret(uri, (*self.exclude, *self.preferences.exclude)):
            self.report("Inactive", "This file is not looked at: it may hold secrets.")
        elif len(text) > self.limits.document_chars:
            self.report("Inactive", "This file is too large for completions.")
        else:
            mirror = Mirror(text, self.encoding, version)
        delay = TypingDelay(self.preferences.delay_ms / 1e3)
        self.documents[uri] = OpenDocument(mirror, language, delay)

    def change(self, uri: str, version: int | None, changes: Sequence[Change]) -> None:
        """The editor changed a document."""
        document = self.documents.get(uri)
        whole = [number for number, change in enumerate(changes) if change.start is None]
        if whole and (document is None or not document.in_step):
            language = document.language if document else ""
            self.open(uri, language, version or 0, changes[whole[-1]].text)
            document, changes = self.documents[uri], changes[whole[-1] + 1 :]
        if document is None or document.mirror is None:
            return
        document.changes += 1
        document.delay.key(time.monotonic())
        self._notice_acceptance(uri, document.mirror, changes)
        try:
            document.mirror.apply(changes, version)
        except OutOfStep as error:
            self._lose(uri, document, error.message)
        else:
            if document.mirror.size > self.limits.document_chars:
                self._lose(uri, document, "The file has become too large.")

    def close(self, uri: str) -> None:
        """The editor closed a document."""
        self._forget(uri)
        self.documents.pop(uri, None)

    def _lose(self, uri: str, document: OpenDocument, reason: str) -> None:
        """No completions until the whole text comes again: better none than wrong ones."""
        log.warning("A document is out of step: %s", reason)
        document.in_step = False
        document.mirror = None
        self._forget(uri)
        self.report("Warning", f"{reason} Close the file and open it again.")

    def _forget(self, uri: str) -> None:
        if self.engine:
            self.engine.close(self._key(uri))

    def _key(self, uri: str) -> DocumentKey:
        return DocumentKey(_CLIENT, self.workspace, uri)

    def _notice_acceptance(self, uri: str, mirror: Mirror, changes: Sequence[Change]) -> None:
        """Counts a change that took a suggestion."""
        if self.engine is None or len(changes) != 1 or len(changes[0].text) < 2:
            return
        change = changes[0]
        if change.start is None:
            return
        try:
            prefix, _ = mirror.around(change.start, 512, 0)
        except OutOfStep:
            return
        found = self.engine.suggestions(self._key(uri)).accepted(change.text, prefix)
        if found:
            how, characters = found
            self.engine.metrics.count("accepted" if how == "all" else "accepted_partly")
            self.engine.metrics.count("accepted_characters", characters)

    # ------------------------------------------------------------------ completions

    def snapshot(
        self, uri: str, position: Position, *, automatic: bool, selected: Selected | None = None
    ) -> Snapshot | None:
        """What is asked for, as the text is now; None where nothing is suggested."""
        document = self.documents.get(uri)
        preferences = self.preferences
        if not preferences.enabled or document is None or document.mirror is None:
            return None
        if preferences.languages and document.language not in preferences.languages:
            return None
        chars = self.limits.context_tokens * _CHARS_A_TOKEN
        try:
            prefix, suffix = document.mirror.around(position, chars, chars)
            if selected:
                start, _ = document.mirror.around(selected.start, chars, 0)
                prefix = start + selected.text
        except OutOfStep:  # of a change that has not come yet
            return None
        request = CompletionRequest(
            self._key(uri),
            prefix,
            suffix,
            language=document.language,
            path=uri,
            max_tokens=preferences.max_tokens,
            candidates=1 if automatic else preferences.candidates,
            multiline=preferences.multiline,  # type: ignore[arg-type] - checked when it was set
            max_lines=preferences.max_lines,
        )
        return Snapshot(request, document, position, document.changes)

    async def complete(self, snapshot: Snapshot, *, automatic: bool) -> Completion | None:
        """The answer, after a delay if nobody asked for it; None if it is not wanted any more."""
        engine, request = self.engine, snapshot.request
        if engine is None:
            return None
        if automatic and engine.suggested(request) is None:
            now = time.monotonic()
            wait = snapshot.document.delay.wait_s(now, request.prefix[-1:], engine.usual_s)
            if wait:
                # Whatever runs for an older text is given up at once, not after the delay.
                engine.cancel(request.key)
                await asyncio.sleep(wait)
        fast = replace(request, settle=self.on_settled is None)
        try:
            answer = await engine.complete(fast)
        except (Superseded, Overloaded):
            return None
        self._show(request, answer)
        if not answer.settled:
            task = asyncio.ensure_future(self._settle(snapshot, answer))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)
        return answer

    async def _settle(self, snapshot: Snapshot, first: Completion) -> None:
        """Replaces an answer in doubt if it turns out to be another one, unless a newer request or
        change comes first.
        """
        engine, document, request = self.engine, snapshot.document, snapshot.request
        if engine is None or self.on_settled is None:
            return
        try:
            answer = await engine.complete(request)
        except CodegenError:
            return
        if answer.text == first.text or self.documents.get(request.key.document) is not document:
            return
        if document.changes == snapshot.changes:
            self._show(request, answer)
            self.on_settled(snapshot, answer)

    def _show(self, request: CompletionRequest, answer: Completion) -> None:
        """Notes what is on the user's screen."""
        assert self.engine is not None
        texts = tuple(candidate.text for candidate in answer.candidates)
        self.engine.suggestions(request.key).show(request.prefix, texts)
        if texts:
            self.engine.metrics.count("shown")

    # ------------------------------------------------------------------ settings

    def configure(self, given: Any) -> list[str]:
        """Takes the editor's settings, those of ``codegen`` or all; returns what was wrong."""
        if isinstance(given, dict) and isinstance(given.get("codegen"), dict):
            given = given["codegen"]
        self.preferences, wrong = self.preferences.updated(given, self.limits)
        for document in self.documents.values():
            document.delay.longest_s = self.preferences.delay_ms / 1e3
        patterns = (*self.exclude, *self.preferences.exclude)
        for uri, document in self.documents.items():
            if document.mirror is not None and is_secret(uri, patterns):
                self._forget(uri)
                self.documents[uri] = replace(document, mirror=None)
        return wrong


@dataclass(frozen=True, slots=True)
class Selected:
    """The entry selected in the editor's own list: suggestions must go on from it.

    Attributes:
        start: of the text that the entry replaces.
        text: the entry's.
    """

    start: Position
    text: str
