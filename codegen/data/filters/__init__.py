r"""Filters that drop examples before generation, and normal forms for comparing programs.

A :class:`Filter`, such as decontamination, checks one example and runs in the workers; other
packages add filters through entry points (:mod:`codegen.core.plugins`). Deduplication has two
parts: :meth:`Dedup.signature` runs in the workers; :class:`DedupIndex` decides in input order, so
that the result is the same for any number of workers.

*Words* are runs of letters, digits and underscores in lower case, as in datatrove and open-r1:
layout, punctuation and case are ignored. An *n-gram* of words is a 64-bit hash, the same on every
machine and in every process. The *exact form* of a program is finer: its tokens in order without
comments, blank lines and spacing, but with the block structure. All functions accept any text, not
only programs, and take linear time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from codegen.core.records import Example
from codegen.data.sources import Rejected

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Filter(Protocol):
    """Decides which examples to keep; picklable."""

    def check(self, example: Example) -> Rejected | None:
        """Returns None to keep the example, else its rejection; depends only on the example."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Returns the settings (JSON values); a resumed run must have the same settings."""
        ...


_WORD = re.compile(r"\w+")

# An unclosed string ends with its line, or with the text, so that the search never backtracks.
_STRING = (
    r"[rRbBuUfFtT]{0,2}(?:\"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\Z)|'''(?:[^\\]|\\.)*?(?:'''|\Z)"
    r"|\"(?:[^\"\\\n]|\\.)*+\"?|'(?:[^'\\\n]|\\.)*+'?)"
)
# A backslash before a line end continues the line.
_TOKEN = re.compile(
    rf"(?P<skip>\#[^\n]*|\\\n|[^\S\n]+)|(?P<newline>\n[^\S\n]*)|{_STRING}|\w+|\S", re.DOTALL
)
_LINE_ENDS = re.compile(r"\r\n?")
_INDENT, _DEDENT = "\x01", "\x02"


def words(text: str) -> list[str]:
    """Returns the words of ``text`` in lower case."""
    return _WORD.findall(text.lower())


def digest(*parts: str) -> bytes:
    """Returns a 16-byte hash of the strings."""
    # The lengths separate the parts.
    text = "".join((",".join(str(len(part)) for part in parts), ":", *parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def exact_form(program: str, language: str = "python") -> str:
    """Returns a normal form that is equal for exact duplicates.

    Python programs lose comments, blank lines, spaces between tokens, the width of indentation and
    line ends within brackets; other languages lose blank lines and spaces at both ends of lines.
    """
    text = _LINE_ENDS.sub("\n", program)
    if language != "python":
        return "\n".join(line.strip() for line in text.split("\n") if line.strip())
    return "\n".join(_tokens(text))


def _tokens(text: str) -> list[str]:
    """Returns Python's tokens, with marks for line ends and the start and end of blocks."""
    tokens: list[str] = []
    widths = [0]  # indentation of each open block
    depth = 0  # number of open brackets
    line: str | None = "\n"  # pending line end and indentation, before the next token
    for match in _TOKEN.finditer("\n" + text):
        token = match.group()
        kind = match.lastgroup
        if kind == "skip":
            continue
        if kind == "newline":
            line = token if depth == 0 else line
            continue
        if line is not None:
            width = len(line.expandtabs(8)) - 1
            if width > widths[-1]:
                widths.append(width)
                tokens.append(_INDENT)
            while width < widths[-1]:
                widths.pop()
                tokens.append(_DEDENT)
            tokens.append("")
            line = None
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth = max(0, depth - 1)
        tokens.append(token)
    return tokens


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    data = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def ngram_hashes(tokens: list[str], n: int) -> NDArray[np.uint64]:
    """Returns the sorted distinct hashes of all n-grams, uint64 [distinct n-grams].

    Empty for fewer than n tokens.
    """
    import numpy as np

    count = len(tokens) - n + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    hashes = np.fromiter(map(_word_hash, tokens), np.uint64, len(tokens))
    # A polynomial in an odd constant modulo 2^64, then mixed so that all bits are well distributed.
    mixed = hashes[:count].copy()
    for place in range(1, n):
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed += hashes[place : place + count]
    return np.unique(_mix(mixed))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Applies the finalizer of splitmix64 (Steele, Lea, Flood 2014), a bijection on 64 bits."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
