"""HTTP to one server: JSON and streams of JSON, of bounded size, cancelled by closing.

The API key goes into the request's header and nowhere else. Redirects are refused, so that the key
stays with its host; proxies are never used for loopback. A server's text may quote the request, and
with it a document or the key, so no message of :class:`Trouble` holds it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from codegen.generation.backends import is_loopback

_MOST_BYTES = 8 << 20  # per answer
_MOST_EVENT_BYTES = 1 << 20
_CONNECT_S = 5.0
_ANSWER_S = 10.0  # for a whole answer that is not streamed
_CODE = re.compile(r"[\w./-]{1,60}")
_LONG = re.compile(r"context|exceed|too (?:long|large|many)|maximum", re.IGNORECASE)
_GONE = frozenset({502, 503, 504})


class Trouble(Exception):
    """A request without a usable answer.

    Attributes:
        status: HTTP status, 0 if there was no answer.
        words: the server's own text, to be shown to the user alone.
        wait_s: seconds that the server asks to wait.
    """

    def __init__(self, message: str, status: int = 0, words: str = "", wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.words, self.wait_s = status, words, wait_s

    @property
    def lost(self) -> bool:
        """Whether the server seems to be gone, instead of refusing this request alone."""
        return not self.status or self.status in _GONE

    @property
    def busy(self) -> bool:
        """Whether the server asks for fewer requests."""
        return self.status == 429

    @property
    def too_long(self) -> bool:
        """Whether the prompt does not fit into the model's context."""
        return self.status in (400, 413, 422) and bool(_LONG.search(f"{self} {self.words}"))


class Client:
    """An asynchronous context manager, for one event loop.

    Args:
        base: the URL below which OpenAI's routes are.
        key: API key, or empty.
        connections: most connections at once.
    """

    def __init__(self, base: str, key: str, connections: int = 16) -> None:
        self.base, self._key = base, key
        self.root = base.removesuffix("/v1")
        headers = {"User-Agent": "codegen-toolkit", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx2.AsyncClient(
            headers=headers,
            trust_env=not is_loopback(base),
            follow_redirects=False,
            timeout=httpx2.Timeout(None, connect=_CONNECT_S),
            limits=httpx2.Limits(max_connections=connections, keepalive_expiry=4.0),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def json(self, url: str, body: Any = None, timeout_s: float = 0.0) -> Any:
        """The JSON answer to a POST of ``body``, or to a GET without one; 0 is a short timeout.

        Raises:
            Trouble: if there is no usable answer.
        """
        timeout_s = timeout_s or _ANSWER_S
        try:
            async with asyncio.timeout(timeout_s), aclosing(self._rows(url, body)) as rows:
                return await anext(rows, None)
        except TimeoutError:
            raise Trouble(f"no answer within {timeout_s:g} s") from None

    async def stream(self, url: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The objects of a stream as they come, or the only one if the server does not stream.

        Closing or cancelling it closes the connection, at which servers stop.

        Raises:
            Trouble: also for an error that comes in the stream.
        """
        async with aclosing(self._rows(url, {**body, "stream": True})) as rows:
            async for row in rows:
                if not isinstance(row, dict):
                    raise Trouble("a part of its answer is not a JSON object")
                if error := row.get("error"):
                    raise self._of_error(500, error)
                yield row

    async def _rows(self, url: str, body: Any) -> AsyncGenerator[Any]:
        content = None if body is None else json.dumps(body).encode("ascii")
        try:
            async with self._http.stream(
                "GET" if body is None else "POST",
                url,
                content=content,
                headers={"Content-Type": "application/json"} if content else None,
            ) as response:
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if response.status_code != 200:
                    raise self._refused(response, await _text(response))
                if kind == "text/event-stream":
                    async for event in httpx2.EventSource(response, _MOST_EVENT_BYTES):
                        if event.data == "[DONE]":
                            return
                        yield json.loads(event.data)
                elif kind in ("application/json", ""):
                    yield json.loads(await _text(response))
                else:
                    raise Trouble(f"it answers {_code(kind) or 'something else'}, no JSON", 415)
        except httpx2.TimeoutException:
            raise Trouble(f"no connection within {_CONNECT_S:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Trouble(f"no connection ({_reason(error)})") from None
        except (ValueError, RecursionError):
            raise Trouble("its answer is not JSON") from None

    def _refused(self, response: httpx2.Response, text: str) -> Trouble:
        """The error of a response whose status is not success."""
        status = response.status_code
        if 300 <= status < 400:
            where = self._hidden(response.headers.get("Location", ""))
            return Trouble(f"HTTP {status}, a redirect", status, where)
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = ""
        trouble = self._of_error(status, row.get("error", row) if isinstance(row, dict) else row)
        wait = response.headers.get("Retry-After", "")
        trouble.wait_s = float(wait) if wait.isdecimal() else 0.0
        return trouble

    def _of_error(self, status: int, error: Any) -> Trouble:
        code = words = ""
        if isinstance(error, dict):
            code = _code(self._hidden(error.get("code"))) or _code(self._hidden(error.get("type")))
            words = self._hidden(error.get("message") or error.get("detail"))
        elif isinstance(error, str):
            words = self._hidden(error)
        return Trouble(f"HTTP {status}" + (f" ({code})" if code else ""), status, words)

    def _hidden(self, words: Any) -> str:
        """A server's text without the key, which some servers repeat."""
        text = words if isinstance(words, str) else ""
        return text.replace(self._key, "***") if self._key else text


async def _text(response: httpx2.Response) -> str:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _MOST_BYTES:
            raise Trouble(f"its answer is larger than {_MOST_BYTES >> 20} MiB", 413)
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def _code(value: str) -> str:
    """A short name such as ``model_not_found``; "" for a sentence, which could quote anything."""
    return value if _CODE.fullmatch(value) else ""


def _reason(error: Exception) -> str:
    """The innermost reason that the system gives."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    for cause in reversed(causes):
        words, number = getattr(cause, "strerror", None), getattr(cause, "errno", None)
        if words:  # asyncio puts an address in the place of the system's words
            return os.strerror(number) if number and "call failed" in words else words
    return type(error).__name__


def count_of(row: Any, name: str) -> int:
    """A positive number of an object from outside, else 0."""
    value = row.get(name) if isinstance(row, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def host_of(url: str) -> str:
    """Host and port, for messages."""
    return urlsplit(url).netloc
