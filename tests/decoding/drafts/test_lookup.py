"""Suffix drafts, token recycling, and the chain that chooses among drafters and keeps account."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from codegen.decoding.drafts import Context, Draft, RecyclingDrafter, SuffixDrafter
from codegen.decoding.suffix import SuffixIndex, SuffixStore


def test_suffix_drafts_come_from_the_row_and_from_the_tenants_past() -> None:
    store = SuffixStore(10_000)
    row = SuffixDrafter(store)
    row.begin([1, 2, 3], Context(tenant="a"))
    row.accept([50, 51, 52, 53])
    row.finish()
    past = store.index("a")
    assert past is not None and past.text(past.sequences()[0]) == [50, 51, 52, 53]  # no prompt
    for tenant, expected in (("a", [52, 53]), ("b", []), (None, [])):
        row.begin([9, 50, 51], Context(tenant=tenant))
        assert row.draft(16).tokens == expected
    row.begin([7, 8, 9, 4, 7, 8, 9], Context(tenant="a"))
    assert row.draft(16).tokens == [4, 7, 8, 9]
    assert SuffixDrafter().draft(16) == Draft()


def test_suffix_drafts_are_the_better_of_two_and_doubt_short_matches() -> None:
    rng = random.Random(2)
    store = SuffixStore(100_000)
    texts = [[rng.randrange(6) for _ in range(80)] for _ in range(12)]
    for text in texts:
        store.add(text)
    past = store.index()
    assert past is not None
    for text in texts:
        row = [rng.randrange(6) for _ in range(30)] + text[:20]
        own = SuffixIndex()
        sequence = own.start()
        own.append(sequence, row)
        drafter = SuffixDrafter(store, factor=2.0)
        drafter.begin(row[:35], Context())
        drafter.accept(row[35:])
        mine, theirs = own.draft_after(sequence, 16, 2.0), past.draft(row, 16, 2.0)
        best = mine if mine[3] >= theirs[3] else theirs
        draft = drafter.draft(16)
        assert draft.tokens == best[0] and best is theirs
        agreed = best[4]
        trust = [math.prod((agreed + j) / (agreed + j + 1.5) for j in range(d + 1))
                 for d in range(len(best[2]))]  # fmt: skip
        expected = [t * p for t, p in zip(trust, best[2], strict=True)]
        assert draft.probabilities == pytest.approx(expected)


def test_recycled_trees_are_the_most_probable_ones() -> None:
    """Against all paths, enumerated."""
    rng = random.Random(4)
    drafter = RecyclingDrafter(3)
    drafter.begin([0], Context())
    table = {t: rng.sample(range(5), 3) for t in range(5)}
    drafter.observe(list(table), list(table.values()))
    chances = [count / drafter.steps for count in drafter.ranks]
    paths = {}
    for depth in range(1, 7):
        for ranks in itertools.product(range(3), repeat=depth):
            probability, token, tokens = 1.0, 0, []
            for rank in ranks:
                probability *= chances[rank]
                token = table[token][rank]
                tokens.append(token)
            paths[tuple(tokens)] = probability
    draft = drafter.draft(40)
    best = sorted(paths.values(), reverse=True)[:40]
    assert sorted(draft.probabilities, reverse=True) == pytest.approx(best)
    for node in range(40):
        tokens, at = [], node
        while at >= 0:
            tokens.append(draft.tokens[at])
            at = draft.parents[at]
        assert draft.probabilities[node] == pytest.approx(paths[tuple(reversed(tokens))])
