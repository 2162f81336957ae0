"""Finds assertions in other forms, and expected values that can be read inside anyway."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from .origins import is_telling
from .parts import Parts
from .reader import Site
from .trees import FREE, FUNCTIONS, Key, is_name, is_self, last_name, raised_by

_CHECKS = frozenset(
    (
        *("raises", "warns", "deprecated_call", "assertRaises", "assertRaisesRegex"),
        *("assertWarns", "assertWarnsRegex", "assertLogs", "assertNoLogs"),
    )
)
_ENDS = frozenset(("exit", "quit", "_exit", "abort", "fail"))
_DECISIONS = (ast.If, ast.Match, ast.While, ast.For, ast.IfExp)
_Place = tuple[int, int]
_NEVER = (1 << 31, 0)  # after all assertions
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")
MAX_SEARCHED = 1 << 14


class Checks(Parts):
    """What the split of a module of tests has to count as open."""

    def uncounted(self, sites: list[Site]) -> list[ast.stmt]:
        """Statements that may fail because of the program, but are not among the sites."""
        handled: set[int] = set()
        for site in self.read.sites:
            node = site.node
            if isinstance(node, (ast.With, ast.AsyncWith)) and (call := raised_by(node)):
                handled.add(id(call))
            if isinstance(node, ast.Expr):
                handled |= {id(node.value), id(getattr(node.value, "func", None))}
        counted = {id(site.node) for site in sites}
        found: dict[int, ast.stmt] = {}
        for node in ast.walk(self.tree):
            if self._may_check(node, handled, counted):
                statement = self._statement_of(node)
                if statement is not None and id(statement) not in counted:
                    found[id(statement)] = statement
        return list(found.values())

    def _may_check(self, node: ast.AST, handled: set[int], counted: set[int]) -> bool:
        if isinstance(node, ast.Call) and last_name(node) in _CHECKS:
            statement = self._statement_of(node)
            is_own = isinstance(statement, ast.Expr) and id(statement) not in counted
            return id(node) not in handled or is_own
        if isinstance(node, ast.Attribute) and node.attr.startswith("assert"):
            return isinstance(node.ctx, ast.Load) and id(node) not in handled
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value.startswith("assert") and node.value.isidentifier()
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and last_name(node) in _ENDS):
            return id(self._statement_of(node)) not in counted and self._is_decided(node)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Subscript):
            return not self.depends(node.value.value) and self.depends(node.value.slice)
        return False

    def _up(self, node: ast.AST | None) -> Iterator[ast.AST]:
        assert self.origins is not None
        while node is not None:
            yield node
            node = self.origins.parents.get(id(node))

    def _statement_of(self, node: ast.AST) -> ast.stmt | None:
        return next((each for each in self._up(node) if isinstance(each, ast.stmt)), None)

    def _is_decided(self, node: ast.AST) -> bool:
        """Whether results of the program decide that the tests' own code gets there."""
        decided = False
        for each in self._up(node):
            if isinstance(each, _DECISIONS):
                guard = each.subject if isinstance(each, ast.Match) else None
                guard = each.iter if isinstance(each, ast.For) else guard
                decided = decided or self.depends(guard or each.test)  # type: ignore[union-attr]
            if isinstance(each, FUNCTIONS):
                calls = id(each) in self.runners or self.calls_of.get(self._key_of(each))
                return decided and bool(calls)
            if isinstance(each, ast.Lambda):
                return False
        return decided

    # Expected values that are inside.

    def exposed(self, sites: list[Site], inside: ast.Module) -> list[Site]:
        """Closed sites that expect a literal which the program could read in the inside part before
        the tests get to it.
        """
        shown = _Shown(inside)
        found: list[Site] = []
        for site in sites:
            end = _end(site.node)
            for literal, row_end in self._expected_by(site):
                if shown.last(literal) > (row_end or end):
                    found.append(site)
                    break
        return found

    def _expected_by(self, site: Site) -> Iterator[tuple[Any, _Place | None]]:
        """Telling literals that a site expects, with the ends of the rows that they are from."""
        seen: set[Any] = set()
        for part in site.pure:
            yield from self._literals(part, seen)

    def _literals(self, node: ast.AST, seen: set[Any]) -> Iterator[tuple[Any, _Place | None]]:
        for each in ast.walk(node):
            if is_telling(each):
                yield each.value, None  # type: ignore[attr-defined]
            if not (is_name(each) or is_self(each)):
                continue
            key = self.variable(each)
            if key in seen or key[0] == FREE:
                continue
            seen.add(key)
            for value in (*self.bound_values(key), *self.arguments.get(key, ())):
                if value is None or isinstance(value, FUNCTIONS):
                    continue
                if not self._is_loop(key, value):
                    yield from self._literals(value, seen)
                    continue
                for row in self._rows(value) or [value]:
                    cell = self._cell(key, value, row)
                    for literal, _ in self._literals(cell, seen):
                        yield literal, _end(row)

    def _cell(self, key: Key, table: ast.AST, row: ast.AST) -> ast.AST:
        """The part of a row that a variable is bound to; all of it if that is not known."""
        names = self.columns.get(id(table), [])
        if isinstance(row, ast.Call):
            row = ast.Tuple(row.args, ast.Load())
        if isinstance(row, (ast.Tuple, ast.List)) and len(row.elts) == len(names) > 1:
            return row.elts[names.index(key[1])] if key[1] in names else row
        return row


def _end(node: ast.AST) -> _Place:
    return getattr(node, "end_lineno", None) or 0, getattr(node, "end_col_offset", None) or 0


class _Shown:
    """Literals of the inside part, with the places where the program gets them at the latest."""

    def __init__(self, inside: ast.Module) -> None:
        self.places: dict[Any, _Place] = {}
        texts: list[tuple[_Place, str]] = []
        for node in ast.walk(inside):
            if is_telling(node):
                value = node.value  # type: ignore[attr-defined]
                place = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
                self._add(value, place)
                if isinstance(value, str):
                    texts.append((place, value))
                    for number in _NUMBER.findall(value):
                        self._add(float(number), place)
            elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                for number in re.findall(r"\d+", node.name):
                    self._add(float(number), _NEVER)
        self.texts = texts if sum(len(text) for _, text in texts) < MAX_SEARCHED else []

    def _add(self, value: Any, place: _Place) -> None:
        self.places[value] = max(place, self.places.get(value, place))

    def last(self, literal: Any) -> _Place:
        """The last place where a literal occurs, also as a part of another one."""
        found = [self.places.get(literal, (-1, -1))]
        if isinstance(literal, str):
            found += [place for place, text in self.texts if literal in text]
        return max(found)
