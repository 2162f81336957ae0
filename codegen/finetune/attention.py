"""Who sees whom in a row of tokens: one integer a key slot says it for every method.

Slot k of a row holds a token, its position id and ``end[k]``. Query q sees key k if and only if
``k <= q < end[k]``. With ``end`` alone one can say

- *packing*: several documents in a row that do not see one another;
- *chunks* (Mixture-of-Instructions, arXiv 2404.18410): groups whose members see one another;
- *backspaces* (SequenceMatch, arXiv 2306.05426): a token that was taken back is seen by what was
  written before it was removed and by nothing after (:mod:`codegen.methods.backspace.actions`);

and any of them inside another (:func:`joined`). What attention takes is made of it by the back-ends
of :mod:`codegen.finetune.backends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.methods.backspace import StackLayout

OPEN = 1 << 40  # the end of a slot that stays as long as its row goes on


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A row of S slots.

    Attributes:
        end: int64 [S]; slot k is seen by the queries ``k <= q < end[k]``. ``OPEN`` if it stays.
        positions: int64 [S], the position ids.
    """

    end: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.end)

    @property
    def is_causal(self) -> bool:
        """Whether every slot sees all before it, with positions that count from 0."""
        count = np.arange(len(self))
        return bool((self.end >= len(self)).all() and (self.positions == count).all())

    @property
    def depth(self) -> int:
        """How many of its tokens are left at its end."""
        return int((self.end == OPEN).sum())


def causal(length: int) -> Layout:
    """One document of so many tokens."""
    return Layout(np.full(length, OPEN), np.arange(length))


def from_stack(stack: StackLayout) -> Layout:
    """A trajectory with backspaces."""
    end, positions = np.array(stack.end), np.array(stack.positions)
    # What was taken back by the very last actions lies deeper than the last state.
    left = (end == len(end)) & (positions <= stack.positions[stack.nodes[-1]])
    return Layout(np.where(left, OPEN, end), positions)


def joined(parts: Sequence[Layout], *, isolated: bool) -> Layout:
    """Parts behind one another in one row.

    Args:
        parts: at least one.
        isolated: the parts do not see one another, and positions begin anew in each. Otherwise a
            part sees what is left of those before it at their end, and goes on with its positions.
    """
    ends, positions, start, depth = [], [], 0, 0
    for part in parts:
        stop = start + len(part)
        end = np.where(part.end == OPEN, OPEN, part.end + start)
        if isolated:
            end = np.minimum(end, stop)
        ends.append(end)
        positions.append(part.positions + depth)
        start = stop
        depth += 0 if isolated else part.depth
    return Layout(np.concatenate(ends), np.concatenate(positions))


def padded(layout: Layout, width: int) -> Layout:
    """The row closed and filled up to ``width``: a padding slot sees itself alone."""
    length = len(layout)
    fill = np.arange(length, width)
    return Layout(
        np.concatenate([np.minimum(layout.end, length), fill + 1]),
        np.concatenate([layout.positions, np.zeros(width - length, np.int64)]),
    )


def cumulative_lengths(layout: Layout) -> list[int] | None:
    """Borders [0, ..., S] of a row's blocks, for kernels of variable length (``cu_seqlens``).

    None if the row is not made of blocks that are causal inside and do not see one another.
    """
    borders, end = [0], np.minimum(layout.end, len(layout))
    while borders[-1] < len(layout):
        start = borders[-1]
        stop = int(end[start])
        if not (end[start:stop] == stop).all():
            return None
        borders.append(stop)
    return borders
