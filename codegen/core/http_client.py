"""HTTP client for one server: JSON and JSON streams of limited size, cancelled by closing.

Used by all clients of this toolkit: the backend ``openai``, the editor's upstream, and the client
of the sandbox service. It never retries; a :class:`RequestFailure` says whether retrying may help.

The API key is only sent in the request's header. Redirects are rejected, so that the key stays with
its host. Proxies come from the environment, never for loopback; certificates from the system or
``SSL_CERT_FILE``. A server's error text may quote the request, which contains a document, so only
:attr:`RequestFailure.said` includes it.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import json
import os
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any, Self, TypeVar

import httpx2

from codegen.core.errors import in_one_line

T = TypeVar("T")

_MOST_EVENT_BYTES = 1 << 20
_CONNECT_S = 5.0
_ANSWER_S = 10.0  # default time limit for a whole response
_CODE = re.compile(r"[\w./-]{1,60}")  # no sentences, which could quote the request
_LONG = re.compile(r"context|exceed|too (?:long|large|many)|maximum", re.IGNORECASE)
_GONE = frozenset({502, 503, 504})
_RETRIED = frozenset({408, 409, 425, 429})
_NOT_SUPPORTED = (501, 505)  # the same for all routes


class RequestFailure(Exception):
    """A request without a usable response.

    Only :attr:`said` quotes the server.

    Attributes:
        status: HTTP status, 0 if there was no response.
        words: the server's text, without the API key.
        code: the error code in an OpenAI-style error object.
        wait_s: wait requested by the server in seconds.
        transient: True if retrying may help.
        unreachable: True if no server could be reached.
        untrusted: True if its certificate was rejected.
        page: True if the response is a web page.
    """

    words = code = ""
    status = 0
    wait_s = 0.0
    transient = unreachable = untrusted = page = False

    def __init__(self, reason: str, **known: Any) -> None:
        super().__init__(reason)
        vars(self).update(known)

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.code})" if _CODE.fullmatch(self.code) else self.args[0]

    @property
    def said(self) -> str:
        """The reason in the server's words, on one line."""
        return f"{self.args[0]}: {in_one_line(self.words)}" if self.words else self.args[0]

    @property
    def lost(self) -> bool:
        """True if the server seems to be down, rather than rejecting this request."""
        return not self.status or self.status in _GONE

    @property
    def too_long(self) -> bool:
        """True if the prompt does not fit in the model's context."""
        return self.status in (400, 413, 422) and bool(_LONG.search(f"{self} {self.words}"))


class Client:
    """Requests to one server, from one event loop; an asynchronous context manager.

    Args:
        base: base URL of the routes.
        key: bearer token; empty for none.
        connections: maximum number of connections; None for no limit.
        timeout_s: time limit for a whole response, and between the chunks of a stream; 0 for a few
            seconds and no limit, respectively.
        most_bytes: maximum size of a whole response.
        agent: the client's name.
    """

    def __init__(
        self,
        base: str,
        key: str = "",
        *,
        connections: int | None = 16,
        timeout_s: float = 0.0,
        most_bytes: int = 8 << 20,
        agent: str = "codegen-toolkit",
    ) -> None:
        self.base, self.root = base, base.removesuffix("/v1")
        self._key, self._timeout_s, self._most_bytes = key, timeout_s, most_bytes
        self._connect_s = min(timeout_s or _CONNECT_S, 2 * _CONNECT_S)
        headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx2.AsyncClient(
            headers=headers,
            follow_redirects=False,
            # None disables proxies.
            mounts={"http://": None, "https://": None} if is_loopback(base) else None,
            timeout=httpx2.Timeout(timeout_s or None, connect=self._connect_s),
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=64, keepalive_expiry=4.0
            ),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def json(self, url: str, body: Any = None, timeout_s: float = 0.0) -> Any:
        """Returns the JSON response to a POST of ``body`` (bytes are sent unchanged), or a GET.

        Raises:
            RequestFailure: if there is no response, or the response is an error.
        """
        timeout_s = timeout_s or self._timeout_s or _ANSWER_S
        try:
            async with asyncio.timeout(timeout_s), aclosing(self.rows(url, body)) as rows:
                return self._checked(await anext(rows, None))
        except TimeoutError:
            raise RequestFailure(f"no response within {timeout_s:g} s", transient=True) from None

    async def stream(self, url: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yields a stream's objects on arrival, or the only object if the server does not stream.

        Closing or cancelling the stream closes the connection, so that the server stops generating.

        Raises:
            RequestFailure: if there is no response, or the stream contains an error.
        """
        async with aclosing(self.rows(url, {**body, "stream": True})) as rows:
            async for row in rows:
                if not isinstance(row, dict):
                    raise RequestFailure("its stream contains a chunk that is not a JSON object")
                yield self._checked(row)

    async def rows(self, url: str, body: Any = None) -> AsyncGenerator[Any]:
        """Yields the values of a response: its events, its lines (NDJSON), or the whole response.

        Raises:
            RequestFailure: if the response is an error, or not JSON.
        """
        # Lone surrogates survive as escapes.
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode("ascii")
        try:
            async with self._http.stream(
                "GET" if content is None else "POST",
                url,
                content=content,
                headers={"Content-Type": "application/json"} if content else None,
            ) as response:
                response.headers.pop("Content-Encoding", None)  # prevents decompression bombs
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if response.status_code != 200:
                    raise self._refused(response, await self._read(response))
                if kind == "text/event-stream":
                    async for event in httpx2.EventSource(response, _MOST_EVENT_BYTES):
                        if event.data == "[DONE]":
                            return
                        yield _decoded(event.data.encode("utf-8", "surrogatepass"))
                elif kind == "application/x-ndjson":
                    async for line in response.aiter_lines():
                        yield _decoded(line.encode("utf-8", "surrogatepass"))
                else:
                    yield _decoded(await self._read(response), 200)
        except httpx2.TimeoutException as error:
            is_gone = isinstance(error, httpx2.ConnectTimeout)
            limit_s = self._connect_s if is_gone else self._timeout_s
            reason = f"no {'connection' if is_gone else 'response'} within {limit_s:g} s"
            raise RequestFailure(reason, transient=True, unreachable=is_gone) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise _unconnected(error) from None

    async def _read(self, response: httpx2.Response) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._most_bytes:
                most = f"{self._most_bytes >> 20} MiB"
                raise RequestFailure(f"its response is larger than {most}", status=413)
            parts.append(part)
        return b"".join(parts)

    def _refused(self, response: httpx2.Response, body: bytes) -> RequestFailure:
        """Returns the failure for an unsuccessful response."""
        status, headers = response.status_code, response.headers
        words, code = self._words(body[:65536].decode("utf-8", "replace"))
        is_html = words.lstrip()[:1] == "<"
        if is_html:
            words = "its response is a web page"
        if 300 <= status < 400:
            words = self._hidden(f"a redirect to {headers.get('Location', 'nowhere')}")
        return RequestFailure(
            f"HTTP {status}",
            status=status,
            words=words,
            code=code,
            transient=status in _RETRIED or (status >= 500 and status not in _NOT_SUPPORTED),
            # Proxies also send web pages for temporary errors (502) and single requests (413).
            page=is_html and status in (400, *_NOT_SUPPORTED),
            wait_s=retry_after(headers.get("retry-after-ms", ""), 0.0) / 1000
            or retry_after(headers.get("Retry-After", ""), time.time()),
        )

    def _checked(self, row: Any) -> Any:
        """Returns a row; raises RequestFailure if it reports an error."""
        if isinstance(row, dict) and row.get("error"):
            words, code = self._words(json.dumps(row))
            raise RequestFailure("it reports", status=500, words=words, code=code, transient=True)
        return row

    def _words(self, text: str) -> tuple[str, str]:
        """Returns an error body's message and code: from OpenAI's object, or the whole text."""
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            return self._hidden(text), ""
        inner = row.get("error", row) if isinstance(row, dict) else row
        if not isinstance(inner, dict):
            return self._hidden(str(inner)), ""
        message = inner.get("message") or inner.get("detail") or text
        return self._hidden(str(message)), self._hidden(
            str(inner.get("code") or inner.get("type") or "")
        )

    def _hidden(self, text: str) -> str:
        """Removes the key, which some servers repeat, from a server's text."""
        return text.replace(self._key, "***") if self._key else text


def count_of(row: Any, name: str) -> int:
    """Returns a positive integer field of an untrusted object, else 0."""
    value = row.get(name) if isinstance(row, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def is_loopback(where: str) -> bool:
    """Returns True if a URL or host refers to this machine."""
    host = (urllib.parse.urlsplit(where).hostname or "") if "://" in where else where.strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def retry_after(value: str, now: float) -> float:
    """Parses a Retry-After header (seconds or an HTTP date) to seconds; 0 if absent."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError):
            return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


def _decoded(data: bytes, status: int = 0) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        is_page = data.lstrip()[:1] == b"<"
        words = "a web page" if is_page else f"not JSON ({in_one_line(error)})"
        raise RequestFailure(
            f"its response is {words}", status=status, transient=True, page=is_page
        ) from None


def _unconnected(error: Exception) -> RequestFailure:
    """Returns the failure for a request without a response, with the innermost reason."""
    causes: list[BaseException] = [error]
    while cause := _cause(causes[-1]):
        causes.append(cause)

    def caused_by(*kinds: type[BaseException]) -> Any:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if refusal := caused_by(ssl.SSLCertVerificationError):
        words = f"its certificate is not trusted ({refusal.verify_message})"
        return RequestFailure(words, untrusted=True)
    if caused_by(httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError):
        return RequestFailure("its host name is not valid", unreachable=True)
    words = in_one_line(causes[-1]) or type(causes[-1]).__name__
    for cause in reversed(causes):
        told, number = getattr(cause, "strerror", None), getattr(cause, "errno", None)
        if told:  # asyncio replaces the system's message with an address
            words = os.strerror(number) if number and "call failed" in told else told
            break
    is_gone = caused_by(httpx2.ConnectError) and not caused_by(ssl.SSLError)
    return RequestFailure(f"no connection ({words})", transient=True, unreachable=bool(is_gone))


def _cause(error: BaseException) -> BaseException | None:
    inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
    return error.__cause__ or error.__context__ or inner


class LoopThread:
    """An event loop in a daemon thread, for code without one; a forked child gets its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs a coroutine in the loop."""
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=_serve, args=(self._loop,), daemon=True).start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Runs a last coroutine and stops the loop, if running; it restarts when needed."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None or self._pid != os.getpid():
            last.close()
            return
        asyncio.run_coroutine_threadsafe(last, loop).result()
        loop.call_soon_threadsafe(loop.stop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
