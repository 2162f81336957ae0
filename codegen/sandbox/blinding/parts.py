"""Builds the two parts of tests: inside (program side) and outside (tests side)."""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import itertools
import string
from collections.abc import Callable, Sequence
from typing import Any

from .reader import Site
from .sites import Sites
from .trees import (
    BLOCKS,
    COMPOUND,
    DISPLAYS,
    FIXTURES,
    FREE,
    FUNCTIONS,
    LOOPS,
    NO_ARGUMENTS,
    SKIPS,
    Key,
    always_fails,
    columns,
    is_docstring,
    is_dropped_call,
    is_fixture_function,
    is_harness,
    is_self,
    last_name,
    last_names,
    make_call,
    may_fail,
    needs_no_head,
    parameter_tables,
    walk,
)

_COMBINING = (ast.Starred, ast.keyword, ast.Compare, ast.BoolOp, ast.UnaryOp)


class Parts(Sites):
    """Inside and outside parts of one test module."""

    by_node: dict[int, Site]

    # Construction of the two parts.

    def _inside_part(self) -> tuple[ast.Module, set[Key]]:
        needed: set[Key] = set()
        while True:
            self.needed = needed
            self.shown: set[Key] = set()
            body = self.tree.body
            body = body[1:] if body and is_docstring(body[0]) else body
            # Tests use the program's function, not the setup's function of that name.
            body = [n for n in body if getattr(n, "name", None) != (self.read.entry_point or "")]
            module = ast.Module(self._inside(body), [])
            now = needed | self.read_in(module) | self.shown
            if now == needed:
                return module, needed
            needed = now

    def needs_no_program(self, node: ast.AST) -> bool:
        """Returns True if a statement of the setup can run before the program."""
        kinds = (*FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign)
        free = [name for scope, name in self.read_in(node) if scope == FREE]
        is_setup = not getattr(node, "lineno", 1)
        return is_setup and isinstance(node, kinds) and all(hasattr(builtins, n) for n in free)

    def _is_own(self, node: ast.AST) -> bool:
        """Returns True if a statement uses only the tests' values."""
        return not self.depends(node) and self._bound_by(node).isdisjoint(self.dependent)

    def _inside(self, nodes: Sequence[ast.stmt]) -> list[ast.stmt]:
        return [made for node in nodes for made in self._inner(node)]

    def _inner_compound(self, node: Any) -> list[ast.stmt]:
        made = self._rebuilt(node, self._inside)
        if isinstance(node, LOOPS) and not self.depends(node.iter):
            made.iter = self._table(node.iter, node.target)
        return made.body if needs_no_head(made) else [made]

    def _rebuilt(self, node: Any, inner: Callable[[list[ast.stmt]], list[ast.stmt]]) -> Any:
        """Rebuilds a compound statement, applying ``inner`` to its statements."""
        parts = {n: inner(getattr(node, n)) for n in BLOCKS if hasattr(node, n)}
        parts["body"] = parts["body"] or [ast.Pass()]
        if isinstance(node, ast.Try):
            parts["handlers"] = [self._rebuilt(each, inner) for each in node.handlers]
        return self._with(node, **parts)

    def _inner(self, node: Any) -> list[ast.stmt]:
        site = self.by_node.get(id(node))
        if site is not None:
            return self._inner_site(site, node)
        if isinstance(node, FUNCTIONS):
            return self._inner_function(node)
        if isinstance(node, ast.ClassDef):
            if not self.has_tests(node):
                return [node]
            own = node.body[1:] if is_docstring(node.body[0]) else node.body
            return [self._with(node, body=self._inside(own) or [ast.Pass()])]
        if isinstance(node, COMPOUND):
            return self._inner_compound(node)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bound = self._bound_by(node)
            is_needed = bound & self.needed or bound & self.dependent
            # The program may use what the setup imports.
            return [node] if is_needed or not node.lineno or is_harness(node) else []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if self.runs_test(node.value):
                return [node]
            if is_dropped_call(node.value):
                return []
            if last_name(node.value) in SKIPS:
                return [node]
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Delete)):
            function = getattr(getattr(node, "value", None), "func", None)
            if isinstance(node, ast.Expr) and not isinstance(function, ast.Attribute):
                return [node]  # may be needed to raise an exception
            if self._is_own(node) and self._bound_by(node).isdisjoint(self.needed):
                return []
        if isinstance(node, ast.Assert) and not self.depends(node.test):
            return []
        if isinstance(node, ast.Raise) and not self.depends(node):
            return [ast.Raise(make_call("AssertionError"))] if always_fails(node) else [node]
        return [node]

    def _inner_site(self, site: Site, node: Any) -> list[ast.stmt]:
        if site.is_open:
            return self._inner_open(node)
        if not site.operands:
            return []
        made = [ast.Lambda(NO_ARGUMENTS, operand) for operand in site.operands]
        call = make_call("codegen_report", ast.Constant(site.number), *made)
        result: list[ast.stmt] = [ast.Expr(call)]
        if isinstance(node, ast.With) and (variable := node.items[0].optional_vars):
            result = [ast.Assign([variable], call)]
        site.inside = result
        return result

    def _inner_open(self, node: Any) -> list[ast.stmt]:
        """Returns an open site's statements, which report its failure immediately."""
        if isinstance(node, ast.Raise):
            return [node]
        if isinstance(node, (ast.With, ast.AsyncWith)):
            return [self._with(node, body=self._inside(node.body) or node.body)]
        site, first = self.by_node[id(node)], []
        guards = site.guards
        if site.is_shown:
            pass  # a report would prove nothing
        elif isinstance(node, ast.Assert):
            node = self._with(node, test=self._seen(node.test, node))
        elif isinstance(node.value, ast.Call):
            call: Any = node.value
            if last_name(call).startswith("assert_") and not is_self(call.func):
                first = [self._told(make_call("codegen_calls", call.func.value), node)]
            node = self._with(node, value=self._read_parts(call, node))
        failed: list[ast.stmt] = [ast.Expr(make_call("codegen_failed")), ast.Raise(None, None)]
        handler = ast.ExceptHandler(ast.Name("AssertionError", ast.Load()), None, failed)
        caught = any(type(g) is tuple and (g[0] == "try" or may_fail(g[1])) for g in guards)
        return [*first, *([node] if caught else [ast.Try([node], [handler], [], [])])]

    def _seen(self, node: Any, site: ast.stmt) -> Any:
        """Returns an expression that reports values computed by the program when they are read.

        In the tests' own calls it reports every argument, since unreported ones could be forged.
        """
        if not self.depends(node):
            return node
        if isinstance(node, (ast.GeneratorExp, ast.ListComp)) and self.depends(node.elt):
            return self._with(node, elt=self._seen(node.elt, site))
        if isinstance(node, _COMBINING):
            return self._read_parts(node, site)
        if isinstance(node, ast.Call) and not self.depends(node.func):
            return self._read_parts(node, site)
        return self._told(node, site).value

    def _read_parts(self, node: Any, site: ast.stmt) -> Any:
        made = self._with(node)
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(made, name, [self._seen(each, site) for each in value])
            elif isinstance(value, ast.expr) and name != "func":
                setattr(made, name, self._seen(value, site))
        return made

    def _told(self, node: ast.expr, site: ast.stmt) -> ast.Expr:
        return ast.Expr(make_call("codegen_seen", ast.Constant(f"__open {id(site)}"), node))

    @functools.cached_property
    def new_names(self) -> dict[str, str]:
        """Neutral names for tests, in the same order; empty if other code may use the old names."""
        nodes = [n for owned in self.functions.values() for n in owned if id(n) in self.runners]
        names = sorted({node.name for node in nodes if node.name.startswith("test")})
        used = {node.id for node, _, _ in self.read.named if isinstance(node, ast.Name)}
        for node in self.nodes:
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
        if not used.isdisjoint(("request", "_testMethodName", "id")) or not used.isdisjoint(names):
            return {}
        letters = itertools.product(string.ascii_lowercase, repeat=4)  # in sorted order
        return {name: "test_" + "".join(part) for name, part in zip(names, letters, strict=False)}

    def _inner_function(self, node: Any) -> list[ast.stmt]:
        is_live = id(node) in self.live
        is_silent = is_live or id(node) in self.runners or is_fixture_function(node)
        own = node.body[1:] if is_silent and is_docstring(node.body[0]) else node.body
        made = self._with(node, body=self._inside(own) or [ast.Pass()])
        if id(node) in self.runners:
            made.name = self.new_names.get(node.name, node.name)
        decorators: list[ast.expr] = []
        tables = {id(call): target for target, call in parameter_tables(node)}
        scope = self.read.owner[id(node)]
        for each in node.decorator_list:
            if (target := tables.get(id(each))) is not None:
                table = self._table(each.args[1], target, scope)
                options = [k for k in each.keywords if k.arg != "ids"]
                each = ast.Call(each.func, [each.args[0], table], options)
            decorators.append(each)
        made.decorator_list = decorators
        return [made]

    def _table(self, table: Any, target: ast.expr, scope: int | None = None) -> ast.expr:
        """Returns a loop's table for the program side, with unread columns blanked.

        Args:
            scope: scope of the target's names, if they are parameters of a function.
        """
        hidden: set[int] = set()
        for part, cells in columns(target, table) or [(target, [])]:
            names = [each for each in walk(part) if isinstance(each, ast.Name)]
            bound = {self.key_of(n) if scope is None else (scope, n.id) for n in names}
            if cells and bound.isdisjoint(self.needed):
                hidden.update(map(id, cells))
            else:
                self.shown |= bound

        def blank(node: Any) -> Any:
            if id(node) in hidden:
                return ast.Constant(None)
            if isinstance(node, DISPLAYS):
                return self._with(node, elts=list(map(blank, node.elts)))
            if last_name(node) == "param" and isinstance(node, ast.Call):
                marks = [option for option in node.keywords if option.arg == "marks"]
                return self._with(node, args=list(map(blank, node.args)), keywords=marks)
            return node

        return blank(table)

    def _with(self, node: Any, **changes: Any) -> Any:
        made = copy.copy(node)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def _outside(self, nodes: Sequence[ast.stmt]) -> list[ast.stmt]:
        return [made for node in nodes if not is_docstring(node) for made in self._outer(node)]

    def _outer(self, node: Any) -> list[ast.stmt]:
        site = self.by_node.get(id(node))
        if site is not None:
            return [] if site.is_open else site.outside
        if isinstance(node, FUNCTIONS):
            return self._outer_function(node)
        if isinstance(node, ast.ClassDef):
            if not self.has_tests(node):
                return []
            return [
                self._with(node, body=self._outside(node.body) or [ast.Pass()], decorator_list=[])
            ]
        if isinstance(node, (ast.For, ast.If, ast.While)):
            guard = node.iter if isinstance(node, ast.For) else node.test
            return [self._rebuilt(node, self._outside)] if self.is_controlled(guard) else []
        if isinstance(node, (ast.With, ast.AsyncWith)):
            kept = [n for n in node.body if id(n) in self.by_node or not self._may_raise(n)]
            return self._outside(kept)
        if isinstance(node, ast.Try):
            return self._outside(node.finalbody)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            is_needed = is_harness(node) or self._bound_by(node).isdisjoint(self.dependent)
            return [node] if is_needed else []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if self.runs_test(node.value):
                return [node]
            if is_dropped_call(node.value) or self._is_own(node) is False:
                return []
        if isinstance(node, ast.Return):
            return [ast.Return(None)] if not node.value or self.depends(node.value) else [node]
        if isinstance(node, (ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal)):
            return [node]
        return [node] if self._is_own(node) else []

    def _may_raise(self, node: ast.stmt) -> bool:
        """Returns True if a statement on only the tests' values may be meant to raise."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return not self.runs_test(node.value)
        return isinstance(node, (ast.Expr, ast.Assert, ast.Delete, ast.Raise))

    def _outer_function(self, node: Any) -> list[ast.stmt]:
        if id(node) not in self.live:
            return []
        made = self._with(node, body=self._outside(node.body) or [ast.Pass()], returns=None)
        tables = [c for _, c in parameter_tables(node) if not self.depends(c.args[1])]
        others = [d for d in node.decorator_list if not self.depends(d)]
        made.decorator_list = tables + [d for d in others if last_name(d) not in FIXTURES]
        if last_names(node.decorator_list) & {"classmethod", "staticmethod"}:
            made.decorator_list += [d for d in node.decorator_list if isinstance(d, ast.Name)]
        if self.uses.get(self._key_of(node)) and id(node) in self.runners:
            made.args = copy.copy(node.args)
            made.args.defaults = [ast.Constant(None)] * len(node.args.args)
        elif id(node) in self.runners and node.name != "check":
            scope = self.read.owner[id(node)]
            arguments = copy.copy(node.args)
            arguments.args = [a for a in node.args.args if (scope, a.arg) not in self.dependent]
            arguments.kwonlyargs, arguments.kw_defaults = [], []
            arguments.defaults = node.args.defaults[: len(arguments.args)]
            made.args = arguments
        return [made]
