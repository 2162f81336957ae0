"""Drafts for diffs: unified hunks and SEARCH/REPLACE blocks, from the region of the file they name.

The row's text is followed line by line. After a hunk's header the lines from the hunk's old start
are drafted as context lines; a line that the diff takes out differs from its context line in its
first character alone, which the cursor takes for a replaced token. After ``<<<<<<< SEARCH`` the
file is drafted from behind the last block; after ``=======`` the searched lines are drafted again.
Outside of hunks and blocks there is no draft.

A row whose tokens straddle the line break after a header (a break and the next line's indentation
in one token) is followed as well: the region is encoded from where the row stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Sequence

from codegen.decoding.drafts.cursor import CursorDrafter
from codegen.decoding.drafts.protocol import Context, Draft

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")
_SEARCH, _DIVIDER, _REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
_REGION = 200  # lines of the file that are encoded at a time


class DiffDrafter:
    """Drafts from ``Context.source``, the text of the file that the diff changes.

    Args:
        encode: text to token ids, without special tokens.
        decode: token ids to text.
        line_ends: ids of the tokens that hold a line break.
        longest: tokens of a draft.
    """

    candidates = 0

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
        self._started = ""  # and what the last token of the line before began of it
        self._searched: list[str] | None = None  # lines of the SEARCH part so far
        self._after = 0  # line of the file behind the last block

    def draft(self, limit: int) -> Draft:
        """What stands at the cursor."""
        return self.cursor.draft(limit)

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

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        """Nothing to learn."""

    def finish(self) -> None:
        """Nothing to keep."""

    def _read(self, line: str, rest: str) -> None:
        """One finished line of the row; ``rest`` is what is there of the next one."""
        marker = line.rstrip()
        if hunk := _HUNK.match(line):
            first = max(int(hunk[1]) - 1, 0)
            self._draft_from([f" {text}" for text in self._region(first)], rest)
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
            self.cursor.reset(())
        elif self._searched is not None:
            self._searched.append(line)
            if len(self._searched) == 1:
                self._jump(line, rest)

    def _jump(self, line: str, rest: str) -> None:
        """After the first searched line: behind it, if the file has it elsewhere than guessed."""
        found = self._find([line])
        if found is not None and found != self._after:
            self._draft_from(self._region(found + 1), rest)

    def _region(self, first: int) -> list[str]:
        return self._source[first : first + _REGION]

    def _find(self, lines: list[str]) -> int | None:
        """Where the lines stand in the file: behind the last block if they do, else anywhere."""
        size = len(lines)
        last = len(self._source) - size + 1
        for i in (*range(self._after, last), *range(min(self._after, last))):
            if size and self._source[i : i + size] == lines:
                return i
        return None

    def _draft_from(self, lines: list[str], rest: str) -> None:
        text = "\n".join(lines)
        self.cursor.reset(self.encode(text[len(rest) :]) if text.startswith(rest) else ())
