"""Checks whether the program could read an assertion's expected value before the tests do."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass, field
from typing import Any

from .origins import is_telling
from .parts import Parts
from .reader import Site
from .trees import FREE, FUNCTIONS, Key

_Place = tuple[int, int]
_NEVER = (1 << 31, 0)  # after all assertions
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")
MAX_SEARCHED = 1 << 18  # characters


class Hiding(Parts):
    """The expected values, and the ones among them that the inside part reveals."""

    def revealed(self, sites: list[Site], inside: ast.Module, needed: set[Key]) -> list[Site]:
        """Returns sites whose expected value the inside part reveals.

        Args:
            needed: variables that the inside part reads.
        """
        shown = _Shown(inside)
        return [site for site in sites if not self._is_hidden(site, needed, shown)]

    def _is_hidden(self, site: Site, needed: set[Key], shown: _Shown) -> bool:
        end = _end(site.node)
        return all(_Look(self, needed, shown).hides(part, end) for part in site.pure)

    @functools.cached_property
    def bound_with(self) -> dict[int, set[Key]]:
        """Variables by the values that they are bound to."""
        found: dict[int, set[Key]] = {}
        for each in self.bindings:
            for value in each.values:
                found.setdefault(id(value), set()).add(each.key)
        return found


@dataclass
class _Look:
    """A search through a value's sources: names that are read inside, and literals inside."""

    tests: Hiding
    needed: set[Key]
    shown: _Shown
    seen: set[Any] = field(default_factory=set)

    def hides(self, node: ast.AST, end: _Place) -> bool:
        """Returns whether no source of a value can be read inside.

        Args:
            end: place where the value has been compared.
        """
        loops = [each.target for each in ast.walk(node) if isinstance(each, ast.comprehension)]
        own = {key for _, key in self.tests.variables_in(loops)}
        for each in ast.walk(node):
            if is_telling(each) and self.shown.last(each.value) > end:  # type: ignore[attr-defined]
                return False
            key = self.tests.variable(each)
            if key is None or key in own or key[0] == FREE or key[1] in ("self", "cls"):
                continue
            if key in self.needed and key not in self.tests.imported:
                return False
            if key not in self.seen:
                self.seen.add(key)
                if not self._hides_variable(key, end):
                    return False
        return True

    def _hides_variable(self, key: Key, end: _Place) -> bool:
        tests = self.tests
        for value in tests.bound_values(key):
            if value is None:
                continue
            if (tests.bound_with[id(value)] - {key}) & self.needed:
                return False  # a part of the value that has another name
            if not self.hides(value, _end(value) if id(value) in tests.read.cells else end):
                return False
        return True


def _end(node: ast.AST) -> _Place:
    return getattr(node, "end_lineno", None) or 0, getattr(node, "end_col_offset", None) or 0


class _Shown:
    """Literals of the inside part, with the last places where the program receives them."""

    def __init__(self, inside: ast.Module) -> None:
        self.places: dict[Any, _Place] = {}
        self.last_text: _Place = (-1, -1)
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
        if sum(len(text) for _, text in texts) > MAX_SEARCHED:
            self.last_text = max(place for place, _ in texts)  # not searched: may contain any
            texts = []
        self.texts = texts

    def _add(self, value: Any, place: _Place) -> None:
        self.places[value] = max(place, self.places.get(value, place))

    def last(self, literal: Any) -> _Place:
        """Returns the last place where a literal occurs, also as a part of another one."""
        found = [self.places.get(literal, (-1, -1))]
        if isinstance(literal, str):
            found.append(self.last_text)
            found += [place for place, text in self.texts if literal in text]
        return max(found)
