"""Drafts from earlier text and verifications: suffix drafts and token recycling.

**Suffix drafts**: continuations of the same earlier text, in this row or in past responses.

As in SuffixDecoding (Oliaro et al. 2024, arXiv 2411.04975), one index has the row's prompt and
output, and one has past responses. The draft with the larger sum of probabilities is used; in a
tie, the row's own. Unlike in the paper, a match has no maximum length, and short matches lower the
probabilities: after n agreeing tokens, of the match and the draft, the next is multiplied by n / (n
+ 1.5).

**Token recycling** (Luo et al., ACL 2025): a token's likely successors when last verified.

A table has, for each token, the target's most likely successors when the token was last verified,
accepted or not. The draft is a tree grown from the table. A node's probability is the product, on
its path, of the frequencies with which emitted tokens had these ranks. The paper's tree of 80 nodes
is fixed; ours is the most likely tree for the row's ranks, which needs no tuning. The table is a
dictionary and grows with the verified tokens, not with the vocabulary.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from codegen.decoding.drafts.protocol import Context, Draft, Drafter
from codegen.decoding.suffix import SuffixIndex, SuffixStore

_CONTEXT = 256  # last tokens of the row that are searched for in past responses
_SAMPLE = 32  # positions used to estimate probabilities
_DOUBT = 1.5  # measured on code, answers and an agent's traces: docs/drafts.md


@dataclass(eq=False)
class SuffixDrafter(Drafter):
    """Drafter that copies from the row itself and from a store of past responses.

    Args:
        store: past responses, to which the row's is added when it finishes; None for the row only.
        factor: drafted tokens per token of the match.
        min_probability: minimum probability of a drafted token.
        tree: draft the most likely nodes of a tree instead of one path.
        min_match: shortest match to draft from.
    """

    store: SuffixStore | None = None
    _: KW_ONLY
    factor: float = 2.0
    min_probability: float = 0.1
    tree: bool = False
    min_match: int = 1

    def __post_init__(self) -> None:
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Indexes the prompt, in about half a microsecond per token."""
        self._tenant = context.tenant
        self._row = array("i", prompt)
        self._prompt = len(self._row)
        self._own = SuffixIndex()
        self._sequence = self._own.start()
        self._own.append(self._sequence, self._row)

    def draft(self, limit: int) -> Draft:
        """Returns the better of the row's and the store's draft."""
        options = (
            limit, self.factor, 0.0, self.min_probability, self.tree, _SAMPLE, self.min_match,
        )  # fmt: skip
        tokens, parents, probabilities, score, match = self._own.draft_after(
            self._sequence, *options
        )
        past = self.store.index(self._tenant) if self.store is not None else None
        if past is not None:
            found = past.draft(self._row[-_CONTEXT:], *options)
            if found[3] > score:
                tokens, parents, probabilities, _, match = found
        return Draft(tokens, parents, _doubted(parents, probabilities, match))

    def accept(self, tokens: Sequence[int]) -> None:
        """Appends to the row."""
        self._row.extend(tokens)
        self._own.append(self._sequence, tokens)

    def finish(self) -> None:
        """Adds the response to the store."""
        if self.store is not None and len(self._row) > self._prompt:
            self.store.add(self._row[self._prompt :], self._tenant)


def _doubted(parents: Sequence[int], probabilities: Sequence[float], match: int) -> list[float]:
    """Lowers the nodes' probabilities: the fewer tokens agreed before, the more."""
    lengths: list[int] = []
    factors: list[float] = []
    for parent in parents:
        length, factor = (lengths[parent], factors[parent]) if parent >= 0 else (match, 1.0)
        lengths.append(length + 1)
        factors.append(factor * length / (length + _DOUBT))
    return [factor * found for factor, found in zip(factors, probabilities, strict=True)]


_DEPTH = 6
# The prior: correct tokens per rank in about twenty tokens.
_PRIOR = (8.0, 2.0, 1.0, 0.6, 0.4, 0.3, 0.2, 0.2)
_MISSED = 8.0


class RecyclingDrafter(Drafter):
    """Drafter that uses the target's earlier candidates.

    Args:
        candidates: successors kept per token.

    Attributes:
        ranks: how often the emitted token was the candidate of each rank, with a prior.
        steps: number of emitted tokens, with the prior.
    """

    def __init__(self, candidates: int = 8) -> None:
        self.candidates = candidates
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Starts from an empty table."""
        self._table: dict[int, tuple[int, ...]] = {}
        self._last = prompt[-1] if len(prompt) else None
        self.ranks = [_PRIOR[min(i, len(_PRIOR) - 1)] for i in range(self.candidates)]
        self.steps = sum(self.ranks) + _MISSED

    def draft(self, limit: int) -> Draft:
        """Returns the most likely tree."""
        if self._last is None or limit < 1:
            return Draft()
        chances = [count / self.steps for count in self.ranks]
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
                self.steps += 1
                if token in known[: self.candidates]:
                    self.ranks[known.index(token)] += 1
            self._last = token

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        """Stores the latest candidates; called after :meth:`accept`, which counts the old ranks."""
        for token, following in zip(tokens, successors, strict=True):
            self._table[token] = tuple(dict.fromkeys(following[: self.candidates]))
