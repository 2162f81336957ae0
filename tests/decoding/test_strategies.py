"""The loop's seams: one's own strategy, passes that others run, a text that is edited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from codegen.decoding.drafts import Draft, Drafter, SuffixDrafter
from codegen.decoding.loop import Batch, NewTokens, Row, Strategy, decode, rounds
from codegen.decoding.sequences import CachedRows, Trees
from codegen.decoding.strategies.speculative import Speculation, children_of, tree_tensors, walk

PROMPTS = [[5, 9, 20, 31, 8], [7], [11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22], [40, 3]]
NEW = 20


def plain(model: Any, prompts: Sequence[list[int]], **options: Any) -> list[Row]:
    rows = [Row(list(prompt), [0.0] * NEW) for prompt in prompts]
    settings: dict[str, Any] = {"max_new_tokens": NEW, "temperature": 0, "top_p": 1.0}
    settings["eos"] = frozenset()
    decode(model, rows, **{**settings, **options})
    return rows


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


def test_a_strategy_of_ones_own(llama: Any) -> None:
    """One that forbids a token and counts what was committed."""

    class Never(Strategy):
        def __init__(self, token: int) -> None:
            self.token, self.committed, self.seen = token, 0, set[int]()

        def adjust(self, batch: Batch, logits: torch.Tensor) -> None:
            logits[:, self.token] = -torch.inf

        def commit(self, batch: Batch, trees: Trees, grown: Sequence[NewTokens | None]) -> None:
            for number, given in zip(batch.numbers, grown, strict=True):
                if given is not None:
                    self.committed += len(given.tokens)
                    self.seen.add(number)

    usual = plain(llama, PROMPTS)
    token = usual[0].tokens[2]
    strategy = Never(token)
    rows = plain(llama, PROMPTS, strategy=strategy, width=3)
    assert all(token not in row.tokens for row in rows)
    assert rows[0].tokens[:2] == usual[0].tokens[:2]
    assert strategy.committed == NEW * len(rows) and strategy.seen == {0, 1, 2, 3}


def test_several_decodings_take_turns(llama: Any) -> None:
    """Their passes are run round robin by somebody else; each gets what it gets alone."""
    wanted = [row.tokens for row in plain(llama, PROMPTS)]
    rows = [Row(list(prompt), [0.0] * NEW) for prompt in PROMPTS]
    with torch.inference_mode():
        work = {}
        for number, row in enumerate(rows):
            sequences = CachedRows(llama, len(row.prompt) + NEW + 16)
            batch = Batch([row], sequences, max_new_tokens=NEW, temperature=0, top_p=1,
                          eos=frozenset())  # fmt: skip
            passes = rounds(batch, Speculation([SuffixDrafter()]))
            work[number] = passes, next(passes)
        while work:
            for number, (passes, needed) in list(work.items()):
                try:
                    work[number] = passes, passes.send(needed.run())
                except StopIteration:
                    del work[number]
    assert [row.tokens for row in rows] == wanted


class Told(Drafter):
    """Drafts the text that will come, with every third draft wrong."""

    def __init__(self, future: list[int]) -> None:
        self.future, self.at, self.count = future, 0, 0

    def begin(self, prompt: Sequence[int], context: Any) -> None: ...

    def draft(self, limit: int) -> Draft:
        self.count += 1
        tokens = self.future[self.at : self.at + limit]
        if self.count % 3 == 0 and len(tokens) > 1:
            tokens[1] += 1
        return Draft.chain(tokens, [0.5] * len(tokens))

    def accept(self, tokens: Sequence[int]) -> None:
        self.at += len(tokens)
