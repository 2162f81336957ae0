"""The rules against repetition, and how their penalties change logits.

A rule follows one row: it reads each token and returns penalties for the next one. Rules do not
depend on batches or frameworks; ``methods`` and ``vllm_processors`` apply them.

**RPG** penalizes tokens that would begin one more copy of a structure that repeats (Dong et al.
2025, "Rethinking Repetition Problems of LLMs in Code Generation", arXiv 2505.10402). Its two
modes share the trackers of ``structure`` and ``repetition``.

``paper``: if the statements so far end in k >= 2 copies of a block, the logit z of tokens that
begin the block becomes z * decay^k (z / decay^k if z < 0), with decay 0.9. After a cycle of k >= 2
copies of the same tokens, the token that would continue it gets the same penalty.

``ours``: human code also repeats structure (import lists, tables, asserts), so the penalty comes
later. Each copy has a weight: the less it adds, the larger (``repetition``). Let e be the sum of
the weights. Once e reaches k_min, z is lowered by

    min(cap, strength * (1 + growth * (e - k_min)))

and the logits of the end-of-sequence tokens or the closing bracket are raised by ``bonus`` times
the same amount. Copies in token cycles have weight 1, inside strings and outside.

Limits: see ``structure``; a boundary inside a token is not detected.

**Simpler rules**, for comparison: ``RepetitionPenalty`` (Keskar et al. 2019, CTRL) and
``NoRepeatNgram`` (Paulus et al. 2018) equal the processors of these names in transformers. ``Dry``
is "don't repeat yourself" by p-e-w (2024, oobabooga/text-generation-webui, pull request 5677): a
token that would prolong a repetition of n tokens loses multiplier * base^(n - allowed) nats.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from codegen.decoding.device import upload
from codegen.decoding.rpg import (
    DryOptions,
    NoRepeatNgramOptions,
    RepetitionPenaltyOptions,
    RpgOptions,
    find_language,
)
from codegen.decoding.rpg.repetition import TokenLags
from codegen.decoding.rpg.structure import Repetition, StructureTracker
from codegen.kernels.vocabulary import penalize

# Shorter token cycles, such as 0, 0, 0, 0 and ====, are not penalized.
_LEAST_CYCLE = 24
_SPACES = b" \t\r\n\f\v"
_NAME_BYTES = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$" + bytes(range(128, 256))
)
_MOST_KEPT = 1 << 14
_NO_IDS = np.empty(0, dtype=np.int64)


Kind = Literal["add", "scale", "multiply"]


class Penalty(NamedTuple):
    """A change to some logits z of one row.

    Attributes:
        ids: token ids, int64, each once.
        amount: ``add``: z + amount. ``multiply``: z * amount for any sign of z (an amount below 1
            raises a negative logit, as in RPG's released code). ``scale``: z * amount if z > 0,
            else z / amount.
        kind: operation that applies the amount.
    """

    ids: np.ndarray
    amount: float
    kind: Kind = "add"


class Rule(Protocol):
    """A rule with the state of one row."""

    def push(self, token: int) -> None:
        """Appends the next token of the prompt or output."""

    def penalties(self) -> Sequence[Penalty]:
        """Returns the penalties for the next token."""
        ...

    def snapshot(self) -> Any:
        """Returns the state, for :meth:`restore` after rejected drafts."""
        ...

    def restore(self, state: Any) -> None:
        """Restores an earlier state of this rule, or of the rule it was forked from."""

    def fork(self) -> Rule:
        """Returns a second rule in the same state, independent of this one."""
        ...


class History:
    """Base of rules whose state is a list of tokens; a snapshot is its length.

    Subclasses extend :meth:`push`, and :meth:`restore` if they have more state.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def push(self, token: int) -> None:
        """Appends a token; see :class:`Rule`."""
        self.tokens.append(token)

    def snapshot(self) -> Any:
        """Returns the state; see :class:`Rule`."""
        return len(self.tokens)

    def restore(self, state: Any) -> None:
        """Restores a state; see :class:`Rule`."""
        del self.tokens[state:]

    def fork(self) -> Any:
        """Returns a copy; see :class:`Rule`."""
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
    """Builds tables of (row, penalty) pairs without repeated ids in a row.

    Returns:
        Rows and ids, int64 [2, N]; and float64 [3, N]: the factor of positive logits, the factor of
        other logits, and the addend.
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


class CriticalTokens:
    """Lookup of the token ids that can begin a text: the critical tokens of a repetition.

    Many tokens can begin a text: ``elif`` after two of four columns can begin with ``"  elif"``,
    ``"  el"`` and others. The sorted table of the vocabulary is built once per tokenizer; results
    are cached, as the same keywords recur.

    Args:
        tokens: bytes of each token id, None for special and unused ids
            (``codegen.decoding.healing.Vocabulary.tokens``).
    """

    def __init__(self, tokens: Sequence[bytes | None]) -> None:
        self.tokens = tokens
        self._found: dict[tuple[bytes, bytes | None], np.ndarray] = {}

    @cached_property
    def _tables(self) -> dict[bytes | None, tuple[list[bytes], list[int]]]:
        """Sorted bodies (tokens without leading whitespace) and ids, keyed by that whitespace.

        The key None has all bodies.
        """
        rows: dict[bytes | None, list[tuple[bytes, int]]] = {None: []}
        for index, token in enumerate(self.tokens):
            body = (token or b"").lstrip(_SPACES)
            if token and body:
                space = token[: len(token) - len(body)]
                rows.setdefault(space, []).append((body, index))
                rows[None].append((body, index))
        tables = {}
        for space, found in rows.items():
            found.sort()
            tables[space] = [body for body, _ in found], [index for _, index in found]
        return tables

    def beginning(self, text: bytes, margin: bytes | None) -> np.ndarray:
        """Returns the ids of the tokens that begin ``margin`` followed by ``text``, int64, sorted.

        A token matches if it is the margin and a prefix of the text, or begins with both in full.
        If the text ends in a name character, no other may follow (``printer`` does not begin
        ``print``). Tokens of only whitespace do not match.

        Args:
            text: the next text, not empty.
            margin: whitespace before it; None for any.
        """
        key = text, margin
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MOST_KEPT:
                self._found.clear()
            found = self._found[key] = self._look_up(text, margin)
        return found

    def _look_up(self, text: bytes, margin: bytes | None) -> np.ndarray:
        if not text or margin not in self._tables:
            return _NO_IDS
        bodies, ids = self._tables[margin]
        found = []
        for length in range(1, len(text)):
            at = bisect_left(bodies, text[:length])
            if at == len(bodies) or not bodies[at].startswith(text[:length]):
                break  # no token has this prefix or a longer one
            while at < len(bodies) and bodies[at] == text[:length]:
                found.append(ids[at])
                at += 1
        at = bisect_left(bodies, text)
        whole = text[-1] in _NAME_BYTES
        while at < len(bodies) and bodies[at].startswith(text):
            rest = bodies[at][len(text) :]
            if not (whole and rest and rest[0] in _NAME_BYTES):
                found.append(ids[at])
            at += 1
        return np.array(sorted(found), dtype=np.int64)


class GrammarRule:
    """RPG's modes ``ours`` and ``paper`` for one row (:class:`Rule`).

    Args:
        options: the settings.
        critical: the vocabulary's lookup, shared by all rows.
        eos: ids that end the sequence.
    """

    __slots__ = ("_cycle", "_eos", "_structure", "critical", "options")

    def __init__(
        self, options: RpgOptions, critical: CriticalTokens, eos: Iterable[int] = ()
    ) -> None:
        self.options = options
        self.critical = critical
        self._eos = np.array(sorted(eos), dtype=np.int64)
        self._structure = StructureTracker(find_language(options.language), options.period)
        self._cycle = TokenLags.empty(options.tokens)

    def push(self, token: int) -> None:
        """Appends the next token; special tokens and unknown ids have no text."""
        tokens = self.critical.tokens
        data = tokens[token] if 0 <= token < len(tokens) else None
        if data:
            self._structure.feed(data)
        self._cycle = self._cycle.pushed(token)

    def penalties(self) -> list[Penalty]:
        """Returns the logit changes for the next token."""
        return self._ours() if self.options.mode == "ours" else self._paper()

    def snapshot(self) -> tuple[Any, ...]:
        """Returns the immutable state."""
        return self._structure.snapshot(), self._cycle

    def restore(self, state: tuple[Any, ...]) -> None:
        """Restores a state of this rule or of one with the same arguments."""
        structure, self._cycle = state
        self._structure.restore(structure)

    def fork(self) -> GrammarRule:
        """Returns a second rule in this state."""
        other = GrammarRule(self.options, self.critical)
        other._eos = self._eos
        other.restore(self.snapshot())
        return other

    def _paper(self) -> list[Penalty]:
        found = []
        if repetition := self._structure.repetition():
            amount = self.options.decay**repetition.square.copies
            found.append(Penalty(self._beginnings(repetition), amount, "scale"))
        if square := self._cycle.square():
            expected = np.array([self._cycle.expected(square.period)])
            found.append(Penalty(expected, self.options.decay**square.copies, "scale"))
        return found

    def _ours(self) -> list[Penalty]:
        down: list[Penalty] = []
        up: list[Penalty] = []
        repetition = self._structure.repetition()
        if repetition and repetition.square.copies >= self.options.k_min:
            size = self._size(self._structure.weight(repetition.square))
            if size:
                down.append(Penalty(self._beginnings(repetition), -size))
                up.append(Penalty(self._ways_out(repetition), size * self.options.bonus))
        square = self._cycle.square()
        if square and square.run % square.period == 0 and square.run >= _LEAST_CYCLE:
            size = self._size(square.copies)
            if size:
                down.append(Penalty(np.array([self._cycle.expected(square.period)]), -size))
                up.append(Penalty(self._eos, size * self.options.bonus))
        return down + (up[:1] if self.options.bonus else [])

    def _size(self, copies: float) -> float:
        options = self.options
        if copies < options.k_min:
            return 0.0
        return min(options.cap, options.strength * (1 + options.growth * (copies - options.k_min)))

    def _beginnings(self, repetition: Repetition) -> np.ndarray:
        look_up, margin = self.critical.beginning, repetition.margin
        ids = [look_up(anchor, margin) for anchor in repetition.anchors if anchor]
        if len(ids) == 1:
            return ids[0]
        return np.unique(np.concatenate(ids)) if ids else np.empty(0, dtype=np.int64)

    def _ways_out(self, repetition: Repetition) -> np.ndarray:
        if not repetition.bracketed:
            return self._eos
        closer = self._structure.closer
        return self.critical.beginning(closer, None) if closer else self._eos


class RepetitionPenalty(History):
    """Penalty on every token id in the row so far, once per id."""

    def __init__(self, options: RepetitionPenaltyOptions) -> None:
        super().__init__()
        self._factor = 1 / options.penalty
        self._counts: dict[int, int] = {}

    def push(self, token: int) -> None:
        """Appends the next token."""
        super().push(token)
        self._counts[token] = self._counts.get(token, 0) + 1

    def restore(self, state: int) -> None:
        """Restores the state at a length."""
        for token in self.tokens[state:]:
            self._counts[token] -= 1
            if not self._counts[token]:
                del self._counts[token]
        super().restore(state)

    def penalties(self) -> list[Penalty]:
        """Returns the logit changes for the next token."""
        if not self._counts:
            return []
        return [Penalty(np.array(sorted(self._counts)), self._factor, "scale")]


class NoRepeatNgram(History):
    """Ban on tokens that would repeat an n-gram."""

    def __init__(self, options: NoRepeatNgramOptions) -> None:
        super().__init__()
        self._before = options.size - 1
        self._after: dict[tuple[int, ...], list[int]] = {}

    def push(self, token: int) -> None:
        """Appends the next token."""
        if len(self.tokens) >= self._before:
            self._after.setdefault(self._last(), []).append(token)
        super().push(token)

    def restore(self, state: int) -> None:
        """Restores the state at a length."""
        while len(self.tokens) > state:
            self.tokens.pop()
            if len(self.tokens) >= self._before:
                self._after[self._last()].pop()

    def penalties(self) -> list[Penalty]:
        """Returns the logit changes for the next token."""
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
        # For each position j > 0: number of tokens before j that match the row's end.
        self._matched = np.zeros(1, dtype=np.int64)

    def push(self, token: int) -> None:
        """Appends the next token."""
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
        """Returns the logit changes for the next token."""
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
        grown = min(200, length - options.allowed)  # avoids overflow
        return min(options.cap, options.multiplier * options.base**grown)

    def snapshot(self) -> Any:
        """Returns the state."""
        return self._size, self._matched

    def restore(self, state: Any) -> None:
        """Restores an earlier state of this rule."""
        self._size, self._matched = state

    def fork(self) -> Dry:
        """Returns a second rule in this state."""
        other = copy.copy(self)
        other._tokens = self._tokens.copy()
        return other
