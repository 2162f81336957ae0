"""Tokens of UniCode -> Python's AST with comments: programs, blocks and statements.

A block is enclosed in ``{`` and ``}`` or in ``BEGIN`` and ``END``, or is indented more than its
header; so one grammar reads all styles.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from codegen.methods.unicode.lexer import Break, Token
from codegen.methods.unicode.parse_expressions import ExpressionParser
from codegen.methods.unicode.source import has_continue, negated
from codegen.methods.unicode.words import (
    BINARY,
    EMBEDDED,
    NAME_FOLLOWERS,
    OPENING_FORMS,
    Level,
    cased,
)

_AUGMENTED = {
    f"{cased(symbol, upper)}=": kind
    for kind, (symbol, _) in BINARY.items()
    for upper in (True, False)
}


@dataclass(slots=True)
class Notes:
    """The place and comments of a statement, which are not in the tree.

    Attributes:
        start: the offset of the statement in the text.
        before: comments on the lines before it; None is a blank line.
        trailing: the comment that ends its first line.
        after: comments after it, at the end of its block.
    """

    start: int
    before: list[str | None] = field(default_factory=list)
    trailing: str | None = None
    after: list[str | None] = field(default_factory=list)


@dataclass(slots=True)
class Block:
    """The items of a block, and how it was marked.

    Attributes:
        items: statements or cases.
        column: where the header's line begins.
        closed: whether the block has an explicit end.
    """

    items: list[Any]
    column: int
    closed: bool


class Parser(ExpressionParser):
    """Reads a program.

    Attributes:
        notes: place and comments of each statement.
        last_notes: the comments after the last statement.
    """

    def __init__(self, text: str, lower: bool | None = None) -> None:
        super().__init__(text, lower)
        self.notes: dict[ast.AST, Notes] = {}
        self.last_notes: list[str | None] = []
        self._pending: list[tuple[int, str | None]] = []
        self._column = 0  # where the current line begins
        self._simple: dict[str, Callable[[], ast.stmt]] = {
            "RETURN": self._return,
            "RAISE": self._raise,
            "ASSERT": self._assert,
            "GLOBAL": lambda: ast.Global(self._names()),
            "NONLOCAL": lambda: ast.Nonlocal(self._names()),
            "PASS": ast.Pass,
            "BREAK": ast.Break,
            "CONTINUE": ast.Continue,
            "FROM": self._import_from,
            "USE": lambda: ast.Import(self._aliases()),
            "DELETE": self._delete,
            "TYPE": self._type_alias,
        }
        self._compound: dict[str, Callable[[Notes], ast.stmt]] = {
            "IF": self._if,
            "FOR": self._for,
            "WHILE": self._while,
            "DO": self._do,
            "TRY": self._try,
            "USING": self._using,
            "MATCH": self._match,
            "FUNCTION": self._function,
            "CLASS": self._class,
            "ASYNC": self._async,
        }

    def module(self) -> ast.Module:
        """The whole text."""
        self._take_break()
        body: list[ast.stmt] = []
        while self._peek().kind != "end":
            if self._column:
                raise self.error("a line that is not indented")
            body += self.statement()
        self.last_notes = self._take_notes()
        return ast.Module(body, [])

    def statement(self) -> list[ast.stmt]:
        """One statement, or those of one embedding, and the end of its line."""
        notes = Notes(self._peek().start, self._take_notes())
        token = self._peek()
        word = token.value if token.kind == "key" else self._opening()
        if word == EMBEDDED and self._is_embedded_statement():
            nodes = self._embedded_statements()
        elif word in self._simple:
            self._advance()
            nodes = [self._simple[word]()]
        elif word in self._compound:
            self._advance()
            nodes = [self._compound[word](notes)]
            trailing = self._end_line(simple=False)
            if trailing is not None:
                self._pending.insert(0, (self._column, trailing))
            self.notes[nodes[0]] = notes
            return nodes
        elif word == "DECORATED":
            return self._decorated(notes)
        elif word in OPENING_FORMS:
            raise self.error("a statement")
        else:
            nodes = [self._expression_statement()]
        notes.trailing = self._end_line(simple=True)
        if nodes:
            self.notes[nodes[0]] = notes
        return nodes

    # Lines
    def _take_break(self) -> str | None:
        """Continues to the next line, if at the end of one; returns the comment there."""
        token = self._peek()
        if token.kind != "break":
            return None
        self._advance()
        line: Break = token.value
        self._pending += line.notes
        self._column = line.indent
        return line.trailing

    def _take_notes(self, column: int | None = None) -> list[str | None]:
        """Takes pending comments; with ``column``, only the first ones indented at least so far."""
        count = len(self._pending)
        if column is not None:
            notes = enumerate(self._pending)
            count = next((i for i, (at, note) in notes if note is not None and at < column), count)
            while count and self._pending[count - 1][1] is None:
                count -= 1  # blank lines belong to what follows
        taken = [note for _, note in self._pending[:count]]
        del self._pending[:count]
        return taken

    def _line_has_ended(self) -> bool:
        return self._tokens[self._here - 1].kind == "break"

    def _end_line(self, simple: bool) -> str | None:
        """The end of a statement, with the comment on its line."""
        if self._line_has_ended():
            return None
        separated = self._take(";") or not simple
        if self._peek().kind == "break":
            return self._take_break()
        if not (separated or self._at_block_end() or self._peek().kind == "end"):
            raise self.error("the end of the statement")
        return None

    def _at_block_end(self) -> bool:
        return self._at("}") or self._opening() == "END"

    def _opening(self) -> str | None:
        """The next token's keyword, if it is one only at the start of a statement."""
        token = self._peek()
        word = OPENING_FORMS.get(token.value) if token.kind == "name" else None
        if word is None:
            return None
        following = self._peek_after()
        if following.kind == "op" and following.value in NAME_FOLLOWERS:
            only_colon = following.value == ":" and self._peek_after(2).kind == "break"
            return word if only_colon else None
        return word

    # Blocks

    def _block(
        self, read: Callable[[], list[Any]] | None = None, into: Notes | None = None
    ) -> Block:
        """A block of items that ``read`` reads; ``into`` gets the comment on the header's line."""
        read = read or self.statement
        column = self._column
        self._take("THEN")
        if self._take("{"):
            closed, at_end = True, lambda: self._at("}")
        elif self._take("BEGIN"):
            closed, at_end = True, lambda: self._opening() == "END"
        else:
            self._take(":")
            closed, at_end = False, lambda: self._column < inner
            if self._peek().kind != "break":
                raise self.error("a block")
        trailing = self._take_break()
        if trailing is not None:
            if into is None:
                self._pending.insert(0, (self._column, trailing))
            else:
                into.trailing = trailing
        inner = self._column
        if not closed and inner <= column:
            raise self.error("an indented block")
        items: list[Any] = []
        while not at_end():
            if self._peek().kind == "end":
                raise self.error("the end of the block")
            if not closed and self._column != inner:
                raise self.error("the indentation of the line before")
            items += read()
        self._close_block(items, None if closed else inner)
        return Block(items, column, closed)

    def _close_block(self, items: list[Any], column: int | None) -> None:
        after = self._take_notes(column)
        if column is None:
            self._advance()
            while after and after[-1] is None:
                after.pop()
        if items and items[-1] in self.notes:
            self.notes[items[-1]].after = after
        else:
            self._pending[:0] = [(0, note) for note in after]

    def _statements(self, into: Notes | None = None) -> tuple[list[ast.stmt], Block]:
        """A block of statements; an empty one passes."""
        block = self._block(into=into)
        return block.items or [ast.Pass()], block

    def _clause(self, block: Block, *words: str, after: int = 0) -> bool:
        """Whether a clause follows a block; if so, the next token is its keyword."""
        at = self._here
        if block.closed and self._tokens[at].kind == "break":
            at += 1
        elif not block.closed and self._column != block.column:
            return False
        token = self._tokens[min(at + after, len(self._tokens) - 1)]
        if token.kind == "key":
            word = token.value
        else:
            word = OPENING_FORMS.get(token.value) if token.kind == "name" else None
        if word not in words:
            return False
        self._take_break()
        return True

    # Statements of one line

    def _expression_statement(self) -> ast.stmt:
        token = self._peek()
        if token.kind == "block":
            self._advance()
            return ast.Expr(ast.Constant(token.value))
        first = self.expression_list()
        if self._at(":"):
            return self._annotated(first, token)
        if self._peek().kind == "op" and self._peek().value in _AUGMENTED:
            self._check_single(first, token)
            operator = _AUGMENTED[self._advance().value]
            return ast.AugAssign(first, operator(), self.expression_list())  # type: ignore[arg-type]
        parts = [first]
        while self._at("="):
            self.check_target(parts[-1], token)
            self._advance()
            parts.append(self.expression_list())
        return ast.Assign(parts[:-1], parts[-1]) if len(parts) > 1 else ast.Expr(first)

    def _check_single(self, node: ast.expr, token: Token) -> None:
        if not isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            raise self.error("one variable, attribute or item to assign to", token)

    def _annotated(self, target: ast.expr, token: Token) -> ast.stmt:
        self._check_single(target, token)
        self._advance()
        annotation = self.expression(Level.YIELD)
        value = self.expression_list() if self._take("=") else None
        simple = isinstance(target, ast.Name) and token.value != "("
        return ast.AnnAssign(target, annotation, value, int(simple))  # type: ignore[arg-type]

    def _is_embedded_statement(self) -> bool:
        following = self._peek_after(4)
        return following.kind in ("break", "end") or following.value in (";", "}")

    def _embedded_statements(self) -> list[ast.stmt]:
        self._advance()
        token = self._peek()
        try:
            return ast.parse(self._embedded_source()).body
        except (SyntaxError, ValueError):
            raise self.error(f"{EMBEDDED} with Python", token) from None

    def _names(self) -> list[str]:
        return self._separated(self._identifier)

    def _return(self) -> ast.stmt:
        return ast.Return(None if self._ends_expression() else self.expression_list())

    def _raise(self) -> ast.stmt:
        if self._ends_expression():
            return ast.Raise(None, None)
        error = self.expression()
        return ast.Raise(error, self.expression() if self._take("FROM") else None)

    def _assert(self) -> ast.stmt:
        test = self.expression()
        return ast.Assert(test, self.expression() if self._take(",") else None)

    def _delete(self) -> ast.stmt:
        token = self._peek()
        targets = self._separated(self.expression)
        for target in targets:
            self.check_target(target, token)
        return ast.Delete(targets)

    def _aliases(self) -> list[ast.alias]:
        return self._separated(self._alias)

    def _alias(self) -> ast.alias:
        name = self._dotted()
        return ast.alias(name, self._identifier() if self._take("AS") else None)

    def _dotted(self) -> str:
        parts = [self._identifier("the name of a module")]
        while self._take("."):
            parts.append(self._identifier("the name of a module"))
        return ".".join(parts)

    def _import_from(self) -> ast.stmt:
        level = 0
        while self._at(".", "..."):
            level += len(self._advance().value)
        bare = level > 0 and self._opening() == "USE"
        module = None if bare else self._dotted()
        if self._opening() != "USE":
            raise self.error("USE")
        self._advance()
        names = [ast.alias("*")] if self._take("*") else self._aliases()
        return ast.ImportFrom(module, names, level)

    def _type_alias(self) -> ast.stmt:
        make = self._of_new_python("TypeAlias")
        name = ast.Name(self._identifier())
        parameters = self._type_parameters()
        self._expect("=")
        return make(name, parameters, self.expression())

    def _of_new_python(self, name: str) -> Callable[..., Any]:
        if not hasattr(ast, name):
            raise self.error("no type parameters, which this version of Python can't read")
        return getattr(ast, name)

    def _type_parameters(self) -> list[Any]:
        if not self._at("["):
            return []
        return self._in_brackets("[", "]", lambda: self._items("]", self._type_parameter))[0]

    def _type_parameter(self) -> Any:
        stars = self._advance().value if self._at("*", "**") else ""
        kind = {"": "TypeVar", "*": "TypeVarTuple", "**": "ParamSpec"}[stars]
        node = self._of_new_python(kind)(self._identifier())
        if not stars:
            node.bound = self.expression() if self._take(":") else None
        if self._take("="):
            node.default_value = self.expression()
        return node

    # Compound statements

    def _if(self, notes: Notes) -> ast.stmt:
        branches: list[tuple[ast.expr, list[ast.stmt], Notes]] = []
        orelse: list[ast.stmt] = []
        while True:
            test = self.expression(Level.WALRUS)
            body, block = self._statements(notes)
            branches.append((test, body, notes))
            if self._clause(block, "ELSIF"):
                notes = Notes(self._advance().start)
                continue
            if not self._clause(block, "ELSE"):
                break
            token = self._advance()
            if not self._at("IF") or self._line_has_ended():
                orelse, _ = self._statements()
                break
            self._advance()
            notes = Notes(token.start)
        for test, body, note in reversed(branches):
            node = ast.If(test, body, orelse)
            self.notes[node] = note
            orelse = [node]
        return orelse[0]

    def _for(self, notes: Notes) -> ast.stmt:
        if self._at("EACH") and self._symbol(1) != "FROM":
            self._advance()
        target = self.target()
        if self._take("FROM"):
            source = self._span()
        else:
            self._expect("IN")
            source = self.expression_list()
        body, block = self._statements(notes)
        return ast.For(target, source, body, self._loop_else(block))

    def _span(self) -> ast.expr:
        """FROM a TO b (EXCLUSIVE) STEP s; without EXCLUSIVE, b is included."""
        start = self.expression()
        self._expect("TO")
        stop = self.expression()
        exclusive = self._at("(") and self._symbol(1) == "EXCLUSIVE"
        if exclusive:
            self._in_brackets("(", ")", self._advance)
        step = self.expression() if self._take("STEP") else None
        if not exclusive:
            down = isinstance(step, ast.UnaryOp) and isinstance(step.op, ast.USub)
            stop = ast.BinOp(stop, ast.Sub() if down else ast.Add(), ast.Constant(1))
        arguments = [start, stop, step] if step else [start, stop]
        is_zero = isinstance(start, ast.Constant) and start.value == 0 and type(start.value) is int
        if step is None and is_zero:
            arguments = [stop]
        return ast.Call(ast.Name("range"), arguments, [])  # type: ignore[arg-type]

    def _loop_else(self, block: Block) -> list[ast.stmt]:
        if not self._clause(block, "LOOP_NOT_BROKEN", after=2):
            return []
        self._advance()
        self._in_brackets("(", ")", self._advance)
        return self._statements()[0]

    def _while(self, notes: Notes) -> ast.stmt:
        test = self.expression(Level.WALRUS)
        body, block = self._statements(notes)
        return ast.While(test, body, self._loop_else(block))

    def _do(self, notes: Notes) -> ast.stmt:
        body, block = self._statements(notes)
        if has_continue(body):
            # It would go to the condition, which is at the end of Python's loop.
            do = Token("name", self._text[notes.start : notes.start + 2], notes.start)
            raise self.error("no CONTINUE in this loop, which Python has no form for", do)
        if not self._clause(block, "WHILE"):
            raise self.error("WHILE with the condition of DO")
        start = self._advance().start
        last = ast.If(negated(self.expression(Level.WALRUS)), [ast.Break()], [])
        self.notes[last] = Notes(start, trailing=self._end_line(simple=True))
        return ast.While(ast.Constant(True), [*body, last], [])

    def _try(self, notes: Notes) -> ast.stmt:
        body, block = self._statements(notes)
        handlers: list[ast.ExceptHandler] = []
        group = False
        while self._clause(block, "CATCH"):
            self._advance()
            group = self._take("GROUP") or group
            kind, name = None, None
            if self._at("("):
                kind, name = self._in_brackets("(", ")", self._caught)
            caught, block = self._statements()
            handlers.append(ast.ExceptHandler(kind, name, caught))
        orelse: list[ast.stmt] = []
        final: list[ast.stmt] = []
        if self._clause(block, "ELSE"):
            self._advance()
            orelse, block = self._statements()
        if self._clause(block, "FINALLY"):
            self._advance()
            final, block = self._statements()
        if not handlers and not final:
            raise self.error("CATCH or FINALLY")
        return (ast.TryStar if group else ast.Try)(body, handlers, orelse, final)

    def _caught(self) -> tuple[ast.expr, str | None]:
        kind = self.expression_list()
        return kind, self._identifier() if self._take("AS") else None

    def _using(self, notes: Notes) -> ast.stmt:
        items, _ = self._in_brackets("(", ")", lambda: self._items(")", self._using_item))
        return ast.With(items, self._statements(notes)[0])

    def _using_item(self) -> ast.withitem:
        value = self.expression(Level.WALRUS)
        token = self._peek()
        if not self._take("AS"):
            return ast.withitem(value, None)
        target = self.expression(Level.BIT_OR)
        self.check_target(target, token)
        return ast.withitem(value, target)

    def _match(self, notes: Notes) -> ast.stmt:
        subject = self.expression_list()
        block = self._block(self._case, notes)
        if not block.items:
            raise self.error("a CASE in the block before")
        return ast.Match(subject, block.items)

    def _case(self) -> list[ast.match_case]:
        start, before = self._peek().start, self._take_notes()
        if self._opening() != "CASE":
            raise self.error("CASE")
        self._advance()
        pattern = self.pattern()
        guard = self.expression(Level.WALRUS) if self._take("WHERE") else None
        body, _ = self._statements()
        self._end_line(simple=False)
        case = ast.match_case(pattern, guard, body)
        self.notes[case] = Notes(start, before)
        return [case]

    def _async(self, notes: Notes) -> ast.stmt:
        word = self._peek().value if self._peek().kind == "key" else self._opening()
        if word not in ("FOR", "USING", "FUNCTION"):
            raise self.error("FUNCTION, FOR EACH or USING")
        self._advance()
        node: Any = self._compound[word](notes)
        kind = {"FOR": ast.AsyncFor, "USING": ast.AsyncWith, "FUNCTION": ast.AsyncFunctionDef}[word]
        return kind(**{name: getattr(node, name) for name in node._fields if hasattr(node, name)})

    def _function(self, notes: Notes) -> ast.stmt:
        name = self._identifier()
        type_parameters = self._type_parameters()
        parameters = self._in_brackets("(", ")", lambda: self.parameters(")", True))
        returns = self.expression() if self._take("RETURNS") else None
        body, _ = self._statements(notes)
        node: Any = ast.FunctionDef(name, parameters, body, [], returns)
        node.type_params = type_parameters
        return node

    def _class(self, notes: Notes) -> ast.stmt:
        name = self._identifier()
        type_parameters = self._type_parameters()
        bases, keywords = self.arguments("{") if self._take("EXTENDS") else ([], [])
        body, _ = self._statements(notes)
        node: Any = ast.ClassDef(name, bases, keywords, body, [])
        node.type_params = type_parameters
        return node

    def _decorated(self, notes: Notes) -> list[ast.stmt]:
        decorators: list[ast.expr] = []
        while self._opening() == "DECORATED":
            self._advance()
            self._expect("BY")
            decorators.append(self.expression(Level.WALRUS))
            trailing = self._end_line(simple=True)
            if trailing is not None:
                notes.before.append(trailing)
            notes.before += [note for note in self._take_notes() if note is not None]
        if not (self._at("CLASS", "ASYNC") or self._opening() == "FUNCTION"):
            raise self.error("FUNCTION or CLASS after DECORATED BY")
        [node] = self.statement()
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            raise self.error("FUNCTION or CLASS after DECORATED BY")
        node.decorator_list = decorators
        self.notes[node].before[:0] = notes.before
        return [node]
