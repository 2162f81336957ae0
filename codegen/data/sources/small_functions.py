"""Small random functions: an instruction, a program and its tests.

A function loops over a list of integers and returns one. It consists of parts, each with a sentence
of the instruction, some lines of the program, and an effect that computes the expected values, so
that the program is not run. A model of a few hundred thousand parameters can learn such functions,
and minutes of training from scratch suffice to see an effect.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codegen.core.records import Example

_CALLS = 6


@dataclass(frozen=True, slots=True)
class SmallFunction:
    """An instruction, its program, and test cases (list, expected integer)."""

    instruction: str
    program: str
    cases: tuple[tuple[tuple[int, ...], int], ...]

    def example(self, number: int) -> Example:
        """Returns the function as an example for data generators."""
        return Example(f"{number}", self.instruction, self.program, source="small-functions")

    @property
    def test(self) -> str:
        """Test assertions for the sandbox."""
        return "".join(f"assert f({list(given)}) == {value}\n" for given, value in self.cases)


class _Skip(Exception):
    """Skips the current number."""


class _Stop(Exception):
    """Stops the loop over the numbers."""


@dataclass(frozen=True, slots=True)
class _Part:
    """``effect`` maps a number to a number; for a fold, (total, number) to a total."""

    sentence: str
    lines: tuple[str, ...]
    effect: Callable[..., int]


def _condition(rng: random.Random, k: int) -> tuple[str, str, Callable[[int], bool]]:
    return rng.choice(
        [
            ("negative ones", "x < 0", lambda x: x < 0),
            ("even ones", "x % 2 == 0", lambda x: x % 2 == 0),
            ("odd ones", "x % 2 == 1", lambda x: x % 2 == 1),
            (f"those above {k}", f"x > {k}", lambda x: x > k),
            (f"those below {k}", f"x < {k}", lambda x: x < k),
            (f"multiples of {k}", f"x % {k} == 0", lambda x: x % k == 0),
        ]
    )


def _unless(met: Callable[[int], bool], error: type[Exception]) -> Callable[[int], int]:
    def effect(x: int) -> int:
        if met(x):
            raise error
        return x

    return effect


def _step(rng: random.Random) -> _Part:
    k = rng.randint(2, 9)
    kind = rng.choice(("skip", "skip", "change", "change", "stop"))
    if kind == "change":
        return rng.choice(
            [
                _Part("Double each.", ("x = x * 2",), lambda x: x * 2),
                _Part("Square each.", ("x = x * x",), lambda x: x * x),
                _Part("Negate each.", ("x = -x",), lambda x: -x),
                _Part(f"Add {k} to each.", (f"x = x + {k}",), lambda x: x + k),
                _Part(f"Take {k} from each.", (f"x = x - {k}",), lambda x: x - k),
            ]
        )
    name, test, met = _condition(rng, k)
    verb, word, error = (
        ("Skip", "continue", _Skip) if kind == "skip" else ("Stop at", "break", _Stop)
    )
    return _Part(f"{verb} {name}.", (f"if {test}:", f"    {word}"), _unless(met, error))


def _fold(rng: random.Random) -> _Part:
    return rng.choice(
        [
            _Part("Sum them.", ("total = total + x",), lambda total, x: total + x),
            _Part("Count them.", ("total = total + 1",), lambda total, _: total + 1),
            _Part("Take the largest.", ("total = max(total, x)",), max),
            _Part("Subtract them.", ("total = total - x",), lambda total, x: total - x),
        ]
    )


def _after(rng: random.Random) -> _Part:
    k = rng.randint(2, 9)
    return rng.choice(
        [
            _Part(f"At most {k}.", (f"if total > {k}:", f"    total = {k}"), lambda t: min(t, k)),
            _Part(f"At least {k}.", (f"if total < {k}:", f"    total = {k}"), lambda t: max(t, k)),
            _Part("Without sign.", ("total = abs(total)",), int.__abs__),
            _Part(f"Then add {k}.", (f"total = total + {k}",), lambda t: t + k),
            _Part("Then double.", ("total = total * 2",), lambda t: t * 2),
        ]
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """Parts of a function; ``empty``: its result for an empty list, None if unspecified."""

    start: int
    empty: int | None
    steps: tuple[_Part, ...]
    fold: _Part
    after: tuple[_Part, ...]

    @property
    def sentences(self) -> list[str]:
        """Sentences of the instruction."""
        first = [] if self.empty is None else [f"For none give {self.empty}."]
        parts = (*self.steps, self.fold, *self.after)
        return [*first, f"Start with {self.start}.", *(part.sentence for part in parts)]

    @property
    def lines(self) -> list[str]:
        """Lines of the program."""
        lines = ["def f(xs):"]
        if self.empty is not None:
            lines += ["    if not xs:", f"        return {self.empty}"]
        lines += [f"    total = {self.start}", "    for x in xs:"]
        lines += [f"        {line}" for part in (*self.steps, self.fold) for line in part.lines]
        lines += [f"    {line}" for part in self.after for line in part.lines]
        return [*lines, "    return total"]

    def value(self, numbers: Sequence[int]) -> int:
        """Returns the function's result."""
        if not numbers and self.empty is not None:
            return self.empty
        total = self.start
        try:
            for number in numbers:
                try:
                    x = number
                    for part in self.steps:
                        x = part.effect(x)
                    total = self.fold.effect(total, x)
                except _Skip:
                    pass
        except _Stop:
            pass
        for part in self.after:
            total = part.effect(total)
        return total


def _draw_parts(rng: random.Random) -> _Parts:
    start = rng.randint(0, 9)
    empty = rng.choice((None, rng.randint(0, 9)))
    steps = tuple(_step(rng) for _ in range(rng.randint(1, 3)))
    return _Parts(
        start, empty, steps, _fold(rng), tuple(_after(rng) for _ in range(rng.randint(0, 2)))
    )


def _draw(rng: random.Random) -> SmallFunction:
    parts = _draw_parts(rng)
    arguments = [(), *(tuple(rng.choices(range(-9, 21), k=7)) for _ in range(_CALLS - 1))]
    cases = tuple((numbers, parts.value(numbers)) for numbers in arguments)
    return SmallFunction(" ".join(parts.sentences), "\n".join(parts.lines) + "\n", cases)


def functions(count: int, seed: int) -> list[SmallFunction]:
    """Samples functions with distinct programs; a larger count extends the same list."""
    rng = random.Random(seed)
    distinct: dict[str, SmallFunction] = {}
    while len(distinct) < count:
        function = _draw(rng)
        distinct.setdefault(function.program, function)
    return list(distinct.values())
