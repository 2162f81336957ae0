"""Where a suggestion ends: at the line, at the statement, or at the block.

- ``line``: something other than closing brackets stands behind the cursor, or the cursor is in a
  string or comment: to the end of the line.
- ``statement``: to the end of the line at which all brackets opened in the suggestion are closed
  again, and those open on the cursor's statement too if the next line does not close them.
- ``block``: the line before the cursor opens a block (``:`` or an open brace at its end) and no
  deeper line follows: to the first line that is not deeper than the opening one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from codegen.server.brackets import CLOSERS, indentation, scan

Extent = Literal["line", "statement", "block"]
Multiline = Literal["auto", "never", "always"]

_BREAK = re.compile(r"\r\n|\r|\n")
# What may stand behind the cursor although more is written before it: editors close brackets.
_TRAILING = re.compile(r"[\s)\]}'\"`;:,]*\Z")


@dataclass(frozen=True, slots=True)
class StopRule:
    """When to stop.

    Attributes:
        extent: how far a suggestion goes.
        base: columns of indentation that end a block, its opening line's.
        language: for the scanner.
        max_lines: most lines.
    """

    extent: Extent
    base: int = 0
    language: str = ""
    max_lines: int = 12

    def end(self, text: str) -> int | None:
        """How many characters of a growing suggestion stand, None if it may go on."""
        breaks = [found.span() for found in _BREAK.finditer(text)]
        if self.extent == "line":
            return breaks[0][0] if breaks else None
        if self.extent == "block":
            end = self._dedent(text, breaks)
        else:
            end = next((end for end, _ in breaks if self._closed(text[:end])), None)
        # Line ends at the beginning do not count.
        lines = [start for start, _ in breaks if text[:start].strip()]
        if end is None and len(lines) >= self.max_lines:
            end = lines[self.max_lines - 1]
        return end

    def _closed(self, text: str) -> bool:
        found = scan(text, self.language)
        return not found.brackets and not found.quote and bool(text.strip())

    def _dedent(self, text: str, breaks: list[tuple[int, int]]) -> int | None:
        """The end of the last line before one that is not in the block."""
        for end, start in breaks:
            found = _BREAK.search(text, start)
            line = text[start : found.start() if found else len(text)]
            word = line.lstrip(" \t")
            if not word or indentation(line) > self.base:
                continue  # blank or not yet known, or within
            if word[0] in CLOSERS and scan(text[:start], self.language).brackets:
                continue  # closes what the suggestion opened
            return len(text[:end].rstrip())
        return None


def rule_for(
    prefix: str,
    suffix: str,
    language: str = "",
    multiline: Multiline = "auto",
    max_lines: int = 12,
) -> StopRule:
    """The rule for a cursor between two texts."""
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
    """The last line that is not blank."""
    for line in reversed(re.split(_BREAK, text)):
        if line.strip():
            return line
    return ""


def _deeper_follows(suffix: str, base: int) -> bool:
    """Whether the next line that is not blank already belongs to the block."""
    for line in re.split(_BREAK, suffix)[1:]:
        if line.strip():
            return indentation(line) > base
    return False
