"""Mutants of a reference solution: programs with one small mistake each.

The mistakes are those of mutation testing (DeMillo, Lipton and Sayward 1978; the operators follow
mutmut and Cosmic Ray): another operator or constant, a negated condition, a wrong branch, a dropped
statement, an index off by one, swapped arguments. Mutants with equal bytecode count once.

Programs are parsed and compiled here, never run.
"""

from __future__ import annotations

import ast
import random
import types
import warnings
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

from codegen.python_syntax import UNPARSABLE, parse


class Mutant(NamedTuple):
    """A changed program, and the class of its mistake."""

    kind: str
    program: str


class _Change(NamedTuple):
    """One node of a syntax tree and its replacement.

    Attributes:
        index: position in the parent's field; None if the field is not a list.
    """

    kind: str
    parent: ast.AST
    field: str
    index: int | None
    new: ast.AST

    def render(self, tree: ast.Module) -> str:
        """Returns the changed program; the tree stays as it was."""
        value = getattr(self.parent, self.field)
        if self.index is None:
            setattr(self.parent, self.field, self.new)
        else:
            setattr(
                self.parent, self.field, [*value[: self.index], self.new, *value[self.index + 1 :]]
            )
        try:
            return ast.unparse(ast.fix_missing_locations(tree))
        finally:
            setattr(self.parent, self.field, value)


def make_mutants(program: str, count: int, rng: random.Random) -> list[Mutant]:
    """Samples mutants, classes in turn, without duplicates.

    Args:
        count: maximum number; a short program has fewer.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: if Python cannot parse the program.
    """
    tree = parse(program)
    classes: dict[str, list[_Change]] = {}
    for change in _changes(tree):
        classes.setdefault(change.kind, []).append(change)
    for changes in classes.values():
        rng.shuffle(changes)
    seen = {_bytecode(program)}
    found: list[Mutant] = []
    for change in (c for turn in zip_longest(*classes.values()) for c in turn if c):
        if len(found) == count:
            break
        text = change.render(tree)
        key = _bytecode(text)
        if key is not None and key not in seen:
            seen.add(key)
            found.append(Mutant(change.kind, text))
    return found


def _bytecode(program: str) -> object:
    """Returns a program's bytecode without line numbers; None if it does not compile."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return _normalized(compile(program, "<program>", "exec", dont_inherit=True))
    except (*UNPARSABLE, OverflowError):
        return None


def _normalized(code: types.CodeType) -> object:
    constants = tuple(
        _normalized(c) if isinstance(c, types.CodeType) else (type(c), repr(c))
        for c in code.co_consts
    )
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars


_SKIPPED = frozenset({"annotation", "returns", "decorator_list", "type_params", "ctx"})
_INERT = (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)


def _changes(parent: ast.AST) -> Iterator[_Change]:
    for field, value in ast.iter_fields(parent):
        if field in _SKIPPED:
            continue
        items = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, node in items:
            if isinstance(node, ast.AST) and not _is_inert(node):
                for kind, new in _replacements(parent, field, node):
                    yield _Change(kind, parent, field, index, new)
                yield from _changes(node)


def _is_inert(node: ast.AST) -> bool:
    """Returns True for imports, docstrings and the block of a script's main program."""
    match node:
        case ast.Expr(ast.Constant()) | ast.If(ast.Compare(ast.Name("__name__"))):
            return True
    return isinstance(node, _INERT)


_SWAPS: dict[type[ast.AST], tuple[type[Any], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Add, ast.FloorDiv),
    ast.Div: (ast.Mult, ast.FloorDiv), ast.FloorDiv: (ast.Mult, ast.Div),
    ast.Mod: (ast.FloorDiv, ast.Mult), ast.Pow: (ast.Mult,), ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,), ast.BitXor: (ast.BitOr,), ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Lt: (ast.Gt,),
    ast.LtE: (ast.GtE,), ast.Gt: (ast.Lt,), ast.GtE: (ast.LtE,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,), ast.Or: (ast.And,),
}  # fmt: skip
_BOUNDARIES: dict[type[ast.AST], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
_CALLS = {
    "min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "set": "list",
    "abs": "float", "upper": "lower", "lower": "upper", "startswith": "endswith",
    "endswith": "startswith", "isalpha": "isalnum", "isdigit": "isalnum", "find": "rfind",
    "floor": "ceil", "ceil": "floor", "lstrip": "rstrip", "strip": "lstrip",
}  # fmt: skip
_DROPPED = (
    *(ast.Assign, ast.AugAssign, ast.Expr, ast.Break, ast.Continue, ast.If, ast.For, ast.While),
    *(ast.Delete, ast.Raise),
)


def _replacements(parent: ast.AST, field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yields what could stand instead of a node, each with the class of the mistake."""
    is_branch = isinstance(parent, (ast.If, ast.For, ast.While))
    if isinstance(node, _DROPPED) or (isinstance(node, ast.Return) and is_branch):
        yield "statement", ast.Pass()
    match node:
        case ast.expr() if field == "ifs" or (
            field == "test" and not isinstance(parent, ast.Assert)
        ):
            yield "condition", ast.UnaryOp(ast.Not(), node)
        case ast.expr() if isinstance(parent, ast.Slice):
            yield from _off_by_one(node)
    match node:
        case ast.operator() | ast.boolop() | ast.cmpop():
            names = {"op": "boolean" if isinstance(node, ast.boolop) else "arithmetic"}
            kind = names.get(field, "comparison")
            yield from ((kind, new()) for new in _SWAPS.get(type(node), ()))
            if new := _BOUNDARIES.get(type(node)):
                yield "boundary", new()
        case ast.BinOp(left):
            yield "arithmetic", left
        case ast.UnaryOp(ast.USub() | ast.Not() as op, operand):
            yield "boolean" if isinstance(op, ast.Not) else "arithmetic", operand
        case ast.BoolOp(op, values):
            for at in range(len(values)):
                yield "boolean", ast.BoolOp(op, [*values[:at], *values[at + 1 :]])
        case ast.If(_, body, orelse):
            yield from (("branch", ast.If(ast.Constant(c), body, orelse)) for c in (True, False))
        case ast.IfExp(_, body, orelse):
            yield from (("branch", body), ("branch", orelse))
        case ast.Subscript(value, index, ast.Load()) if not isinstance(
            index, (ast.Slice, ast.Tuple)
        ):
            yield from ((k, ast.Subscript(value, new, ast.Load())) for k, new in _off_by_one(index))
        case ast.Constant(bool() as value):
            yield "constant", ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield from (("constant", ast.Constant(value + step)) for step in (1, -1))
        case ast.Constant(str() as text):
            yield "constant", ast.Constant("" if text else "a")
        case ast.Call(function, arguments, keywords):
            yield from _of_call(node, function, arguments, keywords)


def _of_call(
    node: ast.Call, function: Any, arguments: list[ast.expr], keywords: list[ast.keyword]
) -> Iterator[tuple[str, ast.AST]]:
    name = getattr(function, "id", getattr(function, "attr", ""))
    if new := _CALLS.get(name):
        is_name = isinstance(function, ast.Name)
        changed = ast.Name(new) if is_name else ast.Attribute(function.value, new)
        yield "call", ast.Call(changed, arguments, [] if new == "list" else keywords)
    for at in range(len(keywords)):
        yield "argument", ast.Call(function, arguments, [*keywords[:at], *keywords[at + 1 :]])
    for at in range(len(arguments) - 1):
        swapped = [*arguments[:at], arguments[at + 1], arguments[at], *arguments[at + 2 :]]
        yield "argument", ast.Call(function, swapped, keywords)
    for at, argument in enumerate(arguments if name == "range" else ()):
        for kind, moved in _off_by_one(argument):
            yield kind, ast.Call(function, [*arguments[:at], moved, *arguments[at + 1 :]], [])
    if name == "len":
        yield from _off_by_one(node)


def _off_by_one(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if not (isinstance(node, ast.Constant) and not isinstance(node.value, int)):
        yield "off_by_one", ast.BinOp(node, ast.Add(), ast.Constant(1))
        yield "off_by_one", ast.BinOp(node, ast.Sub(), ast.Constant(1))
