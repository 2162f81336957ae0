"""Data flow: finds values that depend on the program."""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Iterable, Iterator
from typing import Any

from .reader import Binding, Reader
from .trees import (
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
    STARTS,
    Key,
    children,
    is_fixture,
    is_fixture_function,
    is_function,
    is_self,
    last_name,
    last_names,
    may_fail,
    parameter_tables,
    root_of,
    targets_of,
    walk,
)


class Flow:
    """Data flow of one test module.

    :class:`.sites.Sites` and :class:`.parts.Parts` extend it; all three share its attributes.

    Attributes:
        tree, lines: the tests' syntax tree and source lines.
        read: scopes, bindings, calls and sites of the tree.
        keys: variables by the ids of their name nodes.
        functions: function definitions of the tests by variable.
        bindings, bindings_of: all bindings, and bindings by variable; ``known``: its keys.
        runners: ids of functions that the test runner calls.
        called: ids of called expressions.
        calls_of: calls to the tests' functions by variable.
        uses: nodes that read a variable.
        dependent: variables that depend on the program; set by :meth:`find_dependent`, as are the
            next five.
        touched: variables whose values the program may have changed.
        left: ids of the guards of functions and loops that may exit early due to the program.
        arguments: parameter -> fixtures that supply it.
        live: ids of functions that the tests side runs whenever the program side does.
        memo: results of :meth:`depends` in the current pass.
        current: in ``Sites``: the site being closed.
        by_node: in ``Parts``: sites by the ids of their statements.
        needed, shown: in ``Parts``: variables that the program side reads, and variables of the
            table columns that it contains.
    """

    def __init__(self, tree: ast.Module, lines: list[str], entry_point: str) -> None:
        self.tree, self.lines = tree, lines
        self.read = read = Reader(tree, entry_point)
        self.keys = {id(node): self.key(scope, name) for node, scope, name in read.named}
        self.functions: dict[Key, list[Any]] = {}
        for nodes in read.functions.values():
            for node in nodes:
                self.functions.setdefault(self._key_of(node), []).append(node)
        self.bindings = [
            Binding((SELF, name) if scope == SELF else self.key(scope, name), *rest)
            for scope, name, rest in read.bound
        ]
        for index, scope in enumerate(read.scopes):
            if scope.is_class:  # attributes of the class are also read through self
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
        self.calls_of: dict[Key, list[ast.Call]] = {}
        for call in read.calls:
            if (key := self.variable(call.func)) in self.functions:
                self.calls_of.setdefault(key, []).append(call)
        self.uses: dict[Key, list[ast.AST]] = {}
        for node, _, _ in read.named:
            if isinstance(getattr(node, "ctx", None), ast.Load):
                self.uses.setdefault(self.key_of(node), []).append(node)
        for node in read.attributes:
            self.uses.setdefault((SELF, node.attr), []).append(node)

    # Dependence on the program.

    def key(self, scope: int, name: str) -> Key:
        """Returns the variable that a name refers to in a scope."""
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
        """Returns the variable that a name refers to."""
        return self.keys.get(id(node), (FREE, node.id))

    def variable(self, node: Any) -> Key | None:
        """Returns the variable of a name, or of an attribute of ``self``; None for other nodes."""
        if isinstance(node, ast.Name):
            return self.key_of(node)
        return (SELF, node.attr) if is_self(node) else None

    def variables_in(self, nodes: Iterable[ast.AST]) -> Iterator[tuple[Any, Key]]:
        """Yields the names and ``self`` attributes in nodes, with their variables."""
        for node in nodes:
            for each in walk(node):
                if (key := self.variable(each)) is not None:
                    yield each, key

    def read_in(self, *nodes: ast.AST) -> set[Key]:
        """Returns the variables that are read in nodes."""
        return {key for node, key in self.variables_in(nodes) if isinstance(node.ctx, ast.Load)}

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the tests."""
        return list(walk(self.tree))

    @functools.cached_property
    def parents(self) -> dict[int, ast.AST]:
        """Parent nodes by the ids of their children."""
        return {id(child): node for node in self.nodes for child in children(node)}

    def bound_values(self, key: Key | None) -> list[ast.AST | None]:
        """Returns the values that a variable is bound to, ignoring later changes."""
        found = self.bindings_of.get(key, ()) if key else ()
        return [value for each in found if not each.is_change for value in each.values]

    def _runners(self) -> Iterator[Any]:
        """Yields functions that the test runner calls."""
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
        """Test classes and their base classes."""
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

    def has_tests(self, node: ast.ClassDef) -> bool:
        return any(each is node for each in self.test_classes)

    def find_dependent(self) -> None:
        """Finds the values that depend on the program, by fixed-point iteration."""
        self.dependent: set[Key] = set()
        self.left: set[int] = set()
        self.touched: set[Key] = set()
        every = [node for nodes in self.functions.values() for node in nodes]
        self.arguments: dict[Key, list[Key]] = {}
        self.live = {id(node) for node in every}
        self.memo: dict[ast.AST, bool] = {}
        found = (self.dependent, self.touched, self.live, self.left)
        while True:
            before = [len(each) for each in found]
            self._pass(every)
            self.memo.clear()
            if before == [len(each) for each in found]:
                break

    def _pass(self, every: list[Any]) -> None:
        for left, guards in self.read.exits:
            if not self.controlled(tuple(g for g in guards if not is_function(g))):
                self.left.add(id(left))
        for key, values, guards, _ in self.bindings:
            if key not in self.dependent and key[0] != FREE:
                uncertain = not self.controlled(guards) or MAYBE in guards
                if uncertain or any(map(self.depends, values)):
                    self.dependent.add(key)
            if any(isinstance(v, ast.Name) and self.key_of(v) in self.touched for v in values):
                self.touched.add(key)
            if any(isinstance(v, FLAGS) and self.reads_touched(v) for v in values):
                self.dependent.add(key)
        for node in every:
            if id(node) in self.live and not self._is_live(node):
                self.live.discard(id(node))
            self._bind_parameters(node)
        for call in self.read.calls:
            if self.depends(call.func) and not self.runs_test(call):
                for value in (*call.args, *(k.value for k in call.keywords)):
                    self._touch(value)

    def _touch(self, node: ast.AST) -> None:
        if (key := self.variable(node)) is not None:
            if key[0] != FREE and not self.is_immutable(node):
                self.touched.add(key)
        elif isinstance(
            node, (ast.Tuple, ast.List, ast.Dict, ast.Starred, ast.Attribute, ast.Subscript)
        ):
            for child in children(node):
                self._touch(child)

    def is_immutable(self, node: ast.AST | None, depth: int = 0) -> bool:
        def all_of(nodes: Iterable[ast.AST | None]) -> bool:
            return depth < 8 and all(self.is_immutable(each, depth + 1) for each in nodes)

        if isinstance(node, (ast.Constant, ast.JoinedStr)):
            return True
        if isinstance(node, (ast.UnaryOp, ast.BinOp, ast.Tuple, ast.IfExp)):
            return all_of(n for n in children(node) if isinstance(n, ast.expr))
        if isinstance(node, ast.Call):
            return last_name(node) in IMMUTABLE
        if (key := self.variable(node)) is not None:
            found = self.bound_values(key)
            known = bool(found) or (key in self.known and key not in self.dependent)
            return known and all_of(found)
        return False

    def _bound_by(self, node: ast.AST) -> set[Key]:
        targets: list[ast.AST] = []
        if isinstance(node, ast.Assign):
            targets = node.targets  # type: ignore[assignment]
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For)):
            targets = [node.target]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.asname or a.name.split(".")[0] for a in node.names]
            return {self.key(self.read.place[id(node)], name) for name in names}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            targets = [node.value.func]
        elif isinstance(node, ast.Delete):
            targets = node.targets  # type: ignore[assignment]
        roots = [root_of(item) for target in targets for item in targets_of(target)]
        found = {key for root in roots if (key := self.variable(root)) is not None}
        in_class = {
            name for scope, name in found if scope >= 0 and self.read.scopes[scope].is_class
        }
        return found | {(SELF, name) for name in in_class}

    @functools.cached_property
    def imported(self) -> set[Key]:
        """The names that imports bind."""
        kinds = (ast.Import, ast.ImportFrom)
        found = [node for node in self.nodes if isinstance(node, kinds)]
        return {key for node in found for key in self._bound_by(node)}

    def depends(self, node: ast.AST | None) -> bool:
        """Returns True if a value depends on the program."""
        if node is None:
            return True
        found = self.memo.get(node)
        if found is None:
            found = self.memo[node] = self._depends(node)
        return found

    def _depends(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return isinstance(node.ctx, ast.Load) and self._name_depends(self.key_of(node))
        if is_self(node):
            key = (SELF, node.attr)  # type: ignore[attr-defined]
            return key in self.dependent or (key not in self.known and self._name_depends(key))
        if isinstance(node, ast.Attribute) and node.attr in IMPURE_ATTRIBUTES:
            return True
        if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom)):
            return True
        return any(map(self.depends, children(node)))

    def _name_depends(self, key: Key) -> bool:
        if key[0] == FREE:
            return key[1] not in PURE_BUILTINS
        return key in self.functions or key in self.dependent or key[0] == SELF

    def _is_live(self, node: Any) -> bool:
        """Returns True if the tests side runs a node whenever the program side does."""
        if id(node) not in self.runners or may_fail(node):
            return False
        if self.has_many or any(map(self._repeats, node.decorator_list)):
            return False
        if any(k.arg == "indirect" for _, call in parameter_tables(node) for k in call.keywords):
            return False
        key = self._key_of(node)
        direct = [use for use in self.uses.get(key, ()) if id(use) in self.read.direct]
        if len(direct) != len(self.uses.get(key, ())):
            return False
        return not any(call.args or call.keywords for call in self.calls_of.get(key, ()))

    def _repeats(self, node: ast.AST) -> bool:
        """Returns True if a decorator may call a test several times or not at all."""
        names = {last_name(each) for each in walk(node)}
        return self.depends(node) and "patch" not in names and not is_fixture(node)

    @functools.cached_property
    def starts_tests(self) -> bool:
        """True if the tests load and run their test cases themselves."""
        nodes = (n for n in self.nodes if isinstance(n, (ast.Name, ast.Attribute)))
        return not STARTS.isdisjoint(last_names(nodes))

    @property
    def has_many(self) -> bool:
        """True if the tests of all functions or classes may run more than once."""
        kinds = [d for node in self.read.classes for d in node.decorator_list]
        if any(map(self._repeats, kinds)) or "parametrize" in last_names(kinds):
            return True
        if self.starts_tests:
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

    def runs_test(self, call: ast.Call) -> bool:
        """Returns True if a node calls a test that both sides run."""
        found = self.functions.get(self.variable(call.func) or (FREE, ""), [])
        return len(found) == 1 and id(found[0]) in self.live and id(found[0]) in self.runners

    def _bind_parameters(self, node: Any) -> None:
        """Marks parameters as dependent on the program, except those that tables supply."""
        scope = self.read.owner[id(node)]
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        own = {"self", "cls"}
        if id(node) in self.runners or is_fixture_function(node):
            tables = [target for target, _ in parameter_tables(node)]
            own.update(n.id for t in tables for n in walk(t) if isinstance(n, ast.Name))
            for name in {argument.arg for argument in arguments} - own:
                found = self.functions.get((0, name), ())
                if any(map(is_fixture_function, found)):
                    self.arguments[scope, name] = [(0, name)]
        names = {argument.arg for argument in arguments}
        self.dependent |= {(scope, name) for name in names - own}

    def controlled(self, guards: tuple[Any, ...]) -> bool:
        """Returns True if the program cannot affect whether a statement is reached."""
        return all(map(self.is_controlled, guards))

    def is_controlled(self, guard: Any) -> bool:
        if guard is None or id(guard) in self.left:
            return False
        if not isinstance(guard, tuple):
            return not self.depends(guard)
        kind, node = guard
        is_live = not isinstance(node, ast.Lambda) and id(node) in self.live
        return kind == "maybe" or (kind == "function" and is_live)

    def _is_from_program(self, node: ast.AST, depth: int = 0) -> bool:
        """Returns True if a value is an object or a function's result of the program."""
        root = root_of(node)
        key = self.variable(root)
        if key is None or key in self.functions:
            return False
        if key[0] == FREE:
            pure = key[1] in PURE_BUILTINS and isinstance(node, ast.Call) and bool(node.args)
            return self._is_from_program(node.args[0], depth + 1) if pure else key[1] not in IMPURE  # type: ignore[attr-defined]
        if self._is_candidate(key):
            return True
        found = self._made_as(key)
        return (
            depth < 4
            and bool(found)
            and all(
                value is not None and self._is_from_program(value, depth + 1) for value in found
            )
        )

    def _made_as(self, key: Key | None) -> list[ast.AST | None]:
        """Returns the values of a variable, or of the fixture that supplies it."""
        found = self.bound_values(key)
        if key and not found and key in self.dependent:
            fixtures = [f for f in self.functions.get((0, key[1]), ()) if is_fixture_function(f)]
            returns = [n for f in fixtures for n in walk(f) if isinstance(n, RETURNS)]
            return [each.value for each in returns]
        return found

    def _is_candidate(self, key: Key) -> bool:
        checks = [n for n in self.read.functions.get(0, ()) if n.name == "check"]
        return any(key[0] == self.read.owner[id(node)] for node in checks) and key not in self.known

    def is_object(self, node: ast.AST, depth: int = 0) -> bool:
        """Returns True if a value is or contains a built-in exception, or (judging by the name) an
        object of a class that depends on the program.
        """
        if isinstance(node, ast.Call):
            name = last_name(node)
            kind = getattr(builtins, name, None)
            if kind is None:
                return self.depends(node.func) and name[:1].isupper()
            return isinstance(kind, type) and issubclass(kind, BaseException)
        if isinstance(node, (ast.Tuple, ast.List, ast.Dict, ast.BinOp, ast.UnaryOp)):
            return any(self.is_object(item, depth) for item in children(node))
        found = self._made_as(self.variable(node))
        return depth < 4 and any(v is not None and self.is_object(v, depth + 1) for v in found)

    def is_reported(self, node: ast.AST) -> bool:
        """Returns True if a value depends on the program or may have been changed by it."""
        return self.depends(node) or self.reads_touched(node)

    def reads_touched(self, node: ast.AST) -> bool:
        return not self.touched.isdisjoint(self.read_in(node))
