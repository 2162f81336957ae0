"""The batched loop against the plainest loop there is: one row, the whole prefix at every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from codegen.core.errors import ModelError
from codegen.decoding.cache import KVCache
from codegen.decoding.drafts import Draft, Drafter, SuffixDrafter
from codegen.decoding.loop import BackspaceDecoding, Batch, NewTokens, Row, Strategy, decode, rounds
from codegen.decoding.passes import check_supported
from codegen.decoding.sampling import choose
from codegen.decoding.sequences import CachedRows, Trees
from codegen.decoding.strategies.speculative import Speculation

PROMPTS = [[5, 9, 20, 31, 8], [7], [11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22], [40, 3]]
SMALL: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}


def uniforms(count: int, seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, generator=generator, dtype=torch.float64).tolist()


@torch.inference_mode()
def plain_loop(
    model: Any, row: Row, new: int, temperature: float, top_p: float, eos: frozenset[int]
) -> tuple[list[int], str]:
    tokens = list(row.prompt)
    for step in range(new):
        logits = model(torch.tensor([tokens]), use_cache=False).logits[:, -1]
        u = torch.tensor([row.uniforms[step]], dtype=torch.float64)
        token = int(choose(logits, u, temperature, top_p))
        if token in eos:
            return tokens[len(row.prompt) :], "eos"
        tokens.append(token)
    return tokens[len(row.prompt) :], "length"


def run_both(model: Any, temperature: float, top_p: float, new: int = 24) -> list[Row]:
    rows = [Row(prompt, uniforms(new, i)) for i, prompt in enumerate(PROMPTS)]
    eos = frozenset(range(1, 700, 15))
    decode(model, rows, max_new_tokens=new, temperature=temperature, top_p=top_p, eos=eos)
    for row in rows:
        expected = plain_loop(model, row, new, temperature, top_p, eos)
        assert (row.tokens, row.finish) == expected
    return rows


@pytest.mark.parametrize(("temperature", "top_p"), [(0, 1.0), (0.8, 1.0), (1.3, 0.9)])
def test_equals_the_plain_loop(llama: Any, temperature: float, top_p: float) -> None:
    rows = run_both(llama, temperature, top_p)
    if temperature > 1:
        # The rows must end at different times, or compaction was not exercised.
        assert len({len(row.tokens) for row in rows}) > 1


def test_a_row_does_not_depend_on_its_neighbours(llama: Any) -> None:
    def tokens(prompts: list[list[int]]) -> list[list[int]]:
        rows = [Row(prompt, uniforms(16, sum(prompt))) for prompt in prompts]
        decode(llama, rows, max_new_tokens=16, temperature=1.0, top_p=1.0, eos=frozenset({2}))
        return [row.tokens for row in rows]

    together = tokens(PROMPTS)
    assert together == [tokens([prompt])[0] for prompt in PROMPTS]
    assert together[::-1] == tokens(PROMPTS[::-1])


@pytest.mark.parametrize("width", [1, 2, 3, 7])
@pytest.mark.parametrize("drafts", [False, True])
def test_waiting_rows_take_the_place_of_finished_ones(
    llama: Any, width: int, drafts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [*PROMPTS, [9], [8, 8], [30, 31, 32], [7, 7, 7, 7], [6]]
    eos = frozenset(range(1, 120, 9))

    def run(given: list[list[int]], width: int | None = None) -> list[Row]:
        rows = [Row(prompt, uniforms(20, sum(prompt))) for prompt in given]
        speculation = Speculation([SuffixDrafter() for _ in rows]) if drafts else None
        decode(llama, rows, max_new_tokens=20, temperature=0.9, top_p=0.95, eos=eos, width=width,
               strategy=speculation)  # fmt: skip
        return rows

    alone = [run([prompt])[0] for prompt in prompts]
    assert len({len(row.tokens) for row in alone}) > 3  # they end at different times
    widths = []
    place = KVCache.place
    monkeypatch.setattr(
        KVCache, "place", lambda self, *a: (widths.append(len(a[0])), place(self, *a))[1]
    )
    together = run(prompts, width)
    assert max(widths) <= width
    for ours, theirs in zip(together, alone, strict=True):
        assert (ours.tokens, ours.finish) == (theirs.tokens, theirs.finish)


def test_on_token_stops_a_row(llama: Any) -> None:
    rows = [Row(prompt, uniforms(16, 1)) for prompt in PROMPTS]
    seen: list[tuple[int, int]] = []

    def on_token(number: int, token: int) -> bool:
        seen.append((number, token))
        return number == 2 and len(rows[2].tokens) == 3

    decode(llama, rows, max_new_tokens=16, temperature=0, top_p=1.0, eos=frozenset(),
           on_token=on_token)  # fmt: skip
    assert [row.finish for row in rows] == ["length", "length", "stop", "length"]
    assert [len(row.tokens) for row in rows] == [16, 16, 3, 16]
    assert [token for number, token in seen if number == 0] == rows[0].tokens


def test_refuses_what_it_would_compute_wrongly(llama: Any) -> None:
    with pytest.raises(ModelError, match="513 tokens"):
        check_supported(llama, 513)
    other = MistralForCausalLM(MistralConfig(**SMALL, sliding_window=None))
    check_supported(other, 17)
    other.set_attn_implementation("flex_attention")
    with pytest.raises(ModelError, match="'flex_attention' attention"):
        check_supported(other, 10)


@torch.inference_mode()
def plain_backspaces(
    model: Any, row: Row, new: int, backspace: int, begun: list[int]
) -> tuple[list[int], list[int]]:
    tokens, actions = row.prompt + begun, []
    for step in range(new):
        logits = model(torch.tensor([tokens]), use_cache=False).logits[:, -1]
        if len(tokens) == len(row.prompt):
            logits[:, backspace] = -torch.inf
        u = torch.tensor([row.uniforms[step]], dtype=torch.float64)
        action = int(choose(logits, u, 1.0, 1.0))
        actions.append(action)
        if action == backspace:
            tokens.pop()
        else:
            tokens.append(action)
    return tokens[len(row.prompt) :], actions


def test_backspaces_take_tokens_back(llama: Any) -> None:
    """With a token that is chosen often as the backspace, against a stack run token by token."""
    backspace, new = 17, 40
    head = llama.get_output_embeddings()
    kept = head.weight.data.clone()
    head.weight.data[backspace] = 0  # its logit is 0, the others' are of either sign
    try:
        bias = torch.zeros(head.out_features)
        bias[backspace] = 9.0
        head.bias = torch.nn.Parameter(bias)
        begun = [[], [9, 30, 31], [], [44]]
        rows = [
            Row(prompt, uniforms(new, seed), tokens=list(tokens))
            for seed, (prompt, tokens) in enumerate(zip(PROMPTS, begun, strict=True))
        ]
        decode(
            llama, rows, max_new_tokens=new, temperature=1.0, top_p=1.0,
            eos=frozenset(), strategy=BackspaceDecoding(backspace),
        )  # fmt: skip
        taken_back = 0
        for row, first in zip(rows, begun, strict=True):
            tokens, actions = plain_backspaces(llama, row, new, backspace, first)
            assert (row.tokens, row.actions) == (tokens, actions)
            assert first or actions[0] != backspace
            taken_back += actions.count(backspace)
        assert taken_back > 30 and any(row.tokens for row in rows)
    finally:
        head.bias = None
        head.weight.data.copy_(kept)


NEW = 20


def plain(model: Any, prompts: Sequence[list[int]], **options: Any) -> list[Row]:
    rows = [Row(list(prompt), [0.0] * NEW) for prompt in prompts]
    settings: dict[str, Any] = {"max_new_tokens": NEW, "temperature": 0, "top_p": 1.0}
    settings["eos"] = frozenset()
    decode(model, rows, **{**settings, **options})
    return rows


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
