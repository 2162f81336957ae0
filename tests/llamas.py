"""Random Llamas for the tests."""

from __future__ import annotations

from typing import Any


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
