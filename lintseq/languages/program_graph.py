"""The pieces of a program in a language other than Python, and their dependencies.

A *unit* is a statement, declaration or member that shares its lines with no other code; statements
on the same line are one unit. Units nest, also indirectly: in a statement's blocks, a function in
an argument, a class in a function. A blank or comment line belongs to the line of code below it.
With granularity ``line``, elements of bracketed lists on separate lines are units, too.

As in :mod:`codegen.lintseq.dependencies`, the rules define which units are deleted together:

1. The units inside a unit, and a unit with all units of a block that must not be empty.
2. The use of a name: with the declaration it refers to by the language's scopes. If there are
   several (overloads, a prototype, branches), with any of them, or with the last, depending on the
   language. The use of a member: with the members of that name that the program declares.
3. A function with a result: with the last statement of its body, and of the blocks in which that
   statement ends.
4. A name that must be used (imports and variables in Go): with its last use.
5. Language-specific rules.

Limits: no types are inferred, and members are matched by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tree_sitter import Node

from codegen.core.languages import parser_for
from codegen.lintseq.dependencies import DeletionGroup, Graph
from codegen.lintseq.edits import UnsupportedProgram

Words = frozenset[str]
Fields = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grammar:
    """The node types of a tree-sitter grammar, by their role in an edit sequence.

    Attributes:
        name: language name in :data:`codegen.core.languages.LANGUAGES`.
        blocks: nodes whose children on separate lines are units: statements, members.
        lists: nodes whose elements, with their commas, are units with granularity ``line``.
        nonempty: blocks that must not be empty.
        parallel: blocks that may end in any of their children, such as the cases of a switch.
        prefixes: nodes that belong to the next sibling, such as attributes.
        always: nodes inserted by the first edit, since their users do not name them.
        scopes: nodes whose declarations are not visible outside.
        ordered: scopes in which a name refers to the last declaration above.
        hoisted: nodes whose declarations belong to the enclosing function.
        delayed: declarations that are visible only after their end (``let x = x + 1``).
        names, members: leaves that use a name, or a member of something.
        declared: leaves that can be declared.
        declares: node type -> fields whose names it declares in the scope around it; "" means
            children without a field.
        parameters: node type -> fields whose names it declares in a separate scope.
        declaring: node type -> tokens that mark a declaration; a node without any of them is an
            assignment.
        patterns: node types that contain declared names -> the fields with them.
        implied: node type -> the names it declares without a leaf of that name (imports).
        member_names: node type -> the field with the member that it declares.
        member_uses: (node type, field) of leaves in ``names`` that name a member.
        inherits: whether a name that no enclosing scope declares may be a member, and a member may
            be a name in another scope, such as a namespace.
        ignored: (node type, field) of leaves that do not use the program's names.
        raw: leaves whose text contains names, such as the body of a macro.
        assignments: node types of assignments, with a field ``left``.
        assigned_later: declarations; if they have no value, reads of the name need all assignments.
        functions: function type -> the field with its result type; the last statement must stay.
        no_result: result types that mean no result.
        infers_results: whether a function without a result type may have a result.
        any_declaration: whether one of several declarations is sufficient.
        must_use: declarations of names that must be used.
        rules: function that adds language-specific rules.
    """

    name: str
    blocks: Words
    lists: Words = frozenset()
    nonempty: Words = frozenset()
    parallel: Words = frozenset()
    prefixes: Words = frozenset()
    always: Words = frozenset()
    scopes: Words
    ordered: Words = frozenset()
    hoisted: Words = frozenset()
    delayed: Words = frozenset()
    names: Words
    members: Words = frozenset()
    declared: Words
    declares: Fields
    parameters: Fields = field(default_factory=dict)
    declaring: Mapping[str, Words] = field(default_factory=dict)
    patterns: Fields = field(default_factory=dict)
    implied: Mapping[str, Callable[[Node], Iterable[str]]] = field(default_factory=dict)
    member_names: Mapping[str, str] = field(default_factory=dict)
    member_uses: frozenset[tuple[str, str]] = frozenset()
    inherits: bool = False
    ignored: frozenset[tuple[str, str]] = frozenset()
    raw: Words = frozenset()
    assignments: Words = frozenset()
    assigned_later: Words = frozenset()
    functions: Mapping[str, str] = field(default_factory=dict)
    no_result: Words = frozenset()
    infers_results: bool = False
    any_declaration: bool = False
    must_use: Words = frozenset()
    rules: Callable[[Reader], None] | None = None


def words(text: str) -> Words:
    """Returns a set of words."""
    return frozenset(text.split())


def fields(**types: str) -> dict[str, tuple[str, ...]]:
    """Inverts field -> node types; ``itself`` means children without a field."""
    return {
        kind: ("" if field == "itself" else field,)
        for field, kinds in types.items()
        for kind in kinds.split()
    }


def text_of(node: Node) -> str:
    """Returns the text of a node."""
    return (node.text or b"").decode("utf-8")


_WORD = re.compile(r"[^\W\d]\w*")
_SEPARATORS = re.compile(r"[\s;,]*(?://.*|/\*[^*]*\*/\s*)?")
_CLOSING = re.compile(r"\s*[\])};,]*\s*")
# Comments that affect tools.
_ORDERS = re.compile(r"//go:|//export|// ?@ts-|/// ?<")


def error_line(root: Node) -> int:
    """Returns the line of a tree's first error, or 0."""
    if not root.has_error:
        return 0
    node = root
    while inner := next((child for child in node.children if child.has_error), None):
        node = inner
    return node.start_point.row + 1


class NameScope:
    """The names declared in one scope."""

    def __init__(self, parent: NameScope | None, type: str) -> None:
        self.parent = parent
        self.type = type
        self.names: dict[str, list[Binding]] = {}

    def above(self) -> Iterator[NameScope]:
        """Yields the scope and the enclosing scopes, innermost first."""
        scope: NameScope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


class LeafUse(NamedTuple):
    """A use of a name: its leaf, and the leaf's unit and scope."""

    leaf: Node
    unit: int
    scope: NameScope
    name: str


@dataclass(eq=False)
class Binding:
    """A declaration of a name.

    Attributes:
        name: declared name.
        unit: declaring unit.
        node: declaring node.
        since: first position at which it is visible.
        scope: scope in which it is visible.
        reads: uses of its value.
        writes: assignments to it.
    """

    name: str
    unit: int
    node: Node
    since: int
    scope: NameScope
    reads: list[LeafUse] = field(default_factory=list)
    writes: list[LeafUse] = field(default_factory=list)


class Reader:
    """A parsed program; the rules of a language add to its graph.

    Attributes:
        spans: the first and last line of each unit; unit 0 is the program.
        parents: the enclosing unit of each unit.
        last: the last unit inside each unit.
        unit_of: node id -> the unit that the node forms, alone or with its neighbors.
        nodes: nodes with children, by type.
        uses, member_uses: uses of names and of members.
        members: units that declare a member, by name.
        bindings: all declarations.
        in_token: lines that begin inside a string or another token.
        comments: lines that contain only a comment.
    """

    def __init__(self, grammar: Grammar, lines: Sequence[str], *, by_line: bool) -> None:
        self.grammar = grammar
        self.rows = [line.encode("utf-8") for line in lines]
        self.by_line = by_line
        self.spans = [(0, 0)]
        self.parents = [-1]
        self.last = [0]
        self.unit_of: dict[int, int] = {}
        self.nodes: dict[str, list[Node]] = {}
        self.uses: list[LeafUse] = []
        self.member_uses: list[LeafUse] = []
        self.members: dict[str, list[int]] = {}
        self.bindings: list[Binding] = []
        self.in_token: set[int] = set()
        self.comments: set[int] = set()
        self.graph = Graph([])
        self._units: dict[int, int] = {}  # id of a node -> its unit
        self._declared: set[int] = set()  # leaves that declare, by id

    def read(self) -> None:
        """Finds the units, the names and the dependencies.

        Raises:
            UnsupportedProgram: ``syntax_error`` or ``too_deep``.
        """
        # Nodes are valid as long as their tree is.
        self.tree = parser_for(self.grammar.name).parse(b"\n".join(self.rows) + b"\n")
        root = self.tree.root_node
        if line := error_line(root):
            raise UnsupportedProgram("syntax_error", f"line {line} is not {self.grammar.name}.")
        try:
            self._walk(root, 0, NameScope(None, root.type))
            for unit in range(len(self.spans) - 1, 0, -1):
                parent = self.parents[unit]
                self.last[parent] = max(self.last[parent], self.last[unit])
            self.graph = Graph([set() for _ in self.spans])
            for unit, parent in enumerate(self.parents):
                if parent > 0:
                    self.graph.dependents[parent].add(unit)
            for kind in self.grammar.nonempty:
                for block in self.nodes.get(kind, ()):
                    self.any_of(map(self.unit, block.named_children), self.unit(block))
            self._names()
            if self.grammar.rules is not None:
                self.grammar.rules(self)
            self._members()
            self._results()
        except RecursionError:
            raise UnsupportedProgram("too_deep", "it is nested too deeply.") from None

    def contains(self, unit: int, other: int) -> bool:
        """Returns True if ``other`` is ``unit`` or inside it."""
        return unit <= other <= self.last[unit]

    def edge(self, needed: int, dependent: int) -> None:
        """Deletes ``dependent`` with ``needed``, unless it is inside, or either is the program."""
        if needed and dependent and not self.contains(needed, dependent):
            self.graph.dependents[needed].add(dependent)

    def any_of(self, members: Iterable[int], dependent: int) -> None:
        """Deletes ``dependent`` once all members are deleted."""
        distinct = tuple(dict.fromkeys(members))
        if not distinct or not dependent or 0 in distinct:
            return
        if len(distinct) == 1:
            self.edge(distinct[0], dependent)
        elif not any(self.contains(member, dependent) for member in distinct):
            self.graph.groups.append(DeletionGroup(distinct, dependent))

    def needed_by_all(self, unit: int) -> None:
        """Deletes all later units with this one, since they may need it without naming it."""
        for later in range(self.last[unit] + 1, len(self.spans)):
            self.edge(unit, later)

    def unit(self, node: Node) -> int:
        """Returns the unit of a node; 0 for a comment."""
        return self._units.get(node.id, 0)

    def is_in(self, unit: int, kind: str) -> bool:
        """Returns True if a unit is inside a node of a type."""
        return any(self.contains(self.unit(node), unit) for node in self.nodes.get(kind, ()))

    def text(self, unit: int) -> str:
        """Returns the text of a unit."""
        first, last = self.spans[unit]
        return b"\n".join(self.rows[first : last + 1]).decode("utf-8")

    def _walk(self, node: Node, unit: int, scope: NameScope) -> None:
        """Reads a node that belongs to a unit."""
        grammar, kind = self.grammar, node.type
        self._units[node.id] = unit
        if not node.child_count:
            self._leaf(node, unit, scope)
            return
        self.nodes.setdefault(kind, []).append(node)
        self._declare(node, grammar.declares.get(kind, ()), unit, scope)
        if kind in grammar.implied:
            for name in grammar.implied[kind](node):
                self._bind(name, node, node.start_byte, unit, scope)
        if kind in grammar.scopes:
            scope = NameScope(scope, kind)
        self._declare(node, grammar.parameters.get(kind, ()), unit, scope)
        self._declare_member(node, unit)
        splits = kind in grammar.blocks or (self.by_line and kind in grammar.lists)
        groups = self._groups(node) if splits else {}
        inner, end = unit, -1
        for child in node.children:
            if child.type.endswith("comment"):
                self._comment(child)
                continue
            if group := groups.get(child.id):
                end = group[-1].id
                inner = 0 if self._is_always(group) else self._add(unit, group)
            self._walk(child, inner, scope)
            if child.id == end:
                inner = unit

    def _groups(self, block: Node) -> dict[int, list[Node]]:
        """Returns the units among the children of a block, by the id of the first child."""
        groups: list[list[Node]] = []
        joins = False
        for child in block.children:
            if not child.is_named or child.type.endswith("comment"):
                continue
            if groups and (joins or child.start_point.row <= _last_row(groups[-1][-1])):
                groups[-1].append(child)
            else:
                groups.append([child])
            joins = child.type in self.grammar.prefixes
        return {
            group[0].id: group
            for group in groups
            if self._is_alone(group[0], group[-1]) or self._is_always(group)
        }

    def _is_alone(self, first: Node, last: Node) -> bool:
        """Returns True if the lines from one node to another contain no other nodes."""
        row, column = first.start_point
        if self.rows[row][:column].strip():
            return False
        end = last.end_point
        if end.column == 0:
            return True
        rest = self.rows[end.row][end.column :].decode("utf-8")
        return _SEPARATORS.fullmatch(rest) is not None

    def _is_always(self, group: Sequence[Node]) -> bool:
        always = self.grammar.always
        return any(
            node.type in always or any(child.type in always for child in node.children)
            for node in group
        )

    def _add(self, parent: int, group: Sequence[Node]) -> int:
        number = len(self.spans)
        self.spans.append((group[0].start_point.row, _last_row(group[-1])))
        self.parents.append(parent)
        self.last.append(number)
        for node in group:
            self.unit_of[node.id] = number
        return number

    def _comment(self, node: Node) -> None:
        first, last = node.start_point.row, _last_row(node)
        if self.rows[first][: node.start_point.column].strip():
            first += 1
        if node.end_point.column and self.rows[last][node.end_point.column :].strip():
            last -= 1
        self.comments.update(range(first, last + 1))

    def _leaf(self, leaf: Node, unit: int, scope: NameScope) -> None:
        grammar, kind = self.grammar, leaf.type
        first, last = leaf.start_point.row, _last_row(leaf)
        self.in_token.update(range(first + 1, last + 1))
        if leaf.id in self._declared or not leaf.is_named:
            return
        if kind in grammar.names:
            uses = self.member_uses if _is_at(leaf, grammar.member_uses) else self.uses
            if text_of(leaf) != "_" and not _is_at(leaf, grammar.ignored):
                uses.append(LeafUse(leaf, unit, scope, text_of(leaf)))
        elif kind in grammar.members:
            if not _is_at(leaf, grammar.ignored):
                self.member_uses.append(LeafUse(leaf, unit, scope, text_of(leaf)))
        elif kind in grammar.raw:
            words = dict.fromkeys(_WORD.findall(text_of(leaf)))
            self.uses += [LeafUse(leaf, unit, scope, word) for word in words]

    def _declare(self, node: Node, fields: Iterable[str], unit: int, scope: NameScope) -> None:
        """Declares the names in some fields of a node."""
        grammar = self.grammar
        tokens = grammar.declaring.get(node.type)
        if tokens is not None and not any(child.type in tokens for child in node.children):
            return
        if node.parent is not None and node.parent.type in grammar.hoisted:
            while scope.parent is not None and scope.type not in grammar.parameters:
                scope = scope.parent
        for leaf in self._declared_leaves(node, fields):
            since = node.end_byte if node.type in grammar.delayed else leaf.start_byte
            self._declared.add(leaf.id)
            self._bind(text_of(leaf), node, since, unit, scope)

    def _bind(self, name: str, node: Node, since: int, unit: int, scope: NameScope) -> None:
        binding = Binding(name, unit, node, since, scope)
        self.bindings.append(binding)
        scope.names.setdefault(name, []).append(binding)

    def _declared_leaves(self, node: Node, fields: Iterable[str]) -> Iterator[Node]:
        for name in fields:
            for number, child in enumerate(node.children):
                if (node.field_name_for_child(number) or "") != name or not child.is_named:
                    continue
                if child.type in self.grammar.patterns:
                    inside = self.grammar.patterns[child.type]
                    yield from self._declared_leaves(child, inside)
                elif not child.child_count and child.type in self.grammar.declared:
                    yield child

    def _declare_member(self, node: Node, unit: int) -> None:
        grammar = self.grammar
        if node.type not in grammar.member_names:
            return
        for leaf in self._declared_leaves(node, (grammar.member_names[node.type],)):
            self._declared.add(leaf.id)
            self.members.setdefault(text_of(leaf), []).append(unit)

    def _names(self) -> None:
        grammar = self.grammar
        for use in self.uses:
            found, ordered = self._lookup(use)
            if not found and grammar.inherits:
                self.member_uses.append(use)
            for binding in found:
                (binding.writes if self._is_written(use.leaf) else binding.reads).append(use)
            needed = [binding.unit for binding in (found[-1:] if ordered else found)]
            if grammar.any_declaration:
                self.any_of(needed, use.unit)
            else:
                for unit in needed:
                    self.edge(unit, use.unit)
        for binding in self.bindings:
            kind = binding.node.type
            is_global = binding.scope.parent is None and kind not in grammar.implied
            if kind in grammar.must_use and not is_global:
                self.any_of((use.unit for use in binding.reads), binding.unit)
            is_local = binding.scope.type in grammar.ordered
            is_empty = not binding.node.child_by_field_name("value")
            if kind in grammar.assigned_later and is_local and is_empty:
                for write in binding.writes:
                    for read in binding.reads:
                        self.edge(write.unit, read.unit)

    def _lookup(self, use: LeafUse) -> tuple[list[Binding], bool]:
        """Returns the declarations of a name, and whether the last one counts."""
        for scope in use.scope.above():
            found = scope.names.get(use.name, [])
            ordered = scope.type in self.grammar.ordered
            if ordered:
                found = [b for b in found if b.since <= use.leaf.start_byte]
            if found:
                return found, ordered
        return [], False

    def _is_written(self, leaf: Node) -> bool:
        """Returns True if a name is assigned without using its value."""
        node, around = leaf, leaf.parent
        if around is not None and around.type == "expression_list":
            node, around = around, around.parent
        if around is None or around.type not in self.grammar.assignments:
            return False
        operator = around.child_by_field_name("operator")
        left = around.child_by_field_name("left")
        return left == node and (operator is None or text_of(operator) == "=")

    def _members(self) -> None:
        named: dict[str, list[int]] = {}
        for binding in self.bindings if self.grammar.inherits else ():
            named.setdefault(binding.name, []).append(binding.unit)
        for use in self.member_uses:
            units = self.members.get(use.name) or named.get(use.name, ())
            if self.grammar.any_declaration:
                self.any_of(units, use.unit)
            else:
                for unit in units:
                    self.edge(unit, use.unit)

    def _results(self) -> None:
        grammar = self.grammar
        for kind, name in grammar.functions.items():
            for function in self.nodes.get(kind, ()):
                body = function.child_by_field_name("body")
                if body and self._has_result(function.child_by_field_name(name), body):
                    for unit in self.ends(body):
                        self.edge(unit, self.unit(function))

    def _has_result(self, result: Node | None, body: Node) -> bool:
        if result is not None:
            return text_of(result).strip(" :") not in self.grammar.no_result
        return self.grammar.infers_results and self._returns(body)

    def _returns(self, node: Node) -> bool:
        """Returns True if a value is returned, except from nested functions."""
        if node.type == "return_statement":
            return bool(node.named_children)
        functions = self.grammar.functions
        return any(self._returns(child) for child in node.children if child.type not in functions)

    def ends(self, node: Node) -> Iterator[int]:
        """Yields the last units of the blocks in a node, except in nested functions."""
        grammar = self.grammar
        children = [c for c in node.children if c.is_named and not c.type.endswith("comment")]
        if node.type in grammar.blocks and node.type not in grammar.parallel:
            children = children[-1:]
        for child in children:
            if child.type in grammar.functions:
                continue
            if child.id in self.unit_of:
                yield self.unit_of[child.id]
            yield from self.ends(child)


def _is_at(leaf: Node, places: Iterable[tuple[str, str]]) -> bool:
    """Returns True if a leaf is in one of these fields of its parent."""
    parent = leaf.parent
    return parent is not None and any(
        kind == parent.type and leaf in parent.children_by_field_name(name) for kind, name in places
    )


def _last_row(node: Node) -> int:
    row, column = node.end_point
    return row - 1 if column == 0 and row > node.start_point.row else row


def read(grammar: Grammar, lines: Sequence[str], *, by_line: bool) -> ProgramUnits:
    """Finds the units and dependencies of a program.

    Raises:
        UnsupportedProgram: ``syntax_error``, ``too_deep`` or ``comments_only``.
    """
    reader = Reader(grammar, lines, by_line=by_line)
    reader.read()
    if len(reader.spans) == 1:
        raise UnsupportedProgram("comments_only", "it has no statement.")
    owners = [0] * len(lines)
    for unit, (first, last) in enumerate(reader.spans[1:], 1):
        owners[first : last + 1] = [unit] * (last + 1 - first)
    inert = set()
    for row in range(len(lines) - 1, -1, -1):
        blank = not lines[row].strip() and row not in reader.in_token
        if blank or row in reader.comments:
            owners[row] = owners[row + 1] if row + 1 < len(lines) else 0
            if not _ORDERS.search(lines[row]):
                inert.add(row)
    drawn = [
        bool(owner) and row not in inert and not _CLOSING.fullmatch(lines[row])
        for row, owner in enumerate(owners)
    ]
    return ProgramUnits(owners, drawn, reader.graph, frozenset(inert))


class ProgramUnits(NamedTuple):
    """A program's pieces.

    Attributes:
        owners: unit of each line.
        drawn: True for each line that may be the seed of a deletion.
        graph: dependencies of the units.
        inert: lines without an effect on checkers.
    """

    owners: list[int]
    drawn: list[bool]
    graph: Graph
    inert: frozenset[int]
