"""Programs and compound statements: Python's AST -> UniCode."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from codegen.methods.unicode.comments import first_line
from codegen.methods.unicode.do_while import is_do_while, negated
from codegen.methods.unicode.words import Level
from codegen.methods.unicode.write_simple import SimpleWriter

_END = float("inf")


class StatementWriter(SimpleWriter):
    """Writes a module.

    Each method of a statement is given the line on which what follows the statement begins, to
    know which comments belong to its blocks.
    """

    def module(self, tree: ast.Module) -> None:
        """Writes a whole module."""
        self._body(tree.body, _END)
        self._notes(self._comments.before(_END))

    def _FunctionDef(self, node: Any, limit: float, prefix: str = "") -> None:
        w = self._words
        self._decorators(node)
        header = f"{prefix}{w['FUNCTION']} {self.name(node.name)}{self._type_parameters(node)}"
        header += f"({self.parameters(node.args)})"
        if node.returns:
            header += f" {w['RETURNS']} {self.expression(node.returns)}"
        self._whole_block(header, node.body, limit)

    def _AsyncFunctionDef(self, node: ast.AsyncFunctionDef, limit: float) -> None:
        self._FunctionDef(node, limit, prefix=f"{self._words['ASYNC']} ")

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
        while True:  # not a recursion, since ELSIFs nest in the tree
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

    def _For(self, node: Any, limit: float, prefix: str = "") -> None:
        w = self._words
        target = self.expression(node.target)
        following = first_line(node.orelse[0]) if node.orelse else limit
        span = None if prefix else self._span(node.iter)
        if span:
            header = f"{w['FOR']} {target} {w['FROM']} {span}"
        else:
            header = f"{w['FOR']} {w['EACH']} {target} {w['IN']} {self.expression(node.iter)}"
        self._whole_block(prefix + header, node.body, following)
        self._loop_else(node.orelse, limit)

    def _AsyncFor(self, node: ast.AsyncFor, limit: float) -> None:
        self._For(node, limit, prefix=f"{self._words['ASYNC']} ")

    def _span(self, node: ast.expr) -> str | None:
        """``range(...)`` as a span. ``range(0, n)`` is none, since ``range(n)`` is written so."""
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
        if is_do_while(node):
            return self._do_while(node, limit)
        following = first_line(node.orelse[0]) if node.orelse else limit
        header = f"{w['WHILE']} ({self.expression(node.test, Level.WALRUS)})"
        self._whole_block(header, node.body, following)
        self._loop_else(node.orelse, limit)
        return None

    def _do_while(self, node: ast.While, limit: float) -> None:
        """``while True`` with a last ``if c: break`` repeats while not c."""
        *body, last = node.body
        assert isinstance(last, ast.If)
        self._block(self._words["DO"], body, last.lineno)
        self._depth += 1
        self._notes(self._comments.before(last.lineno))
        comments = self._comments.tail(0, limit)
        if comments and comments[-1].own_line:
            self._notes_within(comments)
            comments = []
        else:
            self._notes_within(comments[:-1])
        self._depth -= 1
        prefix = f"{self._close} " if self._close else ""
        test = self.expression(negated(last.test), Level.WALRUS)
        self._line(f"{prefix}{self._words['WHILE']} ({test}){self.style.terminator}", comments)
        self._source_line = node.end_lineno or node.lineno

    def _loop_else(self, body: Sequence[ast.stmt], limit: float) -> None:
        if body:
            w = self._words
            self._whole_block(f"{w['IF']} ({w['LOOP_NOT_BROKEN']})", body, limit)

    def _With(self, node: Any, limit: float, prefix: str = "") -> None:
        w = self._words
        items = [self.expression(item.context_expr) for item in node.items]
        for number, item in enumerate(node.items):
            if item.optional_vars:
                items[number] += f" {w['AS']} {self.expression(item.optional_vars)}"
        self._whole_block(f"{prefix}{w['USING']} ({', '.join(items)})", node.body, limit)

    def _AsyncWith(self, node: ast.AsyncWith, limit: float) -> None:
        self._With(node, limit, prefix=f"{self._words['ASYNC']} ")

    def _Try(self, node: Any, limit: float, group: str = "") -> None:
        w = self._words
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

    def _TryStar(self, node: ast.TryStar, limit: float) -> None:
        self._Try(node, limit, group=f" {self._words['GROUP']}")

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
