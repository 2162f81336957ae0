"""Which pieces of a program can't stand without which others: what keeps states lint-clean.

The result is a graph over the nodes of :mod:`codegen.lintseq.units`: an edge says "when this node
is deleted, that one must be too", a group says "when all of these are deleted, that one must be
too". The rules follow what pylint reports as errors. With "dies" for "is deleted":

1. A unit that dies takes its clauses along, a clause its units.
2. The last unit of a clause takes the clause along, a body its statement, the last handler (without
   a ``finally``) its ``try``, the last handler the ``try``'s ``else``, the last case its ``match``.
3. A use of a name needs its first binding, if that is sure to have run (it stands in a block around
   the use), else all; all too if the first says nothing about the value (``None``).
4. A read of an attribute needs the first place of each class that binds an attribute of this name;
   all of a class's if the first is vague. ``self.a`` needs those of its own class, if there are
   any.
5. A call whose value is used needs the callee's first ``return`` or ``yield`` of a value. Special
   methods need their first ``return``; ``__init__`` its call of the parent's; ``__all__`` every
   name in it; a name its ``global`` or ``nonlocal`` declaration; an annotation that looks ahead, or
   names what may not be bound (``if TYPE_CHECKING``), ``from __future__``'s.
6. ``strict`` only: a use needs every binding that can reach it, and the ``return``, ``raise``, ...
   that end the branches beside a binding or the loop around it; a use of a class, or of a bare
   ``self``, needs its special methods (all its methods, if it has bases); a statement in a ``try``
   needs the handlers of errors that checkers then ignore.

The rules are ours: the paper's code asks pylint at every step instead. Limits: no types are
inferred, attributes are matched by name. What the rules miss, a check of the states can find
(:mod:`codegen.lintseq.verify`).
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from codegen.lintseq.scopes import (
    Binding,
    Call,
    Class,
    Facts,
    Function,
    Load,
    Scope,
    Use,
    is_special,
    lookup,
    outside_comprehensions,
    self_class,
)
from codegen.lintseq.units import Units

_BUILTINS = frozenset(dir(builtins))
_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_EXITS = frozenset({"exit", "quit", "_exit", "abort", "error", "fail"})
_RESULT_OF_LOAD = frozenset({"property", "cached_property"})
_EXCUSING = frozenset(
    {"", "NameError", "ImportError", "ModuleNotFoundError", "AttributeError", "Exception"}
)
_ANY_ATTRIBUTE = frozenset({"__getattr__", "__getattribute__"})
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


@dataclass(frozen=True, slots=True)
class Group:
    """When all members have died, the target dies."""

    members: tuple[int, ...]
    target: int


@dataclass(slots=True)
class Graph:
    """Edges by the node that dies first, and groups."""

    dependents: list[set[int]]
    groups: list[Group] = field(default_factory=list)


def dependencies(units: Units, facts: Facts, *, strict: bool) -> Graph:
    """The graph of a program."""
    rules = _Rules(units, facts, strict)
    rules.structure()
    rules.names()
    rules.attributes()
    rules.results()
    rules.declarations()
    if strict:
        rules.classes()
        rules.handlers()
    return rules.graph


class _Rules:
    def __init__(self, units: Units, facts: Facts, strict: bool) -> None:
        self.units = units
        self.nodes = units.nodes
        self.facts = facts
        self.strict = strict
        self.graph = Graph([set() for _ in units.nodes])
        self.breaks = _breaks(units) if strict else {}

    def edge(self, needed: int, dependent: int) -> None:
        """``dependent`` dies with ``needed``. Implied for a part of it; the module never dies."""
        if dependent and not needed <= dependent <= self.nodes[needed].last:
            self.graph.dependents[needed].add(dependent)

    def edges(self, needed: Iterable[int], dependent: int) -> None:
        for node in needed:
            self.edge(node, dependent)

    # -- rules 1 and 2 -----------------------------------------------------------------------------

    def structure(self) -> None:
        nodes, groups = self.nodes, self.graph.groups
        for number, node in enumerate(nodes):
            if number == 0:
                continue
            self.graph.dependents[number].update(node.children)
            if node.kind == "unit":
                self._clauses(number)
            elif node.kind != "line":
                if node.kind == "body":
                    self.graph.dependents[number].add(node.parent)
                units = tuple(child for child in node.children if nodes[child].kind != "line")
                if units:
                    groups.append(Group(units, number))
        groups += [Group(pieces, target) for pieces, target in self.units.minimums]

    def _clauses(self, unit: int) -> None:
        groups = self.graph.groups
        kinds: dict[str, list[int]] = {}
        for clause in self.nodes[unit].children:
            kinds.setdefault(self.nodes[clause].kind, []).append(clause)
        if "case" in kinds:
            groups.append(Group(tuple(kinds["case"]), unit))
        handlers = kinds.get("handler", [])
        if handlers or "finally" in kinds:
            groups.append(Group((*handlers, *kinds.get("finally", [])), unit))
        if handlers and "else" in kinds:
            groups.append(Group(tuple(handlers), kinds["else"][0]))

    # -- rules 3 and 6: names ----------------------------------------------------------------------

    def names(self) -> None:
        for use in self.facts.uses:
            found = lookup(use.scope, use.name)
            if found is None:
                if use.name not in _BUILTINS:
                    self.edges(self.facts.star_imports, use.unit)
                continue
            scope, bindings = found
            needed = self.needed(use, scope, bindings)
            for binding in needed:
                self.edge(binding.unit, use.unit)
            if use.annotation:
                self._looks_ahead(use, bindings)
            if scope is use.scope and scope.kind == "class" and bindings[0].order > use.order:
                self._outer(use, scope)
        for name, unit in self.facts.exports:
            bindings = self.facts.module.bindings.get(name)
            self.edges((b.unit for b in bindings) if bindings else self.facts.star_imports, unit)

    def _outer(self, use: Use, scope: Scope) -> None:
        """A name that a class body uses before binding it is that of the scopes around."""
        outer = scope.parent
        found = lookup(outer, use.name) if outer is not None else None
        if outer is not None and found is not None:
            for binding in self.needed(use._replace(scope=outer), *found):
                self.edge(binding.unit, use.unit)

    def _looks_ahead(self, use: Use, bindings: Sequence[Binding]) -> None:
        future = self.facts.future_annotations
        if future is None:
            return
        first = bindings[0]
        if (
            first.order > use.order
            or not self._is_sure(first, use)  # "if TYPE_CHECKING:", say
            or (isinstance(first.definition, Class) and self.units.contains(first.unit, use.unit))
        ):
            self.edge(future, use.unit)

    def needed(self, use: Use, scope: Scope, bindings: Sequence[Binding]) -> Sequence[Binding]:
        """The bindings that a use can't stand without."""
        if self.strict:
            if _is_deferred(use.scope, scope):
                return bindings
            reaching = self._reaching(use, bindings)
            for binding in reaching:
                self._branch_ends(binding.unit, use.unit)
            return reaching
        for binding in bindings:
            if binding.order < use.order and self.units.contains(binding.unit, use.unit):
                return ()
        first = bindings[0]
        if not first.vague and self._is_sure(first, use):
            return [first, *(b for b in bindings[1:] if "." in b.imported)]
        return bindings

    def _is_sure(self, binding: Binding, use: Use) -> bool:
        """Whether the binding stands in a block around the use, so that it has run before it."""
        return self.units.contains(self.nodes[self.units.whole(binding.unit)].parent, use.unit)

    def _reaching(self, use: Use, bindings: Sequence[Binding]) -> Sequence[Binding]:
        """The bindings whose value may reach a use in the same scope."""
        floor = None
        for binding in bindings:
            if binding.order > use.order:
                break
            if self.units.contains(binding.unit, use.unit) or self._is_sure(binding, use):
                floor = binding
        if floor is None:
            return bindings
        loop = self._open_loop(use.unit, floor.unit)
        return [
            binding
            for binding in bindings
            if floor.order <= binding.order < use.order
            or "." in binding.imported
            or (binding.order > use.order and loop and self.units.contains(loop, binding.unit))
        ]

    def _open_loop(self, unit: int, floor: int) -> int:
        """The outermost loop around a unit but not around ``floor``, in the same function, or 0."""
        loop = 0
        while unit > 0:
            if self.units.contains(unit, floor):
                break
            statements = self.nodes[unit].statements
            if statements and isinstance(statements[0], _LOOPS):
                loop = unit
            unit = self.nodes[unit].parent
        return loop

    def _branch_ends(self, unit: int, use: int) -> None:
        """A use after branches, some of which bind its name, needs what ends the others.

        After a loop that binds it, the use needs the loop's ``break`` statements.
        """
        unit = self.units.whole(unit)
        clause = self.nodes[unit].parent if self.nodes[unit].kind == "unit" else unit
        while clause > 0 and not self.units.contains(clause, use):
            statement = self.nodes[clause].parent
            if self.units.contains(statement, use):
                break
            for sibling in self.nodes[statement].children:
                if sibling != clause:
                    self.edges(self._ends(sibling), use)
            self.edges(self.breaks.get(statement, ()), use)
            clause = self.nodes[statement].parent

    def _ends(self, clause: int) -> list[int]:
        """The nodes at the end of a clause that leave it for good."""
        node = self.nodes[clause]
        if not node.children:
            return [clause] if any(map(_leaves, node.statements)) else []
        last = node.children[-1]
        ends = [last] if any(map(_leaves, self.nodes[last].statements)) else []
        for inner in self.nodes[last].children:
            ends += self._ends(inner)
        return ends

    # -- rules 4 and 5 -----------------------------------------------------------------------------

    def attributes(self) -> None:
        for load in self.facts.loads:
            for binding in self._binders(load):
                self.edge(binding.unit, load.unit)
                definition = binding.definition
                if isinstance(definition, Function) and _RESULT_OF_LOAD.intersection(
                    definition.decorators
                ):
                    self.edges(definition.results[:1], load.unit)

    def _binders(self, load: Load | Call) -> list[Binding]:
        """The places that a read of an attribute needs."""
        bindings = self.facts.attributes.get(load.name)
        if not bindings or self._is_module(load):
            return []
        by_class: dict[int, list[Binding]] = {}
        for binding in bindings:
            by_class.setdefault(binding.owner.unit if binding.owner else 0, []).append(binding)
        own = self_class(load.scope, load.base)
        if own is not None and own.unit in by_class:
            by_class = {own.unit: by_class[own.unit]}
        needed: list[Binding] = []
        for group in by_class.values():
            needed += group if group[0].vague else group[:1]
        return needed

    def _is_module(self, load: Load | Call) -> bool:
        found = lookup(load.scope, load.base) if load.base else None
        return found is not None and all(binding.imported for binding in found[1])

    def results(self) -> None:
        for call in self.facts.calls:
            if call.method:
                bindings: Sequence[Binding] = self._binders(call)
            else:
                found = lookup(call.scope, call.name)
                bindings = found[1] if found else ()
            for binding in bindings:
                if isinstance(binding.definition, Function):
                    self.edges(binding.definition.results[:1], call.unit)
        for function in self.facts.functions:
            if is_special(function.name):
                results = function.results if self.strict else function.results[:1]
                self.edges(results, function.unit)
            self.edges(function.super_inits, function.unit)

    def declarations(self) -> None:
        scopes = [scope for scope in self.facts.scopes if scope.declared]
        for scope in scopes:
            for name, (_, unit) in scope.declared.items():
                found = lookup(scope, name)
                for binding in found[1] if found else ():
                    if self.units.contains(scope.unit, binding.unit):
                        self.edge(unit, binding.unit)
        if scopes:
            for use in self.facts.uses:
                declared = outside_comprehensions(use.scope).declared
                if use.name in declared:
                    self.edge(declared[use.name][1], use.unit)

    # -- rule 6 ------------------------------------------------------------------------------------

    def classes(self) -> None:
        for use in self.facts.uses:
            own = self_class(use.scope, use.name) if use.bare else None
            if own is not None:
                self._special_methods(own, use.unit)
                continue
            found = lookup(use.scope, use.name)
            for binding in found[1] if found else ():
                definition = binding.definition
                if isinstance(definition, Class) and not self.units.contains(
                    definition.unit, use.unit
                ):
                    self._special_methods(definition, use.unit)

        for load in self.facts.loads:
            own = self_class(load.scope, load.base)
            if own is not None:  # pylint accepts any attribute of a class that makes them up
                self.edges((u for name, u in own.methods if name in _ANY_ATTRIBUTE), load.unit)

    def _special_methods(self, definition: Class, dependent: int) -> None:
        for name, unit in definition.methods:
            if definition.has_bases or is_special(name):
                self.edge(unit, dependent)

    def handlers(self) -> None:
        for number, node in enumerate(self.nodes):
            statement = node.statements[0] if node.statements else None
            if isinstance(statement, (ast.Try, ast.TryStar)):
                for handler in statement.handlers:
                    if _EXCUSING.intersection(_caught(handler)):
                        self.edge(self.units.node_of[handler], number)


def _breaks(units: Units) -> dict[int, list[int]]:
    """The nodes with a ``break``, by the loop around them."""
    breaks: dict[int, list[int]] = {}
    for number, node in enumerate(units.nodes):
        if not any(isinstance(statement, ast.Break) for statement in node.statements):
            continue
        loop = number
        while loop > 0:
            statements = units.nodes[loop].statements
            if statements and isinstance(statements[0], _LOOPS):
                breaks.setdefault(loop, []).append(number)
                break
            loop = units.nodes[loop].parent
    return breaks


def _is_deferred(scope: Scope, target: Scope) -> bool:
    """Whether code of ``scope`` may run long after it was defined in ``target``."""
    at: Scope | None = scope
    while at is not None and at is not target:
        if at.kind == "function":
            return True
        at = at.parent
    return False


def _leaves(statement: ast.stmt) -> bool:
    """Whether a simple statement leaves its block for good."""
    if isinstance(statement, _ENDS):
        return True
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        return name in _EXITS
    return False


def _caught(handler: ast.ExceptHandler) -> list[str]:
    """The names of the exceptions a handler catches; "" for all."""
    if handler.type is None:
        return [""]
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [getattr(kind, "attr", getattr(kind, "id", "?")) for kind in kinds]
