"""Forward passes of transformers models over a :class:`~codegen.decoding.cache.RowCache`: which
models they are right for, and how they are called.
"""

from __future__ import annotations

import inspect

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import RowCache
from codegen.errors import ModelError


def check_architecture(model: PreTrainedModel) -> None:
    """Refuses models to which a mask and positions can't be given, with the reason.

    Raises:
        ModelError: for encoder-decoder models, other attention than sdpa, ALiBi, recurrent or
            chunked layers.
    """
    config = model.config.get_text_config()
    name = type(model).__name__
    attention = getattr(config, "_attn_implementation", None)
    if attention != "sdpa":
        raise ModelError(
            f"{name} runs with {attention!r} attention; the loop's mask is made for 'sdpa'.",
            "Load it with attn_implementation='sdpa'.",
        )
    if getattr(config, "alibi", False):
        raise ModelError(f"{name} has ALiBi position biases, which the loop does not support.")
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder model; the loop needs a decoder-only one.")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if odd := sorted(kinds - {"full_attention", "sliding_attention", "attention"}):
        raise ModelError(f"{name} has {odd[0]} layers, which the decoding loop does not support.")


def check_supported(model: PreTrainedModel, length: int) -> None:
    """Refuses what the loop would compute wrongly, with the reason.

    Raises:
        ModelError: as :func:`check_architecture`, for sequences beyond the position range, and
            beyond the window of sliding-window attention.
    """
    check_architecture(model)
    config = model.config.get_text_config()
    name = type(model).__name__
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    limit = getattr(config, "max_position_embeddings", None)
    if limit and length > limit:
        raise ModelError(
            f"Prompt and completion take up to {length} tokens, {name} holds {limit}.",
            "Shorten the prompt or lower max_new_tokens.",
        )
    window = getattr(config, "sliding_window", None)
    if not getattr(config, "use_sliding_window", True):
        window = None
    if window and "sliding_attention" not in kinds and getattr(config, "layer_types", None):
        window = None
    if window and length > window:
        raise ModelError(
            f"Prompt and completion take up to {length} tokens, more than the attention window of "
            f"{name} ({window}), where the loop would not be exact.",
            "Shorten the prompt or lower max_new_tokens.",
        )


def forward(
    model: PreTrainedModel, tokens: torch.Tensor, cache: RowCache, mask: torch.Tensor, keep: int
) -> torch.Tensor:
    """Logits [B, keep, V] of the last of the placed tokens [B, Q]."""
    output = model(
        input_ids=tokens,
        position_ids=cache.slots.positions,
        attention_mask=mask,
        use_cache=True,
        logits_to_keep=keep,
        **{cache_argument(type(model)): cache},
    )
    return output.logits[:, -keep:]


def cache_argument(kind: type) -> str:
    """The name of a model's argument for the cache: transformers renamed ``past_key_values``."""
    names = inspect.signature(kind.forward).parameters
    return "cache" if "cache" in names else "past_key_values"
