"""Rewrites tests before they are split."""

from __future__ import annotations

import ast
from collections import Counter
from typing import Any

from codegen.evals.sandbox.inner.analysis import PURE_MODULES

from .trees import FUNCTIONS, RAISES, last_name


class Simpler(ast.NodeTransformer):
    """Makes two statements of ``assert a and b`` and of ``import a, b``."""

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [ast.copy_location(ast.Import([alias]), node) for alias in node.names]

    def visit_With(self, node: Any) -> Any:
        """Nests the managers of a statement that expects an exception."""
        self.generic_visit(node)
        names = [last_name(item.context_expr) for item in node.items]
        if len(names) == 1 or {*RAISES, "subTest"}.isdisjoint(names):
            return node
        order = sorted(zip(names, node.items, strict=True), key=lambda each: each[0] != "subTest")
        body = node.body
        for _, item in reversed(order):
            body = [ast.copy_location(type(node)([item], body), node)]
        return body[0]

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        parts = [node.test]
        if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And):
            parts = node.test.values
        return [ast.copy_location(ast.Assert(part), node) for part in parts]


STARTS = frozenset(
    ("TestLoader", "TextTestRunner", "TestSuite", "makeSuite", "defaultTestLoader", "TestResult")
)


def without_starts(tree: ast.Module) -> ast.Module:
    """Drops what loads and runs test cases, which are run anyway."""
    names = set(STARTS)
    kept: list[ast.stmt] = []
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign) else node
        read = {last_name(n) for n in ast.walk(value) if isinstance(n, (ast.Name, ast.Attribute))}
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ImportFrom)) or names.isdisjoint(read):
            kept.append(node)
            if isinstance(node, ast.Assign):
                names -= {last_name(target) for target in node.targets} - STARTS
        elif isinstance(node, ast.Assign):
            names |= {last_name(target) for target in node.targets}
    tree.body = kept
    return tree


def with_imports(tree: ast.Module) -> ast.Module:
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
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    free = {name for name in used.keys() & PURE_MODULES if not used[name]} - bound - {"random"}
    for name in sorted(free):
        tree.body.insert(0, ast.Import([ast.alias(name)], lineno=0, col_offset=0))
    return tree


def without_lines(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            for name in ("lineno", "end_lineno", "col_offset", "end_col_offset"):
                setattr(node, name, 0)
    return tree
