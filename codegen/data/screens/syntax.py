"""The syntax form of Python programs: equal for programs that differ in names and layout alone.

Names that a function (or a whole program) binds are numbered in the order of their first use, and
what has no effect on the result is dropped: comments, docstrings and other bare strings,
annotations, imports at the top level. Names bound elsewhere (builtins, modules) and attributes
stay, for they say what is computed.

Limits: one function is compared with one function. A solution cut into two, or a loop written as a
comprehension, has another form. Of a program with more than 300,000 nodes, not every
function is compared.
"""

from __future__ import annotations

import ast
import warnings
from functools import cache
from typing import Any, NamedTuple

from codegen.data.screens.lexing import digest

MAX_CHARACTERS = 1_000_000
"""A longer program is not parsed: its tree would take a gigabyte."""

_MAX_VISITS = 300_000  # of nodes: those of functions in functions are visited once for each

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef)
_SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "kind", "annotation", "returns"})
_NAME_FIELDS = frozenset(
    {
        (ast.Name, "id"),
        (ast.arg, "arg"),
        (ast.ExceptHandler, "name"),
        (ast.ClassDef, "name"),
        *((scope, "name") for scope in _SCOPES),
    }
)


class Unit(NamedTuple):
    """A function, or the whole program.

    Attributes:
        digest: of the form, whatever the names; 16 bytes.
        named_digest: of the form with the names; 16 bytes.
        nodes: the number of syntax nodes.
    """

    digest: bytes
    named_digest: bytes
    nodes: int


def syntax_units(program: str) -> list[Unit] | None:
    """Each function, then the whole program if it is more than one function.

    None if the program can't be parsed or is too long.
    """
    if len(program) > MAX_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes, in programs that aren't ours
            tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    tree.body = _kept(tree.body, tree)
    scopes: list[ast.AST] = [node for node in ast.walk(tree) if isinstance(node, _SCOPES)]
    if len(tree.body) != 1 or not isinstance(tree.body[0], _SCOPES):
        scopes.append(tree)
    units: list[Unit] = []
    visits = 0
    for scope in scopes:
        if visits > _MAX_VISITS:
            break
        units.append(_unit(scope))
        visits += units[-1].nodes
    return units


def _unit(scope: ast.AST) -> Unit:
    parts: list[str] = []  # in the order of the source
    names: list[tuple[int, str]] = []  # where in the parts a name stands that may be bound here
    bound: set[str] = set()
    nodes = 0
    stack: list[Any] = [scope]  # not recursive: a long sum is a deep tree
    while stack:
        item = stack.pop()
        if isinstance(item, _MaybeBound):
            names.append((len(parts), item))
            parts.append(item)
        elif isinstance(item, ast.AST):
            nodes += 1
            kind = type(item)
            parts.append("Assign" if kind is ast.AnnAssign else kind.__name__)
            children: list[Any] = []
            for name, is_name in _fields(kind):
                value = getattr(item, name, None)
                if isinstance(value, list):
                    kept = _kept(value, item)
                    children.append(f"{name}[{len(kept)}")
                    children += kept
                elif is_name and value is not None:
                    children.append(_MaybeBound(value))
                    if not (isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load)):
                        bound.add(value)
                elif kind is ast.AnnAssign and name == "target":  # as the plain assignment
                    children += ["targets[1", value]
                else:
                    children.append(value)
            stack.extend(reversed(children))
        else:
            parts.append(_constant(item))
    numbers: dict[str, str] = {}
    for place, name in names:
        if name in bound:
            parts[place] = numbers.setdefault(name, f"${len(numbers)}")
    form = digest(*parts)
    return Unit(form, digest(form.hex(), *numbers), nodes)


class _MaybeBound(str):
    """A name that the unit may bind somewhere else than here."""

    __slots__ = ()


@cache
def _fields(kind: type[ast.AST]) -> tuple[tuple[str, bool], ...]:
    """The fields that count, and whether they hold a name that may be bound."""
    dropped = {"simple"} if kind is ast.AnnAssign else set()
    return tuple(
        (name, (kind, name) in _NAME_FIELDS)
        for name in kind._fields
        if name not in _SKIPPED_FIELDS and name not in dropped
    )


def _constant(value: object) -> str:
    """A leaf of the tree, each kind of value apart from the others."""
    if type(value) is int:
        return f"{value:#x}"  # Python refuses to write a very long one in decimal
    return repr(value)


def _kept(children: list[Any], parent: ast.AST) -> list[Any]:
    return [child for child in children if not _is_dropped(child, parent)]


def _is_dropped(child: object, parent: ast.AST) -> bool:
    if isinstance(child, ast.Expr):
        return isinstance(child.value, ast.Constant) and isinstance(child.value.value, str)
    if isinstance(child, (ast.Import, ast.ImportFrom)):
        return isinstance(parent, ast.Module)
    return isinstance(child, ast.AnnAssign) and child.value is None
