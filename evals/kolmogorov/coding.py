"""How many bits a program or a sequence takes.

*The paper's count* (:func:`paper_bits`) is a uniform prior over the language: log2(F + 1) for each
function, and a fixed number of bits for each argument. It is no code: lengths of lists and the
predicates of filters cost nothing, and nothing could ever be decoded. It is here so that figures
can be compared with those of Yoran et al. (ICLR 2025, arXiv 2503.13992).

*A prefix code* (:func:`encode`, :func:`decode`) is an arithmetic code over a grammar of whole
programs, under a :class:`Prior`: ``UNIFORM``, which knows nothing, or one that was learned from
programs (:func:`learn`). decode(encode(p)) = p for every program of the language.

*Classical compressors* to compare with are gzip, bz2, lzma, and order-k models. An order-k model
predicts each byte from the k before it, blended with the shorter contexts as in Witten-Bell
smoothing, and learns as it goes. :func:`order_k_bits` is the length that arithmetic coding with it
takes; :func:`order_k_encode` and :func:`order_k_decode` do the coding, about a thousand times
slower, as the proof that the length is one.

The arithmetic coder is that of Witten, Neal and Cleary 1987: two 32-bit registers, bits put out as
soon as they are known. Choices of total probability P cost at most -log2 P + 2 bits together, and
rounding of less than 2^-14 of a bit each. A *channel* takes a choice among weighted alternatives:
:class:`ArithmeticEncoder` writes it, :class:`ArithmeticDecoder` reads it, :class:`Meter` adds up
its cost by the probabilities. A format that is described once, over a channel, can then be written,
read and priced, and the three can't disagree.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from codegen.errors import InputError

from .language import INITIATORS, PREDICATES, SIGNATURES, Argument, Kind, Line, Program, Ref

# --- choices and their cost ----------------------------------------------------------------------


_BITS = 32
_TOP = (1 << _BITS) - 1
_HALF, _QUARTER = 1 << (_BITS - 1), 1 << (_BITS - 2)
MOST_WEIGHT = 1 << 16  # of all weights of a choice together


class Channel(Protocol):
    """Takes choices; see the module's text."""

    def choose(self, weights: Sequence[int], choice: int | None) -> int:
        """One of ``len(weights)`` alternatives, each as likely as its weight; its number.

        ``choice`` is the choice to write; a reader ignores it.
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


class ArithmeticEncoder:
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


# --- programs ------------------------------------------------------------------------------------


_PAPER_FUNCTIONS = 24  # the names of the language, predicates among them
_PAPER_REPEATS = 20
_VALUE_BITS, _STEP_BITS = 8.0, 3.0

_NAMES = tuple(SIGNATURES)
_OUTPUT = len(_NAMES)  # the choice that ends a program
# The values that an integer of each kind usually has; others cost more, and can be coded too.
_RANGES: Mapping[Kind, tuple[int, int]] = {
    "value": (0, 255),
    "end": (1, 256),
    "index": (0, 255),
    "step": (0, 7),
    "count": (0, 31),
}
_LENGTHS = (0, 31)  # of lists
_USUAL = (1023, 1)  # weights of an integer's being usual or not
_LAST = (63, 1)  # weights of the output's being the last sequence or not
_MOST_DIGITS = 4096  # bits of an unusual integer
_RARE = 8  # each count that a prior learned is worth so many of those that it did not see


def paper_bits(program: Program) -> float:
    """The bits that the paper's uniform prior gives a program."""
    bits = 0.0
    for number, line in enumerate(program.lines):
        bits += math.log2(_PAPER_FUNCTIONS + 1)
        reference = math.log2(number + 1)
        for kind, argument in zip(SIGNATURES[line.function], line.arguments, strict=True):
            match kind:
                case "ref":
                    bits += reference
                case "list":
                    bits += _VALUE_BITS * len(argument) if isinstance(argument, tuple) else 0.0
                case "step":
                    bits += _STEP_BITS
                case "count":
                    bits += math.log2(_PAPER_REPEATS)
                case "predicate":
                    pass
                case _:
                    bits += _VALUE_BITS
    return bits + math.log2(_PAPER_FUNCTIONS + 1)  # the line that names the output


@dataclass(frozen=True, slots=True)
class Prior:
    """What is expected of programs, as whole-number weights; see :func:`learn`.

    Attributes:
        name: for reports.
        functions: the function before (or "" at the start) -> weights of all functions and the end.
        distances: weights of how far back a reference goes: 0 is the line before; further ones have
            the last weight.
        numbers: kind -> weights of the usual values of integers of that kind.
    """

    name: str
    functions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    distances: Sequence[int] = ()
    numbers: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def function(self, before: str, first: bool) -> list[int]:
        """Weights of what follows; the first line can only be an initiator."""
        weights = list(self.functions.get(before, [1] * (_OUTPUT + 1)))
        if first:
            weights = [w if _is_initiator(i) else 0 for i, w in enumerate(weights)]
        return weights

    def reference(self, count: int) -> list[int]:
        """Weights of the ``count`` earlier sequences by distance."""
        if not self.distances:
            return [1] * count
        known = list(self.distances[:count])
        return known + [self.distances[-1]] * (count - len(known))


def _is_initiator(number: int) -> bool:
    return number < _OUTPUT and _NAMES[number] in INITIATORS


UNIFORM = Prior("uniform")


def learn(programs: Iterable[Program], name: str = "learned") -> Prior:
    """A prior from the programs of a training set: pairs of functions, distances, numbers.

    What was not seen keeps a small weight, so every program can still be coded.
    """
    pairs: Counter[tuple[str, int]] = Counter()
    distances: Counter[int] = Counter()
    numbers: dict[str, Counter[int]] = {kind: Counter() for kind in [*_RANGES, "length"]}
    for program in programs:
        before = ""
        for place, line in enumerate(program.lines):
            pairs[before, _NAMES.index(line.function)] += 1
            before = line.function
            for kind, argument in zip(SIGNATURES[line.function], line.arguments, strict=True):
                if isinstance(argument, Ref):
                    distances[place - 1 - argument.line] += 1
                elif isinstance(argument, tuple):
                    numbers["length"][len(argument)] += 1
                    numbers["value"].update(argument)
                elif isinstance(argument, int):
                    numbers[kind][argument] += 1
        pairs[before, _OUTPUT] += 1
    if not distances:
        distances[0] = 0
    farthest = min(max(distances) + 1, 63)
    return Prior(
        name,
        {
            before: _weights([pairs[before, i] for i in range(_OUTPUT + 1)])
            for before in ["", *_NAMES]
        },
        _weights([distances[i] for i in range(farthest)] + [0]),
        {
            kind: _weights([found[value] for value in range(low, high + 1)])
            for kind, found in numbers.items()
            for low, high in [_LENGTHS if kind == "length" else _RANGES[kind]]  # type: ignore[index]
        },
    )


def _weights(counts: Sequence[int]) -> list[int]:
    """Counts with a little added to each, scaled down to what the coder takes."""
    total = sum(counts) * _RARE + len(counts)
    scale = min(1.0, (1 << 15) / total)
    return [max(1, round((count * _RARE + 1) * scale)) for count in counts]


def encode(program: Program, prior: Prior = UNIFORM) -> str:
    """The program as a text of ``0`` and ``1``."""
    encoder = ArithmeticEncoder()
    _walk(encoder, prior, program)
    return encoder.finish()


def decode(bits: str, prior: Prior = UNIFORM) -> Program:
    """The program that :func:`encode` made the bits of, under the same prior.

    Raises:
        InputError: for bits that no program has.
    """
    return _walk(ArithmeticDecoder(bits), prior, None)


def code_bits(program: Program, prior: Prior = UNIFORM) -> float:
    """-log2 of the program's probability under the prior; :func:`encode` takes at most 2 more."""
    meter = Meter()
    _walk(meter, prior, program)
    return meter.bits


# The grammar. Each function takes the value to write, or None when reading.


def _walk(channel: Channel, prior: Prior, program: Program | None) -> Program:
    lines: list[Line] = []
    before = ""
    while True:
        number = len(lines)
        line = program.lines[number] if program and number < len(program.lines) else None
        choice = _OUTPUT if line is None else _NAMES.index(line.function)
        choice = channel.choose(prior.function(before, not lines), choice)
        if choice == _OUTPUT:
            break
        before = _NAMES[choice]
        kinds = SIGNATURES[before]
        given = line.arguments if line else (None,) * len(kinds)
        arguments = [
            _argument(channel, prior, kind, argument, number)
            for kind, argument in zip(kinds, given, strict=True)
        ]
        lines.append(Line(before, tuple(arguments)))
    output = len(lines) - 1
    is_last = program is None or program.output == output
    if channel.choose(_LAST, int(not is_last)):
        output = channel.uniform(len(lines), program.output if program else None)
    return Program(tuple(lines), output)


def _argument(
    channel: Channel, prior: Prior, kind: Kind, argument: Argument | None, number: int
) -> Argument:
    match kind:
        case "ref":
            given = number - 1 - argument.line if isinstance(argument, Ref) else None
            return Ref(number - 1 - channel.choose(prior.reference(number), given))
        case "predicate":
            given = PREDICATES.index(argument) if isinstance(argument, str) else None
            return PREDICATES[channel.uniform(len(PREDICATES), given)]
        case "list":
            items = argument if isinstance(argument, tuple) else None
            size = len(items) if items is not None else None
            size = _integer(channel, _LENGTHS, prior.numbers.get("length"), size)
            if size < 0:
                raise InputError("The code holds a list of negative length.")
            weights = prior.numbers.get("value")
            return tuple(
                _integer(channel, _RANGES["value"], weights, items[i] if items else None)
                for i in range(size)
            )
        case _:
            given = argument if isinstance(argument, int) else None
            return _integer(channel, _RANGES[kind], prior.numbers.get(kind), given)


def _integer(
    channel: Channel, usual: tuple[int, int], weights: Sequence[int] | None, value: int | None
) -> int:
    low, high = usual
    outside = value is not None and not low <= value <= high
    if channel.choose(_USUAL, int(outside)):
        return _any_integer(channel, value)
    place = None if value is None else value - low
    if weights is not None:
        return low + channel.choose(weights, place)
    return low + channel.uniform(high - low + 1, place)


def _any_integer(channel: Channel, value: int | None) -> int:
    """A sign, and Elias's gamma code of the magnitude plus one."""
    sign = channel.uniform(2, None if value is None else int(value < 0))
    magnitude = None if value is None else abs(value) + 1
    digits = 0
    while channel.uniform(2, None if magnitude is None else int(magnitude >> digits > 1)):
        digits += 1
        if digits > _MOST_DIGITS:
            raise InputError(f"An integer of more than {_MOST_DIGITS} bits can't be coded.")
    found = 1
    for place in reversed(range(digits)):
        bit = None if magnitude is None else magnitude >> place & 1
        found = found << 1 | channel.uniform(2, bit)
    return -(found - 1) if sign else found - 1


# --- classical compressors -----------------------------------------------------------------------


COMPRESSORS: Mapping[str, Callable[[bytes], int]] = {
    "gzip": lambda data: len(gzip.compress(data, mtime=0)),
    "bz2": lambda data: len(bz2.compress(data)),
    "lzma": lambda data: len(lzma.compress(data)),
    "order-0": lambda data: math.ceil(order_k_bits(data, 0) / 8),
    "order-2": lambda data: math.ceil(order_k_bits(data, 2) / 8),
    "order-3": lambda data: math.ceil(order_k_bits(data, 3) / 8),
}


class OrderK:
    """The counts of an order-k model."""

    def __init__(self, k: int) -> None:
        self.k = k
        # For each order: context -> [total, counts]; the number of distinct bytes is len(counts).
        self._seen: list[dict[bytes, dict[int, int]]] = [{} for _ in range(k + 1)]
        self._totals: list[dict[bytes, int]] = [{} for _ in range(k + 1)]

    def _contexts(self, before: bytes) -> list[tuple[dict[int, int], int]]:
        """Counts and totals of the contexts that were seen, the shortest first."""
        found = []
        for order in range(min(self.k, len(before)) + 1):
            context = before[len(before) - order :]
            counts = self._seen[order].get(context)
            if counts is None:
                break
            found.append((counts, self._totals[order][context]))
        return found

    def probability(self, before: bytes, byte: int) -> float:
        """Of ``byte`` behind ``before``."""
        chance = 1 / 256
        for counts, total in self._contexts(before):
            novel = len(counts)
            chance = (counts.get(byte, 0) + novel * chance) / (total + novel)
        return chance

    def weights(self, before: bytes) -> list[int]:
        """Whole-number weights of all bytes, for the coder."""
        chances = [1 / 256] * 256
        for counts, total in self._contexts(before):
            novel = len(counts)
            chances = [novel * chance for chance in chances]
            for byte, count in counts.items():
                chances[byte] += count
            chances = [chance / (total + novel) for chance in chances]
        return [1 + int(chance * (MOST_WEIGHT - 512)) for chance in chances]

    def learn(self, before: bytes, byte: int) -> None:
        """Counts ``byte`` behind ``before``."""
        for order in range(min(self.k, len(before)) + 1):
            context = before[len(before) - order :]
            counts = self._seen[order].setdefault(context, {})
            counts[byte] = counts.get(byte, 0) + 1
            self._totals[order][context] = self._totals[order].get(context, 0) + 1


def order_k_bits(data: bytes, k: int) -> float:
    """The bits that arithmetic coding with an order-k model takes, the length not included."""
    model, bits = OrderK(k), 0.0
    for place, byte in enumerate(data):
        before = data[max(0, place - k) : place]
        bits -= math.log2(model.probability(before, byte))
        model.learn(before, byte)
    return bits


def order_k_encode(data: bytes, k: int) -> str:
    """The data as a text of ``0`` and ``1``."""
    model, encoder = OrderK(k), ArithmeticEncoder()
    for place, byte in enumerate(data):
        before = data[max(0, place - k) : place]
        encoder.choose(model.weights(before), byte)
        model.learn(before, byte)
    return encoder.finish()


def order_k_decode(bits: str, k: int, length: int) -> bytes:
    """The ``length`` bytes that :func:`order_k_encode` made the bits of."""
    model, decoder, data = OrderK(k), ArithmeticDecoder(bits), bytearray()
    for _ in range(length):
        before = bytes(data[max(0, len(data) - k) :])
        byte = decoder.choose(model.weights(before), None)
        data.append(byte)
        model.learn(before, byte)
    return bytes(data)


def rates(data: bytes, compressors: Iterable[str] = tuple(COMPRESSORS)) -> dict[str, float]:
    """Compressed size / size of the whole, by compressor.

    Raises:
        InputError: if there is nothing to compress.
    """
    if not data:
        raise InputError("There are no bytes to compress.")
    return {name: COMPRESSORS[name](data) / len(data) for name in compressors}


def rate_of_items(items: Sequence[bytes], compressor: str = "gzip") -> float:
    """The same with each item compressed by itself."""
    compress = COMPRESSORS[compressor]
    return sum(compress(item) for item in items) / sum(map(len, items))
