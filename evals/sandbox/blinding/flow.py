"""Tells what depends on the program."""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Iterable, Iterator
from typing import Any

from .reader import Binding, Reader
from .trees import (
    FAILURES,
    FLAGS,
    FREE,
    IMMUTABLE,
    IMPURE,
    IMPURE_ATTRIBUTES,
    MAYBE,
    PURE_BUILTINS,
    RETURNS,
    SELF,
    SET_UP,
    Key,
    default_arguments,
    elements_of,
    given_arguments,
    is_fixture,
    is_fixture_function,
    is_self,
    last_name,
    last_names,
    may_fail,
    parameter_tables,
    root_of,
    targets_of,
)


class Flow:
    """The data flow of one module of tests."""

    def __init__(self, tree: ast.Module, lines: list[str], entry_point: str) -> None:
        self.tree, self.lines = tree, lines
        self.columns: dict[int, list[str]] = {}  # names by the table that they are bound to
        self.read = read = Reader(tree, entry_point)
        self.keys = {id(node): self.key(scope, name) for node, scope, name in read.named}
        self.functions: dict[Key, list[Any]] = {}
        for scope, nodes in read.functions.items():
            is_class = read.scopes[scope].is_class
            for node in nodes:
                key = (SELF, node.name) if is_class else (scope, node.name)
                self.functions.setdefault(key, []).append(node)
        self.bindings = [self._binding(*each) for each in read.bound]
        for index, scope in enumerate(read.scopes):
            if scope.is_class:  # attributes of the class are read by way of self, too
                self.bindings += [
                    Binding((SELF, key[1]), values, guards)
                    for key, values, guards, _ in self.bindings
                    if key[0] == index
                ]
        self.bindings_of: dict[Key, list[Binding]] = {}
        for each in self.bindings:
            self.bindings_of.setdefault(each.key, []).append(each)
        self.known = self.bindings_of.keys()
        self.runners = {id(node) for node in self._runners()}
        self.called = {id(call.func) for call in read.calls}
        self.calls_of: dict[Key, list[ast.Call]] = {}  # of functions of the tests
        for call in read.calls:
            if (key := self.called_key(call)) in self.functions:
                self.calls_of.setdefault(key, []).append(call)
        self.uses: dict[Key, list[ast.AST]] = {}
        for node, _, _ in read.named:
            if isinstance(getattr(node, "ctx", None), ast.Load):
                self.uses.setdefault(self.key_of(node), []).append(node)
        for node in read.attributes:
            self.uses.setdefault((SELF, node.attr), []).append(node)

    # What depends on the program.

    def key(self, scope: int, name: str) -> Key:
        """The variable that a name means in a scope."""
        first = True
        while scope != FREE:
            found = self.read.scopes[scope]
            if name in found.outer:
                return 0, name
            own = name in found.names and name not in found.nonlocals
            if own and (first or not found.is_class):
                return scope, name
            scope, first = found.parent, False
        return FREE, name

    def key_of(self, node: Any) -> Key:
        """The variable that a name means."""
        return self.keys.get(id(node), (FREE, node.id))

    def _binding(self, scope: int, name: str, values: Any, guards: Any) -> Binding:
        plain = name.lstrip("=")
        key = (SELF, plain) if scope == SELF else self.key(scope, plain)
        return Binding(key, values, guards, plain != name)

    def variable(self, node: Any) -> Key:
        """The variable that a name, or an attribute of ``self``, means."""
        return (SELF, node.attr) if is_self(node) else self.key_of(node)

    def bound_values(self, key: Key | None) -> list[ast.AST | None]:
        """What a variable is bound to, not what changes its value."""
        found = self.bindings_of.get(key, ()) if key else ()
        return [value for each in found if not each.is_change for value in each.values]

    def _runners(self) -> Iterator[Any]:
        """Functions that the runner of the tests calls."""
        for node in self.read.functions.get(0, ()):
            is_check = node.name == "check" and self.read.entry_point
            if node.name.startswith("test") or is_check:
                yield node
        for node in self.test_classes:
            for each in self.read.functions.get(self.read.owner[id(node)], ()):
                if each.name.startswith("test") or each.name in SET_UP:
                    yield each

    @functools.cached_property
    def test_classes(self) -> list[ast.ClassDef]:
        """Classes of tests, and those that they derive from."""
        own = {node.name: node for node in self.read.classes}

        def ancestors(node: ast.ClassDef, depth: int = 0) -> Iterator[ast.ClassDef]:
            yield node
            for base in node.bases:
                found = own.get(base.id) if isinstance(base, ast.Name) else None
                if found is not None and found is not node and depth < 8:
                    yield from ancestors(found, depth + 1)

        made: dict[int, ast.ClassDef] = {}
        for node in self.read.classes:
            line = list(ancestors(node))
            bases = [base for each in line for base in each.bases]
            others = [base for base in bases if last_name(base) not in {*own, "object"}]
            is_case = any(last_name(base).endswith("TestCase") for base in bases)
            if is_case or (node.name.startswith("Test") and not others):
                made |= {id(each): each for each in line}
        return list(made.values())

    def settle(self, roots: frozenset[str], dependent: Iterable[Key] = ()) -> None:
        """Finds what depends on the program, to a fixed point.

        Args:
            roots: free names that depend on it; empty for all that are not known to be pure.
            dependent: variables that do.
        """
        self.roots = roots
        self.dependent = set(dependent)
        self.touched: set[Key] = set()
        every = [node for nodes in self.functions.values() for node in nodes]
        self.arguments: dict[Key, list[Any]] = {}  # what parameters may be, fixtures as functions
        self.pure = {id(node) for node in every} - self.runners
        self.live = {id(node) for node in every}
        self.memo: dict[int, bool] = {}
        while True:
            before = len(self.dependent), len(self.pure), len(self.live), len(self.touched)
            self._pass(every)
            self.memo.clear()
            if before == (
                *(len(self.dependent), len(self.pure), len(self.live)),
                len(self.touched),
            ):
                break

    def _pass(self, every: list[Any]) -> None:
        for key, values, guards, _ in self.bindings:
            if key not in self.dependent and key[0] != FREE:
                uncertain = not self.controlled(guards) or (MAYBE in guards and not self.roots)
                if uncertain or any(map(self.depends, values)):
                    self.dependent.add(key)
            if any(isinstance(v, ast.Name) and self.key_of(v) in self.touched for v in values):
                self.touched.add(key)
            if any(isinstance(v, FLAGS) and self.reads_touched(v) for v in values):
                self.dependent.add(key)
        for node in every:
            if id(node) in self.pure and not self._is_pure(node):
                self.pure.discard(id(node))
            if id(node) in self.live and not self._is_live(node):
                self.live.discard(id(node))
            if id(node) not in self.pure or is_fixture_function(node):
                self._bind_parameters(node)
        for call in self.read.calls:
            if self.depends(call.func) and not self._helper(call):
                for value in (*call.args, *(k.value for k in call.keywords)):
                    self._touch(value)

    def _touch(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            if self.key_of(node)[0] != FREE and not self._is_immutable(node):
                self.touched.add(self.key_of(node))
        elif is_self(node):
            self.touched.add((SELF, node.attr))  # type: ignore[attr-defined]
        elif isinstance(
            node, (ast.Tuple, ast.List, ast.Dict, ast.Starred, ast.Attribute, ast.Subscript)
        ):
            for child in ast.iter_child_nodes(node):
                self._touch(child)

    def _is_immutable(self, node: ast.AST | None, depth: int = 0) -> bool:
        def all_of(nodes: Iterable[ast.AST | None]) -> bool:
            return depth < 8 and all(self._is_immutable(each, depth + 1) for each in nodes)

        if isinstance(node, (ast.Constant, ast.JoinedStr)):
            return True
        if isinstance(node, (ast.UnaryOp, ast.BinOp, ast.Tuple, ast.IfExp)):
            return all_of(n for n in ast.iter_child_nodes(node) if isinstance(n, ast.expr))
        if isinstance(node, ast.Call):
            return last_name(node) in IMMUTABLE
        if isinstance(node, ast.Name):
            key = self.key_of(node)
            found = [*self.bound_values(key), *self.arguments.get(key, ())]
            known = bool(found) or (key in self.known and key not in self.dependent)
            return known and all(
                all_of(self._items(v) if self._is_loop(key, v) else [v]) for v in found
            )
        return False

    def _items(self, node: ast.AST | None) -> list[ast.AST | None]:
        """What a loop over an expression binds, as far as it is a literal."""
        if isinstance(node, ast.Name) or (node is not None and is_self(node)):
            found = self.bound_values(self.variable(node))
            return self._items(found[0]) if len(found) == 1 else [None]
        if isinstance(node, ast.Call) and last_name(node) == "items" and not node.args:
            node = node.func.value  # type: ignore[attr-defined]
            if isinstance(node, ast.Name):
                found = self.bound_values(self.key_of(node))
                node = found[0] if len(found) == 1 else None
            return [*node.keys, *node.values] if isinstance(node, ast.Dict) else [None]
        return elements_of(node)

    def _is_loop(self, key: Key, value: ast.AST | None) -> bool:
        return id(value) in self.loops.get(key, ())

    def _bound_by(self, node: ast.AST) -> set[Key]:
        targets: list[ast.AST] = []
        if isinstance(node, ast.Assign):
            targets = node.targets  # type: ignore[assignment]
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For)):
            targets = [node.target]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            scope = self.scope_of.get(id(node), 0)
            names = [a.asname or a.name.split(".")[0] for a in node.names]
            return {self.key(scope, name) for name in names}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            targets = [node.value.func]
        elif isinstance(node, ast.Delete):
            targets = node.targets  # type: ignore[assignment]
        found: set[Key] = set()
        for target in targets:
            for item in targets_of(target):
                root = item if is_self(item) else root_of(item)
                if isinstance(root, ast.Name):
                    found.add(self.key_of(root))
                elif is_self(root):
                    found.add((SELF, root.attr))  # type: ignore[attr-defined]
        in_class = {
            name for scope, name in found if scope >= 0 and self.read.scopes[scope].is_class
        }
        return found | {(SELF, name) for name in in_class}

    @functools.cached_property
    def scope_of(self) -> dict[int, int]:
        """The scopes of import statements."""
        found: dict[int, int] = {}

        def look(node: ast.AST, scope: int) -> None:
            for child in ast.iter_child_nodes(node):
                found[id(child)] = scope
                look(child, self.read.owner.get(id(child), scope))

        look(self.tree, 0)
        return found

    @functools.cached_property
    def imported(self) -> set[Key]:
        """The names that imports bind."""
        kinds = (ast.Import, ast.ImportFrom)
        found = [node for node in ast.walk(self.tree) if isinstance(node, kinds)]
        return {key for node in found for key in self._bound_by(node)}

    @functools.cached_property
    def loops(self) -> dict[Key, set[int]]:
        """The iterables of loops by the names that they bind."""
        found: dict[Key, set[int]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.For, ast.comprehension)):
                for target in targets_of(node.target):
                    if isinstance(target, ast.Name):
                        found.setdefault(self.key_of(target), set()).add(id(node.iter))
                self.columns[id(node.iter)] = [
                    getattr(t, "id", "") for t in targets_of(node.target)
                ]
        return found

    def depends(self, node: ast.AST | None) -> bool:
        """Whether a value depends on the program."""
        if node is None:
            return not self.roots
        found = self.memo.get(id(node))
        if found is None:
            found = self.memo[id(node)] = self._depends(node)
        return found

    def _depends(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return isinstance(node.ctx, ast.Load) and self._name_depends(
                self.keys.get(id(node), (FREE, node.id))
            )
        if is_self(node):
            key = (SELF, node.attr)  # type: ignore[attr-defined]
            return key in self.dependent or (key not in self.known and self._name_depends(key))
        if not self.roots:
            if isinstance(node, ast.Attribute) and node.attr in IMPURE_ATTRIBUTES:
                return True
            if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom)):
                return True
        return any(map(self.depends, ast.iter_child_nodes(node)))

    def _name_depends(self, key: Key) -> bool:
        if key[0] == FREE:
            return key[1] in self.roots if self.roots else key[1] not in PURE_BUILTINS
        if key in self.functions:
            return any(id(node) not in self.pure for node in self.functions[key])
        return key in self.dependent or (key[0] == SELF and not self.roots)

    def _is_pure(self, node: Any) -> bool:
        own = self.read.owner[id(node)]
        for each in ast.walk(node):
            if isinstance(each, (ast.Global, ast.Nonlocal, ast.Yield, ast.Await, ast.AsyncFor)):
                return False
        for key, _, guards, _ in self.bindings:
            if key[0] < own and any(g[1] is node for g in guards if type(g) is tuple):
                return False
        decorators = [d for d in node.decorator_list if not is_fixture(d)]
        if self._gets_functions(node):
            return False
        fails = any(isinstance(each, FAILURES) for each in ast.walk(node))
        uses = self.uses.get(self._key_of(node), ())
        if fails and any(id(use) not in self.called for use in uses):
            return False  # others may call it
        return not decorators and not any(map(self.depends, node.body))

    def _gets_functions(self, node: Any) -> bool:
        """Whether a call gives it a function of the program."""
        calls = self.calls_of.get(self._key_of(node), ())
        given = [a for call in calls for _, a in given_arguments(node, call)]
        return any(
            isinstance(a, ast.Name) and self.key_of(a)[0] == FREE and self.depends(a) for a in given
        )

    def _is_live(self, node: Any) -> bool:
        """Whether it is called outside, too, whenever it is called inside."""
        if id(node) in self.pure:
            return True
        if may_fail(node):
            return False
        if self.has_many or any(map(self._repeats, node.decorator_list)):
            return False
        if any(k.arg == "indirect" for *_, call in parameter_tables(node) for k in call.keywords):
            return False
        key = self._key_of(node)
        direct = [use for use in self.uses.get(key, ()) if id(use) in self.read.direct]
        if len(direct) != len(self.uses.get(key, ())):
            return False
        if id(node) in self.runners:
            return True
        for call in self.calls_of.get(key, ()):
            guards = self.read.statements.get(id(call))
            if guards is None or not self.controlled(guards):
                return False
        return bool(direct) and not node.decorator_list and node.args.vararg is None

    def _repeats(self, node: ast.AST) -> bool:
        """Whether a decorator may call a test more than once, or not at all."""
        names = {last_name(each) for each in ast.walk(node)}
        return self.depends(node) and "patch" not in names and not is_fixture(node)

    @property
    def has_many(self) -> bool:
        """Whether something runs the tests of all functions or classes more often than once."""
        kinds = [d for node in self.read.classes for d in node.decorator_list]
        if any(map(self._repeats, kinds)) or "parametrize" in last_names(kinds):
            return True
        return (0, "pytestmark") in self.known or any(
            isinstance(d, ast.Call) and is_fixture(d) and any(k.arg == "params" for k in d.keywords)
            for nodes in self.functions.values()
            for node in nodes
            for d in node.decorator_list
        )

    def _key_of(self, node: Any) -> Key:
        scope = self.read.place[id(node)]
        return (SELF if self.read.scopes[scope].is_class else scope), node.name

    def called_key(self, call: ast.Call) -> Key:
        """The variable that a call calls."""
        if isinstance(call.func, ast.Name):
            return self.key_of(call.func)
        if is_self(call.func):
            return SELF, call.func.attr  # type: ignore[attr-defined]
        return FREE, ""

    def _helper(self, call: ast.Call) -> Any:
        """The function of the tests that a call calls, in both parts."""
        found = self.functions.get(self.called_key(call), [])
        if len(found) == 1 and id(found[0]) in self.live and id(found[0]) not in self.pure:
            return found[0]
        return None

    def _bind_parameters(self, node: Any) -> None:
        """Parameters depend on the program unless all calls give them values that do not."""
        scope = self.read.owner[id(node)]
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        given: dict[str, list[ast.AST | None]] = {}
        if id(node) in self.runners or is_fixture_function(node):
            for names, table, _ in parameter_tables(node):
                given |= {name: [table] for name in names}
                self.columns[id(table)] = names
                for name in names:
                    self.loops.setdefault((scope, name), set()).add(id(table))
            for name in (a.arg for a in arguments):
                fixture = [f for f in self.functions.get((0, name), ()) if is_fixture_function(f)]
                if fixture and name not in given:
                    self.arguments[scope, name] = fixture
                if fixture and id(fixture[0]) in self.pure and name not in given:
                    given[name] = []
        elif id(node) in self.live:
            for call in self.calls_of.get(self._key_of(node), ()):
                if self._helper(call) is node:
                    for name, value in given_arguments(node, call):
                        given.setdefault(name, []).append(value)
            for argument, value in default_arguments(node):
                given.setdefault(argument, []).append(value)
        for argument in arguments:
            key = scope, argument.arg
            if argument.arg in ("self", "cls"):
                continue
            values = given.get(argument.arg, [None])
            if found := [value for value in values if value is not None]:
                self.arguments[key] = found
            if any(map(self.depends, values)):
                self.dependent.add(key)
            if any(isinstance(v, ast.Name) and self.key_of(v) in self.touched for v in values):
                self.touched.add(key)

    def controlled(self, guards: tuple[Any, ...]) -> bool:
        """Whether the tests alone decide that a statement is reached."""
        return all(map(self.is_controlled, guards))

    def is_controlled(self, guard: Any) -> bool:
        if guard is None:
            return bool(self.roots)
        if not isinstance(guard, tuple):
            return not self.depends(guard)
        kind, node = guard
        if kind == "maybe":
            return True
        if kind == "raises":
            return bool(self.roots)
        if kind == "function":
            return not isinstance(node, ast.Lambda) and id(node) in self.live
        rest = [*node.handlers, *node.orelse]
        safe = all(isinstance(each, ast.Assert) or not self.depends(each) for each in node.body)
        return safe and not any(
            isinstance(each, FAILURES) or self.depends(each)
            for part in rest
            for each in ast.walk(part)
        )

    def _is_from_program(self, node: ast.AST, depth: int = 0) -> bool:
        """Whether a value is what a function or an object of the program returns."""
        root = root_of(node)
        key: Key | None = None
        if isinstance(root, ast.Name):
            key = self.keys.get(id(root), (FREE, root.id))
        elif is_self(root):
            key = (SELF, root.attr)  # type: ignore[attr-defined]
        if key is None or key in self.functions:
            return isinstance(root, ast.Await) and self._is_from_program(root.value, depth + 1)
        if key[0] == FREE:
            pure = key[1] in PURE_BUILTINS and isinstance(node, ast.Call) and bool(node.args)
            return self._is_from_program(node.args[0], depth + 1) if pure else key[1] not in IMPURE  # type: ignore[attr-defined]
        if self._is_candidate(key):
            return True
        found = self.bound_values(key)
        if not found and key in self.dependent:  # an argument that a fixture gives
            fixtures = [f for f in self.functions.get((0, key[1]), ()) if is_fixture_function(f)]
            returns = [n for f in fixtures for n in ast.walk(f) if isinstance(n, RETURNS)]
            found = [each.value for each in returns]
        return (
            depth < 4
            and bool(found)
            and all(
                value is not None and self._is_from_program(value, depth + 1) for value in found
            )
        )

    def _is_candidate(self, key: Key) -> bool:
        checks = [n for n in self.read.functions.get(0, ()) if n.name == "check"]
        return any(key[0] == self.read.owner[id(node)] for node in checks) and key not in self.known

    @functools.cached_property
    def constructed(self) -> set[str]:
        """Names in capitals whose results are used as objects, not only compared."""
        parents = {
            id(child): node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and node.id[:1].isupper():
                call = parents.get(id(node))
                user = parents.get(id(call))
                if isinstance(user, ast.Compare):
                    parts = [user.left, *user.comparators]
                    is_compared = not all(map(self.depends, parts))
                else:
                    is_compared = isinstance(user, ast.Call) and is_self(user.func)
                if not (isinstance(call, ast.Call) and call.func is node and is_compared):
                    found.add(node.id)
        return found

    def is_error(self, node: ast.AST | None, depth: int = 0) -> bool:
        """Whether a value is, or contains, an exception that the tests made."""
        if isinstance(node, ast.Call):
            kind = getattr(builtins, last_name(node), None)
            return isinstance(kind, type) and issubclass(kind, BaseException)
        if isinstance(node, (ast.Tuple, ast.List, ast.Dict)):
            return any(self.is_error(item, depth) for item in ast.iter_child_nodes(node))
        if not isinstance(node, ast.Name) and (node is None or not is_self(node)):
            return False
        found = self.bound_values(self.variable(node))
        return depth < 4 and any(self.is_error(value, depth + 1) for value in found)

    def is_object(self, node: ast.AST, depth: int = 0) -> bool:
        """Whether a value is an object of a class, as far as its name tells."""
        if isinstance(node, ast.Call):
            name = last_name(node)
            known = getattr(builtins, name, None) or not self.depends(node.func)
            return not known and name[:1].isupper()
        if isinstance(node, (ast.Tuple, ast.BinOp, ast.UnaryOp)):
            return any(self.is_object(item, depth) for item in ast.iter_child_nodes(node))
        key = None
        if isinstance(node, ast.Name):
            key = self.keys.get(id(node))
        elif is_self(node):
            key = (SELF, node.attr)  # type: ignore[attr-defined]
        found = self.bound_values(key)
        return depth < 4 and any(v is not None and self.is_object(v, depth + 1) for v in found)

    def reads_touched(self, node: ast.AST) -> bool:
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
                if self.keys.get(id(each)) in self.touched:
                    return True
            elif is_self(each) and (SELF, each.attr) in self.touched:  # type: ignore[attr-defined]
                return True
        return False
