"""What holds for every drafter, whatever the text."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.benchmarks.tools.drafting import PromptLookup
from codegen.decoding.drafts import (
    Context,
    CursorDrafter,
    DiffDrafter,
    Draft,
    DrafterChain,
    RecyclingDrafter,
    SuffixDrafter,
)
from codegen.decoding.suffix import SuffixStore


def chain() -> DrafterChain:
    return DrafterChain(
        {
            "cursor": CursorDrafter({0}, tree=True),
            "suffix": SuffixDrafter(tree=True),
            "recycling": RecyclingDrafter(4),
        }
    )


def letters() -> DiffDrafter:
    return DiffDrafter(
        lambda text: [ord(c) for c in text], lambda ids: "".join(map(chr, ids)), {10}
    )


DRAFTERS: dict[str, Callable[[], Any]] = {
    "cursor": lambda: CursorDrafter({0}),
    "cursor tree": lambda: CursorDrafter({0}, tree=True),
    "suffix": SuffixDrafter,
    "suffix tree": lambda: SuffixDrafter(tree=True, factor=4.0, min_probability=0.0),
    "suffix with a store": lambda: SuffixDrafter(SuffixStore(10_000)),
    "recycling": lambda: RecyclingDrafter(4),
    "lookup": PromptLookup,
    "diff": letters,
    "chain": chain,
}
tokens = st.lists(st.integers(0, 4), max_size=60)


@pytest.mark.parametrize("name", DRAFTERS)
@given(prompt=tokens, target=tokens, original=tokens, limit=st.integers(0, 20), seed=st.integers())
@settings(max_examples=40, deadline=None)
def test_a_draft_is_a_tree_that_depends_on_the_row_alone(
    name: str, prompt: list[int], target: list[int], original: list[int], limit: int, seed: int
) -> None:
    rng = random.Random(seed)
    context = Context(original=original, source="".join(map(chr, original)))
    first, second = DRAFTERS[name](), DRAFTERS[name]()
    first.begin([3, 3], Context(original=[1, 2]))  # an earlier row leaves nothing behind
    first.accept([3, 1])
    first.begin(prompt, context)
    second.begin(prompt, context)
    at = 0
    while at < len(target):
        draft = first.draft(limit)
        assert draft == first.draft(limit) == second.draft(limit)
        check_tree(draft, limit)
        emitted = target[at : at + len(draft.path(target[at:])) + 1]
        successors = [[rng.randrange(5) for _ in range(4)] for _ in range(len(draft) + 1)]
        for drafter in (first, second):
            drafter.accept(emitted)
            drafter.observe([*(target[:at] or prompt or [0])[-1:], *draft.tokens], successors)
        at += len(emitted)
    first.finish()


def check_tree(draft: Draft, limit: int) -> None:
    assert len(draft) <= limit
    assert len(draft.tokens) == len(draft.parents) == len(draft.probabilities)
    assert len({*zip(draft.parents, draft.tokens, strict=True)}) == len(draft), "siblings differ"
    for node, (parent, probability) in enumerate(
        zip(draft.parents, draft.probabilities, strict=True)
    ):
        assert -1 <= parent < node
        above = draft.probabilities[parent] if parent >= 0 else 1.0
        assert 0 <= probability <= above + 1e-12


def test_paths() -> None:
    draft = Draft([5, 6, 7, 5], [-1, 0, -1, 2], [0.6, 0.5, 0.3, 0.2])
    assert draft.path([5, 6, 9]) == [0, 1]
    assert draft.path([7, 5]) == [2, 3]
    assert draft.path([7, 6]) == [2]
    assert draft.path([9]) == draft.path([]) == []
    assert draft.score == pytest.approx(1.6)
    assert not draft.is_chain and draft.first(2).is_chain and draft.first(9) is draft
    assert Draft.chain([1, 2], [0.5, 0.4]) == Draft([1, 2], [-1, 0], [0.5, 0.4])
    assert len(Draft()) == 0 and Draft().score == 0
