"""Next edits in the Agent Client Protocol (ACP): ``nes`` of its unstable schema 1.19, over standard
input and output.

A message is one line of JSON (JSON-RPC 2.0). Documents, proposals and their outcomes are those of
the language server (:class:`codegen.server.session.Session`); this module only reads and writes
messages. The Python package of the protocol has the messages' models, but its agents do not receive
``nes`` and ``document`` messages, so it only serves to test this module.

Limits: edits are the only suggestions (no jumps, renamings or replacements), columns count UTF-16,
and the context that an editor may add to a request is not read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

from lsprotocol.types import (
    Position,
    Range,
    TextDocumentContentChangeEvent,
    TextDocumentContentChangePartial,
    TextDocumentContentChangeWholeDocument,
)

from codegen import __version__
from codegen.server.engine import CompletionEngine
from codegen.server.lsp import Malformed, as_range, load_model, private_streams, read_in_thread
from codegen.server.next_edits import NextEditor, Proposal
from codegen.server.requests import ServerLimits
from codegen.server.session import Session

log = logging.getLogger(__name__)

_PROTOCOL = 1
_CAPABILITIES: dict[str, Any] = {
    "nes": {
        "events": {
            "document": {
                "didOpen": {},
                "didChange": {"syncKind": "incremental"},
                "didClose": {},
                "didSave": {},
                "didFocus": {},
            }
        }
    },
    "positionEncoding": "utf-16",
}
_PARSE, _REQUEST, _METHOD, _PARAMS, _CANCELLED = -32700, -32600, -32601, -32602, -32800
_WRONG = (AttributeError, KeyError, TypeError, ValueError)  # parameters of another shape


class Agent:
    """One editor's connection.

    Args:
        send: sends a message.
    """

    def __init__(
        self, session: Session, editor: NextEditor, send: Callable[[dict[str, Any]], None]
    ) -> None:
        self._session, self._editor, self._send = session, editor, send
        self._open: dict[str, set[str]] = {}  # session id -> URIs of its documents
        self._running: dict[int | str, asyncio.Task[None]] = {}

    async def take(self, message: bytes | Malformed) -> None:
        """Handles one message. Suggestions are looked for in a task, whose first step is done
        before the next message is read.
        """
        if isinstance(message, Malformed):
            self._refuse(None, _REQUEST, message.reason)
            return
        try:
            given = json.loads(message)
        except (ValueError, RecursionError):
            self._refuse(None, _PARSE, "The message is not valid JSON.")
            return
        if not isinstance(given, dict) or given.get("jsonrpc") != "2.0":
            self._refuse(None, _REQUEST, "The message is not a JSON-RPC 2.0 object.")
            return
        method, params = given.get("method"), given.get("params") or {}
        number = given.get("id") if isinstance(given.get("id"), (int, str)) else None
        if method is None:
            return  # a response; nothing was requested
        handler = self._handlers().get(str(method))
        if handler is None:
            if number is not None:
                self._refuse(number, _METHOD, f"There is no method {str(method)[:80]!r} here.")
            return
        try:
            result = handler(params)
        except _WRONG:
            if number is not None:
                self._refuse(number, _PARAMS, "The parameters do not fit the method.")
            return
        if number is None:
            if asyncio.iscoroutine(result):
                result.close()
        elif asyncio.iscoroutine(result):
            task = asyncio.ensure_future(self._answer(number, result))
            self._running[number] = task
            task.add_done_callback(lambda _: self._running.pop(number, None))
            await asyncio.sleep(0)
        else:
            self._send({"jsonrpc": "2.0", "id": number, "result": result or {}})

    def _refuse(self, number: int | str | None, code: int, reason: str) -> None:
        self._send({"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": reason}})

    async def _answer(self, number: int | str, work: Any) -> None:
        try:
            result = await work
        except asyncio.CancelledError:
            self._refuse(number, _CANCELLED, "The request was cancelled.")
            return
        self._send({"jsonrpc": "2.0", "id": number, "result": result})

    def _handlers(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "initialize": self._initialize,
            "nes/start": self._start,
            "nes/suggest": self._suggest,
            "nes/close": self._close,
            "nes/accept": self._accept,
            "nes/reject": self._reject,
            "document/didOpen": self._did_open,
            "document/didChange": self._did_change,
            "document/didClose": self._did_close,
            "document/didSave": self._did_save,
            "document/didFocus": lambda _: {},
            "$/cancel_request": self._cancel,
        }

    # ------------------------------------------------------------------ requests

    def _initialize(self, _: Any) -> dict[str, Any]:
        return {
            "protocolVersion": _PROTOCOL,
            "agentCapabilities": _CAPABILITIES,
            "agentInfo": {"name": "codegen", "version": __version__},
            "authMethods": [],
        }

    def _start(self, params: Any) -> dict[str, Any]:
        folders = [one["uri"] for one in params.get("workspaceFolders") or ()]
        root = params.get("workspaceUri")
        for uri in folders or ([root] if root else []):
            self._session.files.add(str(uri))
        number = uuid.uuid4().hex
        self._open[number] = set()
        return {"sessionId": number}

    def _suggest(self, params: Any) -> Any:
        self._open[params["sessionId"]]  # KeyError for an unknown one
        uri, version, at = str(params["uri"]), int(params["version"]), _position(params["position"])
        selected = params.get("selection")
        is_empty = not selected or selected["start"] == selected["end"]

        async def suggest() -> dict[str, Any]:
            found = await self._session.next_edit(uri, version, at) if is_empty else None
            return {"suggestions": [_suggestion(found)] if found else []}

        return suggest()

    def _close(self, params: Any) -> dict[str, Any]:
        for uri in self._open.pop(params["sessionId"]):
            self._session.close(uri)
        return {}

    # ------------------------------------------------------------------ notifications

    def _accept(self, params: Any) -> None:
        self._editor.decide(str(params["id"]), time.monotonic(), is_accepted=True)

    def _reject(self, params: Any) -> None:
        if params.get("reason") not in ("replaced", "cancelled"):  # else it may come again
            self._editor.decide(str(params["id"]), time.monotonic(), is_accepted=False)

    def _cancel(self, params: Any) -> None:
        task = self._running.get(params["requestId"])
        if task:
            task.cancel()

    def _did_open(self, params: Any) -> None:
        uri = str(params["uri"])
        self._open[params["sessionId"]].add(uri)
        text, language = str(params["text"]), str(params["languageId"])
        self._session.open(uri, language, int(params["version"]), text)

    def _did_change(self, params: Any) -> None:
        changes = [_change(one) for one in params["contentChanges"]]
        self._session.change(str(params["uri"]), int(params["version"]), changes)

    def _did_close(self, params: Any) -> None:
        self._open[params["sessionId"]].discard(params["uri"])
        self._session.close(str(params["uri"]))

    def _did_save(self, params: Any) -> None:
        self._session.files.changed(str(params["uri"]))


def _position(given: Any) -> Position:
    return Position(int(given["line"]), int(given["character"]))


def _change(given: Any) -> TextDocumentContentChangeEvent:
    text, place = str(given["text"]), given.get("range")
    if not place:
        return TextDocumentContentChangeWholeDocument(text)
    return TextDocumentContentChangePartial(
        Range(_position(place["start"]), _position(place["end"])), text
    )


def _suggestion(found: Proposal) -> dict[str, Any]:
    return {
        "kind": "edit",
        "id": found.id,
        "uri": found.uri,
        "edits": [{"range": as_range(found.place), "newText": found.text}],
    }


def _read_line(stream: BinaryIO, most: int) -> bytes | Malformed | None:
    """The next line; None at the end of the stream. A longer one is read and discarded."""
    line = stream.readline(most + 1)
    if len(line) <= most:
        return line or None
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 16)
    return Malformed(f"A message holds at most {most} bytes.")


def serve_stdio(
    load: Callable[[], CompletionEngine], editor: NextEditor, exclude: tuple[str, ...] = ()
) -> None:
    """Serves one editor until it closes the stream.

    Args:
        load: makes the engine of the model for next edits, in a thread.
        exclude: patterns of files that get no suggestions.
    """
    source, sink = private_streams()
    asyncio.run(_serve(source, sink, load, editor, exclude))
    # Exit at once: a thread may still wait for the editor's next byte.
    logging.shutdown()
    sys.stderr.flush()
    os._exit(0)


async def _serve(
    source: BinaryIO,
    sink: BinaryIO,
    load: Callable[[], CompletionEngine],
    editor: NextEditor,
    exclude: tuple[str, ...],
) -> None:
    def send(message: dict[str, Any]) -> None:
        sink.write(json.dumps(message).encode("ascii") + b"\n")
        sink.flush()

    session = Session(ServerLimits(), exclude, next_edits=editor)
    agent = Agent(session, editor, send)
    messages: asyncio.Queue[bytes | Malformed | None] = asyncio.Queue()
    read_in_thread(source, messages, _read_line, session.limits.body_bytes)
    loading = asyncio.ensure_future(load_model(session, load))
    with suppress(BrokenPipeError):
        while (message := await messages.get()) is not None:
            if isinstance(message, Malformed) or message.strip():
                await agent.take(message)
    loading.cancel()
    session.files.close()
    editor.outcomes.close()
