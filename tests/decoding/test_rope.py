"""Giraffe's bases against the formulas, in a model, and with cache editing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from codegen.decoding import contexts as rope
from codegen.decoding.editing import EditableCache
from codegen.errors import ConfigError

rope.register()
BASE, WIDTH = 10_000.0, 16


def model(parameters: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=4 * WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        rope_parameters={"rope_theta": BASE, **parameters},
    )
    return LlamaForCausalLM(config).float().eval()


def expected(kind: str, value: float) -> list[float]:
    found = []
    for t in range(WIDTH // 2):
        f = BASE ** (-2 * t / WIDTH)
        if kind == "power":
            f *= (1 - t / (WIDTH / 2)) ** value
        else:
            cutoff = 2 * math.pi / value
            f = f if f >= cutoff else 2 * math.pi / (16 * value) if f >= cutoff / 8 else 0.0
        found.append(f)
    return found


@pytest.mark.parametrize(
    ("parameters", "kind", "value"),
    [
        ({"rope_type": "giraffe_power"}, "power", 0.5),
        ({"rope_type": "giraffe_power", "exponent": 2.0}, "power", 2.0),
        ({"rope_type": "giraffe_truncated"}, "truncated", 256),
        ({"rope_type": "giraffe_truncated", "length": 64}, "truncated", 64),
    ],
    ids=str,
)
def test_frequencies(parameters: dict[str, Any], kind: str, value: float, tmp_path: Any) -> None:
    made = model(parameters)
    frequencies = made.model.rotary_emb.inv_freq
    torch.testing.assert_close(frequencies, torch.tensor(expected(kind, value)))
    made.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.model.rotary_emb.inv_freq, frequencies)


def test_no_power_is_plain_rope() -> None:
    tokens = torch.tensor([[5, 9, 20, 31, 8]])
    with torch.inference_mode():
        plain = model({"rope_type": "default"})(tokens).logits
        same = model({"rope_type": "giraffe_power", "exponent": 0})(tokens).logits
        other = model({"rope_type": "giraffe_power", "exponent": 1})(tokens).logits
    torch.testing.assert_close(same, plain)
    assert not torch.allclose(other, plain, atol=1e-3)


@pytest.mark.parametrize("kind", ["giraffe_power", "giraffe_truncated"])
def test_cache_editing_turns_by_these_frequencies(kind: str) -> None:
    """Of one layer, keys depend on token and position alone: an edit must be exact."""
    made = model({"rope_type": kind, "length": 64})
    made.model.layers = made.model.layers[:1]
    made.config.num_hidden_layers = 1
    old = [*range(3, 43)]
    new = [*range(3, 8), 77, 78, 79, *range(8, 43)]
    cache = EditableCache(made)
    cache.update(old)
    report = cache.update(new, tail=2)
    assert report.moved > 10
    with torch.inference_mode():
        whole = made(torch.tensor([new])).logits[0, -1]
    torch.testing.assert_close(cache.logits.flatten(), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "giraffe_power", "exponent": -1},
        {"rope_type": "giraffe_truncated", "length": 0},
    ],
    ids=str,
)
def test_what_can_not_be(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        model(parameters)
