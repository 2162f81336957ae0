r"""Words, n-grams and the exact form of programs, as the screens compare them.

*Words* are runs of letters, digits and underscores in lower case: layout, punctuation and case
don't count. (datatrove and open-r1 compare words too.) An *n-gram* of words is given as a 64-bit
hash, the same on every machine and in every process. The *exact form* of a program is finer: its
tokens in their order without comments, blank lines and spacing, but with the block structure.

Nothing here fails on text that is no program, and all of it takes linear time.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")

# A string that isn't closed ends with its line, or with the text: the search never goes back.
_STRING = (
    r"[rRbBuUfFtT]{0,2}(?:\"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\Z)|'''(?:[^\\]|\\.)*?(?:'''|\Z)"
    r"|\"(?:[^\"\\\n]|\\.)*+\"?|'(?:[^'\\\n]|\\.)*+'?)"
)
# Of what is skipped, a backslash before a line's end continues the line.
_TOKEN = re.compile(
    rf"(?P<skip>\#[^\n]*|\\\n|[^\S\n]+)|(?P<newline>\n[^\S\n]*)|{_STRING}|\w+|\S", re.DOTALL
)
_LINE_ENDS = re.compile(r"\r\n?")
_INDENT, _DEDENT = "\x01", "\x02"


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def digest(*parts: str) -> bytes:
    """A 16-byte hash of some texts."""
    # The lengths say where one part ends, whatever is in it.
    text = "".join((",".join(str(len(part)) for part in parts), ":", *parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def exact_form(program: str, language: str = "python") -> str:
    """A program without what doesn't count: two are exact duplicates if their forms are equal.

    For Python these are comments, blank lines, spaces between tokens, the width of indentation and
    line ends within brackets; of other languages, blank lines and spaces at the ends of lines.
    """
    text = _LINE_ENDS.sub("\n", program)
    if language != "python":
        return "\n".join(line.strip() for line in text.split("\n") if line.strip())
    return "\n".join(_tokens(text))


def _tokens(text: str) -> list[str]:
    """Python's tokens, with marks for line ends and for blocks that begin and end."""
    found: list[str] = []
    widths = [0]  # of the blocks that are open
    depth = 0  # of brackets
    line: str | None = "\n"  # the line end and indentation that no token has followed yet
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
                found.append(_INDENT)
            while width < widths[-1]:
                widths.pop()
                found.append(_DEDENT)
            found.append("")
            line = None
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth = max(0, depth - 1)
        found.append(token)
    return found


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    data = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def ngram_hashes(tokens: list[str], n: int) -> NDArray[np.uint64]:
    """The hashes of all n-grams, sorted and each once; none if there are fewer than n tokens.

    Shape: [distinct n-grams].
    """
    import numpy as np

    count = len(tokens) - n + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    hashes = np.fromiter(map(_word_hash, tokens), np.uint64, len(tokens))
    # A polynomial in an odd constant modulo 2^64, then mixed so that all bits are good.
    mixed = hashes[:count].copy()
    for place in range(1, n):
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed += hashes[place : place + count]
    return np.unique(_mix(mixed))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014), a bijection on 64 bits."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
