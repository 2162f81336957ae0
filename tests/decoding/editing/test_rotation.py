"""Every kind of positions that transformers has: edited exactly, or refused with the reason.

The states of a first layer do not depend on the context, only on the position. So a model of one
layer must give, after any edit, what a forward pass over the whole new text gives, and any mistake
in a rotation shows. The same is asked of two layers after a recompute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from transformers import PreTrainedModel

from codegen.core.errors import ModelError
from codegen.decoding.editing import EditableCache, EditPolicy

POLICY = EditPolicy(min_span=2, tail=0, sink=0, keep_removed=0)
SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
Make = Callable[[int], PreTrainedModel]


def made(kind: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return kind(config).eval()


def settings(kind: Any, layers: int, **options: Any) -> Any:
    """A small configuration of a kind."""
    return kind(**SMALL | {"num_hidden_layers": layers} | options)


def llama(layers: int, **rope: Any) -> PreTrainedModel:
    scaling = {"rope_theta": 1e4} | rope
    return made(hf.LlamaForCausalLM, settings(hf.LlamaConfig, layers, rope_parameters=scaling))


def yarn(layers: int) -> PreTrainedModel:
    return llama(
        layers, rope_type="yarn", factor=8.0, original_max_position_embeddings=64,
        attention_factor=1.7,
    )  # fmt: skip


def llama3(layers: int) -> PreTrainedModel:
    return llama(
        layers, rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=64,
    )  # fmt: skip


def longrope(layers: int) -> PreTrainedModel:
    return llama(
        layers, rope_type="longrope", factor=4.0, original_max_position_embeddings=128,
        short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[2.0, 3.0, 4.0, 5.0],
    )  # fmt: skip


def partial(layers: int) -> PreTrainedModel:
    config = settings(hf.GPTNeoXConfig, layers, rotary_pct=0.5, num_key_value_heads=4)
    return made(hf.GPTNeoXForCausalLM, config)


def interleaved(layers: int) -> PreTrainedModel:
    return made(hf.CohereForCausalLM, settings(hf.CohereConfig, layers))


def partial_interleaved(layers: int) -> PreTrainedModel:
    config = settings(hf.GlmConfig, layers, head_dim=8, partial_rotary_factor=0.5)
    return made(hf.GlmForCausalLM, config)


def latent(layers: int, interleave: bool = True) -> PreTrainedModel:
    config = settings(
        hf.DeepseekV3Config, layers, num_key_value_heads=4, q_lora_rank=16, kv_lora_rank=12,
        qk_rope_head_dim=8, qk_nope_head_dim=6, v_head_dim=10, first_k_dense_replace=layers,
        rope_interleave=interleave,
    )  # fmt: skip
    return made(hf.DeepseekV3ForCausalLM, config)


def normed(layers: int) -> PreTrainedModel:
    return made(hf.Qwen3ForCausalLM, settings(hf.Qwen3Config, layers, head_dim=8))


def unrotated(layers: int) -> PreTrainedModel:
    """SmolLM3: every second layer has no positions."""
    config = settings(hf.SmolLM3Config, layers, no_rope_layers=[0, 1][:layers])
    return made(hf.SmolLM3ForCausalLM, config)


def window(layers: int) -> PreTrainedModel:
    return made(hf.MistralForCausalLM, settings(hf.MistralConfig, layers, sliding_window=12))


def mixed_windows(layers: int) -> PreTrainedModel:
    """Gemma3: two kinds of layers, each with frequencies and a mask of its own."""
    kinds = ["sliding_attention", "full_attention"][:layers]
    config = settings(hf.Gemma3TextConfig, layers, head_dim=8, sliding_window=12, layer_types=kinds)
    return made(hf.Gemma3ForCausalLM, config)


SUPPORTED: dict[str, Make] = {
    "default": lambda layers: llama(layers, rope_type="default"),
    "linear": lambda layers: llama(layers, rope_type="linear", factor=3.0),
    "llama3": llama3,
    "yarn": yarn,
    "longrope": longrope,
    "dynamic": lambda layers: llama(layers, rope_type="dynamic", factor=2.0),
    "partial": partial,
    "interleaved": interleaved,
    "partial interleaved": partial_interleaved,
    "latent": latent,
    "latent, halves": lambda layers: latent(layers, interleave=False),
    "normed keys": normed,
    "layers without positions": unrotated,
    "sliding window": window,
    "mixed windows": mixed_windows,
}


@torch.inference_mode()
def full(model: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    """The oracle: logits [V] behind the tokens, of a forward pass without a cache."""
    return model(torch.tensor([tokens]), use_cache=False).logits[0, -1]


def edits() -> list[list[int]]:
    """Insertion, deletion, replacement of another length, several at once, a cut and paste."""
    base = [3 + i * 7 % 50 for i in range(60)]
    return [
        base,
        [*base[:20], 5, 6, 7, 8, *base[20:]],
        [*base[:10], *base[17:]],
        [*base[:30], 9, 9, 9, *base[31:]],
        [4, *base[:15], *base[18:40], 11, 12, *base[40:]],
        [*base[:5], *base[30:45], *base[5:30], *base[45:]],
    ]


@pytest.mark.parametrize("name", SUPPORTED)
def test_one_layer_is_exact_after_edits(name: str) -> None:
    model = SUPPORTED[name](1)
    cache = EditableCache(model, policy=POLICY)
    stale = 0
    for tokens in edits():
        report = cache.update(tokens)
        torch.testing.assert_close(cache.logits, full(model, tokens), rtol=1e-4, atol=1e-4)
        assert report.encoded < 12 or not report.reused
        stale = report.stale
    assert stale > 0


@pytest.mark.parametrize("name", SUPPORTED)
def test_two_layers_are_exact_after_a_recompute(name: str) -> None:
    model = SUPPORTED[name](2)
    cache = EditableCache(model, policy=POLICY)
    for tokens in edits():
        cache.update(tokens)
    assert not cache.exact
    assert cache.recompute()
    wanted = full(model, edits()[-1])
    torch.testing.assert_close(cache.logits, wanted, rtol=1e-3, atol=1e-3)


def test_keys_that_are_not_turned_are_wrong() -> None:
    """Conflict fast encoding differs where something moved, and only there."""
    model = llama(1)
    base, longer, *_ = edits()
    replaced = [*base[:20], 5, 6, *base[22:]]
    policy = EditPolicy(min_span=2, tail=0, sink=0, rotate=False)
    for tokens, same in ((replaced, True), (longer, False)):
        cache = EditableCache(model, policy=policy)
        cache.update(base)
        cache.update(tokens)
        difference = (cache.logits - full(model, tokens)).abs().max()
        assert (difference < 1e-4) == same


@pytest.mark.parametrize("name", ["longrope", "dynamic"])
def test_lengths_that_change_the_frequencies_are_refused(name: str) -> None:
    model = SUPPORTED[name](1)
    limit = 128 if name == "longrope" else 512
    cache = EditableCache(model)
    cache.update([3] * limit)
    with pytest.raises(ModelError, match=f"{limit + 1} tokens.*{name}"):
        cache.update([3] * (limit + 1))
    with pytest.raises(ModelError, match=f"{limit + 1} tokens"):
        cache.extend([3])
    assert len(cache) == limit


def recurrent() -> PreTrainedModel:
    config = hf.MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, state_size=4)
    return made(hf.MambaForCausalLM, config)


def hybrid() -> PreTrainedModel:
    config = settings(
        hf.Qwen3NextConfig, 2, layer_types=["linear_attention", "full_attention"], head_dim=8,
        num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, linear_num_key_heads=2, linear_num_value_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=8,
    )  # fmt: skip
    return made(hf.Qwen3NextForCausalLM, config)


def learned() -> PreTrainedModel:
    config = hf.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return made(hf.GPT2LMHeadModel, config)


def biased() -> PreTrainedModel:
    config = hf.FalconConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True
    )
    return made(hf.FalconForCausalLM, config)


def bloom() -> PreTrainedModel:
    return made(
        hf.BloomForCausalLM, hf.BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4)
    )


class Deaf(hf.LlamaForCausalLM):
    """Does not listen to the positions it is given."""

    def forward(  # type: ignore[override]
        self, input_ids: Any = None, position_ids: Any = None, cache: Any = None, **kwargs: Any
    ) -> Any:
        return super().forward(input_ids, cache=cache, **kwargs)


def deaf() -> PreTrainedModel:
    return made(Deaf, llama(1).config)


def flexible() -> PreTrainedModel:
    model = llama(1)
    model.set_attn_implementation("flex_attention")
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (recurrent, "recurrent"),
        (hybrid, "recurrent|linear"),
        (learned, "learned"),
        (biased, "ALiBi"),
        (bloom, "positions"),
        (flexible, "'flex_attention'"),
        (deaf, "its logits change"),
    ],
)
def test_refused(make: Callable[[], PreTrainedModel], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        EditableCache(make())
