"""Tells whether tests need only plain values and functions of the program."""

from __future__ import annotations

import ast

from .parts import Parts
from .trees import (
    FREE,
    IMPURE,
    IMPURE_ATTRIBUTES,
    MODULES,
    PURE_BUILTINS,
    RAISES,
    SELF,
    given_arguments,
    is_fixture_function,
    is_self,
    last_name,
    parameter_tables,
    raised_by,
)

# What tests may do with a value of the program, so that it need not be more than a plain one.
PLAIN_USES = frozenset(
    (
        *("abs", "all", "any", "float", "fabs", "int", "isclose", "isinstance", "len", "list"),
        *("map", "max", "min", "round", "set", "sorted", "sum", "tuple", "zip", "approx"),
    )
)
PLAIN_ERRORS = frozenset(
    (
        *("ArithmeticError", "AssertionError", "AttributeError", "BaseException", "Exception"),
        "IndexError",
        *("KeyError", "LookupError", "NameError", "NotImplementedError", "OverflowError"),
        *("RecursionError", "RuntimeError", "TypeError", "ValueError", "ZeroDivisionError"),
    )
)
PLAIN_VALUES = PLAIN_USES | {
    *("date", "datetime", "timedelta", "time", "Decimal", "Fraction", "dict", "range", "str"),
    *("array", "DataFrame", "Series", "deepcopy", "copy", "choice", "randint", "random", "chr"),
    *("encode", "format", "join", "lower", "replace", "split", "strip", "upper"),
}
CHANGEABLE = frozenset(("array", "DataFrame", "Series"))  # in place, which is not sent back
PLAIN_MODULES = MODULES | {"random", "time", "warnings", "heapq", "typing"}
OPERATIONS = (ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Assert, ast.List, ast.Tuple)
NEVER = (ast.AsyncFunctionDef, ast.Await, ast.AsyncWith, ast.AsyncFor, ast.Global, ast.Nonlocal)


class Plainness:
    """Whether tests need only plain values and functions of the program."""

    def __init__(self, split: Parts) -> None:
        self.split = split
        used = [node for node, _, _ in split.read.named if isinstance(node, ast.Name)]
        free = {node.id for node in used if split.key_of(node)[0] == FREE}
        self.program = (free - PURE_BUILTINS - IMPURE) | {split.read.entry_point} - {""}
        split.settle(frozenset(self.program | {"\0"}))
        self.candidates = {
            (split.read.owner[id(node)], argument.arg)
            for node in split.read.functions.get(0, ())
            if node.name == "check" and split.read.entry_point
            for argument in node.args.args[:1]
        }
        for _ in range(3):  # functions of the tests that call what they are given
            for call in split.read.calls:
                key = split.key_of(call.func) if isinstance(call.func, ast.Name) else None
                for function in split.functions.get(key, ()) if key else ():
                    scope = split.read.owner[id(function)]
                    given = given_arguments(function, call)
                    self.candidates |= {
                        (scope, n) for n, v in given if v and self._is_program_function(v)
                    }
        split.settle(frozenset(self.program | {"\0"}), self.candidates)
        handlers = [n for n in ast.walk(split.tree) if isinstance(n, ast.ExceptHandler)]
        self.errors = {handler.name for handler in handlers if handler.name}
        self.parents = {
            id(child): node for node in ast.walk(split.tree) for child in ast.iter_child_nodes(node)
        }

    def _is_program_function(self, node: ast.AST) -> bool:
        """Whether it is a global name of the program, or an argument that is one."""
        key = self.split.key_of(node) if isinstance(node, ast.Name) else (SELF, "")
        return (key[0] == FREE and key[1] in self.program) or key in self.candidates

    def holds(self) -> bool:
        """True if no statement needs more."""
        return all(map(self._is_plain, ast.walk(self.split.tree)))

    def _is_plain(self, node: ast.AST) -> bool:
        split = self.split
        if isinstance(node, NEVER):
            return False
        if isinstance(node, ast.Import):
            return node.names[0].name in PLAIN_MODULES
        if isinstance(node, ast.ImportFrom):
            return node.module in PLAIN_MODULES
        if isinstance(node, ast.ClassDef):
            return split.has_tests(node) and not any(map(split.depends, node.bases))
        if isinstance(node, ast.FunctionDef):
            return self._is_plain_function(node)
        if isinstance(node, ast.With):
            call = raised_by(node)
            alone = call is not None and node.items[0].optional_vars is None
            return (alone and self._is_plain_error(call.args[0])) or (  # type: ignore[union-attr]
                last_name(node.items[0].context_expr) == "subTest"
            )
        if isinstance(node, ast.ExceptHandler):
            return node.type is None or self._is_plain_error(node.type)
        if isinstance(node, ast.Attribute):
            if is_self(node):
                return True
            if node.attr == "__name__" and last_name(node.value) == "type":
                return True
            stored = not isinstance(node.ctx, ast.Load)
            return (
                not stored
                and node.attr not in IMPURE_ATTRIBUTES - {"random", "seed"}
                and not split.depends(node.value)
            )
        if isinstance(node, ast.Call) and last_name(node) in RAISES and is_self(node.func):
            return bool(node.args) and self._is_plain_error(node.args[0])
        if isinstance(node, ast.Call) and split.depends(node.func):
            given = [*node.args, *(k.value for k in node.keywords)]
            is_own = self._is_own_call(node)
            return not any(
                self._is_rich(value) and not (is_own and self._is_program_function(value))
                for value in given
            )
        if isinstance(node, ast.Compare):
            called = [split.depends(part) for part in (node.left, *node.comparators)]
            identity = any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
            plain = not identity or any(isinstance(part, ast.Constant) for part in node.comparators)
            return plain and not all(called)
        if isinstance(node, ast.BinOp) and split.depends(node.left) and split.depends(node.right):
            return False
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in IMPURE - {"print"}:
                return False
            if node.id in self.errors:
                shown = self.parents[id(node)]
                return isinstance(shown, ast.FormattedValue) or last_name(shown) in ("str", "type")
            return not split.depends(node) or self._is_plain_use(node)
        return True

    def _is_plain_function(self, node: ast.FunctionDef) -> bool:
        if any(map(self.split.depends, node.decorator_list)) or is_fixture_function(node):
            return False
        if id(node) not in self.split.runners or node.name == "check":
            return True
        return not parameter_tables(node) and all(a.arg in ("self", "cls") for a in node.args.args)

    def _is_plain_error(self, node: ast.AST) -> bool:
        kinds = node.elts if isinstance(node, ast.Tuple) else [node]
        return all(isinstance(k, ast.Name) and k.id in PLAIN_ERRORS for k in kinds)

    def _is_plain_use(self, node: ast.Name) -> bool:
        key, parent = self.split.key_of(node), self.parents[id(node)]
        user = self.parents.get(id(parent))
        if key in self.split.functions:
            return isinstance(parent, ast.Call) and parent.func is node
        if self._is_program_function(node):
            if not isinstance(parent, ast.Call):
                return False
            if parent.func is not node:
                return self._is_own_call(parent) or last_name(parent) in ("map", "check")
            if node.id[:1].isupper():
                return isinstance(user, ast.Compare) and isinstance(user.ops[0], ast.Eq)
            if isinstance(user, ast.Call) and parent is not user.func:
                called = last_name(user)
                known = called in PLAIN_USES or called.startswith("assert")
                return known or self._is_own_call(user) or self.split.depends(user.func)
            return not isinstance(user, ast.Call)
        if isinstance(parent, ast.Call):
            is_checked = self._is_own_call(parent) or last_name(parent).startswith("assert")
            return parent.func is not node and is_checked
        return isinstance(parent, (*OPERATIONS, ast.FormattedValue))

    def _is_own_call(self, node: ast.Call) -> bool:
        """Whether it calls a function of the tests."""
        return (
            isinstance(node.func, ast.Name) and self.split.key_of(node.func) in self.split.functions
        )

    def _is_rich(self, node: ast.AST) -> bool:
        """Whether an argument is more than a plain value."""
        split = self.split
        if isinstance(node, (ast.Lambda, ast.GeneratorExp)):
            return True
        if isinstance(node, ast.Name):
            key = split.key_of(node)
            if key[0] == FREE or key in split.functions or key in split.imported:
                return True
            found = split.bound_values(key)
            calls = [value for value in found if isinstance(value, ast.Call)]
            changes = key in split.touched and len(split.uses.get(key, ())) > 1
            return any(
                self._is_rich(call) or (changes and last_name(call) in CHANGEABLE) for call in calls
            )
        if isinstance(node, ast.Attribute):
            return not is_self(node) or (SELF, node.attr) in split.functions
        if isinstance(node, ast.Call) and not split.depends(node.func):
            own = isinstance(node.func, ast.Name) and split.key_of(node.func) in split.functions
            known = own or last_name(node) in PLAIN_VALUES
            values = [value for value in node.args if not isinstance(value, ast.GeneratorExp)]
            return not known or any(map(self._is_rich, values))
        if isinstance(node, (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred)):
            return any(map(self._is_rich, ast.iter_child_nodes(node)))
        return False
