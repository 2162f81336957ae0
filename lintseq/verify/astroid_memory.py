"""What astroid remembers from one program to the next: notes in foreign trees, and ancestors.

Notes. When astroid has parsed a module it notes each assignment to an attribute
(``argparse.Namespace.x = 1``) in the tree of the class or module whose attribute it is. In a
process that lints one program this is right: what was loaded counts. In one that lints many
programs, what an earlier one assigned must be gone, and what a library assigned may count only
where that library is loaded again, though its tree was parsed long ago. So each note is recorded
when astroid makes it, with the module whose code it is. When a program is done, all notes in
foreign trees are taken out; when the next asks for a library, those of this library and of what was
loaded for it are put in again (:class:`Traces`).

Ancestors. ``ClassDef.ancestors`` infers each base class, and their bases. When these inferences are
in astroid's cache, a further walk only reads them there: the same classes come out, and nothing
that counts or guards inferences moves. So a walk that went to its end is kept with the inferences
that it rests on, and stands for another as long as the cache holds these very results
(:class:`Ancestors`). On programs that derive from a library's classes this is a third of the time.
Walks by explicit inference (a base that is a call of ``namedtuple``, say), in the light of a call's
arguments, or of bases that can't be inferred, are not kept: astroid does these again each time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, wraps
from typing import Any, NamedTuple

from astroid import bases, nodes
from astroid.builder import AstroidBuilder
from astroid.context import InferenceContext
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


Key = tuple[object, ...]


class _Walk(NamedTuple):
    """What a walk gave, and the entries of astroid's cache that it rests on."""

    classes: tuple[nodes.ClassDef, ...]
    inferences: dict[Key, object]

    def holds(self, inferred: dict[Any, Any]) -> bool:
        """Whether the cache has all of these entries still."""
        return all(inferred.get(key) is found for key, found in self.inferences.items())


class Ancestors:
    """The walks of the program at hand."""

    def __init__(self) -> None:
        self._walks: dict[Key, _Walk] = {}

    def forget(self) -> None:
        """Forgets all walks, and the trees that they hold on to."""
        self._walks.clear()

    def walk(
        self, original: Any, class_: nodes.ClassDef, recurs: bool, context: InferenceContext
    ) -> Iterator[nodes.ClassDef]:
        """What ``original`` gives."""
        view = (context.lookupname, context.callcontext, context.boundnode)
        key = (class_, recurs, *view)
        walk = self._walks.get(key)
        if walk is not None and not context.extra_context and walk.holds(context.inferred):
            yield from walk.classes
            return
        classes = []
        for found in original(class_, recurs, context):
            classes.append(found)
            yield found
        if view == (context.lookupname, context.callcontext, context.boundnode):
            inferences = self._inferences(class_, recurs, context)
            if inferences is not None:
                self._walks[key] = _Walk(tuple(classes), inferences)

    def _inferences(
        self, class_: nodes.ClassDef, recurs: bool, context: InferenceContext
    ) -> dict[Key, object] | None:
        """What a walk that has just ended rests on; None if it could go another way."""
        if context.extra_context:
            return None
        view = (context.lookupname, context.callcontext, context.boundnode)
        inferences: dict[Key, object] = {}
        for base in class_.bases:
            inferred: dict[Any, Any] = context.inferred
            found = inferred.get((base, *view))
            if found is None or base._explicit_inference is not None:
                return None
            inferences[(base, *view)] = found
            for parent in map(_class, found) if recurs else ():
                if parent is None:
                    continue
                walk = self._walks.get((parent, True, *view))
                if walk is None or not walk.holds(inferred):
                    return None
                inferences |= walk.inferences
        return inferences


def _class(inferred: Any) -> nodes.ClassDef | None:
    """The class that astroid takes a base for."""
    if isinstance(inferred, bases.Instance):
        inferred = inferred._proxied
    return inferred if isinstance(inferred, nodes.ClassDef) else None


@cache
def ancestors() -> Ancestors:
    """Those of this process. The first call hooks them into astroid, for good."""
    found = Ancestors()
    classes: Any = nodes.ClassDef
    original = classes.ancestors

    @wraps(original)
    def walking(
        self: nodes.ClassDef, recurs: bool = True, context: InferenceContext | None = None
    ) -> Iterator[nodes.ClassDef]:
        return found.walk(original, self, recurs, context or InferenceContext())

    classes.ancestors = walking
    return found
