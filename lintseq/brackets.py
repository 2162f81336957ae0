r"""The bracketed lists of a statement whose elements can be deleted one by one.

Tokens come from CPython's ``tokenize``, without comments and blank lines. An f-string, which Python
3.12 splits, is one token, so that all versions of Python give the same. Positions are (line,
column), both from 0, columns in characters.

pylint compares a call with the signature of its callee wherever it can infer that. Here the callee
is found by its name: a definition of the program has a known signature; calls of imported names and
of methods need all their arguments; calls of other names (a parameter, a builtin) need none.
"""

from __future__ import annotations

import ast
import builtins
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from codegen.python_syntax import characters

_LEFT_OUT = frozenset({
    tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    tokenize.ENCODING,
})  # fmt: skip
_PARTS = ("FSTRING", "TSTRING")
_STARTS = frozenset(getattr(tokenize, part + "_START", -1) for part in _PARTS)
_ENDS = frozenset(getattr(tokenize, part + "_END", -1) for part in _PARTS)


class Token(NamedTuple):
    r"""A token; ``text`` is "" for a string and "\n" for the end of a logical line."""

    text: str
    line: int
    column: int
    end_line: int
    end_column: int
    string: bool = False


class Item(NamedTuple):
    """A token of a group or a whole group inside it: the tokens from ``start`` to ``end``."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class Group:
    """Two brackets, the tokens ``start`` and ``end``, and the tokens and groups directly inside."""

    start: int
    end: int = -1
    items: list[Item] = field(default_factory=list)


class Stretch:
    """The tokens of some lines.

    Attributes:
        tokens: in the order of the text.
        groups: the bracketed groups, by their opening bracket.
        top: the tokens and groups outside of brackets.
    """

    def __init__(self, lines: Sequence[str], first: int, stop: int) -> None:
        self.first, self.stop = first, stop
        self.tokens = _tokens(lines, first, stop)
        self.groups, self.top = _groups(self.tokens)

    def begins_line(self, token: int) -> bool:
        """Whether a line begins with this token."""
        return token == 0 or self.tokens[token - 1].end_line < self.tokens[token].line

    def ends_line(self, token: int) -> bool:
        """Whether a line of code ends with this token."""
        following = token + 1
        if following == len(self.tokens):
            return True
        return self.tokens[following].line > self.tokens[token].end_line


def _tokens(lines: Sequence[str], first: int, stop: int) -> list[Token]:
    """The tokens of some lines.

    Raises:
        tokenize.TokenError, SyntaxError: if the lines alone are no whole tokens.
    """
    text = "\n".join(lines[first:stop]) + "\n"
    tokens: list[Token] = []
    depth = 0
    opened = (0, 0)
    for kind, string, (line, column), (end_line, end_column), _ in tokenize.generate_tokens(
        io.StringIO(text, newline="\n").readline
    ):
        if kind in _STARTS:
            opened = opened if depth else (line, column)
            depth += 1
            continue
        if kind in _ENDS:
            depth -= 1
            (line, column) = opened
        if depth or kind in _LEFT_OUT:
            continue
        is_string = kind == tokenize.STRING or kind in _ENDS
        shown = "" if is_string else "\n" if kind == tokenize.NEWLINE else string
        above = first - 1
        tokens.append(Token(shown, line + above, column, end_line + above, end_column, is_string))
    return tokens


def _groups(tokens: Sequence[Token]) -> tuple[list[Group], list[Item]]:
    groups: list[Group] = []
    top: list[Item] = []
    open_groups: list[Group] = []
    for number, token in enumerate(tokens):
        items = open_groups[-1].items if open_groups else top
        if token.text in ("(", "[", "{"):
            group = Group(number)
            groups.append(group)
            open_groups.append(group)
        elif token.text in (")", "]", "}"):
            group = open_groups.pop()
            group.end = number
            items = open_groups[-1].items if open_groups else top
            items.append(Item(group.start, number, "()"))
        else:
            items.append(Item(number, number, token.text))
    return groups, top


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_BUILTINS = frozenset(dir(builtins))
_CHECKED_BUILTINS = frozenset({"isinstance", "issubclass"})
# Their arguments decide which attributes exist.
_MAKE_CLASSES = frozenset({"namedtuple", "NamedTuple", "TypedDict", "Enum", "IntEnum", "Flag"})


class Callees:
    """The definitions and imports of a program, to find what a call calls."""

    def __init__(self, tree: ast.Module) -> None:
        self.definitions: dict[str, list[_Definition]] = {}
        self.imported: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, _Definition):
                self.definitions.setdefault(node.name, []).append(node)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imported.update(a.asname or a.name.split(".")[0] for a in node.names)

    def is_unique(self, name: str) -> bool:
        """Whether the program defines a function or class of that name just once."""
        return len(self.definitions.get(name, ())) == 1

    def needed(self, call: ast.Call) -> set[ast.AST]:
        """The arguments and keywords that a checker would miss in the call."""
        function = call.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        everything: set[ast.AST] = {*call.args, *call.keywords}
        if name in _MAKE_CLASSES:
            return everything
        if name in self.definitions:
            if not self.is_unique(name):
                return everything
            return everything - set(_optional(self.definitions[name][0], call))
        if isinstance(function, ast.Name):
            free = name in _BUILTINS and name not in _CHECKED_BUILTINS
            if name in self.imported:
                return everything
            return set(call.args) if name in _BUILTINS and not free else set()
        if isinstance(function, ast.Attribute):
            return everything
        return set()


def _optional(definition: _Definition, call: ast.Call) -> Iterable[ast.AST]:
    """The arguments of a call that a function does not need."""
    if isinstance(definition, ast.ClassDef) or definition.decorator_list:
        return
    arguments = definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaulted = {a.arg for a in positional[len(positional) - len(arguments.defaults) :]}
    defaulted |= {
        a.arg
        for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    }
    named = {a.arg for a in (*positional, *arguments.kwonlyargs)}
    for keyword in call.keywords:
        if keyword.arg in defaulted or (keyword.arg is not None and keyword.arg not in named):
            yield keyword
    # Later arguments move up when one is deleted, so only a tail of them is optional.
    if not any(isinstance(argument, ast.Starred) for argument in call.args):
        required = len(positional) - len(arguments.defaults)
        yield from call.args[required:]


_Position = tuple[int, int]

_SPECIAL_LISTS = frozenset({"__slots__", "__match_args__", "_fields_", "_fields"})
_FILLED_BY_PYTHON = frozenset({"self", "cls", "mcs", "mcls", "metacls", "klass"})
_CONSTRUCTORS = frozenset({"__init__", "__new__", "__call__"})


class Elements(NamedTuple):
    """A bracketed list: its number of elements, those that must stay, and its kind."""

    number: int
    kept: frozenset[int] = frozenset()
    kind: str = ""  # tuple, nonempty, parameters
    begins: _Position | None = None  # where the opening bracket is, if known


class Brackets:
    """The bracketed lists of some statements or headers in a stretch of code."""

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
        self.exact: set[ast.AST] = set()  # lists whose elements must all stay
        self.elements: dict[_Position, Elements] = {}  # by the position of the closing bracket
        for owner in owners:
            self._describe(owner)

    def of(self, group: Group) -> Elements | None:
        """The elements of a group; None if they are not known."""
        opening, closing = self.tokens[group.start], self.tokens[group.end]
        elements = self.elements.get((closing.line, closing.column))
        if elements and elements.begins not in (None, (opening.line, opening.column)):
            return None  # "(a), (b)"
        return elements

    def _describe(self, owner: ast.AST) -> None:
        """Finds the elements of all bracketed lists of a statement or header."""
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
            kind = "nonempty"  # {} is not a set
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
        """Records the elements of the bracket that a node ends with (and begins with)."""
        if node.lineno == node.end_lineno:
            return
        line = (node.end_lineno or node.lineno) - 1
        column = characters(self.lines[line], node.end_col_offset or 0) - 1
        if begins:
            start = node.lineno - 1
            place = start, characters(self.lines[start], node.col_offset)
            elements = elements._replace(begins=place)
        self.elements[line, column] = elements

    def _after(self, word: str, elements: Elements) -> None:
        """Records the elements of the first parentheses at the top level after a word."""
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
    """The nodes of a statement or clause outside of its blocks; an f-string counts as one node."""
    stack = list(_header(owner))
    while stack:
        node = stack.pop()
        yield node
        if not is_f_string(node):
            stack.extend(ast.iter_child_nodes(node))


def placed_parts(owner: ast.AST, by_line: Mapping[int, int]) -> Iterator[tuple[ast.AST, int]]:
    """The nodes of a statement or clause that start on some lines, each with the line's value.

    All parts of an f-string count as where it begins: before Python 3.12 their positions are wrong.
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
