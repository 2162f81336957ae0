"""Serves the application on the loopback or a Unix socket."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from codegen.errors import ConfigError, MachineError

_HEADER_S = 10.0
_HEADER_BYTES = 64 * 1024
_CONNECTIONS = 256
_BACKLOG = 128


class _Protocol(H11Protocol):
    """Closes connections whose headers do not come."""

    def connection_made(self, transport: Any) -> None:
        """Starts the clock."""
        super().connection_made(transport)
        self.loop.call_later(_HEADER_S, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


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
    config = uvicorn.Config(
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
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[sock]))
