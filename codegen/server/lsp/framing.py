"""Messages from a byte stream, whatever comes: limits, and a way on after nonsense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

_LINE = 4096
_HEADERS = 32
_BLOCK = 1 << 16
_DISCARDED = 1 << 30  # a longer message is not waited for


@dataclass(frozen=True, slots=True)
class Malformed:
    """In the place of a message that can't be taken.

    Attributes:
        reason: one line for the answer.
    """

    reason: str


def read_message(stream: BinaryIO, most: int) -> bytes | Malformed | None:
    """The next message's body; None at the end of the stream.

    Args:
        stream: blocking.
        most: bytes of a body; longer ones are read and thrown away.
    """
    length: int | None = None
    for _ in range(_HEADERS):
        line = stream.readline(_LINE)
        if not line:
            return None
        if line in (b"\r\n", b"\n"):
            if length is None:
                continue  # blank lines before the headers, or headers without a length
            break
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = int(value) if len(value.strip()) <= 15 else _DISCARDED + 1
    if length is None:
        return Malformed("There is no Content-Length among the headers.")
    if length > most:
        return _discard(stream, length, most)
    body = stream.read(length)
    return body if len(body) == length else None


def _discard(stream: BinaryIO, length: int, most: int) -> Malformed | None:
    if length > _DISCARDED:
        return None
    while length:
        block = stream.read(min(length, _BLOCK))
        if not block:
            return None
        length -= len(block)
    return Malformed(f"A message holds at most {most} bytes.")
