r"""The tokens of a stretch of code, and how its brackets nest.

CPython's own ``tokenize`` does the work. Comments and blank lines are left out, and an f-string,
which Python 3.12 cuts into parts, is one token as before, so that all versions of Python give the
same. Positions are (line, column), both from 0, columns in characters.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_LEFT_OUT = frozenset(
    {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
        tokenize.ENCODING,
    }
)
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
    """What stands between two brackets: the tokens ``start`` and ``end`` are the brackets.

    Attributes:
        start, end: the brackets' tokens.
        items: the tokens and groups right inside it.
    """

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
