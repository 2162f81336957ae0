"""How faithful an emulation is: its intermediate results against those that Python computes.

The paper (arXiv 2405.16337 §5) finds right answers with wrong intermediates. An intermediate counts
if it does not depend on an undefined helper, neither through data nor through a condition that
decides whether it is set. That is decided from the program's text; in doubt it depends. Its true
value comes from the hybrid run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from codegen.cogex.hybrid import HybridRun, helpers_of
from codegen.cogex.literals import Invalid, same_value
from codegen.cogex.program import (
    ANSWER,
    PseudoProgram,
    dotted_name,
    entries,
    parse_function,
    returns_of,
)


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Whether each compared intermediate is right, by name."""

    right: Mapping[str, bool] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """The share of right ones; None if there was nothing to compare."""
        return sum(self.right.values()) / len(self.right) if self.right else None


def faithfulness(
    program: PseudoProgram, emulated: Mapping[str, object], run: HybridRun
) -> Faithfulness:
    """Compares an emulation's output with a run of the same call. A missing key is wrong."""
    values = dict(run.values)
    right = {}
    for key, name in computable(program).items():
        if key == ANSWER:
            continue
        if key in run.output:
            right[key] = key in emulated and same_value(emulated[key], run.output[key])
        elif name in values:  # the run ended before it returned
            right[key] = key in emulated and same_value(emulated[key], values[name])
    return Faithfulness(right)


def computable(program: PseudoProgram) -> dict[str, str]:
    """The returned keys that do not depend on an undefined helper, each with the variable it
    returns, "" for an expression.
    """
    function = parse_function(program.text)
    tainted = _tainted(function, helpers_of(program))
    found: dict[str, list[tuple[ast.Return, ast.expr]]] = {}
    for node in returns_of(function):
        with suppress(Invalid):
            for key, value in entries(node, function):
                found.setdefault(key, []).append((node, value))
    keys: dict[str, str] = {}
    for key, values in found.items():
        if key in program.keys and _RETURNS not in tainted:
            if any(_may_depend(value, node, function, tainted) for node, value in values):
                continue
            single = values[0][1] if len(values) == 1 else None
            keys[key] = single.id if isinstance(single, ast.Name) else ""
    return keys


def _may_depend(
    value: ast.expr, node: ast.Return, function: ast.FunctionDef, tainted: set[str]
) -> bool:
    """Whether an entry of a returned dictionary may depend on what is tainted."""
    if _reads(value, tainted):
        return True
    if not isinstance(node.value, ast.Name) or node.value.id not in tainted:
        return False
    # Another entry may have tainted the name; this one is safe only if it is set unconditionally.
    plain = (s for s in function.body if isinstance(s, ast.Assign | ast.AnnAssign | ast.Expr))
    return not any(part is value for statement in plain for part in ast.walk(statement))


_RETURNS = "return"  # in the set of tainted names: a helper decides which return is reached


def _tainted(function: ast.FunctionDef, helpers: set[str]) -> set[str]:
    """The names whose value may depend on a helper, by a fixed point that ignores order."""
    tainted = set(helpers)
    size = -1
    while len(tainted) > size:
        size = len(tainted)
        for node in ast.walk(function):
            for cause, effects in _dependences(node):
                if _reads(cause, tainted):
                    tainted.update(name for part in effects for name in _written(part, helpers))
    return tainted


def _dependences(node: ast.AST) -> Iterator[tuple[ast.AST, Sequence[ast.AST]]]:
    """The dependences in a statement: (cause, what is written if the cause is tainted)."""
    if isinstance(node, ast.If | ast.While):
        yield node.test, [*node.body, *node.orelse]
    elif isinstance(node, ast.For):
        yield node.iter, [node.target, *node.body, *node.orelse]
    elif isinstance(node, ast.Assign):
        yield node.value, [*node.targets, node.value]
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.AugAssign) and node.value:
        yield node.value, [node.target, node.value]
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        yield node.slice, [node]  # which item is set
    elif isinstance(node, ast.Expr):  # a call may change what it is given
        yield node.value, [node.value]
    elif isinstance(node, ast.Try | ast.With | ast.Match):
        yield node, [node]
    if isinstance(node, ast.For | ast.While) and _leaves_early(node):
        yield node, [node]


def _leaves_early(loop: ast.For | ast.While) -> bool:
    """Whether a condition may end an iteration, so that all of the loop depends on it."""
    return any(isinstance(node, ast.Break | ast.Continue) for node in ast.walk(loop))


def _reads(node: ast.AST, tainted: set[str]) -> bool:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in tainted:
            return True
        if isinstance(part, ast.Attribute) and dotted_name(part) in tainted:
            return True
    return False


def _written(node: ast.AST, helpers: set[str]) -> Iterator[str]:
    """The names that running a node may change; a helper does not change its arguments."""
    for part in ast.walk(node):
        if isinstance(part, ast.Return):
            yield _RETURNS
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store):
            yield dotted_name(part.value)
        elif isinstance(part, ast.Call) and dotted_name(part.func) not in helpers:
            if isinstance(part.func, ast.Attribute):
                yield dotted_name(part.func).partition(".")[0]
            yield from (a.id for a in part.args if isinstance(a, ast.Name))
