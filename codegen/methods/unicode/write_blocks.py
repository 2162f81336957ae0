"""Lines, blocks and comments of UniCode, in each style."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from codegen.methods.unicode.comments import Comment, CommentQueue, first_line
from codegen.methods.unicode.facts import Facts, count_nodes
from codegen.methods.unicode.literals import escape
from codegen.methods.unicode.styles import Style
from codegen.methods.unicode.words import EMBEDDED
from codegen.methods.unicode.write_patterns import PatternWriter

INDENT = "    "


class BlockWriter(PatternWriter):
    """Writes bodies; each method ``_<node type>`` of a statement writes its lines.

    Attributes:
        lines: the result.
    """

    def __init__(self, style: Style, facts: Facts, comments: Sequence[Comment] = ()) -> None:
        super().__init__(style, facts)
        self.lines: list[str] = []
        self._comments = CommentQueue(list(comments))
        self._depth = 0
        self._source_line = 0  # the last line of the source that has been written
        self._block_start = True
        w = self._words
        self._open, self._close = {
            "braces": (" {", "}"),
            "begin_end": (f" {w['BEGIN']}", w["END"]),
            "indent": ("", ""),
        }[style.blocks]
        self._statements: dict[type[ast.AST], Callable[[Any, float], None]] = {
            kind: getattr(self, f"_{kind.__name__}")
            for kind in ast.stmt.__subclasses__()
            if hasattr(self, f"_{kind.__name__}")
        }

    def _line(self, text: str, comments: Sequence[Comment] = ()) -> None:
        trailing = "".join(f" //{comment.text}" for comment in comments[-1:])
        self.lines.append(INDENT * self._depth + text + trailing)
        self._block_start = False

    def _gap(self, line: int) -> None:
        """Keeps one of the blank lines before a line of the source."""
        if line - self._source_line > 1 and not self._block_start:
            self.lines.append("")

    def _notes(self, comments: Iterable[Comment]) -> None:
        for comment in comments:
            self._gap(comment.line)
            self._line("//" + comment.text)
            self._source_line = comment.line

    def _simple(self, node: ast.stmt, text: str, terminator: bool = True) -> None:
        """Writes a statement of one line, and the comments on its lines in the source."""
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

    def _notes_within(self, comments: Iterable[Comment]) -> None:
        """Comments between the lines of a statement stand before it."""
        for comment in comments:
            self._line("//" + comment.text)

    def _body(self, body: Sequence[ast.stmt], limit: float) -> None:
        """The statements of a block; what follows the block begins on line ``limit``."""
        starts = [first_line(node) for node in body]
        for node, start, following in zip(body, starts, [*starts, limit][1:], strict=True):
            self._notes(self._comments.before(start))
            self._gap(start)
            self._source_line = max(self._source_line, start - 1)
            self._statements.get(type(node), self._embedded_statement)(node, following)

    def _block(
        self, header: str, body: Sequence[ast.stmt], limit: float, *, joined: bool = False
    ) -> None:
        """A header and its block, still open; a ``joined`` one goes on after a closed block."""
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
        self._notes(self._comments.tail(body[0].col_offset, limit))
        self._depth -= 1
        self._block_start = False

    def _end_block(self) -> None:
        if self._close:
            self._line(self._close)

    def _whole_block(self, header: str, body: Sequence[ast.stmt], limit: float) -> None:
        self._block(header, body, limit)
        self._end_block()

    def _embedded_statement(self, node: ast.stmt, limit: float) -> None:
        self.uncovered[type(node).__name__] += count_nodes(node)
        text = f'{self._words[EMBEDDED]}("{escape(ast.unparse(node))}")'
        self._simple(node, text)
