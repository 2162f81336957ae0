"""Assignment of tokens to slots, with reuse of slots after an edit.

A *mark* is a hash of a token and all tokens before it. A slot keeps the mark of the text in which
it was encoded. The slot is *current* while its token still has that mark, else *stale*; it is
*exact* if it is current and all slots before it were exact when it was encoded.

:func:`find_spans` finds reusable runs. Unlike a diff it ignores order, so text that was cut and
pasted elsewhere is found too.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codegen.decoding.cache import NOWHERE

Tokens = NDArray[np.int64]
Flags = NDArray[np.bool_]
Marks = NDArray[np.uint64]

_MOST_SPANS = 64  # spans reused per update, longest first
_MOST_CANDIDATES = 8  # old positions tried per new position
_EMPTY = -1  # encoded_at of a slot without states
# The ledger's arrays and their values for unused slots.
_FIELDS = {
    "token": 0, "turned_for": 0, "encoded_at": _EMPTY, "mark": 0, "clean": False, "removed": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class EditPolicy:
    """Policy for reusing and repairing states after edits.

    Attributes:
        min_span: minimum tokens of a run that is reused after an edit; shorter runs are
            re-encoded, which costs little and keeps more states correct.
        tail: default number of tokens at the end that an update never leaves stale.
        sink: tokens at the start of the sequence whose states cannot be reused elsewhere, since the
            first tokens attract the attention of all others.
        keep_removed: removed tokens whose states are kept for undo, paste and typed suggestions.
        chunk: maximum tokens per forward pass.
        doubt: minimum lead in logits at which the top token is certain while states are stale
            (:meth:`EditableCache.in_doubt`).
        doubt_after_start: the same after a change in the first ``start`` tokens, which get much
            attention, so all states shift by more.
        start: see ``doubt_after_start``.
        rotate: False leaves moved keys at their old rotation: the paper's baseline "conflict fast
            encoding", for comparisons only.
    """

    min_span: int = 16
    tail: int = 32
    sink: int = 4
    keep_removed: int = 1024
    chunk: int = 256
    doubt: float = 0.375
    doubt_after_start: float = 0.75
    start: int = 32
    rotate: bool = True


@dataclass(frozen=True, slots=True)
class EditReport:
    """Result of an update. ``reused + encoded`` is the sequence's length.

    Attributes:
        reused: tokens whose cached states were reused.
        moved: reused tokens whose position changed.
        encoded: tokens encoded by the model.
        stale: reused tokens that were encoded after a different text.
        exact: True if all states equal those of encoding the whole sequence, up to rounding.
        seconds: wall time.
        complete: False if ``stop`` interrupted the update and so cut the sequence.
    """

    reused: int
    moved: int
    encoded: int
    stale: int
    exact: bool
    seconds: float
    complete: bool = True


def prefix_marks(tokens: Tokens, before: Marks | None = None) -> Marks:
    """Returns a rolling hash (mark) for each token of a sequence, uint64 [N].

    A mark is the sum, modulo 2^64, of a 64-bit mix (splitmix64) of each token so far and its
    position.

    Args:
        tokens: the sequence, or its remaining tokens if ``before`` is given.
        before: the marks of the preceding tokens.
    """
    start = 0 if before is None else len(before)
    position = np.arange(start + 1, start + len(tokens) + 1, dtype=np.uint64)
    mixed = tokens.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= position * np.uint64(0xD1B54A32D192ED03)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    marks = np.cumsum(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
    return marks if before is None or not start else marks + before[-1]


@dataclass
class ReusePlan:
    """Slots to reuse and tokens to encode for a sequence of N tokens.

    Attributes:
        tokens: int64 [N].
        marks: marks of the tokens, uint64 [N].
        slots: the reused slots, int64 [N]; -1 for none.
        fresh: tokens to encode, bool [N]; True for tokens without a slot.
        current: tokens whose reused slot was encoded in this text, bool [N].
    """

    tokens: Tokens
    marks: Marks
    slots: NDArray[np.int64]
    fresh: Flags
    current: Flags


class Ledger:
    """Host-side data of each slot (arrays over slots), and the sequence of slots.

    Attributes:
        token: the token id.
        turned_for: the position that the keys are rotated for.
        encoded_at: the position at which the slot was encoded; -1 for an empty slot.
        mark: the mark of the text in which the slot was encoded, up to its token.
        clean: True if all slots before it were exact at that time.
        removed: time at which the slot left the sequence; 0 while in the sequence.
        order: the slots of the sequence, by position.
        marks: the sequence's marks.
    """

    def __init__(self) -> None:
        self.token = np.zeros(0, dtype=np.int64)
        self.turned_for = np.zeros(0, dtype=np.int64)
        self.encoded_at = np.zeros(0, dtype=np.int64)
        self.mark = np.zeros(0, dtype=np.uint64)
        self.clean = np.zeros(0, dtype=bool)
        self.removed = np.zeros(0, dtype=np.int64)
        self.order = np.zeros(0, dtype=np.int64)
        self.marks = np.zeros(0, dtype=np.uint64)
        self._clock = 0

    @property
    def sequence(self) -> Tokens:
        """The sequence's tokens."""
        return self.token[self.order]

    @property
    def current(self) -> Flags:
        """Boolean mask of tokens that were encoded after the text that now precedes them."""
        return self.mark[self.order] == self.marks

    @property
    def exact(self) -> Flags:
        """Boolean mask of tokens with exact states."""
        return self.current & self.clean[self.order]

    @property
    def stale(self) -> int:
        """Number of the sequence's tokens that were encoded after another text."""
        return int(np.count_nonzero(~self.current))

    def positions(self) -> NDArray[np.int64]:
        """Returns the position of each slot; ``NOWHERE`` for slots outside the sequence."""
        found = np.full(len(self.token), NOWHERE, dtype=np.int64)
        found[self.order] = np.arange(len(self.order))
        return found

    def plan(self, tokens: Tokens, again: Flags, policy: EditPolicy) -> ReusePlan:
        """Plans which states of ``tokens`` to reuse and which tokens to encode.

        Args:
            tokens: int64 [N], N > 0.
            again: tokens that must be current, bool [N].
            policy: rules for reuse.
        """
        size = len(tokens)
        marks = prefix_marks(tokens)
        slots = self._same_text(marks)
        self._take_ends(tokens, slots, policy.min_span)
        self._take_spans(tokens, slots, policy)
        place = np.arange(size)
        encoded_at = self.encoded_at[slots] if len(self.token) else np.full(size, _EMPTY)
        at_start = (place < policy.sink) | (encoded_at < policy.sink)
        slots[at_start & (encoded_at != place)] = -1
        fresh = slots < 0
        current = ~fresh
        if len(self.token):
            current &= self.mark[slots] == marks
        fresh |= again & ~current
        return ReusePlan(tokens, marks, slots, fresh, current & ~fresh)

    def _same_text(self, marks: Marks) -> NDArray[np.int64]:
        """Returns each token's slot that was encoded in the same text; -1 if none."""
        found = np.full(len(marks), -1, dtype=np.int64)
        held = np.flatnonzero(self.encoded_at != _EMPTY)
        if not len(held):
            return found
        # Prefer clean slots, then slots in the sequence: the last assignment wins.
        held = held[np.lexsort((self.removed[held] == 0, self.clean[held]))]
        by_mark = dict(zip(self.mark[held].tolist(), held.tolist(), strict=True))
        for place, mark in enumerate(marks.tolist()):
            found[place] = by_mark.get(mark, -1)
        return found

    def _take_ends(self, tokens: Tokens, slots: NDArray[np.int64], shortest: int) -> None:
        """Reuses the common start and end of the sequence and ``tokens``."""
        old = self.sequence
        start = common_prefix(old, tokens)
        _fill(slots, 0, self.order[:start])
        size = common_prefix(old[start:][::-1], tokens[start:][::-1])
        if size >= shortest:
            _fill(slots, len(tokens) - size, self.order[len(old) - size :])

    def _take_spans(self, tokens: Tokens, slots: NDArray[np.int64], policy: EditPolicy) -> None:
        """Reuses runs of tokens from anywhere in the cache."""
        missing = np.flatnonzero(slots < 0)
        if not len(missing):
            return
        first, last = int(missing[0]), int(missing[-1]) + 1
        wanted = np.where(slots[first:last] < 0, tokens[first:last], -2)
        pool = self._pool(slots)
        held = np.where(pool >= 0, self.token[pool], -1) if len(pool) else pool
        for span in find_spans(held, wanted, shortest=policy.min_span):
            start = first + span.start
            slots[start : start + span.size] = pool[span.source : span.source + span.size]

    def _pool(self, used: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns unused slots with states in text order: the sequence's, then removed slots, the
        latest first. -1 separates slots that were not neighbors.
        """
        free = self.encoded_at != _EMPTY
        free[used[used >= 0]] = False
        pool = np.flatnonzero(free)
        # Slots of the sequence have removed == 0 and come first.
        age = np.where(self.removed[pool] == 0, 0, 1 + self._clock - self.removed[pool])
        pool = pool[np.lexsort((self.turned_for[pool], age))]
        age = np.where(self.removed[pool] == 0, 0, 1 + self._clock - self.removed[pool])
        apart = (np.diff(self.turned_for[pool]) != 1) | (np.diff(age) != 0)
        return np.insert(pool, np.flatnonzero(apart) + 1, -1)

    def held(self) -> NDArray[np.int64]:
        """Returns the slots that have states or are in the sequence."""
        used = self.encoded_at != _EMPTY
        used[self.order] = True
        return np.flatnonzero(used)

    def take(self, slots: NDArray[np.int64]) -> None:
        """Keeps only these slots, in this order; they must include the sequence's slots."""
        place = np.full(len(self.token), -1, dtype=np.int64)
        place[slots] = np.arange(len(slots))
        self.order = place[self.order]
        for name in _FIELDS:
            setattr(self, name, getattr(self, name)[slots])

    def grow(self, capacity: int) -> None:
        """Grows the arrays to ``capacity`` slots."""
        more = capacity - len(self.token)
        for name, value in _FIELDS.items():
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.full(more, value, dtype=old.dtype)]))

    def free(self) -> NDArray[np.int64]:
        """Returns the empty slots outside the sequence."""
        empty = self.encoded_at == _EMPTY
        empty[self.order] = False
        return np.flatnonzero(empty)

    def forget(self, keep: int) -> None:
        """Empties all removed slots except the last ``keep``."""
        removed = np.flatnonzero((self.removed > 0) & (self.encoded_at != _EMPTY))
        if len(removed) > keep:
            oldest = removed[np.argsort(self.removed[removed], kind="stable")]
            self.encoded_at[oldest[: len(removed) - keep]] = _EMPTY

    def arrange(self, order: NDArray[np.int64], tokens: Tokens, marks: Marks) -> None:
        """Makes these slots the sequence; slots that leave it count as removed."""
        self._clock += 1
        self.removed[self.order] = self._clock
        self.order, self.marks = order, marks
        self.token[order] = tokens
        self.removed[order] = 0

    def cut(self, length: int) -> None:
        """Cuts the sequence to ``length`` tokens."""
        order = self.order[:length]
        self.arrange(order, self.token[order], self.marks[:length])

    def begin(self, places: NDArray[np.int64]) -> None:
        """Marks the slots at these positions as empty before a pass writes them."""
        self.encoded_at[self.order[places]] = _EMPTY

    def encoded(self, places: NDArray[np.int64]) -> None:
        """Records that the slots at these positions have been written."""
        slots = self.order[places]
        self.encoded_at[slots] = self.turned_for[slots] = places
        self.mark[slots] = self.marks[places]
        sound = self.exact
        sound[places] = True
        wrong = np.flatnonzero(~sound)
        self.clean[slots] = places < (wrong[0] if len(wrong) else len(sound))

    @property
    def valid(self) -> int:
        """Number of leading tokens that all have states."""
        empty = np.flatnonzero(self.encoded_at[self.order] == _EMPTY)
        return int(empty[0]) if len(empty) else len(self.order)


def _fill(slots: NDArray[np.int64], start: int, source: NDArray[np.int64]) -> None:
    """Assigns unused slots of ``source`` to positions from ``start`` on that have no slot."""
    target = slots[start : start + len(source)]
    free = (target < 0) & ~np.isin(source, slots)
    target[free] = source[free]


class MatchedSpan(NamedTuple):
    """A match: ``new[start : start + size]`` equals ``old[source : source + size]``."""

    start: int
    source: int
    size: int


def common_prefix(one: Tokens, other: Tokens) -> int:
    """Returns the length of the common prefix."""
    size = min(len(one), len(other))
    differing = np.flatnonzero(one[:size] != other[:size])
    return int(differing[0]) if len(differing) else size


def find_spans(old: Tokens, new: Tokens, *, shortest: int) -> list[MatchedSpan]:
    """Finds spans of ``new`` that are in ``old``, from left to right, disjoint on both sides.

    Greedy: takes the longest run at each position of ``new``; ties go to the run that continues the
    previous span. Takes linear time unless runs repeat.

    Args:
        old, new: token ids, int64 [M] and [N]; negative ids in ``old`` match nothing.
        shortest: minimum tokens per span, at least 1.
    """
    if len(old) < shortest or len(new) < shortest:
        return []
    places = _places(old, shortest)
    windows = np.lib.stride_tricks.sliding_window_view(new, shortest)
    used = np.zeros(len(old), dtype=bool)
    found: list[MatchedSpan] = []
    at, expected = 0, 0
    while at <= len(new) - shortest:
        best = 0
        source = -1
        candidates = places.get(windows[at].tobytes(), ())
        for place in _nearest(candidates, expected):
            size = common_prefix(old[place:], new[at:])
            taken = np.flatnonzero(used[place : place + size])
            size = int(taken[0]) if len(taken) else size
            if size > best:
                best, source = size, place
        if best < shortest:
            at += 1
            continue
        found.append(MatchedSpan(at, source, best))
        used[source : source + best] = True
        at += best
        expected = source + best
    if len(found) > _MOST_SPANS:
        found = sorted(sorted(found, key=lambda span: span.size, reverse=True)[:_MOST_SPANS])
    return found


def _places(old: Tokens, size: int) -> dict[bytes, list[int]]:
    """Maps each run of ``size`` tokens to its starts."""
    windows = np.lib.stride_tricks.sliding_window_view(old, size)
    found: dict[bytes, list[int]] = defaultdict(list)
    for place in np.flatnonzero((windows >= 0).all(axis=1)).tolist():
        found[windows[place].tobytes()].append(place)
    return found


def _nearest(places: list[int] | tuple[()], expected: int) -> list[int]:
    """Returns a few of the positions, nearest to the expected one first."""
    if len(places) <= 1:
        return list(places)
    return sorted(places, key=lambda place: abs(place - expected))[:_MOST_CANDIDATES]
