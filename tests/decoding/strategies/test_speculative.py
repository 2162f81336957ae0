"""What every way of drafting must hold to: the greedy text of batch 1 in fp32, alone and in ragged
batches, at all the borders; and after each round the states of a fresh encoding.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from codegen.decoding.cache import KVCache
from codegen.decoding.drafts import (
    Context,
    CursorDrafter,
    DiffDrafter,
    Draft,
    Drafter,
    DrafterChain,
    RecyclingDrafter,
    SuffixDrafter,
)
from codegen.decoding.loop import Row, decode
from codegen.decoding.sequences import CachedRows, Trees
from codegen.decoding.strategies.sorted import Nested, SortedDrafter
from codegen.decoding.strategies.speculative import Speculation, children_of, tree_tensors, walk
from codegen.decoding.suffix import SuffixStore
from tests.llamas import small_llama
from tests.selection import some

PAD = 2  # the tiny model's padding and end; prompts hold it
PROMPTS = [
    [5, PAD, 20, 31, 8],
    [7],
    [11, 12, 13, PAD, PAD, 16, 17, 18, 19, 21, 22],
    [PAD, PAD],
    [40, 3, 40, 3, 40, 3],
]
NEW = 20


@pytest.fixture(scope="module")
def nested(llama: Any) -> Nested:
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    return Nested(small_llama(5, vocab_size=llama.config.vocab_size, **sizes), (1, 2, 4))


@torch.inference_mode()
def alone(model: Any, prompt: list[int], new: int, eos: frozenset[int]) -> tuple[list[int], str]:
    """The plainest loop: one row, the whole prefix at every token."""
    tokens = list(prompt)
    for _ in range(new):
        token = int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax())
        if token in eos:
            return tokens[len(prompt) :], "eos"
        tokens.append(token)
    return tokens[len(prompt) :], "length"


class Told:
    """Drafts what it is told will come, with a mistake now and then, as a chain or with forks."""

    candidates = 0

    def __init__(self, future: Sequence[int], *, wrong: float = 0.0, forks: bool = False) -> None:
        self.future, self.wrong, self.forks = list(future), wrong, forks
        self.at = 0

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        self.at, self.rng = 0, random.Random(len(prompt))

    def draft(self, limit: int) -> Draft:
        tokens: list[int] = []
        parents: list[int] = []
        parent = -1
        for token in self.future[self.at : self.at + limit]:
            if self.rng.random() < self.wrong:
                token = (token + 1) % 700
            if self.forks:
                tokens.append((token + 9) % 700)
                parents.append(parent)
            tokens.append(token)
            parents.append(parent)
            parent = len(tokens) - 1
        return Draft(tokens, parents, [0.5] * len(tokens)).first(limit)

    def accept(self, tokens: Sequence[int]) -> None:
        self.at += len(tokens)

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None: ...

    def finish(self) -> None: ...


def to_text(tokens: Sequence[int]) -> str:
    return "".join(f" {token}" for token in tokens)


def to_tokens(text: str) -> list[int]:
    return [int(part) for part in text.split() if part.isdecimal()]


Maker = Callable[[Nested, list[int]], Drafter]
ENDS = frozenset(range(3, 700, 17))  # taken for line breaks
MAKERS: dict[str, Maker] = {
    "suffix": lambda _, __: SuffixDrafter(),
    "suffix trees": lambda _, __: SuffixDrafter(tree=True),
    "suffix store": lambda _, future: SuffixDrafter(filled(future)),
    "recycling": lambda _, __: RecyclingDrafter(),
    "cursor": lambda _, __: CursorDrafter(ENDS),
    "cursor trees": lambda _, __: CursorDrafter(ENDS, tree=True),
    "diff": lambda _, __: DiffDrafter(to_tokens, to_text, ENDS),
    "sorted": lambda nested, __: SortedDrafter(nested, thresholds=(0.3,), tokens=2),
    "sorted full": lambda nested, __: SortedDrafter(nested, thresholds=(1.0,), tokens=2),
    "chain": lambda _, __: DrafterChain(
        {"cursor": CursorDrafter(ENDS), "suffix": SuffixDrafter(), "recycling": RecyclingDrafter()}
    ),
    "told": lambda _, future: Told(future, wrong=0.2),
    "told forks": lambda _, future: Told(future, wrong=0.2, forks=True),
    "nothing": lambda _, __: Told([]),
    "all wrong": lambda _, future: Told(future, wrong=1.0),
}


def filled(future: list[int]) -> SuffixStore:
    store = SuffixStore(10_000)
    store.add(future[3:16])
    return store


@pytest.mark.parametrize("eos", [frozenset(), frozenset(range(1, 700, 15)) | {PAD}], ids=len)
@pytest.mark.parametrize("name", some(MAKERS, 3))
def test_every_drafter_gives_the_greedy_text(
    llama: Any, nested: Nested, name: str, eos: frozenset[int]
) -> None:
    """Batch 1, ragged batches, and batches whose places are refilled."""
    wanted = [alone(llama, prompt, NEW, eos) for prompt in PROMPTS]
    endless = [alone(llama, prompt, NEW, frozenset())[0] for prompt in PROMPTS]
    runs: list[tuple[list[int], int]] = [([i], 1) for i in range(3)]
    every = list(range(len(PROMPTS)))
    for numbers, width in [*runs, (every, len(every)), (every[::-1], 2)]:
        rows = [Row(list(PROMPTS[i]), [0.0] * NEW) for i in numbers]
        # The file that is rewritten is what comes, with some of it missing.
        contexts = [
            Context(endless[i][:12] + endless[i][15:], to_text(endless[i][:20])) for i in numbers
        ]
        drafters = [MAKERS[name](nested, endless[i]) for i in numbers]
        speculation = Speculation(drafters, contexts, limit=6)
        decode(llama, rows, max_new_tokens=NEW, temperature=0, top_p=1, eos=eos, width=width,
               strategy=speculation)  # fmt: skip
        assert [(row.tokens, row.finish) for row in rows] == [wanted[i] for i in numbers]


def test_an_end_inside_a_draft_stops_and_trims(llama: Any) -> None:
    """Wherever the end falls: the first, a middle, the last drafted token, the target's own."""
    future = alone(llama, PROMPTS[0], 24, frozenset())[0]
    places = [i for i, token in enumerate(future) if token not in future[:i]]
    assert {i % 5 for i in places} >= {0, 1, 2, 3, 4}
    for place in places:
        eos = frozenset([future[place]])
        row = Row(list(PROMPTS[0]), [0.0] * 24)
        seen: list[int] = []
        decode(llama, [row], max_new_tokens=24, temperature=0, top_p=1, eos=eos,
               on_token=lambda _, token, seen=seen: bool(seen.append(token)),
               strategy=Speculation([Told(future)], limit=4))  # fmt: skip
        assert (row.tokens, row.finish) == (future[:place], "eos") and seen == row.tokens


def test_the_length_caps_a_draft_and_the_budget_what_is_drafted(llama: Any) -> None:
    """Drafts longer than what is left of the budget, or of the model's length."""
    future = alone(llama, PROMPTS[0], 24, frozenset())[0]
    asked: list[int] = []

    class Listening(Told):
        def draft(self, limit: int) -> Draft:
            asked.append(limit)
            return super().draft(limit)

    for most in range(1, 12):
        row = Row(list(PROMPTS[0]), [0.0] * most)
        decode(llama, [row], max_new_tokens=most, temperature=0, top_p=1, eos=frozenset(),
               strategy=Speculation([Listening(future)], limit=64))  # fmt: skip
        assert (row.tokens, row.finish) == (future[:most], "length")
        if most > 1:  # the last token is the target's own
            assert asked[-1] <= most - 1
    limit = llama.config.max_position_embeddings
    prompt = random.Random(0).choices(range(3, 700), k=limit - 6)
    row = Row(prompt, [0.0] * 6)
    decode(llama, [row], max_new_tokens=6, temperature=0, top_p=1, eos=frozenset(),
           strategy=Speculation([Told(range(100, 120))], limit=16))  # fmt: skip
    assert row.tokens == alone(llama, prompt, 6, frozenset())[0]


@pytest.mark.parametrize("name", ["told", "told forks", "suffix trees", "chain", "sorted"])
def test_after_each_round_the_states_are_those_of_a_fresh_encoding(
    llama: Any, nested: Nested, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every row, before every pass; silent drift would show here and nowhere else."""
    endless = [alone(llama, prompt, NEW, frozenset())[0] for prompt in PROMPTS]
    rows = [Row(list(prompt), [0.0] * NEW) for prompt in PROMPTS]
    drafters = [MAKERS[name](nested, future) for future in endless]
    compared = 0
    place = CachedRows.place

    def checking(self: CachedRows, trees: Trees, first: int = 0) -> Any:
        nonlocal compared
        for i, cursor in enumerate(self.cursors):
            if cursor:  # the row's tokens but the last; which row it is its last token tells
                compared += check_row(llama, self.cache, i, cursor, int(trees.tokens[i, 0]), rows)
        return place(self, trees, first)

    monkeypatch.setattr(CachedRows, "place", checking)
    decode(llama, rows, max_new_tokens=NEW, temperature=0, top_p=1, eos=frozenset(),
           strategy=Speculation(drafters, limit=6), width=3)  # fmt: skip
    assert [row.tokens for row in rows] == endless and compared > 20


def check_row(
    model: Any, cache: KVCache, i: int, cursor: int, newest: int, rows: Sequence[Row]
) -> int:
    """A row of the cache against an encoding of that row's tokens from nothing; 1."""
    candidates = [row.prompt + row.tokens for row in rows]
    fits = [t for t in candidates if len(t) == cursor + 1 and t[-1] == newest]
    errors = []
    for tokens in fits:
        with torch.inference_mode():
            fresh = model(torch.tensor([tokens[:-1]])).past_key_values
        error = 0.0
        for ours, theirs in zip(cache.layers, fresh.layers, strict=True):
            for part in ("keys", "values"):
                mine, wanted = getattr(ours, part)[i, :, :cursor], getattr(theirs, part)[0]
                error = max(error, float((mine - wanted).abs().max()))
        errors.append(error)
    assert not fits or min(errors) < 2e-4
    return bool(fits)


def test_the_acceptance_rule() -> None:
    """Down to the first token that was not drafted; a node that was not reached is not asked."""
    draft = Draft([4, 5, 6, 7], [-1, -1, 1, 2], [0.5] * 4)  # 4 | 5 -> 6 -> 7
    asked: list[int] = []

    def chosen(node: int) -> int:
        asked.append(node)
        return {0: 5, 2: 6, 3: 9}[node]

    assert list(walk(children_of(draft), chosen)) == [(5, 2), (6, 3), (9, -1)]
    assert asked == [0, 2, 3]
    assert list(walk({}, lambda _: 8)) == [(8, -1)]


def trees_of(drafts: Sequence[Draft], width: int) -> Trees:
    pending = list(range(1, 1 + len(drafts)))
    return Trees(*tree_tensors(pending, drafts, list(map(children_of, drafts)), width))


def test_trees_as_tensors() -> None:
    """A fork and a chain in one batch: who is whose ancestor, and what fills the shorter one up."""
    trees = trees_of([Draft([4, 5, 6], [-1, -1, 1], [0.5] * 3), Draft([3], [-1], [0.5])], 4)
    assert trees.tokens.tolist() == [[1, 4, 5, 6], [2, 3, 2, 2]]
    assert trees.depths.tolist() == [[0, 1, 1, 2], [0, 1, 0, 0]]
    first = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]
    assert trees.ancestors[0].long().tolist() == first
    assert trees.ancestors[1].diagonal().all()
    chain = trees_of([Draft.chain([4, 5], [0.5] * 2)], 3)
    assert chain.parents is None and chain.depths.tolist() == [[0, 1, 2]]
