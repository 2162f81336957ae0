"""UniCode text -> tokens.

One token for each break between lines holds the comments and blank lines there, so that the parser
can keep them, or skip the token inside brackets. Templates (``$"..."``) come as a sequence: begin,
text and fields, end. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from codegen.methods.unicode.errors import UniCodeSyntaxError
from codegen.methods.unicode.literals import read_block_comment, read_number, unescape
from codegen.methods.unicode.words import RESERVED_FORMS

# "name" is a name or a contextual keyword; "escaped" a name in backticks; "key" a reserved word.
Kind = Literal[
    "name", "escaped", "key", "op", "constant", "u_text", "block", "break", "end",
    "template", "template_text", "field", "conversion", "spec", "field_end", "template_end",
]  # fmt: skip


@dataclass(slots=True)
class Break:
    """What stands between two lines of code.

    Attributes:
        trailing: the comment that ends the line before, if any, without the ``//``.
        notes: (column, comment) of each comment on its own line; None for blank lines.
        indent: the column where the next line of code begins.
    """

    trailing: str | None = None
    notes: list[tuple[int, str | None]] = field(default_factory=list)
    indent: int = 0


class Token(NamedTuple):
    """One token; ``start`` is its offset in the text."""

    kind: Kind
    value: Any
    start: int


_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\f\r]+)
  | (?P<newline>\n)
  | (?P<comment>//[^\n]*)
  | (?P<block>/\*.*?\*/)
  | (?P<unclosed>/\*)
  | (?P<template>\$")
  | (?P<text>[bu]?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
  | (?P<number>0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+
      |(?:\d[\d_]*(?:\.(?!\.)[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?[jJ]?)
  | (?P<assign>(?:DIV|MOD|XOR|div|mod|xor)=(?!=))
  | (?P<name>[^\W\d]\w*)
  | (?P<escaped>`[^`\n]+`)
  | (?P<op>\.\.\.|->|:=|\*\*|<<=|>>=|<<|>>|[<>=!+\-*/@&|^]=|[()\[\]{}.,:;=+\-*/^@&|~<>!])
    """,
    re.VERBOSE | re.DOTALL,
)
# Braces in the text of a template are doubled; in a format spec they are written \x7b and \x7d.
_TEMPLATE_TEXT = re.compile(r'(?:[^"\\{}\n]|\\.|\{\{|\}\})+', re.DOTALL)
_SPEC_TEXT = re.compile(r'(?:[^"\\{}\n]|\\.)+', re.DOTALL)
_OPEN = {"(": ")", "[": "]", "{": "}"}


def location(text: str, offset: int) -> tuple[int, int]:
    """The line and column, both from 1, of an offset."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def lex(text: str) -> list[Token]:
    """All tokens, between a first "break" and a last "end".

    Raises:
        UniCodeSyntaxError: for what can't be part of any token.
    """
    return list(Lexer(text).tokens())


def writes_lower_case(text: str) -> bool | None:
    """Whether the first reserved word of a text is in lower case; None if it has none."""
    for token in Lexer(text).tokens():
        if token.kind == "key":
            return text[token.start].islower()
    return None


class Lexer:
    """Reads tokens off a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._after_dot = False

    def tokens(self) -> Iterator[Token]:
        """The tokens in order."""
        yield from self._lines()
        yield Token("end", None, len(self._text))

    def _error(self, detail: str, offset: int) -> UniCodeSyntaxError:
        return UniCodeSyntaxError(*location(self._text, offset), detail)

    def _lines(self) -> Iterator[Token]:
        """Tokens outside templates, with the breaks between lines."""
        pending: Break | None = Break()
        pending_start = line_start = self._at
        blank = True  # nothing yet on this line
        trailing: str | None = None
        while self._at < len(self._text):
            start = self._at
            kind, value = self._next()
            if kind == "space":
                continue
            if kind == "newline":
                if pending is None:
                    pending, pending_start, trailing = Break(trailing), start, None
                elif blank:
                    pending.notes.append((0, None))
                blank, line_start = True, self._at
            elif kind == "comment":
                if pending is None:
                    trailing = value[2:]
                else:
                    pending.notes.append((start - line_start, value[2:]))
                blank = False
            else:
                if pending is not None:
                    pending.indent = start - line_start
                    yield Token("break", pending, pending_start)
                    pending = None
                blank = False
                yield from self._made(kind, value, start)
        yield Token("break", pending or Break(trailing), len(self._text))

    def _next(self) -> tuple[str, str]:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match.lastgroup == "unclosed":
            raise self._error(self._why_no_token(), self._at)
        self._at = match.end()
        return match.lastgroup or "", match[0]

    def _why_no_token(self) -> str:
        rest = self._text[self._at : self._at + 2]
        if rest[0] in "\"'`" or (rest[0] in "bu" and rest[1:] in ('"', "'")):
            return "a text or escaped name does not end on its line."
        if rest == "/*":
            return "a block comment is not closed; expected */."
        return f"unexpected character {rest[0]!r}."

    def _made(self, kind: str, value: str, start: int) -> Iterator[Token]:
        """The token or tokens of one match."""
        after_dot, self._after_dot = self._after_dot, value == "."
        if kind == "name":
            if value in RESERVED_FORMS and not after_dot:
                yield Token("key", RESERVED_FORMS[value], start)
            else:
                yield Token("name", value, start)
        elif kind in ("op", "assign"):
            yield Token("op", value, start)
        elif kind == "template":
            yield from self._template(start)
        else:
            yield self._literal(kind, value, start)

    def _literal(self, kind: str, value: str, start: int) -> Token:
        try:
            if kind == "number":
                return Token("constant", read_number(value), start)
            if kind == "escaped":
                return Token("escaped", value[1:-1], start)
            if kind == "block":
                return Token("block", read_block_comment(value), start)
            if value[0] == "b":
                return Token("constant", unescape(value[2:-1]).encode("latin-1"), start)
            if value[0] == "u":
                return Token("u_text", unescape(value[2:-1]), start)
            return Token("constant", unescape(value[1:-1]), start)
        except (ValueError, OverflowError) as error:
            raise self._error(f"bad constant ({error}).", start) from None

    # Templates

    def _template(self, start: int) -> Iterator[Token]:
        yield Token("template", None, start)
        yield from self._parts('"', _TEMPLATE_TEXT)
        self._at += 1
        yield Token("template_end", None, self._at - 1)

    def _parts(self, end: str, pattern: re.Pattern[str]) -> Iterator[Token]:
        """Text and fields up to, not including, ``end``: of a template or a format spec."""
        while True:
            start = self._at
            if match := pattern.match(self._text, start):
                self._at = match.end()
                text = match[0]
                if pattern is _TEMPLATE_TEXT:
                    text = text.replace("{{", "{").replace("}}", "}")
                yield Token("template_text", unescape(text), start)
            elif self._text.startswith(end, start):
                return
            elif self._text.startswith("{", start):
                yield from self._field(start)
            else:
                raise self._error(f"a template is not closed; expected {end}.", start)

    def _field(self, start: int) -> Iterator[Token]:
        self._at += 1
        yield Token("field", None, start)
        end = yield from self._field_code()
        if end == "!":
            conversion = self._text[self._at : self._at + 1]
            if conversion not in ("r", "s", "a"):
                raise self._error("expected a conversion: r, s or a.", self._at)
            yield Token("conversion", conversion, self._at)
            self._at += 1
            end = self._text[self._at : self._at + 1]
            self._at += 1
        if end == ":":
            yield Token("spec", None, self._at - 1)
            yield from self._parts("}", _SPEC_TEXT)
            self._at += 1
        elif end != "}":
            raise self._error("a field of a template is not closed; expected }.", self._at - 1)
        yield Token("field_end", None, self._at - 1)

    def _field_code(self) -> Generator[Token, None, str]:
        """The expression of a field; returns the "!", ":" or "}" after it."""
        closing: list[str] = []
        while True:
            start = self._at
            if start >= len(self._text):
                raise self._error("a field of a template is not closed; expected }.", start)
            kind, value = self._next()
            if kind in ("newline", "comment", "block"):
                raise self._error("a field of a template is not closed; expected }.", start)
            if kind == "op":
                if not closing and value[0] in "!:}" and value != "!=":
                    self._at = start + 1
                    return value[0]
                if value in _OPEN:
                    closing.append(_OPEN[value])
                elif closing and value == closing[-1]:
                    closing.pop()
            if kind != "space":
                yield from self._made(kind, value, start)
