"""The dependency rules between the pieces of a program that keep states lint-clean.

The result is a graph over the nodes of :mod:`codegen.lintseq.units`. An edge says "when this node
is deleted, that one must be too"; a group says "when all of these are deleted, that one must be
too". The rules follow pylint's errors. The rules:

1. Deleting a unit deletes its clauses, and deleting a clause its units.
2. Deleting the last unit of a clause deletes the clause; likewise a body its statement, the last
   handler (without a ``finally``) its ``try``, the last handler the ``try``'s ``else``, the last
   case its ``match``.
3. A use of a name needs one of the bindings that always run before it (in a block around it); if
   there are none, it needs all bindings in branches, and the ``return``, ``raise``, ... that end
   the other branches. In a function, a name of an outer scope needs any binding. An operation on
   the value (``x.a``, ``x[0]``, ``for _ in x``) needs a binding that is not known to be of a
   built-in type without that operation.
4. A read of an attribute needs one binding of that name in each class that binds it. ``self.a``
   needs only one in its own class, if that class binds it.
5. A call whose value is assigned, iterated, ... needs one ``return`` or ``yield`` with a value in
   the callee. A special method needs one of its ``return``; ``__init__`` needs its call of the
   parent's ``__init__``; ``__all__`` needs every name in it; a name needs its ``global`` or
   ``nonlocal`` declaration; an annotation with a forward reference or a possibly unbound name
   (``if TYPE_CHECKING``) needs the ``__future__`` import. A call of a class with arguments needs
   its ``__init__`` and the fields of a data class; a use of a class needs its special methods for
   the operations in the program; a ``try`` needs its handlers whose errors checkers then ignore.
6. A node with an error that the whole program has is *faulty*: a use of an unbound name, or a
   relative import, since a single program has no package. The first deletion includes it, as in
   the paper's code, so only the last state has the error.
7. ``strict`` only: a use needs every binding that can reach it; a use of a class, or of a bare
   ``self``, needs all its special methods (all methods, if it has bases); a special method needs
   all its ``return``.
8. Granularity ``line`` only: every use of a definition's name needs the parameters and decorators
   on separate lines, since a call may not match the signature without a parameter, and users may
   need a decorator's effect. The same applies to reads of a method's name, and to uses of a class
   and its constructor.

The rules are not from the paper, whose code runs pylint at every step instead. Limits: no types are
inferred; attributes are matched by name. Checks of the states can find errors that the rules miss
(:mod:`codegen.lintseq.verify`).
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from codegen.lintseq.scopes import (
    Call,
    Class,
    Function,
    Load,
    NameBinding,
    NameUse,
    PythonScope,
    ScopeAnalysis,
    is_special,
    lookup,
    outside_comprehensions,
    self_class,
)
from codegen.lintseq.units import Units

_BUILTINS = frozenset(dir(builtins))
_KNOWN = _BUILTINS | {"__file__", "__path__", "__class__", "__module__", "__qualname__"}
_KNOWN |= {"__annotations__", "__builtins__", "WindowsError"}
_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_EXITS = frozenset({"exit", "quit", "_exit", "abort", "error", "fail"})
_PROPERTIES = frozenset({"property", "cached_property"})
_CONSTRUCTORS = frozenset({"__init__", "__new__"})
# Special methods that checkers require of a used value: always, and per operation.
_ALWAYS_MISSED = frozenset({"__getattr__", "__getattribute__", "__hash__", "__index__", "__next__"})
_MISSED_BY = {
    "__iter__": ("__iter__", "__getitem__"),
    "__contains__": ("__contains__", "__iter__", "__getitem__"),
    "__enter__": ("__enter__", "__exit__"),
    "__aenter__": ("__aenter__", "__aexit__"),
    "__aiter__": ("__aiter__", "__anext__"),
}
# Names of exceptions, "" for all, whose handler excuses errors in its ``try``.
_EXCUSING = frozenset(
    {"", "NameError", "ImportError", "ModuleNotFoundError", "AttributeError", "Exception"}
)
_ANY_ATTRIBUTE = frozenset({"__getattr__", "__getattribute__"})
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_TRANSPARENT = (ast.With, ast.AsyncWith, *_LOOPS, ast.Try, ast.TryStar)
MOST_EARLIER_USES = 6  # maximum earlier uses considered for each use of a name


@dataclass(frozen=True, slots=True)
class DeletionGroup:
    """A target that must be deleted with the last of its members."""

    members: tuple[int, ...]
    target: int


@dataclass(slots=True)
class Graph:
    """The dependents of each node, the groups, and the faulty nodes."""

    dependents: list[set[int]]
    groups: list[DeletionGroup] = field(default_factory=list)
    faulty: set[int] = field(default_factory=set)


def dependencies(units: Units, facts: ScopeAnalysis, *, strict: bool) -> Graph:
    """Builds the graph of a program."""
    rules = _Rules(units, facts, strict)
    rules.structure()
    rules.names()
    rules.attributes()
    rules.results()
    rules.declarations()
    rules.classes()
    rules.handlers()
    rules.faults()
    rules.signatures()
    return rules.graph


class _Rules:
    def __init__(self, units: Units, facts: ScopeAnalysis, strict: bool) -> None:
        self.units = units
        self.nodes = units.nodes
        self.facts = facts
        self.strict = strict
        self.graph = Graph([set() for _ in units.nodes])
        self.breaks = _breaks(units)
        self.jumps = sorted(node for nodes in self.breaks.values() for node in nodes)
        self.earlier_uses: dict[tuple[int, str], list[int]] = {}
        # Units that use a name in a function that declares it global.
        self.updates = {(use.name, use.unit) for use in facts.uses if self._is_global(use)}
        self.missed = _ALWAYS_MISSED | {
            name for done in facts.operations for name in _MISSED_BY.get(done, (done,))
        }

    def edge(self, needed: int, dependent: int) -> None:
        """Deletes ``dependent`` with ``needed``, unless it is inside ``needed`` or the module."""
        if dependent and not needed <= dependent <= self.nodes[needed].last:
            self.graph.dependents[needed].add(dependent)

    def edges(self, needed: Iterable[int], dependent: int) -> None:
        for node in needed:
            self.edge(node, dependent)

    def any_of(self, members: Iterable[int], dependent: int) -> None:
        """Deletes ``dependent`` once all members are deleted."""
        distinct = tuple(dict.fromkeys(members))
        if len(distinct) == 1:
            self.edge(distinct[0], dependent)
        elif (
            distinct and dependent and not any(self.units.contains(m, dependent) for m in distinct)
        ):
            self.graph.groups.append(DeletionGroup(distinct, dependent))

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
                    groups.append(DeletionGroup(units, number))
        groups += [DeletionGroup(pieces, target) for pieces, target in self.units.minimums]

    def _clauses(self, unit: int) -> None:
        groups = self.graph.groups
        kinds: dict[str, list[int]] = {}
        for clause in self.nodes[unit].children:
            kinds.setdefault(self.nodes[clause].kind, []).append(clause)
        if "case" in kinds:
            groups.append(DeletionGroup(tuple(kinds["case"]), unit))
        handlers = kinds.get("handler", [])
        if handlers or "finally" in kinds:
            groups.append(DeletionGroup((*handlers, *kinds.get("finally", [])), unit))
        if handlers and "else" in kinds:
            groups.append(DeletionGroup(tuple(handlers), kinds["else"][0]))

    def names(self) -> None:
        for use in self.facts.uses:
            found = lookup(use.scope, use.name)
            if found is None:
                if use.name not in _BUILTINS:
                    self.edges(self.facts.star_imports, use.unit)
                continue
            scope, bindings = found
            self.needs(use, scope, bindings)
            if use.annotation:
                self._looks_ahead(use, bindings)
            if scope is use.scope and scope.kind == "class" and bindings[0].order > use.order:
                self._outer(use, scope)
        for name, unit in self.facts.exports:
            bindings = self.facts.module.bindings.get(name)
            self.edges((b.unit for b in bindings) if bindings else self.facts.star_imports, unit)

    def _outer(self, use: NameUse, scope: PythonScope) -> None:
        """Handles a name that a class body uses before binding it: it is in an outer scope."""
        outer = scope.parent
        found = lookup(outer, use.name) if outer is not None else None
        if outer is not None and found is not None:
            self.needs(use._replace(scope=outer), *found)

    def _looks_ahead(self, use: NameUse, bindings: Sequence[NameBinding]) -> None:
        future = self.facts.future_annotations
        if future is None:
            return
        first = bindings[0]
        if (
            first.order > use.order
            or not self._is_sure(first, use)  # such as "if TYPE_CHECKING:"
            or (isinstance(first.definition, Class) and self.units.contains(first.unit, use.unit))
        ):
            self.edge(future, use.unit)

    def needs(self, use: NameUse, scope: PythonScope, bindings: Sequence[NameBinding]) -> None:
        """Adds edges from a use of a name to its bindings."""
        deferred = _is_deferred(use.scope, scope)
        if self._is_global(use):
            bindings = self._from_elsewhere(use, bindings)
        if self.strict:
            reaching = bindings if deferred else self._reaching(use, bindings)
            self.edges((binding.unit for binding in reaching), use.unit)
        earlier = self.earlier_uses.setdefault((id(use.scope), use.name), [])
        before = bindings if deferred else [b for b in bindings if b.order < use.order]
        if not any(b.order < use.order and self.units.contains(b.unit, use.unit) for b in bindings):
            self.edges((binding.unit for binding in bindings if "." in binding.imported), use.unit)
            sure = [b for b in before if self._is_sure(b, use)]
            needed = [binding.unit for binding in sure or bindings]
            # Checkers report only the first use of a name, unless it is bound nowhere.
            self.any_of(needed + earlier if len(bindings) > 1 else needed, use.unit)
            if not sure:
                self._all_branches(use, bindings)
        if use.operation:
            self._value(before, use.operation, use)
        earlier.append(use.unit)
        del earlier[:-MOST_EARLIER_USES]

    def _is_global(self, use: NameUse) -> bool:
        """Returns True if the function around a use declares its name global."""
        declared = outside_comprehensions(use.scope).declared
        return declared.get(use.name, ("", 0))[0] == "global"

    def _from_elsewhere(self, use: NameUse, bindings: Sequence[NameBinding]) -> list[NameBinding]:
        """Returns the bindings that may set a declared global before the use.

        Excludes later bindings in the use's function, and updates (``n += 1``) in other functions.
        """
        function = outside_comprehensions(use.scope).unit
        return [
            b
            for b in bindings
            if (
                b.order < use.order
                if self.units.contains(function, b.unit)
                else (use.name, b.unit) not in self.updates
            )
        ]

    def _all_branches(self, use: NameUse, bindings: Sequence[NameBinding]) -> None:
        """Adds edges to all bindings, for a use without a binding that always precedes it."""
        for binding in bindings:
            if not self._goes_alone(binding.unit):
                self.edge(binding.unit, use.unit)
            self._branch_ends(binding.unit, use.unit)
            self._jumps(binding.unit, use.unit)

    def _jumps(self, unit: int, use: int) -> None:
        """Handles an ``if`` with a ``break``, in which checkers accept a binding in any branch."""
        outermost = 0
        while unit > 0 and not self.units.contains(unit, use):
            statements = self.nodes[unit].statements
            if statements and isinstance(statements[0], ast.If):
                outermost = unit
            unit = self.nodes[unit].parent
        if outermost and not any(
            self.nodes[clause].kind == "else" for clause in self.nodes[outermost].children
        ):
            last = self.nodes[outermost].last
            self.any_of((jump for jump in self.jumps if outermost < jump <= last), use)

    def _value(self, bindings: Sequence[NameBinding], operation: str, use: NameUse | Load) -> None:
        """Adds edges from an operation to a binding that may support it, if another does not.

        A binding that does not support it and always runs hides the earlier bindings.
        """
        refusing = [b for b in bindings if b.kind is not None and not _allows(b.kind, operation)]
        if not refusing:
            return
        floor = max((b.order for b in refusing if self._is_sure(b, use)), default=0)
        allowing = [b.unit for b in bindings if b not in refusing and b.order > floor]
        self.any_of(allowing, use.unit)

    def _is_sure(self, binding: NameBinding, use: NameUse | Load) -> bool:
        """Returns True if checkers assume that the binding runs before a use that may follow it.

        They do if it is in a block around the use. Blocks of ``with``, loops and ``try`` count as
        part of the block around them, and a branch of an ``if`` counts as enclosing its test and
        the rest of that ``if``.
        """
        unit = self.units.whole(binding.unit)
        statements = self.nodes[unit].statements
        if binding.inline and statements and not isinstance(statements[0], _TRANSPARENT):
            return self.units.contains(unit, use.unit)
        block = self.nodes[unit].parent
        while block > 0 and self.nodes[block].kind in ("body", "else", "finally"):
            statements = self.nodes[self.nodes[block].parent].statements
            if not (statements and isinstance(statements[0], _TRANSPARENT)):
                break
            block = self.nodes[self.nodes[block].parent].parent
        return not binding.vague and self._opening(block) <= use.unit <= self._closing(block)

    def _opening(self, block: int) -> int:
        """Returns the first node that checkers assign to a block (:meth:`_is_sure`)."""
        node = self.nodes[block]
        if not self._is_branch(block) or node.kind == "elif":
            return block
        tests = [n for n in self.nodes[node.parent].children if self.nodes[n].kind == "elif"]
        return tests[-1] if tests and node.kind == "else" else node.parent

    def _closing(self, block: int) -> int:
        """Returns the last node that checkers assign to a block."""
        return self.nodes[self.nodes[block].parent if self._is_branch(block) else block].last

    def _is_branch(self, block: int) -> bool:
        """Returns True if a block is a branch of an ``if``."""
        statements = self.nodes[self.nodes[block].parent].statements if block else []
        return bool(statements) and isinstance(statements[0], ast.If)

    def _goes_alone(self, unit: int) -> bool:
        """Returns True if a unit is the only one of its ``elif``, handler or case."""
        clause = self.nodes[self.nodes[self.units.whole(unit)].parent]
        units = [child for child in clause.children if self.nodes[child].kind != "line"]
        return clause.kind in ("elif", "handler", "case") and len(units) == 1

    def _reaching(self, use: NameUse, bindings: Sequence[NameBinding]) -> Sequence[NameBinding]:
        """Returns the bindings whose value may reach a use in the same scope."""
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
        """Returns the outermost loop around a unit but not ``floor``, in its function, or 0."""
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
        """Adds edges from a use after branches that bind it to statements that leave the others.

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
        """Returns the nodes at the end of a clause that leave it."""
        node = self.nodes[clause]
        if not node.children:
            return [clause] if any(map(_leaves, node.statements)) else []
        last = node.children[-1]
        ends = [last] if any(map(_leaves, self.nodes[last].statements)) else []
        for inner in self.nodes[last].children:
            ends += self._ends(inner)
        return ends

    def attributes(self) -> None:
        for load in self.facts.loads:
            for bindings in self._binders(load):
                # Later bindings in the same function do not count.
                before = [
                    b for b in bindings if b.scope is not load.scope or b.order < load.order
                ] or bindings
                self.any_of((binding.unit for binding in before), load.unit)
                if load.operation:
                    self._value(bindings, load.operation, load)
                    self._results((b for b in bindings if _is_property(b)), load.unit)

    def _binders(self, load: Load | Call) -> list[list[NameBinding]]:
        """Returns the bindings of an attribute, by class."""
        bindings = self.facts.attributes.get(load.name)
        if not bindings or self._is_module(load):
            return []
        by_class: dict[int, list[NameBinding]] = {}
        for binding in bindings:
            by_class.setdefault(binding.owner.unit if binding.owner else 0, []).append(binding)
        own = self_class(load.scope, load.base)
        if own is not None and own.unit in by_class:
            return [by_class[own.unit]]
        return list(by_class.values())

    def _is_module(self, load: Load | Call) -> bool:
        found = lookup(load.scope, load.base) if load.base else None
        return found is not None and all(binding.imported for binding in found[1])

    def results(self) -> None:
        for call in self.facts.calls:
            if not call.operation:
                continue
            if call.method:
                bindings = [binding for group in self._binders(call) for binding in group]
            else:
                found = lookup(call.scope, call.name)
                bindings = found[1] if found else []
            self._results(bindings, call.unit)
        for function in self.facts.functions:
            if is_special(function.name):
                self.any_of(function.results, function.unit)
                if self.strict:
                    self.edges(function.results, function.unit)
            self.edges(function.super_inits, function.unit)

    def _results(self, bindings: Iterable[NameBinding], dependent: int) -> None:
        """Adds edges from a call's value to a result of each function that may be called."""
        for binding in bindings:
            if isinstance(binding.definition, Function):
                self.any_of(binding.definition.results, dependent)

    def declarations(self) -> None:
        scopes = [scope for scope in self.facts.scopes if scope.declared]
        for scope in scopes:
            for name, (kind, unit) in scope.declared.items():
                found = lookup(scope, name)
                bindings = [binding.unit for binding in found[1]] if found else []
                own = {b for b in bindings if self.units.contains(scope.unit, b)}
                for binding in own:
                    self.edge(unit, binding)
                if kind == "nonlocal":  # a function that also declares the name has no binding
                    declaring = [s.unit for s in scopes if name in s.declared]
                    inner = {b for s in declaring for b in bindings if self.units.contains(s, b)}
                    self.any_of((b for b in bindings if b not in inner), unit)
        if scopes:
            for use in self.facts.uses:
                declared = outside_comprehensions(use.scope).declared
                if use.name in declared:
                    self.edge(declared[use.name][1], use.unit)

    def classes(self) -> None:
        for use in self.facts.uses:
            own = self_class(use.scope, use.name) if use.bare else None
            if own is not None:
                self._special_methods(own, use.unit)
                continue
            for definition in self._classes(use.scope, use.name):
                if not self.units.contains(definition.unit, use.unit):
                    self._special_methods(definition, use.unit)
        for load in self.facts.loads:
            own = self_class(load.scope, load.base)
            if own is not None:  # pylint accepts any attribute of a class with dynamic attributes
                self.edges((u for name, u in own.methods if name in _ANY_ATTRIBUTE), load.unit)
        for call in self.facts.calls:
            if not call.method:
                for definition in self._classes(call.scope, call.name):
                    self._construction(definition, call)

    def _classes(self, scope: PythonScope, name: str) -> list[Class]:
        """Returns the program's classes that a name may refer to."""
        found = lookup(scope, name)
        definitions = [binding.definition for binding in found[1]] if found else []
        return [definition for definition in definitions if isinstance(definition, Class)]

    def _special_methods(self, definition: Class, dependent: int) -> None:
        for name, unit in definition.methods:
            if name in self.missed or (self.strict and (definition.bases or is_special(name))):
                self.edge(unit, dependent)

    def _construction(self, definition: Class, call: Call) -> None:
        """Adds the edges of a class instantiation."""
        if call.arguments:
            self.edges((u for name, u in definition.methods if name in _CONSTRUCTORS), call.unit)
            if definition.decorated or definition.bases:
                self.edges(definition.fields, call.unit)
        inside = self.units.contains(definition.unit, call.unit)
        if not inside and not self._is_concrete(definition, call.scope):
            self.edges((unit for _, unit in definition.methods), call.unit)

    def _is_concrete(self, definition: Class, scope: PythonScope) -> bool:
        """Returns True if no base can have abstract methods that the class must define."""
        waiting = [definition]
        seen: set[int] = set()
        while waiting:
            at = waiting.pop()
            if at.unit in seen:
                continue
            seen.add(at.unit)
            if at.abstract:
                return False
            for base in at.bases:
                found = lookup(scope, base)
                parents = [binding.definition for binding in found[1]] if found else []
                if found is None and base in _BUILTINS:
                    continue
                if not parents or not all(isinstance(parent, Class) for parent in parents):
                    return False
                waiting += [parent for parent in parents if isinstance(parent, Class)]
        return True

    def handlers(self) -> None:
        for number, node in enumerate(self.nodes):
            statement = node.statements[0] if node.statements else None
            if isinstance(statement, (ast.Try, ast.TryStar)):
                for handler in statement.handlers:
                    if _EXCUSING.intersection(_caught(handler)):
                        self.edge(self.units.node_of[handler], number)

    def faults(self) -> None:
        if not self.facts.star_imports:
            for use in self.facts.uses:
                if use.name not in _KNOWN and lookup(use.scope, use.name) is None:
                    self._fault(use.unit)
        for unit in self.facts.relative_imports:
            self._fault(unit)

    def _fault(self, unit: int) -> None:
        """Marks a node as faulty, unless it is in a ``try`` that suppresses errors."""
        at = unit
        while at > 0:
            node = self.nodes[at]
            if node.kind == "body" and self._excuses(node.parent):
                return
            at = node.parent
        self.graph.faulty.add(unit)

    def _excuses(self, unit: int) -> bool:
        statements = self.nodes[unit].statements
        return (
            bool(statements)
            and isinstance(statements[0], (ast.Try, ast.TryStar))
            and any(_EXCUSING.intersection(_caught(h)) for h in statements[0].handlers)
        )

    def signatures(self) -> None:
        if not self.units.signatures:
            return
        users: dict[str, set[int]] = {}
        for fact in (*self.facts.uses, *self.facts.loads):
            users.setdefault(fact.name, set()).add(fact.unit)
        for name, unit in self.facts.exports:
            users.setdefault(name, set()).add(unit)
        for name, unit in self._definitions():
            for piece in self.units.signatures.get(unit, ()):
                own = range(piece, self.nodes[piece].last + 1)
                self.graph.dependents[piece].update(
                    user for user in users.get(name, ()) if user and user not in own
                )

    def _definitions(self) -> list[tuple[str, int]]:
        """Returns (name, node): uses of the name need the signature of the node's definition."""
        found = [(function.name, function.unit) for function in self.facts.functions]
        for owner in self.facts.classes:
            definition = self.nodes[owner.unit].statements[0]
            if not isinstance(definition, ast.ClassDef):
                continue  # shares another statement's line
            found.append((definition.name, owner.unit))
            for method, unit in owner.methods:
                if method in _CONSTRUCTORS:
                    found += [(definition.name, unit), ("cls", unit)]
        return found


def _breaks(units: Units) -> dict[int, list[int]]:
    """Returns the nodes with a ``break``, by enclosing loop."""
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


def _is_deferred(scope: PythonScope, target: PythonScope) -> bool:
    """Returns True if code of ``scope`` may run later than the enclosing code in ``target``."""
    at: PythonScope | None = scope
    while at is not None and at is not target:
        if at.kind == "function":
            return True
        at = at.parent
    return False


def _leaves(statement: ast.stmt) -> bool:
    """Returns True if a simple statement leaves its block."""
    if isinstance(statement, _ENDS):
        return True
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        return name in _EXITS
    return False


def _allows(kind: type, operation: str) -> bool:
    """Returns True if a built-in type supports an operation (:class:`NameUse`)."""
    if kind is type(None) and not is_special(operation):
        return True  # checkers do not report attributes of None
    needed = _ITERABLE.get(operation, (operation,))
    # Not hasattr, which also finds the metaclass's attributes: a class is callable, a list is not.
    return any(name in vars(base) for base in kind.__mro__ for name in needed)


_ITERABLE = {
    "__iter__": ("__iter__", "__getitem__"),
    "__contains__": ("__contains__", "__iter__", "__getitem__"),
}


def _is_property(binding: NameBinding) -> bool:
    definition = binding.definition
    return isinstance(definition, Function) and bool(
        _PROPERTIES.intersection(definition.decorators)
    )


def _caught(handler: ast.ExceptHandler) -> list[str]:
    """Returns the names of the exceptions that a handler catches; "" for all."""
    if handler.type is None:
        return [""]
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [getattr(kind, "attr", getattr(kind, "id", "?")) for kind in kinds]
