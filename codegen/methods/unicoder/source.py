"""Facts about a Python program for the writer: comments, names, loops with a final condition, and
type annotations without effect at run time.

Dropped:

* annotations of function parameters and results;
* annotations of variables that get a value, in functions and at module level;
* module-level imports from ``typing`` that only these annotations used.

Kept: annotations of variables in class bodies (dataclasses and named tuples read them); of
functions with a decorator, or in a class with a decorator or keywords, which may read them, except
for decorators known not to; annotations without a value, since they make a variable local;
annotations that call, assign, await or yield; and all annotations, if the program mentions a way to
read them at run time (:data:`READERS`).

Limits: annotations whose evaluation would fail, or that only another module reads, are also
dropped.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.core.python_syntax import parameters_of
from codegen.methods.unicoder.words import words_of


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment; ``text`` excludes the ``#``. Lines count from 1, columns from 0."""

    line: int
    column: int
    text: str
    own_line: bool


def read_comments(program: str) -> list[Comment]:
    """Returns all comments in order.

    ``tokenize`` fails on a few sources that the compiler accepts; comments after the failure are
    missing.
    """
    comments: list[Comment] = []
    if "#" in program:
        with contextlib.suppress(tokenize.TokenError, IndentationError):
            for token in tokenize.generate_tokens(io.StringIO(program).readline):
                if token.type == tokenize.COMMENT:
                    line, column = token.start
                    own_line = not token.line[:column].strip()
                    comments.append(Comment(line, column, token.string[1:], own_line))
    return comments


class CommentQueue:
    """A queue of a program's comments, consumed by the writer."""

    def __init__(self, comments: list[Comment]) -> None:
        self._comments = comments
        self._next = 0

    def before(self, line: float, column: int = 0) -> list[Comment]:
        """Removes and returns comments above a line, up to one indented less than ``column``."""
        start = self._next
        while self._next < len(self._comments):
            comment = self._comments[self._next]
            if comment.line >= line or comment.column < column:
                break
            self._next += 1
        return self._comments[start : self._next]

    def header(self, line: float) -> list[Comment]:
        """Removes and returns the comments on a header's lines; its block starts at ``line``.

        Later comments on separate lines remain, since they belong to the block.
        """
        taken = self.before(line)
        while taken and taken[-1].own_line:
            taken.pop()
            self._next -= 1
        return taken


# Not counted, since they only describe how a node is used.
_MARKS = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)


@dataclass(frozen=True, slots=True)
class ProgramNames:
    """Names of a program.

    Attributes:
        nodes: number of AST nodes, without operators and expression contexts.
        bound: names that the program binds in any scope; they may hide built-in operations.
        imported: the bound names of imports; ``m.f(x)`` on a module is not a method call.
        functions: the bound names of functions or methods.
    """

    nodes: int
    bound: frozenset[str]
    imported: frozenset[str]
    functions: frozenset[str]


def gather(tree: ast.AST) -> ProgramNames:
    """Collects a program's names."""
    bound: set[str] = set()
    imported: set[str] = set()
    functions: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                imported.add(asname or name.partition(".")[0])
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                bound.update(names)
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                functions.add(name)
            case ast.Name() | ast.keyword() | ast.Attribute() | ast.Constant():
                pass
            case _ if isinstance(name := getattr(node, "name", None), str):
                # Classes, exception handlers, captures of patterns, type parameters.
                bound.add(name)
    bound |= imported | functions
    return ProgramNames(
        count_nodes(tree), frozenset(bound), frozenset(imported), frozenset(functions)
    )


def count_nodes(tree: ast.AST) -> int:
    """Returns the number of nodes, counted as in :class:`ProgramNames`."""
    return sum(not isinstance(node, _MARKS) for node in ast.walk(tree))


def negated(test: ast.expr) -> ast.expr:
    """Negates a condition: removes a NOT if their number is odd, else adds one."""
    count, inner = 0, test
    while isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.Not):
        count, inner = count + 1, inner.operand
    if count % 2 and isinstance(test, ast.UnaryOp):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def is_do_while(node: ast.While) -> bool:
    """Returns True if a loop is equivalent to DO ... WHILE."""
    match node:
        case ast.While(
            test=ast.Constant(value=True),
            body=[_, *_, ast.If(body=[ast.Break()], orelse=[])],
            orelse=[],
        ):
            # CONTINUE jumps to the condition in DO ... WHILE, but not in Python.
            return not has_continue(node.body)
    return False


def has_continue(body: Sequence[ast.stmt]) -> bool:
    """Returns True if statements contain a CONTINUE of the current loop."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Continue):
            return True
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            waiting += node.orelse
        elif isinstance(node, (ast.stmt, ast.excepthandler, ast.match_case)) and not isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        ):
            waiting += ast.iter_child_nodes(node)
    return False


# Names by which a program can read annotations: of the standard library, then of packages.
READERS = words_of("""
    __annotations__ __annotate__ annotationlib get_annotations get_type_hints getfullargspec inspect
    pydoc signature singledispatch singledispatchmethod
    beartype cyclopts fastapi hypothesis injector litestar plum pydantic strawberry typeguard typer
    """)
_HARMLESS_DECORATORS = words_of("""
    abstractmethod cache cached_property classmethod contextmanager dataclass deleter final getter
    lru_cache override property runtime_checkable setter staticmethod total_ordering unique wraps
    """)
_WORD = re.compile(r"\w+")
_TYPING = ("typing", "typing_extensions")
_EFFECTS = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_ABSTRACT = ("metaclass=ABCMeta", "metaclass=abc.ABCMeta")


def drop_annotations(tree: ast.Module) -> ast.Module:
    """Drops annotations in place; returns the tree."""
    nodes = list(ast.walk(tree))
    if any(_mentions_reader(node) for node in nodes):
        return tree
    in_class = {
        id(child) for node in nodes if isinstance(node, ast.ClassDef) for child in _own(node)
    }
    kept = {id(child) for node in nodes if _may_read(node) for child in ast.walk(node)}
    dropped: set[str] = set()
    for node in nodes:
        if isinstance(node, _Function) and id(node) not in kept:
            _drop_of_function(node, dropped)
        for name in ("body", "orelse", "finalbody"):
            if isinstance(block := getattr(node, name, None), list):
                block[:] = [
                    statement if id(statement) in in_class else _unannotated(statement, dropped)
                    for statement in block
                ]
    if dropped:
        _drop_imports(tree, dropped)
    return tree


def _mentions_reader(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
            return name in READERS
        case ast.Import(names=names):
            return any(set(alias.name.split(".")) & READERS for alias in names)
        case ast.ImportFrom(names=names):
            return any(alias.name in READERS for alias in names) or node.module in READERS
    return False


def _may_read(node: ast.AST) -> bool:
    """Returns True if a decorator or metaclass may read the annotations of methods."""
    return isinstance(node, ast.ClassDef) and not (
        all(map(_is_harmless, node.decorator_list))
        and all(ast.unparse(keyword) in _ABSTRACT for keyword in node.keywords)
    )


def _own(node: ast.ClassDef) -> Iterable[ast.stmt]:
    """Yields the statements that run in the body of a class, including its blocks."""
    waiting: list[Any] = list(node.body)
    while waiting:
        item = waiting.pop()
        if isinstance(item, ast.stmt):
            yield item
        if not isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            waiting += ast.iter_child_nodes(item)


def _drop_of_function(node: _Function, dropped: set[str]) -> None:
    if not all(map(_is_harmless, node.decorator_list)):
        return
    for arg in parameters_of(node.args):
        if _is_inert(arg.annotation, dropped):
            arg.annotation = None
    if _is_inert(node.returns, dropped):
        node.returns = None


def _is_harmless(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _HARMLESS_DECORATORS
    return False


def _is_inert(annotation: ast.expr | None, dropped: set[str]) -> bool:
    """Returns True for an annotation without effects; adds its names to ``dropped``."""
    if annotation is None:
        return False
    nodes = list(ast.walk(annotation))
    if any(isinstance(node, _EFFECTS) for node in nodes):
        return False
    for node in nodes:
        dropped.update(_names(node))
    return True


def _unannotated(node: ast.stmt, dropped: set[str]) -> ast.stmt:
    if not isinstance(node, ast.AnnAssign) or node.value is None:
        return node
    if not _is_inert(node.annotation, dropped):
        return node
    return ast.copy_location(ast.Assign([node.target], node.value), node)


def _drop_imports(tree: ast.Module, dropped: set[str]) -> None:
    """Drops module-level imports from typing whose names are no longer used."""
    gone = dropped.difference(*map(_names, ast.walk(tree)))
    body = [kept for node in tree.body if (kept := _without(node, gone))]
    becomes_docstring = body[:1] != tree.body[:1] and ast.get_docstring(ast.Module(body, []))
    if not becomes_docstring:
        tree.body = body


def _without(node: ast.stmt, gone: set[str]) -> ast.stmt | None:
    """Removes imports of names from typing; returns None if the statement becomes empty."""
    match node:
        case ast.ImportFrom(module=module, names=names, level=0) if module in _TYPING:
            kept = [alias for alias in names if (alias.asname or alias.name) not in gone]
            return ast.copy_location(ast.ImportFrom(module, kept, 0), node) if kept else None
        case ast.Import(names=[ast.alias(name=module, asname=alias)]) if module in _TYPING:
            return None if (alias or module) in gone else node
    return node


def _names(node: ast.AST) -> Iterable[str]:
    """Returns the names in a node, also in strings such as ``__all__`` and quoted annotations."""
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Constant(value=str(text)):
            return _WORD.findall(text)
        case ast.Global(names=names):
            return names
    return ()
