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
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
    return isinstance(node, _INERT)


_ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.FloorDiv),
    ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Mult, ast.Div),
    ast.Mod: (ast.FloorDiv, ast.Mult),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitXor: (ast.BitOr,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
_COMPARISONS: dict[type[ast.cmpop], tuple[tuple[str, type[ast.cmpop]], ...]] = {
    ast.Eq: (("comparison", ast.NotEq),),
    ast.NotEq: (("comparison", ast.Eq),),
    ast.Lt: (("boundary", ast.LtE), ("comparison", ast.Gt)),
    ast.LtE: (("boundary", ast.Lt), ("comparison", ast.GtE)),
    ast.Gt: (("boundary", ast.GtE), ("comparison", ast.Lt)),
    ast.GtE: (("boundary", ast.Gt), ("comparison", ast.LtE)),
    ast.In: (("comparison", ast.NotIn),),
    ast.NotIn: (("comparison", ast.In),),
    ast.Is: (("comparison", ast.IsNot),),
    ast.IsNot: (("comparison", ast.Is),),
}
_CALLS = {
    "min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "set": "list",
    "abs": "float", "upper": "lower", "lower": "upper", "startswith": "endswith",
    "endswith": "startswith", "isalpha": "isalnum", "isdigit": "isalnum", "find": "rfind",
    "floor": "ceil", "ceil": "floor", "lstrip": "rstrip", "strip": "lstrip",
    "union": "intersection", "intersection": "union",
}  # fmt: skip
_DROPPED = (ast.Assign, ast.AugAssign, ast.Expr, ast.Break, ast.Continue, ast.If, ast.For,
            ast.While, ast.Delete, ast.Raise)  # fmt: skip


def _replacements(parent: ast.AST, field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yields what could stand instead of a node, each with the class of the mistake."""
    is_test = field == "test" and isinstance(parent, (ast.If, ast.While, ast.IfExp))
    if isinstance(node, ast.expr) and (is_test or field == "ifs"):
        yield "condition", ast.UnaryOp(ast.Not(), node)
    if isinstance(parent, ast.Slice) and isinstance(node, ast.expr):
        yield from _off_by_one(node)
    if isinstance(node, ast.stmt):
        yield from _of_statement(parent, node)
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            for new in _ARITHMETIC.get(type(op), ()):
                yield "arithmetic", ast.BinOp(left, new(), right)
            yield "arithmetic", left
        case ast.UnaryOp(op=ast.USub() | ast.Not() as op, operand=operand):
            yield "boolean" if isinstance(op, ast.Not) else "arithmetic", operand
        case ast.BoolOp(op=op, values=values):
            yield "boolean", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for index in range(len(values)):
                rest = [*values[:index], *values[index + 1 :]]
                yield "boolean", rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.Compare(left=left, ops=[op, *ops], comparators=others):
            for kind, new in _COMPARISONS[type(op)]:
                yield kind, ast.Compare(left, [new(), *ops], others)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (("branch", body), ("branch", orelse))
        case ast.Subscript(value=value, slice=index, ctx=ast.Load()):
            if not isinstance(index, (ast.Slice, ast.Tuple)):
                for kind, new in _off_by_one(index):
                    yield kind, ast.Subscript(value, new, ast.Load())
        case ast.Constant():
            yield from _of_constant(node)
        case ast.Call():
            yield from _of_call(node)


def _of_statement(parent: ast.AST, node: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    early = isinstance(node, ast.Return) and isinstance(parent, (ast.If, ast.For, ast.While))
    if early or isinstance(node, _DROPPED):
        yield "statement", ast.Pass()
    if isinstance(node, ast.AugAssign):
        for new in _ARITHMETIC.get(type(node.op), ()):
            yield "arithmetic", ast.AugAssign(node.target, new(), node.value)
    if isinstance(node, ast.If):
        for chosen in (True, False):
            yield "branch", ast.If(ast.Constant(chosen), node.body, node.orelse)


def _of_constant(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    value: Any = node.value
    news: tuple[object, ...] = ()
    if isinstance(value, bool):
        news = (not value,)
    elif isinstance(value, (int, float)):
        news = (value + 1, value - 1)
    elif isinstance(value, str):
        news = ("",) if value else ("a",)
    yield from (("constant", ast.Constant(new)) for new in news)


def _of_call(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    function, arguments = node.func, node.args
    name = getattr(function, "id", getattr(function, "attr", ""))
    if new := _CALLS.get(name):
        is_name = isinstance(function, ast.Name)
        changed = ast.Name(new) if is_name else ast.Attribute(function.value, new)  # type: ignore[attr-defined]
        keywords = [] if name in ("sorted", "min", "max") and new == "list" else node.keywords
        yield "call", ast.Call(changed, arguments, keywords)
    for keyword in node.keywords:
        rest = [other for other in node.keywords if other is not keyword]
        yield "argument", ast.Call(function, arguments, rest)
    for at in range(len(arguments) - 1):
        swapped = [*arguments[:at], arguments[at + 1], arguments[at], *arguments[at + 2 :]]
        yield "argument", ast.Call(function, swapped, node.keywords)
    if name == "range":
        for at, argument in enumerate(arguments):
            for kind, changed in _off_by_one(argument):
                yield kind, ast.Call(function, [*arguments[:at], changed, *arguments[at + 1 :]], [])
    if name == "len":
        yield from _off_by_one(node)


def _off_by_one(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if not (isinstance(node, ast.Constant) and not isinstance(node.value, int)):
        yield "off_by_one", ast.BinOp(node, ast.Add(), ast.Constant(1))
        yield "off_by_one", ast.BinOp(node, ast.Sub(), ast.Constant(1))
