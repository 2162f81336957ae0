"""Builds the two parts of tests: inside and outside."""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import string
from collections.abc import Sequence
from typing import Any

from .reader import Site
from .sites import Sites
from .trees import (
    FIXTURES,
    FUNCTIONS,
    NO_ARGUMENTS,
    SELF,
    SKIPS,
    WHOLE,
    Key,
    default_arguments,
    is_docstring,
    is_fixture_function,
    is_harness,
    is_self,
    keep_columns,
    last_name,
    last_names,
    make_call,
    make_list,
    may_fail,
    named_arguments,
    pairs_of,
    parameter_tables,
    raises_itself,
    starts_tests,
    waits,
)


class Parts(Sites):
    """The two parts of one module of tests."""

    by_node: dict[int, Site]

    # The two parts.

    def _inside_part(self) -> tuple[ast.Module, set[Key]]:
        needed: set[Key] = set()
        while True:
            self.needed = needed
            self.shown: set[Key] = set()
            body = self.tree.body
            body = body[1:] if body and is_docstring(body[0]) else body
            module = ast.Module(self._inside(body), [])
            now = needed | self._read_in(module) | self.shown
            if now == needed:
                return module, needed
            needed = now

    def _read_in(self, tree: ast.AST) -> set[Key]:
        found: set[Key] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and id(node) in self.keys:
                if isinstance(node.ctx, ast.Load):
                    found.add(self.key_of(node))
            elif is_self(node) and isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
                found.add((SELF, node.attr))  # type: ignore[attr-defined]
        return found

    def _is_own(self, node: ast.AST) -> bool:
        """Whether a statement concerns the tests' values alone."""
        return not self.depends(node) and self._bound_by(node).isdisjoint(self.dependent)

    def _inside(self, nodes: Sequence[ast.stmt]) -> list[ast.stmt]:
        return [made for node in nodes for made in self._inner(node)]

    is_caught = False  # what is raised there reaches the program, or other code inside

    def _inside_of(self, node: Any, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        """The inside part of what a ``with`` or ``try`` contains."""
        before = self.is_caught
        self.is_caught = before or self._catches(node)
        made = self._inside(body)
        self.is_caught = before
        return made

    def _catches(self, node: Any) -> bool:
        if isinstance(node, ast.Try):
            return any(map(self.depends, node.handlers)) and not self.is_controlled(("try", node))
        return any(
            self.depends(item.context_expr) and last_name(item.context_expr) not in WHOLE
            for item in node.items
        )

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
        if isinstance(node, (ast.For, ast.AsyncFor)):
            body, orelse = self._inside(node.body), self._inside(node.orelse)
            if not body and not orelse and not self.depends(node.iter):
                return []
            made = self._with(node, body=body or [ast.Pass()], orelse=orelse)
            if not self.depends(node.iter):
                made.iter = self._table(node.iter, node.target)
            return [made]
        if isinstance(node, (ast.If, ast.While)):
            body, orelse = self._inside(node.body), self._inside(node.orelse)
            if not body and not orelse and not self.depends(node.test):
                return []
            return [self._with(node, body=body or [ast.Pass()], orelse=orelse)]
        if isinstance(node, (ast.With, ast.AsyncWith)):
            body = self._inside_of(node, node.body)
            if last_name(node.items[0].context_expr) == "subTest":
                return body
            if not body and not any(self.depends(item.context_expr) for item in node.items):
                return []
            return [self._with(node, body=body or [ast.Pass()])]
        if isinstance(node, ast.Try):
            parts = {n: self._inside(getattr(node, n)) for n in ("orelse", "finalbody")}
            parts["body"] = self._inside_of(node, node.body)
            handlers = [
                self._with(h, body=self._inside(h.body) or [ast.Pass()]) for h in node.handlers
            ]
            if not any(parts.values()) and not any(map(self.depends, node.body)):
                return []
            if not handlers and not parts["finalbody"]:
                return parts["body"]
            return [
                self._with(
                    node, **{**parts, "body": parts["body"] or [ast.Pass()]}, handlers=handlers
                )
            ]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bound = self._bound_by(node)
            is_needed = bound & self.needed or bound & self.dependent
            return [node] if is_needed or is_harness(node) else []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            helper = self._helper(node.value)
            if helper is not None:
                return [self._inner_call(node, helper)]
            if starts_tests(node.value):
                return []
            if last_name(node.value) in SKIPS:
                return [node]
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            value = self._blanked_pairs(node.targets[0], node.value)
            if value is not node.value:
                return [self._with(node, value=value)] if self._keeps(node) else []
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Delete)):
            if is_docstring(node):
                return [node]
            if self._is_own(node) and self._bound_by(node).isdisjoint(self.needed):
                return [node] if self.is_caught and not isinstance(node, ast.Assign) else []
        if isinstance(node, ast.Assert) and not self.depends(node.test):
            return [node] if self.is_caught else []
        if isinstance(node, ast.Raise) and not self.depends(node):
            return (
                [ast.Raise(ast.Name("AssertionError", ast.Load()))] if self._fails(node) else [node]
            )
        if isinstance(node, ast.Return) and node.value and not self.depends(node.value):
            return [node if not self._read_in(node) else ast.Return(node.value)]
        return [node]

    def _keeps(self, node: ast.Assign) -> bool:
        """Whether something inside needs an assignment."""
        return not self._is_own(node) or not self._bound_by(node).isdisjoint(self.needed)

    def _blanked_pairs(self, target: ast.expr, value: ast.expr) -> ast.expr:
        """The value of a tuple assignment without the parts that nothing inside reads."""
        pairs = list(pairs_of(target, value))
        if len(pairs) == 1 and pairs[0][0] is target:
            used = self._bound_by(ast.Assign([target], value))
            needed = used & self.needed or used & self.dependent or self.depends(value)
            return value if needed else ast.Constant(None)
        parts = zip(target.elts, value.elts, strict=True)  # type: ignore[attr-defined]
        made = [self._blanked_pairs(part, each) for part, each in parts]
        same = all(new is old for new, old in zip(made, value.elts, strict=True))  # type: ignore[attr-defined]
        return value if same else ast.copy_location(ast.Tuple(made, ast.Load()), value)

    def _inner_site(self, site: Site, node: Any) -> list[ast.stmt]:
        if site.is_open:
            return self._inner_open(node)
        if not site.operands:
            return []
        asynchronous = any(map(waits, site.operands))
        made: list[ast.expr] = []
        for operand in site.operands:
            operand = self._blanked_items(operand)
            made.append(operand if asynchronous else ast.Lambda(NO_ARGUMENTS, operand))
        name = "codegen_tell" if asynchronous else "codegen_report"
        call = ast.Call(ast.Name(name, ast.Load()), [ast.Constant("__number"), *made], [])
        result: list[ast.stmt] = [ast.Expr(call)]
        if isinstance(node, ast.With) and (variable := node.items[0].optional_vars):
            result = [ast.Assign([variable], call)]
        elif isinstance(node, ast.Try):
            handler = node.handlers[0]
            result = [ast.Assign([ast.Name("codegen_error", ast.Store())], call)]
            if isinstance(node.body[0], ast.Assign):
                pass
            body = self._inside(handler.body)
            if handler.name and body:
                value = ast.Attribute(ast.Name("codegen_error", ast.Load()), "value", ast.Load())
                result += [ast.Assign([ast.Name(handler.name, ast.Store())], value), *body]
            else:
                result = [ast.Expr(call), *body]
        site.inside = result
        return result

    def _inner_open(self, node: Any) -> list[ast.stmt]:
        """An open site as it is; if it fails, that is told at once."""
        if isinstance(node, (ast.With, ast.AsyncWith)):
            return [self._with(node, body=self._inside(node.body) or [ast.Pass()])]
        if isinstance(node, (ast.Try, ast.Raise)):
            return [node]
        guards, first = self.by_node[id(node)].guards, []
        if isinstance(node, ast.Assert):
            node = self._with(node, test=self._seen(node.test, node))
        elif isinstance(node.value, ast.Call):
            call: Any = node.value
            if last_name(call).startswith("assert_") and not is_self(call.func):
                first = [self._told(make_call("codegen_calls", call.func.value), node)]
            node = self._with(node, value=self._read_arguments(call, node))
        failed = ast.Expr(ast.Call(ast.Name("codegen_failed", ast.Load()), [], []))
        handler = ast.ExceptHandler(
            ast.Name("AssertionError", ast.Load()), None, [failed, ast.Raise(None, None)]
        )
        caught = any(type(g) is tuple and (g[0] == "try" or may_fail(g[1])) for g in guards)
        return [*first, *([node] if caught else [ast.Try([node], [handler], [], [])])]

    def _seen(self, node: Any, site: ast.stmt) -> Any:
        """An expression whose parts that the program computed are reported when they are read."""
        if not self.depends(node):
            return node
        if isinstance(node, (ast.Starred, ast.keyword)):
            return self._with(node, value=self._seen(node.value, site))
        if isinstance(node, ast.Compare):
            parts = [self._seen(part, site) for part in (node.left, *node.comparators)]
            return self._with(node, left=parts[0], comparators=parts[1:])
        if isinstance(node, ast.BoolOp):
            return self._with(node, values=[self._seen(part, site) for part in node.values])
        if isinstance(node, ast.UnaryOp):
            return self._with(node, operand=self._seen(node.operand, site))
        if isinstance(node, (ast.GeneratorExp, ast.ListComp)) and self.depends(node.elt):
            return self._with(node, elt=self._seen(node.elt, site))
        if isinstance(node, ast.Call) and not self.depends(node.func):
            return self._read_arguments(node, site)
        return self._told(node, site).value

    def _read_arguments(self, call: ast.Call, site: ast.stmt) -> Any:
        """A call whose every argument is reported: one that is not could be forged."""
        args, keywords = (
            [self._seen(n, site) for n in each] for each in (call.args, call.keywords)
        )
        return self._with(call, args=args, keywords=keywords)

    def _told(self, node: ast.expr, site: ast.stmt) -> ast.Expr:
        return ast.Expr(make_call("codegen_seen", ast.Constant(f"__open {id(site)}"), node))

    @functools.cached_property
    def new_names(self) -> dict[str, str]:
        """Names of tests that tell nothing, in the same order; none if something else uses them."""
        nodes = [n for owned in self.functions.values() for n in owned if id(n) in self.runners]
        names = sorted({node.name for node in nodes if node.name.startswith("test")})
        used = {node.id for node, _, _ in self.read.named if isinstance(node, ast.Name)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
        if not used.isdisjoint(("request", "_testMethodName", "id")) or not used.isdisjoint(names):
            return {}
        letters = itertools.product(string.ascii_lowercase, repeat=4)  # in order, and no digits
        return {name: "test_" + "".join(part) for name, part in zip(names, letters, strict=False)}

    def _inner_function(self, node: Any) -> list[ast.stmt]:
        if id(node) in self.pure:
            if is_fixture_function(node) and not self.is_read(node.name, self.needed):
                return [self._with(node, body=[ast.Pass()])]
            return [node] if self._key_of(node) in self.needed or is_fixture_function(node) else []
        is_live = id(node) in self.live
        is_silent = is_live or id(node) in self.runners or is_fixture_function(node)
        own = node.body[1:] if is_silent and is_docstring(node.body[0]) else node.body
        made = self._with(node, body=self._inside(own) or [ast.Pass()])
        if id(node) in self.runners:
            made.name = self.new_names.get(node.name, node.name)
        decorators: list[ast.expr] = []
        for decorator in node.decorator_list:
            found = [row for row in parameter_tables(node) if row[2] is decorator]
            decorators.append(self._blanked_parameters(node, *found[0]) if found else decorator)
        made.decorator_list = decorators
        scope = self.read.owner[id(node)]
        unread = [
            n for n, _ in default_arguments(node) if is_live and (scope, n) not in self.needed
        ]
        made.args = self._with(node.args)
        positional = [*node.args.posonlyargs, *node.args.args][-len(node.args.defaults) or None :]
        made.args.defaults = [
            ast.Constant(None) if argument.arg in unread else default
            for argument, default in zip(positional, node.args.defaults, strict=False)
        ]
        made.args.kw_defaults = [
            ast.Constant(None) if default is not None and argument.arg in unread else default
            for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        ]
        return [made]

    def _blanked_parameters(self, node: Any, names: list[str], table: Any, call: Any) -> ast.expr:
        scope = self.read.owner[id(node)]
        keep = [(scope, name) in self.needed for name in names]
        rows = self._rows(table)
        blanked = None if rows is None or all(keep) else keep_columns(rows, keep)
        if blanked is None:
            self.shown |= {(scope, name) for name in names}
        options = [k for k in call.keywords if k.arg != "ids"]
        return ast.Call(call.func, [call.args[0], blanked or table], options)

    def _inner_call(self, node: ast.Expr, helper: Any) -> ast.stmt:
        call: Any = node.value
        scope = self.read.owner[id(helper)]
        names = dict(named_arguments(helper, call))

        def kept(value: ast.expr) -> ast.expr:
            is_needed = (scope, names.get(id(value), "")) in self.needed
            return value if is_needed or self.depends(value) else ast.Constant(None)

        arguments = [kept(value) for value in call.args]
        keywords = [ast.keyword(k.arg, kept(k.value)) for k in call.keywords]
        return ast.Expr(ast.Call(call.func, arguments, keywords))

    def _blanked_items(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.ListComp) and not self.depends(node.generators[0].iter):
            loop = node.generators[0]
            table = self._table(loop.iter, loop.target)
            return ast.ListComp(node.elt, [ast.comprehension(loop.target, table, loop.ifs, 0)])
        return node

    def _only_value(self, key: Key) -> ast.AST | None:
        """What a variable is bound to, once and for all; None if that may change."""
        found = self.bindings_of.get(key, [])
        single = len(found) == 1 and len(found[0].values) == 1 and key not in self.touched
        return found[0].values[0] if single else None

    def _rows(self, node: ast.AST) -> list[ast.expr] | None:
        """The rows of a table that is a literal, or a name bound once to one."""
        if isinstance(node, ast.Name) or is_self(node):
            key = self.key_of(node) if isinstance(node, ast.Name) else (SELF, node.attr)  # type: ignore[attr-defined]
            value = self._only_value(key)
            return None if value is None or isinstance(value, ast.Name) else self._rows(value)
        return node.elts if isinstance(node, (ast.List, ast.Tuple)) else None

    def _table(self, table: ast.expr, target: ast.AST) -> ast.expr:
        """A loop's table inside; all that it binds can be read there if it cannot be blanked."""
        blanked = self._blanked(table, target)
        if blanked is None:
            self.shown |= {self.key_of(n) for n in ast.walk(target) if isinstance(n, ast.Name)}
        return blanked or table

    def _blanked(self, table: ast.expr, target: ast.AST) -> ast.expr | None:
        """A loop's table without the columns that nothing inside reads; None if it stays."""

        def is_needed(item: ast.AST) -> bool:
            bound = {self.key_of(n) for n in ast.walk(item) if isinstance(n, ast.Name)}
            return not bound.isdisjoint(self.needed)

        if not isinstance(target, ast.Tuple):
            if isinstance(target, ast.Name) and not is_needed(target):
                rows = self._rows(table)
                return None if rows is None else make_list([ast.Constant(None)] * len(rows))
            return None
        keep = [is_needed(item) for item in target.elts]
        if isinstance(table, ast.Call) and isinstance(table.func, ast.Name):
            if table.func.id == "enumerate" and len(keep) == 2:
                inner = self._blanked(table.args[0], target.elts[1])
                return inner and ast.Call(table.func, [inner, *table.args[1:]], table.keywords)
            if table.func.id == "zip" and len(keep) == len(table.args):
                parts: list[ast.expr] = []
                for part, item in zip(table.args, target.elts, strict=True):
                    parts.append(self._table(part, item))
                return ast.Call(table.func, parts, table.keywords)
        if isinstance(table, ast.Call) and last_name(table) == "items" and len(keep) == 2:
            owner = table.func.value  # type: ignore[attr-defined]
            if isinstance(owner, ast.Name):
                owner = self._only_value(self.key_of(owner))
            if isinstance(owner, ast.Dict) and None not in owner.keys:
                pairs = zip(owner.keys, owner.values, strict=True)
                return keep_columns([ast.Tuple([k, v]) for k, v in pairs], keep)  # type: ignore[list-item]
            return None
        rows = self._rows(table)
        return None if rows is None or all(keep) else keep_columns(rows, keep)

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
            if site.is_open:
                return []
            rest = self._outside(node.handlers[0].body) if isinstance(node, ast.Try) else []
            return [*site.outside, *rest]
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
            if self.depends(guard):
                return []
            body = self._outside(node.body) or [ast.Pass()]
            return [self._with(node, body=body, orelse=self._outside(node.orelse))]
        if isinstance(node, (ast.With, ast.AsyncWith)):
            if raises_itself(node):
                return []
            if self._catches(node):
                kept = [n for n in node.body if id(n) in self.by_node or not self._may_raise(n)]
                return self._outside(kept)
            return self._outside(node.body)
        if isinstance(node, ast.Try):
            last = self._outside(node.finalbody)
            if not self.is_controlled(("try", node)):
                return last
            handlers = [
                self._with(h, body=self._outside(h.body) or [ast.Pass()]) for h in node.handlers
            ]
            body = self._outside(node.body) or [ast.Pass()]
            if not handlers and not last:
                return body
            return [
                self._with(
                    node,
                    body=body,
                    handlers=handlers,
                    orelse=self._outside(node.orelse),
                    finalbody=last,
                )
            ]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return (
                [node]
                if is_harness(node) or self._bound_by(node).isdisjoint(self.dependent)
                else []
            )
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            helper = self._helper(node.value)
            if helper is not None:
                return [self._outer_call(node.value)]
            if starts_tests(node.value) or self._is_own(node) is False:
                return []
        if isinstance(node, ast.Return):
            return [ast.Return(None)] if not node.value or self.depends(node.value) else [node]
        if isinstance(node, (ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal)):
            return [node]
        return [node] if self._is_own(node) else []

    def has_tests(self, node: ast.ClassDef) -> bool:
        return any(each is node for each in self.test_classes)

    def _may_raise(self, node: ast.stmt) -> bool:
        """Whether a statement of the tests alone is there for what it raises."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return self._helper(node.value) is None
        return isinstance(node, (ast.Expr, ast.Assert, ast.Delete))

    def _outer_call(self, call: ast.Call) -> ast.stmt:
        def kept(value: ast.expr) -> ast.expr:
            return ast.Constant(None) if self.depends(value) else value

        arguments = [kept(value) for value in call.args]
        keywords = [ast.keyword(k.arg, kept(k.value)) for k in call.keywords]
        return ast.Expr(ast.Call(call.func, arguments, keywords))

    def _outer_function(self, node: Any) -> list[ast.stmt]:
        if id(node) in self.pure:
            return [node]
        if id(node) not in self.live:
            return []
        made = self._with(node, body=self._outside(node.body) or [ast.Pass()], returns=None)
        tables = [call for _, table, call in parameter_tables(node) if not self.depends(table)]
        others = [d for d in node.decorator_list if not self.depends(d) and d not in tables]
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
