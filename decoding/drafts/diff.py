"""Drafts for diffs: unified hunks and SEARCH/REPLACE blocks, from the region of the file they name.

The row's text is followed line by line. Within a hunk, the draft is the rest of the old line that
the row has begun to keep (or remove) and the lines after it with the same sign; for an added line
it is the rest of the line that it replaces, behind the characters that both share. After
``<<<<<<< SEARCH`` the file is drafted from behind the last block, after ``=======`` the searched
lines again, both by an edit cursor. Elsewhere only the next header is drafted.

A token may contain the line break after a header and the next line's indentation; drafts then begin
where the row's text ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from codegen.decoding.drafts.cursor import CursorDrafter
from codegen.decoding.drafts.protocol import Context, Draft, Drafter

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+\d+(?:,(\d{1,9}))? @@")
_SEARCH, _DIVIDER, _REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
_NEXT = "@@ -"
_REGION = 200  # lines of the file encoded for the cursor
_LINES = 8  # lines of a draft within a hunk
_SHARED = 3  # characters that an added line and the one it replaces must share
_RATE = 0.95  # probability of a hunk's token given the one before


@dataclass(slots=True)
class _Hunk:
    """The state of a hunk: the next old line, the lines left on either side, and the lines removed
    and added since the last kept one.
    """

    at: int
    old: int
    new: int
    sign: str = " "
    removed: list[str] = field(default_factory=list)
    added: int = 0

    def read(self, line: str) -> None:
        """Moves on by a finished line."""
        self.sign = line[:1] or " "  # some models omit the blank of an empty line
        if self.sign in " -":
            self.at += 1
            self.old -= 1
        if self.sign in " +":
            self.new -= 1
        if self.sign == "-":
            self.removed.append(line[1:])
        elif self.sign == "+":
            self.added += 1
        else:
            self.removed, self.added = [], 0


class DiffDrafter(Drafter):
    """Drafts from ``Context.source``, the text of the file that the diff changes.

    Args:
        encode: text to token ids, without special tokens.
        decode: token ids to text.
        line_ends: ids of the tokens that contain a line break.
        longest: most tokens of a draft.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        decode: Callable[[Sequence[int]], str],
        line_ends: Container[int],
        *,
        longest: int = 64,
    ) -> None:
        self.encode = encode
        self.decode = decode
        self.line_ends = line_ends
        self.cursor = CursorDrafter(line_ends, longest=longest)
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Reads the file's lines."""
        self.cursor.begin((), Context())
        self._source = context.source.split("\n")
        self._line: list[int] = []  # tokens of the unfinished line
        self._started = ""  # its beginning, if the last token of the line before contained it
        self._hunk: _Hunk | None = None
        self._searched: list[str] | None = None  # lines of the SEARCH part so far
        self._after = 0  # line of the file behind the last block

    def draft(self, limit: int) -> Draft:
        """The text at the cursor, or the rest of the line and the next lines of the hunk."""
        if self._hunk is None:
            return self.cursor.draft(limit)
        text = self._rest(self._hunk, self._started + self.decode(self._line))
        tokens = self.encode(text)[: min(limit, self.cursor.longest)]
        return Draft.chain(tokens, [_RATE ** (i + 1) for i in range(len(tokens))])

    def accept(self, tokens: Sequence[int]) -> None:
        """Follows the text; a header or a marker sets the cursor."""
        start = 0
        for i, token in enumerate(tokens):
            self._line.append(token)
            if token in self.line_ends:
                *lines, rest = (self._started + self.decode(self._line)).split("\n")
                self._line, self._started = [], rest
                self.cursor.accept(tokens[start : i + 1])
                start = i + 1
                for line in lines:
                    self._read(line, rest)
        self.cursor.accept(tokens[start:])

    def _read(self, line: str, rest: str) -> None:
        """Handles a finished line; ``rest`` is the beginning of the next one."""
        marker = line.rstrip()
        if hunk := _HUNK.match(line):
            old, new = (int(size) if size else 1 for size in (hunk[2], hunk[3]))
            self._hunk = _Hunk(max(int(hunk[1]) - 1, 0), old, new)
            self.cursor.reset(())
        elif self._hunk is not None and (self._hunk.old > 0 or self._hunk.new > 0):
            self._hunk.read(line)
        elif self._hunk is not None:
            self._hunk = None
        elif marker == _SEARCH:
            self._searched = []
            self._draft_from(self._region(self._after), rest)
        elif marker == _DIVIDER and self._searched is not None:
            found = self._find(self._searched)
            if found is not None:
                self._after = found + len(self._searched)
            # The searched lines first, then the marker that ends the block.
            self._draft_from([*self._searched, _REPLACE], rest)
            self._searched = None
        elif marker == _REPLACE:
            self._draft_from([_SEARCH, *self._region(self._after)], rest)
        elif self._searched is not None:
            self._searched.append(line)
            if len(self._searched) == 1:
                self._jump(line, rest)

    def _rest(self, hunk: _Hunk, begun: str) -> str:
        """The text that follows the unfinished line ``begun`` of a hunk."""
        if hunk.old <= 0 and hunk.new <= 0:
            return _NEXT[len(begun) :] if _NEXT.startswith(begun) else ""
        sign = begun[:1] or (" " if hunk.sign == "+" else hunk.sign)
        body, after = begun[1:], hunk.at
        if sign == "+":
            replaced = hunk.removed[hunk.added : hunk.added + 1]
            rest = _behind_shared(replaced[0], body) if replaced else None
            lines, sign = [], " "
        else:
            old = self._source[hunk.at : hunk.at + 1]
            rest = old[0][len(body) :] if old and old[0].startswith(body) else None
            after += 1
            lines = [] if begun else [sign]
        if rest is None:
            return ""
        following = self._source[after : min(after + _LINES, hunk.at + max(hunk.old, 0))]
        return "\n".join(["".join(lines) + rest, *(sign + line for line in following), ""])

    def _jump(self, line: str, rest: str) -> None:
        """Moves the cursor behind the first searched line, if that is not where it was expected."""
        found = self._find([line])
        if found is not None and found != self._after:
            self._draft_from(self._region(found + 1), rest)

    def _region(self, first: int) -> list[str]:
        return self._source[first : first + _REGION]

    def _find(self, lines: list[str]) -> int | None:
        """Where the file has these lines: behind the last block if possible, else anywhere."""
        size = len(lines)
        last = len(self._source) - size + 1
        for i in (*range(self._after, last), *range(min(self._after, last))):
            if size and self._source[i : i + size] == lines:
                return i
        return None

    def _draft_from(self, lines: list[str], rest: str) -> None:
        text = "\n".join(lines)
        self.cursor.reset(self.encode(text[len(rest) :]) if text.startswith(rest) else ())


def _behind_shared(line: str, begun: str) -> str | None:
    """The rest of ``line`` after the longest end of ``begun`` in it; None if that is too short."""
    if line.startswith(begun):
        return line[len(begun) :]
    for size in range(len(begun), _SHARED - 1, -1):
        at = line.find(begun[-size:])
        if at >= 0:
            return line[at + size :]
    return None
