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
import warnings
from typing import NamedTuple

from .hiding import Hiding
from .plainness import Plainness
from .reader import Simpler, without_lines

MAX_TEXT = 1 << 21


class Blinded(NamedTuple):
    """Tests in two parts.

    Attributes:
        inside: source for the program's process.
        outside: module for the tests' process.
        sites: number of assertions about the program; one in a loop counts once.
        open: places and source of the open sites.
        plain: whether the tests need only plain values and functions of the program.
    """

    inside: str
    outside: ast.Module
    sites: int
    open: tuple[str, ...]
    plain: bool


@functools.lru_cache(maxsize=256)
def blind(setup: str, test: str, entry_point: str) -> Blinded | None:
    """Splits tests; None if they cannot be split, so they are isolated."""
    if len(setup) + len(test) > MAX_TEXT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the code belongs to the dataset
            tree = ast.parse(test)
            lines = test.splitlines()
            tree.body = [*without_lines(ast.parse(setup)).body, *tree.body]
        return _Split(Simpler().visit(tree), lines, entry_point).result()
    except Exception:  # noqa: BLE001 - any text may come; what cannot be split stays outside
        return None


class _Split(Hiding):
    def result(self) -> Blinded:
        """Returns the two parts."""
        self.settle()
        plain = Plainness(self).holds()
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
        for number, site in enumerate(s for s in sites if not s.is_open):
            self._number(site, number)
        outside = ast.Module(self._outside(self.tree.body) or [ast.Pass()], [])
        ast.fix_missing_locations(inside)
        ast.fix_missing_locations(outside)
        others = self.uncounted(sites)
        nodes = [*(site.node for site in sites if site.is_open), *others]
        places = {f"__open {id(node)}": number for number, node in enumerate(nodes)}
        for each in ast.walk(inside):
            if isinstance(each, ast.Constant) and each.value in places:
                each.value = places[each.value]
        opened = tuple(map(self._describe, nodes))
        return Blinded(ast.unparse(inside), outside, len(sites) + len(others), opened, plain)

    def _describe(self, node: ast.stmt) -> str:
        line = self.lines[node.lineno - 1].strip() if node.lineno else "setup"
        return f"line {node.lineno}: {line[:80]}"
