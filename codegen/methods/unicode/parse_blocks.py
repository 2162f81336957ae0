"""Lines, blocks and comments of UniCode.

A block is what is between ``{`` and ``}``, between ``BEGIN`` and ``END``, or indented more than its
header; so one grammar reads all styles.
"""

from __future__ import annotations

import abc
import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from codegen.methods.unicode.lexer import Break
from codegen.methods.unicode.parse_patterns import PatternParser
from codegen.methods.unicode.words import NAME_FOLLOWERS, OPENING_FORMS


@dataclass(slots=True)
class Notes:
    """What belongs to a statement, but is not in the tree.

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


class BlockParser(PatternParser, abc.ABC):
    """Reads blocks. ``notes`` holds what the tree does not, by statement."""

    def __init__(self, text: str, lower: bool | None = None) -> None:
        super().__init__(text, lower)
        self.notes: dict[ast.AST, Notes] = {}
        self._pending: list[tuple[int, str | None]] = []
        self._column = 0  # where the current line begins

    @abc.abstractmethod
    def statement(self) -> list[ast.stmt]:
        """One statement, or those of one embedding, and the end of its line."""

    def _take_break(self) -> str | None:
        """Goes on to the next line, if at the end of one; returns the comment that ended it."""
        token = self._peek()
        if token.kind != "break":
            return None
        self._advance()
        line: Break = token.value
        self._pending += line.notes
        self._column = line.indent
        return line.trailing

    def _take_notes(self, column: int | None = None) -> list[str | None]:
        """Removes pending comments; with ``column``, the first ones that are indented so far."""
        count = len(self._pending)
        if column is not None:
            notes = enumerate(self._pending)
            outside = next(
                (i for i, (at, note) in notes if note is not None and at < column), count
            )
            count = outside
        while count and self._pending[count - 1][1] is None and column is not None:
            count -= 1  # blank lines belong to what follows
        taken = [note for _, note in self._pending[:count]]
        del self._pending[:count]
        return taken

    def _line_has_ended(self) -> bool:
        return self._tokens[self._at - 1].kind == "break"

    def _end_line(self, simple: bool) -> str | None:
        """The end of a statement, with the comment on its line."""
        if self._line_has_ended():
            return None
        separated = self._take_op(";") or not simple
        if self._peek().kind == "break":
            return self._take_break()
        if not (separated or self._at_block_end() or self._peek().kind == "end"):
            raise self.error("the end of the statement")
        return None

    def _at_block_end(self) -> bool:
        return self._at_op("}") or self._opening() == "END"

    def _opening(self) -> str | None:
        """The keyword that the next token is, if it is one at the start of a statement only."""
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
        """A block, whose items ``read`` reads; a comment on its header's line goes ``into``."""
        read = read or self.statement
        column = self._column
        self._take_inner("THEN")
        if self._take_op("{"):
            closed, at_end = True, lambda: self._at_op("}")
        elif self._take_inner("BEGIN"):
            closed, at_end = True, lambda: self._opening() == "END"
        else:
            self._take_op(":")
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
        """Whether a clause goes on after a block; if so, the next token is its keyword."""
        at = self._at
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
