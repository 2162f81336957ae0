"""The suffix structure in plain Python, for machines without a compiler and for testing the core.

Results equal the compiled core's, to the last bit of a probability. A sorted list of positions is
searched by comparing whole sequences, so appending costs some 20 to 50 microseconds per token,
and more with long repetitions.
"""

from __future__ import annotations

import heapq
import math
import operator
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from codegen.core.errors import CodegenError


class BudgetError(CodegenError):
    """Error that tokens do not fit: growing sequences alone fill the index's budget."""


_OVERHEAD = 32
_CLASSES = 16
_BLOCK = 32
_LARGEST = 2**31 - 1

Draft = tuple[list[int], list[int], list[float], float, int]


@dataclass(slots=True)
class _Stored:
    id: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    finished: bool = False


class _Place(NamedTuple):
    """One token of a sequence."""

    stored: _Stored
    at: int

    @property
    def token(self) -> int:
        return self.stored.tokens[self.at]

    @property
    def age(self) -> tuple[int, int]:
        return self.stored.id, self.at


class _Options(NamedTuple):
    limit: int = 32
    factor: float = 1.0
    offset: float = 0.0
    min_probability: float = 0.1
    tree: bool = False
    sample: int = 32
    min_match: int = 1
    max_match: int = 1024

    def check(self) -> None:
        for name, least, most in (
            ("limit", 0, 2**20), ("sample", 1, 2**20), ("min_match", 1, None),
            ("max_match", 1, None),
        ):  # fmt: skip
            value = operator.index(getattr(self, name))
            if value < least or (most is not None and value > most):
                bounds = f"in {least} .. 2**20" if most else f"at least {least}"
                raise ValueError(f"{name} must be {bounds}")
        if not (math.isfinite(self.factor) and self.factor >= 0):
            raise ValueError("factor must be at least 0")
        if not math.isfinite(self.offset):
            raise ValueError("offset must be finite")
        if not 0 <= self.min_probability <= 1:
            raise ValueError("min_probability must be in 0 .. 1")


class SuffixIndex:
    """Token sequences in suffix order; the methods are described in ``_core.pyi``."""

    def __init__(self, budget: int | None = None) -> None:
        if budget is not None and operator.index(budget) <= _OVERHEAD:
            raise ValueError(f"budget is {budget}; it must be above {_OVERHEAD}")
        self._budget = budget
        self._next = 1
        self._stored: dict[int, _Stored] = {}
        self._finished: dict[int, None] = {}  # in completion order
        self._order: list[_Place] = []

    @property
    def budget(self) -> int | None:
        """Token budget; None if unlimited."""
        return self._budget

    @property
    def billed(self) -> int:
        """Tokens that count against the budget."""
        return len(self) + _OVERHEAD * len(self._stored)

    @property
    def nbytes(self) -> int:
        """Estimated bytes of memory."""
        return 80 * len(self._order) + 200 * len(self._stored)

    def __len__(self) -> int:
        return len(self._order)

    def start(self) -> int:
        """Begins a sequence that will grow; returns its id."""
        self._make_room(_OVERHEAD)
        stored = _Stored(self._next)
        self._stored[stored.id] = stored
        self._next += 1
        return stored.id

    def append(self, sequence: int, tokens: Sequence[int], /) -> None:
        """Appends all tokens to a sequence, or none if it raises an exception."""
        stored = self._find(sequence)
        values = _checked(tokens)
        if stored.finished:
            raise ValueError("sequence is finished")
        self._make_room(len(values))
        for token in values:
            stored.tokens.append(token)
            self._insert(_Place(stored, len(stored.tokens) - 1))

    def add(self, tokens: Sequence[int], /) -> int:
        """Stores a finished sequence; returns its id."""
        values = _checked(tokens)
        self._make_room(_OVERHEAD + len(values))
        sequence = self.start()
        self.append(sequence, values)
        self.finish(sequence)
        return sequence

    def finish(self, sequence: int, /) -> None:
        """Ends a sequence; its end is then counted, and it may be evicted."""
        stored = self._find(sequence)
        stored.finished = True
        self._finished.setdefault(stored.id)

    def oldest(self) -> int | None:
        """Returns the finished sequence that is evicted next; None if none has finished."""
        return next(iter(self._finished), None)

    def remove(self, sequence: int, /) -> None:
        """Removes a sequence completely."""
        stored = self._find(sequence)
        self._order = [place for place in self._order if place.stored is not stored]
        self._finished.pop(stored.id, None)
        del self._stored[stored.id]

    def is_finished(self, sequence: int, /) -> bool:
        """Returns True if a sequence has ended."""
        return self._find(sequence).finished

    def text(self, sequence: int, /) -> list[int]:
        """Returns a sequence's tokens."""
        return list(self._find(sequence).tokens)

    def sequences(self) -> list[int]:
        """Returns the ids of the stored sequences, oldest first."""
        return list(self._stored)

    def count(self, text: Sequence[int], /) -> int:
        """Counts a subsequence's occurrences; the empty one occurs once at each token."""
        tail = _checked(text)
        return self._bound(tail, len(tail), behind=True) - self._bound(tail, len(tail))

    def match(self, context: Sequence[int], /) -> int:
        """Returns the length of a context's longest suffix that is in the index."""
        tail = _checked(context)
        gap = self._bound(tail, len(tail))
        return max(self._common(tail, gap - 1), self._common(tail, gap))

    def draft(self, context: Sequence[int], /, *args: Any, **named: Any) -> Draft:
        """Drafts the continuation of a context."""
        options = _Options(*args, **named)
        options.check()
        tail = _checked(context)[-options.max_match :]
        gap = self._bound(tail, len(tail))
        return self._best_draft(tail, gap, gap, options)

    def draft_after(self, sequence: int, /, *args: Any, **named: Any) -> Draft:
        """Drafts the continuation of a stored sequence."""
        options = _Options(*args, **named)
        options.check()
        stored = self._find(sequence)
        if not stored.tokens:
            return [], [], [], 0.0, 0
        end = _Place(stored, len(stored.tokens) - 1)
        own = self._gap(lambda other: _compare(other, end) < 0)
        return self._best_draft(stored.tokens[-options.max_match :], own, own + 1, options)

    def check(self) -> None:
        """Checks that the positions are sorted."""
        for left, right in zip(self._order, self._order[1:], strict=False):
            if _compare(left, right) >= 0:
                raise SystemError("places are not sorted")

    def _insert(self, place: _Place) -> None:
        self._order.insert(self._gap(lambda other: _compare(other, place) < 0), place)

    def _find(self, sequence: int) -> _Stored:
        found = self._stored.get(operator.index(sequence))
        if found is None:
            raise KeyError("unknown sequence")
        return found

    def _make_room(self, count: int) -> None:
        if self._budget is None or self.billed + count <= self._budget:
            return
        freed = sum(len(self._stored[id_].tokens) + _OVERHEAD for id_ in self._finished)
        if self.billed + count - freed > self._budget:
            raise BudgetError("over the budget")
        while self.billed + count > self._budget:
            self.remove(next(iter(self._finished)))

    def _gap(self, less: Callable[[_Place], bool]) -> int:
        """Counts the leading positions for which ``less`` is true."""
        return bisect_left(self._order, True, key=lambda place: not less(place))

    def _bound(self, tail: array[int], length: int, behind: bool = False) -> int:
        """Returns the gap before (after, if ``behind``) the positions where the last tokens end."""

        def less(place: _Place) -> bool:
            sign = _against(place, tail, length)
            return sign < 0 or (behind and sign == 0)

        return self._gap(less)

    def _common(self, tail: array[int], position: int) -> int:
        if not 0 <= position < len(self._order):
            return 0
        place = self._order[position]
        return _common(place.stored.tokens, place.at + 1, tail, len(tail), len(tail))

    def _best_draft(self, tail: array[int], low: int, high: int, options: _Options) -> Draft:
        """Drafts from the matches at ``low .. high``, widened for shorter matches."""
        best: Draft = ([], [], [], 0.0, 0)
        for tried in range(_CLASSES):
            match = max(self._common(tail, low - 1), self._common(tail, high))
            if match < max(options.min_match, 1) or (match == 1 and tried):
                break
            allowed = math.floor(options.factor * match + options.offset + 1e-6)
            size = min(allowed, options.limit)
            if allowed < 1 or size <= best[3]:
                break
            low, high = self._bound(tail, match), self._bound(tail, match, behind=True)
            places = self._sampled(low, high, options.sample)
            tokens, parents, probabilities = _grown(
                places, size, options.min_probability, options.tree
            )
            score = 0.0
            for probability in probabilities:
                score += probability
            if score > best[3]:
                best = (tokens, parents, probabilities, score, match)
        return best

    def _sampled(self, low: int, high: int, sample: int) -> list[_Place]:
        count = high - low
        if count <= sample:
            return self._order[low:high]
        return [self._order[low + (2 * i + 1) * count // (2 * sample)] for i in range(sample)]


def _checked(tokens: Sequence[int]) -> array[int]:
    if not isinstance(tokens, (list, tuple)):
        try:
            view = memoryview(tokens)  # type: ignore[arg-type]
        except TypeError:
            if isinstance(tokens, str) or not isinstance(tokens, Sequence):
                raise TypeError(
                    "tokens must be a sequence of integers or an array of int32 or int64"
                ) from None
        else:
            if view.ndim != 1 or view.format not in ("i", "l", "q"):
                raise TypeError(
                    "an array of tokens must have one dimension and int32 or int64 items"
                )
            tokens = view.tolist()
    values = [operator.index(token) for token in tokens]
    for token in values:
        if not 0 <= token <= _LARGEST:
            raise ValueError(f"token id {token} is not in 0 .. {_LARGEST}")
    return array("i", values)


def _common(a: array[int], a_end: int, b: array[int], b_end: int, limit: int) -> int:
    """Returns the number of equal tokens before two ends."""
    limit = min(limit, a_end, b_end)
    length = 0
    while length < limit:
        part = min(_BLOCK, limit - length)
        i, j = a_end - length, b_end - length
        if a[i - part : i] != b[j - part : j]:
            while a[i - 1] == b[j - 1]:
                i, j = i - 1, j - 1
            return a_end - i
        length += part
    return limit


def _against(place: _Place, tail: array[int], length: int) -> int:
    """Compares a position's prefix, read backward, with a context's last ``length`` tokens."""
    tokens, end = place.stored.tokens, place.at + 1
    same = _common(tokens, end, tail, len(tail), length)
    if same == length:
        return 0
    if same == end or tokens[end - 1 - same] < tail[len(tail) - 1 - same]:
        return -1
    return 1


def _compare(a: _Place, b: _Place) -> int:
    """Compares two positions' prefixes, read backward (-1, 0 or 1); ties are ordered by age."""
    same = _common(a.stored.tokens, a.at + 1, b.stored.tokens, b.at + 1, a.at + 1)
    if same <= a.at and same <= b.at:
        left, right = a.stored.tokens[a.at - same], b.stored.tokens[b.at - same]
        return -1 if left < right else 1
    left, right = (a.at, a.stored.id), (b.at, b.stored.id)
    return (left > right) - (left < right)


def _advance(places: list[_Place]) -> tuple[list[_Place], int]:
    """Returns the next positions, and the number of continuations and finished ends."""
    moved, seen = [], 0
    for place in places:
        if place.at + 1 < len(place.stored.tokens):
            moved.append(_Place(place.stored, place.at + 1))
            seen += 1
        elif place.stored.finished:
            seen += 1
    return moved, seen


def _branches(places: list[_Place]) -> list[tuple[int, list[_Place]]]:
    """Groups positions by token, the most frequent first; ties: the most recent first."""
    found: dict[int, list[_Place]] = {}
    for place in places:
        found.setdefault(place.token, []).append(place)
    return sorted(
        found.items(), key=lambda item: (len(item[1]), max(p.age for p in item[1])), reverse=True
    )


def _grown(
    places: list[_Place], size: int, least: float, tree: bool
) -> tuple[list[int], list[int], list[float]]:
    """Returns the most likely nodes of a tree, or the path of the most frequent tokens."""
    tokens: list[int] = []
    parents: list[int] = []
    probabilities: list[float] = []
    heap: list[tuple[float, int, int, int, list[_Place]]] = []
    made = 0

    def sprout(ends: list[_Place], probability: float, parent: int) -> None:
        nonlocal made
        moved, seen = _advance(ends)
        for token, branch in _branches(moved)[: None if tree else 1]:
            share = probability * (len(branch) / seen)
            if share < least:
                return
            heapq.heappush(heap, (-share, made, token, parent, branch))
            made += 1

    sprout(places, 1.0, -1)
    while heap and len(tokens) < size:
        share, _, token, parent, branch = heapq.heappop(heap)
        tokens.append(token)
        parents.append(parent)
        probabilities.append(-share)
        sprout(branch, -share, len(tokens) - 1)
    return tokens, parents, probabilities
