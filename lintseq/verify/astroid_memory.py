"""Removes what astroid remembers from one program when it parses the next.

After parsing a module, astroid notes each assignment to an attribute
(``argparse.Namespace.x = 1``) in the tree of the class or module that has the attribute. That is
right in a process that lints one program. In one that lints many, an earlier program's notes must
be gone, and a library's notes must count only where that library is loaded again, although its tree
was parsed long ago. So :class:`Traces` records each note with the module whose code it is. After a
program, all notes in foreign trees are taken out; when the next program loads a library, the notes
of that library, and of the modules it loads, are put in again.
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
    """An assignment as astroid notes it: a value under a name in a table of a tree."""

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
    """The notes in foreign trees, by the module that made them."""

    def __init__(self) -> None:
        self._notes: dict[str, list[_Note]] = {}
        self._needs: dict[str, set[str]] = {}  # module -> the modules loaded to build it
        self._loaded: set[str] = set()  # by the current program
        self._building: list[str] = []

    def forget(self) -> None:
        """Called when all trees are dropped."""
        self._notes.clear()
        self._needs.clear()
        self._loaded.clear()
        self._building.clear()

    def take_out(self, program: str) -> None:
        """Removes all notes after a program, which was parsed as the module of this name."""
        for name in self._loaded:
            for note in self._notes.get(name, ()):
                note.take_out()
        self._loaded.clear()
        self._notes.pop(program, None)
        self._needs.pop(program, None)

    def asked_for(self, module: str) -> None:
        """Puts in the notes of a module that was loaded, and of the modules it needs."""
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
        """A block in which a module's tree is completed, which loads others."""
        self._building.append(module)
        try:
            yield
        finally:
            self._building.pop()

    @contextlib.contextmanager
    def noting(self, target: nodes.AssignAttr) -> Iterator[None]:
        """A block in which astroid notes an assignment; observes in which trees."""
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
        for owner in owners:  # an instance shares the tables of its class
            if not hasattr(owner, "root") or owner.root() is module:
                continue
            for table in (getattr(owner, "instance_attrs", None), owner.locals):
                if table and target in table.get(target.attrname, ()):
                    note = _Note(table, target.attrname, target)
                    self._notes.setdefault(module.name, []).append(note)
                    self._loaded.add(module.name)


@cache
def traces() -> Traces:
    """The traces of this process; the first call hooks them into astroid for good."""
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
