"""Removes the expected values from tests before they run in the program's process.

A *site* is an assertion about a value that the program computed. :func:`blind` splits a test
module into two parts:

- *inside*, for the program's process: full Python, in which each site only reports the operands
  that depend on the program (``assert f(1) == 2`` becomes ``report(0, lambda: f(1))``);
- *outside*, for the tests' process: the same control flow over the tests' own values, in which each
  site takes the next report instead of those operands (``take(0)``; ``assert value(0) == 2``).

The outside part runs as ordinary Python, so the number and order of reports depend only on the
tests: loops over tables, ``parametrize``, :mod:`unittest`. The inside part contains only the
test values that its code reads; table columns that it does not read are blanked.

A site stays *open* (the original statement runs inside, where a program could forge it) if its
expected value depends on the program or is inside anyway, if the program decides whether the site
is reached, or if it is in a function that the tests call themselves. An expression depends on the
program unless it consists of literals, operators, functions of pure modules and names bound to
them; this is conservative: a mistake may cost a correct program its verdict, but reveals no
expected value.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from codegen.sandbox.protocol import words

from .origins import is_telling
from .parts import Parts
from .plainness import Plainness
from .reader import Simpler, Site, without_lines
from .trees import FREE, FUNCTIONS, SET_UP, Key, is_docstring, last_name, walk

MAX_TEXT = 1 << 21
_Place = tuple[int, int]
_ROWS = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Call)
_ITEM = "\0"
_LOGS = words("debug info warning error critical exception log warn")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")
MAX_SEARCHED = 1 << 18  # characters


class Blinded(NamedTuple):
    """Tests in two parts.

    Attributes:
        before: source for the program's process, run before the program: the beginning of the
            setup, which does not use the program.
        inside: the remaining source for the program's process.
        outside: module for the tests' process.
        sites: number of assertions about the program; one in a loop counts once.
        open: locations and source of the open sites.
    """

    before: str
    inside: str
    outside: ast.Module
    sites: int
    open: tuple[str, ...]


@functools.lru_cache(maxsize=256)
def blind(setup: str, test: str, entry_point: str, unless_plain: bool = False) -> Blinded | None:
    """Splits tests; returns None for tests that should be isolated instead.

    Args:
        unless_plain: True to isolate tests that need only the program's plain values and functions,
            in addition to tests that cannot be split.
    """
    if len(setup) + len(test) > MAX_TEXT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about the dataset's code
            tree = ast.parse(test)
            lines = test.splitlines()
            tree.body = [*without_lines(ast.parse(setup)).body, *tree.body]
        split = _Split(Simpler().visit(tree), lines, entry_point)
        split.find_dependent()
        return None if unless_plain and Plainness(split).holds() else split.result()
    except Exception:  # noqa: BLE001 - tests may be any text; if they cannot be split, isolate
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
                site.is_open = site.is_shown = True
        for site in sites:
            site.is_open = site.is_open or not site.inside  # nested in another open site
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
        first = list(itertools.takewhile(self.needs_no_program, inside.body))
        inside.body = inside.body[len(first) :]
        before = ast.unparse(ast.Module(first, []))
        return Blinded(before, ast.unparse(inside), outside, len(sites) + len(others), opened)

    def _describe(self, node: ast.stmt) -> str:
        line = self.lines[node.lineno - 1].strip() if node.lineno else "setup"
        return f"line {node.lineno}: {line[:80]}"

    # Expected values that the program side reveals.

    def revealed(self, sites: list[Site], inside: ast.Module, needed: set[Key]) -> list[Site]:
        """Returns sites whose expected value the program side reveals.

        Args:
            needed: variables that the program side reads.
        """
        shown = _Shown(self, inside)
        revealed = []
        for site in sites:
            found = (self.orders.get(id(node)) for node in self._up(site.node))
            order = next(filter(None, found), ("", -1))
            end = _Use(_end(site.node), order)
            if not all(_Look(self, needed, shown).hides(part, end) for part in site.pure):
                revealed.append(site)
        return revealed

    @functools.cached_property
    def orders(self) -> dict[int, tuple[str, int]]:
        """Test class and run order of each test method, by the method's id."""
        return {k: v for node in self.read.classes for k, v in _orders(node).items()}

    @functools.cached_property
    def bound_with(self) -> dict[int, set[Key]]:
        """Variables bound to each value, by the value's id."""
        found: dict[int, set[Key]] = {}
        for each in self.bindings:
            for value in each.values:
                found.setdefault(id(value), set()).add(each.key)
        return found


@dataclass
class _Look:
    """Search of a value's sources for names and literals that the program side has."""

    tests: _Split
    needed: set[Key]
    shown: _Shown
    seen: set[Any] = field(default_factory=set)

    def hides(self, node: ast.AST, end: _Use) -> bool:
        """Returns True if the program side can read no source of a value.

        Args:
            end: end of the code that compares the value.
        """
        loops = [each.target for each in walk(node) if isinstance(each, ast.comprehension)]
        own = {key for _, key in self.tests.variables_in(loops)}
        for each in walk(node):
            if self.shown.reveals(each, end):
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

    def _hides_variable(self, key: Key, end: _Use) -> bool:
        tests = self.tests
        for value in tests.bound_values(key):
            if value is None:
                continue
            if (tests.bound_with[id(value)] - {key}) & self.needed:
                return False  # the value is also bound to a name that is read inside
            is_cell = id(value) in tests.read.cells
            if not self.hides(value, end._replace(place=_end(value)) if is_cell else end):
                return False
        return True


def _end(node: ast.AST) -> _Place:
    return getattr(node, "end_lineno", None) or 0, getattr(node, "end_col_offset", None) or 0


class _Use(NamedTuple):
    """A location on the program side, or the end of a site.

    Attributes:
        order: test class, and index of the test method in run order.
        names: the code runs, or its value is read, only where one of these names is used; None if
            the program never receives the value.
    """

    place: _Place = (0, 0)
    order: tuple[str, int] = ("", -1)
    names: tuple[str, ...] | None = ()


class _Shown:
    """Literals and names on the program side, and the places where the program receives them."""

    def __init__(self, tests: _Split, inside: ast.Module) -> None:
        self.tests = tests
        self.literals: dict[Any, list[_Use]] = {}
        self.texts: list[tuple[str, _Use]] = []
        self.rows: list[tuple[str, _Use]] = []
        self.uses: dict[str, list[_Use]] = {}
        self.orders: dict[int, tuple[str, int]] = {}
        self.names = ""
        self._read(inside, _Use())

    def _read(self, node: Any, use: _Use) -> None:
        if hasattr(node, "lineno"):
            use = use._replace(place=(node.lineno, node.col_offset))
        left = [node]
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            use = self._defined(node, use)
        elif isinstance(node, ast.Expr) and (is_docstring(node) or last_name(node.value) in _LOGS):
            use = use._replace(names=None)
        elif isinstance(node, ast.Assert) and node.msg is not None:
            self._read(node.msg, use._replace(names=None))
            left = [node.test]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            calls = [each for each in ast.walk(node.value) if isinstance(each, ast.Call)]
            if not any(self.tests.depends(call.func) for call in calls):
                self._read(node.value, use._replace(names=(node.targets[0].id,)))
                left = node.targets
        elif isinstance(node, (ast.Name, ast.Attribute, ast.arg)):
            name, kind = last_name(node) or getattr(node, "arg", ""), getattr(node, "ctx", None)
            if not isinstance(kind, ast.Load):
                self._name(name)
            if not isinstance(kind, ast.Store):
                self.uses.setdefault(name, []).append(use)
        elif is_telling(node):
            self.literals.setdefault(node.value, []).append(use)
            if isinstance(node.value, str):
                self.texts.append((node.value, use))
                for number in _NUMBER.findall(node.value):
                    self.literals.setdefault(float(number), []).append(use)
        if isinstance(node, _ROWS):
            self.rows.append((_row(node), use))
        for each in left:
            for child in ast.iter_child_nodes(each) if each is node else [each]:
                self._read(child, use)

    def _name(self, name: str) -> None:
        self.names += f"_{name.lower()}_ "
        for number in re.findall(r"\d+", name):
            self.literals.setdefault(float(number), []).append(_Use(names=None))

    def _defined(self, node: Any, use: _Use) -> _Use:
        """Records a function or class; returns where its code runs."""
        self._name(node.name)
        is_test = node.name.startswith("test") or node.name in (*SET_UP, "check")
        if isinstance(node, ast.ClassDef):
            self.orders |= _orders(node)
            is_test = any(getattr(each, "name", "").startswith("test") for each in node.body)
        elif any("autouse" in ast.unparse(each) for each in node.decorator_list):
            is_test = True
        own = use.names if is_test or use.names else (node.name,)
        return use._replace(order=self.orders.get(id(node), use.order), names=own)

    def _is_given(self, use: _Use, end: _Use, seen: tuple[str, ...] = ()) -> bool:
        """Returns True if the program receives a value by the end of a site."""
        if use.names == ():
            is_later = use.order[0] == end.order[0] and use.order[1] > end.order[1]
            return use.place <= end.place and not is_later
        uses = [u for n in use.names or () if n not in seen for u in self.uses.get(n, ())]
        return any(self._is_given(u, end, (*seen, *(use.names or ()))) for u in uses)

    def reveals(self, node: ast.AST, end: _Use) -> bool:
        """Returns True if the program side has a literal, or a row of literals, that the program
        has not received yet.
        """
        if isinstance(node, _ROWS):
            row = _row(node)
            found = [use for text, use in self.rows if row in text] if row.count(_ITEM) > 2 else []
            return bool(found) and not any(self._is_given(use, end) for use in found)
        if not is_telling(node):
            return False
        literal = node.value  # type: ignore[attr-defined]
        found = list(self.literals.get(literal, ()))
        if isinstance(literal, str):
            is_long = sum(len(text) for text, _ in self.texts) > MAX_SEARCHED
            found += [use for text, use in self.texts if is_long or literal in text]
            name = re.sub(r"\W+", "_", literal.lower())
            if not found and f"_{name}_" in self.names:
                return True
        return not all(self._is_given(use, end) for use in found)


def _orders(node: ast.ClassDef) -> dict[int, tuple[str, int]]:
    """Returns the run order of a class's functions; a test case runs its tests by name."""
    names = sorted(n.name for n in node.body if isinstance(n, FUNCTIONS) and node.bases)
    tests = [name for name in names if name.startswith("test")]
    return {
        id(each): (node.name, tests.index(each.name) if each.name in tests else -1)
        for each in node.body
        if isinstance(each, FUNCTIONS)
    }


def _row(node: ast.AST) -> str:
    """Returns the literals in a row, each after a separator."""
    if isinstance(node, ast.Constant):
        return f"{_ITEM}{node.value!r}"
    parts = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
    return "".join(map(_row, parts))
