"""Rules against repetition that ignore structure, for comparison.

``RepetitionPenalty`` (Keskar et al. 2019, CTRL) and ``NoRepeatNgram`` (Paulus et al. 2018) equal
the processors of these names in transformers. ``Dry`` is "don't repeat yourself" by p-e-w (2024,
oobabooga/text-generation-webui, pull request 5677): a token that would prolong a repetition of n
tokens loses multiplier * base^(n - allowed) nats.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from codegen.decoding.rpg.options import (
    DryOptions,
    NoRepeatNgramOptions,
    RepetitionPenaltyOptions,
)
from codegen.decoding.rpg.rules import History, Penalty


class RepetitionPenalty(History):
    """Makes every token of the row so far less likely, once."""

    def __init__(self, options: RepetitionPenaltyOptions) -> None:
        super().__init__()
        self._factor = 1 / options.penalty
        self._counts: dict[int, int] = {}

    def push(self, token: int) -> None:
        """Takes the next token."""
        super().push(token)
        self._counts[token] = self._counts.get(token, 0) + 1

    def restore(self, state: int) -> None:
        """Goes back to a length."""
        for token in self.tokens[state:]:
            self._counts[token] -= 1
            if not self._counts[token]:
                del self._counts[token]
        super().restore(state)

    def penalties(self) -> list[Penalty]:
        """What to change for the next token."""
        if not self._counts:
            return []
        return [Penalty(np.array(sorted(self._counts)), self._factor, "scale")]


class NoRepeatNgram(History):
    """Forbids a token that would complete an n-gram for the second time."""

    def __init__(self, options: NoRepeatNgramOptions) -> None:
        super().__init__()
        self._before = options.size - 1
        self._after: dict[tuple[int, ...], list[int]] = {}

    def push(self, token: int) -> None:
        """Takes the next token."""
        if len(self.tokens) >= self._before:
            self._after.setdefault(self._last(), []).append(token)
        super().push(token)

    def restore(self, state: int) -> None:
        """Goes back to a length."""
        while len(self.tokens) > state:
            self.tokens.pop()
            if len(self.tokens) >= self._before:
                self._after[self._last()].pop()

    def penalties(self) -> list[Penalty]:
        """What to change for the next token."""
        banned = self._after.get(self._last()) if len(self.tokens) >= self._before else None
        return [Penalty(np.unique(banned), -np.inf)] if banned else []

    def _last(self) -> tuple[int, ...]:
        return tuple(self.tokens[len(self.tokens) - self._before :])


class Dry:
    """DRY for one row; each token costs O(n) additions in NumPy.

    Args:
        options: the settings.
        breakers: ids of the tokens that end repetitions.
    """

    def __init__(self, options: DryOptions, breakers: Iterable[int] = ()) -> None:
        self._options = options
        self._breakers = frozenset(breakers) if options.breakers else frozenset()
        self._tokens = np.empty(64, dtype=np.int64)
        self._size = 0
        # For each place j > 0: how many tokens before j equal the last ones of the row.
        self._matched = np.zeros(1, dtype=np.int64)

    def push(self, token: int) -> None:
        """Takes the next token."""
        if self._size == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        matched = np.zeros(self._size + 2, dtype=np.int64)
        if token not in self._breakers:
            same = self._tokens[: self._size] == token
            matched[1:-1] = (self._matched[: self._size] + 1) * same
        self._tokens[self._size] = token
        self._size += 1
        self._matched = matched

    def penalties(self) -> list[Penalty]:
        """What to change for the next token."""
        matched = self._matched[: self._size]
        places = np.flatnonzero(matched >= self._options.allowed)
        longest: dict[int, int] = {}
        for place in places.tolist():
            token, length = int(self._tokens[place]), int(matched[place])
            if token not in self._breakers:
                longest[token] = max(length, longest.get(token, 0))
        by_length: dict[int, list[int]] = {}
        for token, length in longest.items():
            by_length.setdefault(length, []).append(token)
        return [
            Penalty(np.array(sorted(tokens)), -self._strength(length))
            for length, tokens in by_length.items()
        ]

    def _strength(self, length: int) -> float:
        options = self._options
        grown = min(200, length - options.allowed)  # beyond, a float would overflow
        return min(options.cap, options.multiplier * options.base**grown)

    def snapshot(self) -> Any:
        """The state."""
        return self._size, self._matched

    def restore(self, state: Any) -> None:
        """Goes back to an earlier state of this rule."""
        self._size, self._matched = state

    def fork(self) -> Dry:
        """A second rule in this state."""
        other = copy.copy(self)
        other._tokens = self._tokens.copy()
        return other
