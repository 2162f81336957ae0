"""Serves the application on the loopback or a Unix socket."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from codegen.errors import ConfigError, MachineError

_HEADER_S = 10.0
_IDLE_S = 15
_UNREAD_S = 20.0
_HEADER_BYTES = 64 * 1024
_CONNECTIONS = 256
_CROWDED = 192
_BACKLOG = 128


class _Protocol(H11Protocol):
    """Closes connections that wait without a request, and those whose answers nobody reads.

    The head of every request, not of the first one only, must be whole ``_HEADER_S`` after its
    first byte (or after the connection was made). A connection may be idle between two requests for
    ``_IDLE_S``. What a client does not read for ``_UNREAD_S`` is thrown away with the connection.
    Once there are ``_CROWDED`` connections, those without a request give way to new ones, first of
    the peer that has most: nobody can keep others out by holding connections open. What comes after
    the head is bounded elsewhere (``Limits.read_s``, ``Limits.deadline_s``).
    """

    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: Any) -> None:
        """Starts the clock."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._expect_head()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Starts the clock of a head that begins, stops that of one that is whole."""
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        """Starts the clock of a next head whose beginning is here already."""
        super().on_response_complete()
        self._since = self.loop.time()
        if self.conn.trailing_data[0]:
            self._expect_head()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(_UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read on."""
        super().resume_writing()
        self._unread_timer = _cancelled(self._unread_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks."""
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
            self._head_timer = self.loop.call_later(_HEADER_S, self._close_if_waiting)

    def _close_if_waiting(self) -> None:
        self._head_timer = None
        if not self._has_request:
            self.transport.abort()

    def _make_room(self) -> None:
        mine = [c for c in self.connections if isinstance(c, _Protocol)]
        live = [c for c in mine if not c.transport.is_closing()]
        idle = [c for c in live if c is not self and not c._has_request]
        if len(live) <= _CROWDED or not idle:
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
    """Refuses to serve other machines without a token.

    Raises:
        ConfigError: naming the remedy.
    """
    if not is_loopback(host) and token is None:
        raise ConfigError(
            f"{host} can be reached from other machines, and no token is asked for.",
            "Leave --no-token out, or bind to 127.0.0.1.",
        )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        MachineError: if the address can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host.strip("[]"), port))
        sock.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise MachineError(
            f"Cannot listen on {host} port {port}: {getattr(error, 'strerror', error)}.",
            "Choose another port with --port, 0 for a free one.",
        ) from None
    return sock


def listen_unix(path: Path) -> socket.socket:
    """A listening Unix socket that only its owner may use; a dead one's file is replaced.

    Raises:
        MachineError: if somebody listens there, or the path can't be used.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists():
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise MachineError(f"{path} is there and is no socket.", "Choose another path.")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise MachineError(f"A server listens on {path} already.")
            path.unlink()
        old = os.umask(0o177)
        try:
            sock.bind(str(path))
            sock.listen(_BACKLOG)
        finally:
            os.umask(old)
    except OSError as error:
        sock.close()
        raise MachineError(f"Cannot listen on {path}: {error.strerror or error}.") from None
    except MachineError:
        sock.close()
        raise
    return sock


def serve(app: Any, sock: socket.socket) -> None:
    """Serves until SIGINT or SIGTERM."""
    asyncio.run(make_server(app).serve(sockets=[sock]))


def make_server(app: Any) -> uvicorn.Server:
    """The server with its limits."""
    return uvicorn.Server(
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
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=2,
        )
    )
