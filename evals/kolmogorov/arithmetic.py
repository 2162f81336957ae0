"""An arithmetic coder over integers, and what lets one description serve for all its uses.

The coder is that of Witten, Neal and Cleary 1987: two 32-bit registers, bits put out as soon as
they are known. Choices of total probability P cost at most -log2 P + 2 bits together, and rounding
of less than 2^-14 of a bit each.

A *channel* takes a choice among weighted alternatives: :class:`Encoder` writes it,
:class:`Decoder` reads it, :class:`Meter` adds up what it costs by the probabilities. A format that
is described once, over a channel, can then be written, read and priced, and the three can't
disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

from codegen.errors import InputError

_BITS = 32
_TOP = (1 << _BITS) - 1
_HALF, _QUARTER = 1 << (_BITS - 1), 1 << (_BITS - 2)
MOST_WEIGHT = 1 << 16  # of all weights of a choice together


class Channel(Protocol):
    """Takes choices; see the module's text."""

    def choose(self, weights: Sequence[int], choice: int | None) -> int:
        """One of ``len(weights)`` alternatives, each as likely as its weight; its number.

        ``choice`` is what is to be written, and ignored by a reader.
        """
        ...

    def uniform(self, count: int, choice: int | None) -> int:
        """One of ``count`` alternatives that are equally likely; its number."""
        ...


class Meter:
    """Adds up the cost of choices in bits."""

    def __init__(self) -> None:
        self.bits = 0.0

    def choose(self, weights: Sequence[int], choice: int | None) -> int:
        """See :class:`Channel`."""
        assert choice is not None
        self.bits += math.log2(sum(weights) / weights[choice])
        return choice

    def uniform(self, count: int, choice: int | None) -> int:
        """See :class:`Channel`."""
        assert choice is not None
        self.bits += math.log2(count)
        return choice


class Encoder:
    """Writes choices as bits; :meth:`finish` gives them."""

    def __init__(self) -> None:
        self._low, self._high = 0, _TOP
        self._waiting = 0  # bits that will be the opposite of the next one
        self._bits: list[str] = []

    def choose(self, weights: Sequence[int], choice: int | None) -> int:
        """See :class:`Channel`."""
        assert choice is not None
        below = sum(weights[:choice])
        self._narrow(below, below + weights[choice], sum(weights))
        return choice

    def uniform(self, count: int, choice: int | None) -> int:
        """See :class:`Channel`."""
        assert choice is not None
        self._narrow(choice, choice + 1, count)
        return choice

    def finish(self) -> str:
        """The bits as a text of ``0`` and ``1``; nothing can be written after."""
        # Two bits name a quarter that lies wholly inside the interval; what follows is read as 0.
        self._waiting += 1
        self._put("0" if self._low < _QUARTER else "1")
        return "".join(self._bits)

    def _narrow(self, low: int, high: int, total: int) -> None:
        _check(low, high, total)
        span = self._high - self._low + 1
        self._high = self._low + span * high // total - 1
        self._low += span * low // total
        while True:
            if self._high < _HALF:
                self._put("0")
            elif self._low >= _HALF:
                self._put("1")
                self._low -= _HALF
                self._high -= _HALF
            elif self._low >= _QUARTER and self._high < _HALF + _QUARTER:
                self._waiting += 1
                self._low -= _QUARTER
                self._high -= _QUARTER
            else:
                return
            self._low <<= 1
            self._high = self._high << 1 | 1

    def _put(self, bit: str) -> None:
        self._bits.append(bit)
        if self._waiting:
            self._bits.append(("1" if bit == "0" else "0") * self._waiting)
            self._waiting = 0


class Decoder:
    """Reads choices from the bits of an :class:`Encoder`; ``read`` is how many it has looked at.

    Behind the end it reads zeros, as the encoder counted on; how many is limited, so that a text
    that was never written by an encoder ends in an error and not in an endless program.
    """

    def __init__(self, bits: str) -> None:
        if set(bits) - {"0", "1"}:
            raise InputError("An arithmetic code is a text of 0 and 1.")
        self._bits, self._place = bits, 0
        self._low, self._high, self._code = 0, _TOP, 0
        for _ in range(_BITS):
            self._code = self._code << 1 | self._next()

    def _next(self) -> int:
        place = self._place
        self._place += 1
        if place >= len(self._bits) + 2 * _BITS:
            raise InputError("The arithmetic code ends before what it codes does.")
        return self._bits[place] == "1" if place < len(self._bits) else 0

    def choose(self, weights: Sequence[int], choice: int | None) -> int:
        """See :class:`Channel`."""
        bounds = list(accumulate(weights, initial=0))
        target = self._target(bounds[-1])
        number = next(i for i, bound in enumerate(bounds[1:]) if target < bound)
        self._narrow(bounds[number], bounds[number + 1], bounds[-1])
        return number

    def uniform(self, count: int, choice: int | None) -> int:
        """See :class:`Channel`."""
        number = self._target(count)
        self._narrow(number, number + 1, count)
        return number

    def _target(self, total: int) -> int:
        span = self._high - self._low + 1
        return ((self._code - self._low + 1) * total - 1) // span

    def _narrow(self, low: int, high: int, total: int) -> None:
        _check(low, high, total)
        span = self._high - self._low + 1
        self._high = self._low + span * high // total - 1
        self._low += span * low // total
        while True:
            if self._high < _HALF:
                shift = 0
            elif self._low >= _HALF:
                shift = _HALF
            elif self._low >= _QUARTER and self._high < _HALF + _QUARTER:
                shift = _QUARTER
            else:
                return
            self._low = (self._low - shift) << 1
            self._high = (self._high - shift) << 1 | 1
            self._code = (self._code - shift) << 1 | self._next()


def _check(low: int, high: int, total: int) -> None:
    if not 0 <= low < high <= total <= MOST_WEIGHT:
        raise InputError(
            f"A choice of weight {high - low} of {total} can't be coded.",
            f"Weights are positive and together at most {MOST_WEIGHT}.",
        )
