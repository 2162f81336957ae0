"""A class's ancestors, which astroid walks anew for each attribute that is looked up, remembered.

``ClassDef.ancestors`` infers each base class, and their bases. When these inferences are in
astroid's cache, a further walk only reads them there: the same classes come out, and nothing that
counts or guards inferences moves. So a walk that went to its end is kept with the inferences that
it rests on, and stands for another as long as the cache holds these very results. On programs that
derive from a library's classes this is a third of the time.

Walks by explicit inference (a base that is a call of ``namedtuple``, say), in the light of a call's
arguments, or of bases that can't be inferred, are not kept: astroid does these anew each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from astroid import nodes
    from astroid.context import InferenceContext

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
    from astroid import bases, nodes

    if isinstance(inferred, bases.Instance):
        inferred = inferred._proxied
    return inferred if isinstance(inferred, nodes.ClassDef) else None


@cache
def ancestors() -> Ancestors:
    """Those of this process. The first call hooks them into astroid, for good."""
    from astroid import nodes
    from astroid.context import InferenceContext

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
