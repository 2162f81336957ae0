"""Edit drafts: a cursor into the file that is being rewritten.

The draft is the text at the cursor. Where the row and the original diverge, the cursor is set
again:

- after the first differing token: behind that token, if it is one of the original's next two (a
  token was deleted); at the next line that begins with it, if they diverged at a line's start
  (lines were deleted); else by the guess that was right more often so far, a replaced token or an
  inserted one;
- later: behind the place where the original has the longest tail of the row, at least two tokens;
  of equally long ones the nearest to the point of divergence. Else, after a whole line, at the next
  line if lines were replaced one by one, or if they were inserted.

The point of divergence is kept until a few tokens agree again, so a wrong guess costs one draft
only. As a tree, the draft also has the second guess while the cursor is unsure. Speculative edits
are known from products (Cursor, Zed, OpenAI's predicted outputs), not from a paper; these rules are
ours.
"""

from __future__ import annotations

import itertools
import math
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Container, Sequence

from codegen.decoding.drafts.protocol import Context, Draft, Drafter

_RECENT = 16  # last tokens of the row that are searched for in the original
_LOOKED_AT = 32  # places that are tried on each side of the point of divergence
_AHEAD = 1024  # most deleted tokens
_AGREED = 3  # tokens that make a guess certain
_SHORTEST = 8  # fewest tokens of a draft
_OWN_WAY = 8  # differing tokens after which drafts get shorter
_FORGET = 0.9
_PRIOR = 100  # assumed tokens between two edits before any is seen
_DOUBT = 1.5  # as for suffix drafts: after n agreeing tokens, the next counts n / (n + 1.5)
_GUESS = 0.6  # probability that a guess is right


class CursorDrafter(Drafter):
    """Drafts from ``Context.original``.

    A draft ends where the rate of edits in this row makes its last token less probable than
    ``least``. While the row differs from the original, drafts are halved each round; once it has
    differed for longer than it ever agreed, there are soon none until it agrees again.

    Args:
        line_ends: ids of the tokens that contain a line break.
        longest: most tokens of a draft.
        least: least probability of the last drafted token.
        tree: add the second guess as a branch.
    """

    def __init__(
        self,
        line_ends: Container[int] = (),
        *,
        longest: int = 64,
        least: float = 0.2,
        tree: bool = False,
    ) -> None:
        self.line_ends = line_ends
        self.longest = longest
        self.least = least
        self.tree = tree
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Sets the cursor at the start of the original."""
        # How often the guesses "replaced" and "inserted" were right, by whether the row diverged
        # at a line's start.
        self._right = {False: [1.0, 0.0], True: [0.0, 1.0]}
        self._partings, self._agreements = 0, 0
        self.reset(context.original)

    def reset(self, original: Sequence[int], at: int = 0) -> None:
        """Takes another original, with the cursor at one of its tokens."""
        self._original = list(original)
        self._lines = [0]  # where lines start
        self._lines += [i + 1 for i, t in enumerate(self._original) if t in self.line_ends]
        self._at = at
        self._other: int | None = None  # the second guess
        self._run = _AGREED  # tokens that agreed since the cursor was set
        self._parted = at  # where row and original diverged
        self._pairs: dict[tuple[int, int], list[int]] = {}  # where each two tokens end
        for i, pair in enumerate(itertools.pairwise(self._original)):
            self._pairs.setdefault(pair, []).append(i + 1)
        self._recent: list[int] = []  # the row's last tokens
        self._tail: list[int] = []  # emitted since then
        self._tail_lines = 0  # line ends among them
        self._length = self.longest

    @property
    def at(self) -> int:
        """The index in the original of the next drafted token."""
        return self._at

    @property
    def next(self) -> int | None:
        """The original's token at the cursor; None if the row differs from it, or at its end."""
        is_there = self._run >= _AGREED and self._at < len(self._original)
        return self._original[self._at] if is_there else None

    def draft(self, limit: int) -> Draft:
        """The text at the cursor."""
        rate = 1 - (self._partings + 1) / (self._partings + self._agreements + _PRIOR)
        worth = int(math.log(self.least) / math.log(rate))
        size = min(limit, self._length, max(worth, _SHORTEST))
        tokens = self._original[self._at : self._at + size]
        first = 1.0 if self._run >= _AGREED else _GUESS
        agreed = range(self._run + 1, self._run + 1 + len(tokens))
        powers = itertools.accumulate((rate * n / (n + _DOUBT) for n in agreed), operator.mul)
        draft = Draft.chain(tokens, [first * power for power in powers])
        if self.tree and self._other is not None:
            return _forked(draft, self._original[self._other : self._other + size], limit, rate)
        return draft

    def accept(self, tokens: Sequence[int]) -> None:
        """Follows the emitted tokens; drafts get shorter while none agree."""
        agreed = self._agreeing(tokens)
        agreed += sum([self._follow(token) for token in tokens[agreed:]])
        if agreed:
            self._length = self.longest
        elif len(self._tail) > self._agreements:
            self._length = min(self._length, 2 * _SHORTEST) // 2
        elif len(self._tail) <= _OWN_WAY:
            self._length = self.longest
        else:
            self._length = max(self._length // 2, _SHORTEST)

    def _agreeing(self, tokens: Sequence[int]) -> int:
        """Follows the first tokens at once if the cursor is certain; returns how many agreed."""
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
        """Follows one emitted token; returns whether it was at the cursor."""
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
        """Called when the cursor is certain again; counts which guess would have been right."""
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
        """The new cursor after a token that differs from the original, and the second guess."""
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
        """Behind the same token a little further on, or at the start of a later line."""
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
        """Behind the place where the original has the longest tail of the row, if that has two
        tokens; of equally long ones the nearest to the point of divergence.
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
    """A draft with a second chain from its root, in at most ``limit`` tokens."""
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
