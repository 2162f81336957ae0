"""Checks whether tests need only plain values and functions of the program."""

from __future__ import annotations

import ast

from codegen.sandbox.protocol import words

from .flow import Flow
from .trees import (
    FREE,
    IMPURE,
    IMPURE_ATTRIBUTES,
    MODULES,
    PURE_BUILTINS,
    RAISES,
    Key,
    children,
    given_arguments,
    is_fixture_function,
    is_self,
    last_name,
    parameter_tables,
    raised_by,
    walk,
)

# Operations that tests may apply to plain values of the program.
PLAIN_USES = words(
    "abs all any float fabs int isclose isinstance len list max min round set sorted str sum tuple "
    "type zip"
)
PLAIN_ERRORS = words(
    "ArithmeticError AssertionError AttributeError BaseException Exception IndexError KeyError "
    "LookupError NameError NotImplementedError OverflowError RecursionError RuntimeError TypeError "
    "ValueError ZeroDivisionError"
)
PLAIN_VALUES = PLAIN_USES | words(
    "date datetime timedelta time Decimal Fraction dict range deepcopy copy choice randint random "
    "chr encode format join lower replace split strip upper"
)
# Without array modules, whose comparisons are true for an empty result.
PLAIN_MODULES = (MODULES | words("random time warnings")) - words("numpy pandas pytest")
OPERATIONS = (ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Assert, ast.List, ast.Tuple)
HOLDERS = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred, ast.Subscript, ast.IfExp)
NEVER = (ast.AsyncFunctionDef, ast.Await, ast.AsyncWith, ast.AsyncFor, ast.Global, ast.Nonlocal)


class Plainness:
    """Checks whether tests need only plain values and functions of the program.

    Args:
        split: the tests, after a call of :meth:`Flow.find_dependent`.
    """

    def __init__(self, split: Flow) -> None:
        self.split = split
        self.entry_point = split.read.entry_point
        self.made: set[Key] = set()  # variables and functions of the tests that use the program
        self.given = {  # arguments that are functions of the program
            (split.read.owner[id(node)], argument.arg)
            for node in split.read.functions.get(0, ())
            if node.name == "check" and self.entry_point
            for argument in node.args.args[:1]
        }
        handlers = [n for n in split.nodes if isinstance(n, ast.ExceptHandler)]
        self.errors = {handler.name for handler in handlers if handler.name}
        while True:
            before = len(self.made)
            self._spread()
            if before == len(self.made):
                break

    def _spread(self) -> None:
        split = self.split
        for each in split.bindings:
            if any(value is not None and self._uses(value) for value in each.values):
                self.made.add(each.key)
        for key, functions in split.functions.items():
            if any(self._uses(part) for node in functions for part in node.body):
                self.made.add(key)
        for key, node in [(k, n) for k in self.made for n in split.functions.get(k, ())]:
            scope = split.read.owner[id(node)]
            for call in split.calls_of.get(key, ()):
                for name, value in given_arguments(node, call):
                    if self._uses(value):
                        self.made.add((scope, name))

    def _is_program_function(self, node: ast.AST) -> bool:
        """Returns True if a node is a global name of the program or an argument with that value."""
        if not isinstance(node, ast.Name):
            return False
        key = self.split.key_of(node)
        is_free = key[0] == FREE and (
            node.id not in PURE_BUILTINS | IMPURE or node.id == self.entry_point
        )
        return is_free or key in self.given

    def _uses(self, node: ast.AST) -> bool:
        """Returns True if a value of the program occurs in an expression or statement."""
        return any(
            self._is_program_function(each) or self.split.variable(each) in self.made
            for each in walk(node)
            if isinstance(getattr(each, "ctx", None), ast.Load)
        )

    def holds(self) -> bool:
        """Returns True if plain values and functions are sufficient."""
        return all(map(self._is_plain, self.split.nodes))

    def _is_plain(self, node: ast.AST) -> bool:
        split = self.split
        if isinstance(node, NEVER):
            return False
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            return name in PLAIN_MODULES
        if isinstance(node, ast.ClassDef):
            return split.has_tests(node) and not any(map(self._uses, node.bases))
        if isinstance(node, ast.FunctionDef):
            return self._is_plain_function(node)
        if isinstance(node, ast.Lambda):
            return not self._uses(node)  # see _is_plain_use
        if isinstance(node, ast.With):
            call = raised_by(node)
            if call is not None and node.items[0].optional_vars is None:
                return _is_plain_error(call.args[0])
            return last_name(node.items[0].context_expr) == "subTest"
        if isinstance(node, ast.ExceptHandler):
            return node.type is None or _is_plain_error(node.type)
        if isinstance(node, ast.Attribute):
            if is_self(node):
                return split.variable(node) not in split.functions or self._is_called(node)
            is_read = isinstance(node.ctx, ast.Load) and not self._uses(node.value)
            return is_read and node.attr not in IMPURE_ATTRIBUTES - {"random", "seed"}
        if isinstance(node, ast.Call) and last_name(node) in RAISES and is_self(node.func):
            return bool(node.args) and _is_plain_error(node.args[0])
        if isinstance(node, ast.Call) and self._uses(node.func):
            given = [*node.args, *(k.value for k in node.keywords)]
            is_mixed = len({self._uses(value) for value in given}) > 1  # could be compared
            return not is_mixed and all(map(self._is_plain_value, given))
        if isinstance(node, ast.Compare):
            parts, parent = [node.left, *node.comparators], split.parents[id(node)]
            identity = any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
            plain = not identity or any(isinstance(part, ast.Constant) for part in parts[1:])
            is_alone = not isinstance(parent, ast.Call) or is_self(parent.func)
            return plain and is_alone and not all(map(self._uses, parts))
        if isinstance(node, ast.BinOp):
            return not (self._uses(node.left) and self._uses(node.right))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in self.errors:  # an exception may only be displayed
                user = split.parents[id(node)]
                return isinstance(user, ast.FormattedValue) or last_name(user) in ("str", "type")
            return node.id not in IMPURE - {"print"} and (
                not self._uses(node) or self._is_plain_use(node)
            )
        return True

    def _is_plain_function(self, node: ast.FunctionDef) -> bool:
        if any(map(self._uses, node.decorator_list)) or is_fixture_function(node):
            return False
        if id(node) not in self.split.runners or node.name == "check":
            return True
        return not parameter_tables(node) and all(a.arg in ("self", "cls") for a in node.args.args)

    def _is_called(self, node: ast.AST) -> bool:
        parent = self.split.parents[id(node)]
        return isinstance(parent, ast.Call) and parent.func is node

    def _is_plain_use(self, node: ast.Name) -> bool:
        """Returns True if a function of the program is only called, and its results compared.

        Other code that calls it, such as ``map``, may treat an exception as the end of a loop.
        """
        parent = self.split.parents[id(node)]
        if self.split.key_of(node) in self.split.functions:
            return self._is_called(node)
        if not self._is_program_function(node):
            if isinstance(parent, ast.Call):
                is_checked = self._is_own_call(parent) or last_name(parent).startswith("assert")
                return not self._is_called(node) and is_checked
            return isinstance(parent, OPERATIONS)
        if not self._is_called(node):
            return isinstance(parent, ast.Call) and last_name(parent) == "check"
        user = self.split.parents[id(parent)]
        if not isinstance(user, ast.Call):
            return isinstance(user, ast.Compare) or not node.id[:1].isupper()
        known = last_name(user) in PLAIN_USES or last_name(user).startswith("assert")
        return parent is not user.func and (known or self._is_own_call(user) or self._uses(user))

    def _is_own_call(self, node: ast.Call) -> bool:
        """Returns True if a node calls a function of the tests."""
        return isinstance(node.func, ast.Name) and (
            self.split.key_of(node.func) in self.split.functions
        )

    def _is_plain_value(self, node: ast.AST) -> bool:
        """Returns True if an argument is a plain value whose in-place changes stay hidden."""
        split = self.split
        if isinstance(node, (ast.Lambda, ast.GeneratorExp, ast.Attribute)) and not is_self(node):
            return False
        if (key := split.variable(node)) is not None:
            if key[0] == FREE or key in split.functions or key in split.imported:
                return False
            return split.is_immutable(node) or not self._is_shared(node, key)
        if isinstance(node, ast.Call) and not self._uses(node.func):
            known = self._is_own_call(node) or last_name(node) in PLAIN_VALUES
            return known and (
                last_name(node) == "deepcopy" or all(map(self._is_plain_value, node.args))
            )
        if isinstance(node, HOLDERS):
            values = [n for n in children(node) if isinstance(n, ast.expr)]
            return all(map(self._is_plain_value, values))
        return True

    def _is_shared(self, node: ast.AST, key: Key) -> bool:
        """Returns True if the tests could observe a change to a variable, since it is read later or
        shares objects with other variables.
        """
        split = self.split
        others = [use for use in split.uses.get(key, ()) if use is not node]
        values = [value for value in split.bound_values(key) if value is not None]
        parts = [part for part, (scope, _) in split.variables_in(values) if scope != FREE]
        return any(_place(use) > _place(node) for use in others) or any(
            part in values or isinstance(split.parents[id(part)], (*HOLDERS, ast.Assign))
            for part in (*others, *parts)
        )


def _place(node: ast.AST) -> tuple[int, int]:
    return node.lineno, node.col_offset  # type: ignore[attr-defined]


def _is_plain_error(node: ast.AST) -> bool:
    kinds = node.elts if isinstance(node, ast.Tuple) else [node]
    return all(isinstance(k, ast.Name) and k.id in PLAIN_ERRORS for k in kinds)
