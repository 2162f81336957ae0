"""Python's AST -> UniCode: programs and statements, with their lines and comments.

A program loses its layout, the notation of constants (quotes, bases, implicit concatenation), and
annotations without effect (:mod:`codegen.methods.unicoder.source`). Its comments stay; they move
out of expressions to the line before.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codegen.core.errors import SkippedExample
from codegen.core.python_syntax import TOO_DEEP, first_line, parse_example, with_newlines
from codegen.methods.unicoder import source, words
from codegen.methods.unicoder.words import Level, Style
from codegen.methods.unicoder.write_expressions import ExpressionWriter

INDENT = "    "
_FIRST_WORD = re.compile(r"\w+")
_END = float("inf")


class UntranslatableProgram(SkippedExample):
    """A program cannot be written as UniCode; the reason is ``syntax_error``, ``newer_python``,
    ``null_bytes``, ``not_unicode``, ``too_deep`` or ``not_python``.
    """

    subject = "The program cannot be written as UniCode"


@dataclass(frozen=True, slots=True)
class Translation:
    """A program written as UniCode.

    Attributes:
        nodes: number of AST nodes of the program.
        uncovered: AST node type -> number of nodes embedded as Python, since UniCode has no form
            for the type.
    """

    text: str
    style: Style
    nodes: int
    uncovered: Mapping[str, int] = field(default_factory=dict)


def to_unicode(program: str, style: Style = words.BRACES) -> Translation:
    """Writes a Python program as UniCode.

    Raises:
        UntranslatableProgram: if the program cannot be written as UniCode.
    """
    tree = source.drop_annotations(parse_program(program))
    try:
        facts = source.gather(tree)
        writer = StatementWriter(style, facts, source.read_comments(_normalized(program)))
        writer.module(tree)
    except RecursionError:
        raise UntranslatableProgram("too_deep", TOO_DEEP) from None
    text = "".join(line + "\n" for line in writer.lines)
    return Translation(text, style, facts.nodes, dict(writer.uncovered))


def parse_program(program: str) -> ast.Module:
    """Parses a program.

    Raises:
        UntranslatableProgram: if the program cannot be parsed.
    """
    return parse_example(_normalized(program), UntranslatableProgram)


def _normalized(program: str) -> str:
    """Removes the byte order mark, and normalizes line ends as Python does."""
    return with_newlines(program.removeprefix("\ufeff"))


class StatementWriter(ExpressionWriter):
    """Writes a module.

    Each method ``_<node type>`` writes the lines of a statement. The second argument is the line on
    which the next statement begins, which limits the comments in the statement's blocks.
    """

    def __init__(
        self, style: Style, facts: source.ProgramNames, comments: Sequence[source.Comment] = ()
    ) -> None:
        super().__init__(style, facts)
        self.lines: list[str] = []
        self._comments = source.CommentQueue(list(comments))
        self._depth = 0
        self._source_line = 0  # the last line of the source that has been written
        self._block_start = True
        w = self._words
        self._open, self._close = {
            "braces": (" {", "}"),
            "begin_end": (f" {w['BEGIN']}", w["END"]),
            "indent": ("", ""),
        }[style.blocks]
        self._statements: dict[type[ast.AST], Callable[[object, float], None]] = {
            kind: getattr(self, f"_{kind.__name__}")
            for kind in ast.stmt.__subclasses__()
            if hasattr(self, f"_{kind.__name__}")
        }

    def _line(self, text: str, comments: Sequence[source.Comment] = ()) -> None:
        trailing = "".join(f" //{comment.text}" for comment in comments[-1:])
        self.lines.append(INDENT * self._depth + text + trailing)
        self._block_start = False

    def _gap(self, line: int) -> None:
        """Keeps one of the blank lines before a source line."""
        if line - self._source_line > 1 and not self._block_start:
            self.lines.append("")

    def _notes(self, comments: Iterable[source.Comment]) -> None:
        for comment in comments:
            self._gap(comment.line)
            self._line("//" + comment.text)
            self._source_line = comment.line

    def _simple(self, node: ast.stmt, text: str, terminator: bool = True) -> None:
        """Writes a one-line statement, and the comments on its source lines."""
        end = node.end_lineno or node.lineno
        comments = self._comments.before(end + 1)
        if comments and comments[-1].line == end:
            self._notes_within(comments[:-1])
            comments = comments[-1:]
        else:
            self._notes_within(comments)
            comments = []
        self._line(text + (self.style.terminator if terminator else ""), comments)
        self._source_line = end

    def _notes_within(self, comments: Iterable[source.Comment]) -> None:
        """Writes comments from inside a statement before that statement."""
        for comment in comments:
            self._line("//" + comment.text)

    def _body(self, body: Sequence[ast.stmt], limit: float) -> None:
        """Writes the statements of a block, which must end before line ``limit``."""
        starts = [first_line(node) for node in body]
        for node, start, following in zip(body, starts, [*starts, limit][1:], strict=True):
            self._notes(self._comments.before(start))
            self._gap(start)
            self._source_line = max(self._source_line, start - 1)
            self._statements.get(type(node), self._embedded_statement)(node, following)

    def _block(
        self, header: str, body: Sequence[ast.stmt], limit: float, *, joined: bool = False
    ) -> None:
        """Writes a header and its block, without the end; ``joined``: after a closed block."""
        start = first_line(body[0])
        prefix = f"{self._close} " if joined and self._close else ""
        comments = self._comments.header(start)
        if not joined:
            self._notes_within(comments[:-1])
        self._line(prefix + header + self._open, comments)
        if joined:
            self._depth += 1
            self._notes_within(comments[:-1])
            self._depth -= 1
        self._source_line = start - 1
        self._inside(body, limit)

    def _inside(self, body: Sequence[ast.stmt], limit: float) -> None:
        self._depth += 1
        self._block_start = True
        self._body(body, limit)
        self._notes(self._comments.before(limit, body[0].col_offset))
        self._depth -= 1
        self._block_start = False

    def _end_block(self) -> None:
        if self._close:
            self._line(self._close)

    def _whole_block(self, header: str, body: Sequence[ast.stmt], limit: float) -> None:
        self._block(header, body, limit)
        self._end_block()

    def _embedded_statement(self, node: ast.stmt, limit: float) -> None:
        self.uncovered[type(node).__name__] += source.count_nodes(node)
        text = f'{self._words[words.EMBEDDED]}("{words.escape(ast.unparse(node))}")'
        self._simple(node, text)

    # One-line statements

    def _Expr(self, node: ast.Expr, _: float) -> None:
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and not value.kind:
            block = words.block_comment(value.value)
            if block is not None:
                self._simple(node, block, terminator=False)
                return
        # A conditional expression would be read as an IF statement.
        level = Level.OR if isinstance(value, ast.IfExp) else Level.YIELD
        self._simple(node, self._opened(self.expression(value, level)))

    def _Assign(self, node: ast.Assign, _: float) -> None:
        parts = [*map(self.expression, node.targets), self.expression(node.value, Level.YIELD)]
        self._simple(node, self._opened(" = ".join(parts)))

    def _AugAssign(self, node: ast.AugAssign, _: float) -> None:
        symbol, _level = self._binary[type(node.op)]
        value = self.expression(node.value, Level.YIELD)
        self._simple(node, self._opened(f"{self.expression(node.target)} {symbol}= {value}"))

    def _AnnAssign(self, node: ast.AnnAssign, _: float) -> None:
        target = self.expression(node.target)
        if isinstance(node.target, ast.Name) and not node.simple:
            target = f"({target})"
        text = f"{target}: {self.expression(node.annotation, Level.YIELD)}"
        if node.value:
            text += f" = {self.expression(node.value, Level.YIELD)}"
        self._simple(node, self._opened(text))

    @staticmethod
    def _opened(text: str) -> str:
        """Escapes the first name of an expression at a statement's start, if it is a keyword."""
        match = _FIRST_WORD.match(text)
        if match and match[0] in words.OPENING_FORMS and not _marks_a_name(text[match.end() :]):
            return f"`{match[0]}`{text[match.end() :]}"
        return text

    def _Return(self, node: ast.Return, _: float) -> None:
        value = " " + self.expression(node.value, Level.YIELD) if node.value else ""
        self._simple(node, self._words["RETURN"] + value)

    def _Raise(self, node: ast.Raise, _: float) -> None:
        w = self._words
        text = w["RAISE"]
        text += f" {self.expression(node.exc)}" if node.exc else ""
        text += f" {w['FROM']} {self.expression(node.cause)}" if node.cause else ""
        self._simple(node, text)

    def _Assert(self, node: ast.Assert, _: float) -> None:
        message = f", {self.expression(node.msg)}" if node.msg else ""
        self._simple(node, f"{self._words['ASSERT']} {self.expression(node.test)}{message}")

    def _Delete(self, node: ast.Delete, _: float) -> None:
        targets = ", ".join(map(self.expression, node.targets))
        self._simple(node, f"{self._words['DELETE']} {targets}")

    def _Import(self, node: ast.Import, _: float) -> None:
        self._simple(node, f"{self._words['USE']} {self._aliases(node.names)}")

    def _ImportFrom(self, node: ast.ImportFrom, _: float) -> None:
        w = self._words
        module = "." * node.level + self._dotted(node.module or "")
        self._simple(node, f"{w['FROM']} {module} {w['USE']} {self._aliases(node.names)}")

    def _aliases(self, names: Iterable[ast.alias]) -> str:
        parts = []
        for alias in names:
            name = f" {self._words['AS']} {self.name(alias.asname)}" if alias.asname else ""
            parts.append(("*" if alias.name == "*" else self._dotted(alias.name)) + name)
        return ", ".join(parts)

    def _dotted(self, name: str) -> str:
        return ".".join(map(self._module, name.split("."))) if name else ""

    def _module(self, name: str) -> str:
        return f"`{name}`" if words.OPENING_FORMS.get(name) == "USE" else self.name(name)

    def _Global(self, node: ast.Global | ast.Nonlocal, _: float) -> None:
        self._simple(node, f"{self._keyword(node)} {', '.join(map(self.name, node.names))}")

    _Nonlocal = _Global

    def _Pass(self, node: ast.stmt, _: float) -> None:
        self._simple(node, self._keyword(node))

    _Break = _Continue = _Pass

    def _keyword(self, node: ast.stmt) -> str:
        return self._words[type(node).__name__.upper()]

    def _TypeAlias(self, node: Any, _: float) -> None:
        left = self.expression(node.name) + self._type_parameters(node)
        self._simple(node, f"{self._words['TYPE']} {left} = {self.expression(node.value)}")

    def _type_parameters(self, node: ast.AST) -> str:
        parameters = list(map(self._type_parameter, getattr(node, "type_params", ())))
        return f"[{', '.join(parameters)}]" if parameters else ""

    def _type_parameter(self, node: Any) -> str:
        stars = {"TypeVarTuple": "*", "ParamSpec": "**"}.get(type(node).__name__, "")
        bound = getattr(node, "bound", None)
        default = getattr(node, "default_value", None)
        text = stars + self.name(node.name)
        text += f": {self.expression(bound)}" if bound else ""
        return text + (f" = {self.expression(default)}" if default else "")

    # Compound statements

    def module(self, tree: ast.Module) -> None:
        """Writes a whole module."""
        self._body(tree.body, _END)
        self._notes(self._comments.before(_END))

    def _prefix(self, node: ast.stmt) -> str:
        is_async = isinstance(node, (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith))
        return f"{self._words['ASYNC']} " if is_async else ""

    def _FunctionDef(self, node: Any, limit: float) -> None:
        w = self._words
        self._decorators(node)
        name = self.name(node.name) + self._type_parameters(node)
        header = f"{self._prefix(node)}{w['FUNCTION']} {name}({self.parameters(node.args)})"
        if node.returns:
            header += f" {w['RETURNS']} {self.expression(node.returns)}"
        self._whole_block(header, node.body, limit)

    _AsyncFunctionDef = _FunctionDef

    def _ClassDef(self, node: ast.ClassDef, limit: float) -> None:
        w = self._words
        self._decorators(node)
        header = f"{w['CLASS']} {self.name(node.name)}{self._type_parameters(node)}"
        if node.bases or node.keywords:
            header += f" {w['EXTENDS']} {self.arguments(node.bases, node.keywords)}"
        self._whole_block(header, node.body, limit)

    def _decorators(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        w = self._words
        for decorator in node.decorator_list:
            end = decorator.end_lineno or decorator.lineno
            comments = self._comments.before(end + 1)
            self._notes_within(comments[:-1])
            self._line(f"{w['DECORATED']} {w['BY']} {self.expression(decorator)}", comments)

    def _If(self, node: ast.If, limit: float) -> None:
        w = self._words
        word, joined = w["IF"], False
        while True:  # not recursive, since ELSIFs may nest deeply
            following = first_line(node.orelse[0]) if node.orelse else limit
            header = f"{word} ({self.expression(node.test, Level.WALRUS)})"
            self._block(header, node.body, following, joined=joined)
            match node.orelse:
                case [ast.If() as other]:
                    node, word, joined = other, w["ELSIF"], True
                case []:
                    break
                case orelse:
                    self._block(w["ELSE"], orelse, limit, joined=True)
                    break
        self._end_block()

    def _For(self, node: ast.For | ast.AsyncFor, limit: float) -> None:
        w, prefix = self._words, self._prefix(node)
        target = self.expression(node.target)
        following = first_line(node.orelse[0]) if node.orelse else limit
        span = None if prefix else self._span(node.iter)
        if span:
            header = f"{w['FOR']} {target} {w['FROM']} {span}"
        else:
            header = f"{w['FOR']} {w['EACH']} {target} {w['IN']} {self.expression(node.iter)}"
        self._whole_block(prefix + header, node.body, following)
        self._loop_else(node.orelse, limit)

    _AsyncFor = _For

    def _span(self, node: ast.expr) -> str | None:
        """Writes ``range(...)`` as a span except ``range(0, n)``: a span from 0 is ``range(n)``."""
        if not (isinstance(node, ast.Call) and self.is_builtin(node.func, "range")):
            return None
        if node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
            return None
        w = self._words
        match [self.expression(arg) for arg in node.args]:
            case [stop]:
                start, step = "0", ""
            case [start, stop] if start != "0":
                step = ""
            case [start, stop, by]:
                step = f" {w['STEP']} {by}"
            case _:
                return None
        return f"{start} {w['TO']} {stop} ({w['EXCLUSIVE']}){step}"

    def _While(self, node: ast.While, limit: float) -> None:
        w = self._words
        if source.is_do_while(node):
            self._do_while(node, limit)
            return
        following = first_line(node.orelse[0]) if node.orelse else limit
        header = f"{w['WHILE']} ({self.expression(node.test, Level.WALRUS)})"
        self._whole_block(header, node.body, following)
        self._loop_else(node.orelse, limit)

    def _do_while(self, node: ast.While, limit: float) -> None:
        """Writes ``while True`` with a final ``if c: break`` as DO ... WHILE not c."""
        *body, last = node.body
        assert isinstance(last, ast.If)
        self._block(self._words["DO"], body, last.lineno)
        self._depth += 1
        self._notes(self._comments.before(last.lineno))
        comments = self._comments.before(limit)
        if comments and comments[-1].own_line:
            self._notes_within(comments)
            comments = []
        else:
            self._notes_within(comments[:-1])
        self._depth -= 1
        prefix = f"{self._close} " if self._close else ""
        test = self.expression(source.negated(last.test), Level.WALRUS)
        self._line(f"{prefix}{self._words['WHILE']} ({test}){self.style.terminator}", comments)
        self._source_line = node.end_lineno or node.lineno

    def _loop_else(self, body: Sequence[ast.stmt], limit: float) -> None:
        if body:
            w = self._words
            self._whole_block(f"{w['IF']} ({w['LOOP_NOT_BROKEN']})", body, limit)

    def _With(self, node: ast.With | ast.AsyncWith, limit: float) -> None:
        w = self._words
        items = [self.expression(item.context_expr) for item in node.items]
        for number, item in enumerate(node.items):
            if item.optional_vars:
                items[number] += f" {w['AS']} {self.expression(item.optional_vars)}"
        header = f"{self._prefix(node)}{w['USING']} ({', '.join(items)})"
        self._whole_block(header, node.body, limit)

    _AsyncWith = _With

    def _Try(self, node: ast.Try | ast.TryStar, limit: float) -> None:
        w = self._words
        group = f" {w['GROUP']}" if isinstance(node, ast.TryStar) else ""
        clauses: list[tuple[str, list[ast.stmt]]] = [(w["TRY"], node.body)]
        for handler in node.handlers:
            header = w["CATCH"] + group
            if handler.type:
                name = f" {w['AS']} {self.name(handler.name)}" if handler.name else ""
                header += f" ({self.expression(handler.type)}{name})"
            clauses.append((header, handler.body))
        clauses += [(w["ELSE"], node.orelse), (w["FINALLY"], node.finalbody)]
        clauses = [(header, body) for header, body in clauses if body]
        limits = [first_line(body[0]) for _, body in clauses[1:]]
        for (header, body), following in zip(clauses, [*limits, limit], strict=True):
            self._block(header, body, following, joined=body is not node.body)
        self._end_block()

    _TryStar = _Try

    def _Match(self, node: ast.Match, limit: float) -> None:
        w = self._words
        subject = self.expression(node.subject, Level.WALRUS)
        comments = self._comments.before(node.cases[0].pattern.lineno)
        self._notes_within(comments[:-1])
        self._line(f"{w['MATCH']} ({subject}){self._open}", comments)
        self._depth += 1
        starts = [case.pattern.lineno for case in node.cases[1:]]
        for case, following in zip(node.cases, [*starts, limit], strict=True):
            guard = f" {w['WHERE']} {self.expression(case.guard)}" if case.guard else ""
            self._notes(self._comments.before(case.pattern.lineno))
            header = f"{w['CASE']} {self.expression(case.pattern)}{guard}"
            self._whole_block(header, case.body, following)
        self._depth -= 1
        self._end_block()


def _marks_a_name(rest: str) -> bool:
    """Returns True if the text after a word shows that it is a name, not a keyword."""
    return rest[:1] in (".", ":") or rest.lstrip().partition(" ")[0] in words.NAME_FOLLOWERS
