"""Rewrites tests before they are split, and collects their scopes, bindings and assertions."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .trees import (
    FREE,
    IMPURE_ATTRIBUTES,
    MAYBE,
    MODULES,
    MUTATORS,
    SELF,
    SKIPS,
    Key,
    children,
    columns,
    expected_by,
    is_function,
    is_self,
    last_name,
    make_call,
    parameter_tables,
    raised_by,
    root_of,
    targets_of,
    walk,
)


class Simpler(ast.NodeTransformer):
    """Rewrites equivalent statements to one form."""

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [ast.copy_location(ast.Import([alias]), node) for alias in node.names]

    def visit_Try(self, node: ast.Try) -> ast.stmt | list[ast.stmt]:
        """Rewrites an expected exception as ``with raises(Error): f()`` plus the handler."""
        self.generic_visit(node)
        handler = expected_by(node)
        if handler is None or handler.type is None:
            return node
        item = ast.withitem(make_call("codegen_raises", handler.type))
        rest = [each for each in handler.body if not isinstance(each, ast.Pass)]
        if handler.name and rest:
            item.optional_vars = ast.Name("codegen_caught", ast.Store())
            caught = ast.Attribute(ast.Name("codegen_caught", ast.Load()), "value", ast.Load())
            named = ast.Assign([ast.Name(handler.name, ast.Store())], caught)
            rest.insert(0, ast.copy_location(named, handler))
        return [ast.copy_location(ast.With([item], node.body[:1]), node), *rest]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        """Renames variables called ``cls`` that are not the class, such as a patch's argument."""
        self.generic_visit(node)
        given = " ".join(map(ast.unparse, node.decorator_list))
        known = "patch" not in given or "classmethod" in given
        known = known and any(each.arg == "cls" for each in node.args.args)
        for each in () if known else walk(node):
            name = "arg" if isinstance(each, ast.arg) else "id"
            if getattr(each, name, "") == "cls":
                setattr(each, name, "codegen_cls")
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        parts = [node.test]
        if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And):
            parts = node.test.values
        return [ast.copy_location(ast.Assert(part), node) for part in parts]


def without_lines(tree: ast.Module) -> ast.Module:
    for node in walk(tree):
        if hasattr(node, "lineno"):
            for name in ("lineno", "end_lineno", "col_offset", "end_col_offset"):
                setattr(node, name, 0)
    return tree


@dataclass(eq=False)
class Scope:
    parent: int
    is_class: bool = False
    names: set[str] = field(default_factory=set)
    outer: set[str] = field(default_factory=set)  # names declared global
    nonlocals: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Site:
    """An assertion: its statement and the conditions for reaching it."""

    node: ast.stmt
    guards: tuple[Any, ...]
    number: int
    is_open: bool = False
    is_shown: bool = False  # the program side has its expected value
    operands: list[ast.expr] = field(default_factory=list)
    pure: list[ast.expr] = field(default_factory=list)  # values to compare with operands
    outside: list[ast.stmt] = field(default_factory=list)
    inside: list[ast.stmt] = field(default_factory=list)


class Binding(NamedTuple):
    key: Key
    values: tuple[ast.AST | None, ...]  # None: depends on the program
    guards: tuple[Any, ...]
    is_change: bool = False


class Reader(ast.NodeVisitor):
    """Collects scopes, bindings, uses of functions, and sites."""

    def __init__(self, tree: ast.Module, entry_point: str) -> None:
        self.scopes = [Scope(FREE)]
        self.scope = 0
        self.guards: tuple[Any, ...] = ()
        self.named: list[tuple[ast.AST, int, str]] = []
        self.bound: list[tuple[int, str, tuple[Any, ...]]] = []  # scope, name, binding
        self.functions: dict[int, list[Any]] = {}  # scope -> definitions in it
        self.owner: dict[int, int] = {}  # id of a function -> its scope
        self.place: dict[int, int] = {}  # id of a function or import -> enclosing scope
        self.sites: list[Site] = []
        self.direct: set[int] = set()  # ids of function names in call statements
        self.calls: list[ast.Call] = []
        self.classes: list[ast.ClassDef] = []
        self.modules: dict[str, str] = {}  # imported name -> module
        self.attributes: list[ast.Attribute] = []  # read from ``self``
        # For each return, break and continue: guard of the function or loop it leaves, all guards.
        self.exits: list[tuple[Any, tuple[Any, ...]]] = []
        self.loops: set[int] = set()  # ids of loop guards
        self.cells: set[int] = set()  # ids of table cells
        self.entry_point = entry_point
        for node in tree.body:
            self.visit(node)

    def _bind(self, target: ast.AST, *values: ast.AST | None) -> None:
        for item in targets_of(target):
            root = root_of(item)
            if isinstance(root, ast.Name):
                scope, name = self.scope, root.id
                if root is item:
                    self.scopes[scope].names.add(name)
            elif is_self(root):
                scope, name = SELF, root.attr  # type: ignore[attr-defined]
            else:
                continue
            is_stored = isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store)
            own = (None,) if is_stored and root is not item else ()
            rest = (*values, *own), self.guards, root is not item
            self.bound.append((scope, name, rest))

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

    def _site(self, node: ast.stmt) -> None:
        self.sites.append(Site(node, self.guards, len(self.sites)))

    def _exit(self, node: ast.AST) -> None:
        is_loop = isinstance(node, (ast.Break, ast.Continue))
        left = [g for g in self.guards if (id(g) in self.loops if is_loop else is_function(g))]
        self.exits += [(each, self.guards) for each in left[-1:]]
        self.generic_visit(node)

    visit_Return = visit_Break = visit_Continue = _exit

    def visit_Raise(self, node: ast.Raise) -> None:
        self._site(node)
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
        for target, call in [] if isinstance(node, ast.Lambda) else parameter_tables(node):
            before, self.scope = self.scope, made
            self._bind_loop(target, call.args[1])
            self.scope = before

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.classes.append(node)
        self._bind(ast.Name(node.name), None)
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

    def _import(self, node: Any) -> None:
        self.place[id(node)] = self.scope
        for alias in node.names:
            module = node.module if isinstance(node, ast.ImportFrom) else alias.name
            pure = module in MODULES and alias.name not in IMPURE_ATTRIBUTES
            name = alias.asname or alias.name.split(".")[0]
            self.modules[name] = module or ""
            self._bind(ast.Name(name), *([] if pure else [None]))

    visit_Import = visit_ImportFrom = _import

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value)
        self.generic_visit(node)

    def _assign(self, node: Any) -> None:
        if node.value is not None:
            self._bind(node.target, node.value)
        self.generic_visit(node)

    visit_AnnAssign = visit_AugAssign = visit_NamedExpr = _assign

    def _bind_loop(self, target: ast.AST, table: ast.AST) -> None:
        """Binds a loop's names; over a literal table, each name to its column's cells."""
        parts = target.elts if isinstance(target, ast.Tuple) else []
        lists = table.args if isinstance(table, ast.Call) and last_name(table) == "zip" else []
        if lists and len(parts) == len(lists):
            for part, value in zip(parts, lists, strict=True):
                self._bind(part, value)
            return
        found = columns(target, table)
        for part, cells in found:
            self._bind(part, *cells)
            self.cells.update(map(id, cells))
        if not found:
            self._bind(target, table)

    def _loop(self, node: Any) -> None:
        if isinstance(node, ast.AsyncFor):
            self._bind(node.target, None)
        else:
            before, self.guards = self.guards, (*self.guards, node.iter)
            self._bind_loop(node.target, node.iter)
            self.guards = before
        self.visit(node.target)
        self.visit(node.iter)
        self.loops.add(id(node.iter))
        self._guarded(node.iter, (*node.body, *node.orelse))

    visit_For = visit_AsyncFor = _loop

    def _branch(self, node: Any) -> None:
        self.visit(node.test)
        if isinstance(node, ast.While):
            self.loops.add(id(node.test))
        self._guarded(node.test, (*node.body, *node.orelse))

    visit_If = visit_While = _branch

    def visit_Match(self, node: ast.Match) -> None:
        self._guarded(None, children(node))

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        if raised_by(node) is not None:
            self._site(node)
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, None)
                self.visit(item.optional_vars)
        self._guarded(MAYBE if raised_by(node) is None else ("raises", node), node.body)

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        self._guarded(("try", node), (*node.body, *node.handlers, *node.orelse))
        for each in node.finalbody:
            self.visit(each)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(ast.Name(node.name, ast.Store()), None)
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        self._site(node)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._site(node)
            self.direct.add(id(node.value.func))
        (self._exit if last_name(node.value) in SKIPS else self.generic_visit)(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.calls.append(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            self._bind(ast.Attribute(node.func.value, "x", ast.Load()), *node.args)
        self.generic_visit(node)
