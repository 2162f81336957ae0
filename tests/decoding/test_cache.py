"""Rows that share their slots in pages: who owns which, and that decoding is the same."""

from __future__ import annotations

import random

import torch

from codegen.decoding.cache import CacheLayer, KVCache, Pages
from codegen.decoding.loop import Row, decode
from codegen.decoding.passes import exchange
from codegen.kernels.tree_attention import PAGE
from tests.llamas import small_llama


def test_rows_keep_their_own_pages() -> None:
    """Against a dictionary, as rows come and go; pages that are free again are used first."""
    rng = random.Random(0)
    pages, expected = Pages(5 * PAGE, torch.device("cpu")), []
    most = 0
    for _ in range(60):
        needs = [rng.randint(1, 5 * PAGE) for _ in range(rng.randint(0, 3))]
        pages.admit(needs)
        expected += needs
        most = max(most, sum(-(-need // PAGE) for need in expected))
        owned = []
        for row, need in enumerate(expected):
            slots = pages.places(torch.arange(need).expand(len(expected), -1))[row]
            assert (slots % PAGE == torch.arange(need) % PAGE).all()
            owned += sorted(set((slots // PAGE).tolist()))
        assert 0 not in owned and len(owned) == len(set(owned))
        assert max(owned, default=0) < pages.count == 1 + most
        kept = rng.sample(range(len(expected)), rng.randint(0, len(expected)))
        starts = pages.starts[kept]
        pages.select(kept)
        expected = [expected[row] for row in kept]
        assert torch.equal(pages.starts, starts)


def test_rows_across_pages_come_and_go() -> None:
    """Texts that end in another page than they began in, with prompts of one token among them."""
    prompts = [[7 + i % 50 for i in range(n)] for n in (250, 1, 300, 40, 254)]
    texts = []
    for paged in (False, True):
        model = small_llama()
        assert not paged or exchange(model)
        rows = [Row(list(prompt), [0.0] * 12) for prompt in prompts]
        decode(model, rows, max_new_tokens=12, temperature=0, top_p=1.0, eos=frozenset(), width=2,
               on_token=lambda number, _: number == 1 and len(rows[1].tokens) == 5)  # noqa: B023 # fmt: skip
        texts.append([row.tokens for row in rows])
    assert texts[0] == texts[1] and len(texts[1][1]) == 5


def test_an_accepted_path_moves_over_a_border() -> None:
    cache = KVCache(1, pages=Pages(2 * PAGE, torch.device("cpu")))
    cache.admit([2 * PAGE, 2 * PAGE])
    layer = cache.layers[0]
    assert isinstance(layer, CacheLayer)
    slots = torch.arange(2 * PAGE).expand(2, -1)
    cache.place(slots, None)
    states = torch.arange(4.0 * PAGE).view(2, 1, -1, 1)
    layer.update(states, -states)
    cache.keep(torch.tensor([[2, 5, 6], [3, -1, -1]]), torch.tensor([PAGE - 3, PAGE - 2]))
    keys, values = (part[0][:, cache.slots.index].transpose(0, 1) for part in layer.states)
    expected = states.clone()
    expected[0, 0, PAGE - 2 : PAGE + 1] = states[0, 0, [PAGE - 1, PAGE + 2, PAGE + 3]]
    expected[1, 0, PAGE - 1] = states[1, 0, PAGE + 1]
    assert torch.equal(keys, expected) and torch.equal(values, -expected)
