"""The interface of rules against repetition, how their penalties change logits, and the rules that
ignore structure.

A rule follows one row: it takes each token, and gives penalties for the next one. Rules do not
depend on batches or frameworks; ``methods``, ``processor`` and ``vllm_processors`` apply them.

For comparison with RPG, ``RepetitionPenalty`` (Keskar et al. 2019, CTRL) and ``NoRepeatNgram``
(Paulus et al. 2018) equal the processors of these names in transformers. ``Dry`` is "don't repeat
yourself" by p-e-w (2024, oobabooga/text-generation-webui, pull request 5677): a token that would
prolong a repetition of n tokens loses multiplier * base^(n - allowed) nats.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from codegen.decoding.device import upload
from codegen.decoding.rpg.options import (
    DryOptions,
    NoRepeatNgramOptions,
    RepetitionPenaltyOptions,
)
from codegen.kernels.logits import penalize

Kind = Literal["add", "scale", "multiply"]


class Penalty(NamedTuple):
    """A change of some logits z of one row.

    Attributes:
        ids: token ids, int64, each once.
        amount: ``add``: z + amount. ``multiply``: z * amount for any sign of z (an amount below 1
            raises a negative logit, as in RPG's released code). ``scale``: z * amount if z > 0,
            else z / amount.
        kind: how the amount is applied.
    """

    ids: np.ndarray
    amount: float
    kind: Kind = "add"


class Rule(Protocol):
    """One row's state."""

    def push(self, token: int) -> None:
        """Takes the next token, of the prompt or generated."""
        ...

    def penalties(self) -> Sequence[Penalty]:
        """The penalties for the next token."""
        ...

    def snapshot(self) -> Any:
        """The state, for :meth:`restore` after rejected drafts."""
        ...

    def restore(self, state: Any) -> None:
        """Restores an earlier state of this rule, or of the rule it was forked from."""
        ...

    def fork(self) -> Rule:
        """A second rule in the same state, independent of this one."""
        ...


class History:
    """Base of rules whose state is a list of tokens; a snapshot is its length.

    Subclasses extend :meth:`push`, and :meth:`restore` if they keep more.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def push(self, token: int) -> None:
        """See :class:`Rule`."""
        self.tokens.append(token)

    def snapshot(self) -> Any:
        """See :class:`Rule`."""
        return len(self.tokens)

    def restore(self, state: Any) -> None:
        """See :class:`Rule`."""
        del self.tokens[state:]

    def fork(self) -> Any:
        """See :class:`Rule`."""
        return copy.deepcopy(self)


def push_all(rule: Rule, tokens: Iterable[int]) -> None:
    """Pushes several tokens to a rule."""
    for token in tokens:
        rule.push(token)


def apply(logits: torch.Tensor, by_row: Sequence[Sequence[Penalty]]) -> None:
    """Applies penalties to logits in place, with one transfer to the device.

    Several penalties of a row for the same id are applied in order.

    Args:
        logits: [B, V], any float dtype. Forbidden tokens (-inf) stay forbidden.
        by_row: the penalties of each of the B rows.
    """
    waiting = [[p for p in penalties if len(p.ids)] for penalties in by_row]
    tables: list[torch.Tensor] = []
    while any(waiting):
        now: list[tuple[int, Penalty]] = []
        for row, penalties in enumerate(waiting):
            taken: set[int] = set()
            left: list[Penalty] = []
            for penalty in penalties:
                ids = penalty.ids.tolist()
                if left or not taken.isdisjoint(ids):
                    left.append(penalty)
                else:
                    taken.update(ids)
                    now.append((row, penalty))
            waiting[row] = left
        tables += _tables(now)
    given = iter(upload(logits.device, *tables))
    for (rows, ids), numbers in zip(given, given, strict=True):
        penalize(logits, rows, ids, numbers)


def _tables(penalties: Sequence[tuple[int, Penalty]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tables of (row, penalty) pairs without repeated ids in a row.

    Returns:
        Rows and ids, int64 [2, N]; and float64 [3, N]: the factor of positive logits, the factor of
        others, and what is added.
    """
    counts = [len(penalty.ids) for _, penalty in penalties]
    rows = np.repeat([row for row, _ in penalties], counts)
    ids = np.concatenate([penalty.ids for _, penalty in penalties])
    numbers = [
        (1.0, 1.0, amount)
        if kind == "add"
        else (amount, 1 / amount if kind == "scale" else amount, 0.0)
        for _, (_, amount, kind) in penalties
    ]
    spread = np.repeat(np.array(numbers).T, counts, axis=1)
    return torch.from_numpy(np.stack([rows, ids])), torch.from_numpy(spread)


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
