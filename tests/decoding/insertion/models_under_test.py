"""Tiny models with random weights of some size, so that nothing is near zero by chance."""

from __future__ import annotations

from typing import Any

import torch

from codegen.decoding.insertion import (
    FixedMaskConfig,
    FixedMaskLM,
    FlexibleMaskConfig,
    FlexibleMaskLM,
    InsertionConfig,
    InsertionLM,
)

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "dropout": 0.0,
}
SPECIAL = 5  # ids 0 to 4: [CLS], [BOS], padding, mask, end


def insertion_lm(words: int = 4, seed: int = 0, **options: Any) -> InsertionLM:
    config = InsertionConfig(**_sizes(words), **options)
    return _loud(InsertionLM(config), seed)


def flexible_mask_lm(words: int = 4, seed: int = 0, **options: Any) -> FlexibleMaskLM:
    config = FlexibleMaskConfig(**_sizes(words), **options)
    return _loud(FlexibleMaskLM(config), seed)


def fixed_mask_lm(words: int = 4, seed: int = 0, body_length: int = 5) -> FixedMaskLM:
    config = FixedMaskConfig(body_length=body_length, **{"eos_token_id": 4, **_sizes(words)})
    return _loud(FixedMaskLM(config), seed)


def _sizes(words: int) -> dict[str, Any]:
    return {**SIZES, "vocab_size": SPECIAL + words, "forbidden_token_ids": list(range(SPECIAL))}


def _loud(model: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            centre = 1.0 if weight.dim() == 1 else 0.0
            weight.copy_(centre + 0.3 * torch.randn(weight.shape, generator=generator))
    return model.double().eval()
