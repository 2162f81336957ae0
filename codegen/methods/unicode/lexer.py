r"""UniCode text -> tokens; reading and writing of constants and comments.

Text is in double quotes with the escapes ``\n \t \r \\ \" \xHH \uHHHH \UHHHHHHHH``; printable
characters of any script are not escaped. A multi-line text that is a statement (a docstring) is
written raw between ``/*`` and ``*/``.

The token of a line break holds the comments and blank lines there; the parser keeps them, or skips
the token inside brackets. A template (``$"..."``) is a sequence of tokens: begin, text and fields,
end. Time is linear in the length of the text.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from codegen.errors import CodegenError
from codegen.methods.unicode.words import INNER_FORMS, RESERVED_FORMS


class UniCodeSyntaxError(CodegenError):
    """A text is not UniCode, or has no equivalent Python program.

    Attributes:
        line, column: the place, both from 1.
        detail: what was found and what was expected.
    """

    reason = "unicode_syntax"

    def __init__(self, line: int, column: int, detail: str) -> None:
        self.line = line
        self.column = column
        self.detail = detail
        super().__init__(f"UniCode, line {line}, column {column}: {detail}")

    def __reduce__(self) -> tuple[type, tuple[int, int, str]]:
        return type(self), (self.line, self.column, self.detail)


# --- constants -----------------------------------------------------------------------------------


_SIMPLE = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", '"': '\\"'}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL
)
_UNSIMPLE = {
    "n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b",
    "f": "\f", "v": "\v", "\n": "",
}  # fmt: skip
HUGE = 1 << 4096  # below CPython's limit on converting int to decimal text


def escape(text: str) -> str:
    """Escapes a text for double quotes."""
    if text.isprintable():
        return text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if character in _SIMPLE:
        return _SIMPLE[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unescape(text: str) -> str:
    """Resolves escapes as Python does; an unknown one is kept.

    Raises:
        ValueError: for a code point beyond Unicode.
    """
    return _ESCAPE.sub(_unescape_match, text) if "\\" in text else text


def _unescape_match(match: re.Match[str]) -> str:
    two, four, eight, octal, other = match.groups()
    if digits := two or four or eight:
        return chr(int(digits, 16))
    return chr(int(octal, 8)) if octal else _UNSIMPLE.get(other, "\\" + other)


def quote_bytes(value: bytes) -> str:
    """A bytes literal."""
    return 'b"' + escape(value.decode("latin-1")).translate(_HIGH) + '"'


_HIGH = {code: f"\\x{code:02x}" for code in range(0x80, 0x100)}


def number(value: float | complex) -> str:
    """A number literal; an integer too long for decimal is in hexadecimal, as Python needs it."""
    if isinstance(value, int):
        return str(value) if value < HUGE else hex(value)
    # A float from source is never negative; one too large to hold is infinite.
    return repr(value).replace("inf", "1e309")


def read_number(text: str) -> float | complex:
    """The value of a number literal.

    Raises:
        ValueError: if it is none.
    """
    digits = text.lower()
    if digits.startswith(("0x", "0o", "0b")) or not any(mark in digits for mark in ".ej"):
        return int(digits, 0)
    return complex(0.0, float(digits[:-1])) if digits.endswith("j") else float(digits)


def block_comment(text: str) -> str | None:
    """A text between ``/*`` and ``*/``, or None if it could not be read back."""
    if "*/" in text or not text.replace("\n", "").replace("\t", "").isprintable():
        return None
    before = "" if text[:1] in ("", "\n") else " "
    after = "" if not text or _ends_in_blank_line(text) else " "
    return f"/*{before}{text}{after}*/"


def read_block_comment(block: str) -> str:
    """The text of a block comment."""
    text = block[2:-2].removeprefix(" ")
    return text if _ends_in_blank_line(text) else text.removesuffix(" ")


def _ends_in_blank_line(text: str) -> bool:
    _, newline, last = text.rpartition("\n")
    return bool(newline) and not last.strip()


# --- tokens --------------------------------------------------------------------------------------

# "name" is a name or a contextual keyword; "escaped" a name in backticks; "key" a reserved word.
Kind = Literal[
    "name", "escaped", "key", "op", "constant", "u_text", "block", "break", "end",
    "template", "template_text", "field", "conversion", "spec", "field_end", "template_end",
]  # fmt: skip


@dataclass(slots=True)
class Break:
    """A break between two lines of code.

    Attributes:
        trailing: the comment at the end of the line before, without the ``//``.
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
        UniCodeSyntaxError: for text that is not a token.
    """
    return list(Lexer(text).tokens())


def writes_lower_case(text: str) -> bool | None:
    """Whether the first reserved word of a text is in lower case; None if it has none."""
    for token in Lexer(text).tokens():
        if token.kind == "key":
            return text[token.start].islower()
    return None


class Lexer:
    """Splits a text into tokens."""

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
        """Text and fields of a template or a format spec, up to but without ``end``."""
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


# --- position in the tokens ---------------------------------------------------------------------

Item = TypeVar("Item")


class TokenCursor:
    """Takes tokens one by one; the parsers extend it."""

    def __init__(self, text: str, lower: bool | None = None) -> None:
        self._text = text
        self._tokens = lex(text)
        self._here = 0
        self._brackets = 0
        if lower is None:
            first = next((token for token in self._tokens if token.kind == "key"), None)
            lower = first is not None and text[first.start].islower()
        self._lower = lower

    @property
    def offset(self) -> int:
        """Where in the text the parser is."""
        return self._peek().start

    # Tokens

    def _skip_breaks(self) -> None:
        while self._brackets and self._tokens[self._here].kind == "break":
            self._here += 1

    def _peek(self) -> Token:
        return self._tokens[self._here]

    def _peek_after(self, count: int = 1) -> Token:
        at = self._here
        for _ in range(count):
            at = min(at + 1, len(self._tokens) - 1)
            while self._brackets and self._tokens[at].kind == "break":
                at += 1
        return self._tokens[at]

    def _advance(self) -> Token:
        token = self._tokens[self._here]
        self._here += 1
        self._skip_breaks()
        return token

    def error(self, expected: str, token: Token | None = None) -> UniCodeSyntaxError:
        """A syntax error at a token."""
        token = token or self._peek()
        return UniCodeSyntaxError(
            *location(self._text, token.start), f"found {self._shown(token)}; expected {expected}."
        )

    def _shown(self, token: Token) -> str:
        match token.kind:
            case "end":
                return "the end of the text"
            case "break":
                return "the end of the line"
            case "key" | "name" | "escaped" | "op":
                return repr(str(token.value))
            case "constant" | "u_text":
                return f"the constant {repr(token.value)[:40]}"
        return f"a {token.kind.replace('_', ' ')}"

    def _symbol(self, distance: int = 0) -> str | None:
        """The operator or keyword ``distance`` tokens after the next one.

        A name counts as the keyword that it would be where a keyword can be.
        """
        token = self._peek_after(distance)
        if token.kind == "name":
            return INNER_FORMS.get(token.value)
        return token.value if token.kind in ("op", "key") else None

    def _at(self, *symbols: str) -> bool:
        """Whether the next token is one of these operators and keywords."""
        return self._symbol() in symbols

    def _take(self, symbol: str) -> bool:
        """Takes an operator or keyword if it is next."""
        if self._at(symbol):
            self._advance()
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._take(symbol):
            raise self.error(symbol if symbol.isalpha() else f"'{symbol}'")

    def _ends_expression(self) -> bool:
        return self._peek().kind in ("break", "end") or self._at(")", "]", "}", ";", ",")

    def _identifier(self, what: str = "a name") -> str:
        token = self._peek()
        if token.kind not in ("name", "escaped"):
            raise self.error(what)
        if not token.value.isidentifier() or keyword.iskeyword(token.value):
            raise self.error("an identifier of Python")
        self._advance()
        return token.value

    def _in_brackets(self, opening: str, closing: str, read: Callable[[], Item]) -> Item:
        """The result of ``read`` between brackets, where line ends are ignored."""
        self._brackets += 1
        self._expect(opening)
        item = read()
        self._brackets -= 1
        if not self._at(closing):
            raise self.error(f"'{closing}'")
        self._advance()
        return item

    def _separated(self, read: Callable[[], Item]) -> list[Item]:
        """One item or several between commas, none after the last."""
        items = [read()]
        while self._take(","):
            items.append(read())
        return items

    def _items(self, closing: str, read: Callable[[], Item]) -> tuple[list[Item], bool]:
        """Items between commas up to a closing bracket, and whether a comma ends them."""
        items: list[Item] = []
        comma = False
        while not self._at(closing):
            items.append(read())
            comma = self._take(",")
            if not comma:
                break
        return items, comma
