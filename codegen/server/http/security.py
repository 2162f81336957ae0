"""Access control of the HTTP servers: sockets, connections, requests, the token.

**Sockets.** Servers bind to loopback; other addresses require a token.

**Connections** (``_Protocol``). Request heads must arrive in time; idle connections are closed when
there are many.

**Requests** (:class:`Guard`, ASGI middleware). It checks in this order: no WebSockets; the Host
header (421; DNS rebinding pages send their own name); the page's origin (403; none is allowed by
default); the bearer token (401); the rate (429); bodies must be declared as JSON or come with a
bearer token, so that web forms are rejected (415); their size (413) and arrival time (408).

**The token** is new in every run, and a token file is readable only by its owner.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import re
import secrets
import signal
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from codegen.core.errors import ConfigError, InputError, MachineError
from codegen.core.http_client import is_loopback
from codegen.server.completion.requests import ServerLimits
from codegen.server.metrics import Metrics

_SHORTEST_TOKEN = 16


def new_token() -> str:
    """Returns a token of 256 random bits."""
    return secrets.token_urlsafe(32)


def write_token(path: Path, token: str) -> None:
    """Writes a token with mode 0600, replacing the old one.

    Raises:
        InputError: if the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
        partial.replace(path)
    except OSError as error:
        raise InputError(
            f"Cannot write the token to {path}: {error.strerror}.", "Choose another --token-file."
        ) from None


def read_token(path: Path) -> str:
    """Reads a token that the user reuses across runs.

    Raises:
        InputError: if the file is unreadable, other users can read it, or the token is too short.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the token file {path}: {error}.") from None
    if mode & 0o077:
        raise InputError(f"Other users can read the token file {path}.", f"Run: chmod 600 {path}")
    if len(text) < _SHORTEST_TOKEN or not text.isascii() or any(char.isspace() for char in text):
        raise InputError(
            f"The token in {path} must be one word of at least {_SHORTEST_TOKEN} ASCII characters."
        )
    return text


def same_token(given: str, token: str) -> bool:
    """Compares tokens in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode("utf-8"))


_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?", re.ASCII)
_PUBLIC = frozenset({"/health"})
_CLIENTS = 1024  # maximum clients whose rates are stored
_ALWAYS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
_PREFLIGHT = {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": "600",
}


class _Refused(Exception):
    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.message, self.headers = status, message, headers or {}


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_response(
    path: str,
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    *,
    code: str = "",
    param: str | None = None,
) -> JSONResponse:
    """Returns an error in the format of OpenAI and llama.cpp, or of Ollama for its paths.

    ``code`` is OpenAI's error code, by default the status; ``param`` is the invalid field.
    """
    if path.startswith("/api/"):
        return JSONResponse({"error": message}, status, headers)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": param, "code": code or status}
    return JSONResponse({"error": error}, status, headers)


async def no_route(request: Request, error: Exception) -> Response:
    """Returns the response to an unknown path or method."""
    status, path = getattr(error, "status_code", 404), request.url.path
    return error_response(path, status, f"No route {request.method} {path[:80]}.")


@dataclass
class Guard:
    """ASGI middleware that checks requests.

    Attributes:
        token: token that clients must send; None if the user disabled authentication.
        hosts: host names of this server, in addition to loopback names.
        origins: scheme, host and port of web pages that may send requests.
        limits: limits of sizes, rates and times.
        cookie: for pages, name of the cookie with the token; a URL with ``?token=`` sets it.
    """

    app: ASGIApp
    token: str | None
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    limits: ServerLimits = field(default_factory=ServerLimits)
    metrics: Metrics = field(default_factory=Metrics)
    cookie: str = ""
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Rejects a request or passes it to the application."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        allowed: dict[str, str] = {}
        try:
            self._check_host(headers.get("host", ""))
            allowed = self._check_origin(headers.get("origin"))
            if scope["method"] == "OPTIONS" and "origin" in headers:
                response = Response(status_code=204, headers={**allowed, **_PREFLIGHT})
                await response(scope, receive, send)
                return
            if self.cookie and (signed_in := self._signed_in(Request(scope))):
                await signed_in(scope, receive, send)
                return
            if scope["path"] not in _PUBLIC:
                self._check_token(headers)
                self._check_rate(client_name(Request(scope)))
            body = await self._body(scope["method"], headers, receive)
        except _Refused as refused:
            self.metrics.count(f"refused_{refused.status}")
            response = error_response(
                scope["path"], refused.status, refused.message, {**allowed, **refused.headers}
            )
            await response(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), _with_headers(send, {**allowed, **_ALWAYS}))

    def _check_host(self, given: str) -> None:
        """Checks the Host header, ignoring the port."""
        found = _HOST.fullmatch(given.lower())
        if not found or (found[1] not in _LOCAL_HOSTS and found[1] not in self.hosts):
            raise _Refused(421, f"Host {given[:80]!r} is not allowed; use -o host_name=NAME.")

    def _check_origin(self, origin: str | None) -> dict[str, str]:
        """Returns the headers that let an allowed page read the response."""
        if origin is None:
            return {}
        if origin not in self.origins:
            raise _Refused(403, f"Origin {origin[:80]!r} is not allowed; use -o origin=URL.")
        return {"access-control-allow-origin": origin, "vary": "origin"}

    def _signed_in(self, request: Request) -> Response | None:
        """Sets the cookie for a URL with the correct token, and redirects to the URL without it."""
        given = request.query_params.get("token", "")
        if self.token is None or not same_token(given, self.token):
            return None
        url = request.url.remove_query_params("token")
        to = url.path + (f"?{url.query}" if url.query else "")
        response = RedirectResponse(to, 303, _ALWAYS)
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
        return response

    def _check_token(self, headers: Headers) -> None:
        if self.token is None:
            return
        if self.cookie:
            held = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
            if not same_token(held, self.token):
                raise _Refused(401, "Open the URL that was printed; it contains the token.")
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        shown = _password(given) if kind.lower() == "basic" else given.strip()
        if kind.lower() not in ("bearer", "basic") or not same_token(shown, self.token):
            message = "Send the token as: Authorization: Bearer TOKEN"
            if kind.lower() in ("bearer", "basic") and shown:
                message = "Wrong token. It was printed at startup, or is in the --token-file."
            raise _Refused(401, message, {"www-authenticate": "Bearer"})

    def _check_rate(self, client: str) -> None:
        """Applies a token bucket per client, so that no client starves another."""
        now = time.monotonic()
        room, last = self._buckets.pop(client, (float(self.limits.burst), now))
        room = min(self.limits.burst, room + (now - last) * self.limits.requests_per_s)
        self._buckets[client] = (max(0.0, room - 1), now)
        while len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        if room < 1:
            wait = (1 - room) / self.limits.requests_per_s
            raise _Refused(429, "Too many requests.", {"retry-after": str(int(wait) + 1)})

    async def _body(self, method: str, headers: Headers, receive: Receive) -> bytes:
        if method in ("GET", "HEAD", "OPTIONS"):
            return b""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        # A web form cannot send this header, and some clients omit the content type.
        is_client = headers.get("authorization", "").lower().startswith("bearer ")
        if kind != "application/json" and not is_client:
            raise _Refused(415, "Send JSON, with Content-Type: application/json.")
        most = self.limits.body_bytes
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or len(declared) > 18 or int(declared) > most:
            raise _Refused(413, f"A request may have at most {most} bytes.")
        try:
            async with asyncio.timeout(self.limits.read_s):
                return await _read(receive, most)
        except TimeoutError:
            raise _Refused(408, f"Sending the body took over {self.limits.read_s:g} s.") from None


def _password(given: str) -> str:
    """Returns the password of basic authentication, which clients send for
    ``http://name:TOKEN@host``; "" if absent.
    """
    try:
        return base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
    except ValueError:
        return ""


def client_name(request: Request) -> str:
    """Returns a client's identity: address and user agent."""
    address = request.client.host if request.client else "local"
    return f"{address} {request.headers.get('user-agent', '')[:80]}"


async def _read(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400, "The request was incomplete.")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _Refused(413, f"A request may have at most {most} bytes.")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Returns a ``receive`` that yields the body already read, then later messages."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": list(message.get("headers", ()))}
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending


HEADER_S = 10.0
IDLE_S = 15
UNREAD_S = 20.0
_HEADER_BYTES = 64 * 1024
MAX_CONNECTIONS = 256
CROWDED = 192
_BACKLOG = 128


class _Protocol(H11Protocol):
    """Closes connections that send no request or whose client does not read responses.

    Each request head must be complete within ``HEADER_S`` seconds of its first byte (or of the
    connection's start). A connection may be idle for ``IDLE_S`` between two requests. It is closed
    if its client reads nothing for ``UNREAD_S``. Above ``CROWDED`` of ``MAX_CONNECTIONS``
    connections (or that fraction of another limit), a new connection closes an idle one of the peer
    with the most connections, so that no client can block others. Bodies and responses have other
    limits (``ServerLimits.read_s``, ``ServerLimits.deadline_s``).
    """

    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: Any) -> None:
        """Starts the timer for the first head."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._expect_head()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Starts the timer when a head begins, stops it when the head is complete."""
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        """Starts the timer if the next head has begun to arrive."""
        super().on_response_complete()
        self._since = self.loop.time()
        if self.conn.trailing_data[0]:
            self._expect_head()

    def pause_writing(self) -> None:
        """Starts a timer, because the client reads too slowly."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Stops the timer, because the client has resumed reading."""
        super().resume_writing()
        self._unread_timer = _cancelled(self._unread_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timers."""
        self._head_timer = _cancelled(self._head_timer)
        self._unread_timer = _cancelled(self._unread_timer)
        super().connection_lost(exc)

    @property
    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._has_request or self.transport.is_closing():
            self._head_timer = _cancelled(self._head_timer)
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADER_S, self._close_if_waiting)

    def _close_if_waiting(self) -> None:
        self._head_timer = None
        if not self._has_request:
            self.transport.abort()

    def _make_room(self) -> None:
        mine = [c for c in self.connections if isinstance(c, _Protocol)]
        live = [c for c in mine if not c.transport.is_closing()]
        idle = [c for c in live if c is not self and not c._has_request]
        crowded = CROWDED * (self.limit_concurrency or MAX_CONNECTIONS) / MAX_CONNECTIONS
        if len(live) <= crowded or not idle:
            return
        held = Counter(c._peer for c in live)
        max(idle, key=lambda c: (held[c._peer], -c._since)).transport.abort()

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client else ""


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def check_address(host: str, token: str | None) -> None:
    """Checks that a token is required if other machines can reach the address.

    Raises:
        ConfigError: if it is not.
    """
    if not is_loopback(host) and token is None:
        raise ConfigError(
            f"Other machines can reach {host}, and authentication is disabled.",
            "Remove --no-token, or bind to 127.0.0.1.",
        )


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket; port 0 chooses a free one.

    Raises:
        MachineError: if the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With an explicit protocol, asyncio sends a response's parts immediately (TCP_NODELAY);
    # otherwise each body waits 40 ms for the client's delayed acknowledgment of the headers.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host.strip("[]"), port))
        sock.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise MachineError(
            f"Cannot listen on {host} port {port}: {getattr(error, 'strerror', error)}.",
            "Choose another --port; 0 for a free one.",
        ) from None
    return sock


def serve(
    server: uvicorn.Server,
    sock: socket.socket,
    during: AbstractAsyncContextManager[None] | None = None,
) -> None:
    """Serves in the main thread, inside the context ``during``, until SIGINT or SIGTERM."""

    async def serving() -> None:
        async with during or nullcontext():
            await server.serve(sockets=[sock])

    def stop(*_: object) -> None:
        # uvicorn's handlers stop the server; it then re-raises the signal for this one.
        server.should_exit = True

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        asyncio.run(serving())
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    stopping: Callable[[], None] | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops listening, and waits for requests to finish."""
        if self.stopping is not None:
            self.stopping()
        await super().shutdown(sockets)


def make_server(
    app: ASGIApp,
    *,
    connections: int = 0,
    grace_s: int = 2,
    stopping: Callable[[], None] | None = None,
) -> uvicorn.Server:
    """Returns a server with connection limits.

    Args:
        connections: maximum open connections; 0 for enough for one user's editors.
        grace_s: seconds that requests have to finish once the server stops.
        stopping: called on the event loop when the server stops; requests may still be running.
    """
    server = _Server(
        uvicorn.Config(
            app,
            http=_Protocol,
            loop="asyncio",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            h11_max_incomplete_event_size=_HEADER_BYTES,
            limit_concurrency=connections or MAX_CONNECTIONS,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=grace_s,
        )
    )
    server.stopping = stopping
    return server
