"""What is open at a place in code: brackets, strings, the statement's first line.

A scanner for many languages, not a parser: it knows brackets, the quotes of strings and the usual
comments. In broken code it guesses, as every tool does while one types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PAIRS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(PAIRS.values())
_PAIRED = PAIRS | {"block": "}"}

_HASH = frozenset({"python", "ruby", "shellscript", "sh", "yaml", "toml", "perl", "r", "makefile"})
_SLASH = frozenset({
    "c", "cpp", "csharp", "css", "dart", "go", "java", "javascript", "javascriptreact", "json",
    "jsonc", "kotlin", "php", "rust", "scala", "scss", "swift", "typescript", "typescriptreact",
})  # fmt: skip

_STRING = r"'''|\"\"\"|'|\"|`"
_HASH_COMMENT = r"\#[^\r\n]*"
_SLASH_COMMENT = r"//[^\r\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z)"
_BRACKETS = r"[()\[\]{}]"
_JOINED = r"\\(?:\r\n|\r|\n)"  # a line that goes on
# A brace after one of these, or right after a name, begins a value rather than a block.
_BEFORE_LITERAL = ("(", ",", "=", ":", "[", "]", "?", "&", "|", "return")


def _scanner(*comments: str) -> re.Pattern[str]:
    return re.compile("|".join([*comments, _STRING, _BRACKETS, _JOINED, r"\r\n|\r|\n"]))


_SCANNERS = {
    "#": _scanner(_HASH_COMMENT),
    "//": _scanner(_SLASH_COMMENT),
    "": _scanner(_HASH_COMMENT, _SLASH_COMMENT),
}
_ENDS = {
    quote: re.compile(rf"(?:\\.|[^\\])*?{quote}", re.DOTALL) for quote in ("'''", '"""', "`")
} | {quote: re.compile(rf"(?:\\(?:\r\n|.)|[^\\\r\n])*?(?:{quote}|(?=[\r\n]))", re.DOTALL)
     for quote in ("'", '"')}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Open:
    """What is open at the end of a text.

    Attributes:
        brackets: the open ones, outermost first.
        quote: of the string or template that the text ends in, empty outside of one.
        comment: whether the text ends in a comment.
        statement: where the line begins on which the last statement does: the last line start
            outside of strings and of brackets, but for the braces of blocks.
        extra: brackets closed that were not open, in order.
    """

    brackets: tuple[str, ...] = ()
    quote: str = ""
    comment: bool = False
    statement: int = 0
    extra: tuple[str, ...] = field(default=())


def scan(text: str, language: str = "") -> Open:
    """Scans from the start of a text, which must not lie in a string.

    Args:
        text: code.
        language: as editors name it (``python``); unknown ones have both kinds of comments.
    """
    pattern = _SCANNERS["#" if language in _HASH else "//" if language in _SLASH else ""]
    stack: list[str] = []
    extra: list[str] = []
    at = statement = 0
    while found := pattern.search(text, at):
        token, at = found.group(), found.end()
        if token in PAIRS:
            is_block = token == "{" and language in _SLASH and not _literal(text, found.start())
            stack.append("block" if is_block else token)
        elif token in CLOSERS:
            if stack and _PAIRED[stack[-1]] == token:
                stack.pop()
            else:
                extra.append(token)
        elif token in _ENDS:
            end = _ENDS[token].match(text, at)
            if end is None:
                return Open(_names(stack), token, False, statement, tuple(extra))
            at = end.end()
        elif token[0] in "\r\n":
            if not stack or stack[-1] == "block":
                statement = at
        elif token[0] != "\\" and at == len(text) and not token.endswith("*/"):
            return Open(_names(stack), "", True, statement, tuple(extra))
    return Open(_names(stack), "", False, statement, tuple(extra))


def _literal(text: str, at: int) -> bool:
    """Whether a brace begins a value rather than a block."""
    before = text[max(0, at - 80) : at]
    return before[-1:].isalnum() or before.rstrip().endswith(_BEFORE_LITERAL)


def _names(stack: list[str]) -> tuple[str, ...]:
    return tuple("{" if bracket == "block" else bracket for bracket in stack)


def indentation(line: str) -> int:
    """Columns of a line's leading white space, tabs to multiples of eight."""
    expanded = line[: len(line) - len(line.lstrip(" \t"))].expandtabs(8)
    return len(expanded)
