"""Scopes, assertions and bindings of a module of tests."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .trees import Key


@dataclass(eq=False)
class Scope:
    parent: int
    is_class: bool = False
    names: set[str] = field(default_factory=set)
    outer: set[str] = field(default_factory=set)  # declared global
    nonlocals: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Site:
    """An assertion: its statement and the conditions under which it is reached."""

    node: ast.stmt
    guards: tuple[Any, ...]
    scope: int
    number: int = -1
    is_open: bool = False
    operands: list[ast.expr] = field(default_factory=list)
    outside: list[ast.stmt] = field(default_factory=list)
    inside: list[ast.stmt] = field(default_factory=list)


class Binding(NamedTuple):
    key: Key
    values: tuple[ast.AST | None, ...]  # None depends on the program
    guards: tuple[Any, ...]
    is_change: bool = False
