"""Inputs of the function under test: recorded from its tests, and varied.

Variation preserves types, as in EvalPlus (Liu et al. 2023, arXiv 2305.01210, section 2.2). A
problem states its allowed inputs in words, so common properties of the recorded inputs are
preserved, too (as in Daikon, Ernst et al. 2001): signs, kinds of characters, order of the items,
and relations between arguments such as ``n == len(items)``.
"""

from __future__ import annotations

import ast
import random
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.core.python_syntax import UNPARSABLE, parse
from codegen.sandbox import Job

INSIDE = Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
_MAX_RECORDED = 64
_MAX_TEXT = 2000  # maximum characters per call
_LEAST_ORDERED = 4  # minimum calls to infer an order of two arguments


@dataclass(frozen=True, eq=False)  # compared by identity
class CallArgs:
    """A call of a function with plain values."""

    name: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.args))})"


def recorder(job: Job, names: Sequence[str]) -> Job:
    """Returns a job whose only value is the list of function calls that a job's tests make."""
    parts = [job.setup, job.program, job.test]
    arguments = [parts, list(names), job.entry_point, [_MAX_RECORDED, _MAX_TEXT]]
    return Job(INSIDE, mode="calls", calls=[("_audit_record", arguments)], limits=job.limits)


def read_calls(recorded: object) -> list[CallArgs]:
    """Returns the calls in a recorder's value that have only plain positional arguments."""
    calls = []
    for text in recorded if isinstance(recorded, list) else ():
        try:
            name, args, options = ast.literal_eval(text)
            calls += [CallArgs(name, args)] if not options else []
        except (*UNPARSABLE, TypeError):
            continue  # an argument is not a literal
    return calls


_VIEWS = frozenset({"dict", "frozenset", "len", "list", "round", "set", "sorted", "str", "tuple"})


def find_view(test: str, names: Sequence[str]) -> str:
    """Returns the form in which the tests compare results, such as ``set({})``; else ``{}``."""

    def view(node: ast.AST) -> str:
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in (*names, "candidate"):
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


_RARE = (" ", "  ", "\n", "-", "+", ".", ",", "!", "/", "A", "z", "0", "9")
_KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)


class _Domain:
    """The common properties of some values."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.kinds = {type(value) for value in values}
        numbers = [value for value in values if isinstance(value, (int, float))]
        low, size = min(numbers, default=0), max(map(abs, numbers), default=0)
        self.low, self.high = 1 if low >= 1 else min(0, 4 * low), 4 * size + 20
        texts = [value for value in values if isinstance(value, str)]
        letters = [c for text in texts for c in text]
        kinds, counts = Counter(map(_letter, set(letters))), Counter(map(_letter, letters))
        closed = {kind for kind, n in kinds.items() if n <= 6 and 5 * n <= counts[kind]}
        self.letters = {c if _letter(c) in closed else _letter(c) for c in letters}
        self.is_spaced = all(text == " ".join(text.split()) for text in texts)
        groups = [items for value in values if (items := _items(value)) is not None]
        self.items = _Domain([item for items in groups for item in items]) if groups else None
        self.is_sorted = len(groups) > 1 and all(map(_is_sorted, values))

    def __contains__(self, value: Any) -> bool:
        if type(value) not in self.kinds:
            return False
        if isinstance(value, (int, float)):
            return self.low <= value <= self.high
        if isinstance(value, str):
            is_spaced = not self.is_spaced or value == " ".join(value.split())
            return is_spaced and all({c, _letter(c)} & self.letters for c in value)
        if self.is_sorted and not _is_sorted(value):
            return False
        return self.items is None or all(item in self.items for item in _items(value) or ())


def _items(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        return list(value.items())
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else None


def _letter(c: str) -> str:
    return ("upper" if c.isupper() else "lower") if c.isalpha() else "digit" if c.isdigit() else c


def _is_sorted(value: Any) -> bool:
    try:
        return list(value) == sorted(value)
    except TypeError:
        return False


def _measure(value: Any) -> Any:
    """Returns a number itself, or a container's length; None for other values."""
    if isinstance(value, (int, float)):
        return value
    return len(value) if hasattr(value, "__len__") else None


class _Contract:
    """The common properties of the recorded calls to the first call's function."""

    def __init__(self, seen: Sequence[CallArgs], constants: Sequence[Any]) -> None:
        first = seen[0].name, len(seen[0].args)
        self.alike = [i for i in seen if (i.name, len(i.args)) == first]
        rows = [i.args for i in self.alike]
        self.domains = [_Domain(column) for column in zip(*rows, strict=True)]
        self.atoms = _by_kind(part for row in rows for part in _parts(row)), _by_kind(constants)
        measures = [list(map(_measure, row)) for row in rows] if rows[1:] else []
        known = [at for at, column in enumerate(zip(*measures, strict=True)) if None not in column]
        pairs = [(a, b) for a in known for b in known if a != b]
        self.equal = [(a, b) for a, b in pairs if all(row[a] == row[b] for row in measures)]
        pairs = pairs if len(rows) >= _LEAST_ORDERED else []
        self.ordered = [(a, b) for a, b in pairs if all(row[a] <= row[b] for row in measures)]

    def __contains__(self, candidate: CallArgs) -> bool:
        values = candidate.args
        if any(value not in domain for value, domain in zip(values, self.domains, strict=True)):
            return False
        measures = list(map(_measure, values))
        are_equal = all(measures[a] == measures[b] for a, b in self.equal)
        return are_equal and all(measures[a] <= measures[b] for a, b in self.ordered)

    def changed(self, parent: CallArgs, at: int, value: Any) -> CallArgs:
        """Changes one argument of a call, and any number that always equals its length."""
        values = list(parent.args)
        values[at] = value
        for a, b in self.equal:
            if a == at and type(values[b]) is int:
                values[b] = _measure(value)
        return CallArgs(parent.name, tuple(values))


def constants_of(program: str) -> list[Any]:
    """Returns the numbers and strings in a program, without docstrings."""
    nodes = list(ast.walk(parse(program)))
    texts = {n.value for n in nodes if isinstance(n, ast.Expr)}
    values = [n.value for n in nodes if isinstance(n, ast.Constant) and n not in texts]
    return [value for value in values if type(value) in (int, float, str)]


def _parts(value: Any) -> Iterator[Any]:
    yield value
    for item in _items(value) or ():
        yield from _parts(item)


def vary(
    seen: Sequence[CallArgs],
    count: int,
    rng: random.Random,
    parents: Sequence[CallArgs] = (),
    constants: Sequence[Any] = (),
) -> list[CallArgs]:
    """Returns inputs like the recorded ones, the shortest first.

    Args:
        seen: recorded inputs; only calls to the first one's function are varied.
        count: maximum number of variations.
        parents: inputs of that function to vary instead.
        constants: values that may be special, such as the reference's constants.
    """
    contract = _Contract(seen, constants)
    inputs = {str(i): i for i in parents or contract.alike}
    pool = list(inputs.values())
    most = count + len(pool)
    for _ in range(12 * count if pool[0].args else 0):
        if len(inputs) >= most:
            break
        new = rng.choice(pool)
        for _ in range(rng.choice((1, 1, 2, 3))):
            at, to = (rng.randrange(len(new.args)) for _ in range(2))
            one, other = new.args[at], new.args[to]
            is_swap = at != to and type(one) is type(other) and rng.random() < 0.3
            value = other if is_swap else _varied(one, contract.atoms, rng)
            new = contract.changed(new, at, value)
            new = contract.changed(new, to, one) if is_swap and rng.random() < 0.7 else new
        if new in contract and (text := str(new)) not in inputs and len(text) < _MAX_TEXT:
            inputs[text] = new
            pool.append(new)
    return sorted(inputs.values(), key=lambda i: (len(str(i)), str(i)))


def edges(count: int, rng: random.Random, parents: Sequence[CallArgs]) -> list[CallArgs]:
    """Returns edge cases that recorded inputs often lack: one number becomes 0, or one string gets
    another kind of characters.
    """
    inputs = {str(i): i for i in parents}
    pool = [i for i in parents if i.args]
    for _ in range(2 * count if pool else 0):
        name, args = (parent := rng.choice(pool)).name, parent.args
        at = rng.randrange(len(args))
        new = CallArgs(name, (*args[:at], _edge(args[at], rng), *args[at + 1 :]))
        inputs.setdefault(str(new), new)
    return list(inputs.values())[len(parents) :][:count]


def _edge(value: Any, rng: random.Random) -> Any:
    if items := _items(value):
        at = rng.randrange(len(items))
        return type(value)([*items[:at], _edge(items[at], rng), *items[at + 1 :]])
    if isinstance(value, str):
        at, rare = rng.choice((0, len(value), rng.randrange(len(value) + 1))), rng.choice(_RARE)
        return rng.choice((rare, value[:at] + rare + value[at + rng.randrange(2) :]))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value)(0) if is_number else value


def _by_kind(values: Iterable[Any]) -> dict[type, list[Any]]:
    """Groups values by type, integers with floats."""
    groups: dict[type, list[Any]] = {}
    for value in values:
        if not isinstance(value, (int, float)) or abs(value) < 1e300:
            groups.setdefault(float if type(value) is int else type(value), []).append(value)
    return groups


def _varied(value: Any, atoms: Sequence[dict[type, list[Any]]], rng: random.Random) -> Any:
    """Returns another value of the same type."""
    kind = float if type(value) is int else type(value)
    others = rng.choice([each[kind] for each in atoms if kind in each] or [[value]])
    other = rng.choice(others)
    if isinstance(value, bool) or rng.random() < 0.1:
        return not value if isinstance(value, bool) else type(value)(other)
    if isinstance(value, (int, float)):
        half = value // 2 if isinstance(value, int) else round(value / 2, 2)
        near = (value + 1, value - 1, -value, 2 * value, half, 0, 1, rng.randint(-9, 20))
        return type(value)(rng.choice((*near, other)))
    if isinstance(value, str):
        gap = " " if " " in value and rng.random() < 0.5 else ""
        known = [p for text in others for p in (text.split(gap) if gap else text)] or ["a"]
        parts = value.split(gap) if gap else list(value)

        def part() -> str:
            item = rng.choice(known)
            kind = next((kind for kind in _KINDS if item and item in kind), [item])
            return rng.choice((item, item, rng.choice(kind), kind[0], kind[-1]))

        return gap.join(_rearranged(parts, part, rng))
    items = _items(value)
    if items is None:
        return value
    known = items or [item for each in others for item in _items(each) or ()] or [0]

    def make() -> Any:
        item = rng.choice(known)
        if isinstance(value, dict) and isinstance(item, tuple):
            return tuple(_varied(part, atoms, rng) for part in item)
        return _varied(item, atoms, rng)

    try:
        return type(value)(_rearranged(items, make, rng))
    except (TypeError, ValueError):
        return value  # an item is not hashable


def _rearranged(items: list[Any], make: Callable[[], Any], rng: random.Random) -> list[Any]:
    """Returns a list with items changed, added, removed, repeated or moved."""
    at, to = (rng.randrange(len(items) + 1) for _ in range(2))
    return rng.choice(
        (
            [*items[:at], make(), *items[at:]],
            [*items[:at], make(), *items[at + 1 :]],
            [*items[:at], *items[at + 1 :]],
            [*items[:at], *items[to : to + 1], *items[at:]],
            [*items[at:], *items[:at]],
            items[min(at, to) : max(at, to)],
            items[::-1],
            [make() for _ in range(rng.randrange(len(items) + 3))],
        )
    )
