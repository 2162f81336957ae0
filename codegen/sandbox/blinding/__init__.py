"""Removes the expected values from tests before they run in the program's process.

A *site* is an assertion about a value that the program computed. :func:`blind` splits a module of
tests into two:

- *inside*, for the program's process: full Python, in which each site only reports the operands
  that depend on the program (``assert f(1) == 2`` becomes ``report(0, lambda: f(1))``);
- *outside*, for the tests' process: the same control flow over the tests' own values, in which each
  site takes the next report instead of those operands (``take(0)``; ``assert value(0) == 2``).

The outside part runs as ordinary Python, so the number and order of reports depend only on the
tests: loops over tables, ``parametrize``, :mod:`unittest`. A value of the tests is inside only if
code inside reads it; columns of tables that no code inside reads are blanked.

A site stays *open* (the original statement runs inside, where a program could forge it) if its
expected value depends on the program or is inside anyway, if the program decides whether the site
is reached, or if it is in a function that the tests call themselves. An expression depends on the
program unless it consists of literals, operators, functions of pure modules and names bound to
them; this is conservative, so mistakes cost a verdict of a correct program, not a secret.
"""

from __future__ import annotations

import ast
import functools
import re
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .origins import is_telling
from .parts import Parts
from .plainness import Plainness
from .reader import Simpler, Site, without_lines
from .trees import FREE, FUNCTIONS, Key, walk

MAX_TEXT = 1 << 21
_Place = tuple[int, int]
_NEVER = (1 << 31, 0)  # after all assertions
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")
MAX_SEARCHED = 1 << 18  # characters


class Blinded(NamedTuple):
    """Tests in two parts.

    Attributes:
        inside: source for the program's process.
        outside: module for the tests' process.
        sites: number of assertions about the program; one in a loop counts once.
        open: places and source of the open sites.
    """

    inside: str
    outside: ast.Module
    sites: int
    open: tuple[str, ...]


@functools.lru_cache(maxsize=256)
def blind(setup: str, test: str, entry_point: str, unless_plain: bool = False) -> Blinded | None:
    """Splits tests; None if they are isolated.

    Args:
        unless_plain: isolate tests that need only plain values and functions of the program, as
            well as those that cannot be split.
    """
    if len(setup) + len(test) > MAX_TEXT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the code belongs to the dataset
            tree = ast.parse(test)
            lines = test.splitlines()
            tree.body = [*without_lines(ast.parse(setup)).body, *tree.body]
        split = _Split(Simpler().visit(tree), lines, entry_point)
        split.settle()
        return None if unless_plain and Plainness(split).holds() else split.result()
    except Exception:  # noqa: BLE001 - any text may come; what cannot be split stays outside
        return None


class _Split(Parts):
    def result(self) -> Blinded:
        """Returns the two parts."""
        for site in self.read.sites:
            self._close(site)
        sites = [site for site in self.read.sites if site.operands or site.is_open]
        self.by_node = {id(site.node): site for site in sites}
        while True:
            for site in sites:
                site.inside = []
            inside, needed = self._inside_part()
            revealed = self.revealed([s for s in sites if not s.is_open], inside, needed)
            if not revealed:
                break
            for site in revealed:
                site.is_open = True
        for site in sites:
            site.is_open = site.is_open or not site.inside  # within another open one
        outside = ast.Module(self._outside(self.tree.body) or [ast.Pass()], [])
        ast.fix_missing_locations(inside)
        ast.fix_missing_locations(outside)
        others = self.uncounted(sites)
        nodes = [*(site.node for site in sites if site.is_open), *others]
        places = {f"__open {id(node)}": number for number, node in enumerate(nodes)}
        for each in walk(inside):
            if isinstance(each, ast.Constant) and each.value in places:
                each.value = places[each.value]
        opened = tuple(map(self._describe, nodes))
        return Blinded(ast.unparse(inside), outside, len(sites) + len(others), opened)

    def _describe(self, node: ast.stmt) -> str:
        line = self.lines[node.lineno - 1].strip() if node.lineno else "setup"
        return f"line {node.lineno}: {line[:80]}"

    # Expected values that the inside part reveals:

    def revealed(self, sites: list[Site], inside: ast.Module, needed: set[Key]) -> list[Site]:
        """Returns sites whose expected value the inside part reveals.

        Args:
            needed: variables that the inside part reads.
        """
        shown = _Shown(inside)
        return [
            site
            for site in sites
            if not all(_Look(self, needed, shown).hides(p, _end(site.node)) for p in site.pure)
        ]

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

    tests: _Split
    needed: set[Key]
    shown: _Shown
    seen: set[Any] = field(default_factory=set)

    def hides(self, node: ast.AST, end: _Place) -> bool:
        """Returns whether no source of a value can be read inside.

        Args:
            end: place where the value has been compared.
        """
        loops = [each.target for each in walk(node) if isinstance(each, ast.comprehension)]
        own = {key for _, key in self.tests.variables_in(loops)}
        for each in walk(node):
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
        for node in walk(inside):
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
