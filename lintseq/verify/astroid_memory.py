"""What astroid remembers from one program to the next: notes in foreign trees.

When astroid has parsed a module it notes each assignment to an attribute
(``argparse.Namespace.x = 1``) in the tree of the class or module whose attribute it is. In a
process that lints one program this is right: what was loaded counts. In one that lints many
programs, what an earlier one assigned must be gone, and what a library assigned may count only
where that library is loaded again, though its tree was parsed long ago. So each note is recorded
when astroid makes it, with the module whose code it is. When a program is done, all notes in
foreign trees are taken out; when the next asks for a library, those of this library and of what was
loaded for it are put in again (:class:`Traces`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, wraps
from typing import Any, NamedTuple

from astroid import nodes
from astroid.builder import AstroidBuilder
from astroid.manager import AstroidManager


class _Note(NamedTuple):
    """An assignment as astroid notes it: one of the values under a name in a table of a tree."""

    table: dict[str, list[Any]]
    name: str
    value: Any

    def put_in(self) -> None:
        values = self.table.setdefault(self.name, [])
        if self.value not in values:
            values.append(self.value)

    def take_out(self) -> None:
        values = self.table.get(self.name, [])
        if self.value in values:
            values.remove(self.value)
            if not values:  # astroid takes the first of each
                del self.table[self.name]


class Traces:
    """The notes in foreign trees, by the module whose code made them."""

    def __init__(self) -> None:
        self._notes: dict[str, list[_Note]] = {}
        self._needs: dict[str, set[str]] = {}  # by module, those that were asked for to build it
        self._loaded: set[str] = set()  # since the last program
        self._building: list[str] = []

    def forget(self) -> None:
        """When all trees are forgotten."""
        self._notes.clear()
        self._needs.clear()
        self._loaded.clear()
        self._building.clear()

    def take_out(self, program: str) -> None:
        """When a program, parsed as the module of this name, is done."""
        for name in self._loaded:
            for note in self._notes.get(name, ()):
                note.take_out()
        self._loaded.clear()
        self._notes.pop(program, None)
        self._needs.pop(program, None)

    def asked_for(self, module: str) -> None:
        """A module's tree was given out: its notes count, and those of what it needs."""
        if self._building:
            self._needs.setdefault(self._building[-1], set()).add(module)
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name in self._loaded:
                continue
            self._loaded.add(name)
            for note in self._notes.get(name, ()):
                note.put_in()
            waiting += self._needs.get(name, ())

    @contextlib.contextmanager
    def building(self, module: str) -> Iterator[None]:
        """While a module's tree is completed, for which others are asked for."""
        self._building.append(module)
        try:
            yield
        finally:
            self._building.pop()

    @contextlib.contextmanager
    def noting(self, target: nodes.AssignAttr) -> Iterator[None]:
        """While astroid notes an assignment: finds out where, from what it infers on the way."""
        owners: list[Any] = []
        expression: Any = target.expr
        infer = expression.infer

        def watched(*args: Any, **options: Any) -> Iterator[Any]:
            for inferred in infer(*args, **options):
                owners.append(inferred)
                yield inferred

        expression.infer = watched
        try:
            yield
        finally:
            del expression.infer
            self._record(target, owners)

    def _record(self, target: nodes.AssignAttr, owners: Sequence[Any]) -> None:
        module = target.root()
        for owner in owners:  # an instance has the tables of its class
            if not hasattr(owner, "root") or owner.root() is module:
                continue
            for table in (getattr(owner, "instance_attrs", None), owner.locals):
                if table and target in table.get(target.attrname, ()):
                    note = _Note(table, target.attrname, target)
                    self._notes.setdefault(module.name, []).append(note)
                    self._loaded.add(module.name)


@cache
def traces() -> Traces:
    """Those of this process. The first call hooks them into astroid, for good."""
    builders: Any = AstroidBuilder
    managers: Any = AstroidManager
    note, complete = builders.delayed_assattr, builders._post_build
    found = Traces()

    def telling(method: Callable[..., nodes.Module]) -> Callable[..., nodes.Module]:
        @wraps(method)
        def tell(*args: Any, **options: Any) -> nodes.Module:
            module = method(*args, **options)
            found.asked_for(module.name)
            return module

        return tell

    @wraps(note)
    def noting(builder: Any, target: nodes.AssignAttr) -> None:
        with found.noting(target):
            note(builder, target)

    @wraps(complete)
    def completing(builder: Any, module: nodes.Module, *rest: Any) -> nodes.Module:
        with found.building(module.name):
            return complete(builder, module, *rest)

    builders.delayed_assattr = noting
    builders._post_build = completing
    managers.ast_from_module_name = telling(managers.ast_from_module_name)
    managers.ast_from_file = telling(managers.ast_from_file)
    return found
