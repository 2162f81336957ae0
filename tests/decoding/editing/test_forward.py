"""The written-out pass against the models that it stands for, which are not changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from codegen.core.errors import ModelError
from codegen.decoding.editing import DecodeStep, EditableCache, EditPolicy, can_step, plain_product
from codegen.decoding.editing.forward import decode_with, own_step
from codegen.decoding.loop import Row, decode
from codegen.kernels import cpu
from codegen.models.quantization import quantized_product

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama3 positions": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=LLAMA3)),
    "yarn positions": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=YARN)),
    "biases": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
}


def made(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    model = MODELS[name]()
    for module in model.modules():  # biases and norms that do something
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.3)
        if type(module).__name__.endswith("RMSNorm"):
            nn.init.normal_(module.weight, mean=1.0, std=0.2)  # type: ignore[arg-type]
    return model.to(dtype=dtype).eval()  # type: ignore[call-arg]


@torch.inference_mode()
def full(model: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    """The oracle: logits [N, V] of a forward pass without any cache."""
    return model(torch.tensor([tokens])).logits[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_step_computes_what_the_model_computes(name: str) -> None:
    model = made(name)
    assert can_step(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    cache = EditableCache(model, step=DecodeStep(model, plain_product, most=300))
    tokens = [random.Random(0).randrange(96) for _ in range(120)]
    cache.update(tokens[:70])
    logits = [cache.logits[None]]
    for start, end in ((70, 71), (71, 72), (72, 80), (80, 120)):
        logits.append(cache.extend(tokens[start:end]))
    torch.testing.assert_close(torch.cat(logits), full(model, tokens)[69:], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_step_follows_edits_as_the_model_does() -> None:
    """Every state is the same, stale ones too, and exact again after a recompute."""
    model, rng = made("llama"), random.Random(1)
    policy = EditPolicy(min_span=2, tail=3, sink=1, chunk=7, keep_removed=20)
    stepped = EditableCache(
        model, policy=policy, step=DecodeStep(model, plain_product, most=5)
    )  # of the passes of seven tokens the model takes care
    plain = EditableCache(model, policy=policy)
    tokens = [rng.randrange(96) for _ in range(60)]
    for _ in range(20):
        reports = [cache.update(tokens) for cache in (stepped, plain)]
        assert reports[0].encoded == reports[1].encoded
        torch.testing.assert_close(stepped.logits, plain.logits, rtol=1e-5, atol=2e-5)
        place = rng.randrange(len(tokens))
        tokens[place : place + rng.randint(0, 4)] = [rng.randrange(96) for _ in range(3)]
    stepped.update(tokens)
    stepped.recompute()
    torch.testing.assert_close(stepped.logits, full(model, tokens)[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "qwen2", "biases", "llama3 positions"])
def test_quantized_weights_stay_within_their_rounding(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far from the model as PyTorch with all that is rounded rounded to eight bits."""
    if dtype not in cpu.KERNELS:
        pytest.skip(f"no kernels for {dtype} here")
    monkeypatch.setattr(cpu, "preferable", lambda _: True)
    model = made(name, dtype)
    tokens = [random.Random(3).randrange(96) for _ in range(60)]
    exact = full(made(name), tokens)[50:]
    distances = []
    for join in (None, plain_product, quantized):
        step = DecodeStep(model, join, most=64) if join else None
        cache = EditableCache(model, step=step)
        cache.update(tokens[:50])
        logits = torch.cat([cache.extend([token]) for token in tokens[50:]]).float()
        distances.append(float((logits - exact).norm() / exact.norm()))
    model_itself, plain, of_quantized = distances
    assert plain < 1.5 * model_itself + 1e-5
    rounded = full(in_eight_bits(made(name), rows=dtype == torch.float32), tokens)[50:]
    its_own = float((rounded - exact).norm() / exact.norm())
    assert its_own < 0.07
    assert of_quantized < model_itself + 1.5 * its_own


def in_eight_bits(model: PreTrainedModel, *, rows: bool) -> PreTrainedModel:
    """The model with its weights in eight bits by output, and its rows too, by 32 inputs each."""

    def rounded(values: torch.Tensor) -> torch.Tensor:
        steps = values.abs().amax(-1, keepdim=True) / 127
        return (values / steps).round() * steps

    def round_rows(_: nn.Module, given: tuple[torch.Tensor]) -> torch.Tensor:
        (states,) = given
        return rounded(states.unflatten(-1, (-1, 32))).view(states.shape)

    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(rounded(module.weight.detach()))
            if rows:
                module.register_forward_pre_hook(round_rows)
    return model


def quantized(layers: Sequence[nn.Linear]) -> Any:
    return quantized_product(layers) or pytest.fail("there is no quantized product")


@pytest.mark.parametrize("kind", ["plain", "avx2", "avx512_bf16"])
def test_sequences_in_one_pass_get_what_they_get_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits and states of passes of any sizes together; with kernels the same to the last bit."""
    dtype = torch.bfloat16 if kind == "avx512_bf16" else torch.float32
    if kind != "plain" and dtype not in cpu.KERNELS:
        pytest.skip(f"no kernels {kind} here")
    monkeypatch.setattr(cpu, "preferable", lambda _: kind != "plain")
    model, rng = made("llama", dtype), random.Random(4)
    # Up to 33 tokens a pass: 7 sequences need several.
    step = DecodeStep(model, plain_product if kind == "plain" else quantized, most=33)
    policy = EditPolicy(min_span=2, tail=3, sink=1, chunk=9, keep_removed=20)
    texts = [[rng.randrange(96) for _ in range(size)] for size in (1, 5, 9, 17, 30, 44, 61)]
    together = [EditableCache(model, policy=policy, step=step) for _ in texts]
    alone = [EditableCache(model, policy=policy, step=step) for _ in texts]
    for round_ in range(4):
        if round_ % 2 == 0:
            for text in texts:  # an insertion, so that what is behind it moves
                text[len(text) // 3 : len(text) // 3] = [rng.randrange(96) for _ in range(3)]
            works = [cache.updating(text) for cache, text in zip(together, texts, strict=True)]
            expected = [cache.update(text) for cache, text in zip(alone, texts, strict=True)]
        else:
            more = [[rng.randrange(96) for _ in range(1 + n % 3)] for n in range(len(texts))]
            works = [cache.extending(some) for cache, some in zip(together, more, strict=True)]
            expected = [cache.extend(some) for cache, some in zip(alone, more, strict=True)]
        for got, wanted in zip(run_together(works), expected, strict=True):
            if isinstance(wanted, torch.Tensor):
                compare(got, wanted, kind)
            else:
                assert (got.encoded, got.stale) == (wanted.encoded, wanted.stale)
        for one, other in zip(together, alone, strict=True):
            compare(one.logits, other.logits, kind)
        for one, other, text in zip(together, alone, texts, strict=True):
            one.truncate(len(text))
            other.truncate(len(text))


def compare(got: torch.Tensor, wanted: torch.Tensor, kind: str) -> None:
    if kind == "plain":
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=2e-5)
    else:
        assert torch.equal(got, wanted)


def run_together(works: Sequence[Any]) -> list[Any]:
    """The results of works that share their passes as long as several of them need one."""
    results: list[Any] = [None] * len(works)
    requests = {}
    for number, work in enumerate(works):
        requests[number] = next(work)
    while requests:
        logits = EditableCache.run_passes(list(requests.values()))
        for number, its in zip(list(requests), logits, strict=True):
            try:
                requests[number] = works[number].send(its)
            except StopIteration as end:
                results[number] = end.value
                del requests[number]
    return results


def test_other_models_keep_their_own_pass() -> None:
    torch.manual_seed(0)
    assert not can_step(Qwen3ForCausalLM(Qwen3Config(**SIZES)).eval())  # normed keys
    assert not can_step(Gemma2ForCausalLM(Gemma2Config(**SIZES)).eval())
    assert not can_step(LlamaForCausalLM(LlamaConfig(**SIZES, hidden_act="gelu")).eval())
    windowed = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=64)).eval()
    assert not can_step(windowed)
    adapted = made("llama")
    attention: Any = adapted.model.layers[1].self_attn  # type: ignore[union-attr,index]
    attention.q_proj = nn.Sequential(attention.q_proj)  # as peft does
    assert not can_step(adapted)
    assert not can_step(made("llama").train())


def test_a_step_that_is_not_the_models_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("llama")
    monkeypatch.setattr(cpu, "gated", lambda rows: rows.chunk(2, dim=-1)[0])
    with pytest.raises(ModelError, match="computes logits that differ"):
        EditableCache(model, step=DecodeStep(model, plain_product, most=32))


with_kernels = pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(dtype, marks=pytest.mark.skipif(dtype not in cpu.KERNELS, reason="no kernels"))
        for dtype in (torch.float32, torch.bfloat16)
    ],
)


@with_kernels
@pytest.mark.parametrize("join", [None, plain_product], ids=["own weights", "quantized"])
@pytest.mark.parametrize("name", MODELS)
def test_the_loop_decodes_as_by_the_model(name: str, join: Any, dtype: torch.dtype) -> None:
    """Each token is among the best by whole passes in float32, for rows of several lengths."""
    model, exact = made(name, dtype), made(name)
    if join:
        assert decode_with(model, lambda layers: quantized_product(layers, 8, True) or join(layers))
    assert own_step(model) is not None
    rng = random.Random(7)
    prompts = [[rng.randrange(96) for _ in range(length)] for length in (1, 30, 7)]
    rows, alone = ([Row(list(prompt), [0.5] * 20) for prompt in prompts] for _ in range(2))
    for batch in (rows, *([row] for row in alone)):
        decode(model, batch, max_new_tokens=20, temperature=0.0, top_p=1.0, eos=frozenset())
    for prompt, row, by_itself in zip(prompts, rows, alone, strict=True):
        assert len(row.tokens) == 20
        assert not join or row.tokens == by_itself.tokens  # all passes are the kernels'
        logits = full(exact, prompt + row.tokens)[len(prompt) - 1 : -1]
        chosen = logits.gather(1, torch.tensor(row.tokens)[:, None])[:, 0]
        missed = (logits.max(-1).values - chosen) / logits.std(-1)
        most = 0.5 if join else {torch.float32: 1e-5, torch.bfloat16: 0.15}[dtype]
        assert missed.max() < most, missed


@with_kernels
def test_the_loop_follows_changes_of_the_model(dtype: torch.dtype) -> None:
    model = made("qwen2", dtype)
    step = own_step(model)
    assert step is not None and own_step(model) is step
    layer: Any = model.model.layers[1].mlp  # type: ignore[union-attr,index]
    hook = layer.register_forward_hook(lambda *_: None)
    assert own_step(model) is None
    hook.remove()
    layer.up_proj.weight = nn.Parameter(layer.up_proj.weight.detach() * 2)
    assert own_step(model) not in (None, step)
    assert own_step(model.train()) is None
    assert own_step(made("llama", torch.float64)) is None
