"""Repetitions at the end of a growing sequence, and differences between the copies.

**Squares** are found by counters, one per lag, in O(P) per item. For a sequence s and each lag
p <= P, ``run[p]`` counts the trailing positions t with s[t] = s[t-p]. The sequence then ends in
k = 1 + run[p] // p equal copies of a block of p items, and the smallest p with k >= 2 is the block
that repeats. The paper finds it by a suffix array over the whole text (Dong et al. 2025, arXiv
2505.10402, section 3.2). The counters return the same result for periods up to P, at a cost per
item that does not depend on the text's length.

All states are immutable: pushing an item creates a new state, so an old one can be restored or
forked at no cost.

**Weights** distinguish a loop from a table that the user wants. Code repeats structure everywhere:
imports, tables, assertions. Differences between copies are found in their *pieces*: the runs of
letters or digits in their names, numbers and strings.

===============================================================================  ======
compared with the previous copy,                                                 weight
===============================================================================  ======
nothing is new, or numbers and single letters continue by the same steps            1
some numbers continue by the same steps, and other numbers or words are new      1/2
other numbers are new, but no words                                              1/4
words are new and no numbers continue                                            0
===============================================================================  ======

A copy of weight 0 halves the total so far. Elements of brackets weigh half, since data repeats more
than statements; with new numbers and no words, at most a quarter. A block of two or more statements
weighs at least 1/2: in real code it rarely occurs four times in a row, regardless of its contents
(measured: docs/rpg.md).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

_PIECE = re.compile(rb"[0-9]+|[A-Z]?[a-z\x80-\xff]+|[A-Z]+(?![a-z])|[A-Z]")
_MOST_DIGITS = 18
_BLOCK = 0.5


class Square(NamedTuple):
    """A repetition: the sequence ends in ``copies`` equal blocks of ``period`` items.

    Attributes:
        period: items in a block.
        copies: whole copies, at least 2.
        run: trailing items that equal the item ``period`` before them.
    """

    period: int
    copies: int
    run: int


class Stream(NamedTuple):
    """The end of a sequence of keyed items with its counters; immutable.

    Attributes:
        keys: the last P keys, the latest first.
        items: the last 2 P items, the latest first.
        runs: ``run[p]`` at index p - 1.
    """

    keys: tuple[Hashable, ...] = ()
    items: tuple[Any, ...] = ()
    runs: tuple[int, ...] = ()

    def pushed(self, key: Hashable, item: Any, period: int) -> Stream:
        """Returns the stream with one more item.

        Args:
            key: decides whether items are equal.
            item: stored with its key.
            period: P.
        """
        equal = [key == other for other in self.keys]
        if True in equal:
            last = zip(equal, (*self.runs, 0), strict=False)
            runs = tuple([run + 1 if same else 0 for same, run in last])
        else:
            runs = (0,) * len(equal)
        items = (item, *self.items[: 2 * period - 1])
        return Stream((key, *self.keys[: period - 1]), items, runs)

    def square(self) -> Square | None:
        """Returns the shortest block that the sequence ends with at least twice, if any."""
        for period, run in enumerate(self.runs, 1):
            if run >= period:
                return Square(period, 1 + run // period, run)
        return None


class TokenLags:
    """Counters for token ids, with P up to a few hundred; immutable.

    Attributes:
        window: int32 [P], the last tokens, the latest first, padded with -1.
        runs: int32 [P], ``run[p]`` at index p - 1.
    """

    __slots__ = ("runs", "window")

    def __init__(self, window: np.ndarray, runs: np.ndarray) -> None:
        self.window = window
        self.runs = runs

    @classmethod
    def empty(cls, period: int) -> TokenLags:
        """Returns the state before the first token."""
        return cls(np.full(period, -1, dtype=np.int32), np.zeros(period, dtype=np.int32))

    def pushed(self, token: int) -> TokenLags:
        """Returns the state with one more token."""
        runs = self.runs + 1
        runs *= self.window == token
        window = np.empty_like(self.window)
        window[1:] = self.window[:-1]
        window[0] = token
        return TokenLags(window, runs)

    def square(self) -> Square | None:
        """Returns the shortest block that the tokens end with at least twice, if any."""
        found = self.runs >= _lags(len(self.runs))
        period = int(found.argmax()) + 1
        if not found[period - 1]:
            return None
        run = int(self.runs[period - 1])
        return Square(period, 1 + run // period, run)

    def expected(self, period: int) -> int:
        """Returns the token that would continue a cycle of this period."""
        return int(self.window[period - 1])


_LAGS: dict[int, np.ndarray] = {}


def _lags(count: int) -> np.ndarray:
    if count not in _LAGS:
        _LAGS[count] = np.arange(1, count + 1, dtype=np.int32)
    return _LAGS[count]


class _Pieces(NamedTuple):
    """A copy's words in lower case, and its numbers and single letters."""

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
    """Returns the total weight of a block's copies after the first.

    Args:
        copies: names, numbers and strings of each copy, the oldest first.
        block: True if the block has several statements.
        bracketed: True if the block consists of elements of a bracket.
    """
    read = [_pieces(words) for words in copies]
    total = 0.0
    before: tuple[int, ...] | None = None  # last difference of each number
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
    one: _Pieces, other: _Pieces, steps: tuple[int, ...] | None, before: tuple[int, ...] | None
) -> float:
    """Returns the weight of copy ``other`` after copy ``one``."""
    if one == other:
        return 1.0
    new = not other.words <= one.words
    if steps is not None and steps == before and not new:
        return 1.0
    alike = steps is not None and before is not None and len(steps) == len(before)
    if alike and any(a == b != 0 for a, b in zip(steps or (), before or (), strict=True)):
        return 0.5
    return 0.0 if new else 0.25
