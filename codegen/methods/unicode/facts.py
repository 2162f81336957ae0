"""What the writer must know of a whole program before it writes the first line."""

from __future__ import annotations

import ast
from dataclasses import dataclass

# Not counted: they say how a node is used, not what is there.
_MARKS = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)


@dataclass(frozen=True, slots=True)
class Facts:
    """Names of a program.

    Attributes:
        nodes: number of AST nodes; operators and expression contexts are not counted.
        bound: every name that the program itself binds in any scope. What UniCode would write
            as a built-in operation may be another thing under such a name.
        imported: those of them bound by imports; ``m.f(x)`` on a module is no method call.
        functions: those of them that are functions or methods.
    """

    nodes: int
    bound: frozenset[str]
    imported: frozenset[str]
    functions: frozenset[str]


def gather(tree: ast.AST) -> Facts:
    """Walks a tree once."""
    count = 0
    bound: set[str] = set()
    imported: set[str] = set()
    functions: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, _MARKS):
            continue
        count += 1
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                imported.add(asname or name.partition(".")[0])
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                bound.update(names)
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                functions.add(name)
            case ast.Name() | ast.keyword() | ast.Attribute() | ast.Constant():
                pass
            case _ if isinstance(name := getattr(node, "name", None), str):
                # Classes, exception handlers, captures of patterns, type parameters.
                bound.add(name)
    bound |= imported | functions
    return Facts(count, frozenset(bound), frozenset(imported), frozenset(functions))


def count_nodes(tree: ast.AST) -> int:
    """The number of nodes, counted as in :class:`Facts`."""
    return sum(not isinstance(node, _MARKS) for node in ast.walk(tree))
