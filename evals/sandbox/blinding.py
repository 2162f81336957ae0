"""Takes the expected values out of tests before they run in the program's process.

A *site* is an assertion about something that the program computed. :func:`blind` splits a module of
tests into two:

- *inside*, for the program's process: full Python, in which each site only reports the operands
  that depend on the program (``assert f(1) == 2`` becomes ``report(0, lambda: f(1))``);
- *outside*, for the tests' process: the same control flow over the tests' own values, in which each
  site takes the next report instead of those operands (``take(0)``; ``assert value(0) == 2``).

What is outside runs as ordinary Python, so the number and order of reports follow from the tests
alone: loops over tables, ``parametrize``, helpers, :mod:`unittest`. A value of the tests is inside
only if something there reads it; columns of tables that nothing inside reads are blanked.

A site stays *open* (the original statement runs inside, where a program could forge it) if its
expected value depends on the program or is inside anyway, or if the program decides whether the
site is reached. An expression depends on the program unless it consists of literals, operators,
pure functions and names bound to such; this is conservative, so mistakes cost a verdict of a right
program, not a secret.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .inner.analysis import PURE_MODULES

MAX_TEXT = 1 << 21
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_WAITS = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
_IMPURE = frozenset(
    (
        *("open", "input", "exec", "eval", "compile", "globals", "locals", "vars", "setattr"),
        *("delattr", "id", "iter", "next", "breakpoint", "__import__", "exit", "quit", "dir"),
        *("print", "super", "classmethod", "staticmethod", "property"),
    )
)
_PURE_BUILTINS = frozenset(vars(builtins)) - _IMPURE | {"__name__", "__file__"}
_MODULES = (PURE_MODULES - {"random"}) | {
    *("base64", "binascii", "calendar", "decimal", "json", "numpy", "pandas", "struct", "types"),
    *("sys", "unicodedata", "unittest", "pytest", "collections.abc", "string"),
}
_IMPURE_ATTRIBUTES = frozenset(
    (
        *("now", "today", "utcnow", "mock", "random", "seed", "importorskip", "stdin", "stdout"),
        *("stderr", "modules", "argv", "environ", "path", "settrace", "getrecursionlimit"),
    )
)
_FIXTURES = frozenset(("parametrize", "usefixtures", "fixture"))
_SKIPS = frozenset(("skip", "skipTest", "xfail", "importorskip", "exit"))
_MUTATORS = frozenset(
    (
        *("append", "appendleft", "extend", "add", "update", "insert", "setdefault", "push"),
        *("remove", "discard", "write", "put", "pop", "clear", "sort", "reverse"),
    )
)
_SET_UP = frozenset(
    (
        *("setUp", "tearDown", "setUpClass", "tearDownClass", "asyncSetUp", "asyncTearDown"),
        *("setup_method", "teardown_method", "setup_class", "teardown_class"),
    )
)
_RAISES = ("raises", "assertRaises", "assertRaisesRegex")
# Calls whose operands are compared outside, not within the program's process.
_COMPARING = frozenset(
    ("abs", "isclose", "allclose", "array_equal", "fabs", "approx", "isinstance")
)
_CALLS = {
    "assert_called_once_with": "{0} == [{1}]",
    "assert_called_with": "{0}[-1:] == [{1}]",
    "assert_any_call": "{1} in {0}",
    "assert_not_called": "{0} == []",
    "assert_called_once": "len({0}) == 1",
    "assert_called": "len({0}) > 0",
}

# Context managers that let all exceptions pass.
_WHOLE = frozenset(
    (
        *("patch", "object", "dict", "multiple", "open", "TemporaryDirectory", "subTest"),
        *("NamedTemporaryFile", "redirect_stdout", "redirect_stderr", "catch_warnings"),
        *("assertLogs", "assertWarns", "warns", "closing", "ThreadPoolExecutor", "timeout"),
    )
)
_MAYBE = ("maybe", None)  # what is assigned there may not be
Key = tuple[int, str]
_SELF = -2  # the scope of attributes of ``self``
_FREE = -1


class Blinded(NamedTuple):
    """Tests in two parts.

    Attributes:
        inside: text for the program's process.
        outside: module for the tests' process.
        sites: number of assertions about the program, wherever they are in loops.
        open: the places and the texts of open ones.
        plain: whether the tests need only plain values and functions of the program.
    """

    inside: str
    outside: ast.Module
    sites: int
    open: tuple[str, ...]
    plain: bool


@dataclass(eq=False)
class _Scope:
    parent: int
    is_class: bool = False
    names: set[str] = field(default_factory=set)
    outer: set[str] = field(default_factory=set)  # declared global
    nonlocals: set[str] = field(default_factory=set)


@dataclass(eq=False)
class _Site:
    """An assertion: its statement and the conditions under which it is reached."""

    node: ast.stmt
    guards: tuple[Any, ...]
    scope: int
    number: int = -1
    is_open: bool = False
    operands: list[ast.expr] = field(default_factory=list)
    outside: list[ast.stmt] = field(default_factory=list)
    inside: list[ast.stmt] = field(default_factory=list)


class _Binding(NamedTuple):
    key: Key
    values: tuple[ast.AST | None, ...]  # None depends on the program
    guards: tuple[Any, ...]
    is_change: bool = False


@functools.lru_cache(maxsize=256)
def blind(setup: str, test: str, entry_point: str) -> Blinded | None:
    """Splits tests; None if they cannot be, so that they are isolated."""
    if len(setup) + len(test) > MAX_TEXT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the code belongs to the dataset
            tree = ast.parse(test)
            lines = test.splitlines()
            tree.body = [*_without_lines(ast.parse(setup)).body, *tree.body]
            tree = _with_imports(_without_starts(_Simpler().visit(tree)))
        return _Split(tree, lines, entry_point).result()
    except Exception:  # noqa: BLE001 - any text may come; what cannot be split stays outside
        return None


class _Simpler(ast.NodeTransformer):
    """Makes two statements of ``assert a and b`` and of ``import a, b``."""

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [ast.copy_location(ast.Import([alias]), node) for alias in node.names]

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        parts = [node.test]
        if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And):
            parts = node.test.values
        return [ast.copy_location(ast.Assert(part), node) for part in parts]


# Functions that give what is in their arguments.
_VIEWS = frozenset(("items", "values", "keys", "list", "tuple", "enumerate", "copy", "deepcopy"))
_STARTS = frozenset(
    ("TestLoader", "TextTestRunner", "TestSuite", "makeSuite", "defaultTestLoader", "TestResult")
)


def _without_starts(tree: ast.Module) -> ast.Module:
    """Drops what loads and runs test cases, which are run anyway."""
    names = set(_STARTS)
    kept: list[ast.stmt] = []
    for node in tree.body:
        read = {_attribute(n) for n in ast.walk(node) if isinstance(n, (ast.Name, ast.Attribute))}
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.ImportFrom)) or names.isdisjoint(read):
            kept.append(node)
        elif isinstance(node, ast.Assign):
            names |= {_attribute(target) for target in node.targets}
    tree.body = kept
    return tree


def _with_imports(tree: ast.Module) -> ast.Module:
    """Adds imports of pure modules that tests use, but leave to the program to import."""
    used: Counter[str] = Counter()
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used[node.value.id] += 1
        elif isinstance(node, ast.Name):
            used[node.id] -= 1
            if not isinstance(node.ctx, ast.Load):
                bound.add(node.id)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    free = {name for name in used.keys() & PURE_MODULES if not used[name]} - bound - {"random"}
    for name in sorted(free):
        tree.body.insert(0, ast.Import([ast.alias(name)], lineno=0, col_offset=0))
    return tree


def _without_lines(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            for name in ("lineno", "end_lineno", "col_offset", "end_col_offset"):
                setattr(node, name, 0)
    return tree


def _attribute(node: ast.AST) -> str:
    """The last name of a function that is called, or of a name."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_self(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "cls")
    )


def _root(node: ast.AST) -> ast.AST:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)) and not _is_self(node):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _targets(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, (ast.Tuple, ast.List)):
        for item in node.elts:
            yield from _targets(item)
    elif isinstance(node, ast.Starred):
        yield from _targets(node.value)
    else:
        yield node


class _Reader(ast.NodeVisitor):
    """Collects scopes, bindings, uses of functions, and sites."""

    def __init__(self, tree: ast.Module, entry_point: str) -> None:
        self.scopes = [_Scope(_FREE)]
        self.scope, self.guards = 0, ()
        self.named: list[tuple[ast.AST, int, str]] = []
        self.bound: list[tuple[int, str, tuple[ast.AST | None, ...], tuple[Any, ...]]] = []
        self.functions: dict[int, list[Any]] = {}  # scope -> definitions in it
        self.owner: dict[int, int] = {}  # id of a function -> its scope
        self.place: dict[int, int] = {}  # id of a function -> the scope it is defined in
        self.sites: list[_Site] = []
        self.direct: set[int] = set()  # ids of functions' names in statements that call them
        self.calls: list[ast.Call] = []
        self.statements: dict[int, tuple[Any, ...]] = {}  # calls that are statements: guards
        self.classes: list[ast.ClassDef] = []
        self.attributes: list[ast.Attribute] = []  # of ``self``
        self.exits: list[tuple[Any, ...]] = []  # the guards of return, break and continue
        self.entry_point = entry_point
        for node in tree.body:
            self.visit(node)

    def _bind(self, target: ast.AST, *values: ast.AST | None) -> None:
        for item in _targets(target):
            if isinstance(item, ast.Name):
                self.bound.append((self.scope, item.id, values, self.guards))
                self.scopes[self.scope].names.add(item.id)
            elif _is_self(item):
                self.bound.append((_SELF, item.attr, values, self.guards))  # type: ignore[attr-defined]
            else:
                found = _root(item)
                if _is_self(found):
                    self.bound.append((_SELF, f"={found.attr}", values, self.guards))  # type: ignore[attr-defined]
                elif isinstance(found, ast.Name):
                    if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store):
                        values = (*values, None)
                    self.bound.append((self.scope, f"={found.id}", values, self.guards))

    def _within(self, scope: _Scope, guards: tuple[Any, ...], *nodes: Any) -> int:
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
        if _is_self(node) and isinstance(node.ctx, ast.Load):
            self.attributes.append(node)
        self.generic_visit(node)

    def _exit(self, node: ast.AST) -> None:
        self.exits.append(self.guards)
        self.generic_visit(node)

    visit_Return = visit_Break = visit_Continue = _exit

    def visit_Raise(self, node: ast.Raise) -> None:
        self.sites.append(_Site(node, self.guards, self.scope))
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
            _Scope(self.scope), (*self.guards, ("function", node)), node.args.args,
            node.args.posonlyargs, node.args.kwonlyargs,
            [a for a in (node.args.vararg, node.args.kwarg) if a], body,
        )  # fmt: skip
        self.owner[id(node)] = made

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scopes[self.scope].names.add(node.name)
        self.classes.append(node)
        self.bound.append((self.scope, node.name, (None,), self.guards))
        for each in (*node.bases, *node.decorator_list):
            self.visit(each)
        made = self._within(_Scope(self.scope, True), self.guards, node.body)
        self.owner[id(node)] = made

    def _comprehension(self, node: Any) -> None:
        self.visit(node.generators[0].iter)
        made = _Scope(self.scope)
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

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            pure = alias.name in _MODULES
            self.scopes[self.scope].names.add(name)
            self.bound.append((self.scope, name, () if pure else (None,), self.guards))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name
            pure = node.module in _MODULES and alias.name not in _IMPURE_ATTRIBUTES
            self.scopes[self.scope].names.add(name)
            self.bound.append((self.scope, name, () if pure else (None,), self.guards))

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
        """Binds the names of a loop; those of ``zip`` and ``enumerate`` each to its part."""
        name = _attribute(table) if isinstance(table, ast.Call) else ""
        parts = target.elts if isinstance(target, ast.Tuple) else []
        if name == "zip" and len(parts) == len(table.args):  # type: ignore[attr-defined]
            for part, value in zip(parts, table.args, strict=True):  # type: ignore[attr-defined]
                self._bind_loop(part, value)
        elif name == "enumerate" and len(parts) == 2:
            self._bind(parts[0])
            self._bind_loop(parts[1], table.args[0])  # type: ignore[attr-defined]
        else:
            self._bind(target, table)

    def _loop(self, node: Any) -> None:
        if isinstance(node, ast.AsyncFor):
            self._bind(node.target, None)
        else:
            self._bind_loop(node.target, node.iter)
        self.visit(node.target)
        self.visit(node.iter)
        self._guarded(node.iter, (*node.body, *node.orelse))

    visit_For = visit_AsyncFor = _loop

    def _branch(self, node: Any) -> None:
        self.visit(node.test)
        self._guarded(node.test, (*node.body, *node.orelse))

    visit_If = visit_While = _branch

    def visit_Match(self, node: ast.Match) -> None:
        self._guarded(None, ast.iter_child_nodes(node))

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        if raised_by(node) is not None:
            self.sites.append(_Site(node, self.guards, self.scope))
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, None)
                self.visit(item.optional_vars)
        if _raises_itself(node) or raised_by(node) is not None:
            self._guarded(None, node.body)
            return
        names = {_attribute(item.context_expr) for item in node.items}
        if names <= _WHOLE:
            for each in node.body:
                self.visit(each)
        else:
            self._guarded(_MAYBE, node.body)

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        if expected_by(node) is not None:
            self.sites.append(_Site(node, self.guards, self.scope))
            for each in (node.body[0], node.handlers[0]):
                self.visit(each)
            for each in (*node.body[1:], *node.orelse):
                self.generic_visit(each)  # a failure that is not an assertion of its own
            return
        self._guarded(("try", node), (*node.body, *node.handlers, *node.orelse))
        for each in node.finalbody:
            self.visit(each)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(ast.Name(node.name, ast.Store()), None)
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        self.sites.append(_Site(node, self.guards, self.scope))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.sites.append(_Site(node, self.guards, self.scope))
            if _attribute(node.value) in _SKIPS:
                self.exits.append(self.guards)
            self.direct.add(id(node.value.func))
            self.statements[id(node.value)] = self.guards
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.calls.append(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
            self._bind(ast.Attribute(node.func.value, "x", ast.Load()), *node.args)
        self.generic_visit(node)


def raised_by(node: ast.With | ast.AsyncWith) -> ast.Call | None:
    """The call of ``raises`` that a ``with`` enters."""
    call = node.items[0].context_expr
    alone = len(node.items) == 1 and isinstance(call, ast.Call) and bool(call.args)
    return call if alone and _attribute(call) in _RAISES else None  # type: ignore[return-value]


def expected_by(node: ast.Try) -> ast.ExceptHandler | None:
    """The handler of ``try: f(); assert False; except Error: ...``."""
    if len(node.handlers) != 1 or node.finalbody or node.handlers[0].type is None:
        return None
    if node.orelse:
        last, calls = node.orelse[-1], node.body
    else:
        last, calls = node.body[-1], node.body[:-1]
    if not _always_fails(last) or not calls or len(node.orelse) > 1:
        return None
    one = len(calls) == 1 and isinstance(calls[0], (ast.Expr, ast.Assign))
    return node.handlers[0] if one else None


def _raises_itself(node: ast.With | ast.AsyncWith) -> bool:
    """Whether the body of a ``with`` raises something that its manager may catch."""
    return any(isinstance(each, ast.Raise) for part in node.body for each in ast.walk(part))


def _always_fails(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and not node.test.value
    if isinstance(node, ast.Raise):
        return node.exc is not None and _attribute(node.exc) == "AssertionError"
    return isinstance(node, ast.Expr) and _is_fail(node.value)


def _is_fail(node: ast.AST) -> bool:
    """Whether it is ``self.fail(...)`` or ``pytest.fail(...)``."""
    root = _root(node)
    known = _is_self(root) or (isinstance(root, ast.Name) and root.id == "pytest")
    return (
        known
        and isinstance(node, ast.Call)
        and ast.unparse(node.func).count(".") == 1
        and (_attribute(node) == "fail")
    )


class _OpenError(Exception):
    """The site cannot be closed."""


_RETURNS = (ast.Return, ast.Yield)
_FAILURES = (ast.Assert, ast.Raise)


class _Split:
    """One module of tests, while it is split."""

    def __init__(self, tree: ast.Module, lines: list[str], entry_point: str) -> None:
        self.tree, self.lines = tree, lines
        self.read = read = _Reader(tree, entry_point)
        self.keys = {id(node): self.key(scope, name) for node, scope, name in read.named}
        self.functions: dict[Key, list[Any]] = {}
        for scope, nodes in read.functions.items():
            is_class = read.scopes[scope].is_class
            for node in nodes:
                key = (_SELF, node.name) if is_class else (scope, node.name)
                self.functions.setdefault(key, []).append(node)
        self.bindings = [self._binding(*each) for each in read.bound]
        for index, scope in enumerate(read.scopes):
            if scope.is_class:  # attributes of the class are read by way of self, too
                self.bindings += [
                    _Binding((_SELF, key[1]), values, guards)
                    for key, values, guards, _ in self.bindings
                    if key[0] == index
                ]
        self.bindings_of: dict[Key, list[_Binding]] = {}
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
            self.uses.setdefault((_SELF, node.attr), []).append(node)

    def result(self) -> Blinded:
        """The two parts."""
        plain = _Plainness(self).holds()
        self.settle(frozenset())
        for site in self.read.sites:
            self._close(site)
        sites = [site for site in self.read.sites if site.operands or site.is_open]
        self.by_node = {id(site.node): site for site in sites}
        while True:
            for site in sites:
                site.inside = []
            inside, needed = self._inside_part()
            hidden = [s for s in sites if not s.is_open and not self._is_hidden(s, needed)]
            if not hidden:
                break
            for site in hidden:
                site.is_open = True
        for site in sites:
            site.is_open = site.is_open or not site.inside  # within another open one
        for number, site in enumerate(s for s in sites if not s.is_open):
            self._number(site, number)
        outside = ast.Module(self._outside(self.tree.body) or [ast.Pass()], [])
        ast.fix_missing_locations(inside)
        ast.fix_missing_locations(outside)
        opened = tuple(self._describe(site.node) for site in sites if site.is_open)
        return Blinded(ast.unparse(inside), outside, len(sites), opened, plain)

    def _describe(self, node: ast.stmt) -> str:
        line = self.lines[node.lineno - 1].strip() if node.lineno else "setup"
        return f"line {node.lineno}: {line[:80]}"

    # What depends on the program.

    def key(self, scope: int, name: str) -> Key:
        """The variable that a name means in a scope."""
        first = True
        while scope != _FREE:
            found = self.read.scopes[scope]
            if name in found.outer:
                return 0, name
            own = name in found.names and name not in found.nonlocals
            if own and (first or not found.is_class):
                return scope, name
            scope, first = found.parent, False
        return _FREE, name

    def key_of(self, node: Any) -> Key:
        """The variable that a name means."""
        return self.keys.get(id(node), (_FREE, node.id))

    def _binding(self, scope: int, name: str, values: Any, guards: Any) -> _Binding:
        plain = name.lstrip("=")
        key = (_SELF, plain) if scope == _SELF else self.key(scope, plain)
        return _Binding(key, values, guards, plain != name)

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
        for node in self.read.classes:
            is_case = any(_attribute(base).endswith("TestCase") for base in node.bases)
            if is_case or (node.name.startswith("Test") and not node.bases):
                for each in self.read.functions.get(self.read.owner[id(node)], ()):
                    if each.name.startswith("test") or each.name in _SET_UP:
                        yield each

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
            if key not in self.dependent and key[0] != _FREE:
                uncertain = not self.controlled(guards) or (_MAYBE in guards and not self.roots)
                if uncertain or any(map(self.depends, values)):
                    self.dependent.add(key)
            if any(isinstance(v, ast.Name) and self.key_of(v) in self.touched for v in values):
                self.touched.add(key)
        for node in every:
            if id(node) in self.pure and not self._is_pure(node):
                self.pure.discard(id(node))
            if id(node) in self.live and not self._is_live(node):
                self.live.discard(id(node))
            if id(node) not in self.pure or _fixture_of(node):
                self._bind_parameters(node)
        for call in self.read.calls:
            if self.depends(call.func) and not self._helper(call):
                for value in (*call.args, *(k.value for k in call.keywords)):
                    self._touch(value)

    def _touch(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            if self.key_of(node)[0] != _FREE and not self._is_immutable(node):
                self.touched.add(self.key_of(node))
        elif _is_self(node):
            self.touched.add((_SELF, node.attr))  # type: ignore[attr-defined]
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
            return _attribute(node) in (
                "int",
                "str",
                "float",
                "len",
                "range",
                "abs",
                "round",
                "chr",
            )
        if isinstance(node, ast.Name):
            key = self.key_of(node)
            found = self.bound_values(key)
            return bool(found) and all(
                all_of(_elements(v) if self._is_loop(key, v) else [v]) for v in found
            )
        return False

    def _is_loop(self, key: Key, value: ast.AST | None) -> bool:
        return id(value) in self.loops.get(key, ())

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
                for target in _targets(node.target):
                    if isinstance(target, ast.Name):
                        found.setdefault(self.key_of(target), set()).add(id(node.iter))
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
                self.keys.get(id(node), (_FREE, node.id))
            )
        if _is_self(node):
            key = (_SELF, node.attr)  # type: ignore[attr-defined]
            return key in self.dependent or (key not in self.known and self._name_depends(key))
        if not self.roots:
            if isinstance(node, ast.Attribute) and node.attr in _IMPURE_ATTRIBUTES:
                return True
            if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom)):
                return True
        return any(map(self.depends, ast.iter_child_nodes(node)))

    def _name_depends(self, key: Key) -> bool:
        if key[0] == _FREE:
            return key[1] in self.roots if self.roots else key[1] not in _PURE_BUILTINS
        if key in self.functions:
            return any(id(node) not in self.pure for node in self.functions[key])
        return key in self.dependent or (key[0] == _SELF and not self.roots)

    def _is_pure(self, node: Any) -> bool:
        own = self.read.owner[id(node)]
        for each in ast.walk(node):
            if isinstance(each, (ast.Global, ast.Nonlocal, ast.Yield, ast.Await, ast.AsyncFor)):
                return False
        for key, _, guards, _ in self.bindings:
            if key[0] < own and any(g[1] is node for g in guards if type(g) is tuple):
                return False
        decorators = [d for d in node.decorator_list if not _is_fixture(d)]
        if self._gets_functions(node):
            return False
        fails = any(isinstance(each, _FAILURES) for each in ast.walk(node))
        uses = self.uses.get(self._key_of(node), ())
        if fails and any(id(use) not in self.called for use in uses):
            return False  # others may call it
        return not decorators and not any(map(self.depends, node.body))

    def _gets_functions(self, node: Any) -> bool:
        """Whether a call gives it a function of the program."""
        calls = self.calls_of.get(self._key_of(node), ())
        given = [a for call in calls for _, a in _given(node, call)]
        return any(
            isinstance(a, ast.Name) and self.key_of(a)[0] == _FREE and self.depends(a)
            for a in given
        )

    def _is_live(self, node: Any) -> bool:
        """Whether it is called outside, too, whenever it is called inside."""
        if id(node) in self.pure:
            return True
        if _may_fail(node):
            return False
        if self.has_many or any(map(self._repeats, node.decorator_list)):
            return False
        if any(k.arg == "indirect" for *_, call in _parameters(node) for k in call.keywords):
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
        names = {_attribute(each) for each in ast.walk(node)}
        return self.depends(node) and "patch" not in names and not _is_fixture(node)

    @property
    def has_many(self) -> bool:
        """Whether something runs the tests of all functions or classes more often than once."""
        kinds = [d for node in self.read.classes for d in node.decorator_list]
        if any(map(self._repeats, kinds)) or "parametrize" in _attribute_names(kinds):
            return True
        return (0, "pytestmark") in self.known or any(
            isinstance(d, ast.Call)
            and _is_fixture(d)
            and any(k.arg == "params" for k in d.keywords)
            for nodes in self.functions.values()
            for node in nodes
            for d in node.decorator_list
        )

    def _key_of(self, node: Any) -> Key:
        scope = self.read.place[id(node)]
        return (_SELF if self.read.scopes[scope].is_class else scope), node.name

    def called_key(self, call: ast.Call) -> Key:
        """The variable that a call calls."""
        if isinstance(call.func, ast.Name):
            return self.key_of(call.func)
        if _is_self(call.func):
            return _SELF, call.func.attr  # type: ignore[attr-defined]
        return _FREE, ""

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
        if id(node) in self.runners or _fixture_of(node):
            for names, table, _ in _parameters(node):
                given |= {name: [table] for name in names}
            for name in (a.arg for a in arguments):
                fixture = [f for f in self.functions.get((0, name), ()) if _fixture_of(f)]
                if fixture and id(fixture[0]) in self.pure and name not in given:
                    given[name] = []
        elif id(node) in self.live:
            for call in self.calls_of.get(self._key_of(node), ()):
                if self._helper(call) is node:
                    for name, value in _given(node, call):
                        given.setdefault(name, []).append(value)
            for argument, value in _defaults(node):
                given.setdefault(argument, []).append(value)
        for argument in arguments:
            key = scope, argument.arg
            if argument.arg in ("self", "cls"):
                continue
            values = given.get(argument.arg, [None])
            if any(map(self.depends, values)):
                self.dependent.add(key)
            if any(isinstance(v, ast.Name) and self.key_of(v) in self.touched for v in values):
                self.touched.add(key)

    def controlled(self, guards: tuple[Any, ...]) -> bool:
        """Whether the tests alone decide that a statement is reached."""
        return all(map(self._is_controlled, guards))

    def _is_controlled(self, guard: Any) -> bool:
        if guard is None:
            return bool(self.roots)
        if not isinstance(guard, tuple):
            return not self.depends(guard)
        kind, node = guard
        if kind == "maybe":
            return True
        if kind == "function":
            return not isinstance(node, ast.Lambda) and id(node) in self.live
        rest = [*node.handlers, *node.orelse]
        safe = all(isinstance(each, ast.Assert) or not self.depends(each) for each in node.body)
        return safe and not any(
            isinstance(each, _FAILURES) or self.depends(each)
            for part in rest
            for each in ast.walk(part)
        )

    # Sites.

    def _close(self, site: _Site) -> None:
        """Finds the operands of a site and what is done with them outside."""
        node = site.node
        leaves = {
            id(g[1])
            for exits in self.read.exits
            if not self.controlled(tuple(g for g in exits if not _is_function(g)))
            for g in [g for g in exits if _is_function(g)][-1:]
        }
        reached = self.controlled(site.guards)
        reached = reached and not any(id(g[1]) in leaves for g in site.guards if _is_function(g))
        self.current = site
        site.operands, site.outside, site.pure = [], [], []  # type: ignore[attr-defined]
        try:
            made = self._statement(node)
        except _OpenError:
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
        return isinstance(node, ast.Expr) and _is_fail(node.value)

    def _is_assertion(self, node: ast.stmt) -> bool:
        return isinstance(node, ast.Assert) or _attribute(getattr(node, "value", node)).startswith(
            "assert"
        )

    def _statement(self, node: ast.stmt) -> ast.stmt | None:
        """What a site becomes outside; None if it is not one."""
        if isinstance(node, ast.Assert):
            if self.depends(node.test) or self._reads_touched(node.test):
                return ast.copy_location(ast.Assert(self.residual(node.test, True)), node)
            return None
        if isinstance(node, (ast.With, ast.AsyncWith)):
            call = raised_by(node)
            assert call is not None
            if len(node.body) != 1 or not isinstance(node.body[0], (ast.Expr, ast.Assign)):
                raise _OpenError
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
        name = _attribute(call)
        known = _is_self(call.func) and (_SELF, name) not in self.functions
        if known and name == "assertIsInstance" and len(call.args) > 1:
            made = ast.Call(ast.Name("isinstance", ast.Load()), call.args[:2], [])
            return ast.copy_location(ast.Assert(self._call(made, True)), node)
        if known and name in _RAISES:
            if len(call.args) < 2:
                raise _OpenError
            where = 2 if name == "assertRaises" else 3
            made = ast.Call(call.args[where - 1], call.args[where:], call.keywords)
            return self._raised(node, ast.Call(call.func, call.args[: where - 1], []), made)
        if isinstance(call.func, ast.Attribute) and self.depends(call.func.value) and not known:
            if name in _CALLS:
                return self._mock_calls(node, call)
            if name.startswith("assert"):
                raise _OpenError
        if self._helper(call) is not None:
            return None
        checks = name.startswith("assert") and (known or not self.depends(call.func))
        if not checks and not self.depends(call.func):
            function = self.functions.get(self.keys.get(id(call.func), (_FREE, "")), [None])[0]
            checks = function is not None and any(
                isinstance(each, _FAILURES) for each in ast.walk(function)
            )
        if not checks:
            if name.startswith("assert") and any(map(self.depends, call.args)):
                raise _OpenError
            return None
        values = [*call.args, *(k.value for k in call.keywords)]
        if not any(self.depends(v) or self._reads_touched(v) for v in values):
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

    def _is_from_program(self, node: ast.AST, depth: int = 0) -> bool:
        """Whether a value is what a function or an object of the program returns."""
        root = _root(node)
        key: Key | None = None
        if isinstance(root, ast.Name):
            key = self.keys.get(id(root), (_FREE, root.id))
        elif _is_self(root):
            key = (_SELF, root.attr)  # type: ignore[attr-defined]
        if key is None or key in self.functions:
            return isinstance(root, ast.Await) and self._is_from_program(root.value, depth + 1)
        if key[0] == _FREE:
            pure = key[1] in _PURE_BUILTINS and isinstance(node, ast.Call) and bool(node.args)
            return self._is_from_program(node.args[0], depth + 1) if pure else key[1] not in _IMPURE  # type: ignore[attr-defined]
        if self._is_candidate(key):
            return True
        found = self.bound_values(key)
        if not found and key in self.dependent:  # an argument that a fixture gives
            fixtures = [f for f in self.functions.get((0, key[1]), ()) if _fixture_of(f)]
            returns = [n for f in fixtures for n in ast.walk(f) if isinstance(n, _RETURNS)]
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

    def _is_object(self, node: ast.AST, depth: int = 0) -> bool:
        """Whether a value is an object of a class, as far as its name tells."""
        if isinstance(node, ast.Call):
            name = _attribute(node)
            known = getattr(builtins, name, None) or not self.depends(node.func)
            return not known and name[:1].isupper()
        if isinstance(node, (ast.Tuple, ast.BinOp, ast.UnaryOp)):
            return any(self._is_object(item, depth) for item in ast.iter_child_nodes(node))
        key = None
        if isinstance(node, ast.Name):
            key = self.keys.get(id(node))
        elif _is_self(node):
            key = (_SELF, node.attr)  # type: ignore[attr-defined]
        found = self.bound_values(key)
        return depth < 4 and any(v is not None and self._is_object(v, depth + 1) for v in found)

    def _alone(self, node: ast.expr) -> ast.expr:
        return self.residual(node) if self.depends(node) else node

    def _mock_calls(self, node: ast.Expr, call: ast.Call) -> ast.stmt:
        if any(map(self.depends, (*call.args, *(k.value for k in call.keywords)))):
            raise _OpenError
        owner = call.func.value  # type: ignore[attr-defined]
        calls = self._operand(ast.Call(ast.Name("codegen_calls", ast.Load()), [owner], []))
        names = [ast.Constant(k.arg) for k in call.keywords]
        options = ast.Dict(names, [k.value for k in call.keywords])  # type: ignore[arg-type]
        expected = ast.Tuple([ast.Tuple(call.args, ast.Load()), options], ast.Load())
        self.current.pure.append(expected)  # type: ignore[attr-defined]
        form = _CALLS[_attribute(call)].format("calls", "expected")
        test: Any = ast.parse(form, mode="eval").body
        test = _Replaced({"calls": calls, "expected": expected}).visit(test)
        return ast.copy_location(ast.Assert(test), node)

    def _raised(self, node: ast.stmt, call: ast.Call, tried: ast.expr) -> ast.stmt:
        if not self.depends(tried) and not self._reads_touched(tried):
            raise _OpenError
        if _waits(tried):
            raise _OpenError
        kinds = call.args[0].elts if isinstance(call.args[0], ast.Tuple) else [call.args[0]]
        names: list[ast.expr] = []
        for kind in kinds:
            root = _root(kind)
            key = self.key_of(root) if isinstance(root, ast.Name) else None
            is_named = key is not None and (key[0] == _FREE or key in self.imported)
            if self.depends(kind) and not is_named:
                raise _OpenError
            names.append(ast.Constant(_class_name(kind)) if self.depends(kind) else kind)
        match = next((k.value for k in call.keywords if k.arg == "match"), ast.Constant(None))
        if len(call.args) > 1:
            match = call.args[1]
        if self.depends(match):
            raise _OpenError
        self._operand(tried)
        self.current.pure.append(ast.Constant(""))  # type: ignore[attr-defined]
        check = ast.Call(
            ast.Name("codegen_raised", ast.Load()), [ast.Tuple(names, ast.Load()), match], []
        )
        return ast.copy_location(ast.Expr(check), node)

    def _reads_touched(self, node: ast.AST) -> bool:
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
                if self.keys.get(id(each)) in self.touched:
                    return True
            elif _is_self(each) and (_SELF, each.attr) in self.touched:  # type: ignore[attr-defined]
                return True
        return False

    def _compared(
        self, parts: list[ast.expr], identity: bool = False, equality: bool = False
    ) -> list[ast.expr]:
        """The operands of a comparison: what depends on the program is reported."""
        reported = [self.depends(part) for part in parts]
        if not any(reported):
            reported = [self._reads_touched(part) for part in parts]
        if all(reported):
            raise _OpenError  # the program would decide
        if identity and not all(
            r or isinstance(p, ast.Constant) for r, p in zip(reported, parts, strict=True)
        ):
            raise _OpenError
        # A call of a name in capitals that is compared with a literal may return a plain value.
        objects = [
            equality and isinstance(part, ast.Call) and self._is_object(part) for part in parts
        ]
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
            return ast.copy_location(ast.Compare(left, node.ops, others), node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            sides = self.depends(node.left), self.depends(node.right)
            if sides in ((True, False), (False, True)):
                left, right = self._compared([node.left, node.right])
                return ast.copy_location(ast.BinOp(left, node.op, right), node)
        if isinstance(node, ast.Call) and not self.depends(node.func):
            return self._call(node, is_truth)
        if isinstance(node, ast.Call) and _attribute(node) in ("all", "any") and not node.args:
            found = node.func.value  # type: ignore[attr-defined]
            if isinstance(found, ast.Compare):  # of arrays
                made = ast.Attribute(self.residual(found), _attribute(node), ast.Load())
                return ast.copy_location(ast.Call(made, [], []), node)
        return self._operand(node, is_truth)

    def _part(self, node: ast.expr, is_truth: bool = False) -> ast.expr:
        reported = self.depends(node) or self._reads_touched(node)
        return self.residual(node, is_truth) if reported else self._kept(node)

    def _call(self, node: ast.Call, is_truth: bool) -> ast.expr:
        name = _attribute(node)
        values = [*node.args, *(k.value for k in node.keywords)]
        dependent = [value for value in values if self.depends(value)]
        if name in ("all", "any") and isinstance(node.func, ast.Name) and node.args:
            return self._aggregate(node, node.args[0])
        if name == "isinstance" and len(node.args) == 2:
            kinds = self._operand(_called("codegen_kinds", node.args[0]), known=True)
            types = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
            if any(map(self.depends, types)):
                raise _OpenError
            self.current.pure.append(ast.Constant(""))  # type: ignore[attr-defined]
            return ast.copy_location(_called("codegen_of", kinds, *types), node)
        if name == "issubclass" or any(self.depends(k.value) for k in node.keywords):
            raise _OpenError
        if not isinstance(node.func, ast.Name) or name in _COMPARING:
            pass
        elif id(node.func) not in self.keys or self.keys[id(node.func)][0] == _FREE:
            return self._operand(node, is_truth)  # a builtin function
        if not dependent or (len(dependent) == len(values) and name not in _COMPARING):
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
                raise _OpenError
            if any(isinstance(each, ast.Compare) for each in ast.walk(items.elt)):
                raise _OpenError
            reported = self._operand(ast.copy_location(ast.ListComp(items.elt, [loop]), items))
            return ast.copy_location(ast.Call(node.func, [reported], []), node)
        if not isinstance(items, ast.Name):
            raise _OpenError
        return ast.Call(node.func, [self._operand(items)], [])

    def _operand(
        self, node: ast.expr, is_truth: bool = False, known: bool = False, equality: bool = False
    ) -> ast.expr:
        may_be_object = is_truth or equality
        if not known and (self._decides(node) or (not may_be_object and self._is_object(node))):
            raise _OpenError
        if is_truth and not self._is_from_program(node):
            raise _OpenError  # two values are easily guessed
        truth = ast.Call(ast.Name("bool", ast.Load()), [node], [])
        self.current.operands.append(truth if is_truth else node)
        value = ast.Constant(len(self.current.operands) - 1)
        return ast.copy_location(ast.Call(ast.Name("codegen_value", ast.Load()), [value], []), node)

    def _decides(self, node: ast.AST) -> bool:
        """Whether an operand may compare with what is expected, or hide an exception."""
        if isinstance(node, ast.comprehension):
            return self._decides(node.iter)
        if isinstance(node, (ast.Compare, ast.BoolOp, ast.IfExp)):
            return True
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Sub, ast.BitXor)):
            both = self.depends(node.left) and self.depends(node.right)
            return not both or any(map(self._decides, (node.left, node.right)))
        if isinstance(node, ast.Call):
            name, values = _attribute(node), [*node.args, *(k.value for k in node.keywords)]
            if not self.depends(node.func):
                if name in _COMPARING or name in ("all", "any", "hasattr", "callable"):
                    return True
                own = [v for v in values if not self.depends(v) and not _is_setting(v)]
                if (own and len(own) < len(values)) or (name == "getattr" and len(values) > 2):
                    return True
            elif name == "next" and len(values) > 1:
                return True
            for function in self.functions.get(self.keys.get(id(node.func), (_FREE, "")), ()):
                if any(isinstance(each, ast.Compare) for each in ast.walk(function)):
                    return True
            if self.depends(node.func):
                return self._decides(node.func)
        return any(map(self._decides, ast.iter_child_nodes(node)))

    def _is_hidden(self, site: _Site, needed: set[Key]) -> bool:
        """Whether what a site expects cannot be read inside."""
        pure = site.pure  # type: ignore[attr-defined]
        return not pure or all(self._hides(part, needed) for part in pure)

    def _hides(self, node: ast.AST, needed: set[Key], depth: int = 0) -> bool:
        """Whether a value cannot be read inside, nor what it is a part of."""
        if isinstance(node, (ast.Subscript, ast.Attribute, ast.Starred)) and not _is_self(node):
            return self._hides(node.value, needed, depth)
        if isinstance(node, ast.Call) and _attribute(node) in _VIEWS:
            parts = node.args or [node.func]
            return any(self._hides(part, needed, depth) for part in parts)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            key = self.key_of(node.func)
            return key not in self.functions or key not in needed
        if not isinstance(node, ast.Name) and not _is_self(node):
            return True
        key = self.key_of(node) if isinstance(node, ast.Name) else (_SELF, node.attr)  # type: ignore[attr-defined]
        found = [value for value in self.bound_values(key) if value]
        return key not in needed and (
            depth > 8 or all(self._hides(value, needed, depth + 1) for value in found)
        )

    def _number(self, site: _Site, number: int) -> None:
        site.number = number
        take = ast.Expr(ast.Call(ast.Name("codegen_take", ast.Load()), [ast.Constant(number)], []))
        site.outside = [ast.copy_location(take, site.node), *site.outside]
        for each in ast.walk(site.inside[0]):
            if isinstance(each, ast.Constant) and each.value == "__number":
                each.value = number

    # The two parts.

    def _inside_part(self) -> tuple[ast.Module, set[Key]]:
        needed: set[Key] = set()
        while True:
            self.needed = needed
            self.shown: set[Key] = set()
            module = ast.Module(self._inside(self.tree.body), [])
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
            elif _is_self(node) and isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
                found.add((_SELF, node.attr))  # type: ignore[attr-defined]
        return found

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
            for item in _targets(target):
                root = item if _is_self(item) else _root(item)
                if isinstance(root, ast.Name):
                    found.add(self.key_of(root))
                elif _is_self(root):
                    found.add((_SELF, root.attr))  # type: ignore[attr-defined]
        in_class = {
            name for scope, name in found if scope >= 0 and self.read.scopes[scope].is_class
        }
        return found | {(_SELF, name) for name in in_class}

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

    def _is_own(self, node: ast.AST) -> bool:
        """Whether a statement concerns the tests' values alone."""
        return not self.depends(node) and self._bound_by(node).isdisjoint(self.dependent)

    def _inside(self, nodes: Sequence[ast.stmt]) -> list[ast.stmt]:
        return [made for node in nodes for made in self._inner(node)]

    def _inner(self, node: Any) -> list[ast.stmt]:
        site = self.by_node.get(id(node))
        if site is not None:
            return self._inner_site(site, node)
        if isinstance(node, _FUNCTIONS):
            return self._inner_function(node)
        if isinstance(node, ast.ClassDef):
            if not self._has_tests(node):
                return [node]
            body = self._inside(node.body)
            return [self._with(node, body=body or [ast.Pass()])]
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
            body = self._inside(node.body)
            if _attribute(node.items[0].context_expr) == "subTest":
                return body
            if not body and not any(self.depends(item.context_expr) for item in node.items):
                return []
            return [self._with(node, body=body or [ast.Pass()])]
        if isinstance(node, ast.Try):
            parts = {n: self._inside(getattr(node, n)) for n in ("body", "orelse", "finalbody")}
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
            return [node] if is_needed or _is_harness(node) else []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            helper = self._helper(node.value)
            if helper is not None:
                return [self._inner_call(node, helper)]
            if _starts_tests(node.value):
                return []
            if _attribute(node.value) in _SKIPS:
                return [node]
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Delete)):
            if _is_docstring(node):
                return [node]
            if self._is_own(node) and self._bound_by(node).isdisjoint(self.needed):
                return []
        if isinstance(node, ast.Assert) and not self.depends(node.test):
            return []
        if isinstance(node, ast.Raise) and not self.depends(node):
            return (
                [ast.Raise(ast.Name("AssertionError", ast.Load()))] if self._fails(node) else [node]
            )
        if isinstance(node, ast.Return) and node.value and not self.depends(node.value):
            return [node if not self._read_in(node) else ast.Return(node.value)]
        return [node]

    def _inner_site(self, site: _Site, node: Any) -> list[ast.stmt]:
        if site.is_open:
            return self._inner_open(node)
        if not site.operands:
            return []
        asynchronous = any(map(_waits, site.operands))
        made: list[ast.expr] = []
        for operand in site.operands:
            operand = self._blanked_items(operand)
            made.append(operand if asynchronous else ast.Lambda(_NO_ARGUMENTS, operand))
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
        failed = ast.Expr(ast.Call(ast.Name("codegen_failed", ast.Load()), [], []))
        handler = ast.ExceptHandler(
            ast.Name("AssertionError", ast.Load()), None, [failed, ast.Raise(None, None)]
        )
        caught = any(
            type(g) is tuple and (g[0] == "try" or _may_fail(g[1]))
            for g in self.by_node[id(node)].guards
        )
        return [node] if caught else [ast.Try([node], [handler], [], [])]

    def _inner_function(self, node: Any) -> list[ast.stmt]:
        if id(node) in self.pure:
            return [node] if self._key_of(node) in self.needed or _fixture_of(node) else []
        is_live = id(node) in self.live
        body = self._inside(node.body[1:] if is_live and _is_docstring(node.body[0]) else node.body)
        made = self._with(node, body=body or [ast.Pass()])
        decorators: list[ast.expr] = []
        for decorator in node.decorator_list:
            found = [row for row in _parameters(node) if row[2] is decorator]
            decorators.append(self._blanked_parameters(node, *found[0]) if found else decorator)
        made.decorator_list = decorators
        scope = self.read.owner[id(node)]
        unread = [n for n, _ in _defaults(node) if is_live and (scope, n) not in self.needed]
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
        blanked = None if rows is None or all(keep) else _keep_columns(rows, keep)
        if blanked is None:
            self.shown |= {(scope, name) for name in names}
        options = [k for k in call.keywords if k.arg != "ids"]
        return ast.Call(call.func, [call.args[0], blanked or table], options)

    def _inner_call(self, node: ast.Expr, helper: Any) -> ast.stmt:
        call: Any = node.value
        scope = self.read.owner[id(helper)]
        names = dict(_named(helper, call))

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
        if isinstance(node, ast.Name) or _is_self(node):
            key = self.key_of(node) if isinstance(node, ast.Name) else (_SELF, node.attr)  # type: ignore[attr-defined]
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
                return None if rows is None else _list([ast.Constant(None)] * len(rows))
            return None
        keep = [is_needed(item) for item in target.elts]
        if isinstance(table, ast.Call) and isinstance(table.func, ast.Name):
            if table.func.id == "enumerate" and len(keep) == 2:
                inner = self._blanked(table.args[0], target.elts[1])
                return inner and ast.Call(table.func, [inner, *table.args[1:]], table.keywords)
            if table.func.id == "zip" and len(keep) == len(table.args):
                parts: list[ast.expr] = []
                for part, item in zip(table.args, target.elts, strict=True):
                    parts.append(self._blanked(part, item) or part)
                return ast.Call(table.func, parts, table.keywords)
        if isinstance(table, ast.Call) and _attribute(table) == "items" and len(keep) == 2:
            owner = table.func.value  # type: ignore[attr-defined]
            if isinstance(owner, ast.Name):
                owner = self._only_value(self.key_of(owner))
            if isinstance(owner, ast.Dict) and None not in owner.keys:
                pairs = zip(owner.keys, owner.values, strict=True)
                return _keep_columns([ast.Tuple([k, v]) for k, v in pairs], keep)  # type: ignore[list-item]
            return None
        rows = self._rows(table)
        return None if rows is None or all(keep) else _keep_columns(rows, keep)

    def _with(self, node: Any, **changes: Any) -> Any:
        made = copy.copy(node)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def _outside(self, nodes: Sequence[ast.stmt]) -> list[ast.stmt]:
        return [made for node in nodes if not _is_docstring(node) for made in self._outer(node)]

    def _outer(self, node: Any) -> list[ast.stmt]:
        site = self.by_node.get(id(node))
        if site is not None:
            if site.is_open:
                return []
            rest = self._outside(node.handlers[0].body) if isinstance(node, ast.Try) else []
            return [*site.outside, *rest]
        if isinstance(node, _FUNCTIONS):
            return self._outer_function(node)
        if isinstance(node, ast.ClassDef):
            if not self._has_tests(node):
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
            return [] if _raises_itself(node) else self._outside(node.body)
        if isinstance(node, ast.Try):
            last = self._outside(node.finalbody)
            if not self._is_controlled(("try", node)):
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
                if _is_harness(node) or self._bound_by(node).isdisjoint(self.dependent)
                else []
            )
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            helper = self._helper(node.value)
            if helper is not None:
                return [self._outer_call(node.value)]
            if _starts_tests(node.value) or self._is_own(node) is False:
                return []
        if isinstance(node, ast.Return):
            return [ast.Return(None)] if not node.value or self.depends(node.value) else [node]
        if isinstance(node, (ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal)):
            return [node]
        return [node] if self._is_own(node) else []

    def _has_tests(self, node: ast.ClassDef) -> bool:
        own = self.read.functions.get(self.read.owner[id(node)], ())
        return any(id(function) in self.runners for function in own)

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
        tables = [call for _, table, call in _parameters(node) if not self.depends(table)]
        others = [d for d in node.decorator_list if not self.depends(d) and d not in tables]
        made.decorator_list = tables + [d for d in others if _attribute(d) not in _FIXTURES]
        if _attribute_names(node.decorator_list) & {"classmethod", "staticmethod"}:
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


def _called(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


_NO_ARGUMENTS = ast.arguments([], [], None, [], [], None, [])


class _Replaced(ast.NodeTransformer):
    def __init__(self, parts: dict[str, ast.expr]) -> None:
        self.parts = parts

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.parts.get(node.id, node)


def _list(items: list[ast.expr]) -> ast.expr:
    return ast.List(items, ast.Load())


def _keep_columns(rows: list[ast.expr], keep: list[bool]) -> ast.expr | None:
    """A table with None in columns that are not kept; None if it has another shape."""
    if len(keep) == 1:
        return _list([row if keep[0] else ast.Constant(None) for row in rows])
    made: list[ast.expr] = []
    for row in rows:
        if isinstance(row, ast.Call) and not any(k.arg == "marks" for k in row.keywords):
            row = ast.Tuple(row.args, ast.Load())
        if not isinstance(row, (ast.Tuple, ast.List)) or len(row.elts) != len(keep):
            return None
        parts = zip(row.elts, keep, strict=True)
        made.append(ast.Tuple([e if kept else ast.Constant(None) for e, kept in parts], ast.Load()))
    return _list(made)


def _elements(node: ast.AST | None) -> list[ast.AST | None]:
    """What a loop over an expression binds, each item of rows by itself."""
    if isinstance(node, ast.Call) and _attribute(node) == "range":
        return []
    if not isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return [None]
    rows = (row.elts if isinstance(row, (ast.Tuple, ast.List)) else [row] for row in node.elts)
    return [item for row in rows for item in row]


def _waits(node: ast.AST) -> bool:
    return any(
        isinstance(each, _WAITS) or getattr(each, "is_async", False) for each in ast.walk(node)
    )


def _is_setting(node: ast.AST) -> bool:
    """Whether an argument only says how to do something."""
    return isinstance(node, (ast.Constant, ast.Lambda, ast.Name, ast.Attribute, ast.UnaryOp))


def _class_name(node: ast.AST) -> str:
    name = _attribute(node)
    return getattr(getattr(builtins, name, None), "__name__", name)  # IOError is OSError


def _is_function(guard: Any) -> bool:
    return type(guard) is tuple and guard[0] == "function"


def _is_harness(node: ast.Import | ast.ImportFrom) -> bool:
    module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    return (module or "").split(".")[0] in ("unittest", "pytest") and (
        module or ""
    ) != "unittest.mock"


def _starts_tests(call: ast.Call) -> bool:
    root = _root(call)
    named = isinstance(root, ast.Name) and root.id in ("unittest", "pytest")
    return (named and _attribute(call) in ("main", "run", "TextTestRunner")) or (
        _attribute(call) == "print"
    )


def _may_fail(node: Any) -> bool:
    decorators = getattr(node, "decorator_list", ())
    names = _attribute_names(part for each in decorators for part in ast.walk(each))
    return not names.isdisjoint(("xfail", "expectedFailure"))


def _is_fixture(node: ast.AST) -> bool:
    return _attribute(node) == "fixture"


def _fixture_of(node: Any) -> bool:
    return any(map(_is_fixture, node.decorator_list))


def _attribute_names(nodes: Iterable[ast.AST]) -> set[str]:
    return {_attribute(node) for node in nodes}


def _parameters(node: Any) -> list[tuple[list[str], ast.expr, ast.Call]]:
    """The tables of ``parametrize``: names, rows and the decorator."""
    found: list[tuple[list[str], ast.expr, ast.Call]] = []
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and _attribute(each) == "parametrize" and len(each.args) == 2:
            names: Any = each.args[0]
            if isinstance(names, ast.Constant) and isinstance(names.value, str):
                split = [name.strip() for name in names.value.split(",") if name.strip()]
            else:
                split = [getattr(name, "value", "") for name in getattr(names, "elts", ())]
            found.append((split, each.args[1], each))
    return found


def _named(node: Any, call: ast.Call) -> Iterator[tuple[int, str]]:
    arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    if arguments[:1] == ["self"]:
        arguments = arguments[1:]
    for name, value in zip(arguments, call.args, strict=False):
        yield id(value), name
    for each in call.keywords:
        yield id(each.value), each.arg or ""


def _given(node: Any, call: ast.Call) -> Iterator[tuple[str, ast.AST | None]]:
    """The arguments of a call by the names of the function's parameters."""
    names = dict(_named(node, call))
    if any(isinstance(value, ast.Starred) for value in call.args):
        yield from ((a.arg, None) for a in node.args.args)
    for value in (*call.args, *(k.value for k in call.keywords)):
        if id(value) in names:
            yield names[id(value)], value


def _defaults(node: Any) -> Iterator[tuple[str, ast.AST]]:
    positional = [*node.args.posonlyargs, *node.args.args]
    count = len(node.args.defaults)
    for argument, value in zip(
        positional[len(positional) - count :], node.args.defaults, strict=True
    ):
        yield argument.arg, value
    for argument, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if value is not None:
            yield argument.arg, value


# What tests may do with a value of the program, so that it need not be more than a plain one.
_PLAIN_USES = frozenset(
    (
        *("abs", "all", "any", "float", "fabs", "int", "isclose", "isinstance", "len", "list"),
        *("map", "max", "min", "round", "set", "sorted", "sum", "tuple", "zip", "approx"),
    )
)
_PLAIN_ERRORS = frozenset(
    (
        *("ArithmeticError", "AssertionError", "AttributeError", "BaseException", "Exception"),
        "IndexError",
        *("KeyError", "LookupError", "NameError", "NotImplementedError", "OverflowError"),
        *("RecursionError", "RuntimeError", "TypeError", "ValueError", "ZeroDivisionError"),
    )
)
_PLAIN_VALUES = _PLAIN_USES | {
    *("date", "datetime", "timedelta", "time", "Decimal", "Fraction", "dict", "range", "str"),
    *("array", "DataFrame", "Series", "deepcopy", "copy", "choice", "randint", "random", "chr"),
    *("encode", "format", "join", "lower", "replace", "split", "strip", "upper"),
}
_CHANGEABLE = frozenset(("array", "DataFrame", "Series"))  # in place, which is not sent back
_PLAIN_MODULES = _MODULES | {"random", "time", "warnings", "heapq", "typing"}
_OPERATIONS = (ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Assert, ast.List, ast.Tuple)
_NEVER = (ast.AsyncFunctionDef, ast.Await, ast.AsyncWith, ast.AsyncFor, ast.Global, ast.Nonlocal)


class _Plainness:
    """Whether tests need only plain values and functions of the program."""

    def __init__(self, split: _Split) -> None:
        self.split = split
        used = [node for node, _, _ in split.read.named if isinstance(node, ast.Name)]
        free = {node.id for node in used if split.key_of(node)[0] == _FREE}
        self.program = (free - _PURE_BUILTINS - _IMPURE) | {split.read.entry_point} - {""}
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
                    given = _given(function, call)
                    self.candidates |= {(scope, n) for n, v in given if v and self._is_function(v)}
        split.settle(frozenset(self.program | {"\0"}), self.candidates)
        handlers = [n for n in ast.walk(split.tree) if isinstance(n, ast.ExceptHandler)]
        self.errors = {handler.name for handler in handlers if handler.name}
        self.parents = {
            id(child): node for node in ast.walk(split.tree) for child in ast.iter_child_nodes(node)
        }

    def _is_function(self, node: ast.AST) -> bool:
        """Whether it is a global name of the program, or an argument that is one."""
        key = self.split.key_of(node) if isinstance(node, ast.Name) else (_SELF, "")
        return (key[0] == _FREE and key[1] in self.program) or key in self.candidates

    def holds(self) -> bool:
        """True if no statement needs more."""
        return all(map(self._is_plain, ast.walk(self.split.tree)))

    def _is_plain(self, node: ast.AST) -> bool:
        split = self.split
        if isinstance(node, _NEVER):
            return False
        if isinstance(node, ast.Import):
            return node.names[0].name in _PLAIN_MODULES
        if isinstance(node, ast.ImportFrom):
            return node.module in _PLAIN_MODULES
        if isinstance(node, ast.ClassDef):
            return split._has_tests(node) and not any(map(split.depends, node.bases))
        if isinstance(node, ast.FunctionDef):
            return self._is_plain_function(node)
        if isinstance(node, ast.With):
            call = raised_by(node)
            alone = call is not None and node.items[0].optional_vars is None
            return (alone and self._is_plain_error(call.args[0])) or (  # type: ignore[union-attr]
                _attribute(node.items[0].context_expr) == "subTest"
            )
        if isinstance(node, ast.ExceptHandler):
            return node.type is None or self._is_plain_error(node.type)
        if isinstance(node, ast.Attribute):
            if _is_self(node):
                return True
            if node.attr == "__name__" and _attribute(node.value) == "type":
                return True
            stored = not isinstance(node.ctx, ast.Load)
            return (
                not stored
                and node.attr not in _IMPURE_ATTRIBUTES - {"random", "seed"}
                and not split.depends(node.value)
            )
        if isinstance(node, ast.Call) and _attribute(node) in _RAISES and _is_self(node.func):
            return bool(node.args) and self._is_plain_error(node.args[0])
        if isinstance(node, ast.Call) and split.depends(node.func):
            return not any(map(self._is_rich, (*node.args, *(k.value for k in node.keywords))))
        if isinstance(node, ast.Compare):
            called = [split.depends(part) for part in (node.left, *node.comparators)]
            identity = any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
            plain = not identity or any(isinstance(part, ast.Constant) for part in node.comparators)
            return plain and not all(called)
        if isinstance(node, ast.BinOp) and split.depends(node.left) and split.depends(node.right):
            return False
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in _IMPURE - {"print"}:
                return False
            if node.id in self.errors:
                shown = self.parents[id(node)]
                return isinstance(shown, ast.FormattedValue) or _attribute(shown) in ("str", "type")
            return not split.depends(node) or self._is_plain_use(node)
        return True

    def _is_plain_function(self, node: ast.FunctionDef) -> bool:
        if any(map(self.split.depends, node.decorator_list)) or _fixture_of(node):
            return False
        if id(node) not in self.split.runners or node.name == "check":
            return True
        return not _parameters(node) and all(a.arg in ("self", "cls") for a in node.args.args)

    def _is_plain_error(self, node: ast.AST) -> bool:
        kinds = node.elts if isinstance(node, ast.Tuple) else [node]
        return all(isinstance(k, ast.Name) and k.id in _PLAIN_ERRORS for k in kinds)

    def _is_plain_use(self, node: ast.Name) -> bool:
        key, parent = self.split.key_of(node), self.parents[id(node)]
        user = self.parents.get(id(parent))
        if key in self.split.functions:
            return isinstance(parent, ast.Call) and parent.func is node
        if self._is_function(node):
            if not isinstance(parent, ast.Call):
                return False
            if parent.func is not node:
                return self._is_own_call(parent) or _attribute(parent) in ("map", "check")
            if node.id[:1].isupper():
                return isinstance(user, ast.Compare) and isinstance(user.ops[0], ast.Eq)
            if isinstance(user, ast.Call) and parent is not user.func:
                called = _attribute(user)
                known = called in _PLAIN_USES or called.startswith("assert")
                return known or self._is_own_call(user) or self.split.depends(user.func)
            return not isinstance(user, ast.Call)
        if isinstance(parent, ast.Call):
            is_checked = self._is_own_call(parent) or _attribute(parent).startswith("assert")
            return parent.func is not node and is_checked
        return isinstance(parent, (*_OPERATIONS, ast.FormattedValue))

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
            if key[0] == _FREE or key in split.functions or key in split.imported:
                return True
            found = split.bound_values(key)
            calls = [value for value in found if isinstance(value, ast.Call)]
            changes = key in split.touched and len(split.uses.get(key, ())) > 1
            return any(
                self._is_rich(call) or (changes and _attribute(call) in _CHANGEABLE)
                for call in calls
            )
        if isinstance(node, ast.Attribute):
            return not _is_self(node) or (_SELF, node.attr) in split.functions
        if isinstance(node, ast.Call) and not split.depends(node.func):
            own = isinstance(node.func, ast.Name) and split.key_of(node.func) in split.functions
            known = own or _attribute(node) in _PLAIN_VALUES
            values = [value for value in node.args if not isinstance(value, ast.GeneratorExp)]
            return not known or any(map(self._is_rich, values))
        if isinstance(node, (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred)):
            return any(map(self._is_rich, ast.iter_child_nodes(node)))
        return False
