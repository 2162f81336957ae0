"""Refactorings of JavaScript and TypeScript that require a consistent next edit.

These are the refactorings of :mod:`codegen.edits.refactorings` that do not need types: ``rename``,
``signature`` (a function's name), ``parameter``, ``field`` (of a constructor), ``import``,
``deletion`` and ``literal``. Names are resolved by the tables of :mod:`codegen.lintseq.languages`,
and after a renaming each name must refer to the same declaration as before. The generator checks
the programs before and after with their grammar or, optionally, V8 and the TypeScript compiler.

Limits: exported functions are not changed, since their uses may be in other files; a script without
modules may also be used in other files, which are not tracked.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tree_sitter import Node

from codegen.core.languages import parser_for
from codegen.edits.refactorings import (
    Piece,
    hunks_of,
    shuffled,
    without,
    without_import,
)
from codegen.edits.sessions import Hunk, apply, lines_of
from codegen.lintseq.edits import UnsupportedProgram
from codegen.lintseq.languages import GRAMMARS, error_line
from codegen.lintseq.languages.program_graph import Binding, Reader, text_of

_BEFORE = ("new", "raw", "base", "current", "main", "total", "local", "parsed", "given", "next")
_BEHIND = ("Value", "Name", "Item", "Data", "Info", "Count", "Index", "Text", "Path", "List")
_STATEMENTS = ("expression_statement", "lexical_declaration")


class Script:
    """A program, its lines, and the declarations of its names.

    Raises:
        UnsupportedProgram: if the language's grammar finds an error, or it is nested too deeply.
        MachineError: if the language's grammar is not installed.
    """

    def __init__(self, text: str, language: str) -> None:
        self.text, self.language = text, language
        self.lines = lines_of(text)
        self.grammar = GRAMMARS[language]
        self.reader = Reader(self.grammar, text.split("\n"), by_line=False)
        self.reader.read()
        self.words = Counter(re.findall(r"\w+", text))

    @property
    def refactorings(self) -> Mapping[str, Callable[[Any, random.Random], list[Hunk]]]:
        """The refactorings of this language."""
        return REFACTORINGS

    def accepts(self, text: str) -> bool:
        """Returns True if the grammar accepts a text."""
        return not error_line(parser_for(self.grammar.name).parse(text.encode()).root_node)

    def place(self, node: Node) -> Piece | None:
        """Returns a single-line node as a piece with its own text; None if it has several lines."""
        (row, start), (last, end) = node.start_point, node.end_point
        if row != last:
            return None
        line = self.reader.rows[row]
        first = len(line[:start].decode())
        text = line[start:end].decode()
        return Piece(row, first, first + len(text), text)

    def hunks(self, pieces: Sequence[Piece]) -> list[Hunk]:
        """Returns one hunk per line that the pieces change, from top to bottom."""
        return hunks_of(self.lines, pieces)

    def nodes(self, *kinds: str) -> Iterator[Node]:
        """Yields the nodes of the given types that have children."""
        for kind in kinds:
            yield from self.reader.nodes.get(kind, ())

    def places(self, binding: Binding) -> list[Node]:
        """Returns the identifiers that declare and use a name; empty if it is written differently
        somewhere, or declared several times.
        """
        size = len(binding.name.encode())
        root = self.reader.tree.root_node
        own = root.descendant_for_byte_range(binding.since, binding.since + size)
        if own is None or len(binding.scope.names[binding.name]) != 1:
            return []
        leaves = [own, *(use.leaf for use in (*binding.reads, *binding.writes))]
        for leaf in leaves:
            around = leaf.parent.type if leaf.parent else ""
            if leaf.type != "identifier" or text_of(leaf) != binding.name:
                return []
            if around.startswith("jsx_") or around in ("export_specifier", "namespace_export"):
                return []
        return leaves

    def references(self) -> list[tuple[int, ...]]:
        """Returns the declarations that each use of a name refers to, from top to bottom."""
        found: dict[int, list[int]] = {use.leaf.start_byte: [] for use in self.reader.uses}
        for number, binding in enumerate(self.reader.bindings):
            for use in (*binding.reads, *binding.writes):
                found[use.leaf.start_byte].append(number)
        return [tuple(found[place]) for place in sorted(found)]


def script_of(text: str, language: str) -> Script | None:
    """Parses a program; None if it has an error or names that cannot be resolved."""
    if re.search(r"\beval\s*\(|\bwith\s*\(", text):
        return None
    try:
        return Script(text, language)
    except UnsupportedProgram:
        return None


def _new_name(script: Script, name: str, rng: random.Random) -> str:
    if name.isupper():
        words = [f"{word.upper()}_{name}" for word in _BEFORE]
    else:
        stem = name.lstrip("_$")
        private = name[: len(name) - len(stem)]
        words = [f"{private}{word}{stem[:1].upper()}{stem[1:]}" for word in _BEFORE]
        words += [f"{name}{word}" for word in _BEHIND]
        if name[:1].isupper():
            words = [word[:1].upper() + word[1:] for word in words]
    free = [word for word in words if word not in script.words]
    return rng.choice(free) if free else f"{name}2"


def _renamed(script: Script, binding: Binding, new: str) -> list[Hunk]:
    """Returns the hunks that rename a declared name; empty if another name would change meaning."""
    pieces = [script.place(leaf) for leaf in script.places(binding)]
    if None in pieces or new in script.words:
        return []
    hunks = script.hunks([piece._replace(text=new) for piece in pieces if piece])
    after = script_of("".join(apply(script.lines, hunks)), script.language)
    return hunks if after and after.references() == script.references() else []


def rename(script: Script, rng: random.Random) -> list[Hunk]:
    """Renames a variable or parameter of a function."""
    local = [b for b in script.reader.bindings if not _is_global(b) and len(b.name) > 1]
    for binding in shuffled(local, rng):
        around = script.places(binding)[:1]
        is_member = around and around[0].parent and _has(around[0].parent, "accessibility_modifier")
        if around and not is_member:
            hunks = _renamed(script, binding, _new_name(script, binding.name, rng))
            if len(hunks) >= 2:
                return hunks
    return []


def _is_global(binding: Binding) -> bool:
    return binding.scope.type == "program"


def _has(node: Node, kind: str) -> bool:
    return any(child.type == kind for child in node.children)


def _functions(script: Script, rng: random.Random) -> Iterator[tuple[Binding, list[Node]]]:
    """Yields non-exported module functions that are only called, with their calls."""
    for binding in shuffled(script.reader.bindings, rng):
        node = binding.node
        if not _is_global(binding) or node.type != "function_declaration":
            continue
        if node.parent is None or node.parent.type == "export_statement":
            continue
        calls = [leaf.parent for leaf in script.places(binding)[1:]]
        if calls and all(
            call is not None
            and call.type == "call_expression"
            and text_of(call.children[0]) == binding.name
            for call in calls
        ):
            yield binding, [call for call in calls if call]


def signature(script: Script, rng: random.Random) -> list[Hunk]:
    """Renames a function of the module."""
    for binding, _ in _functions(script, rng):
        hunks = _renamed(script, binding, _new_name(script, binding.name, rng))
        first = [hunk for hunk in hunks if hunk.start == binding.node.start_point.row]
        if first and len(hunks) >= 2:
            return first + [hunk for hunk in hunks if hunk not in first]
    return []


def _parts(list_: Node | None) -> list[Node] | None:
    """Returns the names (with or without a type) or arguments in parentheses; None if the list has
    other elements.
    """
    if list_ is None or list_.type not in ("formal_parameters", "arguments"):
        return None
    parts = list_.named_children
    for part in parts:
        is_name = part.type == "identifier" or (
            part.type == "required_parameter"
            and part.child_by_field_name("value") is None
            and not _has(part, "accessibility_modifier")
            and getattr(part.child_by_field_name("pattern"), "type", "") == "identifier"
        )
        if part.type in ("comment", "spread_element") or (
            list_.type == "formal_parameters" and not is_name
        ):
            return None
    return parts or None


def parameter(script: Script, rng: random.Random) -> list[Hunk]:
    """Adds a parameter to the signature, then the argument to the calls."""
    for binding, calls in _functions(script, rng):
        lists = [_parts(binding.node.child_by_field_name("parameters"))]
        lists += [_parts(call.child_by_field_name("arguments")) for call in calls]
        whole = [parts for parts in lists if parts]
        sizes = {len(parts) for parts in whole}
        if len(whole) < len(lists) or len(sizes) > 1 or "arguments" in script.words:
            continue
        index = rng.randrange(sizes.pop())
        pieces = [without(script, parts, index) for parts in whole]
        hunks = script.hunks([piece for piece in pieces if piece])
        is_whole = None not in pieces and len(hunks) >= 2
        if is_whole and hunks[0].start == binding.node.start_point.row:
            return hunks
    return []


def add_field(script: Script, rng: random.Random) -> list[Hunk]:
    """Adds a parameter to a constructor, then the field that stores it."""
    for method in shuffled(script.nodes("method_definition"), rng):
        name, body = (method.child_by_field_name(part) for part in ("name", "body"))
        parts = _parts(method.child_by_field_name("parameters"))
        if not parts or name is None or body is None or text_of(name) != "constructor":
            continue
        statements = [s for s in body.named_children if s.type == "expression_statement"]
        for number, part in shuffled(list(enumerate(parts)), rng):
            own = text_of(part.child_by_field_name("pattern") or part)
            kept = [s for s in statements if text_of(s).rstrip(";") == f"this.{own} = {own}"]
            uses = [
                use
                for binding in script.reader.bindings
                if binding.name == own and binding.scope.type == "method_definition"
                for use in binding.reads
                if body.start_byte <= use.leaf.start_byte < body.end_byte
            ]
            piece = without(script, parts, number)
            if piece and len(kept) == len(uses) == 1 and script.reader.unit_of.get(kept[0].id):
                place = script.place(kept[0])
                if place and len(statements) > 1:
                    return [*script.hunks([piece]), Hunk(place.line, place.line + 1, ())]
    return []


def literal(script: Script, rng: random.Random) -> list[Hunk]:
    """Changes a number or string that occurs on several lines of one function only."""
    kinds = ("function_declaration", "method_definition", "arrow_function", "function_expression")
    for function in shuffled(script.nodes(*kinds), rng):
        places: dict[str, list[Piece]] = defaultdict(list)
        for node in _inside(function):
            around = node.parent.type if node.parent else ""
            place = script.place(node)
            is_number = node.type == "number" and re.fullmatch(r"[1-9]\d{0,8}", text_of(node))
            is_text = node.type == "string" and re.fullmatch(
                r"(['\"])[A-Za-z_][\w .-]{2,20}\1", text_of(node)
            )
            if not place or around in ("pair", "expression_statement", "literal_type"):
                continue
            if (is_number and int(place.text) > 2) or is_text:
                places[place.text].append(place)
        for text, pieces in shuffled(sorted(places.items()), rng):
            if text[0] in "'\"":
                new = text[0] + rng.choice(["new_", "my_"]) + text[1:]
                count = script.text.count(text)
            else:
                value = int(text)
                new = str(rng.choice([value * 2, value + 1, value + 10, value * 10]))
                count = len(pieces)
            if count == len(pieces) and new not in script.text:
                hunks = script.hunks([piece._replace(text=new) for piece in pieces])
                if len(hunks) >= 2:
                    return hunks
    return []


def _inside(node: Node) -> Iterator[Node]:
    """Yields all descendants of a node."""
    left = [node]
    while left:
        yield (one := left.pop())
        left += one.children


def deletion(script: Script, rng: random.Random) -> list[Hunk]:
    """Deletes the only line that uses an import, then the import."""
    return without_import(_imports(script), rng)


def _imports(script: Script) -> Iterator[tuple[int, int]]:
    """Yields the lines of an import of one name and of its only use, a separate statement."""
    reader = script.reader
    for binding in reader.bindings:
        if not _is_global(binding) or script.words[binding.name] != 2:
            continue
        statement: Node | None = binding.node
        while statement is not None and statement.parent is not None:
            if statement.parent.type == "program":
                break
            statement = statement.parent
        if statement is None or not _imports_one(statement) or not reader.unit_of.get(statement.id):
            continue
        uses = [*binding.reads, *binding.writes]
        if len(uses) != 1 or not script.place(statement):
            continue
        node: Node | None = uses[0].leaf
        while node is not None and node.type not in _STATEMENTS:
            node = node.parent
        if node is None or not script.place(node) or not reader.unit_of.get(node.id):
            continue
        # The statement's value must be unused, and its block must keep another statement.
        own = [b for b in reader.bindings if node.start_byte <= b.since < node.end_byte]
        is_needed = any(b.reads or b.writes for b in own)
        around = node.parent
        if is_needed or around is None or len(around.named_children) < 2:
            continue
        if node.start_point.row == statement.start_point.row + 1:  # adjacent lines
            continue
        yield statement.start_point.row, node.start_point.row


def _imports_one(statement: Node) -> bool:
    if statement.type == "import_statement":
        found = [n.type for n in _inside(statement)]
        names = ("import_specifier", "namespace_import")
        default = [c for n in _inside(statement) if n.type == "import_clause" for c in n.children]
        return sum(map(found.count, names)) + sum(c.type == "identifier" for c in default) == 1
    text = text_of(statement)
    return bool(re.fullmatch(r"(?:const|let|var) [\w$]+ = require\([^()\n]+\);?", text))


REFACTORINGS: Mapping[str, Callable[[Script, random.Random], list[Hunk]]] = {
    "rename": rename,
    "signature": signature,
    "parameter": parameter,
    "field": add_field,
    "import": deletion,
    "deletion": deletion,
    "literal": literal,
}
