"""Drafts of edits: a file's new version from its old version, and diffs of a file.

**Rewritten files** (a cursor into the old file). The draft is the text at the cursor. Where the row
and the original diverge, the cursor is reset:

- after the first differing token: after that token, if it is one of the original's next two (a
  token was deleted); at the next line that begins with it, if they diverged at a line's start
  (lines were deleted); else by the guess that was more often correct so far, a replaced token or an
  inserted one;
- later: after the original's longest match of the row's tail, at least two tokens; ties: the
  nearest to the point of divergence. Else, after a whole line, at the next line by the guess that
  lines were replaced one by one, or that lines were inserted.

The point of divergence is kept until a few tokens agree again, so a wrong guess costs only one
draft. As a tree, the draft also has the second guess while the cursor is uncertain. Speculative
edits are known from products (Cursor, Zed, OpenAI's predicted outputs), not from a paper; these
rules are new.

**Diffs** (unified hunks and SEARCH/REPLACE blocks). The row's text is followed line by line. Within
a hunk, the draft is the rest of the old line that the row has begun to keep (or remove) and the
lines after it with the same sign; for an added line it is the rest of the replaced line after the
characters that both share. After ``<<<<<<< SEARCH`` the file is drafted from the end of
the last block, and after ``=======`` from the searched lines, both by an edit cursor. Elsewhere
only the next header is drafted.

A token may contain the line break after a header and the next line's indentation; drafts then begin
where the row's text ends.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from codegen.decoding.drafts.protocol import Context, Draft, Drafter

_RECENT = 16  # last tokens of the row that are searched for in the original
_LOOKED_AT = 32  # candidate positions on each side of the point of divergence
_AHEAD = 1024  # maximum deleted tokens
_AGREED = 3  # agreeing tokens that make a guess certain
_LONGEST, _SHORTEST = 64, 8  # limits on a draft's tokens
_LEAST = 0.2  # minimum probability of the last drafted token
_OWN_WAY = 8  # differing tokens before drafts get shorter
_FORGET = 0.9
_PRIOR = 100  # assumed tokens between edits before the first edit
_DOUBT = 1.5  # as for suffix drafts: after n agreeing tokens, the next weighs n / (n + 1.5)
_GUESS = 0.6  # probability that a guess is correct


class CursorDrafter(Drafter):
    """Drafter of the text at a cursor into ``Context.original``.

    A draft ends where the row's rate of edits makes its last token less likely than 0.2.
    While the row differs from the original, drafts are halved each round; once the row has differed
    for longer than it agreed, drafts soon stop until it agrees again.

    Args:
        line_ends: ids of the tokens that contain a line break.
        tree: add the second guess as a branch.
    """

    def __init__(self, line_ends: Container[int] = (), *, tree: bool = False) -> None:
        self.line_ends = line_ends
        self.tree = tree
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Sets the cursor at the start of the original."""
        # Correct guesses "replaced" and "inserted", by whether the row diverged
        # at a line's start.
        self._right = {False: [1.0, 0.0], True: [0.0, 1.0]}
        self._partings, self._agreements = 0, 0
        self.reset(context.original)

    def reset(self, original: Sequence[int], at: int = 0) -> None:
        """Switches to another original, with the cursor at one of its tokens."""
        self._original = list(original)
        self._lines = [0]  # line starts
        self._lines += [i + 1 for i, t in enumerate(self._original) if t in self.line_ends]
        self._at = at
        self._other: int | None = None  # the second guess
        self._run = _AGREED  # tokens that agreed since the cursor was set
        self._parted = at  # position where row and original diverged
        self._pairs: dict[tuple[int, int], list[int]] = {}  # ends of each token pair
        for i, pair in enumerate(itertools.pairwise(self._original)):
            self._pairs.setdefault(pair, []).append(i + 1)
        self._recent: list[int] = []  # the row's last tokens
        self._tail: list[int] = []  # tokens emitted since the divergence
        self._tail_lines = 0  # line ends in the tail
        self._length = _LONGEST

    @property
    def at(self) -> int:
        """Index in the original of the next drafted token."""
        return self._at

    @property
    def next(self) -> int | None:
        """The original's token at the cursor; None after a divergence or at the original's end."""
        is_there = self._run >= _AGREED and self._at < len(self._original)
        return self._original[self._at] if is_there else None

    def draft(self, limit: int) -> Draft:
        """Returns the text at the cursor."""
        rate = 1 - (self._partings + 1) / (self._partings + self._agreements + _PRIOR)
        worth = int(math.log(_LEAST) / math.log(rate))
        size = min(limit, self._length, max(worth, _SHORTEST))
        tokens = self._original[self._at : self._at + size]
        first = 1.0 if self._run >= _AGREED else _GUESS
        agreed = range(self._run + 1, self._run + 1 + len(tokens))
        powers = itertools.accumulate((rate * n / (n + _DOUBT) for n in agreed), operator.mul)
        # pyrefly: ignore[unsupported-operation]
        draft = Draft.chain(tokens, [first * power for power in powers])
        if self.tree and self._other is not None:
            return _forked(draft, self._original[self._other : self._other + size], limit, rate)
        return draft

    def accept(self, tokens: Sequence[int]) -> None:
        """Follows the emitted tokens; drafts get shorter while none agree."""
        agreed = self._agreeing(tokens)
        agreed += sum([self._follow(token) for token in tokens[agreed:]])
        if agreed:
            self._length = _LONGEST
        elif len(self._tail) > self._agreements:
            self._length = min(self._length, 2 * _SHORTEST) // 2
        elif len(self._tail) <= _OWN_WAY:
            self._length = _LONGEST
        else:
            self._length = max(self._length // 2, _SHORTEST)

    def _agreeing(self, tokens: Sequence[int]) -> int:
        """Follows all agreeing tokens at once if the cursor is certain; returns their number."""
        if self._run < _AGREED:
            return 0
        expected = self._original[self._at : self._at + len(tokens)]
        pairs = enumerate(zip(tokens, expected, strict=False))
        count = next((i for i, (token, other) in pairs if token != other), len(expected))
        self._recent = [*self._recent, *tokens[:count][-_RECENT:]][-_RECENT:]
        self._at += count
        self._run += count
        self._parted = self._at
        self._agreements += count
        return count

    def _follow(self, token: int) -> bool:
        """Follows one emitted token; returns True if it was at the cursor."""
        agrees = self._has(self._at, token)
        self._recent = [*self._recent[1 - _RECENT :], token]
        if self._run >= _AGREED and agrees:
            self._at += 1
            self._run += 1
            self._parted = self._at
            self._agreements += 1
            return True
        self._partings += not self._tail
        self._tail.append(token)
        self._tail_lines += token in self.line_ends
        if not agrees and self._other is not None and self._has(self._other, token):
            self._at, self._other, self._run, agrees = self._other, None, 0, True
        if agrees:
            self._at += 1
            self._run += 1
            if self._other is not None:
                self._other = self._other + 1 if self._has(self._other, token) else None
            if self._run >= _AGREED:
                self._agree()
            return True
        self._run = 0
        self._at, self._other = self._guess(token)
        return False

    def _has(self, at: int, token: int) -> bool:
        return at < len(self._original) and self._original[at] == token

    def _agree(self) -> None:
        """Called when the cursor is certain again; counts the guess that proved correct."""
        skipped = self._at - self._run - self._parted
        emitted = len(self._tail) - self._run
        counts = self._right[self._at_line_start(self._parted)]
        if emitted:
            counts[:] = [_FORGET * count for count in counts]
            counts[0 if skipped > 0 else 1] += 1
        self._parted, self._other = self._at, None
        self._tail, self._tail_lines = [], 0

    def _at_line_start(self, at: int) -> bool:
        line = bisect_left(self._lines, at)
        return line < len(self._lines) and self._lines[line] == at

    def _guess(self, token: int) -> tuple[int, int | None]:
        """Returns the cursor after a token that differs from the original, and the second guess."""
        parted, at_start = self._parted, self._at_line_start(self._parted)
        if len(self._tail) == 1:
            found = self._deleted(token, at_start)
        else:
            found = self._behind_tail()
        if found is not None:
            return found, None
        replaced, inserted = parted + len(self._tail), parted
        if token in self.line_ends:
            line = bisect_right(self._lines, parted) - 1
            following = min(line + self._tail_lines, len(self._lines) - 1)
            replaced, inserted = self._lines[following], self._lines[line]
        counts = self._right[at_start]
        if counts[0] > counts[1]:
            return replaced, inserted
        return inserted, replaced

    def _deleted(self, token: int, at_start: bool) -> int | None:
        """Returns the position after the token if it is one of the next two or begins a line."""
        for skipped in (1, 2):
            if self._has(self._parted + skipped, token):
                return self._parted + skipped + 1
        if at_start:
            first = bisect_right(self._lines, self._parted)
            for line in self._lines[first:]:
                if line > self._parted + _AHEAD:
                    break
                if self._has(line, token):
                    return line + 1
        return None

    def _behind_tail(self) -> int | None:
        """Returns the position after the original's longest match of the row's tail, at least two
        tokens; ties: the nearest to the point of divergence.
        """
        original, row = self._original, self._recent
        ends = self._pairs.get((row[-2], row[-1]), ())
        middle = bisect_left(ends, self._parted)
        best, far, place = 0, 0, None
        for end in ends[max(0, middle - _LOOKED_AT) : middle + _LOOKED_AT]:
            size = 2
            while size < len(row) and size <= end and original[end - size] == row[-1 - size]:
                size += 1
            if size > best or (size == best and abs(end - self._parted) < far):
                best, far, place = size, abs(end - self._parted), end + 1
        return place


def _forked(draft: Draft, other: Sequence[int], limit: int, rate: float) -> Draft:
    """Adds a second chain from the root to a draft, in at most ``limit`` tokens."""
    if not other or not len(draft) or other[0] == draft.tokens[0] or limit < 2:
        return draft
    other = other[: max(1, limit // 3)]
    first = draft.first(limit - len(other))
    below = range(len(first), len(first) + len(other) - 1)
    return Draft(
        [*first.tokens, *other],
        [*first.parents, -1, *below],
        [*first.probabilities, *((1 - _GUESS) * rate ** (i + 1) for i in range(len(other)))],
    )


_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+\d+(?:,(\d{1,9}))? @@")
_SEARCH, _DIVIDER, _REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
_NEXT = "@@ -"
_REGION = 200  # lines of the file encoded for the cursor
_LINES = 8  # maximum lines of a draft within a hunk
_SHARED = 3  # characters that an added line and the one it replaces must share
_RATE = 0.95  # probability of a hunk's token given the previous one


@dataclass(slots=True)
class _Hunk:
    """The state of a hunk: the next old line, the lines left on either side, and the lines removed
    and added since the last kept line.
    """

    at: int
    old: int
    new: int
    sign: str = " "
    removed: list[str] = field(default_factory=list)
    added: int = 0

    def read(self, line: str) -> None:
        """Advances by a finished line."""
        self.sign = line[:1] or " "  # some models omit an empty line's leading space
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


@dataclass(eq=False)
class DiffDrafter(Drafter):
    """Drafter for diffs of ``Context.source``, the text of the file that the diff changes.

    Args:
        encode: text to token ids, without special tokens.
        decode: token ids to text.
        line_ends: ids of the tokens that contain a line break.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    line_ends: Container[int]

    def __post_init__(self) -> None:
        self.cursor = CursorDrafter(self.line_ends)
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Reads the file's lines."""
        self.cursor.begin((), Context())
        self._source = context.source.split("\n")
        self._line: list[int] = []  # tokens of the unfinished line
        self._started = ""  # the line's beginning, if the previous line's last token has it
        self._hunk: _Hunk | None = None
        self._searched: list[str] | None = None  # lines of the SEARCH part so far
        self._after = 0  # line of the file after the last block

    def draft(self, limit: int) -> Draft:
        """Drafts the text at the cursor, or the rest of the line and the next lines of the hunk."""
        if self._hunk is None:
            return self.cursor.draft(limit)
        text = self._rest(self._hunk, self._started + self.decode(self._line))
        tokens = self.encode(text)[: min(limit, _LONGEST)]
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
            # First the searched lines, then the block's end marker.
            self._draft_from([*self._searched, _REPLACE], rest)
            self._searched = None
        elif marker == _REPLACE:
            self._draft_from([_SEARCH, *self._region(self._after)], rest)
        elif self._searched is not None:
            self._searched.append(line)
            if len(self._searched) == 1:
                self._jump(line, rest)

    def _rest(self, hunk: _Hunk, begun: str) -> str:
        """Returns the text that follows the unfinished line ``begun`` of a hunk."""
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
        """Moves the cursor after the first searched line, if that line is not where expected."""
        found = self._find([line])
        if found is not None and found != self._after:
            self._draft_from(self._region(found + 1), rest)

    def _region(self, first: int) -> list[str]:
        return self._source[first : first + _REGION]

    def _find(self, lines: list[str]) -> int | None:
        """Returns the index of these lines: after the last block if possible, else anywhere."""
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
    """Returns the rest of ``line`` after the longest suffix of ``begun``; None if too short."""
    if line.startswith(begun):
        return line[len(begun) :]
    for size in range(len(begun), _SHARED - 1, -1):
        at = line.find(begun[-size:])
        if at >= 0:
            return line[at + size :]
    return None
