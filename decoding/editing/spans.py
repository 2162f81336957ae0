"""Which tokens of a new sequence are at hand in an old one: the diff behind cache editing.

Unlike a diff, order does not bind: a piece that was cut and pasted elsewhere is found as well.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]

_MOST_CANDIDATES = 8  # places in the old sequence that are tried for one place of the new one


class Span(NamedTuple):
    """``new[start : start + size]`` equals ``old[source : source + size]``."""

    start: int
    source: int
    size: int


def common_prefix(one: Tokens, other: Tokens) -> int:
    """The length of the longest beginning that both share."""
    size = min(len(one), len(other))
    differing = np.flatnonzero(one[:size] != other[:size])
    return int(differing[0]) if len(differing) else size


def find_spans(old: Tokens, new: Tokens, *, shortest: int, most: int) -> list[Span]:
    """Spans of ``new`` that ``old`` has, from left to right, disjoint on both sides.

    Greedy: at each place of ``new`` the longest run is taken, the one that goes on behind the span
    before if several are as long. Linear in time but for repetitions.

    Args:
        old, new: token ids, int64 [M] and [N]. Ids below zero in ``old`` match nothing.
        shortest: tokens of the shortest span, at least 1.
        most: most spans; the longest are kept.
    """
    if len(old) < shortest or len(new) < shortest:
        return []
    places = _places(old, shortest)
    windows = np.lib.stride_tricks.sliding_window_view(new, shortest)
    used = np.zeros(len(old), dtype=bool)
    found: list[Span] = []
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
        found.append(Span(at, source, best))
        used[source : source + best] = True
        at += best
        expected = source + best
    if len(found) > most:
        kept = sorted(found, key=lambda span: span.size, reverse=True)[:most]
        found = sorted(kept)
    return found


def _places(old: Tokens, size: int) -> dict[bytes, list[int]]:
    """Where each run of ``size`` tokens begins."""
    windows = np.lib.stride_tricks.sliding_window_view(old, size)
    found: dict[bytes, list[int]] = defaultdict(list)
    for place in np.flatnonzero((windows >= 0).all(axis=1)).tolist():
        found[windows[place].tobytes()].append(place)
    return found


def _nearest(places: list[int] | tuple[()], expected: int) -> list[int]:
    """At most a few of the places, those nearest to the expected one first."""
    if len(places) <= 1:
        return list(places)
    return sorted(places, key=lambda place: abs(place - expected))[:_MOST_CANDIDATES]
