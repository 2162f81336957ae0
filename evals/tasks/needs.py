"""Packages that problems need besides the standard library, and whether a sandbox has them."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from codegen.python_syntax import UNPARSABLE, parse

_provided = functools.cache(importlib.metadata.packages_distributions)


def modules_of(*programs: str) -> frozenset[str]:
    """The modules outside the standard library that programs import.

    Imports whose failure the program catches don't count.
    """
    seen: set[str] = set()
    for program in programs:
        try:
            nodes = list(_needed(parse(program)))
        except UNPARSABLE:
            continue
        for node in nodes:
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            seen.update(name.split(".")[0] for name in names)
    return frozenset(seen - sys.stdlib_module_names)


def _needed(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Try) and node.handlers and child in node.body):
            yield from _needed(child)


def installed(modules: Iterable[str]) -> list[str]:
    """The modules that this environment provides, sorted."""
    provided = _provided()
    return sorted(name for name in modules if name in provided)


def why_not(modules: Collection[str], described: Mapping[str, Any]) -> str:
    """Which modules a sandbox lacks, as a reason; empty if it has all."""
    offered = set(described.get("packages", {}))
    if any("/" in name for name in offered):
        return ""  # directories, whose content is not known here
    provided = _provided()
    known = {_same(name) for name in offered}
    missing = sorted(
        name
        for name in modules
        if not known & {_same(distribution) for distribution in provided.get(name, [name])}
    )
    return f"needs {', '.join(missing)}, which the sandbox does not offer" if missing else ""


def _same(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")
