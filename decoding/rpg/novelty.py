"""How little the copies of a repeating block say: what tells a loop from a table that was wanted.

Code repeats structure everywhere: imports, tables, assertions. What a copy adds to the one before
is read from its *pieces*: the runs of letters and of digits in its names, numbers and strings.

===============================================================================  ======
a copy of which, beside the one before,                                          counts
===============================================================================  ======
nothing is new, or numbers and single letters go on by the same steps            1
some numbers go on by the same steps, and other numbers or words are new         1/2
other numbers are new, and no words                                              1/4
words are new and nothing counts                                                 0
===============================================================================  ======

A copy that counts 0 halves what was counted before it. Elements of brackets count half, since data
repeats more than statements do, and new numbers without a word at most a quarter. A block of
two statements and more counts 1/2 at least: in real code it hardly ever comes four times in a row
(measured: docs/rpg.md), whatever it says.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_PIECE = re.compile(rb"[0-9]+|[A-Z]?[a-z\x80-\xff]+|[A-Z]+(?![a-z])|[A-Z]")
_MOST_DIGITS = 18
_BLOCK = 0.5


class _Pieces(NamedTuple):
    """What a copy is made of: words in lower case, and what may count (numbers, single letters)."""

    words: frozenset[bytes]
    numbers: tuple[int, ...]
    size: int


@lru_cache(maxsize=1 << 13)
def _pieces(words: tuple[bytes, ...]) -> _Pieces:
    found: set[bytes] = set()
    numbers: list[int] = []
    size = 0
    for word in words:
        for piece in _PIECE.findall(word):
            size += 1
            if piece.isdigit():
                numbers.append(int(piece[:_MOST_DIGITS]))
            elif len(piece) == 1:
                numbers.append(-piece[0])
            else:
                found.add(piece.lower())
    return _Pieces(frozenset(found), tuple(numbers), size)


def weight(copies: Sequence[tuple[bytes, ...]], block: bool, bracketed: bool) -> float:
    """What the copies of a block after the first count, together.

    Args:
        copies: names, numbers and strings of each copy, the oldest first.
        block: whether it is of several statements.
        bracketed: whether it is of elements of a bracket.
    """
    read = [_pieces(words) for words in copies]
    total = 0.0
    before: tuple[int, ...] | None = None  # the last steps of the numbers
    for one, other in itertools.pairwise(read):
        steps = None
        if len(one.numbers) == len(other.numbers):
            steps = tuple([b - a for a, b in zip(one.numbers, other.numbers, strict=True)])
        found = _counts(one, other, steps, before)
        if bracketed:
            if one != other and not other.words:
                found = 0.5 if found == 1 else 0.0
            found /= 2
        elif block:
            found = max(found, _BLOCK)
        total = total + found if found else total / 2
        before = steps
    return total


def _counts(
    one: _Pieces,
    other: _Pieces,
    steps: tuple[int, ...] | None,
    before: tuple[int, ...] | None,
) -> float:
    """What a copy counts after another one."""
    if one == other:
        return 1.0
    new = not other.words <= one.words
    if steps is not None and steps == before and not new:
        return 1.0
    alike = steps is not None and before is not None and len(steps) == len(before)
    if alike and any(a == b != 0 for a, b in zip(steps or (), before or (), strict=True)):
        return 0.5
    return 0.0 if new else 0.25
