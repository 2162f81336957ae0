"""Cuts a program into the smallest pieces that an edit inserts or deletes as a whole.

A *unit* is a statement with its decorators and all its physical lines; statements that share a line
are one unit. A compound statement also owns *clauses*: its body, each handler, ``elif``, ``else``,
``finally``, each ``case``; a clause owns its header's lines and the units of its block. A clause
written on its header's line is atomic. Every physical line belongs to exactly one node: a blank or
comment line to the next line of code, or to the one before it if it is indented deeper than the
next, or if there is no next.

With granularity ``line``, the pieces of :mod:`codegen.lintseq.line_pieces` are nodes too, below the
unit or clause that they are part of, and own their lines. A comment is then deleted as in the
paper's code: with the nearest line above that is indented less, a header; without one it belongs to
the module and is deleted last.

Nodes are numbered in text order, parents before children, so a node's descendants are the numbers
up to its ``last``. Node 0 is the module.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from codegen.lintseq.line_pieces import Callees, Span, find_pieces, parents_of, placed_parts

_BLANKS = " \t\f"
_COMPOUND = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)

Owner = ast.stmt | ast.ExceptHandler | ast.match_case
_Clause = tuple[str, "Owner | None", list[ast.stmt]]


@dataclass(slots=True)
class Node:
    """A unit, a clause or a piece of one.

    Attributes:
        kind: ``module``, ``unit``, ``line``, or a clause kind: ``body``, ``elif``, ``else``,
            ``handler``, ``finally``, ``case``.
        parent: number of the clause that contains a unit, of the unit that owns a clause, or of
            the node that contains a piece.
        first, stop: range of its own lines of code, 0-based and half-open; empty for a body.
        statements: statements of a unit or an atomic clause.
        children: numbers of its pieces, then of a clause's units or a unit's clauses.
        last: the number of its last descendant, or its own.
    """

    kind: str
    parent: int
    first: int
    stop: int
    statements: list[ast.stmt] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    last: int = 0


@dataclass(frozen=True, slots=True)
class Units:
    """A program cut into nodes.

    Attributes:
        nodes: all nodes, the module first.
        owners: the node of each line.
        node_of: the node of each statement, handler, ``elif`` and ``case``, and the piece of each
            subexpression in a piece. A missing statement is on the header line of the enclosing
            node, and belongs to that node.
        minimums: pieces that must not all be deleted, with the node that is deleted if they are.
        signatures: definition -> its pieces that are parameters and decorators.
        inert: lines that do not affect any checker: blank lines and comments outside of
            statements, and the inner lines of docstrings.
        idle: units that are only a string, each with the other units of its block. The string
            does not affect any checker while one of these units exists.
    """

    nodes: list[Node]
    owners: list[int]
    node_of: dict[ast.AST, int]
    minimums: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    signatures: dict[int, list[int]] = field(default_factory=dict)
    inert: frozenset[int] = frozenset()
    idle: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def contains(self, node: int, other: int) -> bool:
        """Returns True if ``other`` is ``node`` or one of its descendants."""
        return node <= other <= self.nodes[node].last

    def whole(self, node: int) -> int:
        """Returns the unit or clause of a piece; for other nodes, the node itself."""
        return _whole(self.nodes, node)


def _whole(nodes: Sequence[Node], node: int) -> int:
    while nodes[node].kind == "line":
        node = nodes[node].parent
    return node


def cut(tree: ast.Module, lines: Sequence[str], *, by_line: bool = False) -> Units:
    """Cuts a parsed, non-empty module into units, and assigns each line to one.

    ``by_line`` also cuts units into pieces.
    """
    cutter = _Cutter(lines, Callees(tree) if by_line else None)
    cutter.block(tree.body, 0)
    cutter.nodes[0].last = len(cutter.nodes) - 1
    return Units(
        cutter.nodes,
        _owners(cutter.nodes, lines, by_line=by_line),
        cutter.node_of,
        cutter.minimums,
        cutter.signatures,
        _inert(cutter.nodes, lines),
        _idle(cutter.nodes, lines),
    )


class _Cutter:
    def __init__(self, lines: Sequence[str], callees: Callees | None) -> None:
        self.lines = lines
        self.callees = callees
        self.nodes = [Node("module", -1, 0, 0)]
        self.node_of: dict[ast.AST, int] = {}
        self.minimums: list[tuple[tuple[int, ...], int]] = []
        self.signatures: dict[int, list[int]] = {}

    def add(self, kind: str, parent: int, first: int, stop: int) -> int:
        number = len(self.nodes)
        self.nodes.append(Node(kind, parent, first, stop, last=number))
        self.nodes[parent].children.append(number)
        return number

    def block(self, statements: list[ast.stmt], clause: int) -> None:
        """Adds the units of a clause's block."""
        i = 0
        while i < len(statements):
            statement = statements[i]
            unit = self.add("unit", clause, self.first_line(statement), self.stop_line(statement))
            group = self.nodes[unit].statements
            while True:
                self.node_of[statement] = unit
                group.append(statement)
                i += 1
                if isinstance(statement, _COMPOUND) or i == len(statements):
                    break
                statement = statements[i]
                if not self.continues(statement, self.nodes[unit].stop):
                    break
                self.nodes[unit].stop = self.stop_line(statement)
            if isinstance(group[0], _COMPOUND):
                self.compound(group[0], unit)
            else:
                self.pieces(unit, group)
            self.nodes[unit].last = len(self.nodes) - 1

    def continues(self, statement: ast.stmt, stop: int) -> bool:
        """Returns True if a statement starts on the unit's last line, or on a line joined to it."""
        if isinstance(statement, _COMPOUND):
            return False
        first = statement.lineno - 1
        return first < stop or (first == stop and self.lines[stop - 1].endswith("\\"))

    def compound(self, statement: ast.stmt, unit: int) -> None:
        """Adds the clauses of a compound statement."""
        end = head = self.nodes[unit].first
        if isinstance(statement, ast.Match):
            end = self.nodes[unit].stop = self.header_stop(head, self.case_line(statement.cases[0]))
            self.pieces(unit, [statement])
        for kind, owner, body in _clauses(statement, self.lines):
            if kind == "body":
                header = unit
            else:
                # Only comments and blank lines can be between two clauses.
                head = next(line for line in range(end, len(self.lines)) if self.is_code(line))
                header = self.add(kind, unit, head, head)
            if owner is not None:
                self.node_of[owner] = header
            end = self.stop_line(body[-1])
            if self.is_inline(body[0]):
                self.nodes[header].stop = end
                if header != unit:
                    self.nodes[header].statements = body
                continue
            self.nodes[header].stop = self.header_stop(head, self.first_line(body[0]))
            if owner is not None or kind == "body":
                self.pieces(header, [owner or statement])
            clause = self.add(kind, unit, head, head) if kind == "body" else header
            self.block(body, clause)
            self.nodes[clause].last = len(self.nodes) - 1

    def pieces(self, node: int, owners: Sequence[ast.AST]) -> None:
        """Adds the pieces of a unit's or clause's own lines."""
        if self.callees is None:
            return
        span = self.nodes[node].first, self.nodes[node].stop
        found = find_pieces(self.lines, span, owners, self.callees)
        if not found.spans:
            return
        numbers: dict[Span, int] = {}
        by_line: dict[int, int] = {}
        added: list[int] = []
        for place, parent in zip(found.spans, parents_of(found.spans), strict=True):
            number = self.add("line", node if parent < 0 else added[parent], *place)
            added.append(number)
            numbers[place] = number
            by_line.update(dict.fromkeys(range(*place), number))
        for number in reversed(added):
            children = self.nodes[number].children
            if children:
                self.nodes[number].last = self.nodes[children[-1]].last
        for members, target in found.minimums:
            pieces = tuple(numbers[place] for place in members)
            around = self.nodes[pieces[0]].parent if target is None else numbers[target]
            self.minimums.append((pieces, around))
        if found.signature:
            self.signatures[node] = [numbers[place] for place in found.signature]
        for owner in owners:
            for part, piece in placed_parts(owner, by_line):
                self.node_of[part] = piece

    def first_line(self, statement: ast.stmt) -> int:
        decorators = getattr(statement, "decorator_list", None)
        if not decorators:
            return statement.lineno - 1
        line: int = decorators[0].lineno - 1
        while line > 0 and not self.lines[line].lstrip(_BLANKS).startswith("@"):
            line -= 1  # "@(" may be on a separate line
        return line

    def stop_line(self, statement: ast.stmt) -> int:
        stop = statement.end_lineno or statement.lineno
        # A backslash may join the last line with blank ones.
        lines = self.lines
        while stop < len(lines) and lines[stop - 1].endswith("\\") and not lines[stop].strip():
            stop += 1
        return stop

    def header_stop(self, first: int, child_first: int) -> int:
        """Returns the line after a header; comments before its block belong to the block."""
        header = self.lines[first:child_first]
        if any("'''" in line or '"""' in line or line.endswith("\\") for line in header):
            return child_first  # what looks like a comment or blank line may be part of a string
        stop = child_first
        while not self.is_code(stop - 1):
            stop -= 1
        return stop

    def case_line(self, case: ast.match_case) -> int:
        """Returns the line of a case's keyword; its pattern may start later, in parentheses."""
        line = case.pattern.lineno - 1
        while not self.lines[line].lstrip(_BLANKS).startswith("case"):
            line -= 1
        return line

    def is_inline(self, statement: ast.stmt) -> bool:
        if getattr(statement, "decorator_list", None):
            return False
        line = self.lines[statement.lineno - 1]
        return statement.col_offset > len(line) - len(line.lstrip(_BLANKS))

    def is_code(self, line: int) -> bool:
        text = self.lines[line].lstrip()
        return bool(text) and text[0] != "#"


def _clauses(statement: ast.stmt, lines: Sequence[str]) -> list[_Clause]:
    """Returns the kind, owner and block of each clause. Bodies come first; a match has none."""
    if isinstance(statement, ast.Match):
        return [("case", case, case.body) for case in statement.cases]
    clauses: list[_Clause] = [("body", None, statement.body)]  # type: ignore[attr-defined]
    if isinstance(statement, (ast.Try, ast.TryStar)):
        clauses += [("handler", handler, handler.body) for handler in statement.handlers]
    orelse = getattr(statement, "orelse", [])
    if isinstance(statement, ast.If):
        while is_elif(orelse, lines):
            clauses.append(("elif", orelse[0], orelse[0].body))
            orelse = orelse[0].orelse
    if orelse:
        clauses.append(("else", None, orelse))
    if final := getattr(statement, "finalbody", None):
        clauses.append(("finally", None, final))
    return clauses


def is_elif(orelse: list[ast.stmt], lines: Sequence[str]) -> bool:
    """Returns True if the ``orelse`` of an ``if`` is written as an ``elif``."""
    if len(orelse) != 1 or not isinstance(orelse[0], ast.If):
        return False
    return lines[orelse[0].lineno - 1].lstrip(_BLANKS).startswith("elif")


def _owners(nodes: Sequence[Node], lines: Sequence[str], *, by_line: bool) -> list[int]:
    """Returns the node of each line; see the module's docstring for blank and comment lines."""
    owners = [-1] * len(lines)
    for number, node in enumerate(nodes):
        owners[node.first : node.stop] = [number] * (node.stop - node.first)
    above = -1
    line = 0
    while line < len(lines):
        if owners[line] >= 0:
            above = _whole(nodes, owners[line])
            line += 1
            continue
        stop = line
        while stop < len(lines) and owners[stop] < 0:
            stop += 1
        # End of the lines that belong to the code above.
        split = line if stop < len(lines) else stop
        if above >= 0 and stop < len(lines):
            indent = _indent(lines[stop])
            for comment in range(line, stop):
                if lines[comment].strip() and _indent(lines[comment]) > indent:
                    split = comment + 1
        for gap in range(line, stop):
            owners[gap] = above if gap < split else _whole(nodes, owners[stop])
        if by_line:
            _comments(owners, lines, range(line, stop), nodes)
        line = stop
    return owners


def _inert(nodes: Sequence[Node], lines: Sequence[str]) -> frozenset[int]:
    """Returns the inert lines (:class:`Units`), except comments that affect a checker or Python."""
    inert = set(range(len(lines)))
    for node in nodes:
        above = nodes[node.parent].statements if node.kind == "line" else []
        is_text = above and all(map(_is_text, above))
        (inert.update if is_text else inert.difference_update)(range(node.first, node.stop))
    return frozenset(n for n in inert if not _ORDER.search(lines[n]))


def _idle(nodes: Sequence[Node], lines: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Returns the idle units (:class:`Units`); empty if the program reads its docstrings."""
    if any("__doc__" in line for line in lines):
        return {}
    found: dict[int, tuple[int, ...]] = {}
    for number, node in enumerate(nodes):
        if node.kind == "unit" and all(map(_is_text, node.statements)):
            block = nodes[node.parent].children
            others = (n for n in block if nodes[n].kind == "unit")
            found[number] = tuple(n for n in others if not all(map(_is_text, nodes[n].statements)))
    return found


_ORDER = re.compile("pylint|coding[:=]")


def _is_text(statement: ast.stmt) -> bool:
    """Returns True if a statement is only a string, such as a docstring."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _comments(owners: list[int], lines: Sequence[str], gap: range, nodes: Sequence[Node]) -> None:
    """Assigns a gap's comments to the headers above them, and blank lines to the next node."""
    for line in reversed(gap):
        if lines[line].strip():
            header = line - 1
            while header >= 0 and (
                not lines[header].strip() or _indent(lines[header]) >= _indent(lines[line])
            ):
                header -= 1
            owners[line] = _whole(nodes, owners[header]) if header >= 0 else 0
        elif line + 1 < len(lines) and owners[line + 1] >= 0:
            owners[line] = _whole(nodes, owners[line + 1])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
