"""LM-Infinite against its two rules written out in float64: one query, one key at a time."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from codegen.core.errors import ConfigError, ModelError
from codegen.decoding.cache import KVCache
from codegen.decoding.drafts import SuffixDrafter
from codegen.decoding.long_context import Extension, LMInfinite, check, extended
from codegen.decoding.loop import BackspaceDecoding, Row, decode
from codegen.decoding.passes import cache_argument, run_alone
from codegen.decoding.strategies.speculative import Speculation

BASE, WIDTH = 10_000.0, 8
PARTIAL: Any = {"rope_type": "default", "rope_theta": BASE, "partial_rotary_factor": 0.5}
SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
SHAPES = [LMInfinite(3, 8), LMInfinite(0, 6), LMInfinite(1, 1), LMInfinite(10, 64)]
TOKENS = random.Random(0).choices(range(60), k=90)


def llama(**more: Any) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SMALL, **more})).float().eval()


def oracle(model: Any, tokens: list[int], settings: LMInfinite) -> torch.Tensor:
    """Logits [N, V] in float64 by the definition, for the layout of Llama."""
    weights = {name: w.double() for name, w in model.state_dict().items()}
    frequencies = model.model.rotary_emb.inv_freq.double()

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        scale = (x.pow(2).mean(-1, keepdim=True) + model.config.rms_norm_eps).rsqrt()
        return x * scale * weights[name]

    def turned(x: torch.Tensor, angle: float) -> torch.Tensor:
        cos, sin = (angle * frequencies).cos(), (angle * frequencies).sin()
        u, v = x.chunk(2)
        return torch.cat([u * cos - v * sin, v * cos + u * sin])

    h = weights["model.embed_tokens.weight"][torch.tensor(tokens)]
    for layer in range(model.config.num_hidden_layers):
        at = f"model.layers.{layer}."
        x = norm(h, at + "input_layernorm.weight")
        q, k, v = (x @ weights[f"{at}self_attn.{n}_proj.weight"].T for n in "qkv")
        q, k, v = (part.view(len(tokens), -1, WIDTH) for part in (q, k, v))
        out = torch.zeros_like(q)
        for i in range(len(tokens)):
            seen = [j for j in range(i + 1) if j < settings.n_global or i - j < settings.n_local]
            for head in range(4):
                scores = []
                for j in seen:
                    distance = min(i - j, settings.n_local)
                    scores.append(turned(q[i, head], distance) @ k[j, head // 2] / WIDTH**0.5)
                share = torch.stack(scores).softmax(0)
                out[i, head] = share @ v[seen, head // 2]
        h = h + out.flatten(1) @ weights[at + "self_attn.o_proj.weight"].T
        x = norm(h, at + "post_attention_layernorm.weight")
        gate = torch.nn.functional.silu(x @ weights[at + "mlp.gate_proj.weight"].T)
        up = x @ weights[at + "mlp.up_proj.weight"].T
        h = h + (gate * up) @ weights[at + "mlp.down_proj.weight"].T
    return norm(h, "model.norm.weight") @ weights["lm_head.weight"].T


@pytest.mark.parametrize("settings", SHAPES, ids=str)
def test_the_rules_in_a_plain_model(settings: LMInfinite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole passes, and parts of any size."""
    monkeypatch.setattr("codegen.decoding.long_context.BLOCK", 7)
    model = llama()
    wanted = oracle(model, TOKENS, settings).float()
    given = torch.tensor([TOKENS])
    with torch.inference_mode(), extended(model, settings):
        found = model(given, use_cache=False).logits[0]
        torch.testing.assert_close(found, wanted, atol=2e-4, rtol=1e-4)
        cache = DynamicCache()
        kept: dict[str, Any] = {cache_argument(type(model)): cache}
        parts = [model(part, **kept).logits[0] for part in given.split((40, 1, 1, 30, 18), 1)]
        torch.testing.assert_close(torch.cat(parts), wanted, atol=2e-4, rtol=1e-4)
    with torch.inference_mode():  # and it is as it was
        plain = model(given).logits[0]
    assert torch.allclose(plain, wanted, atol=1e-2) == (settings.n_local > 64)


def check_greedy(model: Any, prompt: list[int], made: list[int], settings: LMInfinite) -> None:
    """Each token is the oracle's after those before it; refuses near ties."""
    logits = oracle(model, prompt + made, settings)[len(prompt) - 1 : -1]
    best = logits.topk(2)
    assert float((best.values[:, 0] - best.values[:, 1]).min()) > 1e-3, "choose another seed"
    assert best.indices[:, 0].tolist() == made


PROMPTS = [TOKENS[:50], TOKENS[20:23], TOKENS[60:61], TOKENS[30:52]]


@pytest.mark.parametrize("settings", [LMInfinite(3, 9), LMInfinite(0, 9)], ids=str)
def test_the_loop_beyond_any_capacity(
    settings: LMInfinite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ragged rows, far longer than the cache, alone and together, with drafts and without."""
    monkeypatch.setattr("codegen.decoding.long_context.BLOCK", 4)
    model = llama()
    wanted: dict[int, list[int]] = {}
    forgot = []
    forget = Extension.forget
    monkeypatch.setattr(
        "codegen.decoding.long_context.Extension.forget",
        lambda self, cache, row, cursor: (
            forgot.append(cache.slots.capacity),
            forget(self, cache, row, cursor),
        )[1],
    )
    for batch in ([0, 1, 2, 3], [0], [1]):
        for drafts in (False, True):
            rows = [Row(list(PROMPTS[i]), [0.0] * 60) for i in batch]
            speculation = None
            if drafts:
                speculation = Speculation([SuffixDrafter() for _ in rows], limit=4)
            decode(model, rows, max_new_tokens=60, temperature=0, top_p=1, eos=frozenset(),
                   strategy=speculation, infinite=settings)  # fmt: skip
            for i, row in zip(batch, rows, strict=True):
                if i not in wanted:
                    check_greedy(model, row.prompt, row.tokens, settings)
                assert row.tokens == wanted.setdefault(i, row.tokens) and len(row.tokens) == 60
            if speculation:
                assert speculation.drafted > 0
    assert len(forgot) > 20 and max(forgot) <= settings.kept + 10
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (Qwen3ForCausalLM, Qwen3Config(**SMALL, head_dim=12)),
        (GPTNeoXForCausalLM, GPTNeoXConfig(rope_parameters=PARTIAL, **{
            k: v for k, v in SMALL.items() if k != "num_key_value_heads"})),
        (MistralForCausalLM, MistralConfig(**SMALL, sliding_window=None)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_other_architectures(kind: Any, config: Any) -> None:
    """Where nothing is far it is the model's own attention; parts give what the whole gives; and
    the loop, which turns keys back, agrees with true positions.
    """
    torch.manual_seed(2)
    model = kind(config).float().eval()
    given = torch.tensor([TOKENS[:60]])
    with torch.inference_mode():
        plain = model(given).logits
        with extended(model, LMInfinite(4, 64)):
            torch.testing.assert_close(model(given).logits, plain, atol=2e-4, rtol=1e-4)
        settings = LMInfinite(4, 10)
        rows = [Row(TOKENS[:30], [0.0] * 50)]
        decode(model, rows, max_new_tokens=50, temperature=0, top_p=1, eos=frozenset(),
               infinite=settings)  # fmt: skip
        with extended(model, settings):
            tokens = TOKENS[:30]
            for _ in range(50):
                tokens = [*tokens, int(model(torch.tensor([tokens])).logits[0, -1].argmax())]
    assert rows[0].tokens == tokens[30:]


def test_long_rows_in_a_small_cache_keep_exact_states() -> None:
    """After thousands of tokens a key was turned at most a few times: no drift."""
    settings = LMInfinite(4, 16)
    model = llama(num_hidden_layers=1)
    tokens = random.Random(1).choices(range(60), k=3000)
    with torch.inference_mode(), extended(model, settings) as extension:
        rows = extension.rows(model, 3000, 0)
        run_alone(rows.admit([tokens]))
        cache, (cursor,) = rows.cache, rows.cursors
        assert isinstance(cache, KVCache) and cursor < 400
        held: Any = cache.layers[0]
        fresh = KVCache(1, cursor)  # of one layer: keys depend on token and position alone
        recent = [*tokens[:4], *tokens[2999 - cursor + 4 : 2999]]
        positions = torch.arange(cursor)[None]
        fresh.place(positions, cursor)
        model(torch.tensor([recent]), position_ids=positions, attention_mask=fresh.mask(),
              **{cache_argument(type(model)): fresh})  # fmt: skip
    expected: Any = fresh.layers[0]
    torch.testing.assert_close(
        held.keys[:, :, :cursor], expected.keys[:, :, :cursor], atol=2e-5, rtol=1e-4
    )


def test_what_can_not_be_is_refused_with_the_reason() -> None:
    settings = LMInfinite(4, 16)
    torch.manual_seed(0)
    sliding = MistralForCausalLM(MistralConfig(**SMALL, sliding_window=16)).eval()
    with pytest.raises(ModelError, match="sliding window"):
        check(sliding, settings)
    scaled = llama(rope_parameters={"rope_type": "dynamic", "rope_theta": BASE, "factor": 2.0})
    with pytest.raises(ModelError, match="dynamic frequencies"):
        check(scaled, settings)
    learned = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2)).eval()
    with pytest.raises(ModelError, match="not rotary"):
        check(learned, settings)
    model = llama()
    with pytest.raises(ModelError, match="maximum distance is 64, below n_local 65"):
        check(model, LMInfinite(4, 65))
    model.set_attn_implementation("eager")
    with pytest.raises(ModelError, match="'eager' attention"):
        check(model, settings)
    model.set_attn_implementation("sdpa")
    for wrong in ((-1, 5), (3, 0)):
        with pytest.raises(ConfigError, match="cannot use"):
            LMInfinite(*wrong)
    row = Row([3, 4], [0.0] * 4)
    options: dict[str, Any] = {
        "max_new_tokens": 4, "temperature": 0, "top_p": 1, "eos": frozenset(),
        "infinite": settings,
    }  # fmt: skip
    with pytest.raises(ValueError, match="BackspaceDecoding needs the whole context"):
        decode(model, [row], strategy=BackspaceDecoding(5), **options)
    with pytest.raises(ValueError, match="longest draft"):
        decode(model, [row], strategy=Speculation([SuffixDrafter()], limit=16), **options)
    with extended(model, settings):
        padded = torch.tensor([[0, 1, 1], [1, 1, 1]])
        with pytest.raises(ModelError, match="padded rows"):
            model(torch.tensor([[0, 4, 5], [6, 7, 8]]), attention_mask=padded)
        model.train()
        with pytest.raises(ModelError, match="inference"):
            model(torch.tensor([[4, 5]]))
