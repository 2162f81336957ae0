"""Analysis of test code: side effects, names read, and tests that any program passes.

A test process is reused for the next job only after tests that are *free of side effects*: code
that provably changes only its own names and values. Such code sets no attribute, imports only
modules of pure functions, and uses neither escapes (``exec``, ``setattr``, dunder names) nor files
(``open``). All other tests get a process that exits with them.

This protects trusted tests from each other; it is not a security boundary: data that a program
sends never reaches this module.
"""

from __future__ import annotations

import ast
import opcode
import types
from collections.abc import Iterable, Iterator

from ..protocol import words

# Code of the dataset, compiled by the driver: marshaled code, whether it is free of side effects,
# the names it reads, and the names of tests among them.
GivenCode = tuple[bytes, bool, tuple[str, ...], tuple[str, ...]]
PURE_MODULES = words(
    "abc bisect cmath collections copy datetime enum fractions functools hashlib heapq itertools "
    "math numbers operator random re statistics string textwrap typing"
)
_NAMES = words(
    "breakpoint compile delattr eval exec exit getattr globals input locals memoryview open quit "
    "register setattr vars"
)
# Harmless dunder names of classes and modules; all others count as escapes.
_DUNDER = words(
    "__add__ __doc__ __firstlineno__ __init__ __len__ __module__ __name__ __qualname__ "
    "__static_attributes__"
)


_LOAD_NAME, _LOAD_GLOBAL = opcode.opmap["LOAD_NAME"], opcode.opmap["LOAD_GLOBAL"]
_STORES = frozenset((opcode.opmap["STORE_ATTR"], opcode.opmap["DELETE_ATTR"]))
_RAISE = opcode.opmap["RAISE_VARARGS"]  # also emitted for assert
_IMPORT = opcode.opmap["IMPORT_NAME"]
_EXTENDED = opcode.opmap["EXTENDED_ARG"]


def side_effect_free(code: types.CodeType) -> bool:
    """Returns True if running a module's code and its functions has no side effects."""
    return all(map(_is_free, _codes(code)))


def _is_free(code: types.CodeType) -> bool:
    names = code.co_names
    if not _NAMES.isdisjoint(names):
        return False
    if any(name.startswith("__") and name not in _DUNDER for name in names):
        return False
    raw = code.co_code
    operations = raw[::2]
    used = set(operations)
    if not _STORES.isdisjoint(used):
        return False
    if _IMPORT in used:
        at = operations.find(_IMPORT)
        while at >= 0:
            if at and operations[at - 1] == _EXTENDED:
                return False  # more than 255 names; not worth decoding
            module = names[raw[2 * at + 1]]
            if module.split(".")[0] not in PURE_MODULES:
                return False
            at = operations.find(_IMPORT, at + 1)
    return True


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yields a code object and the code objects of its functions and classes."""
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _codes(part)


def names_read(code: types.CodeType) -> set[str]:
    """Returns the global names that a code object may read, including attribute names."""
    return {name for part in _codes(code) for name in part.co_names}


def names_loaded(code: types.CodeType) -> set[str]:
    """Returns the global names that a code object, or a function in it, loads."""
    names: set[str] = set()
    high = 0
    for part in _codes(code):
        for operation, low in zip(part.co_code[::2], part.co_code[1::2], strict=True):
            argument = high | low
            high = argument << 8 if operation == _EXTENDED else 0
            if operation == _LOAD_NAME:
                names.add(part.co_names[argument])
            elif operation == _LOAD_GLOBAL:
                names.add(part.co_names[argument >> 1])  # the last bit marks a call
    return names


def collected_names(code: types.CodeType, names: Iterable[str]) -> set[str]:
    """Returns the test names that code loads, for ``loaded`` of ``run_collected``."""
    if not any(name.startswith(("test", "Test")) for name in names):
        return set()
    return {name for name in names_loaded(code) if name.startswith(("test", "Test"))}


# Prefixes of functions that may reject a result.
_REJECTING = (
    *("_exit", "abort", "assert", "check", "compare", "ensure", "exit", "expect", "fail", "quit"),
    *("raises", "run", "should", "test", "validate", "verify", "warns"),
)
_PREDICATES = words(
    "all allclose any array_equal bool callable endswith hasattr isclose isinstance issubclass "
    "issubset startswith"
)
# Conditions of single-argument assertions.
_ASSERTED = {"assertTrue": True, "assertFalse": False, "assertIsNone": None}
_MOST_TEXT = 1 << 18  # maximum length of tests that are parsed


def asserts_nothing(codes: Iterable[types.CodeType], text: str) -> bool:
    """Returns True if tests drop the truth values that they compute (a bare ``math.isclose``) and
    have no other checks; or if all their assertions have the expected value as the message.
    """
    can_reject = any(map(_may_reject, codes))
    can_misuse = any(name in text for name in (*_ASSERTED, "assert "))
    if len(text) > _MOST_TEXT or (can_reject and not can_misuse):
        return False
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if not can_reject:
        return any(map(_drops_truth, nodes))
    sites = [n for n in nodes if isinstance(n, ast.Assert | ast.Raise) or _is_assert_call(n)]
    return bool(sites) and all(map(_has_value_as_message, sites))


def _may_reject(code: types.CodeType) -> bool:
    return any(
        _RAISE in part.co_code[::2] or any(name.startswith(_REJECTING) for name in part.co_names)
        for part in _codes(code)
    )


def _drops_truth(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    function = node.value.func
    return getattr(function, "attr", getattr(function, "id", "")) in _PREDICATES


def _has_value_as_message(node: ast.AST) -> bool:
    """Returns True if an assertion of one value has the expected one as its message."""
    expected: object = True
    if isinstance(node, ast.Assert):
        value, message = node.test, node.msg
    elif isinstance(node, ast.Call) and len(node.args) == 2:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name not in _ASSERTED:
            return False
        (value, message), expected = node.args, _ASSERTED[name]
    else:
        return False
    if isinstance(value, ast.Compare | ast.BoolOp):
        return False  # MBPP/436: assert neg_nos([-1, 4, 5, -6]) == -1, -6
    try:
        said = ast.literal_eval(message) if message else ""
    except (ValueError, TypeError):
        return False  # a computed message, such as the values that failed
    return not isinstance(said, str) and said is not expected


_REMEDY = "Assert the expected result, as in `assert f(1) == 2`"


def why_idle(text: str, entry_point: str) -> str:
    """Explains why tests check nothing, as far as their source shows, with a remedy."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"the tests pass for any result of the program. {_REMEDY}"
    cause = next(_causes(tree, entry_point), "they pass for any result of the program")
    return f"the tests test nothing: {cause}. {_REMEDY}"


def _causes(tree: ast.Module, entry_point: str) -> Iterator[str]:
    functions = {
        n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    check = functions.get("check")
    if check is not None and not entry_point:
        yield "check is defined, but there is no entry point to pass to it"
    nodes = list(ast.walk(tree))
    if not tree.body:
        yield "they are empty"
    for node in nodes:
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple) and node.test.elts:
            yield f"the assert on line {node.lineno} checks a tuple, which is always true"
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Compare):
            yield f"line {node.lineno} compares, but asserts nothing"
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant):
            yield f"the assert on line {node.lineno} checks a constant"
        if _has_value_as_message(node):
            yield f"line {node.lineno} gives the expected value as the message"  # type: ignore[attr-defined]
        if isinstance(node, ast.Try) and any(map(_catches_all, node.handlers)):
            yield f"the try on line {node.lineno} catches every failure"
    asserts = any(isinstance(node, ast.Assert | ast.Raise) for node in nodes)
    if not asserts and not any(_is_assert_call(node) for node in nodes):
        yield "they assert nothing"
    if check is not None and any(isinstance(node, ast.Return) for node in check.body):
        yield "they return before they assert anything about the program"


def _catches_all(handler: ast.ExceptHandler) -> bool:
    name = handler.type
    return name is None or (
        isinstance(name, ast.Name) and name.id in ("Exception", "BaseException", "AssertionError")
    )


def _is_assert_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.startswith("assert")
    )
