"""Granularity ``line``: finds the lines inside a statement that can be deleted separately.

The paper deletes physical lines. Here a line stays with its statement unless all of these hold for
it, or for a run of consecutive lines, which then forms a *piece*:

- It contains only whole elements of a bracketed list (call arguments, displays, parameters,
  imported names, ``with`` items), each with its comma; or ``and x``, ``or x``, ``x and``, ``x or``
  of a condition in brackets; or an ``if`` clause of a comprehension; or some adjacent string
  literals; or it is an inner line of a triple-quoted string, or a decorator.
- The program without it is valid Python, regardless of which other pieces are deleted. If some must
  stay (one imported name, a tuple's comma), a :class:`Minimum` names what the last one deletes.
- No checker is known to reject the program without it. These stay: arguments that a signature
  requires, parameters that Python fills (``self``), format-string values, ``__slots__``, and
  decorators that change a definition's meaning.

Pieces nest: an element that spans several lines is a piece, with pieces inside. Comments and blank
lines above a piece go with it.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from codegen.core.python_syntax import characters

_LEFT_OUT = frozenset({
    tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    tokenize.ENCODING,
})  # fmt: skip
_PARTS = ("FSTRING", "TSTRING")
_STARTS = frozenset(getattr(tokenize, part + "_START", -1) for part in _PARTS)
_ENDS = frozenset(getattr(tokenize, part + "_END", -1) for part in _PARTS)


class PyToken(NamedTuple):
    r"""A token; ``text`` is "" for a string and "\n" for the end of a logical line."""

    text: str
    line: int
    column: int
    end_line: int
    end_column: int
    string: bool = False


class BracketElement(NamedTuple):
    """A token of a group, or a nested group: the tokens from ``start`` to ``end``."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class BracketGroup:
    """A bracket pair, the tokens ``start`` and ``end``, with the elements directly inside."""

    start: int
    end: int = -1
    items: list[BracketElement] = field(default_factory=list)


class TokenSpan:
    """The tokens of a range of lines.

    Attributes:
        tokens: tokens in text order.
        groups: bracketed groups, by opening bracket.
        top: tokens and groups outside of brackets.
    """

    def __init__(self, lines: Sequence[str], first: int, stop: int) -> None:
        self.first, self.stop = first, stop
        self.tokens = _tokens(lines, first, stop)
        self.groups, self.top = _groups(self.tokens)

    def begins_line(self, token: int) -> bool:
        """Returns True if a line starts with this token."""
        return token == 0 or self.tokens[token - 1].end_line < self.tokens[token].line

    def ends_line(self, token: int) -> bool:
        """Returns True if a line of code ends with this token."""
        following = token + 1
        if following == len(self.tokens):
            return True
        return self.tokens[following].line > self.tokens[token].end_line


def _tokens(lines: Sequence[str], first: int, stop: int) -> list[PyToken]:
    """Returns the tokens of a range of lines.

    Raises:
        tokenize.TokenError, SyntaxError: if the lines cannot be tokenized separately.
    """
    text = "\n".join(lines[first:stop]) + "\n"
    tokens: list[PyToken] = []
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
        tokens.append(PyToken(shown, line + above, column, end_line + above, end_column, is_string))
    return tokens


def _groups(tokens: Sequence[PyToken]) -> tuple[list[BracketGroup], list[BracketElement]]:
    groups: list[BracketGroup] = []
    top: list[BracketElement] = []
    open_groups: list[BracketGroup] = []
    for number, token in enumerate(tokens):
        items = open_groups[-1].items if open_groups else top
        if token.text in ("(", "[", "{"):
            group = BracketGroup(number)
            groups.append(group)
            open_groups.append(group)
        elif token.text in (")", "]", "}"):
            group = open_groups.pop()
            group.end = number
            items = open_groups[-1].items if open_groups else top
            items.append(BracketElement(group.start, number, "()"))
        else:
            items.append(BracketElement(number, number, token.text))
    return groups, top


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_BUILTINS = frozenset(dir(builtins))
_CHECKED_BUILTINS = frozenset({"isinstance", "issubclass"})
# Calls whose arguments decide which attributes exist.
_MAKE_CLASSES = frozenset({"namedtuple", "NamedTuple", "TypedDict", "Enum", "IntEnum", "Flag"})


class Callees:
    """The definitions and imports of a program, to resolve calls."""

    def __init__(self, tree: ast.Module) -> None:
        self.definitions: dict[str, list[_Definition]] = {}
        self.imported: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, _Definition):
                self.definitions.setdefault(node.name, []).append(node)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imported.update(a.asname or a.name.split(".")[0] for a in node.names)

    def is_unique(self, name: str) -> bool:
        """Returns True if the program defines exactly one function or class of that name."""
        return len(self.definitions.get(name, ())) == 1

    def needed(self, call: ast.Call) -> set[ast.AST]:
        """Returns the arguments and keywords that a checker requires in the call."""
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
    """Yields a call's arguments that the function does not require."""
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
    # Later arguments move up when one is deleted, so only trailing ones are optional.
    if not any(isinstance(argument, ast.Starred) for argument in call.args):
        required = len(positional) - len(arguments.defaults)
        yield from call.args[required:]


_Position = tuple[int, int]

_SPECIAL_LISTS = frozenset({"__slots__", "__match_args__", "_fields_", "_fields"})
_FILLED_BY_PYTHON = frozenset({"self", "cls", "mcs", "mcls", "metacls", "klass"})
_CONSTRUCTORS = frozenset({"__init__", "__new__", "__call__"})


class Elements(NamedTuple):
    """Number of elements, required elements and kind of a bracketed list."""

    number: int
    kept: frozenset[int] = frozenset()
    kind: str = ""  # tuple, nonempty, parameters
    begins: _Position | None = None  # where the opening bracket is, if known


class _Part(NamedTuple):
    """Statements or headers (``owners``) with their lines and tokens."""

    lines: Sequence[str]
    stretch: TokenSpan
    owners: Sequence[ast.AST]
    callees: Callees


class Brackets:
    """The bracketed lists in statements or headers."""

    def __init__(self, part: _Part) -> None:
        self.lines, self.stretch, self.owners, self.callees = part
        self.tokens = self.stretch.tokens
        self.exact: set[ast.AST] = set()  # lists whose elements must all stay
        self.elements: dict[_Position, Elements] = {}  # by the position of the closing bracket
        for owner in self.owners:
            self._describe(owner)

    def of(self, group: BracketGroup) -> Elements | None:
        """Returns the elements of a group; None if unknown."""
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
        """Records the elements of the bracket that ends (with ``begins``, also starts) a node."""
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
        """Records the elements of the first top-level parentheses after a keyword."""
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
    """Yields a statement's or clause's nodes outside of its blocks; an f-string is one node."""
    stack = list(_header(owner))
    while stack:
        node = stack.pop()
        yield node
        if not is_f_string(node):
            stack.extend(ast.iter_child_nodes(node))


def placed_parts(owner: ast.AST, by_line: Mapping[int, int]) -> Iterator[tuple[ast.AST, int]]:
    """Yields a statement's or clause's nodes that start on given lines, with the line's value.

    All parts of an f-string get its start, since their positions are wrong before Python 3.12.
    """
    for part in parts_of(owner):
        line = getattr(part, "lineno", 0) - 1
        if line in by_line:
            inside = ast.walk(part) if is_f_string(part) else (part,)
            for node in inside:
                yield node, by_line[line]


def is_f_string(node: ast.AST) -> bool:
    """Returns True for an f-string, or a t-string of Python 3.14."""
    return type(node).__name__ in ("JoinedStr", "TemplateStr")


def _header(owner: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(owner):
        if not isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            yield child


Span = tuple[int, int]  # lines, half-open

_JOINS = frozenset({"and", "or"})
_AFTER_OPERAND = frozenset({*_JOINS, "if", "else", "for", "async", ",", ":"})
_NOT_IN_OPERAND = frozenset({"if", "else", "for", "async", ",", ":", "lambda", ":=", "="})
# Decorators that must stay, since they change a definition's meaning to users or checkers.
_DEFINING = re.compile(
    r"property|staticmethod|classmethod|setter|getter|deleter|overload|dataclass|attrs?|define"
    r"|frozen|mutable|s|contextmanager|asynccontextmanager|total_ordering|singledispatch(method)?"
    r"|register|cached_property|abstract\w*|coroutine|runtime_checkable|final|unique|\w+property"
)
# Text of an f-string whose replacement fields have no quotes, comments or backslashes.
_PLAIN_FIELDS = re.compile(
    r"""(?:[^{}]|\{\{|\}\}|\{[^{}'"\\#]*(?:\{[^{}'"\\#]*\}[^{}'"\\#]*)*\})*"""
)
_STRING = re.compile(r"([A-Za-z]*)('''|\"\"\"|'|\")")


class Minimum(NamedTuple):
    """Pieces whose joint deletion deletes the target; ``None`` is the enclosing node."""

    pieces: tuple[Span, ...]
    target: Span | None


@dataclass(slots=True)
class LinePieces:
    """The pieces of a statement or header.

    Attributes:
        spans: line ranges, parents before children; any two are nested or disjoint.
        minimums: sets of pieces that must not all be deleted.
        signature: spans that are parameters or decorators of a definition.
    """

    spans: list[Span] = field(default_factory=list)
    minimums: list[Minimum] = field(default_factory=list)
    signature: list[Span] = field(default_factory=list)


def find_pieces(
    lines: Sequence[str], span: Span, owners: Sequence[ast.AST], callees: Callees
) -> LinePieces:
    """Finds the pieces of a statement, a statement's header or a clause's header.

    Args:
        owners: the statements (or the handler, case or ``if`` of the clause) on these lines.
        callees: the definitions that the program's calls refer to.
    """
    if span[1] - span[0] < 2:
        return LinePieces()
    try:
        stretch = TokenSpan(lines, *span)
    except (tokenize.TokenError, SyntaxError):
        return LinePieces()  # the lines cannot be tokenized without the program
    finder = _Finder(_Part(lines, stretch, owners, callees))
    finder.find()
    return finder.pieces()


class _Finder:
    def __init__(self, part: _Part) -> None:
        self.part = part
        self.lines, self.stretch, self.owners, self.callees = part
        self.tokens = self.stretch.tokens
        self.found: dict[Span, None] = {}
        self.minimums: list[Minimum] = []
        self.signature: list[Span] = []
        self.code = {
            line for token in self.tokens for line in range(token.line, token.end_line + 1)
        }

    def find(self) -> None:
        tokens = self.tokens
        wide = [g for g in self.stretch.groups if tokens[g.start].line < tokens[g.end].line]
        brackets = Brackets(self.part) if wide else None
        for group in wide:
            elements = brackets.of(group) if brackets else None
            if elements:
                self.list_of(group, elements)
            self.condition(group)
            self.adjacent_strings(group)
        for number, token in enumerate(tokens):
            if token.string and token.end_line - token.line > 1:
                self.inner_lines(number)
        for owner in self.owners:
            if isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.decorators(owner)

    def pieces(self) -> LinePieces:
        spans = sorted(self.found, key=lambda span: (span[0], -span[1]))
        grown = {span: (self._with_comments(span), span[1]) for span in spans}
        return LinePieces(
            [grown[span] for span in spans],
            [
                Minimum(
                    tuple(grown[span] for span in minimum.pieces),
                    None if minimum.target is None else grown[minimum.target],
                )
                for minimum in self.minimums
            ],
            [grown[span] for span in self.signature],
        )

    def _with_comments(self, span: Span) -> int:
        """Returns the first line of a piece, or of the comments and blank lines above it."""
        first = span[0]
        while first - 1 > self.stretch.first and first - 1 not in self.code:
            first -= 1
        return first

    def add(self, start: int, end: int) -> Span | None:
        """Adds a token range's lines as a piece, if they contain no other tokens."""
        if not (self.stretch.begins_line(start) and self.stretch.ends_line(end)):
            return None
        span = self.tokens[start].line, self.tokens[end].end_line + 1
        if span[0] <= self.stretch.first:
            return None
        if any(self.lines[line].endswith("\\") for line in range(span[0] - 1, span[1])):
            return None
        self.found[span] = None
        return span

    def list_of(self, group: BracketGroup, elements: Elements) -> None:
        """Adds whole elements of a list, with their commas."""
        kind = elements.kind
        slices = list(_slices(group))
        if len(slices) != elements.number:
            return  # a generator or lambda with its own commas
        runs: list[tuple[Span | None, range]] = []
        for run in self._runs([end for _, end in slices]):
            kept = elements.kept.intersection(run)
            runs.append((None if kept else self.add(slices[run[0]][0], slices[run[-1]][1]), run))
        spans = [span for span, _ in runs if span is not None]
        if kind == "parameters":
            self.signature += spans
            self._markers(runs, slices)
        elif kind == "nonempty" and len(spans) == len(runs):
            self.minimums.append(Minimum(tuple(spans), None))
        elif kind == "tuple" and self.tokens[slices[-1][1]].text != ",":
            *before, (last, members) = runs
            commas = [span for span, _ in before if span is not None]
            if commas and len(commas) == len(before) and len(members) == 1:
                self.minimums.append(Minimum(tuple(commas), last))

    def _runs(self, ends: Sequence[int]) -> Iterator[range]:
        """Yields ranges of consecutive parts; each range but the last ends at a line end.

        Args:
            ends: the last token of each part.
        """
        start = 0
        for number, end in enumerate(ends, 1):
            if self.stretch.ends_line(end) or number == len(ends):
                yield range(start, number)
                start = number

    def _markers(
        self, runs: Sequence[tuple[Span | None, range]], slices: Sequence[tuple[int, int]]
    ) -> None:
        """Adds minimums: a bare ``*`` needs a parameter below it, a ``/`` one above it."""
        words = [
            [token.text for token in self.tokens[start : end + 1] if token.text != ","]
            for start, end in slices
        ]
        for marker in ("*", "/"):
            if [marker] not in words:
                continue
            place = words.index([marker])
            if marker == "/":
                needed = range(place)
            else:
                needed = range(place + 1, len(words) - (words[-1][0] == "**"))
            spans = [span for span, run in runs if set(needed).intersection(run)]
            pieces = tuple(span for span in spans if span is not None)
            if len(pieces) == len(spans):
                self.minimums.append(Minimum(pieces, None))

    def condition(self, group: BracketGroup) -> None:
        """Adds ``and x``, ``x and`` of a chain in brackets, and ``if x`` of a comprehension."""
        items = group.items
        in_comprehension = False
        for run in self._runs([item.end for item in items]):
            item, words = items[run.start], [items[number].text for number in run]
            if not self.stretch.begins_line(item.start):
                in_comprehension = in_comprehension or "for" in words
                continue
            in_comprehension = in_comprehension or item.text == "for"
            following = items[run.stop].text if run.stop < len(items) else ","
            before = items[run.start - 1].text if run.start else ","
            if item.text == "if" and in_comprehension:
                whole = not _NOT_IN_OPERAND.intersection(words[1:])
                whole = whole and following in {"if", "for", "async", ","} and len(words) > 1
            elif item.text in _JOINS:
                whole = not _NOT_IN_OPERAND.intersection(words) and len(words) > 1
                whole = whole and words[-1] not in _JOINS and following in _AFTER_OPERAND
            else:
                whole = not _NOT_IN_OPERAND.intersection(words) and words[-1] in _JOINS
                whole = whole and before in {*_JOINS, ","} and len(words) > 1
            if whole:
                self.add(item.start, items[run[-1]].end)

    def adjacent_strings(self, group: BracketGroup) -> None:
        """Adds adjacent string literals that are concatenated."""
        at = 0
        for is_string, run in groupby(group.items, lambda item: self.tokens[item.start].string):
            strings = list(run)
            at += len(strings)
            if is_string and len(strings) > 1:
                following = group.items[at].text if at < len(group.items) else ""
                self._strings(strings, following)

    def _strings(self, strings: Sequence[BracketElement], following: str) -> None:
        if following in {"%", "."} or any(self._is_format(item.start) for item in strings):
            return
        runs = list(self._runs([string.end for string in strings]))
        if len(runs) > 1:
            found = [self.add(strings[run[0]].start, strings[run[-1]].end) for run in runs]
            spans = tuple(span for span in found if span is not None)
            if len(spans) == len(runs):
                self.minimums.append(Minimum(spans, None))

    def inner_lines(self, number: int) -> None:
        """Adds a triple-quoted string's lines except the first and last."""
        token = self.tokens[number]
        match = _STRING.match(self.lines[token.line], token.column)
        if match is None or len(match[2]) == 1:
            return
        inner = range(token.line + 1, token.end_line)
        if set(match[1].lower()) & {"f", "t"}:
            whole = [self.lines[token.line][match.end() :], *(self.lines[n] for n in inner)]
            if not all(_PLAIN_FIELDS.fullmatch(text) for text in whole):
                return  # a replacement field continues on the next line
        elif not self._is_statement(number) and self._is_format(number):
            return
        first = None
        for line in inner:
            first = line if first is None else first
            if self.lines[line].strip():
                self.found[first, line + 1] = None
                first = None

    def _is_statement(self, number: int) -> bool:
        """Returns True if a token is a separate statement, such as a docstring."""
        before = self.tokens[number - 1].text if number else "\n"
        return before in ("\n", ";") and self.tokens[number + 1].text in ("\n", ";")

    def _is_format(self, number: int) -> bool:
        """Returns True if a string may be a format string, whose fields and values must agree."""
        token = self.tokens[number]
        lines = self.lines[token.line : token.end_line + 1]
        first, last = lines[0][token.column :], lines[-1][: token.end_column]
        if len(lines) == 1:
            first = lines[0][token.column : token.end_column]
        text = "\n".join([first, *lines[1:-1], last])
        prefix = re.match("[A-Za-z]*", text)
        is_f = prefix is not None and "f" in prefix[0].lower()
        return "%" in text or (not is_f and "{" in text)

    def decorators(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """Adds pieces for decorators that do not change a definition's meaning."""
        if not self.callees.is_unique(node.name):
            return
        top = self.stretch.top
        number = 0
        for decorator in node.decorator_list:
            end = number
            while top[end].text != "\n":
                end += 1
            name = decorator.func if isinstance(decorator, ast.Call) else decorator
            word = getattr(name, "attr", getattr(name, "id", "property"))
            if top[number].text == "@" and not _DEFINING.fullmatch(word):
                first, last = self.tokens[top[number].start], self.tokens[top[end].end]
                span = first.line, last.end_line + 1
                if not any(self.lines[line].endswith("\\") for line in range(*span)):
                    self.found[span] = None
                    self.signature.append(span)
            number = end + 1


def _slices(group: BracketGroup) -> Iterator[tuple[int, int]]:
    """Yields the first and last token of each element; the last is its comma, if any."""
    start = None
    end = group.start
    for item in group.items:
        start = item.start if start is None else start
        end = item.end
        if item.text == ",":
            yield start, end
            start = None
    if start is not None:
        yield start, end


def parents_of(spans: Iterable[Span]) -> list[int]:
    """Returns the index of each nested span's parent, or -1; parents come first."""
    parents = []
    around: list[tuple[int, Span]] = []
    for number, span in enumerate(spans):
        while around and around[-1][1][1] <= span[0]:
            around.pop()
        parents.append(around[-1][0] if around else -1)
        around.append((number, span))
    return parents
