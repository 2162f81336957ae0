"""Splits assertions: operands are evaluated inside (program side), comparisons outside."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from codegen.sandbox.protocol import words

from .flow import Flow
from .origins import OUTER_METHODS, Origins
from .reader import Site
from .trees import (
    COMPARING,
    FREE,
    FUNCTIONS,
    MOCK_ASSERTIONS,
    ORDERS,
    RAISES,
    SELF,
    OpenError,
    always_fails,
    class_name,
    is_of_pytest,
    is_self,
    is_unfit_for_lambda,
    last_name,
    make_call,
    raised_by,
    root_of,
)

_CHECKS = words(
    "raises warns deprecated_call assertRaises assertRaisesRegex assertWarns assertWarnsRegex "
    "assertLogs assertNoLogs"
)
_ENDS = frozenset(("exit", "quit", "_exit", "abort", "fail"))
_DECISIONS = (ast.If, ast.Match, ast.While, ast.For, ast.IfExp)


class Sites(Flow):
    """Assertions of one test module."""

    @functools.cached_property
    def origins(self) -> Origins:
        return Origins(self)

    def _close(self, site: Site) -> None:
        """Finds a site's operands and its statement on the tests side."""
        node = site.node
        reached = self.controlled(site.guards)
        self.current = site
        site.operands, site.outside, site.pure = [], [], []
        try:
            made = self._statement(node)
        except OpenError:
            site.is_open, site.operands = True, []
            return
        if made is None:
            site.operands = []
            fails = isinstance(node, ast.Assert) or always_fails(node)
            site.is_open = fails and not reached
            return
        site.is_open = not reached
        take = ast.Expr(make_call("codegen_take", ast.Constant(site.number)))
        site.outside = [ast.copy_location(take, node), made] if site.operands else [made]

    def _statement(self, node: ast.stmt) -> ast.stmt | None:
        """Returns a site's statement on the tests side, or None if it has none."""
        if isinstance(node, ast.Assert):
            if not self.is_reported(node.test):
                return None
            return ast.copy_location(ast.Assert(self.residual(node.test, True)), node)
        if isinstance(node, (ast.With, ast.AsyncWith)):
            call = raised_by(node)
            assert call is not None
            if len(node.body) != 1 or not isinstance(node.body[0], (ast.Expr, ast.Assign)):
                raise OpenError
            return self._raised(node, call, node.body[0].value)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return self._call_statement(node, node.value)
        return None

    def _call_statement(self, node: ast.Expr, call: ast.Call) -> ast.stmt | None:
        name = last_name(call)
        known = is_self(call.func) and (SELF, name) not in self.functions
        if known and name == "assertIsInstance" and len(call.args) > 1:
            made = self._call(make_call("isinstance", *call.args[:2]), True)
            return ast.copy_location(ast.Assert(made), node)
        if name in RAISES and (known or is_of_pytest(call)):
            if len(call.args) < 2:
                raise OpenError
            where = 3 if name == "assertRaisesRegex" else 2
            made = ast.Call(call.args[where - 1], call.args[where:], call.keywords)
            return self._raised(node, ast.Call(call.func, call.args[: where - 1], []), made)
        if isinstance(call.func, ast.Attribute) and self.depends(call.func.value) and not known:
            if name in MOCK_ASSERTIONS:
                return self._mock_calls(node, call)
            if name.startswith("assert"):
                raise OpenError
        checks = name.startswith("assert") and (known or not self.depends(call.func))
        if not checks:
            if name.startswith("assert") and any(map(self.depends, call.args)):
                raise OpenError
            return None
        values = [*call.args, *(k.value for k in call.keywords)]
        if not any(map(self.is_reported, values)):
            return None
        if len(call.args) > 1 and name not in ("assertTrue", "assertFalse", "assertIsNone"):
            pair = self._compared(call.args[:2], name in ("assertIs", "assertIsNot"))
            pair = pair if known else [self._by_numpy(part) for part in pair]
            arguments = [*pair, *map(self._part, call.args[2:])]
        else:
            is_truth = name in ("assertTrue", "assertFalse")
            arguments = [self.residual(call.args[0], is_truth)] if call.args else []
        keywords = [
            ast.keyword(k.arg, self._kept(k.value)) for k in call.keywords if k.arg != "msg"
        ]
        if any(self.is_reported(k.value) for k in keywords):
            raise OpenError
        if len(call.args) == 1 and keywords and not known:  # such as desired= or y=
            keywords = [ast.keyword(k.arg, self._by_numpy(k.value)) for k in keywords]
        return ast.copy_location(ast.Expr(ast.Call(call.func, arguments, keywords)), node)

    def _mock_calls(self, node: ast.Expr, call: ast.Call) -> ast.stmt:
        """Returns the assertion on a second mock, which repeats the first one's calls outside."""
        expected = [*call.args, *(k.value for k in call.keywords)]
        if any(self.depends(value) or self.is_object(value) for value in expected):
            raise OpenError
        owner = call.func.value  # type: ignore[attr-defined]
        calls = self._operand(make_call("codegen_calls", owner))
        self.current.pure += expected
        mock = ast.Attribute(make_call("codegen_mock", calls), last_name(call), ast.Load())
        made = ast.Call(mock, call.args, call.keywords)
        return ast.copy_location(ast.Expr(made), node)

    def _raised(self, node: ast.stmt, call: ast.Call, tried: ast.expr) -> ast.stmt:
        if not self.is_reported(tried):
            raise OpenError
        kinds = call.args[0].elts if isinstance(call.args[0], ast.Tuple) else [call.args[0]]
        names: list[ast.expr] = []
        for kind in kinds:
            root = root_of(kind)
            key = self.variable(root)
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
        self.current.pure.append(match)
        check = make_call("codegen_raised", ast.Tuple(names, ast.Load()), match)
        return ast.copy_location(ast.Expr(check), node)

    def _compared(self, parts: list[ast.expr], identity: bool = False) -> list[ast.expr]:
        """Returns a comparison's operands, with dependent ones replaced by reports."""
        reported = [self.depends(part) for part in parts]
        if not any(reported):
            reported = [self.reads_touched(part) for part in parts]
        if all(reported):
            raise OpenError  # the program would decide the result
        if identity and not all(
            r or isinstance(p, ast.Constant) for r, p in zip(reported, parts, strict=True)
        ):
            raise OpenError
        truths = [p for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, bool)]
        if any(map(self.is_object, parts)) or (
            truths and any(map(self.origins.is_predicate, parts))
        ):
            raise OpenError  # the program's equality would decide the result
        names = [getattr(root_of(p), "id", "") for p in parts if isinstance(p, ast.Subscript)]
        if "typing" in map(self.read.modules.get, names):
            raise OpenError  # type hints are not reported
        return [
            self.residual(part) if is_reported else make_call("codegen_expected", self._kept(part))
            for part, is_reported in zip(parts, reported, strict=True)
        ]

    def _by_numpy(self, node: ast.expr) -> ast.expr:
        return make_call("codegen_expected", node, ast.Constant(True))

    def _kept(self, node: ast.expr) -> ast.expr:
        self.current.pure.append(node)
        return node

    def residual(self, node: ast.expr, is_truth: bool = False) -> ast.expr:
        """Returns an expression's form on the tests side.

        Args:
            is_truth: True if only the expression's truth value matters.
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
            parts = [node.left, *node.comparators]
            left, *others = self._compared(parts, identity)
            if len(parts) == 2 and isinstance(node.ops[0], ORDERS):
                own = parts[1] if self.depends(parts[0]) else parts[0]
                if self.origins.tells(own):
                    is_left = own is parts[1]
                    left = make_call("codegen_bounded", left) if is_left else left
                    bounded: list[ast.expr] = [make_call("codegen_bounded", *others)]
                    others = others if is_left else bounded
            return ast.copy_location(ast.Compare(left, node.ops, others), node)
        if isinstance(node, ast.BinOp):
            parts = [node.left, node.right]
            if isinstance(node.op, ast.Sub) and not all(map(self.depends, parts)):
                left, right = self._compared(parts)
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
            if isinstance(found, ast.Compare):  # compares arrays
                made = ast.Attribute(self.residual(found), last_name(node), ast.Load())
                return ast.copy_location(ast.Call(made, [], []), node)
        return self._operand(node, is_truth)

    def _is_outer_method(self, node: ast.Call) -> bool:
        """Returns True if a call compares a plain result with its arguments."""
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if owner is None or last_name(node) not in OUTER_METHODS or not node.args:
            return False
        values = [*node.args, *(k.value for k in node.keywords)]
        if not self.depends(owner) or any(map(self.depends, values)) or self.is_object(owner):
            return False
        found = self.bound_values(self.variable(owner))
        return self.variable(owner) is None or (bool(found) and None not in found)

    def _part(self, node: ast.expr, is_truth: bool = False) -> ast.expr:
        return self.residual(node, is_truth) if self.is_reported(node) else self._kept(node)

    def _call(self, node: ast.Call, is_truth: bool) -> ast.expr:
        name = last_name(node)
        values = [*node.args, *(k.value for k in node.keywords)]
        dependent = [value for value in values if self.depends(value)]
        if name in ("all", "any"):
            raise OpenError  # an exception may stop them early
        if name == "isinstance" and len(node.args) == 2:
            if not self.origins.is_made(node.args[0]):
                raise OpenError
            kinds = self._operand(make_call("codegen_kinds", node.args[0]), known=True)
            types = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
            if any(map(self.depends, types)):
                raise OpenError
            return ast.copy_location(make_call("codegen_of", kinds, *types), node)
        if name == "issubclass" or any(self.depends(k.value) for k in node.keywords):
            raise OpenError
        if not isinstance(node.func, ast.Name) or name in COMPARING:
            pass
        elif id(node.func) not in self.keys or self.keys[id(node.func)][0] == FREE:
            return self._operand(node, is_truth)  # a builtin function
        if not dependent or (len(dependent) == len(values) and name not in COMPARING):
            return self._operand(node, is_truth)
        arguments = [self._part(value) for value in node.args]
        if name in ("allclose", "isclose"):
            pairs = zip(arguments[:2], node.args, strict=False)
            arguments[:2] = [self._by_numpy(a) if a is value else a for a, value in pairs]
        keywords = [ast.keyword(k.arg, self._part(k.value)) for k in node.keywords]
        return ast.copy_location(ast.Call(node.func, arguments, keywords), node)

    def _operand(self, node: ast.expr, is_truth: bool = False, known: bool = False) -> ast.expr:
        if is_unfit_for_lambda(node) or isinstance(node, ast.Starred):
            raise OpenError
        if not known and not self.origins.is_made(node):
            raise OpenError
        if not known and not is_truth and self.is_object(node):
            raise OpenError
        if is_truth and (not self._is_from_program(node) or self.origins.is_predicate(node)):
            raise OpenError  # one of two values is easy to guess
        value = make_call("codegen_value", ast.Constant(len(self.current.operands)))
        self.current.operands.append(make_call("bool", node) if is_truth else node)
        return ast.copy_location(value, node)

    # Assertions in other forms.

    def uncounted(self, sites: list[Site]) -> list[ast.stmt]:
        """Returns non-site statements that may fail because of the program."""
        handled: set[int] = set()
        for site in self.read.sites:
            node = site.node
            if isinstance(node, (ast.With, ast.AsyncWith)) and (call := raised_by(node)):
                handled.add(id(call))
            if isinstance(node, ast.Expr):
                handled |= {id(node.value), id(getattr(node.value, "func", None))}
        counted = {id(site.node) for site in sites}
        found: dict[int, ast.stmt] = {}
        for node in self.nodes:
            if self._may_check(node, handled, counted):
                statement = self._statement_of(node)
                if statement is not None and id(statement) not in counted:
                    found[id(statement)] = statement
        return list(found.values())

    def _may_check(self, node: ast.AST, handled: set[int], counted: set[int]) -> bool:
        if isinstance(node, ast.Call) and last_name(node) in _CHECKS:
            statement = self._statement_of(node)
            is_own = isinstance(statement, ast.Expr) and id(statement) not in counted
            return id(node) not in handled or is_own
        if isinstance(node, ast.Attribute) and node.attr.startswith("assert"):
            return isinstance(node.ctx, ast.Load) and id(node) not in handled
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value.startswith("assert") and node.value.isidentifier()
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and last_name(node) in _ENDS):
            return id(self._statement_of(node)) not in counted and self._is_decided(node)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Subscript):
            return not self.depends(node.value.value) and self.depends(node.value.slice)
        return False

    def _up(self, node: ast.AST | None) -> Iterator[ast.AST]:
        while node is not None:
            yield node
            node = self.parents.get(id(node))

    def _statement_of(self, node: ast.AST) -> ast.stmt | None:
        return next((each for each in self._up(node) if isinstance(each, ast.stmt)), None)

    def _is_decided(self, node: ast.AST) -> bool:
        """Returns True if the program's results decide whether the tests reach a statement."""
        decided = False
        for each in self._up(node):
            if isinstance(each, _DECISIONS):
                guard = each.subject if isinstance(each, ast.Match) else None
                guard = each.iter if isinstance(each, ast.For) else guard
                decided = decided or self.depends(guard or each.test)  # type: ignore[union-attr]
            if isinstance(each, FUNCTIONS):
                calls = id(each) in self.runners or self.calls_of.get(self._key_of(each))
                return decided and bool(calls)
            if isinstance(each, ast.Lambda):
                return False
        return decided
