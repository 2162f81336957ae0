r"""A document as the editor has it: lines, positions, changes.

Lines end at ``\n``, ``\r\n`` and ``\r`` only, as the Language Server Protocol says; Python's
``splitlines`` also breaks at form feeds, U+2028 and others, which would put every later edit on the
wrong line. Columns count bytes (utf-8), 16-bit units (utf-16) or characters (utf-32), whichever was
agreed on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codegen.errors import InputError

Encoding = Literal["utf-8", "utf-16", "utf-32"]
ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16", "utf-32")

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place between characters: a line and a column in units of the mirror's encoding."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Change:
    """Text put in the place of a range; without a range, in the place of everything."""

    text: str
    start: Position | None = None
    end: Position | None = None


class OutOfStep(InputError):
    """A change can't belong to the text as it is here; only the whole text helps."""


def split_lines(text: str) -> list[str]:
    """Lines with their ends; the last one has none, and is empty behind a final line end."""
    lines = _LINE.findall(text)
    if not lines or lines[-1][-1] in "\r\n":
        lines.append("")
    return lines


class Mirror:
    """The text of one open document.

    Args:
        text: all of it.
        encoding: what columns count.
        version: as the editor numbers it.

    Attributes:
        lines: with their ends; at least one, and the last has no end.
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

    def apply(self, changes: Sequence[Change], version: int | None = None) -> None:
        """Applies changes in order, each to what the one before left.

        Raises:
            OutOfStep: if a range lies beyond the text. The changes before it have been applied.
        """
        for change in changes:
            if change.start is None or change.end is None:
                self.lines = split_lines(change.text)
                self.size = len(change.text)
            else:
                self._replace(change.start, change.end, change.text)
        if version is not None:
            self.version = version

    def offset_in_line(self, position: Position) -> int:
        """The character of a position within its line: columns beyond the line's end mean its end,
        columns within a character its beginning.

        Raises:
            OutOfStep: if there is no such line.
        """
        if position.line < 0 or position.column < 0 or position.line >= len(self.lines):
            raise OutOfStep(
                f"There is no line {position.line} in a text of {len(self.lines)} lines."
            )
        line = self.lines[position.line].rstrip("\r\n")
        return _characters(line, position.column, self.encoding)

    def position(self, line: int, offset: int) -> Position:
        """The position of a character of a line."""
        return Position(line, units(self.lines[line][:offset], self.encoding))

    def around(self, position: Position, before: int, behind: int) -> tuple[str, str]:
        """The text before and behind a position: whole lines, until there are so many characters.

        Raises:
            OutOfStep: if there is no such line.
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
        while number + 1 < len(self.lines) and size < behind:
            number += 1
            suffix.append(self.lines[number])
            size += len(self.lines[number])
        return "".join(reversed(prefix)), "".join(suffix)

    def _replace(self, start: Position, end: Position, text: str) -> None:
        if end < start:
            start, end = end, start
        if end == Position(len(self.lines), 0):  # how some editors name the end of the text
            end = Position(end.line - 1, 2**31)
            start = min(start, end)
        head_end, tail_start = self.offset_in_line(start), self.offset_in_line(end)
        first, last = start.line, end.line
        head, tail = self.lines[first][:head_end], self.lines[last][tail_start:]
        if first and self.lines[first - 1].endswith("\r"):
            first -= 1  # a line feed that now follows belongs to it
            head = self.lines[first] + head
        old = sum(map(len, self.lines[first : last + 1]))
        block = head + text + tail
        lines = split_lines(block)
        if last + 1 < len(self.lines):
            lines.pop()  # an empty one: the block ends in a line end, and another line follows
        self.lines[first : last + 1] = lines
        self.size += len(block) - old


def units(text: str, encoding: Encoding) -> int:
    """The length of a text in units of an encoding."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    if encoding == "utf-8":
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text) + sum(char > "\uffff" for char in text)


def _characters(line: str, column: int, encoding: Encoding) -> int:
    """The character at a column of a line."""
    if encoding == "utf-32" or line.isascii():
        return min(column, len(line))
    if encoding == "utf-8":
        data = line.encode("utf-8", "surrogatepass")[:column]
        while data and not _whole(data):
            data = data[:-1]
        return len(data.decode("utf-8", "surrogatepass"))
    used = 0
    for number, char in enumerate(line):
        used += 2 if char > "\uffff" else 1
        if used > column:
            return number
    return len(line)


def _whole(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
