"""EQSPEC and EXSPEC give the greedy text of batch 1, and what they count is what they moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from codegen.benchmarks import batch
from codegen.benchmarks.tools.realign import Limits, eqspec, exspec
from codegen.decoding.drafts import Context, Draft, SuffixDrafter
from codegen.decoding.loop import Row, decode
from codegen.errors import ConfigError

# 0 is the padding id, and it is in prompts.
PROMPTS = [[5, 0, 20, 31, 8], [7], [11, 12, 0, 14, 15, 16, 17, 18, 19], [0, 0], [4, 5, 4, 5, 4]]


@pytest.fixture(scope="module")
def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3, pad_token_id=0,
        max_position_embeddings=128,
    )  # fmt: skip
    return LlamaForCausalLM(config).float().eval()


class Knowing:
    """Drafts what will come, but for every so many tokens."""

    candidates = 0

    def __init__(self, future: Sequence[int], wrong: int) -> None:
        self.future, self.wrong, self.at = future, wrong, 0

    def begin(self, prompt: Sequence[int], context: Context) -> None: ...

    def draft(self, limit: int) -> Draft:
        ahead = enumerate(self.future[self.at : self.at + limit], self.at)
        tokens = [(t + 1) % 90 if self.wrong and i % self.wrong == 0 else t for i, t in ahead]
        return Draft.chain(tokens, [0.5] * len(tokens))

    def accept(self, tokens: Sequence[int]) -> None:
        self.at += len(tokens)

    def observe(self, tokens: Any, successors: Any) -> None: ...

    def finish(self) -> None: ...


def alone(model: Any, new: int, eos: frozenset[int]) -> list[list[int]]:
    found = []
    for prompt in PROMPTS:
        row = Row(list(prompt), [0.0] * new)
        decode(model, [row], max_new_tokens=new, temperature=0, top_p=1, eos=eos)
        found.append(row.tokens)
    return found


@pytest.mark.parametrize("eos", [frozenset(), frozenset(range(1, 90, 9))], ids=len)
@pytest.mark.parametrize("method", ["eqspec", "exspec", "exspec narrow"])
def test_the_text_is_that_of_batch_one(llama: Any, method: str, eos: frozenset[int]) -> None:
    wanted = alone(llama, 30, eos)
    assert not eos or len({len(tokens) for tokens in wanted}) > 2
    for wrong in (0, 3, 5, 1):
        drafters: list[Any] = [Knowing(tokens, wrong) for tokens in wanted]
        check(llama, method, drafters, wanted, eos)
    tally = check(llama, method, [SuffixDrafter() for _ in PROMPTS], wanted, eos)
    assert tally.realigned > 0 and tally.padded > 0


def check(
    model: Any, method: str, drafters: list[Any], wanted: list[list[int]], eos: frozenset[int]
) -> Any:
    limits = Limits(30, 4, eos)
    if method == "eqspec":
        found, tally = eqspec(model, PROMPTS, drafters, limits)
    else:
        sizes = {"batch": 2, "window": 3} if "narrow" in method else {"batch": 3, "window": 5}
        found, tally = exspec(model, PROMPTS, drafters, limits, **sizes)
    assert found == wanted
    return tally


def test_a_full_acceptance_gives_one_token_more(llama: Any) -> None:
    wanted = alone(llama, 30, frozenset())
    limits = Limits(30, 4)
    _, tally = eqspec(llama, PROMPTS, [Knowing(t, 0) for t in wanted], limits)
    assert tally.passes == 6  # 30 tokens, five a pass
    _, tally = exspec(llama, PROMPTS, [Knowing(t, 0) for t in wanted], limits, batch=5, window=5)
    assert tally.passes == 6


def test_equal_rows_are_neither_padded_nor_moved(llama: Any) -> None:
    """Two pairs of twins: rows of a pair stay alike, so EXSPEC groups them; one pair alone is never
    realigned by EQSPEC, either.
    """
    wanted = alone(llama, 20, frozenset())
    pair = [PROMPTS[0], PROMPTS[0]]
    _, tally = eqspec(llama, pair, [Knowing(wanted[0], 3) for _ in pair], Limits(20, 4))
    assert tally.realigned == tally.padded == 0
    prompts, futures = [*pair, PROMPTS[2], PROMPTS[2]], [wanted[0]] * 2 + [wanted[2]] * 2
    drafters = [Knowing(future, 3) for future in futures]
    found, tally = exspec(llama, prompts, drafters, Limits(20, 4), batch=2, window=4)
    assert found == futures
    assert tally.grouped == tally.passes and tally.realigned == tally.padded == 0
    drafters = [Knowing(future, 3) for future in futures]
    _, tally = eqspec(llama, prompts, drafters, Limits(20, 4))
    assert tally.padded > 0


def test_the_benchmark_counts_ours_by_the_same_rules(llama: Any) -> None:
    """On a model of its own: all completions are batch 1's, ours moves nothing."""
    wanted = alone(llama, 24, frozenset())
    found, tally = batch.ours(llama, PROMPTS, Limits(24, 4))
    assert found == [tokens[:24] for tokens in wanted]
    assert tally.realigned == 0 and tally.padded > 0 and tally.passes <= 24
    assert tally.fed >= sum(map(len, found))
    with pytest.raises(ConfigError, match="at least"):
        batch.run(prompts=0)
