"""The engine for HTTP clients: a :class:`CompletionService` for all API dialects.

Documents without names are recognized by their lines (:class:`DocumentMatcher`), requests are
cancelled when the client disconnects, and text is streamed once it is final
(:class:`ChunkSplitter`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from starlette.requests import Request

from codegen.core.records import Edit
from codegen.core.secret_scan import is_secret
from codegen.edits.formats import window_text
from codegen.server.completion.engine import CompletionEngine
from codegen.server.completion.requests import CompletionRequest, CompletionResult, DocumentKey
from codegen.server.context.sources import language_of
from codegen.server.next_edits.proposals import NextEditor

T = TypeVar("T")

_SLOTS = 8  # per client
_CLIENTS = 64
_LINES = 64  # lines nearest to the cursor that are compared
_ALIKE = 0.5


class DocumentMatcher:
    """Recognizes documents without names by their text.

    A request goes to the slot whose latest text shares the most lines with it, if at least half of
    them; else to a new slot or, if all exist, the least recently used one. A slot in use gets no
    second request, so that parallel requests do not cancel each other. Only hashes of the lines are
    kept, so that a client cannot fill the memory.
    """

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[str, frozenset[int]]] = OrderedDict()
        self._busy: set[DocumentKey] = set()

    def take(self, client: str, prefix: str, suffix: str = "") -> tuple[DocumentKey, bool]:
        """Returns a slot's key, and True if its document changed; :meth:`release` frees slots."""
        known = self._clients.setdefault(client, OrderedDict())
        self._clients.move_to_end(client)
        lines = _lines(prefix, suffix)
        free = [name for name in known if DocumentKey(client, "", name) not in self._busy]
        alike = {name: len(lines & known[name]) / max(1, len(lines)) for name in free}
        best = max(free, key=lambda name: alike[name], default=None)
        if best is not None and alike[best] >= _ALIKE:
            name, other = best, False
        elif len(known) >= _SLOTS and free:
            name, other = free[0], True
        else:
            name, other = f"slot-{len(known)}", True
            while name in known:
                name += "'"
        known[name] = lines
        known.move_to_end(name)
        key = DocumentKey(client, "", name)
        self._busy.add(key)
        self._trim()
        return key, other

    def release(self, key: DocumentKey) -> None:
        """Frees a slot."""
        self._busy.discard(key)

    def _trim(self) -> None:
        while len(self._clients) > _CLIENTS:
            oldest = next(iter(self._clients))
            if any(key.client == oldest for key in self._busy):
                self._clients.move_to_end(oldest)
                return
            del self._clients[oldest]


def _lines(prefix: str, suffix: str) -> frozenset[int]:
    before = prefix.splitlines()[-_LINES:-1]
    after = suffix.splitlines()[1 : _LINES // 2]
    found = frozenset(hash(line) for line in (*before, *after) if line.strip())
    return found or frozenset({hash(prefix[:40])})


class ClientDisconnected(Exception):
    """The client disconnected before the response."""


@dataclass
class CompletionService:
    """The engine, with the state of HTTP clients.

    Attributes:
        slots: slots of documents without names.
        exclude: user's path patterns of files without completions.
        next_edits: handles editors' prompts for next edits; None passes them to the model
            unchanged.
    """

    engine: CompletionEngine
    slots: DocumentMatcher = field(default_factory=DocumentMatcher)
    exclude: tuple[str, ...] = ()
    next_edits: NextEditor | None = None

    async def complete(self, request: Request, asked: CompletionRequest) -> CompletionResult:
        """Completes with the document's cache; returns no candidates if the file may have secrets.

        Args:
            request: the HTTP request, whose client may disconnect.
            asked: the completion request; its key sets only the workspace, not client and document.

        Raises:
            ClientDisconnected: if the client disconnects.
        """
        return await unless_left(request, self._complete(client_of(request), asked))

    async def stream(
        self, request: Request, asked: CompletionRequest
    ) -> AsyncIterator[str | CompletionResult]:
        """Yields chunks of the first candidate's text, then the whole completion."""
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        pieces = ChunkSplitter(None if asked.multiline is None else asked.shown)
        work = self._complete(client_of(request), asked, queue.put_nowait)
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (text := await queue.get()) is not None:
                if piece := pieces.push(text):
                    yield piece
            answer = await task
            if piece := pieces.rest(answer.text):
                yield piece
            yield answer
        finally:
            task.cancel()

    def warm_up(self, request: Request, asked: CompletionRequest) -> None:
        """Encodes an unnamed document's context when the engine is idle."""
        key = self._slot(client_of(request), asked)
        self.slots.release(key)
        self.engine.warm_up(replace(asked, key=key))

    async def next_edit(self, editor: NextEditor, request: Request, state: Edit) -> str:
        """Returns the edit state's window with the next edit applied; unchanged if none is worth
        showing or the file may contain secrets.

        Raises:
            ClientDisconnected: if the client disconnects.
        """
        if is_secret(state.path, self.exclude):
            self.engine.metrics.count("excluded")
            return window_text(state)
        key = DocumentKey(client_of(request), "", state.path)
        state = replace(state, language=language_of(state.path))
        return await unless_left(request, editor.rewrite(self.engine, key, state))

    async def _complete(
        self,
        client: str,
        asked: CompletionRequest,
        on_text: Callable[[str], None] | None = None,
    ) -> CompletionResult:
        if asked.path and is_secret(asked.path, self.exclude):
            self.engine.metrics.count("excluded")
            return CompletionResult(())
        snippets = [s for s in asked.snippets if not is_secret(s.name, self.exclude)]
        asked = replace(asked, snippets=tuple(snippets))
        if asked.path:
            key = DocumentKey(client, asked.key.workspace, asked.path)
            return await self.engine.complete(replace(asked, key=key), on_text)
        key = self._slot(client, asked)
        try:
            return await self.engine.complete(replace(asked, key=key), on_text)
        finally:
            self.slots.release(key)

    def _slot(self, client: str, asked: CompletionRequest) -> DocumentKey:
        """Returns the slot key of an unnamed document; the caller must release it."""
        key, other = self.slots.take(client, asked.prefix, asked.suffix)
        if other:
            self.engine.close(key)
        return key


def client_of(request: Request) -> str:
    """Returns the name that a client sent for itself."""
    headers = request.headers
    name = headers.get("x-client-id") or headers.get("user-agent") or "unknown"
    return f"http {name[:120]}"


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Runs ``work``, and cancels it when the client disconnects.

    Raises:
        ClientDisconnected: if the client disconnects.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task})
        raise ClientDisconnected
    finally:
        watch.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class ChunkSplitter:
    """Splits text that is still being decoded into chunks that will not change.

    Args:
        clean: function applied to the whole text at the end; a complete line is shown if the
            cleaned text contains it. None shows everything immediately.
    """

    def __init__(self, clean: Callable[[str], str] | None = None) -> None:
        self._clean = clean
        self._text = ""
        self._shown = ""

    def push(self, piece: str) -> str:
        """Appends a chunk; returns the text that can be shown."""
        self._text += piece
        if self._clean is None:
            self._shown = self._text
            return piece
        whole = self._text[: self._text.rfind("\n") + 1]
        return self.rest(self._clean(whole)) if whole.strip() else ""

    def rest(self, text: str) -> str:
        """Returns the part of a text that has not been shown."""
        if not text.startswith(self._shown):
            return ""
        piece, self._shown = text[len(self._shown) :], text
        return piece
