"""Helpers for syntax trees of tests, and the names that they know."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from typing import Any

from codegen.evals.sandbox.inner.analysis import PURE_MODULES

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
WAITS = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
IMPURE = frozenset(
    (
        *("open", "input", "exec", "eval", "compile", "globals", "locals", "vars", "setattr"),
        *("delattr", "id", "iter", "next", "breakpoint", "__import__", "exit", "quit", "dir"),
        *("print", "super", "classmethod", "staticmethod", "property"),
    )
)
PURE_BUILTINS = frozenset(vars(builtins)) - IMPURE | {"__name__", "__file__"}
MODULES = (PURE_MODULES - {"random"}) | {
    *("base64", "binascii", "calendar", "decimal", "json", "numpy", "pandas", "struct", "types"),
    *("sys", "unicodedata", "unittest", "pytest", "collections.abc", "string"),
}
IMPURE_ATTRIBUTES = frozenset(
    (
        *("now", "today", "utcnow", "mock", "random", "seed", "importorskip", "stdin", "stdout"),
        *("stderr", "modules", "argv", "environ", "path", "settrace", "getrecursionlimit"),
        # What may write a file.
        *(
            "to_csv",
            "to_excel",
            "to_json",
            "to_pickle",
            "to_parquet",
            "to_html",
            "to_sql",
            "to_xml",
        ),
        *("save", "savez", "savez_compressed", "savetxt", "savefig", "tofile", "dump"),
    )
)
FIXTURES = frozenset(("parametrize", "usefixtures", "fixture"))
SKIPS = frozenset(("skip", "skipTest", "xfail", "importorskip", "exit"))
MUTATORS = frozenset(
    (
        *("append", "appendleft", "extend", "add", "update", "insert", "setdefault", "push"),
        *("remove", "discard", "write", "put", "pop", "clear", "sort", "reverse"),
    )
)
SET_UP = frozenset(
    (
        *("setUp", "tearDown", "setUpClass", "tearDownClass", "asyncSetUp", "asyncTearDown"),
        *("setup_method", "teardown_method", "setup_class", "teardown_class"),
    )
)
RAISES = ("raises", "assertRaises", "assertRaisesRegex")
# Calls whose operands are compared outside, not within the program's process.
COMPARING = frozenset(("abs", "isclose", "allclose", "array_equal", "fabs", "approx", "isinstance"))
CALLS = {
    "assert_called_once_with": "{0} == [{1}]",
    "assert_called_with": "{0}[-1:] == [{1}]",
    "assert_any_call": "{1} in {0}",
    "assert_not_called": "{0} == []",
    "assert_called_once": "len({0}) == 1",
    "assert_called": "len({0}) > 0",
}

# Context managers that let all exceptions pass.
WHOLE = frozenset(
    (
        *("patch", "object", "dict", "multiple", "open", "TemporaryDirectory", "subTest"),
        *("NamedTemporaryFile", "redirect_stdout", "redirect_stderr", "catch_warnings"),
        *("assertLogs", "assertWarns", "warns", "closing", "ThreadPoolExecutor", "timeout"),
    )
)
MAYBE = ("maybe", None)  # what is assigned there may not be
Key = tuple[int, str]
SELF = -2  # the scope of attributes of ``self``
FREE = -1


def last_name(node: ast.AST) -> str:
    """The last name of a function that is called, or of a name."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_self(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "cls")
    )


def is_name(node: ast.AST) -> bool:
    """Whether it is a variable."""
    return isinstance(node, ast.Name)


def root_of(node: ast.AST) -> ast.AST:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)) and not is_self(node):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def targets_of(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, (ast.Tuple, ast.List)):
        for item in node.elts:
            yield from targets_of(item)
    elif isinstance(node, ast.Starred):
        yield from targets_of(node.value)
    else:
        yield node


def raised_by(node: ast.With | ast.AsyncWith) -> ast.Call | None:
    """The call of ``raises`` that a ``with`` enters."""
    call = node.items[0].context_expr
    alone = len(node.items) == 1 and isinstance(call, ast.Call) and bool(call.args)
    return call if alone and last_name(call) in RAISES else None  # type: ignore[return-value]


def expected_by(node: ast.Try) -> ast.ExceptHandler | None:
    """The handler of ``try: f(); assert False; except Error: ...``."""
    if len(node.handlers) != 1 or node.finalbody or node.handlers[0].type is None:
        return None
    if node.orelse:
        last, calls = node.orelse[-1], node.body
    else:
        last, calls = node.body[-1], node.body[:-1]
    if not always_fails(last) or not calls or len(node.orelse) > 1:
        return None
    one = len(calls) == 1 and isinstance(calls[0], (ast.Expr, ast.Assign))
    return node.handlers[0] if one else None


def raises_itself(node: ast.With | ast.AsyncWith) -> bool:
    """Whether the body of a ``with`` raises something that its manager may catch."""
    return any(isinstance(each, ast.Raise) for part in node.body for each in ast.walk(part))


def always_fails(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and not node.test.value
    if isinstance(node, ast.Raise):
        return node.exc is not None and last_name(node.exc) == "AssertionError"
    return isinstance(node, ast.Expr) and is_fail(node.value)


def is_fail(node: ast.AST) -> bool:
    """Whether it is ``self.fail(...)`` or ``pytest.fail(...)``."""
    root = root_of(node)
    known = is_self(root) or (isinstance(root, ast.Name) and root.id == "pytest")
    return (
        known
        and isinstance(node, ast.Call)
        and ast.unparse(node.func).count(".") == 1
        and (last_name(node) == "fail")
    )


class OpenError(Exception):
    """The site cannot be closed."""


RETURNS = (ast.Return, ast.Yield)
FAILURES = (ast.Assert, ast.Raise)
IMMUTABLE = frozenset(("int", "str", "float", "len", "range", "abs", "round", "chr"))
ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
# Functions whose results are not parts of their arguments.
COMPUTING = frozenset(
    ("sorted", "sum", "len", "max", "min", "set", "round", "abs", "sqrt", "Counter")
)
FLAGS = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.IfExp)


def make_call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


NO_ARGUMENTS = ast.arguments([], [], None, [], [], None, [])


def pairs_of(target: ast.AST, value: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """The parts of a tuple assignment, each by itself."""
    kinds = (ast.Tuple, ast.List)
    if isinstance(target, kinds) and isinstance(value, kinds):
        starred = any(isinstance(item, ast.Starred) for item in (*target.elts, *value.elts))
        if len(target.elts) == len(value.elts) and not starred:
            for part, each in zip(target.elts, value.elts, strict=True):
                yield from pairs_of(part, each)
            return
    yield target, value


class Replaced(ast.NodeTransformer):
    def __init__(self, parts: dict[str, ast.expr]) -> None:
        self.parts = parts

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.parts.get(node.id, node)


def make_list(items: list[ast.expr]) -> ast.expr:
    return ast.List(items, ast.Load())


def keep_columns(rows: list[ast.expr], keep: list[bool]) -> ast.expr | None:
    """A table with None in columns that are not kept; None if it has another shape."""
    if len(keep) == 1:
        return make_list([row if keep[0] else ast.Constant(None) for row in rows])
    made: list[ast.expr] = []
    for row in rows:
        if isinstance(row, ast.Call) and not any(k.arg == "marks" for k in row.keywords):
            row = ast.Tuple(row.args, ast.Load())
        if not isinstance(row, (ast.Tuple, ast.List)) or len(row.elts) != len(keep):
            return None
        parts = zip(row.elts, keep, strict=True)
        made.append(ast.Tuple([e if kept else ast.Constant(None) for e, kept in parts], ast.Load()))
    return make_list(made)


def elements_of(node: ast.AST | None) -> list[ast.AST | None]:
    """What a loop over an expression binds, each item of rows by itself."""
    if isinstance(node, ast.Call) and last_name(node) == "range":
        return []
    if not isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return [None]
    found: list[ast.AST | None] = []
    for row in node.elts:
        if isinstance(row, ast.Call) and last_name(row) == "param":
            found += row.args
        else:
            found += row.elts if isinstance(row, (ast.Tuple, ast.List)) else [row]
    return found


def waits(node: ast.AST) -> bool:
    return any(
        isinstance(each, WAITS) or getattr(each, "is_async", False) for each in ast.walk(node)
    )


def is_setting(node: ast.AST) -> bool:
    """Whether an argument only says how to do something."""
    return isinstance(node, (ast.Constant, ast.Lambda, ast.Name, ast.Attribute, ast.UnaryOp))


def class_name(node: ast.AST) -> str:
    name = last_name(node)
    return getattr(getattr(builtins, name, None), "__name__", name)  # IOError is OSError


def is_function(guard: Any) -> bool:
    return type(guard) is tuple and guard[0] == "function"


def is_of_pytest(call: ast.Call) -> bool:
    """Whether a function of pytest is called by its full name."""
    root = root_of(call)
    return isinstance(root, ast.Name) and root.id == "pytest"


def is_harness(node: ast.Import | ast.ImportFrom) -> bool:
    module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    return (module or "").split(".")[0] in ("unittest", "pytest") and (
        module or ""
    ) != "unittest.mock"


def starts_tests(call: ast.Call) -> bool:
    root = root_of(call)
    named = isinstance(root, ast.Name) and root.id in ("unittest", "pytest")
    return (named and last_name(call) in ("main", "run", "TextTestRunner")) or (
        last_name(call) == "print"
    )


def may_fail(node: Any) -> bool:
    decorators = getattr(node, "decorator_list", ())
    names = last_names(part for each in decorators for part in ast.walk(each))
    return not names.isdisjoint(("xfail", "expectedFailure"))


def is_fixture(node: ast.AST) -> bool:
    return last_name(node) == "fixture"


def is_fixture_function(node: Any) -> bool:
    return any(map(is_fixture, node.decorator_list))


def last_names(nodes: Iterable[ast.AST]) -> set[str]:
    return {last_name(node) for node in nodes}


def parameter_tables(node: Any) -> list[tuple[list[str], ast.expr, ast.Call]]:
    """The tables of ``parametrize``: names, rows and the decorator."""
    found: list[tuple[list[str], ast.expr, ast.Call]] = []
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and last_name(each) == "parametrize" and len(each.args) == 2:
            names: Any = each.args[0]
            if isinstance(names, ast.Constant) and isinstance(names.value, str):
                split = [name.strip() for name in names.value.split(",") if name.strip()]
            else:
                split = [getattr(name, "value", "") for name in getattr(names, "elts", ())]
            found.append((split, each.args[1], each))
    return found


def named_arguments(node: Any, call: ast.Call) -> Iterator[tuple[int, str]]:
    arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    if arguments[:1] == ["self"]:
        arguments = arguments[1:]
    for name, value in zip(arguments, call.args, strict=False):
        yield id(value), name
    for each in call.keywords:
        yield id(each.value), each.arg or ""


def given_arguments(node: Any, call: ast.Call) -> Iterator[tuple[str, ast.AST | None]]:
    """The arguments of a call by the names of the function's parameters."""
    names = dict(named_arguments(node, call))
    if any(isinstance(value, ast.Starred) for value in call.args):
        yield from ((a.arg, None) for a in node.args.args)
    for value in (*call.args, *(k.value for k in call.keywords)):
        if id(value) in names:
            yield names[id(value)], value


def default_arguments(node: Any) -> Iterator[tuple[str, ast.AST]]:
    positional = [*node.args.posonlyargs, *node.args.args]
    count = len(node.args.defaults)
    for argument, value in zip(
        positional[len(positional) - count :], node.args.defaults, strict=True
    ):
        yield argument.arg, value
    for argument, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if value is not None:
            yield argument.arg, value
