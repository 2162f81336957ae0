"""Suffix drafts: what followed the same text before, in this row or in past responses.

After SuffixDecoding (Oliaro et al. 2024, arXiv 2411.04975): one index of the row's prompt and
output, and one of past responses. The draft with the larger sum of probabilities is used; of equal
ones the row's own. Unlike in the paper, a match has no maximum length, and short matches lower the
probabilities: after n agreeing tokens, of the match and the draft, the next is multiplied by
n / (n + 1.5).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from codegen.decoding.drafts.protocol import Context, Draft, Drafter
from codegen.decoding.suffix import SuffixIndex, SuffixStore

_CONTEXT = 256  # last tokens of the row that are searched for in past responses
_DOUBT = 1.5  # as measured on code, answers and an agent's traces: docs/drafts.md


class SuffixDrafter(Drafter):
    """Drafts from the row itself and from a store of past responses.

    Args:
        store: past responses, to which the row's is added when it finishes; None for the row only.
        factor: drafted tokens per token of the match.
        min_probability: least probability of a drafted token.
        tree: draft the most probable nodes of a tree instead of one path.
        sample: places from which probabilities are estimated.
        min_match: shortest match to draft from.
    """

    def __init__(
        self,
        store: SuffixStore | None = None,
        *,
        factor: float = 2.0,
        min_probability: float = 0.1,
        tree: bool = False,
        sample: int = 32,
        min_match: int = 1,
    ) -> None:
        self.store = store
        self.factor = factor
        self.min_probability = min_probability
        self.tree = tree
        self.sample = sample
        self.min_match = min_match
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
        """The better of two drafts."""
        options = (
            limit, self.factor, 0.0, self.min_probability, self.tree, self.sample, self.min_match,
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
        """Keeps the response in the store."""
        if self.store is not None and len(self._row) > self._prompt:
            self.store.add(self._row[self._prompt :], self._tenant)


def _doubted(parents: Sequence[int], probabilities: Sequence[float], match: int) -> list[float]:
    """The nodes' probabilities, lowered by how few tokens agreed before each."""
    lengths: list[int] = []
    factors: list[float] = []
    for parent in parents:
        length, factor = (lengths[parent], factors[parent]) if parent >= 0 else (match, 1.0)
        lengths.append(length + 1)
        factors.append(factor * length / (length + _DOUBT))
    return [factor * found for factor, found in zip(factors, probabilities, strict=True)]
