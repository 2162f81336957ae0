"""A forward pass of few tokens, written out for models built like Llama.

Between two keys a completion takes some passes of one token and one of a few dozen. With narrow
weights their products are so short that most of the time goes into what a model's own ``forward``
does beside them: attention made for many queries, masks, sixty small operations a layer. Here a
layer is four products (queries, keys and values in one; gate and up in one), one attention over
the cells in place, two norms, a rotation and a gate, each one call of :mod:`codegen.kernels.cpu`.
Without these kernels it computes the same, in the model's own time.

The model itself stays as it is; its modules' own parameters are used, or narrow copies of them.
Only classes whose code is known are taken (:data:`KNOWN`), and before a step is used its logits are
compared with the model's (:func:`codegen.decoding.editing.forward.check_agreement`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from codegen.decoding.editing.cells import CellCache, CellLayer
from codegen.kernels.cpu import attention, gated, rms_norm, rotate_

Product = Callable[[torch.Tensor], torch.Tensor]
"""A linear layer: rows [Q, I] to [Q, O]."""

Join = Callable[[Sequence[nn.Linear]], Product]
"""Makes one product of layers of the same inputs: their outputs side by side."""

# Causal language models whose parts are those of Llama, with or without biases: the prefix of the
# class names of their parts.
KNOWN = {
    "LlamaForCausalLM": "Llama",
    "MistralForCausalLM": "Mistral",
    "Qwen2ForCausalLM": "Qwen2",
}


@dataclass(frozen=True)
class _Layer:
    before_attention: Product
    states: Product  # queries, keys and values
    out: Product
    before_feed_forward: Product
    gate_and_up: Product
    down: Product


class DecodeStep:
    """Runs few tokens through a model whose states lie in cells.

    Args:
        model: for which :func:`can_step` is true.
        join: makes the products, :func:`plain_product` for the model's own weights.
        most: tokens up to which it is worth using.
    """

    def __init__(self, model: PreTrainedModel, join: Join, *, most: int) -> None:
        self.most = most
        base: Any = model.model
        config = model.config
        self._embed: nn.Embedding = base.embed_tokens
        self._rotary: nn.Module = base.rotary_emb
        self._heads = config.num_attention_heads
        self._kv_heads = config.num_key_value_heads
        self._scale = base.layers[0].self_attn.scaling
        self._layers = [_written_out(layer, join) for layer in base.layers]
        self._norm = _norm(base.norm)
        self._head = join([model.lm_head])  # type: ignore[list-item]

    def __call__(
        self, tokens: torch.Tensor, places: torch.Tensor, order: torch.Tensor, cells: CellCache,
        keep: int,
    ) -> torch.Tensor:  # fmt: skip
        """Encodes tokens; each sees what stands before it, encoded just now or before.

        Args:
            tokens: int64 [Q].
            places: their positions, ascending, int64 [Q].
            order: the cell of each position, int64 [N].
            cells: whose room says which cells are written.
            keep: for how many of the last tokens logits are wanted.

        Returns:
            Logits [keep, V].
        """
        states = self._embed(tokens)  # [Q, H]
        cosines, sines = self._rotary(states[None], places[None])  # [1, Q, D]
        cosines, sines = cosines[0].contiguous(), sines[0].contiguous()
        heads, kv_heads, count = self._heads, self._kv_heads, len(tokens)
        for layer, cell in zip(self._layers, cells.layers, strict=True):
            assert isinstance(cell, CellLayer)
            all_heads = layer.states(layer.before_attention(states))
            all_heads = all_heads.view(count, heads + 2 * kv_heads, -1)
            rotate_(all_heads, heads + kv_heads, cosines, sines)
            queries, keys, values = all_heads.split([heads, kv_heads, kv_heads], dim=1)
            cell.update(keys.transpose(0, 1)[None], values.transpose(0, 1)[None])
            assert cell.keys is not None and cell.values is not None
            seen = attention(queries, cell.keys, cell.values, order, places, self._scale)
            states = states + layer.out(seen.view(count, -1))
            gate_and_up = layer.gate_and_up(layer.before_feed_forward(states))
            states = states + layer.down(gated(gate_and_up))
        return self._head(self._norm(states[-keep:]))


def can_step(model: PreTrainedModel) -> bool:
    """Whether a model is one of :data:`KNOWN` with nothing in it that they do not have."""
    prefix = KNOWN.get(type(model).__name__)
    if prefix is None or not type(model).__module__.startswith("transformers.models."):
        return False
    config, base = model.config, model.model  # type: ignore[attr-defined]
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or _window(config):
        return False
    parts = {"self_attn": "Attention", "mlp": "MLP", "input_layernorm": "RMSNorm",
             "post_attention_layernorm": "RMSNorm"}  # fmt: skip
    for layer in base.layers:  # type: ignore[union-attr]
        if type(layer).__name__ != f"{prefix}DecoderLayer":
            return False
        if {name: type(part).__name__ for name, part in layer.named_children()} != {
            name: prefix + part for name, part in parts.items()
        }:
            return False
        if any(type(part) is not nn.Linear for part in _products(layer)):
            return False
    return (
        config.hidden_act == "silu"
        and model.device.type == "cpu"
        and not model.training
        and type(model.lm_head) is nn.Linear
        and len(base.layers) == config.num_hidden_layers  # type: ignore[arg-type]
    )


def _window(config: Any) -> bool:
    """Whether attention ends at a window in all layers."""
    return bool(getattr(config, "sliding_window", None)) and not getattr(
        config, "layer_types", None
    )


def plain_product(layers: Sequence[nn.Linear]) -> Product:
    """Layers with their own weights."""
    if len(layers) == 1:
        return layers[0]
    return lambda rows: torch.cat([layer(rows) for layer in layers], dim=-1)


def _products(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    found = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    return [*found, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


def _written_out(layer: Any, join: Join) -> _Layer:
    query, key, value, out, gate, up, down = _products(layer)
    return _Layer(
        _norm(layer.input_layernorm),
        join([query, key, value]),  # type: ignore[list-item]
        join([out]),  # type: ignore[list-item]
        _norm(layer.post_attention_layernorm),
        join([gate, up]),  # type: ignore[list-item]
        join([down]),  # type: ignore[list-item]
    )


def _norm(norm: Any) -> Product:
    weight, epsilon = norm.weight.detach(), norm.variance_epsilon
    return lambda rows: rms_norm(rows, weight, epsilon)
