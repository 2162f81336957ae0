"""The tokenizer that a vLLM configuration names, for plug-ins within its workers."""

from __future__ import annotations

from typing import Any


def read_tokenizer(model_config: Any) -> Any:
    """Loads it as vLLM does.

    Args:
        model_config: vLLM's ``ModelConfig``.
    """
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        model_config.tokenizer,
        revision=getattr(model_config, "tokenizer_revision", None),
        trust_remote_code=bool(getattr(model_config, "trust_remote_code", False)),
    )
