"""Arithmetic coding, the proof that what the KoLMogorov test counts are lengths of codes.

The coder is that of Witten, Neal and Cleary 1987: two 32-bit registers, bits put out as soon as
they are known. Choices of total probability P cost at most -log2 P + 2 bits together, and rounding
of less than 2^-14 of a bit each. It is a channel of :mod:`codegen.evals.kolmogorov.coding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from codegen.errors import InputError
from codegen.evals.kolmogorov import UNIFORM, Prior, Program
from codegen.evals.kolmogorov.coding import OrderK, walk

_BITS = 32
_TOP = (1 << _BITS) - 1
_HALF, _QUARTER = 1 << (_BITS - 1), 1 << (_BITS - 2)
MOST_WEIGHT = 1 << 16  # sum of the weights of a choice


class ArithmeticEncoder:
    """Writes choices as bits; :meth:`finish` gives them."""

    def __init__(self) -> None:
        self._low, self._high = 0, _TOP
        self._waiting = 0  # bits that will be the opposite of the next one
        self._bits: list[str] = []

    def choose(self, weights: Sequence[int], choice: int | None) -> int:
        """Codes one of the alternatives, by weight, and returns its number."""
        assert choice is not None
        below = sum(weights[:choice])
        self._narrow(below, below + weights[choice], sum(weights))
        return choice

    def uniform(self, count: int, choice: int | None) -> int:
        """Codes one of the alternatives, by weight, and returns its number."""
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


class ArithmeticDecoder:
    """Reads choices from the bits of an encoder; ``read`` is how many it has looked at.

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
        """Codes one of the alternatives, by weight, and returns its number."""
        bounds = list(accumulate(weights, initial=0))
        target = self._target(bounds[-1])
        number = next(i for i, bound in enumerate(bounds[1:]) if target < bound)
        self._narrow(bounds[number], bounds[number + 1], bounds[-1])
        return number

    def uniform(self, count: int, choice: int | None) -> int:
        """Codes one of the alternatives, by weight, and returns its number."""
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


def encode(program: Program, prior: Prior = UNIFORM) -> str:
    """The program as a text of ``0`` and ``1``."""
    encoder = ArithmeticEncoder()
    walk(encoder, prior, program)
    return encoder.finish()


def decode(bits: str, prior: Prior = UNIFORM) -> Program:
    """The program that :func:`encode` made the bits of, under the same prior.

    Raises:
        InputError: for bits that no program has.
    """
    return walk(ArithmeticDecoder(bits), prior, None)


def _weights(model: OrderK, before: bytes) -> list[int]:
    """Whole-number weights of all bytes, for the coder."""
    chances = [1 / 256] * 256
    for counts, total in model.contexts(before):
        novel = len(counts)
        chances = [novel * chance for chance in chances]
        for byte, count in counts.items():
            chances[byte] += count
        chances = [chance / (total + novel) for chance in chances]
    return [1 + int(chance * (MOST_WEIGHT - 512)) for chance in chances]


def order_k_encode(data: bytes, k: int) -> str:
    """The data as a text of ``0`` and ``1``."""
    model, encoder = OrderK(k), ArithmeticEncoder()
    for place, byte in enumerate(data):
        before = data[max(0, place - k) : place]
        encoder.choose(_weights(model, before), byte)
        model.learn(before, byte)
    return encoder.finish()


def order_k_decode(bits: str, k: int, length: int) -> bytes:
    """The ``length`` bytes that :func:`order_k_encode` made the bits of."""
    model, decoder, data = OrderK(k), ArithmeticDecoder(bits), bytearray()
    for _ in range(length):
        before = bytes(data[max(0, len(data) - k) :])
        byte = decoder.choose(_weights(model, before), None)
        data.append(byte)
        model.learn(before, byte)
    return bytes(data)
