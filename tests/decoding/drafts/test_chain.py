"""The chain of drafters: which draft is taken, and which drafter is passed over."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.decoding.drafts import Context, CursorDrafter, Draft, DrafterChain, RecyclingDrafter


class Scripted:
    """Drafts what it is told, as surely as it is told."""

    candidates = 0

    def __init__(self, tokens: Sequence[int], probability: float) -> None:
        self.tokens = tokens
        self.probability = probability

    def begin(self, prompt: Sequence[int], context: Context) -> None: ...

    def draft(self, limit: int) -> Draft:
        tokens = self.tokens[:limit]
        return Draft.chain(tokens, [self.probability ** (i + 1) for i in range(len(tokens))])

    def accept(self, tokens: Sequence[int]) -> None: ...

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None: ...

    def finish(self) -> None: ...


def test_a_drafter_that_fails_is_passed_over_until_it_would_be_right() -> None:
    bad, good = Scripted([1] * 20, 0.95), Scripted([5, 6, 7], 0.8)
    chain = DrafterChain({"bad": bad, "good": good})
    chosen = []
    for _ in range(200):
        draft = chain.draft(16)
        chosen.append(draft.source)
        chain.accept([5, 6, 7, 8])
    assert chosen.count("bad") <= 20 and set(chosen[40:]) == {"good"}
    good.tokens = [9]  # the row changes: now the other one is right
    chosen = []
    for _ in range(30):
        draft = chain.draft(16)
        chosen.append(draft.source)
        chain.accept([1] * (len(draft.path([1] * 20)) + 1))
    assert chosen.count("bad") >= 15
    chain.begin([], Context())
    assert chain.draft(16).source == "bad"


def test_the_most_expected_tokens_win_and_trust_corrects_them() -> None:
    sure, better = Scripted([1, 2, 3], 0.95), Scripted([4, 5, 6], 0.99)
    assert DrafterChain({"a": sure, "b": better}).draft(9).tokens == [4, 5, 6]
    assert DrafterChain({"a": sure, "b": sure}).draft(9).source == "a"
    assert DrafterChain({}).draft(9) == Draft()
    assert DrafterChain({"c": CursorDrafter(), "r": RecyclingDrafter(5)}).candidates == 5
    wrong = DrafterChain({"a": sure})
    before = wrong.draft(9).score
    wrong.accept([7])
    assert wrong.draft(9).score < before
