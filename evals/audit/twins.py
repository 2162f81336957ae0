"""Twins of tests: the same tests with one expected value changed, or one assertion negated.

With a correct program, an assertion whose twins all pass is dead: it is never reached, or its
result does not matter.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from codegen.python_syntax import parse

from .mutants import TABLES

MAX_TEXT = 1 << 16  # characters of tests that get twins
_MAX_ASSERTIONS = 60
_FORMS = frozenset({"abs", "dict", "frozenset", "list", "round", "set", "sorted", "tuple"})
_OPPOSITES = TABLES["assertions"] | {b: a for a, b in TABLES["assertions"].items()}


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion in the tests, its text in one line, and its twins, which are whole tests."""

    line: int
    text: str
    twins: tuple[str, ...]


def find_assertions(test: str) -> list[Assertion]:
    """Returns the assertions of tests; none for tests that are too long.

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
    """Yields the literals that are not inputs of calls, and not tolerances."""
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
