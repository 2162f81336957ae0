"""What the brackets of a statement hold, as far as their elements can be deleted one by one."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from codegen.lintseq.arguments import Callees
from codegen.lintseq.tokens import Group, Stretch

_Position = tuple[int, int]

_SPECIAL_LISTS = frozenset({"__slots__", "__match_args__", "_fields_", "_fields"})
_FILLED_BY_PYTHON = frozenset({"self", "cls", "mcs", "mcls", "metacls", "klass"})
_CONSTRUCTORS = frozenset({"__init__", "__new__", "__call__"})


class Elements(NamedTuple):
    """What a bracketed list holds: how many elements, which of them stay, and the least number."""

    number: int
    kept: frozenset[int] = frozenset()
    kind: str = ""  # tuple, nonempty, parameters
    begins: _Position | None = None  # where the opening bracket stands, if that is sure


class Brackets:
    """The bracketed lists of some statements or headers that stand in a stretch of code."""

    def __init__(
        self,
        lines: Sequence[str],
        stretch: Stretch,
        owners: Sequence[ast.AST],
        callees: Callees,
    ) -> None:
        self.lines = lines
        self.stretch = stretch
        self.tokens = stretch.tokens
        self.callees = callees
        self.exact: set[ast.AST] = set()  # lists whose every element counts
        self.elements: dict[_Position, Elements] = {}  # by the place of the closing bracket
        for owner in owners:
            self._describe(owner)

    def of(self, group: Group) -> Elements | None:
        """The elements of a group, None if it is no list of known elements."""
        opening, closing = self.tokens[group.start], self.tokens[group.end]
        elements = self.elements.get((closing.line, closing.column))
        if elements and elements.begins not in (None, (opening.line, opening.column)):
            return None  # "(a), (b)"
        return elements

    def _describe(self, owner: ast.AST) -> None:
        """Notes the elements of all bracketed lists of a statement or header."""
        if isinstance(owner, ast.ImportFrom):
            self._after("import", Elements(len(owner.names), kind="nonempty"))
        elif isinstance(owner, (ast.With, ast.AsyncWith)):
            self._after("with", Elements(len(owner.items), kind="nonempty"))
        elif isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._parameters(owner)
        elif isinstance(owner, (ast.Assign, ast.AnnAssign)):
            targets = owner.targets if isinstance(owner, ast.Assign) else [owner.target]
            names = {getattr(target, "id", "") for target in targets}
            if owner.value is not None and names & _SPECIAL_LISTS:
                self.exact.add(owner.value)
        for node in parts_of(owner):
            if isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, (ast.List, ast.Set, ast.Dict, ast.Tuple)):
                self._display(node)
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
                self.exact.add(node.right)  # values of a format string

    def _call(self, node: ast.Call) -> None:
        arguments = sorted(
            (*node.args, *node.keywords), key=lambda part: (part.lineno, part.col_offset)
        )
        needed = self.callees.needed(node)
        if needed and len(needed) == len(arguments):
            for part in arguments:
                self.exact.add(part.value if isinstance(part, ast.keyword) else part)
        kept = frozenset(i for i, part in enumerate(arguments) if part in needed)
        self._at_end(node, Elements(len(arguments), kept))

    def _display(self, node: ast.List | ast.Set | ast.Dict | ast.Tuple) -> None:
        elements = node.keys if isinstance(node, ast.Dict) else node.elts
        kept = range(len(elements)) if node in self.exact else ()
        kind = "tuple" if isinstance(node, ast.Tuple) else ""
        if isinstance(node, ast.Set):
            kind = "nonempty"  # {} is no set
        self._at_end(node, Elements(len(elements), frozenset(kept), kind), begins=True)

    def _parameters(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        arguments = node.args
        special = node.name.startswith("__") and node.name.endswith("__")
        every = [
            *arguments.posonlyargs, "/", *arguments.args, arguments.vararg or "*",
            *arguments.kwonlyargs, arguments.kwarg,
        ]  # fmt: skip
        if not arguments.posonlyargs:
            every.remove("/")
        if not arguments.kwonlyargs and arguments.vararg is None:
            every.remove("*")
        if arguments.kwarg is None:
            every.pop()
        kept = set()
        for number, part in enumerate(every):
            if (
                isinstance(part, str)
                or (special and node.name not in _CONSTRUCTORS)
                or (number == 0 and part is not None and part.arg in _FILLED_BY_PYTHON)
                or (part is arguments.vararg and arguments.kwonlyargs)
            ):
                kept.add(number)
        self._after("def", Elements(len(every), frozenset(kept), "parameters"))

    def _at_end(self, node: ast.expr, elements: Elements, begins: bool = False) -> None:
        """Notes the elements of the bracket that a node ends with (and begins with)."""
        if node.lineno == node.end_lineno:
            return
        line = (node.end_lineno or node.lineno) - 1
        column = _characters(self.lines[line], node.end_col_offset or 0) - 1
        if begins:
            start = node.lineno - 1
            place = start, _characters(self.lines[start], node.col_offset)
            elements = elements._replace(begins=place)
        self.elements[line, column] = elements

    def _after(self, word: str, elements: Elements) -> None:
        """Notes the elements of the first parentheses at the top after a word."""
        items = iter(self.stretch.top)
        for item in items:
            if item.text == word:
                break
        previous = word
        for item in items:
            if item.text == "()":
                opening, closing = self.tokens[item.start], self.tokens[item.end]
                if opening.text == "(":
                    if word != "with" or previous == word:
                        self.elements.setdefault((closing.line, closing.column), elements)
                    return
            previous = item.text


def parts_of(owner: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement or clause without those of its blocks, and each f-string as one."""
    stack = list(_header(owner))
    while stack:
        node = stack.pop()
        yield node
        if not is_f_string(node):
            stack.extend(ast.iter_child_nodes(node))


def placed_parts(owner: ast.AST, by_line: Mapping[int, int]) -> Iterator[tuple[ast.AST, int]]:
    """The nodes of a statement or clause that start on some lines, each with the line's value.

    All of an f-string stands where the string begins: before Python 3.12 the places of its parts
    are not to be trusted.
    """
    for part in parts_of(owner):
        line = getattr(part, "lineno", 0) - 1
        if line in by_line:
            inside = ast.walk(part) if is_f_string(part) else (part,)
            for node in inside:
                yield node, by_line[line]


def is_f_string(node: ast.AST) -> bool:
    """Whether a node is an f-string, or a t-string of Python 3.14."""
    return type(node).__name__ in ("JoinedStr", "TemplateStr")


def _header(owner: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(owner):
        if not isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            yield child


def _characters(line: str, column: int) -> int:
    """A column of the syntax tree, in bytes of UTF-8, in characters."""
    return column if line.isascii() else len(line.encode()[:column].decode())
