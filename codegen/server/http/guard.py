"""Who may ask: an ASGI layer in front of everything else.

In this order, each with its own answer: no WebSockets; the host's name (421; a page that rebinds
its name to this machine sends its own); the page's origin (403; none is allowed by default); the
bearer token (401); the rate (429); JSON bodies only, so that no form of a web page is accepted
(415); their size (413) and the time they take to arrive (408).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from codegen.server.http.token import same_token
from codegen.server.metrics import Metrics
from codegen.server.settings import Limits

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PUBLIC = frozenset({"/health"})
_CLIENTS = 1024  # whose rates are kept


class _Refused(Exception):
    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.message, self.headers = status, message, headers or {}


@dataclass
class Guard:
    """Wraps an ASGI application.

    Attributes:
        app: the application.
        token: what clients must show, None where a socket's file mode protects already or the user
            wants none.
        hosts: names of this server beside those of the loopback.
        origins: scheme, host and port of the web pages that may ask.
        limits: sizes, rates and times.
        metrics: where refusals are counted.
    """

    app: Any
    token: str | None
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers or passes on one connection's request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1"): value.decode("latin-1")
                   for name, value in scope["headers"]}  # fmt: skip
        allowed: dict[str, str] = {}
        try:
            self._host(headers.get("host", ""))
            allowed = self._origin(headers.get("origin"))
            if scope["method"] == "OPTIONS" and "origin" in headers:
                await _send(send, 204, b"", {**allowed, **_PREFLIGHT})
                return
            if scope["path"] not in _PUBLIC:
                self._bearer(headers)
                self._rate(_client(scope, headers))
            body = await self._body(scope["method"], headers, receive)
        except _Refused as refused:
            self.metrics.count(f"refused_{refused.status}")
            error = {"error": {"message": refused.message, "code": refused.status}}
            data = json.dumps(error, separators=(",", ":")).encode()
            await _send(send, refused.status, data, {**allowed, **refused.headers})
            return
        await self.app(scope, _replay(body, receive), _with_headers(send, allowed))

    def _host(self, given: str) -> None:
        name = _host_name(given)
        if name is None or (name not in _LOCAL_HOSTS and name not in self.hosts):
            raise _Refused(
                421, f"This server has no name {given[:80]!r}; start it with --host-name."
            )

    def _origin(self, origin: str | None) -> dict[str, str]:
        """The headers that let an allowed page read the answer."""
        if origin is None:
            return {}
        if origin not in self.origins:
            raise _Refused(403, f"Pages of {origin[:80]!r} may not ask; start with --origin.")
        return {"access-control-allow-origin": origin, "vary": "origin"}

    def _bearer(self, headers: dict[str, str]) -> None:
        if self.token is None:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not same_token(given.strip(), self.token):
            raise _Refused(
                401,
                "Give the token as: Authorization: Bearer TOKEN",
                {"www-authenticate": "Bearer"},
            )

    def _rate(self, client: str) -> None:
        """A token bucket for each client, so that one does not starve another."""
        now = time.monotonic()
        room, last = self._buckets.pop(client, (float(self.limits.burst), now))
        room = min(self.limits.burst, room + (now - last) * self.limits.requests_per_s)
        self._buckets[client] = (max(0.0, room - 1), now)
        while len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        if room < 1:
            wait = (1 - room) / self.limits.requests_per_s
            raise _Refused(429, "Too many requests.", {"retry-after": str(int(wait) + 1)})

    async def _body(self, method: str, headers: dict[str, str], receive: Any) -> bytes:
        if method in ("GET", "HEAD", "OPTIONS"):
            return b""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise _Refused(415, "Send JSON, with Content-Type: application/json.")
        most = self.limits.body_bytes
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or len(declared) > 18 or int(declared) > most:
            raise _Refused(413, f"A request holds at most {most} bytes.")
        try:
            async with asyncio.timeout(self.limits.read_s):
                return await _read(receive, most)
        except TimeoutError:
            raise _Refused(408, f"The request took over {self.limits.read_s:g} s.") from None


_PREFLIGHT = {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": "600",
}


def _client(scope: Any, headers: dict[str, str]) -> str:
    """Who is counted as one: an address and program; a socket has no address."""
    address = (scope.get("client") or ("local", 0))[0]
    return f"{address} {headers.get('user-agent', '')[:80]}"


_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?", re.ASCII)


def _host_name(given: str) -> str | None:
    """The name in a Host header without its port; None if the header is not of that form."""
    found = _HOST.fullmatch(given.lower())
    return found[1] if found else None


async def _read(receive: Any, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400, "The request was not complete.")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _Refused(413, f"A request holds at most {most} bytes.")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Any) -> Any:
    """``receive`` for the application: the body that was read, then what comes."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Any, headers: dict[str, str]) -> Any:
    extra = _encoded({**headers, "x-content-type-options": "nosniff", "cache-control": "no-store"})

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await send(message)

    return sending


async def _send(send: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
    headers = {**headers, "content-length": str(len(body))}
    if body:
        headers["content-type"] = "application/json"
    await send({"type": "http.response.start", "status": status, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: dict[str, str]) -> Iterable[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
