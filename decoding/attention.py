"""The loop's attention on a GPU: a transformers attention function that reads the cache in place.

:data:`IN_PLACE` is registered with transformers' ``AttentionInterface``. With a mask it calls
PyTorch's attention, or the model's own for models with soft caps or sinks. The mask may be replaced
by a table of trees (:func:`codegen.kernels.tree_attention.pack`), int64 [B, 1, W, 4], as
transformers passes on any four-dimensional mask. It then calls
:func:`~codegen.kernels.tree_attention.tree_attention`, which reads each key once for all heads that
share it and makes no mask over the context.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from codegen.kernels.tree_attention import dense, tree_attention

IN_PLACE = "codegen_tree"
OWN = {"gemma2", "gpt_oss"}  # models with eager attention only whose caps and sinks we support


def exchange(model: PreTrainedModel) -> bool:
    """Switches a model to :func:`attend`; returns False if that is not possible."""
    config = model.config.get_text_config()
    known = config._attn_implementation == "sdpa" or config.model_type in OWN
    if not known or not model._can_set_attn_implementation():
        return False
    AttentionInterface.register(IN_PLACE, attend)
    AttentionMaskInterface.register(IN_PLACE, sdpa_mask)
    model.set_attn_implementation(IN_PLACE)
    return True


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, Any]:
    """Attention as transformers calls it.

    Args:
        module: the layer.
        query: [B, Hq, T, D].
        key, value: [B, Hkv, S, D] and [B, Hkv, S, D'].
        attention_mask: bool [B, 1, T, S] or None, or a table int64 [B, 1, W, 4].
        scaling: of the scores.
        **kwargs: from the model; ``softcap`` and ``s_aux`` (sinks) are supported.

    Returns:
        [B, T, Hq, D'], and None in place of the weights.
    """
    cap, sinks = kwargs.get("softcap"), kwargs.get("s_aux")
    if attention_mask is not None and attention_mask.dtype == torch.int64:
        table = attention_mask[:, 0]
        if kwargs.get("position_bias") is None:
            by = _opaque if torch.compiler.is_compiling() else tree_attention
            return by(query.transpose(1, 2), key, value, table, scaling, cap, sinks), None
        attention_mask = dense(table, query.shape[2], key.shape[2])[:, None]
    if cap is None and sinks is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    size, slots = query.shape[2], key.shape[2]
    if attention_mask is None:  # sdpa's causal mask
        attention_mask = query.new_ones(size, slots, dtype=torch.bool).tril(slots - size)
    hidden = torch.zeros(attention_mask.shape, dtype=query.dtype, device=query.device)
    hidden = hidden.masked_fill(~attention_mask, torch.finfo(query.dtype).min)
    own = sys.modules[type(module).__module__].eager_attention_forward
    return own(module, query, key, value, hidden, scaling=scaling, **kwargs)


@torch.library.custom_op("codegen::tree_attention", mutates_args=())
def _opaque(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    scale: float | None,
    cap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """The same as one operation that ``torch.compile`` does not trace."""
    return tree_attention(q, keys, values, table, scale, cap, sinks).contiguous()


@_opaque.register_fake
def _(q: torch.Tensor, _keys: torch.Tensor, values: torch.Tensor, *_: object) -> torch.Tensor:
    return q.new_empty(*q.shape[:3], values.shape[3])
