"""Lexical analysis: the statement at a cursor, and edits that change how later text is read.

Text is read with the tables of :mod:`codegen.decoding.rpg.languages`. Offsets are in characters.

Limits: as for those tables; also, regular expressions and raw strings of languages other than
Python are not recognized, so a quote in one may be taken for the start of a string.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from codegen.decoding.drafts.protocol import common_prefix
from codegen.decoding.rpg.languages import PYTHON, LexerSpec, Quote

_CLOSES = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class LexicalState:
    """Open strings and brackets at an offset.

    Attributes:
        quote: opening mark of the current string or comment, with its prefix; empty outside.
        brackets: the open brackets, outermost first.
    """

    quote: str = ""
    brackets: str = ""


@dataclass(frozen=True, slots=True)
class LexicalPrefix:
    """Lexical analysis of a text up to an offset.

    Attributes:
        state: lexical state at the offset.
        line: start of the line.
        statement: start of the statement, not after the line's start.
    """

    state: LexicalState
    line: int
    statement: int


def read(text: str, end: int | None = None, language: LexerSpec = PYTHON) -> LexicalPrefix:
    """Analyzes a text up to ``end``, by default to its end.

    A statement continues over line breaks within brackets and strings, and after a backslash. In
    languages with braces it ends at semicolons and braces. A keyword that cannot be inside
    brackets and begins a line closes unclosed brackets.
    """
    end = len(text) if end is None else end
    lexer = _lexer_of(language)
    line = text.rfind("\n", 0, end) + 1
    statement, brackets, at = 0, "", 0
    while found := lexer.pattern.search(text, at, end):
        word, at = found[0], found.end()
        if found.lastgroup == "joined":
            continue
        if found.lastgroup == "quote":
            quote = lexer.quotes[found["mark"]]
            closed = _end_of(quote).match(text, at, end)
            if closed is None:
                return LexicalPrefix(LexicalState(word, brackets), line, min(statement, line))
            # The line break after a comment or an unclosed string is a separate token.
            at = closed.start("close") if closed["close"] == "\n" else closed.end()
        elif word in _CLOSES:
            brackets += word
            if word == "{" and not language.indented:
                statement = at
        elif word in ")]}":
            opening = next(key for key, value in _CLOSES.items() if value == word)
            brackets = brackets[: max(brackets.rfind(opening), 0)]
            if word == "}" and not language.indented:
                statement = at
        elif word == ";":
            if brackets[-1:] != "(" or language.indented:
                statement = at
        elif found.lastgroup == "keyword":
            brackets = "" if language.indented else brackets
            statement = found.start()
        elif language.indented and not brackets:  # a line break
            statement = at
    return LexicalPrefix(LexicalState("", brackets), line, min(statement, line))


def reads_otherwise(old: str, new: str, language: LexerSpec = PYTHON) -> bool:
    """Returns True if the edit opens or closes a string, comment or bracket for later text."""
    start = common_prefix(old, new)
    shared = common_prefix(old[start:][::-1], new[start:][::-1])
    # Compare at the end of the edit's last line, so that a comment on that line does not count.
    line_end = new.find("\n", len(new) - shared)
    if line_end < 0:
        return False
    behind = len(new) - line_end - 1
    before = read(old, len(old) - behind, language).state
    return read(new, len(new) - behind, language).state != before


def tail_tokens(ends: Sequence[int], start: int, *, least: int = 16, most: int = 96) -> int:
    """Returns the number of last tokens that end after ``start``, within bounds.

    Args:
        ends: end of each token in the text, ascending.
        start: an offset, such as :attr:`LexicalPrefix.statement`.
        least, most: bounds of the result, which never exceeds the number of tokens.
    """
    count = 0
    for end in reversed(ends):
        if end <= start:
            break
        count += 1
    return min(max(count, least), most, len(ends))


@dataclass(frozen=True, slots=True)
class _Lexer:
    pattern: re.Pattern[str]
    quotes: dict[str, Quote]


@lru_cache(maxsize=16)
def _lexer_of(language: LexerSpec) -> _Lexer:
    quotes = {quote.open.decode(): quote for quote in language.quotes}
    prefixes = {prefix.decode() for quote in language.quotes for prefix in quote.prefixes}
    marks = "|".join(re.escape(mark) for mark in sorted(quotes, key=len, reverse=True))
    before = "|".join(sorted(prefixes, key=len, reverse=True))
    prefix = rf"(?:(?<!\w)(?i:{before}))?" if before else ""
    words = "|".join(sorted(word.decode() for word in language.only_statements))
    keyword = rf"(?P<keyword>(?:(?<=\n)|\A)[ \t]*(?:{words})\b)|" if words else ""
    return _Lexer(
        re.compile(
            rf"(?P<joined>\\\r?\n)|{keyword}(?P<quote>{prefix}(?P<mark>{marks}))|(?P<other>[()\[\]{{}};\n])"
        ),
        quotes,
    )


@lru_cache(maxsize=64)
def _end_of(quote: Quote) -> re.Pattern[str]:
    """Returns a regex that matches through a quote's closing mark or, if one-line, a newline."""
    close = re.escape(quote.close.decode())
    if not quote.multiline:
        close += r"|\n"
    inside = r"(?:\\[\s\S]|[^\\])*?" if quote.escapes else r"[\s\S]*?"
    return re.compile(rf"{inside}(?P<close>{close})")
