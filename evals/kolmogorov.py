"""The language of the KoLMogorov test: program syntax, interpreter and random programs.

The test measures whether a model can compress a byte sequence by writing a short program for it;
:mod:`codegen.evals.tasks.kolmogorov` has its prompts and scores.

A program consists of lines ``sequence_1 = f(arguments)`` over earlier sequences, followed by
``output = sequence_k``.

Random programs supply unlimited training and test data. Steps and probabilities follow the paper's
generator: initiators, list updates, arithmetic, running sums, a filter, pairs, and a fold into one
output. The same seed yields the same programs.

Source: Yoran et al., "The KoLMogorov Test", ICLR 2025 (arXiv 2503.13992). Implemented from the
description; the authors' code and data are CC-BY-NC and not part of this package.

Limits: the paper's generator has some bugs (its filter reads leftover loop variables). They are not
reproduced, but its statistics are, and the tests compare against them.
"""

from __future__ import annotations

import ast
import inspect
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from codegen.core.errors import InputError

# The functions' source is prepended to programs that run in the sandbox, so they must not use other
# names of this module. Sequences are lists of integers and never changed in place.


def range_func_up(first, last):
    """Returns first, first + 1, ..., last."""
    return list(range(first, last + 1))


def range_func_interval(first, end, step):
    """Returns first, first + step, ... below end."""
    return list(range(first, end, step))


def repeat_num(count, value):
    """Repeats the value."""
    return [value] * count


def set_list(values):
    """Returns the values unchanged."""
    return list(values)


def repeat_list(times, sequence):
    """Repeats the sequence."""
    return sequence * times


def reverse_list(sequence):
    """Reverses the sequence."""
    return sequence[::-1]


def substitute(sequence, pattern, replacement):
    """Replaces every occurrence of the pattern."""
    return [replacement if item == pattern else item for item in sequence]


def get_subsequence_with_jumps(sequence, jump):
    """Returns every jump-th item, starting with the first."""
    return sequence[::jump]


def get_subsequence_between_indices(sequence, start, end):
    """Returns the items from start to end (excluded)."""
    return sequence[start:end]


def max_n(sequence, n):
    """Returns the n largest items, largest first."""
    return sorted(sequence, reverse=True)[:n]


def min_n(sequence, n):
    """Returns the n smallest items, smallest first."""
    return sorted(sequence)[:n]


def add_item_list(sequence, constant):
    """Adds the constant to every item."""
    return [item + constant for item in sequence]


def subtract_item_list(sequence, constant):
    """Subtracts the constant from every item."""
    return [item - constant for item in sequence]


def modulo_item_list(sequence, constant):
    """Returns every item modulo the constant."""
    return [item % constant for item in sequence]


def is_even(item):
    """Returns True if it is even."""
    return item % 2 == 0


def is_odd(item):
    """Returns True if it is odd."""
    return item % 2 == 1


def is_not_zero(item):
    """Returns True if it is not zero."""
    return item != 0


def filter(predicate, sequence):
    """Returns the items that satisfy the predicate."""
    return [item for item in sequence if predicate(item)]


def scan_add(sequence):
    """Returns the running sums."""
    total, sums = 0, []
    for item in sequence:
        total += item
        sums.append(total)
    return sums


def add_two_lists(one, other):
    """Adds pairs of items; as long as the shorter sequence."""
    return [a + b for a, b in zip(one, other)]  # noqa: B905


def subtract_two_lists(one, other):
    """Subtracts pairs of items; as long as the shorter sequence."""
    return [a - b for a, b in zip(one, other)]  # noqa: B905


def modulo_two_lists(one, other):
    """Returns the remainders of pairs, except for divisors of zero."""
    return [a % b for a, b in zip(one, other) if b != 0]  # noqa: B905


def concatenate(one, other):
    """Concatenates the sequences."""
    return one + other


def interleave(one, other):
    """Alternates items, then appends the rest of the longer sequence."""
    size = min(len(one), len(other))
    mixed = [item for pair in zip(one, other) for item in pair]  # noqa: B905
    return mixed + one[size:] + other[size:]


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    name: value for name, value in list(globals().items()) if inspect.isfunction(value)
}


def prelude() -> str:
    """Returns the functions' source, to prepend to a program of the language."""
    return "\n\n".join(map(inspect.getsource, FUNCTIONS.values()))


Kind = Literal["ref", "value", "end", "index", "step", "count", "list", "predicate"]
PREDICATES = ("is_even", "is_odd", "is_not_zero")
_MOST_ITEMS = 1 << 20  # maximum items per sequence, since a short program can have a huge value


@dataclass(frozen=True, slots=True)
class LineRef:
    """A reference to the sequence of the ``line``-th line (from 0)."""

    line: int


Argument = int | tuple[int, ...] | str | LineRef

# Argument kinds of each function. "end" is a value plus one; "index" is a position in a sequence.
SIGNATURES: Mapping[str, tuple[Kind, ...]] = {
    "range_func_up": ("value", "value"),
    "range_func_interval": ("value", "end", "step"),
    "repeat_num": ("count", "value"),
    "set_list": ("list",),
    "repeat_list": ("step", "ref"),
    "reverse_list": ("ref",),
    "substitute": ("ref", "value", "value"),
    "get_subsequence_with_jumps": ("ref", "step"),
    "get_subsequence_between_indices": ("ref", "index", "index"),
    "max_n": ("ref", "index"),
    "min_n": ("ref", "index"),
    "add_item_list": ("ref", "value"),
    "subtract_item_list": ("ref", "value"),
    "modulo_item_list": ("ref", "value"),
    "filter": ("predicate", "ref"),
    "scan_add": ("ref",),
    "add_two_lists": ("ref", "ref"),
    "subtract_two_lists": ("ref", "ref"),
    "modulo_two_lists": ("ref", "ref"),
    "concatenate": ("ref", "ref"),
    "interleave": ("ref", "ref"),
}
INITIATORS = tuple(name for name, kinds in SIGNATURES.items() if "ref" not in kinds)


@dataclass(frozen=True, slots=True)
class CallLine:
    """One call; the arguments have the kinds in :data:`SIGNATURES`."""

    function: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class SequenceProgram:
    """A program: its lines, and the index of the output line.

    Raises:
        InputError: for an unknown function, arguments of the wrong kind, or a reference to a later
            sequence.
    """

    lines: tuple[CallLine, ...]
    output: int

    def __post_init__(self) -> None:
        for number, line in enumerate(self.lines):
            _check(number, line)
        if not 0 <= self.output < len(self.lines):
            raise InputError(f"The output is sequence {self.output + 1}, which does not exist.")

    def values(self) -> Iterator[list[int]]:
        """Yields each line's sequence, in order.

        Raises:
            InputError: if a line cannot be computed; names the line.
        """
        made: list[list[int]] = []
        for number, line in enumerate(self.lines):
            arguments = [_value(argument, made) for argument in line.arguments]
            try:
                made.append(_call(line.function, arguments))
            except (ArithmeticError, ValueError, TypeError) as error:
                raise InputError(f"Line {number + 1} ({line.function}): {error}.") from None
            yield made[-1]

    def run(self) -> list[int]:
        """Returns the output sequence."""
        return list(self.values())[self.output]

    def to_text(self) -> str:
        """Returns the program as Python that calls the functions by name."""
        rows = []
        for number, line in enumerate(self.lines):
            arguments = ", ".join(map(_argument_text, line.arguments))
            rows.append(f"sequence_{number + 1} = {line.function}({arguments})")
        rows.append(f"output = sequence_{self.output + 1}")
        return "\n".join(rows) + "\n"


def _call(name: str, arguments: Sequence[Any]) -> list[int]:
    sizes = [len(argument) for argument in arguments if isinstance(argument, list)]
    times = arguments[0] if name in ("repeat_list", "repeat_num") else 1
    if name.startswith("range_func"):
        times = abs(arguments[1] - arguments[0])
    if times * max([1, sum(sizes)]) > _MOST_ITEMS:
        raise ValueError(f"the sequence would have more than {_MOST_ITEMS} items")
    return FUNCTIONS[name](*arguments)


def _value(argument: Argument, made: Sequence[list[int]]) -> object:
    if isinstance(argument, LineRef):
        return made[argument.line]
    if isinstance(argument, str):
        return FUNCTIONS[argument]
    return list(argument) if isinstance(argument, tuple) else argument


def _argument_text(argument: Argument) -> str:
    if isinstance(argument, LineRef):
        return f"sequence_{argument.line + 1}"
    return str(list(argument)) if isinstance(argument, tuple) else str(argument)


def _check(number: int, line: CallLine) -> None:
    where = f"Line {number + 1}"
    kinds = SIGNATURES.get(line.function)
    if kinds is None:
        raise InputError(f"{where}: unknown function {line.function!r}.")
    if len(kinds) != len(line.arguments):
        raise InputError(f"{where}: {line.function} takes {len(kinds)} arguments.")
    for kind, argument in zip(kinds, line.arguments, strict=True):
        if not _fits(kind, argument):
            raise InputError(f"{where}: {line.function} does not accept {argument!r} as {kind}.")
        if isinstance(argument, LineRef) and not 0 <= argument.line < number:
            raise InputError(f"{where}: sequence_{argument.line + 1} is not defined yet.")


def _fits(kind: Kind, argument: Argument) -> bool:
    if kind == "ref":
        return isinstance(argument, LineRef)
    if kind == "predicate":
        return argument in PREDICATES
    if kind == "list":
        return isinstance(argument, tuple) and all(type(item) is int for item in argument)
    return type(argument) is int


_NAME = re.compile(r"sequence_([1-9]\d{0,5})")


def parse(text: str) -> SequenceProgram:
    """Parses a program's text without executing it.

    Raises:
        InputError: for anything outside the language; names the line.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"Not a program of the language: {error}.") from None
    if not body:
        raise InputError("Not a program of the language: it is empty.")
    lines = [_line(number, node) for number, node in enumerate(body[:-1])]
    match body[-1]:
        case ast.Assign(targets=[ast.Name(id="output")], value=ast.Name(id=name)):
            return SequenceProgram(tuple(lines), _number(name, body[-1]))
        case _:
            raise InputError("The last line must be of the form output = sequence_1.")


def _line(number: int, node: ast.stmt) -> CallLine:
    match node:
        case ast.Assign(
            targets=[ast.Name(id=target)],
            value=ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]),
        ):
            if target != f"sequence_{number + 1}":
                raise InputError(f"Line {node.lineno} must assign sequence_{number + 1}.")
            return CallLine(function, tuple(_argument(argument) for argument in arguments))
        case _:
            raise InputError(f"Line {node.lineno} is not of the form sequence_1 = f(...).")


def _argument(node: ast.expr) -> Argument:
    match node:
        case ast.Name(id=name) if name in PREDICATES:
            return name
        case ast.Name(id=name):
            return LineRef(_number(name, node))
        case ast.List(elts=items):
            return tuple(_integer(item) for item in items)
        case _:
            return _integer(node)


def _integer(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int() as value) if type(value) is int:
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return -value
        case _:
            raise InputError(f"Line {node.lineno}: an argument is not an integer.")


def _number(name: str, node: ast.AST) -> int:
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"Line {getattr(node, 'lineno', 1)}: {name!r} is not a sequence.")
    return int(match[1]) - 1


LOWEST, HIGHEST = 0, 255
_SHORTEST, _LONGEST = 5, 25  # bounds of an initiator's length
_GROUP = 0.4  # probability of each group of changes


class _Draft:
    """A program under construction: its lines, their values, and the changes so far."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[CallLine] = []
        self.values: list[list[int]] = []
        self.excluded: set[int] = set()  # lines not used in the output
        self.reversals: set[int] = set()  # reversed lines and their originals

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def compute(self, function: str, *arguments: Argument) -> list[int]:
        values = [
            self.values[a.line]
            if isinstance(a, LineRef)
            else FUNCTIONS[a]
            if isinstance(a, str)
            else a
            for a in arguments
        ]
        return FUNCTIONS[function](*values)

    def add(self, function: str, *arguments: Argument) -> int:
        self.values.append(self.compute(function, *arguments))
        self.lines.append(CallLine(function, arguments))
        return len(self.lines) - 1

    def growing(self) -> Iterator[int]:
        """Yields all line numbers, including lines added during the iteration."""
        number = 0
        while number < len(self.lines):
            yield number
            number += 1


def sample_program(rng: random.Random) -> SequenceProgram:
    """Generates one program; its output's items are in [0, 255]."""
    draft = _Draft(rng)
    for _ in range(rng.randint(1, 5)):
        _initiate(draft)
    if draft.chance(_GROUP):
        _update_lists(draft)
    if draft.chance(_GROUP):
        _calculate(draft)
    for number in draft.growing():
        sums = scan_add(draft.values[number])
        if draft.chance(0.1) and _rich(draft.values[number]) and max(sums) <= HIGHEST:
            draft.add("scan_add", LineRef(number))
    if draft.chance(_GROUP):
        _filter(draft)
    if draft.chance(_GROUP):
        _pair(draft)
    output = _fold(draft)
    return SequenceProgram(tuple(draft.lines), output)


def sample_programs(count: int, seed: int = 0) -> Iterator[SequenceProgram]:
    """Yields ``count`` programs; the i-th depends only on ``seed`` and i."""
    for index in range(count):
        yield sample_program(random.Random(f"kolmogorov/{seed}/{index}"))


def _rich(values: list[int]) -> bool:
    return len(set(values)) > 2


def _initiate(draft: _Draft) -> None:
    rng = draft.rng
    size = rng.randint(_SHORTEST, _LONGEST)
    start = rng.randint(LOWEST, HIGHEST - size)
    function = rng.choice(INITIATORS)
    if function == "range_func_up":
        draft.add(function, start, start + size - 1)
    elif function == "range_func_interval":
        step = rng.randint(2, 5)
        draft.add(function, start, min(start + (size - 1) * step, HIGHEST) + 1, step)
    elif function == "repeat_num":
        draft.add(function, size, rng.randint(LOWEST, HIGHEST))
    else:
        draft.add(function, tuple(rng.randint(LOWEST, HIGHEST) for _ in range(size)))


def _update_lists(draft: _Draft) -> None:
    rng = draft.rng
    for number in draft.growing():
        plain = draft.lines[number].function not in ("repeat_num", "reverse_list")
        if plain and number not in draft.reversals and draft.chance(0.1):
            draft.reversals |= {number, draft.add("reverse_list", LineRef(number))}
    for number in draft.growing():
        if draft.chance(0.1):
            draft.add("repeat_list", rng.randint(2, 4), LineRef(number))
        if number in draft.reversals or number in draft.excluded:
            continue
        size = len(draft.values[number])
        if draft.chance(0.05):
            draft.add("get_subsequence_with_jumps", LineRef(number), rng.randint(2, 5))
        if draft.chance(0.05) and size > 2:
            start = rng.randint(0, size - 2)
            end = rng.randint(start + 2, size)
            draft.add("get_subsequence_between_indices", LineRef(number), start, end)
    for number in draft.growing():
        if draft.chance(0.1):
            pattern = rng.choice(draft.values[number])
            others = [value for value in range(LOWEST, HIGHEST + 1) if value != pattern]
            draft.add("substitute", LineRef(number), pattern, rng.choice(others))
            if draft.chance(0.25):
                draft.excluded.add(number)


def _calculate(draft: _Draft) -> None:
    rng = draft.rng
    for number in range(len(draft.lines)):
        values, size = draft.values[number], len(draft.values[number])
        roll = rng.random()
        is_list = draft.lines[number].function == "set_list"
        if is_list and draft.chance(0.1) and size >= 5:
            draft.add(rng.choice(("max_n", "min_n")), LineRef(number), rng.randint(3, size - 2))
        elif roll < 0.1:
            adds = draft.chance(0.5)
            room = HIGHEST - max(values) if adds else min(values) - LOWEST
            if room > 1:
                function = "add_item_list" if adds else "subtract_item_list"
                draft.add(function, LineRef(number), rng.randint(1, room))
        elif roll < 0.2:
            third = sorted(values, reverse=True)[2] if size > 2 else 0
            if third > 2:
                draft.add("modulo_item_list", LineRef(number), rng.randint(2, third))


def _filter(draft: _Draft) -> None:
    predicate, last = draft.rng.choice(PREDICATES), len(draft.lines) - 1
    kept = draft.compute("filter", predicate, LineRef(last))
    if kept != draft.values[last] and len(kept) > 2 and draft.chance(0.3):
        draft.add("filter", predicate, LineRef(last))


def _pair(draft: _Draft) -> None:
    count = len(draft.lines)
    for i in range(count):
        for j in range(i + 1, count):
            if len(draft.values[i]) != len(draft.values[j]):
                continue
            roll = draft.rng.random()
            if roll < 0.1:
                function = "add_two_lists" if draft.chance(0.5) else "subtract_two_lists"
            elif roll < 0.2:
                function = "modulo_two_lists"
            else:
                continue
            made = draft.compute(function, LineRef(i), LineRef(j))
            if _rich(made) and min(made) >= LOWEST and max(made) <= HIGHEST:
                draft.add(function, LineRef(i), LineRef(j))


def _fold(draft: _Draft) -> int:
    """Joins the sequences that are not excluded, some of them twice; returns the output line."""
    used = [number for number in range(len(draft.lines)) if number not in draft.excluded]
    uses = dict.fromkeys(range(len(draft.lines)), 0)
    result = used[0]
    for number in used[1:]:
        result = _join(draft, result, number)
        uses[number] += 1
    uses[used[0]] += 1
    for _ in range(len(used)):
        again = [number for number, count in uses.items() if count < 2]
        if draft.chance(0.2) and again:
            number = draft.rng.choice(again)
            uses[number] += 1
            result = _join(draft, result, number)
    return result


def _join(draft: _Draft, one: int, other: int) -> int:
    function = "concatenate" if draft.chance(0.8) else "interleave"
    return draft.add(function, LineRef(one), LineRef(other))


_PAPER_FUNCTIONS = 24  # names in the language, including predicates
_VALUE_BITS = 8.0
_OTHER_BITS = {"step": 3.0, "count": math.log2(20), "predicate": 0.0}


def paper_bits(program: SequenceProgram) -> float:
    """Returns a program's size in bits under the paper's uniform prior over the language.

    log2(F + 1) for each function, and a fixed number of bits for each argument. It is not a
    decodable code: list lengths and filter predicates cost nothing.
    """
    bits = 0.0
    for number, line in enumerate(program.lines):
        bits += math.log2(_PAPER_FUNCTIONS + 1)
        reference = math.log2(number + 1)
        for kind, argument in zip(SIGNATURES[line.function], line.arguments, strict=True):
            if isinstance(argument, LineRef):
                bits += reference
            elif isinstance(argument, tuple):
                bits += _VALUE_BITS * len(argument)
            else:
                bits += _OTHER_BITS.get(kind, _VALUE_BITS)
    return bits + math.log2(_PAPER_FUNCTIONS + 1)  # the line that names the output
