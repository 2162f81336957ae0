"""Small models for the tests of decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def llama(tiny_model_dir: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype="float32").eval()


def small_llama(seed: int = 0, **changes: Any) -> Any:
    """A random model with 60 tokens and two layers of 16 channels, or with changed sizes."""
    from torch import manual_seed
    from transformers import LlamaConfig, LlamaForCausalLM

    manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024,
        "initializer_range": 0.5, **changes,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**sizes)).float().eval()
