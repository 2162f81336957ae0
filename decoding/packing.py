"""Packs examples into rows by best-fit decreasing; no example is split.

Best-fit decreasing puts the longest item first, each into the fullest row that has room (11/9 OPT +
6/9 rows at most, Dosa 2007).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of item numbers whose lengths sum to at most ``capacity``.

    A longer item gets a row of its own. The result depends only on the lengths; of equal lengths
    the lower number comes first.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (what is free, row), rising
    for item in order:
        place = bisect_left(room, (lengths[item], -1))
        if place == len(room):
            free, row = capacity, len(rows)
            rows.append([])
        else:
            free, row = room.pop(place)
        rows[row].append(item)
        insort(room, (free - lengths[item], row))
    return rows
