"""Answers that end when the client leaves, and answers that come piece by piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from codegen.errors import CodegenError

T = TypeVar("T")


class ClientLeft(Exception):
    """The connection was closed before there was an answer."""


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Runs ``work`` and cancels it when the client disconnects.

    Raises:
        ClientLeft: in that case.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task})
        raise ClientLeft
    finally:
        watch.cancel()
        task.cancel()


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream:
    """Server-sent events: one JSON object each, then ``[DONE]``. An ASGI application.

    Args:
        events: makes the objects; it is closed when the client disconnects.
        last: the text of the last event, None for none.
    """

    def __init__(self, events: AsyncIterator[Any], last: str | None = "[DONE]") -> None:
        self._events = events
        self._last = last

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Sends the events."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        task = asyncio.ensure_future(self._send_all(send))
        watch = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            if not task.done():
                task.cancel()
            await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()):
            raise error

    async def _send_all(self, send: Any) -> None:
        try:
            async for event in self._events:
                await _send(send, json.dumps(event, separators=(",", ":"), ensure_ascii=False))
        except CodegenError as error:
            # The status has been sent; an event with the reason is all that can be done.
            message = {"error": {"message": str(error)}}
            await _send(send, json.dumps(message, separators=(",", ":"), ensure_ascii=False))
        if self._last is not None:
            await _send(send, self._last)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Any, text: str) -> None:
    data = f"data: {text}\n\n".encode("utf-8", "replace")
    await send({"type": "http.response.body", "body": data, "more_body": True})


class Pieces:
    """Turns text that is still being made into pieces that are certain to stand.

    Args:
        clean: what will be done to the whole text; None shows everything as it comes. With it, a
            line is shown once it is whole, if it stands so in the cleaned text.
    """

    def __init__(self, clean: Callable[[str], str] | None = None) -> None:
        self._clean = clean
        self._text = ""
        self._shown = ""

    def push(self, piece: str) -> str:
        """Takes the next piece; returns what can be shown."""
        self._text += piece
        if self._clean is None:
            self._shown = self._text
            return piece
        whole = self._text[: self._text.rfind("\n") + 1]
        return self._show(self._clean(whole)) if whole.strip() else ""

    def rest(self, final: str) -> str:
        """What is still missing of the final text."""
        return self._show(final)

    def _show(self, text: str) -> str:
        if not text.startswith(self._shown):
            return ""
        piece, self._shown = text[len(self._shown) :], text
        return piece
