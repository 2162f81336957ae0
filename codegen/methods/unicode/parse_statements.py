"""Programs and compound statements: tokens of UniCode -> Python's AST, with the comments."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from codegen.methods.unicode.do_while import has_continue, negated
from codegen.methods.unicode.parse_blocks import Block, Notes
from codegen.methods.unicode.parse_simple import SimpleParser
from codegen.methods.unicode.words import EMBEDDED, OPENING_FORMS, Level


class Parser(SimpleParser):
    """Reads a program. ``last_notes`` holds the comments after the last statement."""

    def __init__(self, text: str, lower: bool | None = None) -> None:
        super().__init__(text, lower)
        self.last_notes: list[str | None] = []
        self._current = Notes(0)  # of the statement being read
        self._compound: dict[str, Callable[[], ast.stmt]] = {
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
        self._current = notes
        token = self._peek()
        word = token.value if token.kind == "key" else self._opening()
        if word == EMBEDDED and self._is_embedded_statement():
            nodes = self._embedded_statements()
        elif word in self._simple:
            self._advance()
            nodes = [self._simple[word]()]
        elif word in self._compound:
            nodes = [self._compound[word]()]
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

    def _if(self) -> ast.stmt:
        tests: list[ast.expr] = []
        bodies: list[list[ast.stmt]] = []
        notes: list[Notes] = [self._current]
        orelse: list[ast.stmt] = []
        while True:
            self._advance()
            tests.append(self.expression(Level.WALRUS))
            body, block = self._statements(notes[-1])
            bodies.append(body)
            if self._clause(block, "ELSIF"):
                notes.append(Notes(self._peek().start))
                continue
            if not self._clause(block, "ELSE"):
                break
            token = self._advance()
            if self._at_key("IF") and not self._line_has_ended():
                notes.append(Notes(token.start))
                continue
            orelse, _ = self._statements()
            break
        for test, body, note in reversed(list(zip(tests, bodies, notes, strict=True))):
            node = ast.If(test, body, orelse)
            self.notes[node] = note
            orelse = [node]
        return orelse[0]

    def _for(self) -> ast.stmt:
        notes = self._current
        self._advance()
        if self._at_inner("EACH") and not self._key_follows("FROM"):
            self._advance()
        target = self.target()
        if self._take_key("FROM"):
            source = self._span()
        else:
            self._expect_key("IN")
            source = self.expression_list()
        body, block = self._statements(notes)
        return ast.For(target, source, body, self._loop_else(block))

    def _span(self) -> ast.expr:
        """FROM a TO b (EXCLUSIVE) STEP s, or without EXCLUSIVE, where b itself is meant too."""
        start = self.expression()
        self._expect_inner("TO")
        stop = self.expression()
        exclusive = self._at_op("(") and self._key_follows("EXCLUSIVE")
        if exclusive:
            self._in_brackets("(", ")", self._advance)
        step = self.expression() if self._take_inner("STEP") else None
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

    def _while(self) -> ast.stmt:
        notes = self._current
        self._advance()
        test = self.expression(Level.WALRUS)
        body, block = self._statements(notes)
        return ast.While(test, body, self._loop_else(block))

    def _do(self) -> ast.stmt:
        do = self._advance()
        body, block = self._statements(self._current)
        if has_continue(body):
            # It would go to the condition, which Python's loop has at its end.
            raise self.error("no CONTINUE in this loop, which Python has no form for", do)
        if not self._clause(block, "WHILE"):
            raise self.error("WHILE with the condition of DO")
        start = self._advance().start
        last = ast.If(negated(self.expression(Level.WALRUS)), [ast.Break()], [])
        self.notes[last] = Notes(start, trailing=self._end_line(simple=True))
        return ast.While(ast.Constant(True), [*body, last], [])

    def _try(self) -> ast.stmt:
        notes = self._current
        self._advance()
        body, block = self._statements(notes)
        handlers: list[ast.ExceptHandler] = []
        group = False
        while self._clause(block, "CATCH"):
            self._advance()
            group = self._take_inner("GROUP") or group
            kind, name = None, None
            if self._at_op("("):
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
        return kind, self._identifier() if self._take_key("AS") else None

    def _using(self) -> ast.stmt:
        notes = self._current
        self._advance()
        items, _ = self._in_brackets("(", ")", lambda: self._items(")", self._using_item))
        return ast.With(items, self._statements(notes)[0])

    def _using_item(self) -> ast.withitem:
        value = self.expression(Level.WALRUS)
        token = self._peek()
        if not self._take_key("AS"):
            return ast.withitem(value, None)
        target = self.expression(Level.BIT_OR)
        self.check_target(target, token)
        return ast.withitem(value, target)

    def _match(self) -> ast.stmt:
        notes = self._current
        self._advance()
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
        guard = self.expression(Level.WALRUS) if self._take_inner("WHERE") else None
        body, _ = self._statements()
        self._end_line(simple=False)
        case = ast.match_case(pattern, guard, body)
        self.notes[case] = Notes(start, before)
        return [case]

    def _async(self) -> ast.stmt:
        self._advance()
        word = self._peek().value if self._peek().kind == "key" else self._opening()
        if word not in ("FOR", "USING", "FUNCTION"):
            raise self.error("FUNCTION, FOR EACH or USING")
        node: Any = self._compound[word]()
        kind = {"FOR": ast.AsyncFor, "USING": ast.AsyncWith, "FUNCTION": ast.AsyncFunctionDef}[word]
        return kind(**{name: getattr(node, name) for name in node._fields if hasattr(node, name)})

    def _function(self) -> ast.stmt:
        notes = self._current
        self._advance()
        name = self._identifier()
        type_parameters = self._type_parameters()
        parameters = self._in_brackets("(", ")", lambda: self.parameters(")", True))
        returns = self.expression() if self._take_inner("RETURNS") else None
        body, _ = self._statements(notes)
        node = ast.FunctionDef(name, parameters, body, [], returns)
        return _with_type_parameters(node, type_parameters)

    def _class(self) -> ast.stmt:
        notes = self._current
        self._advance()
        name = self._identifier()
        type_parameters = self._type_parameters()
        bases, keywords = self.arguments("{") if self._take_inner("EXTENDS") else ([], [])
        body, _ = self._statements(notes)
        node = ast.ClassDef(name, bases, keywords, body, [])
        return _with_type_parameters(node, type_parameters)

    def _decorated(self, notes: Notes) -> list[ast.stmt]:
        decorators: list[ast.expr] = []
        while self._opening() == "DECORATED":
            self._advance()
            self._expect_inner("BY")
            decorators.append(self.expression(Level.WALRUS))
            trailing = self._end_line(simple=True)
            if trailing is not None:
                notes.before.append(trailing)
            notes.before += [note for note in self._take_notes() if note is not None]
        if not (self._at_key("CLASS", "ASYNC") or self._opening() == "FUNCTION"):
            raise self.error("FUNCTION or CLASS after DECORATED BY")
        [node] = self.statement()
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            raise self.error("FUNCTION or CLASS after DECORATED BY")
        node.decorator_list = decorators
        self.notes[node].before[:0] = notes.before
        return [node]


def _with_type_parameters(node: Any, parameters: Sequence[Any]) -> Any:
    node.type_params = list(parameters)
    return node
