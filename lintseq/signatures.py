"""Granularity ``line``: who needs a parameter or decorator that stands on a line of its own.

A call that fits a signature may not fit it without one of its parameters, and what a decorator
makes of a function may be what its users need. So all that uses the name of a definition needs
these lines of it: of a function wherever its name is read, of a constructor wherever its class is.
"""

from __future__ import annotations

import ast

from codegen.lintseq.dependencies import Graph
from codegen.lintseq.scopes import Facts
from codegen.lintseq.units import Units

_CONSTRUCTORS = frozenset({"__init__", "__new__"})


def add_signatures(graph: Graph, units: Units, facts: Facts) -> None:
    """Adds these edges to the graph."""
    if not units.signatures:
        return
    users: dict[str, set[int]] = {}
    for fact in (*facts.uses, *facts.loads):
        users.setdefault(fact.name, set()).add(fact.unit)
    for name, unit in facts.exports:
        users.setdefault(name, set()).add(unit)
    for name, unit in _definitions(units, facts):
        for piece in units.signatures.get(unit, ()):
            own = range(piece, units.nodes[piece].last + 1)
            graph.dependents[piece].update(
                user for user in users.get(name, ()) if user and user not in own
            )


def _definitions(units: Units, facts: Facts) -> list[tuple[str, int]]:
    """Names, each with the definition whose signature their users need."""
    found = [(function.name, function.unit) for function in facts.functions]
    for owner in facts.classes:
        definition = units.nodes[owner.unit].statements[0]
        if not isinstance(definition, ast.ClassDef):
            continue  # on the line of another statement
        found.append((definition.name, owner.unit))
        for method, unit in owner.methods:
            if method in _CONSTRUCTORS:
                found += [(definition.name, unit), ("cls", unit)]
    return found
