"""The language server: inline completions (LSP 3.18) over standard input and output.

pygls implements the protocol, with two exceptions: messages are read here, with limits and recovery
from malformed ones, and only :class:`codegen.server.editor.session.EditorSession` stores documents
(see :mod:`codegen.server.context.document` for the reason).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from lsprotocol import types
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcParseError,
)
from pygls.io_ import StdoutWriter
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol
from pygls.protocol.language_server import lsp_method

from codegen import __version__
from codegen.core.errors import CodegenError
from codegen.server.completion.engine import CompletionEngine
from codegen.server.completion.requests import CompletionResult, ServerLimits, Status
from codegen.server.context.document import ENCODINGS, Encoding, units
from codegen.server.context.sources import WATCHED
from codegen.server.editor.session import EditorSession, SelectedCompletion, Snapshot
from codegen.server.next_edits.proposals import NextEditor, Proposal

log = logging.getLogger("codegen.server.editor.lsp")

STATUS = "$/codegen/status"
CERTAIN_ANSWER = "$/codegen/certainAnswer"
INLINE_EDIT = "textDocument/copilotInlineEdit"
ACCEPTED = "github.copilot.didAcceptCompletionItem"
_SECTION = "codegen"
_TRIGGERS = [".", "(", "[", " ", "=", ":", ",", "\n"]
_LABEL = 80
_WORD = re.compile(r"\w*\Z")

_LINE_BYTES = 4096
_HEADERS = 32
_BLOCK = 1 << 16
_DISCARDED = 1 << 30  # maximum bytes of a message to read and discard


@dataclass(frozen=True, slots=True)
class MalformedMessage:
    """Message that cannot be read; ``reason`` is one line for the response."""

    reason: str


def read_message(stream: BinaryIO, most: int) -> bytes | MalformedMessage | None:
    """Reads the next message's body from a blocking stream; returns None at its end.

    A body of more than ``most`` bytes is read and discarded.
    """
    length: int | None = None
    for _ in range(_HEADERS):
        line = stream.readline(_LINE_BYTES)
        if not line:
            return None
        if line in (b"\r\n", b"\n"):
            if length is None:
                continue  # blank lines before the headers, or headers without a length
            break
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = int(value) if len(value.strip()) <= 15 else _DISCARDED + 1
    if length is None:
        return MalformedMessage("The headers lack Content-Length.")
    if length > most:
        return _discard(stream, length, most)
    body = stream.read(length)
    return body if len(body) == length else None


def _discard(stream: BinaryIO, length: int, most: int) -> MalformedMessage | None:
    if length > _DISCARDED:
        return None
    while length:
        block = stream.read(min(length, _BLOCK))
        if not block:
            return None
        length -= len(block)
    return MalformedMessage(f"The message exceeds {most} bytes.")


def _to_session_alone(method: str) -> Any:
    """Returns a handler of document messages that bypasses pygls's own copy of the document."""

    @lsp_method(method)
    def handler(self: Protocol, params: Any) -> Iterator[Any]:
        yield self.fm.features[method], (params,), None

    return handler


class Protocol(LanguageServerProtocol):
    """pygls's protocol without document copies; no message can stop the server.

    Attributes:
        only_utf16: whether columns are always in UTF-16 code units, regardless of the editor's
            offer, because some next-edit clients assume it.
    """

    only_utf16 = False

    lsp_text_document__did_open = _to_session_alone(types.TEXT_DOCUMENT_DID_OPEN)
    lsp_text_document__did_change = _to_session_alone(types.TEXT_DOCUMENT_DID_CHANGE)
    lsp_text_document__did_close = _to_session_alone(types.TEXT_DOCUMENT_DID_CLOSE)

    async def take(self, message: bytes | MalformedMessage) -> None:
        """Handles one message, or responds with an error.

        The handler's first step finishes before the next message is read, so that a request refers
        to the text when it arrived.
        """
        if isinstance(message, MalformedMessage):
            self._refuse(None, JsonRpcInvalidRequest(message.reason))
            return
        try:
            data = json.loads(message)
        except (ValueError, RecursionError):
            self._refuse(None, JsonRpcParseError("The message is not valid JSON."))
            return
        if not isinstance(data, dict) or data.get("jsonrpc") != "2.0":
            self._refuse(None, JsonRpcInvalidRequest("The message is not a JSON-RPC 2.0 object."))
            return
        number = data.get("id") if isinstance(data.get("id"), (int, str)) else None
        if self.only_utf16 and data.get("method") == types.INITIALIZE:
            with suppress(KeyError, TypeError, AttributeError):
                data["params"]["capabilities"]["general"].pop("positionEncodings", None)
        try:
            structured: Any = self.structure_message(data)
            self.handle_message(structured)
        except JsonRpcException:
            if number is not None and "method" in data:
                self._refuse(number, JsonRpcInvalidParams("The parameters are invalid."))
        except Exception as error:  # noqa: BLE001 - no message may stop the server
            # The error's message may quote the document.
            log.error("A message could not be handled: %s.", type(error).__name__)
        await asyncio.sleep(0)

    def _refuse(self, number: int | str | None, error: JsonRpcException) -> None:
        answer = {"code": error.code, "message": error.message}
        self._send_data({"jsonrpc": "2.0", "id": number, "error": answer})


def add_features(server: LanguageServer, session: EditorSession) -> None:
    """Registers all features on a server."""
    _add_documents(server, session)
    _add_settings(server, session)
    _add_inline(server, session)
    if session.next_edits:
        _add_next_edits(server, session)

    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        session.workspace_uri = params.root_uri or ""
        folders = [folder.uri for folder in params.workspace_folders or ()]
        for uri in folders or [session.workspace_uri]:
            session.workspace.add(uri)
        encoding = server.workspace.position_encoding
        chosen = encoding.value if isinstance(encoding, types.PositionEncodingKind) else encoding
        known: dict[str, Encoding] = {name: name for name in ENCODINGS}
        session.encoding = known.get(str(chosen), "utf-16")
        options = params.initialization_options
        session.configure(options)
        inline = getattr(params.capabilities.text_document, "inline_completion", None)
        if inline is None:
            _add_list(server, session)
            return
        wanted = options if isinstance(options, dict) else {}
        session.has_inline_edits = wanted.get("inlineEdits") is True
        if wanted.get("certainAnswers") is True:
            session.on_certain = lambda snapshot, answer: server.protocol.notify(
                CERTAIN_ANSWER, _certain_answer(snapshot, answer)
            )


def _add_documents(server: LanguageServer, session: EditorSession) -> None:
    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: types.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        session.open(document.uri, document.language_id, document.version, document.text)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(params: types.DidChangeTextDocumentParams) -> None:
        document = params.text_document
        session.change(document.uri, document.version, params.content_changes)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: types.DidCloseTextDocumentParams) -> None:
        session.close(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def did_save(params: types.DidSaveTextDocumentParams) -> None:
        session.workspace.changed(params.text_document.uri)

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def did_change_files(params: types.DidChangeWatchedFilesParams) -> None:
        for change in params.changes:
            session.workspace.changed(change.uri)

    @server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    def did_change_folders(params: types.DidChangeWorkspaceFoldersParams) -> None:
        for folder in params.event.removed:
            session.workspace.remove(folder.uri)
        for folder in params.event.added:
            session.workspace.add(folder.uri)
        session.forget_snippets()


def _add_settings(server: LanguageServer, session: EditorSession) -> None:
    def take(given: Any) -> None:
        for line in session.configure(given):
            message = types.LogMessageParams(types.MessageType.Warning, f"codegen: {line}.")
            server.window_log_message(message)

    async def watch() -> None:
        """Requests reports of files that change on disk, if the editor supports them."""
        workspace = server.client_capabilities.workspace
        watched = workspace.did_change_watched_files if workspace else None
        if watched is None or not watched.dynamic_registration:
            return
        watchers = [types.FileSystemWatcher(glob) for glob in (WATCHED, "**/.gitignore")]
        options = types.DidChangeWatchedFilesRegistrationOptions(watchers)
        method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
        registration = types.Registration("codegen-files", method, options)
        await server.client_register_capability_async(types.RegistrationParams([registration]))

    async def pull() -> None:
        workspace = server.client_capabilities.workspace
        if workspace is None or not workspace.configuration:
            return
        item = types.ConfigurationItem(section=_SECTION)
        found = await server.workspace_configuration_async(types.ConfigurationParams([item]))
        if found and found[0]:
            take(found[0])

    @server.feature(types.INITIALIZED)
    async def initialized(_: types.InitializedParams) -> None:
        session.start(lambda status: server.protocol.notify(STATUS, asdict(status)))
        await pull()
        await watch()

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def did_change_configuration(params: types.DidChangeConfigurationParams) -> None:
        if params.settings:
            take(params.settings)
        else:
            await pull()


def _add_inline(server: LanguageServer, session: EditorSession) -> None:
    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline_completion(
        params: types.InlineCompletionParams,
    ) -> types.InlineCompletionList | None:
        automatic = params.context.trigger_kind == types.InlineCompletionTriggerKind.Automatic
        info = params.context.selected_completion_info
        selected = SelectedCompletion(info.range.start, info.text) if info else None
        snapshot = session.snapshot(
            params.text_document.uri, params.position, automatic=automatic, selected=selected
        )
        answer = await session.complete(snapshot, automatic=automatic) if snapshot else None
        if answer is None:
            return None
        place = info.range if info else types.Range(params.position, params.position)
        before = info.text if info else ""
        items = [
            types.InlineCompletionItem(before + candidate.text, range=place)
            for candidate in answer.candidates
        ]
        asked = (params.text_document.uri, params.position)
        is_wanted = not info and not (items and automatic)
        if is_wanted and (found := await session.inline_edit(*asked)):
            command = types.Command("Accept", ACCEPTED, arguments=[found.id])
            items.append(types.InlineCompletionItem(found.text, range=found.place, command=command))
        return types.InlineCompletionList(items)


def _add_next_edits(server: LanguageServer, session: EditorSession) -> None:
    """Registers edits beyond the cursor, in the protocol of GitHub's Copilot language server.

    Clients such as sidekick.nvim send the request, apply the edit and run the command. For other
    editors, the edit is also a code action.
    """
    next_edits = session.next_edits
    assert next_edits

    @server.feature(INLINE_EDIT)
    async def inline_edit(params: Any) -> dict[str, Any]:
        asked = params.textDocument
        place = types.Position(params.position.line, params.position.character)
        found = await session.next_edit(asked.uri, getattr(asked, "version", None), place)
        return {"edits": [_inline_edit(found)] if found else []}

    @server.feature("textDocument/didShowInlineEdit")
    def shown(params: Any) -> None:
        _count(session, "next_edit_shown")
        with suppress(AttributeError, LookupError, TypeError):  # no id: only counted
            next_edits.show(str(params.item.command.arguments[0]))

    @server.feature("textDocument/didFocus")
    def focus(_: Any) -> None:
        """No-op, accepted for compatibility."""

    @server.command(ACCEPTED)
    def accepted(*_: Any) -> None:
        """No-op, accepted for compatibility; the document's change shows the acceptance."""

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix]),
    )
    async def code_action(params: types.CodeActionParams) -> list[types.CodeAction]:
        """Returns the edit only for explicit requests, not for cursor moves."""
        if params.context.trigger_kind != types.CodeActionTriggerKind.Invoked:
            return []
        found = await session.next_edit(params.text_document.uri, None, params.range.start)
        if found is None:
            return []
        edit = types.WorkspaceEdit({found.uri: [types.TextEdit(found.place, found.text)]})
        return [types.CodeAction("Apply the next edit", types.CodeActionKind.QuickFix, edit=edit)]


def _count(session: EditorSession, name: str) -> None:
    if session.engine:
        session.engine.metrics.count(name)


def _inline_edit(found: Proposal) -> dict[str, Any]:
    return {
        "text": found.text,
        "textDocument": {"uri": found.uri, "version": found.version},
        "range": as_range(found.place),
        "command": {"title": "Accept", "command": ACCEPTED, "arguments": [found.id]},
    }


def as_range(place: types.Range) -> dict[str, dict[str, int]]:
    """Converts a range to the protocol's JSON."""
    return {"start": _position(place.start), "end": _position(place.end)}


def _position(position: types.Position) -> dict[str, int]:
    return {"line": position.line, "character": position.character}


def _certain_answer(snapshot: Snapshot, answer: CompletionResult) -> dict[str, Any]:
    """Returns items that replace those of an earlier completion at the same position."""
    return {
        "uri": snapshot.request.key.document,
        "position": _position(snapshot.position),
        "items": [{"insertText": candidate.text} for candidate in answer.candidates],
    }


def _add_list(server: LanguageServer, session: EditorSession) -> None:
    """Registers completion-list suggestions, for editors without inline completions."""

    @server.feature(
        types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=_TRIGGERS)
    )
    async def completion(params: types.CompletionParams) -> types.CompletionList | None:
        kind = params.context.trigger_kind if params.context else None
        automatic = kind is not None and kind != types.CompletionTriggerKind.Invoked
        position = params.position
        snapshot = session.snapshot(params.text_document.uri, position, automatic=automatic)
        answer = await session.complete(snapshot, automatic=automatic) if snapshot else None
        if snapshot is None or answer is None:
            return None
        found = _WORD.search(snapshot.request.prefix)
        word = found.group() if found else ""
        start = types.Position(position.line, position.character - units(word, session.encoding))
        place = types.Range(start, position)
        items = [
            _item(word + candidate.text, place, number)
            for number, candidate in enumerate(answer.candidates)
        ]
        return types.CompletionList(is_incomplete=True, items=items)


def _item(text: str, place: types.Range, number: int) -> types.CompletionItem:
    label = text.strip().partition("\n")[0][:_LABEL]
    return types.CompletionItem(
        label=label,
        kind=types.CompletionItemKind.Snippet,
        detail="codegen",
        documentation=text if "\n" in text else None,
        filter_text=text.partition("\n")[0],
        sort_text=f"~{number}",
        insert_text_format=types.InsertTextFormat.PlainText,
        insert_text_mode=types.InsertTextMode.AsIs,
        text_edit=types.TextEdit(place, text),
    )


def serve_stdio(
    load: Callable[[], CompletionEngine],
    exclude: tuple[str, ...] = (),
    next_edits: NextEditor | None = None,
) -> None:
    """Serves one editor until it exits or closes the stream.

    Args:
        load: creates the engine; called in a thread while the editor is served.
        exclude: path patterns of files without completions.
        next_edits: proposes edits beyond the cursor.
    """
    source, sink = private_streams()
    code = asyncio.run(_serve(source, sink, load, exclude, next_edits))
    # Exit immediately, because a thread may still wait for the editor's next byte.
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Reserves standard input and output for the protocol; libraries' output goes to the log."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return source, sink


async def _serve(
    source: BinaryIO,
    sink: BinaryIO,
    load: Callable[[], CompletionEngine],
    exclude: tuple[str, ...],
    next_edits: NextEditor | None,
) -> int:
    server = LanguageServer("codegen", __version__, protocol_cls=Protocol)
    protocol = server.protocol
    assert isinstance(protocol, Protocol)
    protocol.only_utf16 = next_edits is not None
    protocol.set_writer(StdoutWriter(sink))
    session = EditorSession(ServerLimits(), exclude, next_edits=next_edits)
    add_features(server, session)
    messages: asyncio.Queue[bytes | MalformedMessage | None] = asyncio.Queue()
    read_in_thread(source, messages, read_message, session.limits.body_bytes)
    loading = asyncio.ensure_future(load_model(session, load))
    try:
        while (message := await messages.get()) is not None:
            await protocol.take(message)
        return 1  # the stream ended without an exit message
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        return 1
    finally:
        loading.cancel()
        session.workspace.close()
        if next_edits:
            next_edits.outcomes.close()
        if session.engine:
            log.info("%s", session.engine.metrics.line())


async def load_model(session: EditorSession, load: Callable[[], CompletionEngine]) -> None:
    """Loads the model in a thread."""
    await asyncio.sleep(0)
    try:
        engine = await asyncio.to_thread(load)
    except CodegenError as error:
        log.error("%s", error)
        session.fail(str(error))
        return
    session.use(engine)
    source, loop = engine.source, asyncio.get_running_loop()

    def show(status: Status) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(session.report, status.kind, status.message, status.busy)

    source.on_status = show
    session.report(source.status.kind, source.status.message, source.status.busy)


def read_in_thread(
    source: BinaryIO,
    messages: asyncio.Queue[bytes | MalformedMessage | None],
    read_one: Callable[[BinaryIO, int], bytes | MalformedMessage | None],
    most: int,
) -> None:
    """Queues messages of at most ``most`` bytes from a stream, and None at the stream's end."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        message: bytes | MalformedMessage | None = b""
        while message is not None:
            try:
                message = read_one(source, most)
            except (OSError, ValueError):
                message = None
            try:
                loop.call_soon_threadsafe(messages.put_nowait, message)
            except RuntimeError:  # the loop is closed
                return

    threading.Thread(target=read, name="editor", daemon=True).start()
