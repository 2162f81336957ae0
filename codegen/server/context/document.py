r"""An open document: its lines, positions and changes, and the user's typing speed.

This replaces pygls's document, which splits lines like Python's ``splitlines``, also at form feeds,
U+2028 and others, so later edits change wrong lines; silently clamps positions beyond the text;
and reads the file of a document that was never opened. Here lines end only at ``\n``, ``\r\n`` and
``\r``, as in the Language Server Protocol, a change that does not fit the text is an error, and no
file is opened. Columns count bytes (utf-8), 16-bit units (utf-16) or characters (utf-32), as
negotiated with the editor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from lsprotocol.types import (
    Position,
    TextDocumentContentChangeEvent,
    TextDocumentContentChangeWholeDocument,
)

from codegen.core.errors import InputError

Encoding = Literal["utf-8", "utf-16", "utf-32"]
ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16", "utf-32")

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CODECS: dict[Encoding, tuple[str, int]] = {
    "utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4),
}  # fmt: skip
_LINE_END = 2**31 - 1  # a column beyond any line, the protocol's largest number


class OutOfStep(InputError):
    """A change does not fit the text; the editor must send the whole text."""


class TextDocument:
    """Text of one open document.

    Args:
        encoding: unit of columns.
        version: the editor's version number.

    Attributes:
        lines: lines with their line ends; at least one, and the last has no line end.
        size: number of characters.
    """

    def __init__(self, text: str = "", encoding: Encoding = "utf-16", version: int = 0) -> None:
        self.encoding: Encoding = encoding
        self.version = version
        self.lines = split_lines(text)
        self.size = len(text)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.lines)

    def apply(
        self, changes: Sequence[TextDocumentContentChangeEvent], version: int | None = None
    ) -> None:
        """Applies changes in order, each to the result of the previous one.

        Raises:
            OutOfStep: if a range is beyond the text; the changes before it remain applied.
        """
        for change in changes:
            if isinstance(change, TextDocumentContentChangeWholeDocument):
                self.lines = split_lines(change.text)
                self.size = len(change.text)
            else:
                self._replace(change.range.start, change.range.end, change.text)
        if version is not None:
            self.version = version

    def offset_in_line(self, position: Position) -> int:
        """Returns a position's character offset in its line: a column beyond the line means its
        end, a column within a character means the character's start.

        Raises:
            OutOfStep: if the line does not exist.
        """
        if position.line >= len(self.lines):
            raise OutOfStep(
                f"Line {position.line} is beyond the document's {len(self.lines)} lines."
            )
        line = self.lines[position.line].rstrip("\r\n")
        return _characters(line, position.character, self.encoding)

    def position(self, line: int, offset: int) -> Position:
        """Returns the position of a character offset in a line."""
        return Position(line, units(self.lines[line][:offset], self.encoding))

    def around(self, position: Position, before: int, after: int) -> tuple[str, str]:
        """Returns text around a position: at least the given characters, rounded up to whole lines.

        Raises:
            OutOfStep: if the line does not exist.
        """
        at = self.offset_in_line(position)
        line = self.lines[position.line]
        prefix, size = [line[:at]], at
        number = position.line
        while number and size < before:
            number -= 1
            prefix.append(self.lines[number])
            size += len(self.lines[number])
        suffix, size = [line[at:]], len(line) - at
        number = position.line
        while number + 1 < len(self.lines) and size < after:
            number += 1
            suffix.append(self.lines[number])
            size += len(self.lines[number])
        return "".join(reversed(prefix)), "".join(suffix)

    def _replace(self, start: Position, end: Position, text: str) -> None:
        if end < start:
            start, end = end, start
        if end == Position(len(self.lines), 0):  # some editors send this as the end of the text
            end = Position(end.line - 1, _LINE_END)
            start = min(start, end)
        head_end, tail_start = self.offset_in_line(start), self.offset_in_line(end)
        first, last = start.line, end.line
        head, tail = self.lines[first][:head_end], self.lines[last][tail_start:]
        if first and self.lines[first - 1].endswith("\r"):
            first -= 1  # a line feed that now follows is part of the same line end
            head = self.lines[first] + head
        old = sum(map(len, self.lines[first : last + 1]))
        block = head + text + tail
        lines = split_lines(block)
        if last + 1 < len(self.lines):
            lines.pop()  # empty: the block ends in a line end, and another line follows
        self.lines[first : last + 1] = lines
        self.size += len(block) - old


def moved(
    position: Position, change: TextDocumentContentChangeEvent, encoding: Encoding
) -> Position:
    """Returns a position after a change; a position within the change moves to its end."""
    if isinstance(change, TextDocumentContentChangeWholeDocument):
        return position
    start, end = change.range.start, change.range.end
    if position < start:
        return position
    lines = split_lines(change.text)
    line = start.line + len(lines) - 1
    column = units(lines[-1], encoding) + (start.character if len(lines) == 1 else 0)
    if position <= end:
        return Position(line, column)
    if position.line > end.line:
        return Position(position.line + line - end.line, position.character)
    return Position(line, column + position.character - end.character)


def split_lines(text: str) -> list[str]:
    """Returns the lines with their ends; the last has none, and is empty after a final line end."""
    lines = _LINE.findall(text)
    if not lines or lines[-1][-1] in "\r\n":
        lines.append("")
    return lines


def units(text: str, encoding: Encoding) -> int:
    """Returns the length of a string in units of an encoding."""
    codec, width = _CODECS[encoding]
    return len(text) if text.isascii() else len(_encoded(text, codec)) // width


def _characters(line: str, column: int, encoding: Encoding) -> int:
    """Returns the index of the last character that begins at or before a column."""
    if line.isascii():
        return min(column, len(line))
    codec, width = _CODECS[encoding]
    return len(_encoded(line, codec)[: column * width].decode(codec, "ignore"))


def _encoded(text: str, codec: str) -> bytes:
    """Encodes a string; lone surrogates count as three bytes or one unit."""
    return _SURROGATE.sub("\ufffd", text).encode(codec)


_SHARE = 0.5  # fraction of the usual interval
_PAUSE_S = 1.0  # longer intervals are not typing
_FORGET = 0.3  # weight of the latest interval
_BREAKS = "\n.([{=,: "


class TypingDelay:
    """Delay of automatic requests until the next keystroke; explicit requests do not wait.

    The delay avoids work that the next keystroke makes useless. Within a burst of typing it is a
    fraction of the usual time between keys. It is short because a superseded request costs at most
    one forward pass, and the tokens that it encoded stay in the cache.

    Args:
        longest_s: maximum delay.
    """

    def __init__(self, longest_s: float = 0.08) -> None:
        self.longest_s = longest_s
        self._interval_s: float | None = None
        self._last_s = float("-inf")

    def key(self, now_s: float) -> None:
        """Records a change."""
        since = now_s - self._last_s
        self._last_s = now_s
        if since > _PAUSE_S:
            return
        old = self._interval_s
        self._interval_s = since if old is None else old + _FORGET * (since - old)

    def wait_s(self, now_s: float, before: str, work_s: float) -> float:
        """Returns the delay in seconds.

        Args:
            now_s: time of the request.
            before: character before the cursor; after some characters, users pause.
            work_s: average duration of a completion. If it is less than the time to the next key,
                waiting saves no work.
        """
        interval = self._interval_s
        if interval is None or now_s - self._last_s > _PAUSE_S or work_s < interval:
            return 0.0
        share = _SHARE / 2 if before and before in _BREAKS else _SHARE
        return min(self.longest_s, share * interval)
