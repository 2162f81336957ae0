"""Superposed decoding: one draft is greedy decoding; the blend against a plain computation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from codegen.decoding.loop import Row, decode
from codegen.decoding.strategies import superposed
from codegen.decoding.strategies.superposed import NGrams, SuperposedConfig, superpose
from codegen.decoding.suffix import SuffixIndex

PROMPTS = [[5, 9, 20, 31, 8], [7], [11, 12, 13, 14, 15, 16, 17]]


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_one_draft_is_greedy_decoding(llama: Any, prompt: list[int]) -> None:
    eos = frozenset(range(1, llama.config.vocab_size, 29))
    row = Row(list(prompt), [0.0] * 12)
    decode(llama, [row], max_new_tokens=12, temperature=0, top_p=1, eos=eos)
    (found,) = superpose(llama, prompt, drafts=1, max_new_tokens=12, eos=eos)
    assert found.tokens == row.tokens
    assert found.finished == (row.finish == "eos")


def test_one_pass_a_token(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    forward = superposed.forward

    def counted(*given: Any, **named: Any) -> torch.Tensor:
        passes.append(1)
        return forward(*given, **named)

    monkeypatch.setattr(superposed, "forward", counted)
    found = superpose(llama, PROMPTS[0], drafts=4, max_new_tokens=9)
    assert len(passes) == 9
    assert len(found) == 4 and len({tuple(draft.tokens) for draft in found}) == 4
    assert all(len(draft.tokens) == 9 for draft in found)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_three_steps_by_hand(llama: Any) -> None:
    """Two drafts, with n-grams, against whole passes over embeddings without a cache."""
    prompt, code = PROMPTS[0], [3, 9, 20, 31, 8, 40, 41, 8, 40, 44, 45, 8, 40, 41, 9]
    index = SuffixIndex()
    index.add(code)
    weights = {2: 0.3, 3: 0.7}
    settings = SuperposedConfig(alpha=0.4, temperature=0.5, candidates=6)
    found = superpose(
        llama, prompt, drafts=2, max_new_tokens=3, settings=settings, ngrams=NGrams(index, weights)
    )

    def count(text: list[int]) -> int:
        places = range(len(code) - len(text) + 1)
        return sum(code[i : i + len(text)] == text for i in places)

    embed = llama.get_input_embeddings()
    with torch.inference_mode():
        inputs = embed(torch.tensor([prompt]))
        p = torch.softmax(llama(inputs_embeds=inputs).logits[0, -1].double(), -1)
        best = p.topk(2)
        drafts = [(math.log(v), [t]) for v, t in zip(*map(torch.Tensor.tolist, best), strict=True)]
        for _ in range(2):
            share = torch.softmax(torch.tensor([score for score, _ in drafts]), 0)
            blend = sum(
                s * embed.weight[tokens[-1]] for s, (_, tokens) in zip(share, drafts, strict=True)
            )
            inputs = torch.cat([inputs, blend[None, None]], 1)  # type: ignore[index]
            logits = llama(inputs_embeds=inputs).logits[0, -1].double()
            top = torch.softmax(logits / 0.5, -1).topk(6)
            model = (top.values / top.values.sum()).tolist()
            grown = []
            for score, tokens in drafts:
                before = prompt + tokens
                ng = []
                for token in top.indices.tolist():
                    value = 0.0
                    for order, weight in weights.items():
                        context = before[-(order - 1) :]
                        if count(context):
                            value += weight * count([*context, token]) / count(context)
                    ng.append(value)
                if any(ng):
                    mixed = [m**0.6 * n**0.4 for m, n in zip(model, ng, strict=True)]
                    logs = [math.log(x / sum(mixed)) if x else -math.inf for x in mixed]
                else:
                    logs = [0.6 * math.log(m) - 200 for m in model]
                grown += [
                    (score + log, [*tokens, token])
                    for log, token in zip(logs, top.indices.tolist(), strict=True)
                ]
            drafts = sorted(grown, key=lambda item: -item[0])[:2]
    assert [draft.tokens for draft in found] == [tokens for _, tokens in drafts]
    torch.testing.assert_close(
        torch.tensor([draft.score for draft in found]),
        torch.tensor([score for score, _ in drafts]),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
