"""Checks whether an operand of an assertion consists only of the program's results.

An operand is reported to the tests' process only if the tests' literals reach it only as arguments
of calls to the program. Otherwise code on the program side may have compared a result with the
expected value, and the report could be guessed: a flag, a count of failures, an empty difference.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from codegen.sandbox.protocol import words

from .reader import Binding
from .trees import (
    COMPARING,
    COMPREHENSIONS,
    FREE,
    FUNCTIONS,
    Key,
    children,
    is_setting,
    last_name,
    root_of,
    walk,
)

# Methods that compare a plain value with their arguments; called on the tests side if possible.
OUTER_METHODS = words(
    "startswith endswith issubset issuperset isdisjoint equals symmetric_difference removeprefix "
    "removesuffix"
)
_COMPARING_METHODS = OUTER_METHODS | words(
    "count find rfind index rindex replace partition rpartition strip lstrip rstrip translate "
    "difference intersection compare isin eq ne __eq__ __ne__ __contains__ __sub__ sub subtract "
    "is_relative_to"
)
# Modules whose functions may receive results and expected values, since they do not compare them.
_HARMLESS = words(
    "os pathlib tempfile shutil io time asyncio threading queue concurrent subprocess unittest "
    "json csv sqlite3 socket contextlib multiprocessing logging sys types pytest datetime "
    "collections"
)
_CHOICES = (ast.Compare, ast.BoolOp, ast.IfExp)
_BRANCHES = (ast.If, ast.While)
_SHOWING = (
    *(ast.Assign, ast.AnnAssign, ast.Return, ast.Yield, ast.JoinedStr, ast.keyword, ast.arguments),
    *(ast.Expr, ast.FormattedValue),
)
_ROWS = (ast.Tuple, ast.List)
_PARTS = (
    *(ast.Attribute, ast.Starred, ast.UnaryOp, ast.Await, ast.JoinedStr, ast.FormattedValue),
    *(ast.Slice, ast.keyword),
)


def is_telling(node: ast.AST) -> bool:
    """Returns True if a node is a literal that is hard to guess."""
    if not isinstance(node, ast.Constant) or isinstance(node.value, (bool, type(None))):
        return False
    value = node.value
    if isinstance(value, (str, bytes)):
        return len(value) >= 3
    if isinstance(value, (int, float)):
        return not 0 <= value <= 20 or value != int(value)
    return isinstance(value, complex)


def _is_choice(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        nothing = all(isinstance(n, ast.Constant) and n.value is None for n in node.comparators)
        return not nothing
    return isinstance(node, (ast.BoolOp, ast.IfExp)) and any(map(is_telling, walk(node)))


class Origins:
    """Follows operands through the variables, functions and fixtures of the tests.

    Args:
        split: the tests and their data flow.

    Attributes:
        mixed: variables, functions and classes that may contain results of comparisons.
    """

    def __init__(self, split: Any) -> None:
        self.split = split
        self.classes = {node.name: node for node in split.read.classes}
        self.mixed: set[Key] = set()
        while True:
            before = len(self.mixed)
            self._spread()
            if before == len(self.mixed):
                break

    def _spread(self) -> None:
        split, mixed = self.split, self.mixed
        for key, found in split.bindings_of.items():
            if key[0] == FREE or key in mixed or key in split.imported or key in split.functions:
                continue
            if key[1] in self.classes:
                fine = self._body(self.classes[key[1]])
            else:
                fine = self._is_bound_to_results(found) and self._uses(key)
            if not fine:
                mixed.add(key)
        for key, functions in split.functions.items():
            if not all(map(self._body, functions)):
                mixed.add(key)
        for key, fixtures in split.arguments.items():
            if not mixed.isdisjoint(fixtures) or not self._uses(key):
                mixed.add(key)

    def tells(self, node: ast.AST, depth: int = 0) -> bool:
        """Returns True if a value of the tests contains a literal that is hard to guess."""
        split = self.split
        if depth > 6:
            return True
        if (key := split.variable(node)) is not None:
            found = [v for v in split.bound_values(key) if v is not None]
            return any(self.tells(value, depth + 1) for value in found)
        return is_telling(node) or any(self.tells(child, depth) for child in children(node))

    def is_predicate(self, node: ast.AST) -> bool:
        """Returns True if the program receives a result and the value to compare it with."""
        given = _values(node) if isinstance(node, ast.Call) else []
        own = [value for value in given if not self.split.depends(value)]
        return len(own) < len(given) and any(map(self.tells, own))

    def is_made(self, node: ast.AST, is_argument: bool = False) -> bool:
        """Returns True if a value consists of results of, or changes by, calls to the program.

        Args:
            is_argument: True if the value is passed to the program; functions and classes may then
                do anything.
        """
        split = self.split
        if isinstance(node, _CHOICES):
            return not split.is_reported(node)
        if (key := split.variable(node)) is not None:
            is_code = key in split.functions or key[1] in self.classes
            return key not in self.mixed or (is_argument and is_code)
        if isinstance(node, ast.Call):
            return self._call(node, is_argument)
        if isinstance(node, ast.Subscript):
            if not split.depends(node.value):
                return not split.depends(node.slice)
            return self._all((node.value, node.slice))
        if isinstance(node, ast.BinOp):
            path = isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant)
            if path and isinstance(node.right.value, str):  # type: ignore[attr-defined]
                return self.is_made(node.left)
            both = split.depends(node.left) and split.depends(node.right)
            if isinstance(node.op, (ast.Sub, ast.BitXor)) and not both:
                return False
            return self._display((node.left, node.right))
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return self._display(node.elts, is_argument)
        if isinstance(node, ast.Dict):
            own_keys = not any(key is not None and split.depends(key) for key in node.keys)
            return own_keys and self._display(node.values, is_argument)
        if isinstance(node, COMPREHENSIONS):
            parts: list[ast.AST] = [each.iter for each in node.generators]
            parts += [test for each in node.generators for test in each.ifs]
            parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            return self._all(parts)
        if isinstance(node, ast.Lambda):
            return is_argument or not any(map(_is_choice, walk(node)))
        if isinstance(node, _PARTS):
            return self._all(children(node), is_argument)
        return not split.depends(node)

    def _all(self, nodes: Iterable[ast.AST], is_argument: bool = False) -> bool:
        """Returns True if all dependent nodes are the program's results."""
        split = self.split
        return all(self.is_made(node, is_argument) for node in nodes if split.is_reported(node))

    def _display(self, nodes: Iterable[ast.AST], is_argument: bool = False) -> bool:
        nodes = list(nodes)
        own = [node for node in nodes if not self.split.depends(node)]
        if not is_argument and len(own) < len(nodes) and any(map(self.tells, own)):
            return False
        return self._all(nodes, is_argument)

    def _is_bound_to_results(self, found: list[Binding]) -> bool:
        split = self.split
        base = [v for each in found if not each.is_change for v in each.values if v is not None]
        for each in found:
            if not all(map(self._guard, each.guards)):
                return False
            for value in filter(None, each.values):
                if any(map(_is_choice, walk(value))):
                    return False
                if (split.depends(value) or isinstance(value, ast.Lambda)) and not self.is_made(
                    value
                ):
                    return False
        told = any(not split.depends(v) and self.tells(v) for v in base)
        return not told or not any(
            any(isinstance(v, ast.AST) and split.depends(v) for v in (*each.values, *each.guards))
            for each in found
            if each.is_change
        )

    def _guard(self, guard: Any) -> bool:
        split = self.split
        if isinstance(guard, ast.AST):
            return not split.depends(guard) or self.is_made(guard)
        return guard is not None and guard[0] != "try"

    def _uses(self, key: Key) -> bool:
        return all(map(self._use, self.split.uses.get(key, ())))

    def _use(self, use: ast.AST) -> bool:
        """Returns True if only the program's results can change an object in this use."""
        split, parent = self.split, self.split.parents.get(id(use))
        while isinstance(parent, (ast.Attribute, ast.Subscript)) and parent.value is use:
            use, parent = parent, split.parents.get(id(parent))
        call = parent
        if not isinstance(call, ast.Call) or call.func is not use:
            return True
        if not self._all(_values(call), True):
            return False
        node: ast.AST | None = call
        while node is not None and not isinstance(node, FUNCTIONS):
            node = split.parents.get(id(node))
            if isinstance(node, _BRANCHES) and split.depends(node.test):
                if not self.is_made(node.test):
                    return False
            elif isinstance(node, (ast.Match, ast.ExceptHandler, ast.IfExp)):
                return False
        return True

    def _call(self, node: ast.Call, is_argument: bool) -> bool:
        split, values = self.split, _values(node)
        own = [v for v in values if not split.depends(v)]
        if split.depends(node.func):
            if not self.is_made(node.func, is_argument) or not self._all(values, True):
                return False
            if last_name(node) == "next" and len(values) > 1:
                return False
            if not any(map(self.tells, own)):
                return True
            if isinstance(node.func, ast.Attribute) and split.depends(node.func.value):
                compares = node.func.attr in _COMPARING_METHODS
                if compares and not split.is_object(node.func.value):
                    return False
            module = split.read.modules.get(getattr(root_of(node.func), "id", ""), "os")
            return module.split(".")[0] in _HARMLESS or len(own) == len(values)
        if not self._all(values):
            return False
        called = last_name(node)
        if called in COMPARING or called in ("all", "any", "hasattr", "callable"):
            return False
        if isinstance(node.func, ast.Name):
            key = split.variable(node.func)
            if key[0] != FREE and key not in split.imported:
                return False
        elif isinstance(node.func, ast.Attribute) and self.tells(node.func.value):
            return False
        if called == "getattr":
            return len(values) < 3
        if len(own) < len(values) and not all(map(is_setting, own)):
            return False
        return not any(self.tells(value) or self._compares(value) for value in own)

    def _compares(self, node: ast.AST) -> bool:
        code = [node] if isinstance(node, ast.Lambda) else []
        code += self.split.functions.get(self.split.variable(node), ())
        return any(_is_choice(each) for part in code for each in walk(part))

    def _body(self, node: Any) -> bool:
        """Returns True if a function or class of the tests makes no comparisons."""
        split = self.split

        def fine(each: ast.AST, is_shown: bool = False) -> bool:
            """Returns True if a node compares nothing; ``is_shown`` allows a literal value."""
            if _is_choice(each):
                return False
            if is_telling(each):
                return is_shown
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
                return split.variable(each) not in self.mixed.intersection(split.functions)
            given = isinstance(each, ast.Call) and split.depends(each.func)
            shown = given or isinstance(each, _SHOWING) or (is_shown and isinstance(each, _ROWS))
            return all(fine(child, shown) for child in children(each))

        parts = [part for part in node.body if not isinstance(part, ast.ExceptHandler)]
        return all(map(fine, parts))


def _values(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]
