"""Definitions and imports of a source file, parsed by tree-sitter, also in incomplete code.

A definition's description contains the parts that other files need: a function's signature with the
first line of its docstring, a class with its fields and the signatures of its methods, a variable
with its value if short. JavaScript and TypeScript require their grammars
(``tree-sitter-javascript``, ``tree-sitter-typescript``); without them they have no definitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

from tree_sitter import Node, Parser

from codegen.core.languages import find_language, parser_for

_LANGUAGES = ("python", "javascript", "typescript", "typescriptreact")
_FUNCTIONS = frozenset({
    "function_definition", "function_declaration", "generator_function_declaration",
    "function_signature", "method_definition", "method_signature", "abstract_method_signature",
})  # fmt: skip
_CLASSES = frozenset({
    "class_definition", "class_declaration", "abstract_class_declaration", "interface_declaration",
})  # fmt: skip
_VALUES = frozenset({
    "expression_statement", "lexical_declaration", "variable_declaration", "enum_declaration",
    "type_alias_declaration", "type_alias_statement", "public_field_definition",
    "field_definition", "property_signature",
})  # fmt: skip
_WRAPPERS = frozenset({"decorated_definition", "export_statement", "ambient_declaration"})
_IMPORTS = frozenset({"import_statement", "import_from_statement"})
# Statements that may contain imports.
_BLOCKS = frozenset({
    "module", "program", "block", "if_statement", "else_clause", "try_statement", "except_clause",
    "function_definition", "class_definition", "decorated_definition",
})  # fmt: skip
_SHORT_LINES = 8  # a definition of at most this many lines is its own description
_MOST_CHARS = 800  # maximum characters of a description
_VALUE_CHARS = 200
_MOST_DEPTH = 12
_NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Definition:
    """Name that a file defines.

    Attributes:
        owner: class of a member; empty at the top level.
        line: first line, from 0.
        text: description.
    """

    name: str
    owner: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Import:
    """Name that a file imports from another.

    Attributes:
        name: name in this file.
        original: name in the other file; empty for a module.
        module: module as written: ``a.b``, ``..c``, ``./d``.
    """

    name: str
    original: str
    module: str


@lru_cache
def parser(language: str) -> Parser | None:
    """Returns a parser for an LSP language id; None if its grammar is not installed."""
    found = find_language(language)
    if found is None or found.name not in _LANGUAGES or find_spec(found.grammar[0]) is None:
        return None
    return parser_for(found.name)


def read(text: str, language: str) -> tuple[list[Definition], list[Import]]:
    """Returns the definitions and the imports of a file, in order; none without a grammar.

    Definitions are at the top level or members of top-level classes; of several with the same
    name, only the first is returned.
    """
    found = parser(language)
    if found is None:
        return [], []
    source = text.encode("utf-8", "replace")
    root = found.parse(source).root_node
    first: dict[tuple[str, str], Definition] = {}
    for one in _definitions(root, source, ""):
        first.setdefault((one.owner, one.name), one)
    return list(first.values()), [one for one in _imports(root, source, 0) if one.name]


def _text(node: Node, source: bytes) -> str:
    return source[node.start_byte : node.end_byte].decode("utf-8", "replace")


def _definitions(parent: Node, source: bytes, owner: str) -> Iterator[Definition]:
    for outer in parent.named_children:
        node = _unwrapped(outer)
        name = _name(node, source)
        if not name:
            continue
        line = node.start_point[0]
        if node.type in _CLASSES:
            yield Definition(name, owner, line, _class(outer, node, source))
            body = node.child_by_field_name("body")
            if body is not None and not owner:
                yield from _definitions(body, source, name)
        else:
            described = _member(outer, node, source)
            text = f"class {owner}:\n{described}" if owner else described
            yield Definition(name, owner, line, text[:_MOST_CHARS])


def _unwrapped(node: Node) -> Node:
    """Returns the decorated, exported or declared node."""
    for _ in range(_MOST_DEPTH):
        if node.type not in _WRAPPERS:
            break
        inner = node.child_by_field_name("definition") or node.child_by_field_name("declaration")
        if inner is None:
            break
        node = inner
    return node


def _name(node: Node, source: bytes) -> str:
    """Returns the name that a statement defines; empty if it defines none or several."""
    if node.type in _FUNCTIONS or node.type in _CLASSES:
        named = node.child_by_field_name("name")
    elif node.type in _VALUES:
        named = node.child_by_field_name("name")
        inner = node.named_children[0] if node.named_child_count else None
        if named is None and inner is not None:
            named = inner.child_by_field_name("left") or inner.child_by_field_name("name")
    else:
        return ""
    text = _text(named, source) if named is not None else ""
    return text if _NAME.fullmatch(text) else ""


def _class(outer: Node, node: Node, source: bytes) -> str:
    """Describes a class by its fields and the signatures of its methods."""
    if _lines(outer) <= _SHORT_LINES:
        return _block(outer, source)[:_MOST_CHARS]
    body = node.child_by_field_name("body")
    if body is None:
        return _first_line(node, source)
    lines = [source[node.start_byte : body.start_byte].decode("utf-8", "replace").rstrip()]
    if doc := _doc(body, source):
        lines.append(doc)
    size = sum(map(len, lines))
    for child in body.named_children:
        member = _unwrapped(child)
        if not _name(member, source):
            continue
        text = _signature(member, source, doc=False)
        size += len(text) + 1
        if size > _MOST_CHARS:
            break
        lines.append(text)
    return "\n".join(lines)


def _member(outer: Node, node: Node, source: bytes) -> str:
    if _lines(outer) <= _SHORT_LINES and len(_text(outer, source)) <= _MOST_CHARS:
        return _block(outer, source)
    return _signature(node, source)


def _signature(node: Node, source: bytes, doc: bool = True) -> str:
    """Returns a function without its body, or another node, whole if short, else its first line."""
    body = node.child_by_field_name("body") if node.type in _FUNCTIONS else None
    if body is None:
        text = _block(node, source)
        return text if len(text) <= _VALUE_CHARS else _first_line(node, source)[:_VALUE_CHARS]
    indent = _indent(node, source)
    head = source[node.start_byte : body.start_byte].decode("utf-8", "replace").rstrip()
    first = _doc(body, source) if doc else ""
    return f"{indent}{head}\n{first}" if first else f"{indent}{head} ..."


def _doc(body: Node, source: bytes) -> str:
    """Returns a docstring cut to its first line."""
    first = body.named_children[0] if body.named_child_count else None
    if first is not None and first.type == "expression_statement" and first.named_child_count:
        first = first.named_children[0]
    if first is None or first.type != "string":
        return ""
    line = _text(first, source).lstrip("rRuUbB").strip("\"'").strip().partition("\n")[0].strip()
    return f'{_indent(first, source)}"""{line}"""' if line else ""


def _block(node: Node, source: bytes) -> str:
    """Returns a node's text with the indentation of its first line."""
    return _indent(node, source) + _text(node, source)


def _first_line(node: Node, source: bytes) -> str:
    return _block(node, source).partition("\n")[0]


def _indent(node: Node, source: bytes) -> str:
    start = source.rfind(b"\n", 0, node.start_byte) + 1
    before = source[start : node.start_byte].decode("utf-8", "replace")
    return before if not before.strip() else ""


def _lines(node: Node) -> int:
    return node.end_point[0] - node.start_point[0] + 1


def _imports(node: Node, source: bytes, depth: int) -> Iterator[Import]:
    for child in node.named_children:
        if child.type in _IMPORTS:
            yield from _imported(child, source)
        elif child.type in _BLOCKS and depth < _MOST_DEPTH:
            yield from _imports(child, source, depth + 1)


def _imported(node: Node, source: bytes) -> Iterator[Import]:
    where = node.child_by_field_name("source")  # JavaScript and TypeScript
    if where is not None:
        module = _text(where, source).strip("'\"")
        yield from _clauses(node, source, module, 0)
        return
    from_ = node.child_by_field_name("module_name")
    module = _text(from_, source) if from_ is not None else ""
    for name in node.children_by_field_name("name"):
        alias = name.child_by_field_name("alias")
        inner = name.child_by_field_name("name")
        original = _text(inner if inner is not None else name, source)
        local = _text(alias, source) if alias is not None else original
        if module:
            yield Import(local, original, module)
        else:
            yield Import(local.partition(".")[0], "", original)


def _clauses(node: Node, source: bytes, module: str, depth: int) -> Iterator[Import]:
    for child in node.named_children:
        if child.type == "import_specifier":
            name, alias = child.child_by_field_name("name"), child.child_by_field_name("alias")
            if name is not None:
                local = alias if alias is not None else name
                yield Import(_text(local, source), _text(name, source), module)
        elif child.type == "identifier":  # the default export, or the whole module
            yield Import(_text(child, source), "", module)
        elif depth < _MOST_DEPTH:
            yield from _clauses(child, source, module, depth + 1)
