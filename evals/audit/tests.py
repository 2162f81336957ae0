"""Changes to tests: twins, which a correct program must fail, and added assertions.

Twins are the same tests with one expected value changed, or one assertion negated. With a correct
program, an assertion whose twins all pass is dead: it is never reached, or its result does not
matter.

Added assertions kill the wrong programs that a problem's tests accept: the fewest generated inputs,
by greedy set cover, and some diverse inputs, with the reference's results. No test is removed.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from codegen.core.python_syntax import parse

from .programs import TABLES

MAX_TEXT = 1 << 16  # maximum characters of tests that get twins
_MAX_ASSERTIONS = 60
_FORMS = frozenset({"abs", "dict", "frozenset", "list", "round", "set", "sorted", "tuple"})
_OPPOSITES = TABLES["assertions"] | {b: a for a, b in TABLES["assertions"].items()}


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion in the tests, its text on one line, and its twins, which are whole tests."""

    line: int
    text: str
    twins: tuple[str, ...]


def find_assertions(test: str) -> list[Assertion]:
    """Returns the assertions of tests; empty for tests that are too long.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: if Python cannot parse the tests.
    """
    tree = parse(test if len(test) <= MAX_TEXT else "")
    return [
        Assertion(node.lineno, ast.unparse(node), tuple(_twins(tree, node)))
        for node in cast("list[Any]", list(ast.walk(tree)))
        if isinstance(node, ast.Assert) or _opposite(node)
    ][:_MAX_ASSERTIONS]


def _opposite(node: ast.AST) -> str:
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return _OPPOSITES.get(node.func.attr, "") if is_method else ""  # type: ignore[attr-defined]


def _twins(tree: ast.Module, node: Any) -> Iterator[str]:
    is_plain = isinstance(node, ast.Assert)
    places = [node.test] if is_plain else node.args
    literals = [literal for place in places for literal in _expected(place)]
    changes = [(each, "value", _near(each.value)) for each in literals[:1] + literals[1:][-1:]]
    negated = (node, "test", ast.UnaryOp(ast.Not(), node.test)) if is_plain else None
    for target, field, new in [*changes, negated or (node.func, "attr", _opposite(node))]:
        old = getattr(target, field)
        setattr(target, field, new)
        yield ast.unparse(tree)
        setattr(target, field, old)


def _expected(node: ast.AST) -> Iterator[ast.Constant]:
    """Yields the literals that are neither call inputs nor tolerances."""
    match node:
        case ast.Call(ast.Name(name)) if name in _FORMS:
            pass
        case ast.Call() | ast.Subscript():
            return
        case ast.Constant(value=bool() | int() | float() | str() as value):
            if not (isinstance(value, float) and 0 < value < 0.1):
                yield node
    for child in ast.iter_child_nodes(node):
        yield from _expected(child)


def _near(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return f"{value}_" if isinstance(value, str) else value + 1


_MAX_VALUE = 2000  # characters of an expected value
_NEAR = """\
def _is_near(got, expected):
    if isinstance(expected, float):
        return abs(got - expected) <= 1e-6 * max(1.0, abs(expected))
    if isinstance(expected, (list, tuple)):
        alike = type(got) is type(expected) and len(got) == len(expected)
        return alike and all(map(_is_near, got, expected))
    return got == expected
"""


def choose_tests(kills: Sequence[Collection[int]]) -> list[int]:
    """Chooses the fewest inputs that kill all mutants that can be killed, by greedy set cover.

    Args:
        kills: the inputs that kill each mutant; the lowest of several equally good ones is taken.
    """
    left = [inputs for inputs in kills if inputs]
    chosen: list[int] = []
    while left:
        counts = Counter(at for inputs in left for at in inputs)
        chosen.append(min(counts, key=lambda at: (-counts[at], at)))
        left = [inputs for inputs in left if chosen[-1] not in inputs]
    return sorted(chosen)


def spread_tests(lines: Sequence[set[int]], results: Sequence[str], count: int) -> list[int]:
    """Chooses inputs for mistakes that no mutant makes: a third by the lines that they reach, the
    others by different results, spread evenly over the inputs.

    Args:
        lines: executed lines of the reference per input.
        results: the reference's result per input.
        count: maximum number of inputs.
    """
    chosen: list[int] = []
    left = set[int]().union(*lines)
    while left and 3 * len(chosen) < count:
        chosen.append(max(range(len(lines)), key=lambda at: (len(lines[at] & left), -at)))
        left -= lines[chosen[-1]]
    others = list({result: at for at, result in reversed([*enumerate(results)])}.values())[::-1]
    size = min(count - len(chosen), len(others))
    spread = (others[(2 * at + 1) * len(others) // (2 * size)] for at in range(size))
    return sorted({*chosen, *spread})


def assertion_text(call: str, expected: Any) -> str:
    """Returns an assertion that a call returns a value; empty for values without short literals."""
    text = repr(expected)
    if len(text) > _MAX_VALUE or re.search(r"\b(nan|inf)\b", text):
        return ""
    has_float = re.search(r"\d\.\d|\de[-+]?\d", text) and not isinstance(expected, str)
    return f"assert _is_near({call}, {text})" if has_float else f"assert {call} == {text}"


def with_assertions(test: str, added: Sequence[str]) -> str:
    """Returns tests with assertions appended."""
    helper = [_NEAR] if any("_is_near(" in line for line in added) else []
    return "\n".join([test, *helper, *added, ""])
