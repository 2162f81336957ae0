"""The messages that the language server answers."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from codegen.server.lsp.session import Selected, Session, Snapshot
from codegen.server.mirror import ENCODINGS, Change, Encoding, Position, units
from codegen.server.requests import Completion

STATUS = "$/codegen/status"
SETTLED = "$/codegen/settled"
_SECTION = "codegen"
_TRIGGERS = [".", "(", "[", " ", "=", ":", ",", "\n"]
_LABEL = 80
_WORD = re.compile(r"\w*\Z")


def add_features(server: LanguageServer, session: Session) -> None:
    """Registers everything on a server."""
    _add_documents(server, session)
    _add_settings(server, session)
    _add_inline(server, session)
    _add_acceptance(server, session)

    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        session.workspace = params.root_uri or ""
        encoding = server.workspace.position_encoding
        chosen = encoding.value if isinstance(encoding, types.PositionEncodingKind) else encoding
        known: dict[str, Encoding] = {name: name for name in ENCODINGS}
        session.encoding = known.get(str(chosen), "utf-16")
        session.configure(params.initialization_options)
        inline = getattr(params.capabilities.text_document, "inline_completion", None)
        if inline is None:
            _add_plain(server, session)
        elif _takes_settled(params.initialization_options):
            session.on_settled = lambda snapshot, answer: server.protocol.notify(
                SETTLED, _settled(snapshot, answer)
            )


def _add_documents(server: LanguageServer, session: Session) -> None:
    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: types.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        session.open(document.uri, document.language_id, document.version, document.text)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(params: types.DidChangeTextDocumentParams) -> None:
        changes = [_change(change) for change in params.content_changes]
        session.change(params.text_document.uri, params.text_document.version, changes)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: types.DidCloseTextDocumentParams) -> None:
        session.close(params.text_document.uri)


def _add_settings(server: LanguageServer, session: Session) -> None:
    def take(given: Any) -> None:
        for line in session.configure(given):
            message = types.LogMessageParams(types.MessageType.Warning, f"codegen: {line}.")
            server.window_log_message(message)

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

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def did_change_configuration(params: types.DidChangeConfigurationParams) -> None:
        if params.settings:
            take(params.settings)
        else:
            await pull()


def _add_inline(server: LanguageServer, session: Session) -> None:
    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline_completion(
        params: types.InlineCompletionParams,
    ) -> types.InlineCompletionList | None:
        automatic = params.context.trigger_kind == types.InlineCompletionTriggerKind.Automatic
        info = params.context.selected_completion_info
        selected = Selected(_position(info.range.start), info.text) if info else None
        position = _position(params.position)
        snapshot = session.snapshot(
            params.text_document.uri, position, automatic=automatic, selected=selected
        )
        if snapshot is None:
            return None
        answer = await session.complete(snapshot, automatic=automatic)
        if answer is None:
            return None
        place = info.range if info else types.Range(params.position, params.position)
        before = info.text if info else ""
        items = [
            types.InlineCompletionItem(before + candidate.text, range=place)
            for candidate in answer.candidates
        ]
        return types.InlineCompletionList(items)


def _takes_settled(options: Any) -> bool:
    """Whether an editor says that it shows a second answer in the place of the first."""
    return isinstance(options, dict) and options.get("settled") is True


def _settled(snapshot: Snapshot, answer: Completion) -> dict[str, Any]:
    """What replaces the items of an earlier answer at a position."""
    position = snapshot.position
    return {
        "uri": snapshot.request.key.document,
        "position": {"line": position.line, "character": position.column},
        "items": [{"insertText": candidate.text} for candidate in answer.candidates],
    }


def _add_plain(server: LanguageServer, session: Session) -> None:
    """Suggestions in the editor's ordinary list, for editors without inline completion."""

    @server.feature(
        types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=_TRIGGERS)
    )
    async def completion(params: types.CompletionParams) -> types.CompletionList | None:
        kind = params.context.trigger_kind if params.context else None
        automatic = kind is not None and kind != types.CompletionTriggerKind.Invoked
        position = _position(params.position)
        snapshot = session.snapshot(params.text_document.uri, position, automatic=automatic)
        if snapshot is None:
            return None
        answer = await session.complete(snapshot, automatic=automatic)
        if answer is None:
            return None
        found = _WORD.search(snapshot.request.prefix)
        word = found.group() if found else ""
        start = types.Position(
            params.position.line, params.position.character - units(word, session.encoding)
        )
        place = types.Range(start, params.position)
        items = [
            _item(word + candidate.text, place, number)
            for number, candidate in enumerate(answer.candidates)
        ]
        return types.CompletionList(is_incomplete=True, items=items)


def _add_acceptance(server: LanguageServer, session: Session) -> None:
    """Clients that say what they show and accept, as some do beyond the standard; only counted."""
    for method, name in (
        ("textDocument/didShowCompletion", "client_shown"),
        ("textDocument/didPartiallyAcceptCompletion", "client_accepted_partly"),
    ):

        @server.feature(method)
        def count(_: Any, name: str = name) -> None:
            if session.engine:
                session.engine.metrics.count(name)


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


def _change(change: types.TextDocumentContentChangeEvent) -> Change:
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return Change(change.text)
    return Change(change.text, _position(change.range.start), _position(change.range.end))


def _position(position: types.Position) -> Position:
    return Position(position.line, position.character)
