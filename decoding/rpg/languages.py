"""Programming languages as tables for the structure tracker.

A table has the language's keywords and operators, the marks of comments and strings, and its
statement terminators. :func:`scanner_of` compiles it into one regular expression for the lexer. No
grammar is used: a text that is not a program of the language is still split into statements.

Limits: an f-string or template literal is one string, even if code in it contains quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from codegen.core import languages
from codegen.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Quote:
    """A string, comment or other text that the lexer skips as a whole.

    Attributes:
        open: opening mark.
        close: closing mark.
        escapes: True if a backslash escapes the next byte.
        multiline: True if it may contain newlines; else a newline ends it, closed or not.
        prefixes: letters that may precede ``open``, in any case.
        comment: True for comments.
    """

    open: bytes
    close: bytes
    escapes: bool = True
    multiline: bool = False
    prefixes: tuple[bytes, ...] = ()
    comment: bool = False


@dataclass(frozen=True, slots=True)
class LexerSpec:
    """Table of one language.

    Attributes:
        name, also: the languages' names, as in :data:`codegen.core.languages.LANGUAGES`.
        keywords: names that are separate symbols.
        operators: operators of two bytes or more; any byte outside names, numbers and
            quotes is an operator too.
        quotes: strings and comments.
        newline: condition for a newline to end a statement outside brackets: ``always``;
            ``complete``, after a symbol that can end a statement (as in Go, nearly in JavaScript);
            ``directive``, in a line that begins with ``#``; ``never``.
        indented: True if indentation is part of a signature; else braces make blocks.
        block_words: keywords that make a statement's ``{`` the start of a block.
        list_words: keywords of statements whose block has comma-separated items.
        newline_in_brackets: True if a newline also ends an element of a bracket.
        block_after: symbols before a ``{`` that opens a block.
        only_statements: keywords that cannot be inside brackets; at a line's start they show that
            a bracket was left open.
        raw_strings: ``cpp`` for ``R"x(...)x"``, ``rust`` for ``r#"..."#`` with lifetimes.
        regex_literals: True if ``/`` may open a regular expression.
    """

    name: str
    keywords: frozenset[bytes]
    operators: frozenset[bytes]
    quotes: tuple[Quote, ...]
    newline: Literal["always", "complete", "directive", "never"]
    indented: bool = False
    block_words: frozenset[bytes] = frozenset()
    list_words: frozenset[bytes] = frozenset()
    newline_in_brackets: bool = False
    block_after: frozenset[bytes] = frozenset()
    only_statements: frozenset[bytes] = frozenset()
    raw_strings: Literal["", "cpp", "rust"] = ""
    regex_literals: bool = False
    also: tuple[str, ...] = ()


def _words(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


_C_COMMENTS = (
    Quote(b"//", b"\n", escapes=False, comment=True),
    Quote(b"/*", b"*/", escapes=False, multiline=True, comment=True),
)
_C_OPERATORS = _words("== != <= >= && || ++ -- += -= *= /= %= &= |= ^= << >> <<= >>= -> :: ... ##")
_BLOCK_AFTER = _words("() => else do try finally")

PYTHON = LexerSpec(
    name="python",
    keywords=_words(
        "False None True and as assert async await break class continue def del elif else except "
        "finally for from global if import in is lambda nonlocal not or pass raise return try "
        "while with yield"
    ),
    operators=_words(
        "== != <= >= += -= *= /= //= %= @= &= |= ^= << >> <<= >>= ** **= // -> := ..."
    ),
    quotes=(
        Quote(b"#", b"\n", escapes=False, comment=True),
        *(
            Quote(mark, mark, multiline=len(mark) == 3,
                  prefixes=(b"r", b"b", b"u", b"f", b"t", b"rb", b"br", b"rf", b"fr"))
            for mark in (b"'''", b'"""', b"'", b'"')
        ),
    ),
    newline="always",
    indented=True,
    only_statements=_words(
        "def class return import from while with try raise assert del pass break continue global "
        "nonlocal elif except finally"
    ) - {b"from"},
)  # fmt: skip

JAVASCRIPT = LexerSpec(
    name="javascript",
    also=("typescript", "typescriptreact"),
    keywords=_words(
        "async await break case catch class const continue debugger default delete do else enum "
        "export extends false finally for from function get if implements import in instanceof "
        "interface let namespace new null of private protected public readonly return set static "
        "super switch this throw true try type typeof var void while with yield"
    ),
    operators=_C_OPERATORS - {b"->", b"::", b"##"}
    | _words("=== !== => ?? ?. ** **= ??= &&= ||= >>> >>>="),
    quotes=(*_C_COMMENTS, Quote(b"'", b"'"), Quote(b'"', b'"'), Quote(b"`", b"`", multiline=True)),
    newline="complete",
    list_words=frozenset({b"enum"}),
    block_words=_words(
        "class interface enum namespace if for while switch function catch do else try finally"
    ),
    block_after=_BLOCK_AFTER,
    regex_literals=True,
)

JAVA = LexerSpec(
    name="java",
    keywords=_words(
        "abstract assert boolean break byte case catch char class const continue default do double "
        "else enum extends final finally float for goto if implements import instanceof int "
        "interface long native new null package private protected public record return short "
        "static strictfp super switch synchronized this throw throws transient true false try var "
        "void volatile while yield"
    ),
    operators=_C_OPERATORS - {b"##"} | _words(">>> >>>="),
    quotes=(
        *_C_COMMENTS,
        Quote(b'"""', b'"""', multiline=True),
        Quote(b'"', b'"'),
        Quote(b"'", b"'"),
    ),
    newline="never",
    list_words=frozenset({b"enum"}),
    block_words=_words(
        "class interface enum record if for while switch catch do else try finally synchronized "
        "throws static"
    ),
    block_after=_BLOCK_AFTER | {b"->"},
)

GO = LexerSpec(
    name="go",
    keywords=_words(
        "break case chan const continue default defer else fallthrough for func go goto if import "
        "interface map nil package range return select struct switch true false type var"
    ),
    operators=_C_OPERATORS - {b"->", b"::", b"##"} | _words(":= <- &^ &^="),
    quotes=(
        *_C_COMMENTS,
        Quote(b'"', b'"'),
        Quote(b"'", b"'"),
        Quote(b"`", b"`", escapes=False, multiline=True),
    ),
    newline="complete",
    block_words=_words("func if for switch select struct interface else"),
    newline_in_brackets=True,
    block_after=_words("() else"),
)

CPP = LexerSpec(
    name="cpp",
    also=("c",),
    keywords=_words(
        "alignas auto bool break case catch char class concept const consteval constexpr continue "
        "decltype default delete do double else enum explicit export extern false float for friend "
        "goto if inline int long mutable namespace new noexcept nullptr operator private protected "
        "public register requires return short signed sizeof static struct switch template this "
        "throw true try typedef typename union unsigned using virtual void volatile while"
    ),
    operators=_C_OPERATORS | _words("<=> ->* .*"),
    quotes=(
        *_C_COMMENTS,
        Quote(b'"', b'"', prefixes=(b"l", b"u", b"u8")),
        Quote(b"'", b"'", prefixes=(b"l", b"u", b"u8")),
    ),
    newline="directive",
    list_words=frozenset({b"enum"}),
    block_words=_words(
        "class struct union enum namespace if for while switch catch do else try extern"
    ),
    block_after=_BLOCK_AFTER | _words("const noexcept override final"),
    raw_strings="cpp",
)

RUST = LexerSpec(
    name="rust",
    keywords=_words(
        "as async await break const continue crate dyn else enum extern false fn for if impl in "
        "let loop match mod move mut pub ref return self Self static struct super trait true type "
        "union unsafe use where while"
    ),
    operators=_C_OPERATORS - {b"++", b"--", b"##"} | _words("=> .. ..="),
    quotes=(*_C_COMMENTS, Quote(b'"', b'"', multiline=True, prefixes=(b"b", b"c"))),
    newline="never",
    list_words=_words("enum match struct union"),
    block_words=_words(
        "enum extern fn for if impl loop match mod struct trait union unsafe while else"
    ),
    block_after=_BLOCK_AFTER | _words("-> |"),
    raw_strings="rust",
)

LANGUAGES = (PYTHON, JAVASCRIPT, JAVA, GO, CPP, RUST)
_BY_NAME = {
    name: language
    for language in LANGUAGES
    for served in (language.name, *language.also)
    for name in (served, *languages.LANGUAGES[served].aliases)
}


def find_language(name: str) -> LexerSpec:
    """Returns the language with a name or alias.

    Raises:
        ConfigError: if the language is unknown; lists the known ones.
    """
    found = _BY_NAME.get(name.lower())
    if found is None:
        known = ", ".join(language.name for language in LANGUAGES)
        raise ConfigError(f"Unknown language {name!r}.", f"Choose one of: {known}.")
    return found


# Kinds of terminals: the numbers of a scanner's groups, in matching order.
(HOLD, RAW, FENCE, CHAR, QUOTE, SPACE, NEWLINE, NAME, NUMBER, BRACKET, SEPARATOR,
 OPERATOR) = range(1, 13)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scanner:
    """A language's compiled lexer.

    Attributes:
        pattern: matches one terminal; the number of the matching group is its kind.
        quotes: quotes by opening bytes, without prefixes.
    """

    pattern: re.Pattern[bytes]
    quotes: dict[bytes, Quote]


@lru_cache(maxsize=16)
def scanner_of(language: LexerSpec) -> Scanner:
    """Builds the scanner of a language.

    Its terminals are prefix-closed: a partial terminal at the text's end is matched up to the end.
    So a lexer that waits whenever a match reaches the end finds the same terminals for any split of
    the text. Terminals that are not prefix-closed (``...`` with ``..``, ``'''`` with ``''``) get
    extra operators, or an expression that matches only at the end and makes the lexer wait.
    """
    space = rb"[ \t\f\v]+"
    if language.newline in ("always", "directive"):
        space = rb"(?:[ \t\f\v]|\\\n)+"
    marks = sorted(language.quotes, key=lambda quote: -len(quote.open))
    quote = b"|".join(_prefix(mark) + re.escape(mark.open) for mark in marks)
    hold = [rb"\\\Z", rb"``\Z"]
    hold += [_prefix(q) + re.escape(q.open[:2]) + rb"\Z" for q in marks if len(q.open) == 3]
    raw = char = rb"(?!)"
    if language.raw_strings == "cpp":
        raw = rb'(?:u8|[uUL])?R"[^\s()\\"]{0,16}\('
        hold.append(rb'(?:u8|[uUL])?R"[^\s()\\"]{0,16}\Z')
    elif language.raw_strings == "rust":
        raw = rb'[bc]?r#*"'
        hold.append(rb"[bc]?r#+\Z")
        char = rb"b?'(?:\\[^\n][^'\n]*'|[^\\'\n\x80-\xff]'|[\x80-\xff]+'|[A-Za-z_][A-Za-z0-9_]*)"
        hold.append(rb"b?'(?:\\[^'\n]*|[^\\'\n\x80-\xff]|[\x80-\xff]+)?\Z")
    # Python's numbers may end in a dot; elsewhere a dot before a letter is a method call.
    fraction = rb"\.[0-9_]*" if language.indented else rb"\.(?![.A-Za-z_])[0-9_]*"
    number = (
        rb"0[xX][0-9a-fA-F_]*[uUlLn]*|(?:[0-9][0-9_]*(?:%s)?|\.[0-9][0-9_]*)"
        rb"(?:[eE][+-]?[0-9_]*)?[0-9A-Za-z_]*" % fraction
    )
    operators = sorted(_closure(language.operators), key=lambda op: (-len(op), op))
    groups = [
        b"|".join(hold),
        raw,
        rb"```[A-Za-z0-9]*",
        char,
        quote,
        space,
        rb"\n",
        rb"[A-Za-z_$\x80-\xff][A-Za-z0-9_$\x80-\xff]*",
        number,
        rb"[()\[\]{}]",
        rb"[,;]",
        b"|".join(map(re.escape, operators)) + rb"|[\s\S]",
    ]
    pattern = re.compile(b"|".join(b"(" + group + b")" for group in groups))
    return Scanner(pattern, {mark.open: mark for mark in marks})


def _prefix(quote: Quote) -> bytes:
    if not quote.prefixes:
        return b""
    letters = sorted(quote.prefixes, key=len, reverse=True)
    return rb"(?:(?i:" + b"|".join(letters) + rb"))?"


def _closure(operators: frozenset[bytes]) -> set[bytes]:
    """Returns operators and all their prefixes of two or more bytes: ``..`` for ``...``."""
    return {op[:length] for op in operators for length in range(2, len(op) + 1)}
