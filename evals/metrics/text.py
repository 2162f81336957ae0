"""Tokens, statements, shapes and normal forms of programs, valid or not.

Tokens and statements are tree-sitter's, which parses any text, even a generation that was cut off.
Nothing here runs a program.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import tree_sitter_python
from tree_sitter import Language, Node, Parser

from codegen.python_syntax import UNPARSABLE, parse

_WHOLE = frozenset({"string", "concatenated_string", "integer", "float"})
_BODIES = frozenset({"block", "module"})


@lru_cache(maxsize=1)
def _parser() -> Parser:
    return Parser(Language(tree_sitter_python.language()))


def lex(program: str) -> list[str]:
    """The tokens of a program without comments, newlines and indentation; a string is one token."""
    return [text for text, _ in _tokens(program)]


def _tokens(program: str) -> Iterator[tuple[str, Node]]:
    source = program.encode("utf-8", "replace")
    for node in _walk(_parser().parse(source).root_node, lambda n: n.type in _WHOLE):
        if node.type != "comment" and (not node.child_count or node.type in _WHOLE):
            text = source[node.start_byte : node.end_byte].decode("utf-8", "replace")
            if text.strip():
                yield text, node


def kinds(program: str) -> list[str]:
    """The tokens by their kind: all names, numbers and strings are alike."""
    return [_ALIKE.get(node.type, text) for text, node in _tokens(program)]


def statements(program: str) -> list[str]:
    """The statements of a program in order, each with its white space reduced to single spaces.

    A compound statement is represented by its header (``for x in y :``), so that its body is not
    counted twice; ``else`` and its like are statements of their own, and so is a decorator. Where
    the program is broken, each line of the broken part is one.
    """
    return [" ".join(text.split()) for text in _statements(program)]


def shapes(program: str) -> list[str]:
    """The statements by their shape: all names, numbers and strings are alike."""
    return [" ".join(_shape(text)) for text in _statements(program)]


_ALIKE = {"identifier": "N", "integer": "0", "float": "0", "string": "S"}
_ALIKE["concatenated_string"] = "S"


@lru_cache(maxsize=4096)
def _shape(statement: str) -> tuple[str, ...]:
    return tuple(_ALIKE.get(node.type, text) for text, node in _tokens(statement))


def _statements(program: str) -> Iterator[str]:
    source = program.encode("utf-8", "replace")
    root = _parser().parse(source).root_node
    for node in _walk(root, lambda n: n.type == "ERROR"):
        if node.type == "ERROR":
            broken = source[node.start_byte : node.end_byte].decode("utf-8", "replace")
            yield from (line for line in broken.splitlines() if line.strip())
        elif _is_statement(node):
            text = source[node.start_byte : _end(node)].decode("utf-8", "replace").rstrip()
            if text:
                yield text


def _end(statement: Node) -> int:
    """Where a statement ends, or its header, if it has a body."""
    children = statement.children
    body = next((i for i, child in enumerate(children) if child.type == "block"), None)
    colons = [child.end_byte for child in children[:body] if child.type == ":"]
    return colons[-1] if body is not None and colons else statement.end_byte


def _is_statement(node: Node) -> bool:
    if not node.is_named or node.type in ("comment", "decorated_definition"):
        return False
    parent = node.parent
    if node.type == "decorator" or node.type.endswith("_clause"):
        return node.type == "decorator" or any(c.type == "block" for c in node.children)
    return parent is not None and (parent.type in _BODIES or parent.type == "decorated_definition")


def _walk(root: Node, whole: Callable[[Node], bool]) -> Iterator[Node]:
    """All nodes in order, without a stack of calls; ``whole(node)`` leaves out what is inside."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if not whole(node):
            waiting.extend(reversed(node.children))


def normal_form(program: str) -> str:
    """The program without comments, docstrings and layout, with its local names numbered in order.

    Programs with the same normal form do the same, unless they read their own text or names
    (``__doc__``, ``locals()``, arguments passed by name). A program that can't be parsed is its own
    normal form, stripped.
    """
    try:
        tree = _Normal().visit(parse(program))
        return ast.unparse(ast.fix_missing_locations(tree))
    except (*UNPARSABLE, OverflowError):
        return program.strip()


class _Normal(ast.NodeTransformer):
    """Drops docstrings and numbers the names that functions bind."""

    def __init__(self) -> None:
        self._scopes: list[dict[str, str]] = []
        self._count = 0

    def _name(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return name

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._name(node.name)
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.name = self._name(node.name)
        node.body = _without_docstring(node.body)
        return self._inside(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._inside(node)

    def _inside(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
        scope: dict[str, str] = {}
        for name in _bound(node):
            scope[name] = f"v{self._count}"
            self._count += 1
        self._scopes.append(scope)
        try:
            return self.generic_visit(node)
        finally:
            self._scopes.pop()

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._name(node.arg)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._name(node.id)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = self._name(node.name) if node.name else None
        return self.generic_visit(node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        rest = body[1:] if isinstance(first.value.value, str) else body
        return rest or [ast.Pass()]
    return body


def _bound(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> dict[str, None]:
    """The names that a function itself binds, in order, without those of inner functions."""
    found: dict[str, None] = {}
    outside: set[str] = set()
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg]
    for argument in [*every, *arguments.kwonlyargs, arguments.kwarg]:
        if argument is not None:
            found[argument.arg] = None
    body = [function.body] if isinstance(function, ast.Lambda) else function.body
    waiting: list[ast.AST] = list(reversed(body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            outside |= set(node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id] = None
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found[node.name] = None
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = None
        elif not isinstance(node, (ast.Lambda, ast.ClassDef)):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))
    return {name: None for name in found if name not in outside}


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and exchanges of items.

    Bit-parallel (Myers 1999, in Hyyro's form): the column of the table is two integers.
    """
    if not one or not other:
        return len(one) + len(other)
    places: dict[object, int] = {}
    for i, item in enumerate(one):
        places[item] = places.get(item, 0) | 1 << i
    full, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, distance = full, 0, len(one)
    for item in other:
        same = places.get(item, 0)
        across = ((same & up) + up ^ up) | same | down
        right, left = down | ~(across | up) & full, up & across
        distance += bool(right & last) - bool(left & last)
        right = (right << 1 | 1) & full
        up = (left << 1 | ~(across | right)) & full
        down = right & across
    return distance
