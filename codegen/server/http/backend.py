"""What the dialects share: from a dialect's request to the engine's answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial

from starlette.requests import Request

from codegen.server.engine import CompletionEngine
from codegen.server.filters import clean
from codegen.server.http.slots import Slots
from codegen.server.http.stream import Pieces
from codegen.server.requests import Completion, CompletionRequest, DocumentKey, Snippet
from codegen.server.secrets import is_secret

_UNNAMED = DocumentKey("", "", "")


@dataclass
class Backend:
    """The engine and what is known of HTTP clients.

    Attributes:
        engine: shared by all servers of this process.
        slots: of documents without names.
        exclude: the user's patterns of files that are not looked at.
    """

    engine: CompletionEngine
    slots: Slots = field(default_factory=Slots)
    exclude: tuple[str, ...] = ()

    async def complete(
        self, request: Request, asked: CompletionRequest, on_text: asyncio.Queue[str] | None = None
    ) -> Completion:
        """Completes in a document's own cache; nothing for a file that is not looked at."""
        if asked.path and is_secret(asked.path, self.exclude):
            self.engine.metrics.count("excluded")
            return Completion(())
        snippets = [s for s in asked.snippets if not is_secret(s.name, self.exclude)]
        asked = replace(asked, snippets=tuple(snippets))
        put = on_text.put_nowait if on_text is not None else None
        client = client_of(request)
        if asked.path:
            key = DocumentKey(client, asked.key.workspace, asked.path)
            return await self.engine.complete(replace(asked, key=key), put)
        slot, other = self.slots.take(client, asked.prefix, asked.suffix)
        key = DocumentKey(client, "", slot)
        try:
            if other:
                self.engine.close(key)
            return await self.engine.complete(replace(asked, key=key), put)
        finally:
            self.slots.release(client, slot)

    def warm_up(self, request: Request, asked: CompletionRequest) -> None:
        """Has an unnamed document's context encoded when there is nothing else to do."""
        client = client_of(request)
        slot, other = self.slots.take(client, asked.prefix, asked.suffix)
        self.slots.release(client, slot)
        key = DocumentKey(client, "", slot)
        if other:
            self.engine.close(key)
        self.engine.warm_up(replace(asked, key=key))

    async def stream(
        self, request: Request, asked: CompletionRequest
    ) -> AsyncIterator[str | Completion]:
        """Pieces of the first candidate's text as they come, and last the whole answer."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        cleaner = None
        if asked.multiline is not None:
            cleaner = partial(
                clean, prefix=asked.prefix, suffix=asked.suffix, language=asked.language
            )
        pieces = Pieces(cleaner)
        task = asyncio.ensure_future(self.complete(request, asked, queue))
        try:
            while not task.done() or not queue.empty():
                getter = asyncio.ensure_future(queue.get())
                await asyncio.wait({task, getter}, return_when=asyncio.FIRST_COMPLETED)
                if not getter.done():
                    getter.cancel()
                    continue
                if piece := pieces.push(getter.result()):
                    yield piece
            answer = task.result()
            if piece := pieces.rest(answer.text):
                yield piece
            yield answer
        finally:
            task.cancel()


def client_of(request: Request) -> str:
    """Who asks: what the client calls itself."""
    headers = request.headers
    name = headers.get("x-client-id") or headers.get("user-agent") or "unknown"
    return f"http {name[:120]}"


def unnamed() -> DocumentKey:
    """The key of a request that :class:`Backend` gives its own."""
    return _UNNAMED


def in_workspace(name: str) -> DocumentKey:
    """The same for a document of a workspace."""
    return DocumentKey("", name, "")


def snippets(pairs: list[tuple[str, str]]) -> tuple[Snippet, ...]:
    """Named texts of other files, empty ones left out."""
    return tuple(Snippet(name, text) for name, text in pairs if text.strip())
