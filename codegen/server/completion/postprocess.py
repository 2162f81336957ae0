"""Postprocessing of suggestions: scanning for open brackets, stop rules, and cleanup.

**Scanning** (:func:`scan`). A scanner for many languages, not a parser: it handles brackets, quotes
and the usual comments. In incomplete code it guesses.

**Stop rules** (:class:`StopRule`). A suggestion ends:

- ``line``, if something other than closing brackets follows the cursor, or the cursor is in a
  string or comment: at the end of the line.
- ``statement``: at the end of the line that closes all brackets opened in the suggestion.
- ``block``, if the line before the cursor opens a block (``:`` or an open brace at its end) and no
  deeper line follows: before the first line that is not deeper than the opening one.

**Cleanup** (:func:`clean`), in order: removes characters that code never needs and that could
deceive a reader or control a terminal; cuts at an unmatched closing bracket; omits text that
already follows the cursor; cuts repeated lines. The result may be empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Extent = Literal["line", "statement", "block"]
Multiline = Literal["auto", "never", "always"]

_BREAK = re.compile(r"\r\n|\r|\n")

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
_JOINED = r"\\(?:\r\n|\r|\n)"  # a line continuation
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
class OpenConstructs:
    """Open brackets, strings and comments at the end of a text.

    Attributes:
        brackets: open brackets, outermost first.
        quote: quote of the string or template in which the text ends; empty outside strings.
        comment: whether the text ends in a comment.
        statement: start of the last statement's line: the last line start outside of strings and
            of brackets other than the braces of blocks.
        extra: positions of unmatched closing brackets.
    """

    brackets: tuple[str, ...] = ()
    quote: str = ""
    comment: bool = False
    statement: int = 0
    extra: tuple[int, ...] = ()


def scan(text: str, language: str = "") -> OpenConstructs:
    """Scans a text, which must not begin in a string.

    Args:
        language: LSP language id (``python``); unknown languages have both kinds of comments.
    """
    pattern = _SCANNERS["#" if language in _HASH else "//" if language in _SLASH else ""]
    stack: list[str] = []
    extra: list[int] = []
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
                extra.append(found.start())
        elif token in _ENDS:
            end = _ENDS[token].match(text, at)
            if end is None:
                return OpenConstructs(_names(stack), token, False, statement, tuple(extra))
            at = end.end()
        elif token[0] in "\r\n":
            if not stack or stack[-1] == "block":
                statement = at
        elif token[0] != "\\" and at == len(text) and not token.endswith("*/"):
            return OpenConstructs(_names(stack), "", True, statement, tuple(extra))
    return OpenConstructs(_names(stack), "", False, statement, tuple(extra))


def comment_mark(language: str) -> str:
    """Returns the mark of a line comment."""
    return "//" if language in _SLASH else "#"


def _literal(text: str, at: int) -> bool:
    """Returns True if a brace begins a value rather than a block."""
    before = text[max(0, at - 80) : at]
    return before[-1:].isalnum() or before.rstrip().endswith(_BEFORE_LITERAL)


def _names(stack: list[str]) -> tuple[str, ...]:
    return tuple("{" if bracket == "block" else bracket for bracket in stack)


def indentation(line: str) -> int:
    """Returns the columns of a line's leading whitespace, with tab stops at multiples of eight."""
    expanded = line[: len(line) - len(line.lstrip(" \t"))].expandtabs(8)
    return len(expanded)


# Text that may follow the cursor in an unfinished line, because editors close brackets.
_TRAILING = re.compile(r"[\s)\]}'\"`;:,]*\Z")


@dataclass(frozen=True, slots=True)
class StopRule:
    """Rule that ends a suggestion.

    Attributes:
        extent: ``line``, ``statement`` or ``block``.
        base: indentation of the line that opens the block, in columns.
        language: LSP language id, for the scanner.
        max_lines: maximum number of lines.
    """

    extent: Extent
    base: int = 0
    language: str = ""
    max_lines: int = 12

    def end(self, text: str) -> int | None:
        """Returns the length at which a growing suggestion ends; None if it may continue."""
        breaks = [found.span() for found in _BREAK.finditer(text)]
        if self.extent == "line":
            return breaks[0][0] if breaks else None
        if self.extent == "block":
            end = self._dedent(text, breaks)
        else:
            end = next((end for end, _ in breaks if self._closed(text[:end])), None)
        # Leading line ends do not count.
        lines = [start for start, _ in breaks if text[:start].strip()]
        if end is None and len(lines) >= self.max_lines:
            end = lines[self.max_lines - 1]
        return end

    def _closed(self, text: str) -> bool:
        found = scan(text, self.language)
        return not found.brackets and not found.quote and bool(text.strip())

    def _dedent(self, text: str, breaks: list[tuple[int, int]]) -> int | None:
        """Returns the end of the last line before one that is not in the block."""
        for end, start in breaks:
            found = _BREAK.search(text, start)
            line = text[start : found.start() if found else len(text)]
            word = line.lstrip(" \t")
            if not word or indentation(line) > self.base:
                continue  # blank, incomplete, or in the block
            if word[0] in CLOSERS and scan(text[:start], self.language).brackets:
                continue  # closes a bracket that the suggestion opened
            return len(text[:end].rstrip())
        return None


def rule_for(
    prefix: str,
    suffix: str,
    language: str = "",
    multiline: Multiline = "auto",
    max_lines: int = 12,
) -> StopRule:
    """Returns the stop rule for a cursor between a prefix and a suffix."""
    line = re.split(_BREAK, prefix)[-1]
    rest = re.split(_BREAK, suffix, maxsplit=1)[0]
    opened = scan(prefix, language)
    single = opened.comment or len(opened.quote) == 1 or not _TRAILING.match(rest)
    if multiline == "never" or (single and multiline != "always"):
        return StopRule("line", language=language)
    opener = line if line.strip() else _last_line(prefix[: len(prefix) - len(line)])
    base = indentation(opener)
    opens = opener.rstrip().endswith((":", "{")) and not opened.quote
    if (opens or multiline == "always") and not _deeper_follows(suffix, base):
        return StopRule("block", base, language, max_lines)
    return StopRule("statement", language=language, max_lines=max_lines)


def _last_line(text: str) -> str:
    """Returns the last line that is not blank."""
    for line in reversed(re.split(_BREAK, text)):
        if line.strip():
            return line
    return ""


def _deeper_follows(suffix: str, base: int) -> bool:
    """Returns True if the next line that is not blank already belongs to the block."""
    for line in re.split(_BREAK, suffix)[1:]:
        if line.strip():
            return indentation(line) > base
    return False


# C0 and C1 controls except tab and line ends, bidirectional controls, invisible characters,
# replacement characters, tags.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffd\ud800-\udfff\U000e0000-\U000e007f]"
)
_FEWEST = 3  # minimum characters of a line that counts as repeated


def whole_characters(text: str) -> str:
    """Replaces lone surrogates, which tokenizers and many JSON parsers reject."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def safe_text(text: str) -> str:
    """Removes control, invisible and bidirectional characters and lone surrogates."""
    return _UNSAFE.sub("", text)


def clean(text: str, prefix: str, suffix: str, language: str = "") -> str:
    """Returns the part of a suggestion to show; may be empty."""
    text = safe_text(text)
    text = without_extra_closers(text, prefix, language)
    text = _without_next_lines(text, suffix)
    text = _without_rest_of_line(text, suffix, language)
    text = _without_loops(text)
    return text.rstrip() if text.strip() else ""


def without_extra_closers(text: str, prefix: str, language: str) -> str:
    """Cuts before the first closing bracket without a match in the prefix or the text."""
    if not any(closer in text for closer in CLOSERS):
        return text
    before = scan(prefix, language)
    if before.quote or before.comment:
        return text
    extra = scan(prefix + text, language).extra
    first = next((at for at in extra if at >= len(prefix)), None)
    return text if first is None else text[: first - len(prefix)]


def _without_next_lines(text: str, suffix: str) -> str:
    """Cuts where the text begins to repeat the lines after the cursor."""
    rest, *following = re.split(_BREAK, suffix)
    nexts = [line.strip() for line in following if len(line.strip()) >= _FEWEST][:2]
    if not nexts:
        return text
    lines = re.split(_BREAK, text)
    if len(lines) == 1 and not rest.strip() and text.strip() == nexts[0]:
        return ""
    at = 0
    for number, line in enumerate(lines):
        if number or not rest.strip():
            same = line.strip() == nexts[0]
            # A common line such as `return x` may occur twice; two in a row rarely do.
            goes_on = number + 1 < len(lines) and len(nexts) > 1
            if same and (not goes_on or lines[number + 1].strip() in ("", nexts[1])):
                return text[:at].rstrip() if number else ""
        at += len(line)
        found = _BREAK.match(text, at)
        at = found.end() if found else at
    return text


def _without_rest_of_line(text: str, suffix: str, language: str) -> str:
    """Cuts the end of a text if the same text follows the cursor."""
    rest = re.split(_BREAK, suffix, maxsplit=1)[0].rstrip()
    if not rest.strip():
        return text
    first = re.split(_BREAK, text, maxsplit=1)[0]
    body = text.rstrip()
    for size in range(min(len(rest), len(body)), 0, -1):
        if not body.endswith(rest[:size]):
            continue
        whole = size == len(rest)
        if whole and set(rest.strip()) <= CLOSERS | {":", ";", ",", "'", '"'}:
            # The closers after the cursor may close brackets that the text opens.
            opened = scan(body, language)
            # The text needs all its own closers, not the ones after the cursor.
            balanced = not (opened.extra or opened.brackets) and rest.strip()[:1] in CLOSERS
            return body if balanced else body[:-size]
        if whole or size >= _FEWEST:
            return body[:-size]
    # A line that contains the text after the cursor.
    if len(rest) >= _FEWEST and rest in first:
        return text[: first.index(rest)]
    return text


def _without_loops(text: str) -> str:
    """Cuts after the first of three consecutive copies of one to three lines."""
    lines = text.splitlines(keepends=True)
    for period in (1, 2, 3):
        for at in range(2 * period, len(lines) - period + 1):
            block = [line.strip() for line in lines[at : at + period]]
            before = [line.strip() for line in lines[at - 2 * period : at]]
            if any(block) and before == block * 2:
                return "".join(lines[: at - period]).rstrip()
    return text
