"""The loop whose condition comes last: ``while True`` with a last ``if c: break``."""

from __future__ import annotations

import ast
from collections.abc import Sequence


def negated(test: ast.expr) -> ast.expr:
    """The opposite of a condition: one NOT less if it has an odd number of them, else one more.

    So it is its own inverse, which dropping a NOT wherever there is one would not be.
    """
    count, inner = 0, test
    while isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.Not):
        count, inner = count + 1, inner.operand
    if count % 2 and isinstance(test, ast.UnaryOp):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def is_do_while(node: ast.While) -> bool:
    """Whether DO ... WHILE says the same as a loop."""
    match node:
        case ast.While(
            test=ast.Constant(value=True),
            body=[_, *_, ast.If(body=[ast.Break()], orelse=[])],
            orelse=[],
        ):
            # CONTINUE goes to the condition of DO ... WHILE, but not in Python.
            return not has_continue(node.body)
    return False


def has_continue(body: Sequence[ast.stmt]) -> bool:
    """Whether statements continue the loop that they stand in."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Continue):
            return True
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            waiting += node.orelse
        elif isinstance(node, (ast.stmt, ast.excepthandler, ast.match_case)) and not isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        ):
            waiting += ast.iter_child_nodes(node)
    return False
