"""One editor's documents and settings, and the completions at its cursor."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

from lsprotocol.types import (
    Position,
    TextDocumentContentChangeEvent,
    TextDocumentContentChangePartial,
)
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from codegen.core.errors import CodegenError
from codegen.core.secret_scan import is_secret
from codegen.generation import SamplingParams
from codegen.server.completion import requests
from codegen.server.completion.engine import CompletionEngine
from codegen.server.completion.postprocess import Multiline
from codegen.server.context.document import Encoding, OutOfStep, TextDocument, TypingDelay, moved
from codegen.server.context.snippets import KINDS, Kind
from codegen.server.context.workspace import Workspace
from codegen.server.next_edits.proposals import NextEditor, Proposal, in_line

log = logging.getLogger(__name__)

_CHARS_A_TOKEN = 5
_CLIENT = "lsp"
_WARM_UP_S = 0.1  # delay after a change, if no request follows
_CHOICE_S = 0.05  # maximum wait for snippets of other files
PAUSE_S = 0.5  # idle time before newly chosen snippets are shown to the model
_CONTEXT_CHARS_A_TOKEN = 3  # below the mean of code, so that the chosen snippets fit
_COMPLETE_NAME = re.compile(r"\b[^\W\d]\w*+(?=\W)")
_MOST_NAMES = 100


def _first_names(value: object) -> object:
    return tuple(value[:_MOST_NAMES]) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_first_names)]


class EditorSettings(BaseModel):
    """User's settings in the editor, in camelCase or snake_case.

    Attributes:
        max_tokens, max_lines: maximum length of a suggestion.
        candidates: number of suggestions per explicit request; automatic requests get one.
        multiline: whether a suggestion may have several lines.
        delay_ms: maximum delay of an automatic request while the user types.
        languages: if not empty, suggest only in these languages.
        exclude: path patterns of files without suggestions.
        context: kinds of snippets from other files to show to the model.
        context_share: maximum fraction of the prompt's tokens for these snippets.
        workspace_files: whether to read files that are not open; by default only if the model runs
            on this machine.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    enabled: bool = True
    max_tokens: Annotated[int, Field(ge=1)] = 64
    max_lines: Annotated[int, Field(ge=1, le=200)] = 12
    candidates: Annotated[int, Field(ge=1)] = 3
    multiline: Multiline = "auto"
    delay_ms: Annotated[int, Field(ge=0, le=2000)] = 80
    languages: Names = ()
    exclude: Names = ()
    context: Annotated[tuple[Kind, ...], BeforeValidator(_first_names)] = KINDS
    context_share: Annotated[float, Field(ge=0, le=0.5)] = 0.25
    workspace_files: bool | None = None

    @field_validator("max_tokens", "candidates")
    @classmethod
    def _within_the_server_s_limits(cls, value: int, info: ValidationInfo) -> int:
        most = getattr(info.context, info.field_name or "", value)
        if value > most:
            raise ValueError(f"at most {most}")
        return value

    def updated(
        self, given: object, limits: requests.ServerLimits
    ) -> tuple[EditorSettings, list[str]]:
        """Returns the settings updated with the editor's values, and one line per invalid value.

        An invalid setting keeps its old value, so that a typo does not stop suggestions.
        """
        wrong: list[str] = []
        known = {name: name for name in type(self).model_fields}
        known |= {to_camel(name): name for name in known}
        found: dict[str, object] = {}
        for key, value in given.items() if isinstance(given, dict) else ():
            name = known.get(key)
            if name is None:
                wrong.append(f"unknown setting {str(key)[:40]!r}")
            elif value is not None:
                try:
                    one = EditorSettings.model_validate({name: value}, context=limits)
                except ValidationError:
                    wrong.append(f"setting {key!r} has the invalid value {str(value)[:40]!r}")
                else:
                    found[name] = getattr(one, name)
        return self.model_copy(update=found), wrong


@dataclass
class OpenDocument:
    """Document open in the editor.

    Attributes:
        text: current text; None without completions (may contain secrets, too large, out of sync).
        cursor: cursor of the latest request or change, moved by later changes.
        in_step: False after a change that cannot apply, until the editor sends the whole text.
        changes: number of changes so far.
        snippets: snippets of other files that are shown to the model.
        next_snippets: newly chosen snippets, not shown yet; None if unchanged.
        chosen_at: line number, index state and names on the line at the last choice of snippets.
    """

    text: TextDocument | None
    language: str
    delay: TypingDelay
    cursor: Position | None = None
    in_step: bool = True
    changes: int = 0
    snippets: tuple[requests.Snippet, ...] = ()
    next_snippets: tuple[requests.Snippet, ...] | None = None
    chosen_at: tuple[int, int, frozenset[str]] | None = None
    latest: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Request, with the document's text when it arrived.

    Attributes:
        changes: number of document changes before the request.
    """

    request: requests.CompletionRequest
    document: OpenDocument
    position: Position
    changes: int


class SelectedCompletion(NamedTuple):
    """Selected entry of the editor's completion list, which suggestions must continue.

    Attributes:
        start: start of the text that the entry replaces.
    """

    start: Position
    text: str


@dataclass
class EditorSession:
    """State of one editor connection.

    Attributes:
        exclude: path patterns from the command line, in addition to the user's.
        encoding: unit of columns.
        workspace_uri: URI of the workspace root.
        on_status: called when the status changes, once the editor is ready.
        on_certain: called with a completion that replaces an earlier one, if the editor supports
            that; None returns only certain completions.
        next_edits: proposes edits beyond the cursor; None disables them.
        has_inline_edits: whether an inline completion may be an edit of the cursor's line.
    """

    limits: requests.ServerLimits
    exclude: tuple[str, ...] = ()
    encoding: Encoding = "utf-16"
    workspace_uri: str = ""
    workspace: Workspace = field(default_factory=Workspace)
    on_status: Callable[[requests.Status], None] | None = None
    status: requests.Status = requests.Status("Normal", "The model is being loaded.", busy=True)
    preferences: EditorSettings = field(default_factory=EditorSettings)
    documents: dict[str, OpenDocument] = field(default_factory=dict)
    engine: CompletionEngine | None = None
    on_certain: Callable[[Snapshot, requests.CompletionResult], None] | None = None
    next_edits: NextEditor | None = None
    has_inline_edits: bool = False
    _settling: set[asyncio.Task[None]] = field(default_factory=set)
    _warming: asyncio.TimerHandle | None = None
    _pausing: asyncio.TimerHandle | None = None
    _loaded: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, on_status: Callable[[requests.Status], None]) -> None:
        """Starts sending status messages; the editor is ready."""
        self.on_status = on_status
        on_status(self.status)

    def use(self, engine: CompletionEngine) -> None:
        """Sets the engine once the model is loaded."""
        self.engine, self.limits = engine, engine.limits
        self._configure_workspace()
        self._loaded.set()

    def fail(self, reason: str) -> None:
        """Reports that the model cannot be loaded."""
        self.report("Error", reason)
        self._loaded.set()

    def _configure_workspace(self) -> None:
        read = self.preferences.workspace_files
        if read is None:
            read = self.engine is None or not self.engine.source.remote
        self.workspace.configure((*self.exclude, *self.preferences.exclude), read)
        self.forget_snippets()

    def forget_snippets(self) -> None:
        """Discards other files' snippets after the settings or the workspace folders changed."""
        for document in self.documents.values():
            document.snippets, document.next_snippets, document.chosen_at = (), None, None

    def report(self, kind: str, message: str, busy: bool = False) -> None:
        """Updates the status and notifies the editor."""
        self.status = requests.Status(kind, message, busy)
        if self.on_status:
            self.on_status(self.status)

    def open(self, uri: str, language: str, version: int, text: str) -> None:
        """Opens a document, or replaces its whole text."""
        self._forget(uri)
        document = None
        if self._is_secret(uri):
            self.report("Inactive", "No completions in this file: it may contain secrets.")
        elif len(text) > self.limits.document_chars:
            self.report("Inactive", "This file is too large for completions.")
        else:
            document = TextDocument(text, self.encoding, version)
        delay = TypingDelay(self.preferences.delay_ms / 1e3)
        self.documents[uri] = OpenDocument(document, language, delay)
        if document is not None:
            self.workspace.opened(uri, document)

    def change(
        self, uri: str, version: int | None, changes: Sequence[TextDocumentContentChangeEvent]
    ) -> None:
        """Applies the editor's changes to a document."""
        document = self.documents.get(uri)
        whole = [
            number
            for number, change in enumerate(changes)
            if not isinstance(change, TextDocumentContentChangePartial)
        ]
        if whole and (document is None or not document.in_step):
            language = document.language if document else ""
            self.open(uri, language, version or 0, changes[whole[-1]].text)
            document, changes = self.documents[uri], changes[whole[-1] + 1 :]
        if document is None or document.text is None:
            return
        document.changes += 1
        if self.next_edits:
            self.next_edits.changing(uri, document.text, changes)
        document.delay.key(time.monotonic())
        try:
            document.text.apply(changes, version)
        except OutOfStep as error:
            self._lose(uri, document, error.message)
            return
        if document.text.size > self.limits.document_chars:
            self._lose(uri, document, "The file has become too large.")
            return
        for change in changes:
            if document.cursor is not None:
                document.cursor = moved(document.cursor, change, self.encoding)
            if isinstance(change, TextDocumentContentChangePartial):
                self.workspace.edited(uri, change.range.start.line)
        self._warm_up_soon(uri, document)

    def _warm_up_soon(self, uri: str, document: OpenDocument) -> None:
        """Encodes a change that no request follows, such as a rename, so that the states are exact
        for the next request.
        """
        cursor, changes = document.cursor, document.changes

        def warm_up() -> None:
            if self.documents.get(uri) is document and document.changes == changes:
                self._warm_up(uri, cursor)

        if self._warming:
            self._warming.cancel()
        if cursor is not None:
            self._warming = asyncio.get_running_loop().call_later(_WARM_UP_S, warm_up)

    def _warm_up(self, uri: str, cursor: Position | None) -> None:
        """Encodes the text around a cursor if the engine is idle."""
        if self.engine and self.engine.idle and cursor:
            snapshot = self.snapshot(uri, cursor, automatic=True)
            if snapshot is not None:
                self.engine.warm_up(snapshot.request)

    def close(self, uri: str) -> None:
        """Closes a document."""
        self._forget(uri)
        self.documents.pop(uri, None)

    def _lose(self, uri: str, document: OpenDocument, reason: str) -> None:
        """Stops completions, which would be wrong, until the editor sends the whole text."""
        log.warning("A document is out of sync: %s", reason)
        document.in_step = False
        document.text = None
        self._forget(uri, is_lost=True)
        self.report("Warning", f"{reason} Close and reopen the file.")

    def _forget(self, uri: str, *, is_lost: bool = False) -> None:
        self.workspace.closed(uri)
        if self.next_edits:
            self.next_edits.forget(uri, is_lost=is_lost)
        if self.engine:
            self.engine.close(self._key(uri))

    def _key(self, uri: str) -> requests.DocumentKey:
        return requests.DocumentKey(_CLIENT, self.workspace_uri, uri)

    def _is_secret(self, uri: str) -> bool:
        return is_secret(uri, (*self.exclude, *self.preferences.exclude))

    def _served(self, uri: str) -> OpenDocument | None:
        """Returns an open document, if the settings allow suggestions in it."""
        document, preferences = self.documents.get(uri), self.preferences
        if document is None or not preferences.enabled:
            return None
        is_wanted = not preferences.languages or document.language in preferences.languages
        return document if is_wanted else None

    def snapshot(
        self,
        uri: str,
        position: Position,
        *,
        automatic: bool,
        selected: SelectedCompletion | None = None,
    ) -> Snapshot | None:
        """Returns a request at a position in the current text; None if suggestions are disabled."""
        preferences = self.preferences
        if (document := self._served(uri)) is None or document.text is None:
            return None
        chars = self.limits.context_tokens * _CHARS_A_TOKEN
        try:
            prefix, suffix = document.text.around(position, chars, chars)
            if selected:
                start, _ = document.text.around(selected.start, chars, 0)
                prefix = start + selected.text
        except OutOfStep:  # the position refers to a change that has not arrived yet
            return None
        repository, path = self.workspace.name(uri)
        request = requests.CompletionRequest(
            self._key(uri),
            prefix,
            suffix,
            language=document.language,
            path=path,
            snippets=document.snippets,
            snippet_share=preferences.context_share,
            repository=repository,
            candidates=1 if automatic else preferences.candidates,
            params=SamplingParams(max_new_tokens=preferences.max_tokens),
            multiline=preferences.multiline,
            max_lines=preferences.max_lines,
        )
        return Snapshot(request, document, position, document.changes)

    async def complete(
        self, snapshot: Snapshot, *, automatic: bool
    ) -> requests.CompletionResult | None:
        """Returns the completion, delayed for automatic requests; None if no longer needed."""
        engine, request = self.engine, snapshot.request
        if engine is None:
            return None
        document = snapshot.document
        document.cursor, document.latest = snapshot.position, snapshot
        if self._warming:
            self._warming.cancel()
        suggested = engine.suggested(request) is not None
        chosen = None if suggested else self._choose(snapshot)
        if chosen is not None and not (automatic and document.snippets):
            await asyncio.wait({chosen}, timeout=_CHOICE_S)
            self._take_snippets(document)
            request = replace(request, snippets=document.snippets)
        self._take_snippets_soon(document)
        if automatic and not suggested:
            now = time.monotonic()
            wait = document.delay.wait_s(now, request.prefix[-1:], engine.usual_s)
            if wait:
                # Cancel the request for older text immediately, not after the delay.
                engine.cancel(request.key)
                await asyncio.sleep(wait)
        if document.latest is not snapshot:
            return None
        snapshot = replace(snapshot, request=request)
        fast = replace(request, certain=self.on_certain is None)
        try:
            answer = await engine.complete(fast)
        except (requests.Superseded, requests.Overloaded, requests.Unavailable):
            return None
        if not answer.is_certain:
            task = asyncio.ensure_future(self._replace_fast(snapshot, answer))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)
        return answer

    def _choose(self, snapshot: Snapshot) -> asyncio.Future[tuple[requests.Snippet, ...]] | None:
        """Chooses snippets of other files if, since the last choice, the cursor moved to another
        line or after a name that another file defines, or another document or the index changed;
        else returns None.
        """
        document, preferences = snapshot.document, self.preferences
        if document.text is None or not preferences.context or not preferences.context_share:
            document.snippets, document.next_snippets = (), None
            return None
        line = snapshot.request.prefix.rpartition("\n")[2]
        at = snapshot.position.line, self.workspace.updates
        names = frozenset(_COMPLETE_NAME.findall(line))
        known = document.chosen_at
        uri = snapshot.request.key.document
        stays = known and known[:2] == at and not self.workspace.behind(uri)
        if known and stays and not any(map(self.workspace.knows, names - known[2])):
            return None
        mark = document.chosen_at = (*at, names)
        whole = document.text.size
        texts = document.text.around(snapshot.position, whole, whole)
        assert self.engine is not None
        tokens = self.engine.source.limit * preferences.context_share
        room = int(tokens * _CONTEXT_CHARS_A_TOKEN)
        chosen = asyncio.wrap_future(
            self.workspace.choose(uri, document.language, texts, preferences.context, room)
        )

        def note(done: asyncio.Future[tuple[requests.Snippet, ...]]) -> None:
            if not done.cancelled() and document.chosen_at is mark:
                document.next_snippets = done.result()

        chosen.add_done_callback(note)
        return chosen

    def _take_snippets(self, document: OpenDocument) -> bool:
        """Shows the latest chosen snippets to the model; returns True if they are new."""
        chosen, document.next_snippets = document.next_snippets, None
        if chosen is None or chosen == document.snippets:
            return False
        document.snippets = chosen
        return True

    def _take_snippets_soon(self, document: OpenDocument) -> None:
        """Shows the chosen snippets once typing pauses, and encodes them: all later tokens are
        approximate until re-encoded, which must not delay the next keystroke.
        """

        def take() -> None:
            if self.documents.get(uri) is document and self._take_snippets(document):
                self._warm_up(uri, document.cursor)

        if self._pausing:
            self._pausing.cancel()
        if document.latest is not None:
            uri = document.latest.request.key.document
            self._pausing = asyncio.get_running_loop().call_later(PAUSE_S, take)

    async def _replace_fast(self, snapshot: Snapshot, first: requests.CompletionResult) -> None:
        """Replaces an uncertain completion by the certain one if they differ, unless a newer
        request or change comes first.
        """
        engine, document, request = self.engine, snapshot.document, snapshot.request
        if engine is None or self.on_certain is None:
            return
        try:
            answer = await engine.complete(request)
        except CodegenError:
            return
        if answer.text == first.text or self.documents.get(request.key.document) is not document:
            return
        if document.changes == snapshot.changes:
            self.on_certain(snapshot, answer)

    async def next_edit(self, uri: str, version: int | None, position: Position) -> Proposal | None:
        """Returns the edit proposed for a document, or None; waits until the model is loaded."""
        if self.next_edits is None:
            return None
        if self.engine is None:
            await self._loaded.wait()
        if self.engine is None:
            return None
        if (document := self._served(uri)) is None or document.text is None:
            return None
        if version is not None and version != document.text.version:
            return None  # another change has not arrived yet
        _, path = self.workspace.name(uri)
        try:
            return await self.next_edits.propose(
                self.engine, self._key(uri), document.text, position, path, document.language
            )
        except CodegenError as error:
            log.debug("No next edit: %s", error.message)
            return None

    async def inline_edit(self, uri: str, position: Position) -> Proposal | None:
        """Returns the proposed edit if it changes only the line at a position."""
        if not self.has_inline_edits or self.next_edits is None:
            return None
        found = await self.next_edit(uri, None, position)
        document = self.documents.get(uri)
        if found is None or document is None or document.text is None:
            return None
        if document.text.version != found.version:
            return None
        return in_line(found, document.text, position.line)

    def configure(self, given: object) -> list[str]:
        """Applies the editor's settings or their ``codegen`` section; returns the mistakes."""
        if isinstance(given, dict) and isinstance(given.get("codegen"), dict):
            given = given["codegen"]
        self.preferences, wrong = self.preferences.updated(given, self.limits)
        self._configure_workspace()
        for uri, document in self.documents.items():
            document.delay.longest_s = self.preferences.delay_ms / 1e3
            if document.text is not None and self._is_secret(uri):
                self._forget(uri)
                self.documents[uri] = replace(document, text=None)
        return wrong
