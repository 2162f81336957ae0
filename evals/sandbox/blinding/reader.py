"""Rewrites tests before they are split, and collects their scopes, bindings and assertions."""

from __future__ import annotations

import ast
import importlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from codegen.evals.sandbox.inner.analysis import PURE_MODULES

from .trees import (
    FREE,
    FUNCTIONS,
    IMPURE_ATTRIBUTES,
    MAYBE,
    MODULES,
    MUTATORS,
    RAISES,
    SELF,
    SKIPS,
    WHOLE,
    Key,
    expected_by,
    is_self,
    last_name,
    pairs_of,
    raised_by,
    raises_itself,
    root_of,
    targets_of,
)


class Simpler(ast.NodeTransformer):
    """Makes two statements of ``assert a and b`` and of ``import a, b``."""

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [ast.copy_location(ast.Import([alias]), node) for alias in node.names]

    def visit_With(self, node: Any) -> Any:
        """Nests the managers of a statement that expects an exception."""
        self.generic_visit(node)
        names = [last_name(item.context_expr) for item in node.items]
        if len(names) == 1 or {*RAISES, "subTest"}.isdisjoint(names):
            return node
        order = sorted(zip(names, node.items, strict=True), key=lambda each: each[0] != "subTest")
        body = node.body
        for _, item in reversed(order):
            body = [ast.copy_location(type(node)([item], body), node)]
        return body[0]

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        parts = [node.test]
        if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And):
            parts = node.test.values
        return [ast.copy_location(ast.Assert(part), node) for part in parts]


STARTS = frozenset(
    ("TestLoader", "TextTestRunner", "TestSuite", "makeSuite", "defaultTestLoader", "TestResult")
)


def without_starts(tree: ast.Module) -> ast.Module:
    """Drops what loads and runs test cases, which are run anyway."""
    names = set(STARTS)
    kept: list[ast.stmt] = []
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign) else node
        read = {last_name(n) for n in ast.walk(value) if isinstance(n, (ast.Name, ast.Attribute))}
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ImportFrom)) or names.isdisjoint(read):
            kept.append(node)
            if isinstance(node, ast.Assign):
                names -= {last_name(target) for target in node.targets} - STARTS
        elif isinstance(node, ast.Assign):
            names |= {last_name(target) for target in node.targets}
    tree.body = kept
    return tree


def with_imports(tree: ast.Module) -> ast.Module:
    """Adds imports of pure modules that tests use, but leave to the program to import."""
    used: Counter[str] = Counter()
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used[node.value.id] += 1
            if node.attr not in _in_module(node.value.id):
                bound.add(node.value.id)  # as of the class datetime, not of its module
        elif isinstance(node, ast.Name):
            used[node.id] -= 1
            if not isinstance(node.ctx, ast.Load):
                bound.add(node.id)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    free = {name for name in used.keys() & PURE_MODULES if not used[name]} - bound - {"random"}
    for name in sorted(free):
        tree.body.insert(0, ast.Import([ast.alias(name)], lineno=0, col_offset=0))
    return tree


def _in_module(name: str) -> Sequence[str]:
    return dir(importlib.import_module(name)) if name in PURE_MODULES else ()


def without_lines(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            for name in ("lineno", "end_lineno", "col_offset", "end_col_offset"):
                setattr(node, name, 0)
    return tree


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
    pure: list[ast.expr] = field(default_factory=list)  # what is compared with operands
    outside: list[ast.stmt] = field(default_factory=list)
    inside: list[ast.stmt] = field(default_factory=list)


class Binding(NamedTuple):
    key: Key
    values: tuple[ast.AST | None, ...]  # None depends on the program
    guards: tuple[Any, ...]
    is_change: bool = False


class Reader(ast.NodeVisitor):
    """Collects scopes, bindings, uses of functions, and sites."""

    def __init__(self, tree: ast.Module, entry_point: str) -> None:
        self.scopes = [Scope(FREE)]
        self.scope, self.guards = 0, ()
        self.named: list[tuple[ast.AST, int, str]] = []
        self.bound: list[tuple[int, str, tuple[ast.AST | None, ...], tuple[Any, ...]]] = []
        self.functions: dict[int, list[Any]] = {}  # scope -> definitions in it
        self.owner: dict[int, int] = {}  # id of a function -> its scope
        self.place: dict[int, int] = {}  # id of a function -> the scope it is defined in
        self.sites: list[Site] = []
        self.direct: set[int] = set()  # ids of functions' names in statements that call them
        self.calls: list[ast.Call] = []
        self.statements: dict[int, tuple[Any, ...]] = {}  # calls that are statements: guards
        self.classes: list[ast.ClassDef] = []
        self.attributes: list[ast.Attribute] = []  # of ``self``
        self.exits: list[tuple[Any, ...]] = []  # the guards of return, break and continue
        self.entry_point = entry_point
        for node in tree.body:
            self.visit(node)

    def _bind(self, target: ast.AST, *values: ast.AST | None) -> None:
        for item in targets_of(target):
            if isinstance(item, ast.Name):
                self.bound.append((self.scope, item.id, values, self.guards))
                self.scopes[self.scope].names.add(item.id)
            elif is_self(item):
                self.bound.append((SELF, item.attr, values, self.guards))  # type: ignore[attr-defined]
            else:
                found = root_of(item)
                if is_self(found):
                    self.bound.append((SELF, f"={found.attr}", values, self.guards))  # type: ignore[attr-defined]
                elif isinstance(found, ast.Name):
                    if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store):
                        values = (*values, None)
                    self.bound.append((self.scope, f"={found.id}", values, self.guards))

    def _within(self, scope: Scope, guards: tuple[Any, ...], *nodes: Any) -> int:
        self.scopes.append(scope)
        before, self.scope, self.guards = (self.scope, self.guards), len(self.scopes) - 1, guards
        made = self.scope
        for node in nodes:
            for each in node if isinstance(node, list) else [node]:
                self.visit(each)
        self.scope, self.guards = before
        return made

    def _guarded(self, guard: Any, nodes: Iterable[ast.AST]) -> None:
        before, self.guards = self.guards, (*self.guards, guard)
        for node in nodes:
            self.visit(node)
        self.guards = before

    def visit_Name(self, node: ast.Name) -> None:
        self.named.append((node, self.scope, node.id))
        if not isinstance(node.ctx, ast.Load):
            self.scopes[self.scope].names.add(node.id)

    def visit_Global(self, node: ast.Global) -> None:
        self.scopes[self.scope].outer.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.scopes[self.scope].nonlocals.update(node.names)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if is_self(node) and isinstance(node.ctx, ast.Load):
            self.attributes.append(node)
        self.generic_visit(node)

    def _exit(self, node: ast.AST) -> None:
        self.exits.append(self.guards)
        self.generic_visit(node)

    visit_Return = visit_Break = visit_Continue = _exit

    def visit_Raise(self, node: ast.Raise) -> None:
        self.sites.append(Site(node, self.guards, self.scope))
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        self.scopes[self.scope].names.add(node.arg)
        self.generic_visit(node)

    def _function(self, node: Any) -> None:
        if not isinstance(node, ast.Lambda):
            self.scopes[self.scope].names.add(node.name)
            self.functions.setdefault(self.scope, []).append(node)
            self.place[id(node)] = self.scope
            for each in node.decorator_list:
                self.visit(each)
        returns = [each for each in [getattr(node, "returns", None)] if each is not None]
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults), *returns):
            self.visit(default)
        body = node.body if isinstance(node.body, list) else [node.body]
        made = self._within(
            Scope(self.scope), (*self.guards, ("function", node)), node.args.args,
            node.args.posonlyargs, node.args.kwonlyargs,
            [a for a in (node.args.vararg, node.args.kwarg) if a], body,
        )  # fmt: skip
        self.owner[id(node)] = made

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scopes[self.scope].names.add(node.name)
        self.classes.append(node)
        self.bound.append((self.scope, node.name, (None,), self.guards))
        for each in (*node.bases, *node.decorator_list):
            self.visit(each)
        made = self._within(Scope(self.scope, True), self.guards, node.body)
        self.owner[id(node)] = made

    def _comprehension(self, node: Any) -> None:
        self.visit(node.generators[0].iter)
        made = Scope(self.scope)
        self.scopes.append(made)
        before, self.scope = self.scope, len(self.scopes) - 1
        for number, each in enumerate(node.generators):
            self._bind_loop(each.target, each.iter)
            self.visit(each.target)
            for part in (*([each.iter] if number else []), *each.ifs):
                self.visit(part)
        for part in ("elt", "key", "value"):
            if hasattr(node, part):
                self.visit(getattr(node, part))
        self.scope = before

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            pure = alias.name in MODULES
            self.scopes[self.scope].names.add(name)
            self.bound.append((self.scope, name, () if pure else (None,), self.guards))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name
            pure = node.module in MODULES and alias.name not in IMPURE_ATTRIBUTES
            self.scopes[self.scope].names.add(name)
            self.bound.append((self.scope, name, () if pure else (None,), self.guards))

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            for part, value in pairs_of(target, node.value):
                self._bind(part, value)
        self.generic_visit(node)

    def _assign(self, node: Any) -> None:
        if node.value is not None:
            self._bind(node.target, node.value)
        self.generic_visit(node)

    visit_AnnAssign = visit_AugAssign = visit_NamedExpr = _assign

    def _bind_loop(self, target: ast.AST, table: ast.AST) -> None:
        """Binds the names of a loop; those of ``zip`` and ``enumerate`` each to its part."""
        name = last_name(table) if isinstance(table, ast.Call) else ""
        parts = target.elts if isinstance(target, ast.Tuple) else []
        if name == "zip" and len(parts) == len(table.args):  # type: ignore[attr-defined]
            for part, value in zip(parts, table.args, strict=True):  # type: ignore[attr-defined]
                self._bind_loop(part, value)
        elif name == "enumerate" and len(parts) == 2:
            self._bind(parts[0])
            self._bind_loop(parts[1], table.args[0])  # type: ignore[attr-defined]
        else:
            self._bind(target, table)

    def _loop(self, node: Any) -> None:
        if isinstance(node, ast.AsyncFor):
            self._bind(node.target, None)
        else:
            self._bind_loop(node.target, node.iter)
        self.visit(node.target)
        self.visit(node.iter)
        self._guarded(node.iter, (*node.body, *node.orelse))

    visit_For = visit_AsyncFor = _loop

    def _branch(self, node: Any) -> None:
        self.visit(node.test)
        self._guarded(node.test, (*node.body, *node.orelse))

    visit_If = visit_While = _branch

    def visit_Match(self, node: ast.Match) -> None:
        self._guarded(None, ast.iter_child_nodes(node))

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        if raised_by(node) is not None:
            self.sites.append(Site(node, self.guards, self.scope))
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, None)
                self.visit(item.optional_vars)
        if raises_itself(node) or raised_by(node) is not None:
            self._guarded(None if raises_itself(node) else ("raises", node), node.body)
            return
        names = {last_name(item.context_expr) for item in node.items}
        if names <= WHOLE:
            for each in node.body:
                self.visit(each)
        else:
            self._guarded(MAYBE, node.body)

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        if expected_by(node) is not None:
            self.sites.append(Site(node, self.guards, self.scope))
            for each in (node.body[0], node.handlers[0]):
                self.visit(each)
            for each in (*node.body[1:], *node.orelse):
                self.generic_visit(each)  # a failure that is not an assertion of its own
            return
        self._guarded(("try", node), (*node.body, *node.handlers, *node.orelse))
        for each in node.finalbody:
            self.visit(each)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(ast.Name(node.name, ast.Store()), None)
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        self.sites.append(Site(node, self.guards, self.scope))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.sites.append(Site(node, self.guards, self.scope))
            if last_name(node.value) in SKIPS:
                self.exits.append(self.guards)
            self.direct.add(id(node.value.func))
            self.statements[id(node.value)] = self.guards
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.calls.append(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            self._bind(ast.Attribute(node.func.value, "x", ast.Load()), *node.args)
        self.generic_visit(node)
