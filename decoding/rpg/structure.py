"""Follows the structure of an unfinished program byte by byte.

An incremental lexer (with the tables of ``languages``) feeds a stack of brackets, blocks and, in
Python, indentation. Each level of the stack has a stream of signatures with lag counters
(``repetition``):

- A block's items are statements. A signature is the tuple of a statement's symbols: unchanged
  keywords and operators, NAME, NUM, STR, CMT, and ``()``, ``[]`` or ``{}`` for a bracketed group.
  In Python it begins with the change in indentation since the last statement; elsewhere braces
  are symbols and end statements. Headers, bodies and closing braces share one stream, so a repeated
  ``elif ...:`` with its body is a block of two statements.
- A bracket's items are the elements between its commas.

A comment is an item if it is on separate lines; other comments are skipped. A byte costs O(1), an
item O(P). All parts of the state are immutable, so :meth:`StructureTracker.snapshot` costs O(1).

The method follows Dong et al. 2025 (RPG, arXiv 2505.10402), section 3, without a grammar: the
reduction to statements needs only the statements' symbols and starts.

Limits: see also ``languages``; a bracket that is never closed hides the following text, until
a keyword that cannot be in brackets begins a line (Python) or an outer brace is closed; a boundary
inside a token (``", "`` ends one string and opens the next) is not detected before that token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from codegen.decoding.rpg.languages import (
    BRACKET,
    CHAR,
    FENCE,
    NAME,
    NEWLINE,
    NUMBER,
    QUOTE,
    RAW,
    SEPARATOR,
    SPACE,
    LexerSpec,
    Quote,
    scanner_of,
)
from codegen.decoding.rpg.repetition import Square, Stream, weight

Signature = tuple[Any, ...]

PERIOD = 32  # P: maximum signatures of a block
_MOST_SYMBOLS = 48  # per signature; later symbols are hashed into the last
_MOST_WORDS = 64  # names, numbers and strings kept per item
_MOST_TEXT = 80  # bytes kept per string
_COPIES_READ = 12  # copies whose words are compared
_COPIES_SHOWN = 4  # copies whose anchors may begin the next copy

_NO_SYMBOLS: Signature = ()
_NAME, _NUM, _STR, _CMT = b"NAME", b"NUM", b"STR", b"CMT"
_CONCRETE = frozenset({_NAME, _NUM, _STR})  # symbols that represent different texts
_GROUPS = {b"(": (b")", b"()"), b"[": (b"]", b"[]"), b"{": (b"}", b"{}")}
_GROUP_OF = dict(_GROUPS.values())
_ENDS_STATEMENT = frozenset(
    b"NAME NUM STR () [] {} ++ -- break continue fallthrough return this super true false null "
    b"nil debugger".split()
)
_BEFORE_VALUE = frozenset(b"return typeof case in of yield await delete void else do new".split())
_GOES_ON = frozenset(b"elif else except finally catch default".split())
# Terminals that no additional byte can extend.
_CLOSED = frozenset({NEWLINE, BRACKET, SEPARATOR})


class StructureUnit(NamedTuple):
    """A finished statement or element.

    Attributes:
        signature: its symbols.
        words: its names, numbers and strings in order, including those in its brackets.
        anchor: the text of its first symbol.
        margin: the whitespace before it, if it begins a line.
        indent: columns of indentation, or the number of open blocks.
    """

    signature: Signature
    words: tuple[bytes, ...]
    anchor: bytes
    margin: bytes
    indent: int


class Repetition(NamedTuple):
    """A repeating block whose next copy would begin with the next token.

    Attributes:
        square: the block's length and the number of copies so far.
        anchors: texts that may begin the next copy.
        margin: whitespace that must precede the copy; None for any.
        bracketed: True if the block consists of elements of a bracket.
    """

    square: Square
    anchors: tuple[bytes, ...]
    margin: bytes | None
    bracketed: bool


# Attributes of a tracker and of a stack level, which begins with the enclosing level.
_STATE = (
    "_pending", "_quote", "_ends", "_text", "_quiet", "_stack", "_fresh", "_spaces", "_last_indent",
    "_is_block", "_closer", "_blocks", "_stream", "_anchor", "_symbols", "_words", "_margin",
    "_indent",
)  # fmt: skip
_LEVEL = (
    "_stack", "_is_block", "_closer", "_blocks", "_stream", "_anchor", "_symbols", "_margin",
    "_indent", "_last_indent", "_words",
)  # fmt: skip
_state_of = attrgetter(*_STATE)
_level_of = attrgetter(*_LEVEL)


class StructureTracker:
    """Tracker of one text's structure.

    Args:
        language: the text's language.
        period: P, the longest block in signatures.
        on_item: called with each finished item (for tests and measurements).
    """

    __slots__ = (*_STATE, "_language", "_match", "_on_item", "_period", "_quotes")

    def __init__(
        self,
        language: LexerSpec,
        period: int = PERIOD,
        on_item: Callable[[StructureUnit], None] | None = None,
    ) -> None:
        scanner = scanner_of(language)
        self._language, self._period, self._on_item = language, period, on_item
        self._match = scanner.pattern.match
        self._quotes = scanner.quotes
        self._pending = b""  # an unfinished terminal
        self._quote: Quote | None = None  # the open string or comment
        self._ends: re.Pattern[bytes] | None = None  # matches the quote's end
        self._text = b""  # the quote's first bytes
        self._quiet = False  # True if the quote is skipped
        self._reset()

    def _reset(self) -> None:
        self._stack: Any = None  # the outer levels, as (parent, fields...)
        self._fresh = True  # the line has only whitespace so far
        self._spaces = b""
        self._last_indent = 0
        self._open_level(is_block=True, closer=b"")

    def _open_level(self, is_block: bool, closer: bytes) -> None:
        self._is_block, self._closer = is_block, closer
        self._blocks: tuple[bool, ...] = ()  # per open brace: True if commas end items
        self._stream = Stream()
        self._open_item()

    def _open_item(self) -> None:
        self._anchor: bytes | None = None  # anchor of the current item
        self._symbols: Signature = _NO_SYMBOLS
        self._words: tuple[bytes, ...] = ()
        self._margin = b""
        self._indent = self._last_indent

    def snapshot(self) -> tuple[Any, ...]:
        """Returns an immutable copy of the state."""
        return _state_of(self)

    def restore(self, state: tuple[Any, ...]) -> None:
        """Restores a state of a tracker with the same arguments."""
        for name, value in zip(_STATE, state, strict=True):
            setattr(self, name, value)

    @property
    def closer(self) -> bytes:
        """Closing mark of the innermost bracket; empty outside brackets."""
        return self._closer

    @property
    def at_boundary(self) -> bool:
        """True if the next symbol begins an item."""
        return (
            self._anchor is None
            and self._quote is None
            and (not self._pending or self._pending.isspace())
        )

    def repetition(self) -> Repetition | None:
        """Returns the repetition that the next token would continue with another copy, if any."""
        if not self.at_boundary or (square := self._stream.square()) is None:
            return None
        items, (period, _, run) = self._stream.items, square
        # A copy begins at its least indented item; ties go to an item that does not continue
        # another statement, then to the first after the repetition's start. Phase 0 is the next
        # item.
        cycle = [items[period - 1 - phase] for phase in range(period)]
        least = min(item.indent for item in cycle)
        starts = [phase for phase, item in enumerate(cycle) if item.indent == least]
        if min(starts, key=lambda at: (self._rank(cycle, at), (at + run) % period)) != 0:
            return None
        first = items[period - 1]
        anchors = (first.anchor,)
        symbol = first.signature[1 if self._indented else 0]
        if symbol in _CONCRETE:
            shown = items[period - 1 : period * _COPIES_SHOWN : period]
            anchors = tuple(dict.fromkeys(item.anchor for item in shown))
        margin: bytes | None = None
        if self._indented and self._fresh:
            typed = self._spaces + self._pending
            if not first.margin.startswith(typed):
                return None
            margin = first.margin[len(typed) :]
        return Repetition(square, anchors, margin, not self._is_block)

    def weight(self, square: Square) -> float:
        """Returns the total weight of a repetition's copies; the first has weight 1."""
        items, period = self._stream.items, square.period
        seen = min(square.copies, len(items) // period, _COPIES_READ)
        blocks = [items[period * n : period * (n + 1)] for n in reversed(range(seen))]
        copies = [tuple([word for item in block for word in item.words]) for block in blocks]
        several = sum(bool(item.words) for item in blocks[-1]) > 1
        found = weight(copies, several, bracketed=not self._is_block)
        return 1 + found * (square.copies - 1) / (seen - 1)

    def _rank(self, cycle: Sequence[StructureUnit], phase: int) -> int:
        """Ranks how unlikely an item begins its block: high for ``except`` or a decorated def."""
        place = 1 if self._indented else 0
        symbol = cycle[phase].signature[place]
        if symbol == b"}" or cycle[phase - 1].signature[place] == b"@":
            return 2
        return symbol in _GOES_ON

    @property
    def _indented(self) -> bool:
        return self._language.indented and self._is_block

    def feed(self, data: bytes) -> None:
        """Appends a chunk of text of any size. Carriage returns are dropped."""
        if b"\r" in data:
            data = data.replace(b"\r", b"")
        text = self._pending + data
        at, size = 0, len(text)
        match, keywords = self._match, self._language.keywords
        while at < size:
            if self._quote is not None:
                at = self._pass_quote(text, at)
                if self._quote is not None:
                    break
                continue
            found = match(text, at)
            assert found is not None  # the last alternative matches any byte
            kind, end = found.lastindex, found.end()
            if end == size and kind not in _CLOSED:
                break
            if kind == NAME:
                word = text[at:end]
                if word in keywords:
                    if self._fresh and word in self._language.only_statements:
                        self._leave_brackets()
                    self._add(word, word)
                else:
                    self._add(_NAME, word, word)
            elif kind == SPACE:
                if self._fresh:
                    self._spaces += text[at:end]
            elif kind == NEWLINE:
                self._newline()
            elif kind == BRACKET:
                self._bracket(text[at:end])
            elif kind == SEPARATOR:
                self._separator(text[at:end])
            elif kind == NUMBER:
                word = text[at:end]
                self._add(_NUM, word, word)
            elif kind == QUOTE:
                end = self._open_quote(text, at, end)
            elif kind == RAW:
                self._open_raw(text[at:end])
            elif kind == FENCE:
                end = self._fence(text, at, end)
            elif kind == CHAR:
                word = text[at:end]
                self._add(_STR if word.endswith(b"'") else b"'", word, word)
            else:
                end = self._operator(text, at, end)
            at = end
        self._pending = text[at:]

    def _operator(self, text: bytes, at: int, end: int) -> int:
        operator = text[at:end]
        if operator[:1] == b"/" and self._language.regex_literals and self._wants_value():
            self._begin_quote(Quote(b"/", b"/"), b"/")
            return at + 1
        self._add(operator, operator)
        return end

    def _wants_value(self) -> bool:
        last = self._symbols[-1] if self._symbols else None
        return last not in _ENDS_STATEMENT or last in _BEFORE_VALUE

    def _fence(self, text: bytes, at: int, end: int) -> int:
        """Resets the state after a Markdown fence at the start of a line."""
        if self._fresh and self._is_block and self._anchor is None:
            self._reset()
            self._fresh = False
            return end
        if (quote := self._quotes.get(b"`")) is not None:
            self._begin_quote(quote, b"`")
        else:
            self._add(b"`", b"`")
        return at + 1

    def _open_quote(self, text: bytes, at: int, end: int) -> int:
        word = text[at:end]
        mark = word.lstrip(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
        self._begin_quote(self._quotes[mark], word)
        return end

    def _open_raw(self, word: bytes) -> None:
        if self._language.raw_strings == "cpp":
            close = b")" + word[word.index(b'"') + 1 : -1] + b'"'
        else:
            close = b'"' + b"#" * word.count(b"#")
        self._begin_quote(Quote(word, close, escapes=False, multiline=True), word)

    def _begin_quote(self, quote: Quote, word: bytes) -> None:
        self._quote, self._text = quote, word
        self._ends = _ends_of(quote.close, quote.escapes, quote.multiline)
        self._quiet = False
        if quote.comment:
            if self._is_block and self._fresh and (self._anchor is None or self._is_comment()):
                self._add(_CMT, quote.open)
            else:
                self._quiet = True
        elif self._anchor is None:
            self._begin(b"")

    def _pass_quote(self, text: bytes, at: int) -> int:
        """Skips to the end of the open quote, or to last bytes that may begin its closing mark."""
        quote, ends = self._quote, self._ends
        assert quote is not None and ends is not None
        start, size = at, len(text)
        while found := ends.search(text, at):
            at = found.end()
            mark = found[0]
            if mark[:1] == b"\\" and quote.escapes:
                continue
            if mark == b"\n":
                at -= 1
            self._note(text, start, at)
            self._end_quote(quote)
            return at
        held = _held(text, at, quote)
        self._note(text, start, size - held)
        return size - held

    def _note(self, text: bytes, start: int, end: int) -> None:
        if (room := _MOST_TEXT - len(self._text)) > 0:
            self._text += text[start : min(end, start + room)]

    def _end_quote(self, quote: Quote) -> None:
        word, self._quote, self._ends, self._text = self._text, None, None, b""
        if self._quiet:
            return
        if quote.comment:
            self._words = (*self._words, word)[:_MOST_WORDS]
            return
        if not self._anchor:
            self._anchor = word
        self._add(_STR, word, word)

    def _begin(self, anchor: bytes) -> None:
        self._anchor = anchor
        self._margin = self._spaces if self._fresh else b""
        if not self._language.indented:
            self._indent = len(self._blocks)
        elif self._is_block and self._fresh:
            self._indent = len(self._spaces.expandtabs(8))
        self._fresh = False

    def _is_comment(self) -> bool:
        return bool(self._symbols) and self._symbols[-1] is _CMT

    def _add(self, symbol: bytes, text: bytes, word: bytes | None = None) -> None:
        symbols: Signature = self._symbols
        if self._anchor is None:
            self._begin(text)
        elif symbols and symbols[-1] is _CMT:
            self._end_item()  # a comment followed by code
            self._begin(text)
            symbols = _NO_SYMBOLS
        else:
            self._fresh = False
        if len(symbols) < _MOST_SYMBOLS:
            self._symbols = (*symbols, symbol)
        else:
            self._symbols = (*symbols[:-1], hash((symbols[-1], symbol)))
        if word is not None and len(self._words) < _MOST_WORDS:
            self._words = (*self._words, word)

    def _end_item(self) -> None:
        """Pushes the current item to its level's stream."""
        if self._anchor is None:
            return
        signature = self._symbols
        if self._indented:
            signature = (self._indent - self._last_indent, *signature)
            self._last_indent = self._indent
        item = StructureUnit(signature, self._words, self._anchor, self._margin, self._indent)
        self._stream = self._stream.pushed(signature, item, self._period)
        self._open_item()
        if self._on_item is not None:
            self._on_item(item)

    def _newline(self) -> None:
        rule = self._language.newline
        if (
            (self._is_block or self._language.newline_in_brackets)
            and self._symbols
            and (
                rule == "always"
                or self._is_comment()
                or (rule == "complete" and self._symbols[-1] in _ENDS_STATEMENT)
                or (rule == "directive" and self._symbols[0] == b"#")
            )
        ):
            self._end_item()
        self._fresh = True
        self._spaces = b""

    def _separator(self, mark: bytes) -> None:
        if not self._is_block:
            self._end_element()
        elif mark == b";":
            self._end_item()
        else:
            self._add(mark, mark)
            if self._blocks and self._blocks[-1]:
                self._end_item()
        self._fresh = False

    def _end_element(self) -> None:
        """Ends an element; its words are added to the statement around the bracket."""
        words = self._words
        self._end_item()
        if self._stack is not None and words:
            self._keep_words(words)

    def _keep_words(self, words: tuple[bytes, ...]) -> None:
        parent = self._stack
        kept = parent[-1]
        if len(kept) < _MOST_WORDS:
            self._stack = (*parent[:-1], (*kept, *words)[:_MOST_WORDS])

    def _bracket(self, mark: bytes) -> None:
        if mark in _GROUPS:
            self._open_bracket(mark)
        else:
            self._close_bracket(mark)

    def _open_bracket(self, mark: bytes) -> None:
        block = mark == b"{" and self._opens_block()
        if block and self._is_block:
            listed = not self._language.list_words.isdisjoint(self._symbols)
            self._add(mark, mark)
            self._end_item()
            self._blocks = (*self._blocks, listed)
            self._fresh = False
            return
        if self._symbols and self._symbols[-1] is _CMT:
            self._end_item()
        if self._anchor is None:
            self._begin(mark)
        self._fresh = False
        self._stack = _level_of(self)
        self._open_level(is_block=block, closer=_GROUPS[mark][0])

    def _opens_block(self) -> bool:
        language = self._language
        if language.indented:
            return False
        if self._anchor is None:
            return self._is_block
        symbols = self._symbols
        return bool(symbols) and (
            symbols[-1] in language.block_after or not language.block_words.isdisjoint(symbols)
        )

    def _close_bracket(self, mark: bytes) -> None:
        if mark == b"}" and self._is_block and self._blocks:
            self._end_item()
            self._blocks = self._blocks[:-1]
            self._add(mark, mark)
            self._end_item()
            return
        if not self._can_close(mark):
            self._add(mark, mark)
            return
        while self._closer != mark:
            self._pop()
        self._pop()
        self._add(_GROUP_OF[mark], mark)

    def _can_close(self, mark: bytes) -> bool:
        """Returns True if an open bracket of this kind can be closed here."""
        if self._closer == mark:
            return True
        level = self._stack
        while level is not None:
            if level[2] == mark:
                return True
            level = level[0]
        return False

    def _pop(self) -> None:
        if self._words:
            self._keep_words(self._words)
        for name, value in zip(_LEVEL, self._stack, strict=True):
            setattr(self, name, value)

    def _leave_brackets(self) -> None:
        """Closes all brackets, as a line begins with a keyword that cannot be inside them."""
        if self._stack is None:
            return
        spaces = self._spaces
        while self._stack is not None:
            self._pop()
        self._symbols = (*self._symbols, b"...")
        self._end_item()
        self._fresh, self._spaces = True, spaces


@lru_cache(maxsize=256)
def _ends_of(close: bytes, escapes: bool, multiline: bool) -> re.Pattern[bytes]:
    parts = [rb"\\[\s\S]"] if escapes else []
    parts.append(re.escape(close))
    if not multiline and close != b"\n":
        parts.append(rb"\n")
    return re.compile(b"|".join(parts))


def _held(text: bytes, at: int, quote: Quote) -> int:
    """Counts the bytes at the text's end, from ``at`` on, that may belong to the closing mark."""
    left = len(text) - at
    if quote.escapes and left and text.endswith(b"\\"):
        return 1
    close = quote.close
    for length in range(min(len(close) - 1, left), 0, -1):
        if text.endswith(close[:length]):
            return length
    return 0
