"""A model that repeats itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.fixture(scope="module")
def looping_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with its layers turned down: it says a token, or a few, again and again."""
    folder = tmp_path_factory.mktemp("looping")
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data *= 0.02
        layer.mlp.down_proj.weight.data *= 0.02
    model.save_pretrained(folder)
    # pyrefly: ignore[missing-attribute]
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(folder)
    return folder
