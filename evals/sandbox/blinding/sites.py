"""Closes assertions: operands inside, comparisons outside."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from typing import Any

from .flow import Flow
from .origins import OUTER_METHODS, Origins, is_telling
from .reader import Site
from .trees import (
    CALLS,
    COMPARING,
    COMPUTING,
    FAILURES,
    FREE,
    FUNCTIONS,
    ORDERS,
    RAISES,
    SELF,
    Key,
    OpenError,
    Replaced,
    class_name,
    expected_by,
    is_fail,
    is_function,
    is_name,
    is_of_pytest,
    is_self,
    last_name,
    make_call,
    raised_by,
    root_of,
    waits,
)


class Sites(Flow):
    """The assertions of one module of tests."""

    origins: Origins | None = None

    def _close(self, site: Site) -> None:
        """Finds the operands of a site and what is done with them outside."""
        node = site.node
        leaves = {
            id(g[1])
            for exits in self.read.exits
            if not self.controlled(tuple(g for g in exits if not is_function(g)))
            for g in [g for g in exits if is_function(g)][-1:]
        }
        reached = self.controlled(site.guards)
        reached = reached and not any(id(g[1]) in leaves for g in site.guards if is_function(g))
        self.current = site
        self.origins = Origins(self) if self.origins is None else self.origins
        site.operands, site.outside, site.pure = [], [], []  # type: ignore[attr-defined]
        try:
            made = self._statement(node)
        except OpenError:
            site.is_open, site.operands = True, []
            return
        if made is None:
            site.operands = []
            fails = isinstance(node, ast.Assert) or self._fails(node)
            site.is_open = fails and not reached
            return
        if (site.operands or self._is_assertion(node)) and not reached:
            site.is_open = True
        site.outside = [made]

    def _fails(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Raise):
            return node.exc is not None and "AssertionError" in ast.unparse(node.exc)
        return isinstance(node, ast.Expr) and is_fail(node.value)

    def _is_assertion(self, node: ast.stmt) -> bool:
        return isinstance(node, ast.Assert) or last_name(getattr(node, "value", node)).startswith(
            "assert"
        )

    def _statement(self, node: ast.stmt) -> ast.stmt | None:
        """What a site becomes outside; None if it is not one."""
        if isinstance(node, ast.Assert):
            if self.depends(node.test) or self.reads_touched(node.test):
                return ast.copy_location(ast.Assert(self.residual(node.test, True)), node)
            return None
        if isinstance(node, (ast.With, ast.AsyncWith)):
            call = raised_by(node)
            assert call is not None
            if len(node.body) != 1 or not isinstance(node.body[0], (ast.Expr, ast.Assign)):
                raise OpenError
            return self._raised(node, call, node.body[0].value)
        if isinstance(node, ast.Try):
            handler, tried = expected_by(node), node.body[0]
            assert handler is not None and handler.type is not None
            assert isinstance(tried, (ast.Expr, ast.Assign))
            return self._raised(node, ast.Call(ast.Name("raises"), [handler.type], []), tried.value)  # type: ignore[attr-defined]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return self._call_statement(node, node.value)
        return None

    def _call_statement(self, node: ast.Expr, call: ast.Call) -> ast.stmt | None:
        name = last_name(call)
        known = is_self(call.func) and (SELF, name) not in self.functions
        if known and name == "assertIsInstance" and len(call.args) > 1:
            made = ast.Call(ast.Name("isinstance", ast.Load()), call.args[:2], [])
            return ast.copy_location(ast.Assert(self._call(made, True)), node)
        if name in RAISES and (known or is_of_pytest(call)):
            if len(call.args) < 2:
                raise OpenError
            where = 3 if name == "assertRaisesRegex" else 2
            made = ast.Call(call.args[where - 1], call.args[where:], call.keywords)
            return self._raised(node, ast.Call(call.func, call.args[: where - 1], []), made)
        if isinstance(call.func, ast.Attribute) and self.depends(call.func.value) and not known:
            if name in CALLS:
                return self._mock_calls(node, call)
            if name.startswith("assert"):
                raise OpenError
        if self._helper(call) is not None:
            return None
        checks = name.startswith("assert") and (known or not self.depends(call.func))
        if not checks and not self.depends(call.func):
            function = self.functions.get(self.keys.get(id(call.func), (FREE, "")), [None])[0]
            checks = function is not None and any(
                isinstance(each, FAILURES) for each in ast.walk(function)
            )
        if not checks:
            if name.startswith("assert") and any(map(self.depends, call.args)):
                raise OpenError
            return None
        values = [*call.args, *(k.value for k in call.keywords)]
        if not any(self.depends(v) or self.reads_touched(v) for v in values):
            return None
        if len(call.args) > 1 and name not in ("assertTrue", "assertFalse", "assertIsNone"):
            values = self._compared(call.args[:2], equality=name.startswith("assertEqual"))
            arguments = [*values, *map(self._alone, call.args[2:])]
        else:
            is_truth = name in ("assertTrue", "assertFalse")
            arguments = [self.residual(call.args[0], is_truth)] if call.args else []
        keywords = [
            ast.keyword(k.arg, self._alone(k.value)) for k in call.keywords if k.arg != "msg"
        ]
        return ast.copy_location(ast.Expr(ast.Call(call.func, arguments, keywords)), node)

    def _alone(self, node: ast.expr) -> ast.expr:
        return self.residual(node) if self.depends(node) else self._kept(node)

    def _mock_calls(self, node: ast.Expr, call: ast.Call) -> ast.stmt:
        if any(map(self.depends, (*call.args, *(k.value for k in call.keywords)))):
            raise OpenError
        if any(map(self.is_error, (*call.args, *(k.value for k in call.keywords)))):
            raise OpenError
        owner = call.func.value  # type: ignore[attr-defined]
        calls = self._operand(ast.Call(ast.Name("codegen_calls", ast.Load()), [owner], []))
        names = [ast.Constant(k.arg) for k in call.keywords]
        options = ast.Dict(names, [k.value for k in call.keywords])  # type: ignore[arg-type]
        expected = ast.Tuple([ast.Tuple(call.args, ast.Load()), options], ast.Load())
        self.current.pure.append(expected)  # type: ignore[attr-defined]
        form = CALLS[last_name(call)].format("calls", "expected")
        test: Any = ast.parse(form, mode="eval").body
        test = Replaced({"calls": calls, "expected": expected}).visit(test)
        return ast.copy_location(ast.Assert(test), node)

    def _raised(self, node: ast.stmt, call: ast.Call, tried: ast.expr) -> ast.stmt:
        if not self.depends(tried) and not self.reads_touched(tried):
            raise OpenError
        if waits(tried):
            raise OpenError
        kinds = call.args[0].elts if isinstance(call.args[0], ast.Tuple) else [call.args[0]]
        names: list[ast.expr] = []
        for kind in kinds:
            root = root_of(kind)
            key = self.key_of(root) if isinstance(root, ast.Name) else None
            is_named = key is not None and (key[0] == FREE or key in self.imported)
            if self.depends(kind) and not is_named:
                raise OpenError
            names.append(ast.Constant(class_name(kind)) if self.depends(kind) else kind)
        match = next((k.value for k in call.keywords if k.arg == "match"), ast.Constant(None))
        if len(call.args) > 1:
            match = call.args[1]
        if self.depends(match):
            raise OpenError
        self._operand(tried, known=True)
        self.current.pure.append(match)  # type: ignore[attr-defined]
        check = ast.Call(
            ast.Name("codegen_raised", ast.Load()), [ast.Tuple(names, ast.Load()), match], []
        )
        return ast.copy_location(ast.Expr(check), node)

    def _compared(
        self, parts: list[ast.expr], identity: bool = False, equality: bool = False
    ) -> list[ast.expr]:
        """The operands of a comparison: what depends on the program is reported."""
        reported = [self.depends(part) for part in parts]
        if not any(reported):
            reported = [self.reads_touched(part) for part in parts]
        if all(reported):
            raise OpenError  # the program would decide
        if identity and not all(
            r or isinstance(p, ast.Constant) for r, p in zip(reported, parts, strict=True)
        ):
            raise OpenError
        # A call of a name in capitals that is compared with a literal may return a plain value.
        objects = [
            equality and isinstance(part, ast.Call) and self.is_object(part) for part in parts
        ]
        if any(map(self.is_error, parts)):
            raise OpenError  # exceptions are compared by identity
        if any(isinstance(p, ast.Subscript) and self._is_hint(root_of(p)) for p in parts):
            raise OpenError
        for part, is_object in zip(parts, objects, strict=True):
            if is_object and last_name(part) in self.constructed:
                raise OpenError  # its class may define equality with plain values
        return [
            self._kept(part)
            if not is_reported
            else self._operand(part, equality=True)
            if is_object
            else self.residual(part)
            for part, is_reported, is_object in zip(parts, reported, objects, strict=True)
        ]

    def _kept(self, node: ast.expr) -> ast.expr:
        self.current.pure.append(node)  # type: ignore[attr-defined]
        return node

    def residual(self, node: ast.expr, is_truth: bool = False) -> ast.expr:
        """What an expression becomes outside.

        Args:
            is_truth: only its truth value matters.
        """
        if isinstance(node, ast.BoolOp) and is_truth:
            parts = [self._part(value, True) for value in node.values]
            return ast.copy_location(ast.BoolOp(node.op, parts), node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            is_not = isinstance(node.op, ast.Not)
            return ast.copy_location(
                ast.UnaryOp(node.op, self.residual(node.operand, is_not)), node
            )
        if isinstance(node, ast.Compare):
            identity = any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
            equality = all(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops)
            parts = [node.left, *node.comparators]
            left, *others = self._compared(parts, identity, equality)
            if len(parts) == 2 and isinstance(node.ops[0], ORDERS):
                own = parts[1] if self.depends(parts[0]) else parts[0]
                if self.origins is not None and self.origins.tells(own):
                    is_left = own is parts[1]
                    left = make_call("codegen_bounded", left) if is_left else left
                    bounded: list[ast.expr] = [make_call("codegen_bounded", *others)]
                    others = others if is_left else bounded
            return ast.copy_location(ast.Compare(left, node.ops, others), node)
        if isinstance(node, ast.BinOp):
            own = node.right if self.depends(node.left) else node.left
            if self._is_outer(node, own):
                left, right = self._compared([node.left, node.right])
                return ast.copy_location(ast.BinOp(left, node.op, right), node)
        if isinstance(node, ast.Call) and not self.depends(node.func):
            return self._call(node, is_truth)
        if isinstance(node, ast.Call) and self._is_outer_method(node):
            owner = self.residual(node.func.value)  # type: ignore[attr-defined]
            arguments = [self._kept(value) for value in node.args]
            made = ast.Attribute(owner, last_name(node), ast.Load())
            return ast.copy_location(ast.Call(made, arguments, node.keywords), node)
        if isinstance(node, ast.Call) and last_name(node) in ("all", "any") and not node.args:
            found = node.func.value  # type: ignore[attr-defined]
            if isinstance(found, ast.Compare):  # of arrays
                made = ast.Attribute(self.residual(found), last_name(node), ast.Load())
                return ast.copy_location(ast.Call(made, [], []), node)
        return self._operand(node, is_truth)

    def _is_hint(self, node: ast.AST) -> bool:
        """Whether it is a type hint, which no report contains."""
        assert self.origins is not None
        return self.origins.imports.get(getattr(node, "id", "")) == "typing"

    def _is_outer(self, node: ast.BinOp, own: ast.expr) -> bool:
        """Whether an operator is applied outside: its other operand is the tests' own."""
        if self.depends(own) or not self.depends(node):
            return False
        if isinstance(node.op, ast.Sub):
            return True
        other = node.left if own is node.right else node.right
        path = isinstance(node.op, ast.Div) and isinstance(getattr(own, "value", 0), str)
        assert self.origins is not None
        return self.origins.tells(own) and not path and not self.is_object(other)

    def _is_outer_method(self, node: ast.Call) -> bool:
        """Whether it compares a plain result with its arguments, which is done outside."""
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        return (
            owner is not None
            and last_name(node) in OUTER_METHODS
            and bool(node.args)
            and self.depends(owner)
            and not any(map(self.depends, (*node.args, *(k.value for k in node.keywords))))
            and self._is_plain_result(owner)
        )

    def _is_plain_result(self, node: ast.AST, depth: int = 0) -> bool:
        """Whether a value is what a function or method returned, not an object of a known class."""
        if isinstance(node, ast.Await):
            return self._is_plain_result(node.value, depth)
        if isinstance(node, ast.Call):
            return not last_name(node)[:1].isupper()
        if isinstance(node, ast.Subscript) or (
            isinstance(node, ast.Attribute) and not is_self(node)
        ):
            return True
        found = self.bound_values(self.variable(node)) if is_name(node) or is_self(node) else []
        return (
            depth < 4
            and bool(found)
            and all(v is not None and self._is_plain_result(v, depth + 1) for v in found)
        )

    def _part(self, node: ast.expr, is_truth: bool = False) -> ast.expr:
        reported = self.depends(node) or self.reads_touched(node)
        return self.residual(node, is_truth) if reported else self._kept(node)

    def _call(self, node: ast.Call, is_truth: bool) -> ast.expr:
        name = last_name(node)
        values = [*node.args, *(k.value for k in node.keywords)]
        dependent = [value for value in values if self.depends(value)]
        if name in ("all", "any") and isinstance(node.func, ast.Name) and node.args:
            return self._aggregate(node, node.args[0])
        if name == "isinstance" and len(node.args) == 2:
            if self.origins is None or not self.origins.is_made(node.args[0]):
                raise OpenError
            kinds = self._operand(make_call("codegen_kinds", node.args[0]), known=True)
            types = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
            if any(map(self.depends, types)):
                raise OpenError
            self.current.pure.append(ast.Constant(""))  # type: ignore[attr-defined]
            return ast.copy_location(make_call("codegen_of", kinds, *types), node)
        if name == "issubclass" or any(self.depends(k.value) for k in node.keywords):
            raise OpenError
        if not isinstance(node.func, ast.Name) or name in COMPARING:
            pass
        elif id(node.func) not in self.keys or self.keys[id(node.func)][0] == FREE:
            return self._operand(node, is_truth)  # a builtin function
        if not dependent or (len(dependent) == len(values) and name not in COMPARING):
            return self._operand(node, is_truth)
        if isinstance(node.func, ast.Attribute):
            self.current.pure.append(ast.Constant(""))  # type: ignore[attr-defined]
        arguments = [self._part(value) for value in node.args]
        keywords = [ast.keyword(k.arg, self._part(k.value)) for k in node.keywords]
        return ast.copy_location(ast.Call(node.func, arguments, keywords), node)

    def _aggregate(self, node: ast.Call, items: ast.expr) -> ast.expr:
        """``all`` or ``any``: each item is reported, so that no exception ends them early."""
        if isinstance(items, (ast.GeneratorExp, ast.ListComp)) and len(items.generators) == 1:
            loop = items.generators[0]
            if self.depends(loop.iter) or any(map(self.depends, loop.ifs)) or loop.is_async:
                raise OpenError
            if any(isinstance(each, ast.Compare) for each in ast.walk(items.elt)):
                raise OpenError
            reported = self._operand(ast.copy_location(ast.ListComp(items.elt, [loop]), items))
            return ast.copy_location(ast.Call(node.func, [reported], []), node)
        if not isinstance(items, ast.Name):
            raise OpenError
        return ast.Call(node.func, [self._operand(items)], [])

    def _operand(
        self, node: ast.expr, is_truth: bool = False, known: bool = False, equality: bool = False
    ) -> ast.expr:
        may_be_object = is_truth or equality
        assert self.origins is not None
        if isinstance(node, ast.Starred) or (not known and not self.origins.is_made(node)):
            raise OpenError
        if not known and not may_be_object and self.is_object(node):
            raise OpenError
        if is_truth and not self._is_from_program(node):
            raise OpenError  # two values are easily guessed
        truth = ast.Call(ast.Name("bool", ast.Load()), [node], [])
        self.current.operands.append(truth if is_truth else node)
        value = ast.Constant(len(self.current.operands) - 1)
        return ast.copy_location(ast.Call(ast.Name("codegen_value", ast.Load()), [value], []), node)

    def _is_hidden(self, site: Site, needed: set[Key]) -> bool:
        """Whether what a site expects cannot be read inside."""
        pure = site.pure  # type: ignore[attr-defined]
        self.given = self._read_by(site.operands)
        results = [value for key in self.given for value in self.bound_values(key)]
        self.given |= self._read_by(filter(self.depends, filter(None, results)))
        return all(self._hides(part, needed - self._only_computed(part)) for part in pure)

    def _read_by(self, nodes: Iterable[ast.AST]) -> set[Key]:
        parts = [part for node in nodes for part in ast.walk(node)]
        return {self.variable(part) for part in parts if is_name(part) or is_self(part)}

    def _only_computed(self, node: ast.AST) -> set[Key]:
        """Variables that the program is given, and from which something else is computed."""
        found: dict[Key, bool] = {}
        computed = {
            id(value)
            for call in ast.walk(node)
            if isinstance(call, ast.Call) and last_name(call) in COMPUTING
            for value in call.args
        }
        for each in ast.walk(node):
            if is_name(each) or is_self(each):
                key = self.variable(each)
                found[key] = found.get(key, key in self.given) and id(each) in computed
        return {key for key, value in found.items() if value}

    def _hides(self, node: ast.AST, needed: set[Key], seen: set[Any] | None = None) -> bool:
        """Whether nothing that a value is made of can be read inside."""
        seen = set() if seen is None else seen
        loops = [each for each in ast.walk(node) if isinstance(each, ast.comprehension)]
        local = {id(part) for loop in loops for part in ast.walk(loop.target)}
        own = {
            self.key_of(part) for loop in loops for part in ast.walk(loop.target) if is_name(part)
        }
        longer = {  # what is expected is not a part of these
            id(part)
            for text in ast.walk(node)
            if isinstance(text, ast.JoinedStr) and any(map(is_telling, text.values))
            for part in ast.walk(text)
        }
        for each in ast.walk(node):
            if not (is_name(each) or is_self(each)) or id(each) in local:
                continue
            key = self.variable(each)
            if key[0] == FREE or key in self.imported or key in own or key[1] in ("self", "cls"):
                continue
            if key in self.functions:
                if key in needed or not self._hides_all(self.functions[key], needed, seen):
                    return False
                continue
            if key in needed and (each is node or not self._is_immutable(each)):
                return False
            is_part = id(each) not in longer and key not in self.given
            if key in needed and is_part and self._is_text(key):
                return False
            if key not in seen:
                seen.add(key)
                values = [v for v in self.bound_values(key) if v is not None]
                if any(self._siblings(key, value) & needed for value in values):
                    return False
                for value in (*values, *self.arguments.get(key, ())):
                    if isinstance(value, FUNCTIONS):
                        if self.is_read(value.name, needed):
                            return False
                        if not self._hides_all([value], needed, seen):
                            return False
                    elif not self._hides(value, needed, seen):
                        return False
        return True

    def _is_text(self, key: Key) -> bool:
        found = [*self.bound_values(key), *self.arguments.get(key, ())]
        return any(
            isinstance(getattr(each, "value", None), (str, bytes))
            for value in found
            if value is not None
            for each in ast.walk(value)
        )

    def _hides_all(self, functions: list[Any], needed: set[Key], seen: set[Any]) -> bool:
        for function in functions:
            if id(function) not in seen:
                seen.add(id(function))
                if not all(self._hides(part, needed, seen) for part in function.body):
                    return False
        return True

    def _siblings(self, key: Key, value: ast.AST) -> set[Key]:
        """Other variables that the same value is bound to, but for columns of a table."""
        if self._is_loop(key, value):
            return set()
        return self.bound_with.get(id(value), set()) - {key}

    @functools.cached_property
    def bound_with(self) -> dict[int, set[Key]]:
        """Variables by the values that they are bound to."""
        found: dict[int, set[Key]] = {}
        for each in self.bindings:
            for value in each.values:
                found.setdefault(id(value), set()).add(each.key)
        return found

    def is_read(self, fixture: str, needed: set[Key]) -> bool:
        """Whether something inside reads what a fixture returns."""
        return any(name == fixture and key in needed for key in self.arguments for name in key[1:])

    def _number(self, site: Site, number: int) -> None:
        site.number = number
        take = ast.Expr(ast.Call(ast.Name("codegen_take", ast.Load()), [ast.Constant(number)], []))
        site.outside = [ast.copy_location(take, site.node), *site.outside]
        for each in ast.walk(site.inside[0]):
            if isinstance(each, ast.Constant) and each.value == "__number":
                each.value = number
