"""Several drafters in a row: the one that expects most drafts.

A drafter's estimate of its own success is corrected by what came of it in this row (``trust``),
apart for drafts it was sure of and others. Drafts that were made and not chosen are compared with
what was emitted as well, which costs no verification: a drafter that fails is passed over, and is
back as soon as it would have been right. Whether a draft pays is not decided here: see ``planner``.

Nothing here looks at a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codegen.decoding.drafts.protocol import Context, Draft, Drafter

_SURE = 0.9  # probability of the first token
_WEIGHT = 4.0  # tokens of a drafter's own estimate that trust begins with
_FORGET = 0.9  # per draft


@dataclass(slots=True)
class _Trust:
    """Accepted over expected tokens, recent drafts weighing most."""

    accepted: float = _WEIGHT
    expected: float = _WEIGHT

    @property
    def factor(self) -> float:
        return min(1.0, self.accepted / self.expected)

    def learn(self, accepted: int, expected: float) -> None:
        self.accepted = _FORGET * self.accepted + accepted
        self.expected = _FORGET * self.expected + expected


class DrafterChain:
    """The drafters of one row by name, in order of preference.

    Args:
        drafters: by name; each is told of everything, whoever drafts.
    """

    def __init__(self, drafters: dict[str, Drafter]) -> None:
        self.drafters = drafters
        self.candidates = max((d.candidates for d in drafters.values()), default=0)
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Begins the row with every drafter."""
        self._trust = {(name, sure): _Trust() for name in self.drafters for sure in (True, False)}
        self._made: dict[str, Draft] = {}  # what the next accept() is compared with
        for drafter in self.drafters.values():
            drafter.begin(prompt, context)

    def draft(self, limit: int) -> Draft:
        """The draft with the most expected tokens, of equal ones the first; its probabilities are
        corrected, its ``source`` is the drafter's name.
        """
        self._made = {}
        best, chosen, factor = 0.0, "", 0.0
        for name, drafter in self.drafters.items():
            draft = drafter.draft(limit)
            if not len(draft):
                continue
            self._made[name] = draft
            sure = _sure(draft)
            trust = self._trust[name, sure].factor
            if trust * draft.score > best:
                best, chosen, factor = trust * draft.score, name, trust
        if not chosen:
            return Draft()
        draft = self._made[chosen]
        corrected = [factor * probability for probability in draft.probabilities]
        return Draft(draft.tokens, draft.parents, corrected, chosen)

    def accept(self, tokens: Sequence[int]) -> None:
        """Compares what was drafted with what was emitted, and tells every drafter."""
        for name, draft in self._made.items():
            expected = _expected(draft, len(tokens))
            self._trust[name, _sure(draft)].learn(len(draft.path(tokens)), expected)
        self._made = {}
        for drafter in self.drafters.values():
            drafter.accept(tokens)

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        """Tells every drafter."""
        for drafter in self.drafters.values():
            drafter.observe(tokens, successors)

    def finish(self) -> None:
        """Tells every drafter."""
        for drafter in self.drafters.values():
            drafter.finish()


def _sure(draft: Draft) -> bool:
    return draft.probabilities[0] >= _SURE


def _expected(draft: Draft, depth: int) -> float:
    """The sum of probabilities down to a depth: what was emitted tells nothing of deeper nodes."""
    depths: list[int] = []
    total = 0.0
    for parent, probability in zip(draft.parents, draft.probabilities, strict=True):
        depths.append(1 if parent < 0 else depths[parent] + 1)
        if depths[-1] <= depth:
            total += probability
    return total
