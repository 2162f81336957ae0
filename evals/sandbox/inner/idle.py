"""Why tests pass whatever a program returns, as far as their text tells."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_REMEDY = "Assert what the program must return, as in `assert f(1) == 2`"


def reason(text: str, entry_point: str) -> str:
    """Says why the tests test nothing, and what to do."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"the tests pass whatever the program returns. {_REMEDY}"
    cause = next(_causes(tree, entry_point), "they pass whatever the program returns")
    return f"the tests test nothing: {cause}. {_REMEDY}"


def _causes(tree: ast.Module, entry_point: str) -> Iterator[str]:
    functions = {
        n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    check = functions.get("check")
    if check is not None and not entry_point:
        yield "check is defined, but no entry point is given to call it with"
    nodes = list(ast.walk(tree))
    if not tree.body:
        yield "they are empty"
    for node in nodes:
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple) and node.test.elts:
            yield f"the assert in line {node.lineno} is of a tuple, which is always true"
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Compare):
            yield f"line {node.lineno} compares, but asserts nothing"
    for node in nodes:
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant):
            yield f"the assert in line {node.lineno} is of a constant"
    for node in nodes:
        if isinstance(node, ast.Try) and any(map(_catches_all, node.handlers)):
            yield f"the try in line {node.lineno} catches whatever fails"
    asserts = any(isinstance(node, ast.Assert | ast.Raise) for node in nodes)
    if not asserts and not any(_is_assert_call(node) for node in nodes):
        yield "they assert nothing"
    if check is not None and any(isinstance(node, ast.Return) for node in check.body):
        yield "they return before they assert anything of the program"


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
