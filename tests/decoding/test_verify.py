"""Drafts change nothing but the number of passes: trees and chains, right and wrong, any batch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from codegen.decoding.drafts import Context, Draft, DrafterChain, RecyclingDrafter, SuffixDrafter
from codegen.decoding.loop import Row, decode
from codegen.decoding.strategies.speculative import Speculation

PROMPTS = [[5, 9, 20, 31, 8], [7], [11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22], [40, 3]]
EOS = frozenset(range(1, 120, 29))
SMALL: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def llama(tiny_model_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()


def uniforms(count: int, seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, generator=generator, dtype=torch.float64).tolist()


def run(
    model: Any, temperature: float, speculation: Speculation | None = None, new: int = 30,
    prompts: Sequence[list[int]] = PROMPTS, eos: frozenset[int] = EOS,
) -> list[Row]:  # fmt: skip
    rows = [Row(list(prompt), uniforms(new, sum(prompt))) for prompt in prompts]
    decode(
        model, rows, max_new_tokens=new, temperature=temperature, top_p=0.95, eos=eos,
        strategy=speculation,
    )  # fmt: skip
    return rows


class Knowing:
    """Drafts the tokens that will come as a tree with wrong branches, and errs now and then."""

    candidates = 3

    def __init__(self, future: list[int], seed: int, forks: bool) -> None:
        self.future, self.rng, self.forks = future, random.Random(seed), forks
        self.at = 0
        self.seen: list[int] = []
        self.observed = self.fed = 0
        self.finished = False

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        self.seen = list(prompt)

    def draft(self, limit: int) -> Draft:
        tokens: list[int] = []
        parents: list[int] = []
        parent = -1
        for token in self.future[self.at : self.at + self.rng.randint(0, 5)]:
            if self.rng.random() < 0.15:
                token = (token + 1) % 100
            if self.forks:
                for wrong in {(token + 7) % 100, (token + 13) % 100} - {token}:
                    tokens.append(wrong)
                    parents.append(parent)
                    if self.rng.random() < 0.3:  # and one below it
                        tokens.append((wrong + 5) % 100)
                        parents.append(len(tokens) - 2)
            tokens.append(token)
            parents.append(parent)
            parent = len(tokens) - 1
        return Draft(tokens, parents, [0.5] * len(tokens)).first(limit)

    def accept(self, tokens: Sequence[int]) -> None:
        self.at += len(tokens)
        self.fed = self.seen[-1]
        self.seen += tokens

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        assert len(tokens) == len(successors) and all(len(s) == 3 for s in successors)
        assert tokens[0] == self.fed
        self.observed += len(tokens)

    def finish(self) -> None:
        self.finished = True


def check(model: Any, temperature: float, forks: bool) -> Speculation:
    plain = run(model, temperature)
    drafters = [Knowing(row.tokens, seed, forks) for seed, row in enumerate(plain)]
    speculation = Speculation(drafters, limit=12)
    drafted = run(model, temperature, speculation)
    for one, other, drafter in zip(plain, drafted, drafters, strict=True):
        assert (one.tokens, one.finish) == (other.tokens, other.finish)
        assert drafter.seen == one.prompt + one.tokens and drafter.finished
        assert drafter.observed > 0
    assert speculation.emitted == sum(len(row.tokens) for row in plain)
    return speculation


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.3])
@pytest.mark.parametrize("forks", [False, True])
def test_the_same_tokens_in_fewer_passes(llama: Any, temperature: float, forks: bool) -> None:
    speculation = check(llama, temperature, forks)
    assert speculation.tokens_per_pass > 1.5


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (Qwen3ForCausalLM, Qwen3Config(**SMALL, head_dim=16)),
        (Phi3ForCausalLM, Phi3Config(**SMALL)),
        (Gemma3ForCausalLM, Gemma3TextConfig(**SMALL, head_dim=12, sliding_window=128)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_trees_on_other_architectures(kind: Any, config: Any) -> None:
    torch.manual_seed(3)
    check(kind(config).eval(), 1.2, forks=True)


def test_a_full_acceptance_gives_one_token_more(llama: Any) -> None:
    (plain,) = run(llama, 0.0, prompts=PROMPTS[:1], eos=frozenset())

    class Right(Knowing):
        def draft(self, limit: int) -> Draft:
            tokens = self.future[self.at : self.at + min(4, limit)]
            return Draft.chain(tokens, [0.9] * len(tokens))

    speculation = Speculation([Right(plain.tokens, 0, False)], limit=8)
    (row,) = run(llama, 0.0, speculation, prompts=PROMPTS[:1], eos=frozenset())
    assert row.tokens == plain.tokens
    assert speculation.passes == 6  # 30 tokens, five a pass


def test_stopping_and_limits_cut_a_draft(llama: Any) -> None:
    (plain,) = run(llama, 0.9, prompts=PROMPTS[:1], eos=frozenset())
    for most in (1, 2, 7):
        row = Row(list(PROMPTS[0]), uniforms(30, sum(PROMPTS[0])))
        drafter = Knowing(plain.tokens, 1, True)
        decode(
            llama, [row], max_new_tokens=most, temperature=0.9, top_p=0.95, eos=frozenset(),
            strategy=Speculation([drafter], limit=12),
        )  # fmt: skip
        assert (row.tokens, row.finish) == (plain.tokens[:most], "length")
    row = Row(list(PROMPTS[0]), uniforms(30, sum(PROMPTS[0])))
    decode(
        llama, [row], max_new_tokens=30, temperature=0.9, top_p=0.95, eos=frozenset(),
        on_token=lambda _, __: len(row.tokens) == 5,
        strategy=Speculation([Knowing(plain.tokens, 1, True)], limit=12),
    )  # fmt: skip
    assert (row.tokens, row.finish) == (plain.tokens[:5], "stop")


def test_real_drafters_on_text_that_repeats(llama: Any) -> None:
    prompts = [[5, 6, 7, 8, 9, 10] * 6, [30, 31, 32, 33] * 5]
    plain = run(llama, 0.0, prompts=prompts, eos=frozenset(), new=60)
    drafters = [
        DrafterChain({"suffix": SuffixDrafter(), "recycling": RecyclingDrafter()}) for _ in prompts
    ]
    speculation = Speculation(drafters, limit=8)
    drafted = run(llama, 0.0, speculation, prompts=prompts, eos=frozenset(), new=60)
    assert [row.tokens for row in drafted] == [row.tokens for row in plain]
    assert speculation.passes <= 120
