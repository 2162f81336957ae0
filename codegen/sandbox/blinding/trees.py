"""Helpers for syntax trees of tests, and sets of known names."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from typing import Any

from codegen.sandbox.protocol import words
from codegen.sandbox.tests_side.analysis import PURE_MODULES

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DISPLAYS = (ast.List, ast.Tuple)
LOOPS = (ast.For, ast.AsyncFor)
COMPOUND = (*LOOPS, ast.If, ast.While, ast.With, ast.AsyncWith, ast.Try)
BLOCKS = ("body", "orelse", "finalbody")
ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
RETURNS = (ast.Return, ast.Yield)
# Expressions that usually compute a flag from their operands.
FLAGS = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.IfExp)
# Expressions that fail in a lambda or change meaning: a name would be bound in the lambda.
UNFIT_FOR_LAMBDA = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
NO_ARGUMENTS = ast.arguments([], [], None, [], [], None, [])
IMPURE = words(
    "open input exec eval compile globals locals vars setattr delattr id iter next breakpoint "
    "__import__ exit quit dir print super classmethod staticmethod property"
)
PURE_BUILTINS = frozenset(vars(builtins)) - IMPURE | words("__name__ __file__ codegen_raises")
MODULES = (PURE_MODULES - {"random"}) | words(
    "base64 binascii calendar decimal json numpy pandas struct types sys unicodedata unittest "
    "pytest collections.abc string"
)
# Names that depend on the environment, or may write a file.
IMPURE_ATTRIBUTES = words(
    "now today utcnow mock random seed importorskip stdin stdout stderr modules argv environ path "
    "settrace getrecursionlimit to_csv to_excel to_json to_pickle to_parquet to_html to_sql to_xml "
    "save savez savez_compressed savetxt savefig tofile dump"
)
FIXTURES = frozenset(("parametrize", "usefixtures", "fixture"))
SKIPS = frozenset(("skip", "skipTest", "xfail", "importorskip", "exit"))
MUTATORS = words(
    "append appendleft extend add update insert setdefault push remove discard write put pop clear "
    "sort reverse"
)
SET_UP = words(
    "setUp tearDown setUpClass tearDownClass asyncSetUp asyncTearDown setup_method teardown_method "
    "setup_class teardown_class"
)
# Names that load and run test cases, which run anyway.
STARTS = words("TestLoader TextTestRunner TestSuite makeSuite defaultTestLoader TestResult")
RAISES = ("raises", "assertRaises", "assertRaisesRegex", "codegen_raises")
# Calls whose operands are compared on the tests side, not in the program's process.
COMPARING = words("abs isclose allclose array_equal fabs approx isinstance")
MOCK_ASSERTIONS = words(
    "assert_called_once_with assert_called_with assert_any_call assert_not_called "
    "assert_called_once assert_called"
)
# Functions and methods whose results are immutable.
IMMUTABLE = words("int str float len range abs round chr join lower upper replace strip randint")
MAYBE = ("maybe", None)  # a variable that may be unassigned
Key = tuple[int, str]
SELF = -2  # scope of ``self`` attributes
FREE = -1


def children(node: ast.AST) -> list[ast.AST]:
    """Returns the child nodes without contexts; faster than :func:`ast.iter_child_nodes`."""
    found: list[ast.AST] = []
    for name in node._fields if type(node) not in (ast.Name, ast.Constant) else ():
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST) and name != "ctx":
            found.append(value)
    return found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yields a node and all nodes below it, as :func:`ast.walk` does, without contexts."""
    found = [node]
    for each in found:
        found += children(each)
        yield each


def last_name(node: ast.AST) -> str:
    """Returns the last name of a called function, or of a name."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_self(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "cls")
    )


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
    """Returns the ``raises`` call that a ``with`` statement enters."""
    call = node.items[0].context_expr
    alone = len(node.items) == 1 and isinstance(call, ast.Call) and bool(call.args)
    return call if alone and last_name(call) in RAISES else None  # type: ignore[return-value]


def expected_by(node: ast.Try) -> ast.ExceptHandler | None:
    """Returns the handler of ``try: f(); assert False; except Error: ...``."""
    if len(node.handlers) != 1 or node.finalbody or len(node.orelse) > 1:
        return None
    (handler,), steps = node.handlers, [*node.body, *node.orelse]
    called = len(steps) == 2 and isinstance(steps[0], (ast.Expr, ast.Assign))
    return handler if handler.type and called and always_fails(steps[1]) else None


def always_fails(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and not node.test.value
    if isinstance(node, ast.Raise):
        return node.exc is not None and last_name(node.exc) == "AssertionError"
    return isinstance(node, ast.Expr) and is_fail(node.value)


def is_fail(node: ast.AST) -> bool:
    """Returns True if a node is ``self.fail(...)`` or ``pytest.fail(...)``."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("self.fail", "pytest.fail")


class OpenError(Exception):
    """The site must stay open."""


def needs_no_head(node: Any) -> bool:
    """Returns True if the body of a compound statement can replace the statement."""
    if isinstance(node, ast.Try):
        return not node.handlers and not node.finalbody
    return isinstance(node, ast.With) and last_name(node.items[0].context_expr) == "subTest"


def make_call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def is_unfit_for_lambda(node: ast.AST) -> bool:
    return any(isinstance(n, UNFIT_FOR_LAMBDA) or getattr(n, "is_async", False) for n in walk(node))


def is_setting(node: ast.AST) -> bool:
    """Returns True if an argument can only be an option."""
    return isinstance(node, (ast.Constant, ast.Lambda, ast.Name, ast.Attribute, ast.UnaryOp))


def class_name(node: ast.AST) -> str:
    name = last_name(node)
    return getattr(getattr(builtins, name, None), "__name__", name)  # IOError is OSError


def is_function(guard: Any) -> bool:
    return type(guard) is tuple and guard[0] == "function"


def is_of_pytest(call: ast.Call) -> bool:
    """Returns True if a pytest function is called by its full name."""
    root = root_of(call)
    return isinstance(root, ast.Name) and root.id == "pytest"


def is_harness(node: ast.Import | ast.ImportFrom) -> bool:
    module = (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
    return module.split(".")[0] in ("unittest", "pytest") and module != "unittest.mock"


def is_dropped_call(call: ast.Call) -> bool:
    """Returns True if both parts drop a call: it prints, or starts the test runner, which runs
    the tests anyway.
    """
    root = root_of(call)
    named = isinstance(root, ast.Name) and root.id in ("unittest", "pytest")
    return (named and last_name(call) in ("main", "run", "TextTestRunner")) or (
        last_name(call) == "print"
    )


def may_fail(node: Any) -> bool:
    decorators = getattr(node, "decorator_list", ())
    names = last_names(part for each in decorators for part in walk(each))
    return not names.isdisjoint(("xfail", "expectedFailure"))


def is_fixture(node: ast.AST) -> bool:
    return last_name(node) == "fixture"


def is_fixture_function(node: Any) -> bool:
    return any(map(is_fixture, node.decorator_list))


def last_names(nodes: Iterable[ast.AST]) -> set[str]:
    return {last_name(node) for node in nodes}


def parameter_tables(node: Any) -> list[tuple[ast.expr, ast.Call]]:
    """Returns, for each ``parametrize`` decorator, the target of an equivalent loop and the
    decorator, whose second argument is the table.
    """
    found: list[tuple[ast.expr, ast.Call]] = []
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and last_name(each) == "parametrize" and len(each.args) == 2:
            names: Any = each.args[0]
            if isinstance(names, ast.Constant) and isinstance(names.value, str):
                split = [name.strip() for name in names.value.split(",") if name.strip()]
            else:
                split = [getattr(name, "value", "") for name in getattr(names, "elts", ())]
            parts: list[ast.expr] = [ast.Name(name, ast.Store()) for name in split]
            found.append((parts[0] if len(parts) == 1 else ast.Tuple(parts, ast.Store()), each))
    return found


def columns(target: ast.AST, table: ast.AST) -> list[tuple[ast.AST, list[ast.expr]]]:
    """Returns the parts of a loop's target, each with its cells in a literal table; empty for other
    tables.
    """
    parts = target.elts if isinstance(target, ast.Tuple) else [target]
    rows = [cells_of(row, parts) for row in table.elts] if isinstance(table, DISPLAYS) else []
    if any(len(row) != len(parts) for row in rows):
        return []
    return [(part, [row[n] for row in rows]) for n, part in enumerate(parts) if rows]


def cells_of(row: ast.expr, parts: list[Any]) -> list[ast.expr]:
    """Returns a table row's cells; empty for rows in another form."""
    cells = [row]
    if isinstance(row, ast.Call) and last_name(row) == "param":
        cells = [] if any(option.arg == "marks" for option in row.keywords) else row.args
    elif len(parts) > 1:
        cells = row.elts if isinstance(row, DISPLAYS) else []
    return [] if any(isinstance(cell, ast.Starred) for cell in cells) else cells


def given_arguments(node: Any, call: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    """Yields a call's arguments with the function's parameter names."""
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg != "self"]
    yield from zip(names, call.args, strict=False)
    yield from ((each.arg or "", each.value) for each in call.keywords)
