"""Several drafters for one row; the draft with the most expected accepted tokens is used.

A drafter's estimate of its success is corrected by its past success in the row (``trust``),
separately for confident drafts and others. Unused drafts are also compared with the emitted
tokens, which costs no verification: a failing drafter is skipped, and used again as soon as
it would have been correct. ``planner`` decides whether a draft is worth its cost.

No code here reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.decoding.drafts.edits import CursorDrafter, DiffDrafter
from codegen.decoding.drafts.lookup import RecyclingDrafter, SuffixDrafter
from codegen.decoding.drafts.protocol import Context, Draft, Drafter
from codegen.decoding.suffix import SuffixStore

_SURE = 0.9  # minimum probability of a confident draft's first token
_WEIGHT = 4.0  # initial weight, in tokens, of a drafter's own estimate
_FORGET = 0.9  # decay per draft


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


class DrafterChain(Drafter):
    """The drafters of one row by name, in order of preference.

    Args:
        drafters: drafters by name; each gets all emitted tokens.
    """

    def __init__(self, drafters: dict[str, Drafter]) -> None:
        self.drafters = drafters
        self.candidates = max((d.candidates for d in drafters.values()), default=0)
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Begins the row with every drafter."""
        self._trust = {(name, sure): _Trust() for name in self.drafters for sure in (True, False)}
        self._made: dict[str, Draft] = {}  # compared with the next accept()
        for drafter in self.drafters.values():
            drafter.begin(prompt, context)

    def draft(self, limit: int) -> Draft:
        """Returns the draft with the most expected tokens; ties: the first.

        Its probabilities are corrected, and its ``source`` is the drafter's name.
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
        """Compares the drafts with the emitted tokens; passes the tokens to every drafter."""
        for name, draft in self._made.items():
            expected = _expected(draft, len(tokens))
            self._trust[name, _sure(draft)].learn(len(draft.path(tokens)), expected)
        self._made = {}
        for drafter in self.drafters.values():
            drafter.accept(tokens)

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        """Passes the observation to every drafter."""
        for drafter in self.drafters.values():
            drafter.observe(tokens, successors)

    def finish(self) -> None:
        """Finishes the row with every drafter."""
        for drafter in self.drafters.values():
            drafter.finish()


@dataclass(frozen=True)
class DrafterMaker:
    """Factory of drafters for one tokenizer.

    Attributes:
        encode: text to token ids, without special tokens.
        decode: token ids to text.
        line_ends: ids of the tokens that contain a line break.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    line_ends: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Any, tokens: Sequence[bytes | None]) -> DrafterMaker:
        """Creates the factory for a transformers tokenizer.

        Args:
            tokenizer: the tokenizer.
            tokens: the bytes of its tokens (:class:`codegen.decoding.healing.Vocabulary`).
        """

        def encode(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False).input_ids if text else []

        def decode(ids: Sequence[int]) -> str:
            return tokenizer.decode(list(ids))

        ends = frozenset(i for i, token in enumerate(tokens) if b"\n" in (token or b""))
        return cls(encode, decode, ends)

    def context(self, original: str, tenant: Hashable = None) -> Context:
        """Builds the context of a row that rewrites a file, or changes it by a diff."""
        return Context(self.encode(original), original, tenant)

    def chain(
        self,
        names: Sequence[str],
        *,
        store: SuffixStore | None = None,
        factor: float = 2.0,
        min_probability: float = 0.1,
    ) -> DrafterChain:
        """Builds the drafters of one row.

        Args:
            names: any of ``cursor``, ``diff``, ``suffix``, ``recycling``, in order of preference.
            store: past responses for the suffix drafter.
            factor, min_probability: see :class:`SuffixDrafter`.
        """
        makers: dict[str, Callable[[], Drafter]] = {
            "cursor": lambda: CursorDrafter(self.line_ends),
            "diff": lambda: DiffDrafter(self.encode, self.decode, self.line_ends),
            "suffix": lambda: SuffixDrafter(store, factor=factor, min_probability=min_probability),
            "recycling": RecyclingDrafter,
        }
        return DrafterChain({name: makers[name]() for name in names})


def _sure(draft: Draft) -> bool:
    return draft.probabilities[0] >= _SURE


def _expected(draft: Draft, depth: int) -> float:
    """Sums the probabilities of nodes down to a depth."""
    depths: list[int] = []
    total = 0.0
    for parent, probability in zip(draft.parents, draft.probabilities, strict=True):
        depths.append(1 if parent < 0 else depths[parent] + 1)
        if depths[-1] <= depth:
            total += probability
    return total
