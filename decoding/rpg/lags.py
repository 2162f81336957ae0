"""Squares at the end of a growing sequence, by counters: one for each lag, O(P) an item.

For a sequence s and each lag p <= P, ``run[p]`` is the number of trailing places t with
s[t] = s[t-p]. The sequence then ends in k = 1 + run[p] // p equal copies of a block of p items, and
the smallest p with k >= 2 is the block that repeats. This is what the paper finds with a suffix
array over the whole text (Dong et al. 2025, arXiv 2505.10402, section 3.2), exact for periods up to
P, and each item costs the same however long the text is.

All states here are values: pushing makes a new one, so that an old one can be gone back to, or be
continued in two ways, at no cost.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np


class Square(NamedTuple):
    """The sequence ends in ``copies`` equal blocks of ``period`` items.

    Attributes:
        period: items in a block.
        copies: whole copies, at least 2.
        run: trailing items that equal the one ``period`` before them.
    """

    period: int
    copies: int
    run: int


class Stream(NamedTuple):
    """The end of a sequence of keyed items with its counters; a value.

    Attributes:
        keys: the last P keys, the newest first.
        items: what came with them and with P keys more.
        runs: ``run[p]`` at index p - 1.
    """

    keys: tuple[Hashable, ...] = ()
    items: tuple[Any, ...] = ()
    runs: tuple[int, ...] = ()

    def pushed(self, key: Hashable, item: Any, period: int) -> Stream:
        """With one more item.

        Args:
            key: what decides whether items are equal.
            item: kept beside its key.
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
        """The smallest block that the sequence ends in twice or more."""
        for period, run in enumerate(self.runs, 1):
            if run >= period:
                return Square(period, 1 + run // period, run)
        return None


class TokenLags:
    """The counters for token ids, P up to some hundreds; a value.

    Attributes:
        window: int32 [P], the last tokens, the newest first; -1 before the first.
        runs: int32 [P], ``run[p]`` at index p - 1.
    """

    __slots__ = ("runs", "window")

    def __init__(self, window: np.ndarray, runs: np.ndarray) -> None:
        self.window = window
        self.runs = runs

    @classmethod
    def empty(cls, period: int) -> TokenLags:
        """Before the first token."""
        return cls(np.full(period, -1, dtype=np.int32), np.zeros(period, dtype=np.int32))

    def pushed(self, token: int) -> TokenLags:
        """With one more token."""
        runs = self.runs + 1
        runs *= self.window == token
        window = np.empty_like(self.window)
        window[1:] = self.window[:-1]
        window[0] = token
        return TokenLags(window, runs)

    def square(self) -> Square | None:
        """The smallest block that the tokens end in twice or more."""
        found = self.runs >= _lags(len(self.runs))
        period = int(found.argmax()) + 1
        if not found[period - 1]:
            return None
        run = int(self.runs[period - 1])
        return Square(period, 1 + run // period, run)

    def expected(self, period: int) -> int:
        """The token that would go on with a cycle of that period."""
        return int(self.window[period - 1])


_LAGS: dict[int, np.ndarray] = {}


def _lags(count: int) -> np.ndarray:
    if count not in _LAGS:
        _LAGS[count] = np.arange(1, count + 1, dtype=np.int32)
    return _LAGS[count]
