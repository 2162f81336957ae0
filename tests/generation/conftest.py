"""A server in this process, and a model for vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, serving

from tests.llamas import small_llama


@pytest.fixture(scope="session")
def vllm_model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that repeats itself and ends some texts, with attention that vLLM's CPU has."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("for-vllm")
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model_dir)
    model = small_llama(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=128, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, eos_token_id=2,
        pad_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data *= 0.02
        layer.mlp.down_proj.weight.data *= 0.02
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def model() -> Iterator[Model]:
    """A server in this process."""
    with serving() as model:
        yield model
