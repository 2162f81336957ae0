"""How many bits a program or a sequence takes.

*The paper's count* (:func:`paper_bits`) is a uniform prior over the language: log2(F + 1) for each
function, and a fixed number of bits for each argument. It is not a code, since lengths of lists and
predicates of filters cost nothing. It allows comparison with the figures of Yoran et al. (ICLR
2025, arXiv 2503.13992).

*A prefix code* (:func:`code_bits`) is the length of an arithmetic code over a grammar of whole
programs, under a :class:`Prior`: ``UNIFORM``, which knows nothing, or one that was learned from
programs (:func:`learn`). The coder itself is in ``tests/evals/arithmetic.py``, and tests show
that decode(encode(p)) = p for every program of the language, in at most 2 bits more.

*Classical compressors* for comparison are gzip, bz2, lzma, and order-k models. An order-k model
predicts each byte from the k before it, blended with the shorter contexts as in Witten-Bell
smoothing, and learns online. :func:`order_k_bits` is the length of its arithmetic code.

A *channel* takes choices among weighted alternatives: :class:`Meter` adds up their cost, an
arithmetic encoder writes them, a decoder reads them. The grammar is defined once over a channel, so
that the three agree.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from codegen.errors import InputError

from .language import INITIATORS, PREDICATES, SIGNATURES, Argument, Kind, Line, Program, Ref

# --- choices and their cost ----------------------------------------------------------------------


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
_RARE = 8  # weight of each observed count, relative to 1 for unseen choices


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


def code_bits(program: Program, prior: Prior = UNIFORM) -> float:
    """-log2 of the program's probability under the prior."""
    meter = Meter()
    walk(meter, prior, program)
    return meter.bits


# The grammar. Each function takes the value to write, or None when reading.


def walk(channel: Channel, prior: Prior, program: Program | None) -> Program:
    """Passes a program's choices through a channel; the program, read from it if None is given."""
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

    def contexts(self, before: bytes) -> list[tuple[dict[int, int], int]]:
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
        for counts, total in self.contexts(before):
            novel = len(counts)
            chance = (counts.get(byte, 0) + novel * chance) / (total + novel)
        return chance

    def learn(self, before: bytes, byte: int) -> None:
        """Counts ``byte`` after ``before``."""
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
