"""The comments of a Python program, which its AST does not hold, and where they belong."""

from __future__ import annotations

import ast
import contextlib
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment; ``text`` is what follows the ``#``. Lines count from 1, columns from 0."""

    line: int
    column: int
    text: str
    own_line: bool


def read_comments(program: str) -> list[Comment]:
    """All comments in order.

    ``tokenize`` gives up on a few sources that the compiler takes; what comes after is left out.
    """
    comments: list[Comment] = []
    if "#" in program:
        with contextlib.suppress(tokenize.TokenError, IndentationError):
            comments.extend(_comments(program))
    return comments


def _comments(program: str) -> Iterator[Comment]:
    tokens = tokenize.generate_tokens(io.StringIO(program).readline)
    for kind, text, (line, column), _, source in tokens:
        if kind == tokenize.COMMENT:
            yield Comment(line, column, text[1:], not source[:column].strip())


def first_line(node: ast.AST) -> int:
    """The line on which a statement begins, decorators included."""
    decorators = getattr(node, "decorator_list", ())
    return min([getattr(node, "lineno", 0), *(item.lineno for item in decorators)])


class CommentQueue:
    """Hands out a program's comments as the writer passes them."""

    def __init__(self, comments: list[Comment]) -> None:
        self._comments = comments
        self._next = 0

    def before(self, line: float) -> list[Comment]:
        """Those that begin before a line and were not taken yet."""
        start = self._next
        while self._next < len(self._comments) and self._comments[self._next].line < line:
            self._next += 1
        return self._comments[start : self._next]

    def tail(self, column: int, line: float) -> list[Comment]:
        """Those after a block's last statement that are indented as the block is.

        Args:
            column: the block's indentation.
            line: where what follows the block begins.
        """
        start = self._next
        while self._next < len(self._comments):
            comment = self._comments[self._next]
            if comment.line >= line or comment.column < column:
                break
            self._next += 1
        return self._comments[start : self._next]

    def header(self, line: float) -> list[Comment]:
        """Those on the lines of a header whose block begins at ``line``.

        Comments on lines of their own after the last of them stay: they belong to the block.
        """
        start = end = self._next
        while end < len(self._comments) and self._comments[end].line < line:
            end += 1
        while end > start and self._comments[end - 1].own_line:
            end -= 1
        self._next = end
        return self._comments[start:end]
