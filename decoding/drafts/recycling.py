"""Token recycling (Luo et al., ACL 2025): what the target found probable after a token last time.

A table has, for each token, the target's most probable successors when the token was last verified,
accepted or not. The draft is a tree grown from the table. A node's probability is the product, on
its path, of how often the next token had its rank. The paper's tree of 80 nodes is fixed; ours is
the most probable tree for the ranks seen in the row, which needs no tuning. The table is a
dictionary and grows with the tokens seen, not with the vocabulary.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from codegen.decoding.drafts.protocol import Context, Draft, Drafter

_DEPTH = 6
# The prior: how often each rank was right, out of about twenty tokens.
_PRIOR = (8.0, 2.0, 1.0, 0.6, 0.4, 0.3, 0.2, 0.2)
_MISSED = 8.0


class RecyclingDrafter(Drafter):
    """Drafts from the target's own candidates.

    Args:
        candidates: successors kept per token.
        tree: draft a tree; else the chain of first candidates.
        table: successors by token, shared with other rows; None for the row's own table. With a
            shared table drafts depend on the other rows, the emitted tokens do not.
    """

    def __init__(
        self,
        candidates: int = 8,
        *,
        tree: bool = True,
        table: dict[int, tuple[int, ...]] | None = None,
    ) -> None:
        self.candidates = candidates
        self.tree = tree
        self._shared = table
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Starts from the shared table or an empty one."""
        self._table = self._shared if self._shared is not None else {}
        self._last = prompt[-1] if len(prompt) else None
        self._ranks = [_PRIOR[min(i, len(_PRIOR) - 1)] for i in range(self.candidates)]
        self._steps = sum(self._ranks) + _MISSED

    def draft(self, limit: int) -> Draft:
        """The most probable tree, or the chain of first candidates."""
        if self._last is None or limit < 1:
            return Draft()
        chances = [count / self._steps for count in self._ranks[: None if self.tree else 1]]
        tokens: list[int] = []
        parents: list[int] = []
        probabilities: list[float] = []
        # (-probability, order, token, parent, depth); parents are popped before children.
        heap: list[tuple[float, int, int, int, int]] = []
        made = 0

        def sprout(token: int, probability: float, parent: int, depth: int) -> None:
            nonlocal made
            for chance, successor in zip(chances, self._table.get(token, ()), strict=False):
                heapq.heappush(heap, (-probability * chance, made, successor, parent, depth + 1))
                made += 1

        sprout(self._last, 1.0, -1, 0)
        while heap and len(tokens) < limit:
            negative, _, token, parent, depth = heapq.heappop(heap)
            tokens.append(token)
            parents.append(parent)
            probabilities.append(-negative)
            if depth < _DEPTH:
                sprout(token, -negative, len(tokens) - 1, depth)
        return Draft(tokens, parents, probabilities)

    def accept(self, tokens: Sequence[int]) -> None:
        """Counts the rank of each emitted token."""
        for token in tokens:
            known = self._table.get(self._last, ()) if self._last is not None else ()
            if known:
                self._steps += 1
                if token in known[: self.candidates]:
                    self._ranks[known.index(token)] += 1
            self._last = token

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        """Keeps the latest candidates; called after :meth:`accept`, which counts the old ranks."""
        for token, following in zip(tokens, successors, strict=True):
            self._table[token] = tuple(dict.fromkeys(following[: self.candidates]))
