"""The compiled suffix structure; see order.hpp for how it works."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Of arrays, ``array('i')`` and NumPy's int32 are read without a copy; int64 is taken as well.
_Tokens = Sequence[int] | np.ndarray[Any, np.dtype[np.signedinteger[Any]]]
_Draft = tuple[list[int], list[int], list[float], float, int]

class SuffixIndex:
    """Token sequences in suffix order.

    Args:
        budget: tokens to hold at most, each sequence billed 32 on top; None for no bound. Finished
            sequences are evicted, those that finished first in front.
    """

    def __new__(cls, budget: int | None = None) -> SuffixIndex: ...
    @property
    def budget(self) -> int | None:
        """The budget, None for none."""
    @property
    def billed(self) -> int:
        """Tokens that count against the budget."""
    @property
    def nbytes(self) -> int:
        """Bytes of memory reserved."""
    def __len__(self) -> int:
        """Number of tokens held."""
    def start(self) -> int:
        """Begins a sequence that will grow; returns its id, which is never used again."""
    def append(self, sequence: int, tokens: _Tokens, /) -> None:
        """Appends tokens to a sequence: all of them, or none and an exception.

        Raises:
            KeyError: for an unknown sequence.
            ValueError: for a finished one, and for token ids outside 0 .. 2**31 - 1.
            BudgetError: if the budget has no room even when all finished sequences go.
        """
    def add(self, tokens: _Tokens, /) -> int:
        """Stores a finished sequence; returns its id. Raises as :meth:`append`."""
    def finish(self, sequence: int, /) -> None:
        """Ends a sequence: its end counts as an end from now on, and it may be evicted."""
    def oldest(self) -> int | None:
        """The finished sequence that is evicted next, None if none has ended."""
    def remove(self, sequence: int, /) -> None:
        """Takes a sequence out, as if it had never been there."""
    def is_finished(self, sequence: int, /) -> bool:
        """Whether a sequence has ended."""
    def text(self, sequence: int, /) -> list[int]:
        """A sequence's tokens."""
    def sequences(self) -> list[int]:
        """The ids of the stored sequences, oldest first."""
    def count(self, text: _Tokens, /) -> int:
        """How often a text occurs, overlaps included; the empty text occurs once a token."""
    def match(self, context: _Tokens, /) -> int:
        """The length of the longest suffix of the context that occurs."""
    def draft(
        self,
        context: _Tokens,
        /,
        limit: int = 32,
        factor: float = 1.0,
        offset: float = 0.0,
        min_probability: float = 0.1,
        tree: bool = False,
        sample: int = 32,
        min_match: int = 1,
        max_match: int = 1024,
    ) -> _Draft:
        """A draft of what follows a context.

        For the longest suffix of the context that occurs, and then for shorter ones (of two tokens
        at least) while they could still score more: look at the ``sample`` evenly spaced places (in
        suffix order) where it ends, all of them if there are no more; take the tokens that follow
        by their share, the most frequent first and of equally frequent ones the most recent, up to
        ``min(limit, factor * match length + offset)`` tokens and not below ``min_probability``.
        The draft with the largest sum of probabilities wins, of equal ones the longer match.

        Args:
            context: tokens; only the last ``max_match`` are looked at.
            limit: tokens of the draft.
            factor: tokens of the draft for each token of the match.
            offset: tokens of the draft on top of that.
            min_probability: of a token given all before it.
            tree: the most probable nodes of a tree, instead of one path.
            sample: places to estimate probabilities from.
            min_match: shortest match to draft from.
            max_match: longest match told from longer ones.

        Returns:
            The tokens, each one's parent (index, -1 at the root), their probabilities, the sum of
            these, and the length of the match; empty lists where nothing matches.
        """
    def draft_after(
        self,
        sequence: int,
        /,
        limit: int = 32,
        factor: float = 1.0,
        offset: float = 0.0,
        min_probability: float = 0.1,
        tree: bool = False,
        sample: int = 32,
        min_match: int = 1,
        max_match: int = 1024,
    ) -> _Draft:
        """:meth:`draft` with a stored sequence as the context, which costs no search.

        The sequence's own end, while it grows, is no evidence of an end.
        """
    def check(self) -> None:
        """Checks all invariants; raises SystemError where one does not hold. For tests."""
