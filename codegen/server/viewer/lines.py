"""The lines of a JSONL file by number: an index of offsets, made once, extended as the file grows.

Only whole lines count: one that is still being written has no newline yet. Memory: 9 bytes a line.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codegen.errors import InputError
from codegen.paths import open_plain

_AT_ONCE = 4 << 20
_LONGEST = 64 << 20  # bytes of a line that is parsed
# JSON's escapes for characters that a search text has unescaped.
_OTHER_ESCAPE = re.compile(rb"\\[u/bf]")

_WORDS = ("true", "false", "null", "nan", "infinity")
_ENDS = "|".join(word[start:] for word in _WORDS for start in range(1, len(word)))
_STARTS = "|".join(word[:end] for word in _WORDS for end in range(1, len(word)))
# Text between JSON's strings: numbers, words and punctuation, cut off anywhere.
_BETWEEN = re.compile(rf"(?:{_ENDS})?(?:[\s\d.,:+\-\[\]{{}}e]|{'|'.join(_WORDS)})*(?:{_STARTS})?")


class Lines:
    """A JSONL file that other processes may append to, cut, or replace at any time.

    Args:
        path: the file; a missing one has no lines.
        on_row: called with the value of each line (None if it is not JSON), in order, as the index
            is made. After ``on_reset`` the rows come again from the first one.
        on_reset: called when the file no longer has the indexed lines.
    """

    def __init__(
        self, path: Path, on_row: Callable[[Any], None], on_reset: Callable[[], None]
    ) -> None:
        self.path, self.on_row, self.on_reset = path, on_row, on_reset
        self.starts = array("Q", [0])  # where each line begins, and the last one ends
        self._odd = bytearray()  # lines that hold escapes beside \n, \t, \r, \" and \\
        self._keys: set[str] = set()
        self._of: tuple[int, int] | None = None  # the file's device and inode
        self._tail = b""  # the last bytes that were indexed: an appended file still has them

    def __len__(self) -> int:
        return len(self._odd)

    def refresh(self, on_bytes: Callable[[int], None] | None = None) -> bool:
        """Reads appended lines, or all if the file was replaced or cut; whether any changed.

        ``on_bytes`` is called with the number of bytes read so far.
        """
        with self._opened() as file:
            if file is None:
                return self._reset(None)
            found = os.fstat(file)
            of, size, tail = (found.st_dev, found.st_ino), len(self._tail), self._tail
            continues = self._of == of and os.pread(file, size, self.starts[-1] - size) == tail
            changed = not continues and self._reset(of)
            before = len(self)
            self._read(file, on_bytes)
            return changed or len(self) > before

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        """The file's descriptor; None if there is no file, or it is a link or not a plain file."""
        try:
            descriptor = open_plain(self.path, os.O_RDONLY)
        except (OSError, InputError):
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _reset(self, of: tuple[int, int] | None) -> bool:
        had = len(self) > 0
        self._of, self._tail = of, b""
        if had:
            self.starts, self._odd = array("Q", [0]), bytearray()
            self.on_reset()
        return had

    def _read(self, file: int, on_bytes: Callable[[int], None] | None) -> None:
        left, at = b"", self.starts[-1]
        while data := os.pread(file, _AT_ONCE, at):
            at += len(data)
            end = data.rfind(b"\n") + 1
            if not end:
                left += data
                continue
            lines, left = (left + data[:end]).split(b"\n")[:-1], data[end:]
            for line in lines:
                self.starts.append(self.starts[-1] + len(line) + 1)
                self._odd.append(_OTHER_ESCAPE.search(line) is not None)
                row = decoded(line)
                self._keep_keys(row)
                self.on_row(row)
            self._tail = lines[-1][-63:] + b"\n"
            if on_bytes:
                on_bytes(self.starts[-1])

    def _keep_keys(self, row: Any) -> None:
        waiting = [row]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                self._keys.update(map(str.lower, value))
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value

    def read(self, numbers: Sequence[int]) -> list[bytes]:
        """The bytes of lines, by number; empty where the file has been cut meanwhile."""
        with self._opened() as file:
            if file is None:
                return [b""] * len(numbers)
            starts = self.starts
            return [os.pread(file, starts[n + 1] - starts[n], starts[n]) for n in numbers]

    # --- search ----------------------------------------------------------------------------------

    def search(self, text: str) -> Iterator[int]:
        """The numbers of the lines with a string, at any depth, that contains the text.

        Keys don't count; the case of ASCII letters is ignored. Lines are searched as bytes, and
        parsed only if a match in the bytes may not be in a string.
        """
        wanted = _lower(text)
        try:
            needle = json.dumps(wanted, ensure_ascii=False)[1:-1].encode()
            inside = any(wanted in known for known in (*self._keys, *_WORDS))
            doubtful = inside or _BETWEEN.fullmatch(wanted)
        except UnicodeEncodeError:  # half a surrogate pair, which only an escape can write
            needle, doubtful = b"", True
        for first, block in self._blocks():
            lowered = block.lower()
            base = self.starts[first]
            last = bisect_right(self.starts, base + len(block)) - 1
            odd = (n for n in range(first, last) if self._odd[n])
            hits = set(self._hits(lowered, needle, first, last) if needle else range(first, last))
            for number in sorted({*hits, *odd}):
                start, end = self.starts[number] - base, self.starts[number + 1] - base
                is_sure = number in hits and not doubtful and not self._odd[number]
                if is_sure or contains(decoded(block[start:end]), wanted):
                    yield number

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines, some megabytes at a time, each with the number of its first."""
        with self._opened() as file:
            first, count = 0, len(self)
            while file is not None and first < count:
                start = self.starts[first]
                last = max(first + 1, bisect_right(self.starts, start + _AT_ONCE) - 1)
                last = min(last, count)
                data = os.pread(file, self.starts[last] - start, start)
                if len(data) < self.starts[last] - start:
                    return  # cut meanwhile
                yield first, data
                first = last

    def _hits(self, block: bytes, needle: bytes, first: int, last: int) -> Iterator[int]:
        base, at = self.starts[first], 0
        while (at := block.find(needle, at)) >= 0:
            behind = at
            while behind and block[behind - 1] == 0x5C:
                behind -= 1
            if (at - behind) % 2:  # inside an escape: the n of "\n"
                at += 1
                continue
            number = min(bisect_right(self.starts, base + at) - 1, last - 1)
            yield number
            at = self.starts[number + 1] - base


def decoded(line: bytes) -> Any:
    """The value of a line; None if it is not JSON or too long."""
    if len(line) > _LONGEST:
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def contains(value: Any, wanted: str) -> bool:
    """Whether a string of a JSON value contains a text, which is in lower case."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if wanted in _lower(value):
                return True
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


_ASCII = {ord(letter): ord(letter) + 32 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def _lower(text: str) -> str:
    return text.translate(_ASCII)
