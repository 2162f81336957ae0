"""Giraffe's bases against the formulas, in a model, and with cache editing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from codegen.decoding import contexts as rope
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
