"""Twins of tests: the same tests with one expected value changed.

With a correct program, an assertion whose twins all pass is dead: it is never reached, or its
result does not matter.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from codegen.python_syntax import parse

MAX_TEXT = 1 << 16  # characters of tests that get twins
_MAX_ASSERTIONS = 60
_OPPOSITES = {
    name: other
    for pair in (
        ("assertTrue", "assertFalse"),
        ("assertEqual", "assertNotEqual"),
        ("assertIs", "assertIsNot"),
        ("assertIn", "assertNotIn"),
        ("assertIsNone", "assertIsNotNone"),
        ("assertIsInstance", "assertNotIsInstance"),
        ("assertAlmostEqual", "assertNotAlmostEqual"),
        ("assertGreater", "assertLessEqual"),
        ("assertLess", "assertGreaterEqual"),
        ("assertRegex", "assertNotRegex"),
    )
    for name, other in (pair, pair[::-1])
}


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion with its twins.

    Attributes:
        line: number in the tests.
        text: the assertion in one line.
        twins: whole tests, each with one change in it.
    """

    line: int
    text: str
    twins: tuple[str, ...]


def find_assertions(test: str) -> list[Assertion]:
    """Returns the assertions of tests; none for tests that are too long.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: if Python cannot parse the tests.
    """
    if len(test) > MAX_TEXT:
        return []
    tree = parse(test)
    return [
        Assertion(node.lineno, ast.unparse(node), tuple(_twins(tree, node)))
        for node in list(ast.walk(tree))
        if isinstance(node, ast.Assert) or _opposite(node)
    ][:_MAX_ASSERTIONS]


def _opposite(node: ast.AST) -> str:
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return _OPPOSITES.get(node.func.attr, "") if is_method else ""  # type: ignore[attr-defined]


def _twins(tree: ast.Module, node: Any) -> Iterator[str]:
    """Yields the tests with one expected literal changed, then with the assertion negated."""
    places = [node.test] if isinstance(node, ast.Assert) else node.args
    literals = [literal for place in places for literal in _expected(place)]
    for literal in literals[:1] + literals[1:][-1:]:
        value = literal.value
        literal.value = _near(value)
        yield ast.unparse(tree)
        literal.value = value
    if isinstance(node, ast.Assert):
        test = node.test
        node.test = ast.UnaryOp(ast.Not(), test)
        yield ast.unparse(tree)
        node.test = test
    else:
        name = node.func.attr
        node.func.attr = _opposite(node)
        yield ast.unparse(tree)
        node.func.attr = name


def _expected(node: ast.AST) -> Iterator[ast.Constant]:
    """Yields the literals outside of calls, which are inputs, and not those of tolerances."""
    match node:
        case ast.Call() | ast.Subscript():
            return
        case ast.Constant(value=float(value)) if 0 < value < 0.1:
            return
        case ast.Constant(value=bool() | int() | float() | str()):
            yield node
    for child in ast.iter_child_nodes(node):
        yield from _expected(child)


def _near(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return f"{value}_" if isinstance(value, str) else value + 1
