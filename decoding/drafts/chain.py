"""Several drafters in a row: the first that is sure drafts, else the best, none if none pays.

Costs are counted in plain steps. A verified draft of n tokens is taken to cost ``token_cost * n``
more than a plain step; each accepted token saves one. A drafter's estimate of its own success is
corrected by what came of it in this row (``trust``), apart for drafts it was sure of and others. A
draft is cut where the corrected probability falls below its cost, and skipped if nothing is left.
Drafts that were made and not chosen are compared with what was emitted as well, which costs no
verification: a drafter that fails is switched off, and is back as soon as it would have been right.

Beyond that there is an account: it starts with ``allowance`` steps, earns ``slack`` of a step each
round and all that drafts gain, and never holds more than ``ceiling``. Drafts are paid from it, so a
row costs at most ``1 + slack`` of plain decoding and a constant (in this model of cost; a loop that
knows better sets ``token_cost``), however the drafts fail.

Nothing here looks at a clock: drafts are the same in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codegen.decoding.drafts.protocol import Context, Draft, Drafter

_SURE = 0.9  # probability of the first token
_TRUSTED = 0.5  # trust at which a sure draft is taken without a look at the others
_WEIGHT = 4.0  # tokens of a drafter's own estimate that trust begins with
_FORGET = 0.9  # per draft


@dataclass(slots=True)
class Tally:
    """What came of one drafter's drafts in this row.

    Attributes:
        rounds: drafts that were verified.
        drafted: tokens in them.
        accepted: tokens of them that the target agreed with.
    """

    rounds: int = 0
    drafted: int = 0
    accepted: int = 0


@dataclass(slots=True)
class _Trust:
    """Accepted over expected tokens, recent drafts weighing most."""

    accepted: float = _WEIGHT
    expected: float = _WEIGHT

    @property
    def factor(self) -> float:
        return self.accepted / self.expected

    def learn(self, accepted: int, expected: float) -> None:
        self.accepted = _FORGET * self.accepted + accepted
        self.expected = _FORGET * self.expected + expected


class DrafterChain:
    """The drafters of one row by name, in order of preference.

    Args:
        drafters: by name; each is told of everything, whoever drafts.
        token_cost: cost of one more drafted token, in plain steps.
        slack: share of plain decoding's cost that failing drafts may add.
        allowance: steps that a row may lose before anything was gained.
        ceiling: most that a row may lose after drafts went well.
    """

    def __init__(
        self,
        drafters: dict[str, Drafter],
        *,
        token_cost: float = 0.01,
        slack: float = 0.03,
        allowance: float = 1.0,
        ceiling: float = 4.0,
    ) -> None:
        self.drafters = drafters
        self.token_cost = token_cost
        self.slack = slack
        self.allowance = allowance
        self.ceiling = ceiling
        self.candidates = max((d.candidates for d in drafters.values()), default=0)
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Begins the row with every drafter."""
        self.tallies = {name: Tally() for name in self.drafters}
        self._trust = {(name, sure): _Trust() for name in self.drafters for sure in (True, False)}
        self._balance = self.allowance
        self._made: dict[str, Draft] = {}  # what the next accept() is compared with
        self._chosen = ""
        for drafter in self.drafters.values():
            drafter.begin(prompt, context)

    def draft(self, limit: int) -> Draft:
        """The first sure draft, else the one with the largest gain, cut to what pays and what the
        row can afford.
        """
        self._made, self._chosen = {}, ""
        affordable = limit
        if self.token_cost > 0:
            affordable = min(limit, int(self._balance / self.token_cost + 1e-9))
        if affordable < 1:
            return Draft()
        best, chosen = 0.0, Draft()
        for name, drafter in self.drafters.items():
            draft = drafter.draft(affordable)
            if not len(draft):
                continue
            self._made[name] = draft
            sure = _sure(draft)
            factor = min(1.0, self._trust[name, sure].factor)
            worth = self._worth(draft, factor)
            gain = factor * worth.score - self.token_cost * len(worth)
            if gain > best:
                best, chosen, self._chosen = gain, worth, name
                self._made[name] = worth
                if sure and factor >= _TRUSTED:
                    break
        return chosen

    def accept(self, tokens: Sequence[int]) -> None:
        """Settles the account of the last draft and tells every drafter."""
        for name, draft in self._made.items():
            accepted = len(draft.path(tokens))
            self._trust[name, _sure(draft)].learn(accepted, _expected(draft, len(tokens)))
            if name == self._chosen:
                tally = self.tallies[name]
                tally.rounds += 1
                tally.drafted += len(draft)
                tally.accepted += accepted
                self._balance += accepted - self.token_cost * len(draft)
        self._balance = min(self._balance + self.slack, self.ceiling)
        self._made, self._chosen = {}, ""
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

    def _worth(self, draft: Draft, factor: float) -> Draft:
        """The nodes that are expected to pay for themselves."""
        least = self.token_cost / factor if factor > 0 else 2.0
        kept = [i for i, probability in enumerate(draft.probabilities) if probability >= least]
        if len(kept) == len(draft):
            return draft
        # A child is never more probable than its parent, so the parents of what is kept are kept.
        number = {node: i for i, node in enumerate(kept)}
        return Draft(
            [draft.tokens[i] for i in kept],
            [number.get(draft.parents[i], -1) for i in kept],
            [draft.probabilities[i] for i in kept],
        )


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
