"""What the writer reads off a Python program: its comments, its names, loops whose condition comes
last, and the type annotations that do nothing when it runs.

Dropped annotations are:

* annotations of parameters and results of functions;
* annotations of variables that get a value, in functions and at the top of the module;
* imports from ``typing`` at the top of the module that only these used.

Kept are: those of variables in the body of a class (dataclasses and named tuples read them); those
of functions with a decorator, or in a class with a decorator or keywords, which may read them,
except for decorators known not to; annotations without a value, since they make a variable local;
annotations that call, assign, await or yield; and all, if the program mentions a way to read
annotations at run time (:data:`READERS`).

Limits: an annotation that would fail when evaluated is dropped like any other, and so is one that
only another module reads.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# --- comments ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment; ``text`` is what follows the ``#``. Lines count from 1, columns from 0."""

    line: int
    column: int
    text: str
    own_line: bool


def read_comments(program: str) -> list[Comment]:
    """All comments in order.

    ``tokenize`` gives up on a few sources that the compiler takes; what comes after is left out.
    """
    comments: list[Comment] = []
    if "#" in program:
        with contextlib.suppress(tokenize.TokenError, IndentationError):
            comments.extend(_comments(program))
    return comments


def _comments(program: str) -> Iterator[Comment]:
    tokens = tokenize.generate_tokens(io.StringIO(program).readline)
    for kind, text, (line, column), _, source in tokens:
        if kind == tokenize.COMMENT:
            yield Comment(line, column, text[1:], not source[:column].strip())


def first_line(node: ast.AST) -> int:
    """The line on which a statement begins, decorators included."""
    decorators = getattr(node, "decorator_list", ())
    return min([getattr(node, "lineno", 0), *(item.lineno for item in decorators)])


class CommentQueue:
    """Hands out a program's comments as the writer passes them."""

    def __init__(self, comments: list[Comment]) -> None:
        self._comments = comments
        self._next = 0

    def before(self, line: float) -> list[Comment]:
        """Those that begin before a line and were not taken yet."""
        start = self._next
        while self._next < len(self._comments) and self._comments[self._next].line < line:
            self._next += 1
        return self._comments[start : self._next]

    def tail(self, column: int, line: float) -> list[Comment]:
        """Those after a block's last statement that are indented as the block is.

        Args:
            column: the block's indentation.
            line: where what follows the block begins.
        """
        start = self._next
        while self._next < len(self._comments):
            comment = self._comments[self._next]
            if comment.line >= line or comment.column < column:
                break
            self._next += 1
        return self._comments[start : self._next]

    def header(self, line: float) -> list[Comment]:
        """Those on the lines of a header whose block begins at ``line``.

        Comments on lines of their own after the last of them stay: they belong to the block.
        """
        start = end = self._next
        while end < len(self._comments) and self._comments[end].line < line:
            end += 1
        while end > start and self._comments[end - 1].own_line:
            end -= 1
        self._next = end
        return self._comments[start:end]


# --- names ---------------------------------------------------------------------------------------

# Not counted: they say how a node is used, not what is there.
_MARKS = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)


@dataclass(frozen=True, slots=True)
class Facts:
    """Names of a program.

    Attributes:
        nodes: number of AST nodes; operators and expression contexts are not counted.
        bound: every name that the program itself binds in any scope. What UniCode would write
            as a built-in operation may be another thing under such a name.
        imported: the names among them bound by imports; ``m.f(x)`` on a module is no method call.
        functions: the names among them of functions or methods.
    """

    nodes: int
    bound: frozenset[str]
    imported: frozenset[str]
    functions: frozenset[str]


def gather(tree: ast.AST) -> Facts:
    """Walks a tree once."""
    count = 0
    bound: set[str] = set()
    imported: set[str] = set()
    functions: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, _MARKS):
            continue
        count += 1
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
    return Facts(count, frozenset(bound), frozenset(imported), frozenset(functions))


def count_nodes(tree: ast.AST) -> int:
    """The number of nodes, counted as in :class:`Facts`."""
    return sum(not isinstance(node, _MARKS) for node in ast.walk(tree))


# --- DO ... WHILE --------------------------------------------------------------------------------


def negated(test: ast.expr) -> ast.expr:
    """The opposite of a condition: one NOT less if it has an odd number of them, else one more.

    So it is its own inverse, which dropping a NOT wherever there is one would not be.
    """
    count, inner = 0, test
    while isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.Not):
        count, inner = count + 1, inner.operand
    if count % 2 and isinstance(test, ast.UnaryOp):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def is_do_while(node: ast.While) -> bool:
    """Whether DO ... WHILE says the same as a loop."""
    match node:
        case ast.While(
            test=ast.Constant(value=True),
            body=[_, *_, ast.If(body=[ast.Break()], orelse=[])],
            orelse=[],
        ):
            # CONTINUE goes to the condition of DO ... WHILE, but not in Python.
            return not has_continue(node.body)
    return False


def has_continue(body: Sequence[ast.stmt]) -> bool:
    """Whether statements continue the loop that they are in."""
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


# --- annotations ---------------------------------------------------------------------------------


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Names by which a program can come at annotations: of the standard library, then of packages.
READERS = _set("""
    __annotations__ __annotate__ annotationlib get_annotations get_type_hints getfullargspec inspect
    pydoc signature singledispatch singledispatchmethod
    beartype cyclopts fastapi hypothesis injector litestar plum pydantic strawberry typeguard typer
    """)
_HARMLESS_DECORATORS = _set("""
    abstractmethod cache cached_property classmethod contextmanager dataclass deleter final getter
    lru_cache override property runtime_checkable setter staticmethod total_ordering unique wraps
    """)
_WORD = re.compile(r"\w+")
_TYPING = ("typing", "typing_extensions")
_EFFECTS = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def drop_annotations(tree: ast.Module) -> ast.Module:
    """Drops them in place; returns the tree."""
    nodes = list(ast.walk(tree))
    if any(_mentions_reader(node) for node in nodes):
        return tree
    in_class = {
        id(child) for node in nodes if isinstance(node, ast.ClassDef) for child in _own(node)
    }
    kept = {id(child) for node in nodes if _may_read(node) for child in ast.walk(node)}
    dropped: set[str] = set()
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and id(node) not in kept:
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
    """Whether a class is handed to code that may read the annotations of its methods."""
    return isinstance(node, ast.ClassDef) and not (
        all(map(_is_harmless, node.decorator_list))
        and all(keyword.arg == "metaclass" and _is_abc(keyword.value) for keyword in node.keywords)
    )


def _is_abc(metaclass: ast.expr) -> bool:
    return ast.unparse(metaclass) in ("ABCMeta", "abc.ABCMeta")


def _own(node: ast.ClassDef) -> Iterable[ast.stmt]:
    """The statements that run in the body of a class, those of its blocks included."""
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
    arguments = node.args
    for arg in (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        *filter(None, (arguments.vararg, arguments.kwarg)),
    ):
        if _is_inert(arg.annotation, dropped):
            arg.annotation = None
    if _is_inert(node.returns, dropped):
        node.returns = None


def _is_harmless(decorator: ast.expr) -> bool:
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    match decorator:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _HARMLESS_DECORATORS
    return False


def _is_inert(annotation: ast.expr | None, dropped: set[str]) -> bool:
    """Whether there is an annotation without effects; notes the names in it."""
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
    """Drops the imports from typing, at the top of the module, of names no longer used."""
    gone = dropped.difference(*map(_names, ast.walk(tree)))
    body = [kept for node in tree.body if (kept := _without(node, gone))]
    becomes_docstring = body[:1] != tree.body[:1] and ast.get_docstring(ast.Module(body, []))
    if not becomes_docstring:
        tree.body = body


def _without(node: ast.stmt, gone: set[str]) -> ast.stmt | None:
    """A statement without imports of names from typing; None if nothing is left."""
    match node:
        case ast.ImportFrom(module=module, names=names, level=0) if module in _TYPING:
            kept = [alias for alias in names if (alias.asname or alias.name) not in gone]
            return ast.copy_location(ast.ImportFrom(module, kept, 0), node) if kept else None
        case ast.Import(names=[ast.alias(name=module, asname=alias)]) if module in _TYPING:
            return None if (alias or module) in gone else node
    return node


def _names(node: ast.AST) -> Iterable[str]:
    """The names in a node; also those in a text, as in ``__all__`` and quoted annotations."""
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Constant(value=str(text)):
            return _WORD.findall(text)
        case ast.Global(names=names):
            return names
    return ()
