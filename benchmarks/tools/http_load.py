"""Sends requests over HTTP/1.1 on several connections at once and measures their latencies.

Each connection waits for the response before its next request. The client does little work, so that
it does not slow the server: of the headers, it reads only the length.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Load:
    """Results of a load test.

    Attributes:
        wall_s: time from the first request to the last answer.
        seconds: latency per request.
        answers: response bodies, in request order.
    """

    wall_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    answers: dict[int, bytes] = field(default_factory=dict)


def post(path: str, body: Any, **headers: str) -> bytes:
    """Returns the bytes of a request."""
    data = json.dumps(body).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n{more}\r\n"
    )
    return head.encode() + data


def load(port: int, requests: Sequence[bytes], clients: int) -> Load:
    """Sends all requests to a loopback port on ``clients`` connections.

    Raises:
        OSError: if the server closes a connection.
    """
    return asyncio.run(_load(port, requests, clients))


async def _load(port: int, requests: Sequence[bytes], clients: int) -> Load:
    found = Load()
    waiting = iter(enumerate(requests))
    began = time.perf_counter()
    await asyncio.gather(*(_client(port, waiting, found) for _ in range(clients)))
    found.wall_s = time.perf_counter() - began
    return found


async def _client(port: int, waiting: Iterator[tuple[int, bytes]], found: Load) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        for place, request in waiting:
            began = time.perf_counter()
            writer.write(request)
            found.answers[place] = await _answer(reader)
            found.seconds.append(time.perf_counter() - began)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"content-length:" in head:
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            return await reader.readexactly(length)
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):  # chunked
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return body
    except asyncio.IncompleteReadError as error:
        raise ConnectionError(f"the server closed a connection: {error}") from None
