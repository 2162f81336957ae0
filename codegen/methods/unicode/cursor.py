"""A place in the tokens of a text: looking ahead, taking tokens, saying what was expected."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import TypeVar

from codegen.methods.unicode.errors import UniCodeSyntaxError
from codegen.methods.unicode.lexer import Token, lex, location
from codegen.methods.unicode.words import INNER_FORMS

Item = TypeVar("Item")


class TokenCursor:
    """Takes tokens one by one; the parsers extend it."""

    def __init__(self, text: str, lower: bool | None = None) -> None:
        self._text = text
        self._tokens = lex(text)
        self._at = 0
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
        while self._brackets and self._tokens[self._at].kind == "break":
            self._at += 1

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _peek_after(self, count: int = 1) -> Token:
        at = self._at
        for _ in range(count):
            at = min(at + 1, len(self._tokens) - 1)
            while self._brackets and self._tokens[at].kind == "break":
                at += 1
        return self._tokens[at]

    def _advance(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
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

    def _at_op(self, *symbols: str) -> bool:
        token = self._tokens[self._at]
        return token.kind == "op" and token.value in symbols

    def _at_key(self, *words: str) -> bool:
        token = self._tokens[self._at]
        return token.kind == "key" and token.value in words

    def _at_inner(self, word: str) -> bool:
        """Whether the next token is a keyword that is one only in this place."""
        token = self._tokens[self._at]
        return token.kind == "name" and INNER_FORMS.get(token.value) == word

    def _key_follows(self, word: str, distance: int = 1) -> bool:
        token = self._peek_after(distance)
        return token.kind == "key" and token.value == word

    def _take_op(self, symbol: str) -> bool:
        if self._at_op(symbol):
            self._advance()
            return True
        return False

    def _take_key(self, word: str) -> bool:
        if self._at_key(word):
            self._advance()
            return True
        return False

    def _take_inner(self, word: str) -> bool:
        if self._at_inner(word):
            self._advance()
            return True
        return False

    def _expect_op(self, symbol: str) -> None:
        if not self._take_op(symbol):
            raise self.error(f"'{symbol}'")

    def _expect_key(self, word: str) -> None:
        if not self._take_key(word):
            raise self.error(word)

    def _expect_inner(self, word: str) -> None:
        if not self._take_inner(word):
            raise self.error(word)

    def _ends_expression(self) -> bool:
        return self._peek().kind in ("break", "end") or self._at_op(")", "]", "}", ";", ",")

    def _identifier(self, what: str = "a name") -> str:
        token = self._peek()
        if token.kind not in ("name", "escaped"):
            raise self.error(what)
        if not token.value.isidentifier() or keyword.iskeyword(token.value):
            raise self.error("an identifier of Python")
        self._advance()
        return token.value

    def _in_brackets(self, opening: str, closing: str, read: Callable[[], Item]) -> Item:
        """What ``read`` gives between brackets, where ends of lines do not count."""
        self._brackets += 1
        self._expect_op(opening)
        item = read()
        self._brackets -= 1
        if not self._at_op(closing):
            raise self.error(f"'{closing}'")
        self._advance()
        return item

    def _items(self, closing: str, read: Callable[[], Item]) -> tuple[list[Item], bool]:
        """Items between commas up to a closing bracket, and whether a comma ends them."""
        items: list[Item] = []
        comma = False
        while not self._at_op(closing):
            items.append(read())
            comma = self._take_op(",")
            if not comma:
                break
        return items, comma
