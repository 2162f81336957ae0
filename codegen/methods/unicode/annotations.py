"""Drops the type annotations that do nothing when a program runs.

Dropped are:

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
import re
from collections.abc import Iterable
from typing import Any


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
