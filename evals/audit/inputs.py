"""Inputs of the function under test: recorded from its tests, varied, and made smaller.

Variation preserves types, as in EvalPlus (Liu et al. 2023, arXiv 2305.01210, section 2.2). A
problem states the inputs that it allows in words, so what the recorded inputs have in common is
kept, too (as in Daikon, Ernst et al. 2001): signs, kinds of characters, order of the items, and
relations between arguments such as ``n == len(items)``.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.evals.sandbox import Job
from codegen.python_syntax import UNPARSABLE, parse

MAX_RECORDED = 64
_MAX_TEXT = 2000  # characters of a recorded call


@dataclass(frozen=True, slots=True)
class Input:
    """Arguments of one call.

    Attributes:
        name: the function.
        args: positional arguments, plain values.
        options: named arguments.
    """

    name: str
    args: tuple[Any, ...]
    options: Mapping[str, Any]

    def __str__(self) -> str:
        named = (f"{key}={value!r}" for key, value in self.options.items())
        return f"{self.name}({', '.join([*map(repr, self.args), *named])})"

    @property
    def values(self) -> tuple[Any, ...]:
        """All arguments, named ones last."""
        return (*self.args, *self.options.values())

    def with_values(self, values: Sequence[Any]) -> Input:
        """Returns the same call with other arguments."""
        count = len(self.args)
        options = dict(zip(self.options, values[count:], strict=True))
        return Input(self.name, tuple(values[:count]), options)


# Executed in the sandbox. Only calls by the tests count, not the function's own recursive ones.
_RECORDER = """\
_space, _calls, _depth = {{"__name__": "tested"}}, [], [0]
exec({setup!r}, _space)
exec({program!r}, _space)

def _recorded(name, function):
    def call(*args, **options):
        if not _depth[0] and len(_calls) < {most}:
            text = repr((name, args, options))
            if len(text) < {most_text} and text not in _calls:
                _calls.append(text)
        _depth[0] += 1
        try:
            return function(*args, **options)
        finally:
            _depth[0] -= 1
    return call

def recorded():
    for name in {names!r}:
        if type(_space.get(name)).__name__ == "function":
            _space[name] = _recorded(name, _space[name])
    try:
        exec({test!r}, _space)
        if "check" in _space and {entry_point!r}:
            _space["check"](_space[{entry_point!r}])
        for name, value in list(_space.items()):
            if name.startswith("test") and callable(value):
                value()
            elif isinstance(value, type) and hasattr(value, "assertEqual"):
                import unittest
                unittest.defaultTestLoader.loadTestsFromTestCase(value).run(unittest.TestResult())
    except BaseException:
        pass
    return _calls
"""


def recorder(job: Job, names: Sequence[str]) -> Job:
    """Returns a job whose only value is the list of calls that the tests make.

    Args:
        job: a program with its tests.
        names: functions of the program to watch.
    """
    text = _RECORDER.format(
        setup=job.setup,
        program=job.program,
        test=job.test,
        names=list(names),
        entry_point=job.entry_point,
        most=MAX_RECORDED,
        most_text=_MAX_TEXT,
    )
    return Job(text, mode="calls", calls=["recorded()"], limits=job.limits)


def read_calls(recorded: object) -> list[Input]:
    """Returns the calls of a recorder's value whose arguments are plain values."""
    found = []
    for text in recorded if isinstance(recorded, list) else ():
        try:
            name, args, options = ast.literal_eval(text)
            found.append(Input(name, args, options))
        except (*UNPARSABLE, TypeError):
            continue  # an object, or a text that is not ours
    return found


_VIEWS = frozenset({"dict", "frozenset", "len", "list", "round", "set", "sorted", "str", "tuple"})


def find_view(test: str, names: Sequence[str]) -> str:
    """Returns the form in which the tests compare results, such as ``set({})``; else ``{}``."""
    called = {*names, "candidate"}

    def view(node: ast.AST) -> str:
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in called:
                return "{}"
            case ast.Call(func=ast.Name(id=name), args=[inner, *rest], keywords=[]):
                shown = view(inner) if name in _VIEWS else ""
                return shown and f"{name}({', '.join([shown, *map(ast.unparse, rest)])})"
        return ""

    try:
        nodes = [node for node in ast.walk(parse(test)) if isinstance(node, ast.Compare)]
    except UNPARSABLE:
        return "{}"
    return next((v for n in nodes for s in (n.left, *n.comparators) if (v := view(s))), "{}")


class _Domain:
    """The properties that some values have in common."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.kinds = {type(value) for value in values}
        numbers = [value for value in values if isinstance(value, (int, float))]
        self.low = min(0, min(numbers, default=0) * 4)
        self.low = 1 if numbers and min(numbers) >= 1 else self.low
        self.high = max((abs(number) for number in numbers), default=0) * 4 + 20
        texts = [value for value in values if isinstance(value, str)]
        self.characters = {_character_kind(c) for text in texts for c in text}
        groups = [_items(value) for value in values if _items(value) is not None]
        sized = [value for value in values if hasattr(value, "__len__")]
        self.may_be_empty = any(len(value) == 0 for value in sized)
        self.items = _Domain([item for group in groups for item in group or ()]) if groups else None
        ordered = [value for value in values if type(value) in (list, tuple) and len(value) > 1]
        self.is_sorted = len(ordered) > 1 and all(map(_is_sorted, ordered))
        lengths = {len(value) for value in sized if not isinstance(value, str)}
        self.length = lengths.pop() if len(lengths) == 1 and len(sized) > 2 else None

    def __contains__(self, value: Any) -> bool:
        if type(value) not in self.kinds:
            return False
        if isinstance(value, (int, float)):
            return self.low <= value <= self.high
        if not hasattr(value, "__len__"):
            return True
        if not (self.may_be_empty or value) or len(value) > 64:
            return False
        if isinstance(value, str):
            return {_character_kind(c) for c in value} <= self.characters
        if self.length not in (None, len(value)) or (self.is_sorted and not _is_sorted(value)):
            return False
        return self.items is None or all(item in self.items for item in _items(value) or ())


def _items(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        return list(value.items())
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else None


def _character_kind(c: str) -> str:
    if c.isalpha():
        return "A" if c.isupper() else "a"
    return "0" if c.isdigit() else c


def _is_sorted(value: Sequence[Any]) -> bool:
    try:
        return list(value) == sorted(value)
    except TypeError:
        return False


def _measure(value: Any) -> float | None:
    """Returns a number, or the length of a container; None for other values."""
    if isinstance(value, (int, float)):
        return value
    return len(value) if hasattr(value, "__len__") else None


class Contract:
    """The properties that recorded calls of one function have in common."""

    def __init__(self, seen: Sequence[Input]) -> None:
        shape = next((i.args for i in seen), ())
        self.alike = [i for i in seen if len(i.values) == len(seen[0].values)]
        columns = list(zip(*(i.values for i in self.alike), strict=True))
        self.domains = [_Domain(column) for column in columns]
        self.atoms = [part for i in self.alike for v in i.values for part in _parts(v)]
        pairs = [(a, b) for a in range(len(columns)) for b in range(len(columns)) if a != b]
        self.equal = [p for p in pairs if self._always(p, lambda x, y: x == y)]
        self.ordered = [p for p in pairs if self._always(p, lambda x, y: x <= y)]
        self.count = len(shape)

    def _always(self, pair: tuple[int, int], holds: Callable[[Any, Any], bool]) -> bool:
        found = [tuple(_measure(i.values[at]) for at in pair) for i in self.alike]
        known = all(None not in measures for measures in found)
        return known and len(found) > 1 and all(holds(*measures) for measures in found)

    def __contains__(self, candidate: Input) -> bool:
        values = candidate.values
        if any(value not in domain for value, domain in zip(values, self.domains, strict=True)):
            return False
        measures: list[Any] = [_measure(value) for value in values]
        return all(measures[a] == measures[b] for a, b in self.equal) and all(
            measures[a] <= measures[b] for a, b in self.ordered
        )

    def repaired(self, values: list[Any], changed: int) -> list[Any]:
        """Sets numbers to the length that they always equal, such as ``n`` in ``f(items, n)``."""
        for a, b in self.equal:
            if a == changed and type(values[b]) is int:
                values[b] = _measure(values[a])
        return values


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if not isinstance(value, str):
        for item in _items(value) or ():
            yield from _parts(item)


def vary(seen: Sequence[Input], count: int, rng: random.Random) -> list[Input]:
    """Returns the recorded inputs and up to ``count`` variations of them, the smallest first.

    All are of the function that the first input calls.
    """
    own = [i for i in seen if i.name == seen[0].name]
    contract = Contract(own)
    found = {str(i): i for i in contract.alike}
    parents = list(found.values())
    for _ in range(12 * count if parents[0].values else 0):
        if len(found) >= count + len(contract.alike):
            break
        parent = rng.choice(parents)
        values = list(parent.values)
        for _ in range(rng.choice((1, 1, 2, 3))):
            at = rng.randrange(len(values))
            values[at] = _varied(values[at], contract.atoms, rng)
            values = contract.repaired(values, at)
        new = parent.with_values(values)
        if new in contract and (text := str(new)) not in found and len(text) < _MAX_TEXT:
            found[text] = new
            parents.append(new)
    return sorted(found.values(), key=lambda i: (len(str(i)), str(i)))


def _varied(value: Any, atoms: Sequence[Any], rng: random.Random) -> Any:
    """Returns another value of the same type."""
    others = [atom for atom in atoms if type(atom) is type(value)] or [value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(
            (
                value + 1,
                value - 1,
                -value,
                2 * value,
                value // 2,
                0,
                1,
                rng.choice(others),
                rng.randint(-9, 20),
            )
        )
    if isinstance(value, float):
        return rng.choice(
            (
                value + 1,
                value - 1,
                -value,
                value / 2,
                0.0,
                round(value, 1),
                float(rng.randint(-9, 20)),
                rng.choice(others),
            )
        )
    if isinstance(value, str):
        letters = [c for other in others for c in other] or ["a"]
        return (
            "".join(_rearranged(list(value), lambda: rng.choice(letters), rng))
            if rng.random() < 0.8
            else rng.choice(others)
        )
    items = _items(value)
    if items is None:
        return value
    if rng.random() < 0.1:
        return rng.choice(others)
    known = items or [item for other in others for item in _items(other) or ()]

    def item() -> Any:
        return _varied(rng.choice(known), atoms, rng) if known else 0

    if isinstance(value, dict):
        pairs = dict(items)
        for _ in range(rng.randint(1, 2)):
            key, content = rng.choice(known) if known else (0, 0)
            pairs[_varied(key, atoms, rng)] = _varied(content, atoms, rng)
            pairs.pop(rng.choice(list(pairs)), None) if rng.random() < 0.5 else None
        return pairs
    try:
        return type(value)(_rearranged(items, item, rng))
    except TypeError:
        return value  # an item of a set that cannot be hashed


def _rearranged(items: list[Any], make: Callable[[], Any], rng: random.Random) -> list[Any]:
    """Returns a list with one item changed, added, removed, repeated or moved, or a part of it."""
    at = rng.randrange(len(items) + 1)
    to = rng.randrange(len(items) + 1)
    what = rng.randrange(8)
    if what == 0 or not items:
        return [*items[:at], make(), *items[at:]]
    if what == 1:
        return [*items[:at], *items[at + 1 :]]
    if what == 2:
        return items[min(at, to) : max(at, to)]
    if what == 3:
        return items[::-1]
    if what == 4:
        return [*items[:at], items[to - 1], *items[at:]]
    if what == 5:
        return [make() for _ in range(rng.randrange(len(items) + 3))]
    changed = list(items)
    if what == 6:
        changed[at - 1], changed[to - 1] = changed[to - 1], changed[at - 1]
    else:
        changed[at - 1] = make()
    return changed


def smaller(candidate: Input, seen: Sequence[Input]) -> list[Input]:
    """Returns inputs that are one step smaller and still like the recorded ones (Hypothesis's
    rules: fewer items first, then smaller ones).
    """
    contract = Contract([i for i in seen if i.name == candidate.name])
    found: dict[str, Input] = {}
    for at, value in enumerate(candidate.values):
        for new in _reduced(value):
            values = list(candidate.values)
            values[at] = new
            made = candidate.with_values(contract.repaired(values, at))
            if made in contract and len(str(made)) <= len(str(candidate)):
                found.setdefault(str(made), made)
    return list(found.values())[:48]


def _reduced(value: Any) -> Iterator[Any]:
    if isinstance(value, (bool, type(None))):
        return
    if isinstance(value, (int, float)):
        yield from (
            type(value)(new) for new in (0, 1, value // 2, value - 1) if abs(new) < abs(value)
        )
        return
    items = list(value) if isinstance(value, str) else _items(value)
    if items is None:
        return
    rebuild: Callable[[list[Any]], Any] = "".join if isinstance(value, str) else type(value)
    half = len(items) // 2
    parts = [items[:half], items[half:]]
    parts += [[*items[:at], *items[at + 1 :]] for at in range(len(items))]
    yield from (rebuild(part) for part in parts if len(part) < len(items))
    if isinstance(value, (list, tuple)):
        for at, item in enumerate(items):
            yield from (rebuild([*items[:at], new, *items[at + 1 :]]) for new in _reduced(item))
