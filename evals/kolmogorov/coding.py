"""How many bits a program takes: the paper's count, and codes that can be read again.

*The paper's count* (:func:`paper_bits`) is a uniform prior over the language: log2(F + 1) for each
function, and a fixed number of bits for each argument. It is no code: lengths of lists and the
predicates of filters cost nothing, and nothing could ever be decoded. It is here so that figures
can be compared.

*A prefix code* (:func:`encode`, :func:`decode`) is an arithmetic code over a grammar of whole
programs, under a :class:`Prior`: ``UNIFORM``, which knows nothing, or one that was learned from
programs (:func:`learn`). decode(encode(p)) = p for every program of the language.

Source: the counts are those of Yoran et al. (ICLR 2025) as in the specification, section 4.4.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from codegen.errors import InputError

from .arithmetic import Channel, Decoder, Encoder, Meter
from .language import INITIATORS, PREDICATES, SIGNATURES, Argument, Kind, Line, Program, Ref

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
    encoder = Encoder()
    _walk(encoder, prior, program)
    return encoder.finish()


def decode(bits: str, prior: Prior = UNIFORM) -> Program:
    """The program that :func:`encode` made the bits of, under the same prior.

    Raises:
        InputError: for bits that no program has.
    """
    return _walk(Decoder(bits), prior, None)


def code_bits(program: Program, prior: Prior = UNIFORM) -> float:
    """-log2 of the program's probability under the prior; :func:`encode` takes at most 2 more."""
    meter = Meter()
    _walk(meter, prior, program)
    return meter.bits


# The grammar. Each function takes what is to be written, or None where it is being read.


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
        told = line.arguments if line else (None,) * len(kinds)
        arguments = [
            _argument(channel, prior, kind, argument, number)
            for kind, argument in zip(kinds, told, strict=True)
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
            told = number - 1 - argument.line if isinstance(argument, Ref) else None
            return Ref(number - 1 - channel.choose(prior.reference(number), told))
        case "predicate":
            told = PREDICATES.index(argument) if isinstance(argument, str) else None
            return PREDICATES[channel.uniform(len(PREDICATES), told)]
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
            told = argument if isinstance(argument, int) else None
            return _integer(channel, _RANGES[kind], prior.numbers.get(kind), told)


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
