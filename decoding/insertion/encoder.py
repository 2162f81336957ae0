"""The encoder: bidirectional, pre-norm, with rotary positions; without causal mask and time.

Source: Patel et al., "Insertion Language Models", 2025 (arXiv 2505.05755), section 3 and the
released code: no biases in attention, ReLU, by default no layer norm after the last layer.

With ``prefix_apart``, which is not in the paper, the prefix sees only itself. Its keys and values
are then the same for all bodies: for many corruptions of one text in training, and for all steps of
decoding, while the paper's encoder computes them again for every inserted token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from codegen.decoding.insertion.text import N_KINDS, PREFIX, EncoderConfig, Prefixes, TextBatch

Memory = list[tuple[Tensor, Tensor]]  # per layer: rotated keys, values [G, heads, P, size]


class TextEncoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.tokens = nn.Embedding(config.vocab_size, d)
        self.kinds = nn.Embedding(N_KINDS, d)
        self.open_slots = nn.Embedding(2, d) if config.marks_open_slots else None
        self.neighbours = nn.Linear(2 * d, d, bias=False) if config.mixes_neighbours else None
        self.dropout = nn.Dropout(config.dropout)
        layers: Any = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.layers: Sequence[Layer] = layers
        self.norm = nn.LayerNorm(d) if config.final_norm else nn.Identity()
        self.head_size = d // config.num_attention_heads
        self.theta, self.step = config.rope_theta, config.rope_step

    def match_keys(self) -> None:
        """Initializes keys equal to queries, so that equal tokens attend to each other at once.

        Source: Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", 2023 (arXiv
        2305.09828), in its simplest form.
        """
        with torch.no_grad():
            for layer in self.layers:
                query, key, _ = layer.qkv.weight.chunk(3)
                key.copy_(query)

    def remember(self, prefixes: Prefixes) -> Memory:
        """Keys and values of G prefixes that see only themselves."""
        kinds = torch.full_like(prefixes.input_ids, PREFIX)
        mask = prefixes.attention_mask
        x = self.embed(prefixes.input_ids, mask, kinds, torch.zeros_like(mask))
        width = prefixes.input_ids.shape[1]
        rotation = self.rotation(1 + torch.arange(width, device=x.device)[None])  # after [CLS]
        mask = mask[:, None, None]
        memory: Memory = []
        for layer in self.layers:
            q, k, v = layer.project(x, rotation)
            memory.append((k, v))
            if len(memory) < len(self.layers):
                x = layer.update(x, q, k, v, mask)
        return memory

    def forward(
        self, batch: TextBatch, memory: Memory | None = None, summary: Tensor | None = None
    ) -> Tensor:
        """Hidden states, [B, S, d].

        Args:
            batch: B texts.
            memory: keys and values of the batch's prefixes; by default they are computed.
            summary: [B, d], added to ``[CLS]`` if given.
        """
        x = self.embed(
            batch.input_ids, batch.attention_mask, batch.kinds, batch.open_slots, summary
        )
        rotation = self.rotation(batch.positions())
        mask, prefixes = batch.attention_mask, batch.prefixes
        if prefixes is not None:
            memory = self.remember(prefixes) if memory is None else memory
            mask = torch.cat((prefixes.attention_mask[batch.owner], mask), 1)
        # Elsewhere the host would wait for the check.
        whole = mask.device.type == "cpu" and bool(mask.all())
        mask = None if whole else mask[:, None, None]
        for number, layer in enumerate(self.layers):
            q, k, v = layer.project(x, rotation)
            if memory is not None:
                keys, values = memory[number]
                k = torch.cat((keys[batch.owner], k), 2)
                v = torch.cat((values[batch.owner], v), 2)
            x = layer.update(x, q, k, v, mask)
        return self.norm(x)

    def embed(
        self,
        ids: Tensor,
        mask: Tensor,
        kinds: Tensor,
        open_slots: Tensor,
        summary: Tensor | None = None,
    ) -> Tensor:
        """The first layer's input [B, S, d]; all arguments but ``summary`` are [B, S]."""
        x = self.tokens(ids) + self.kinds(kinds)
        if self.neighbours is not None:
            there = functional.pad(x * mask[..., None], (0, 0, 1, 1))  # zeros beyond the ends
            x = x + self.neighbours(torch.cat((there[:, :-2], there[:, 2:]), -1))
        if self.open_slots is not None:
            x = x + self.open_slots(open_slots.long())
        if summary is not None:
            x = torch.cat((x[:, :1] + summary[:, None].to(x.dtype), x[:, 1:]), 1)
        return self.dropout(x)

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines for positions [B, S]: each [B, 1, S, size / 2]."""
        angles = self.step * rotary_angles(positions, self.head_size, self.theta)[:, None]
        return angles.cos(), angles.sin()


class Layer(nn.Module):
    """Attention and a feed-forward layer, each as x + f(LN x)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d, wide = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, wide), nn.Linear(wide, d)
        self.dropout = nn.Dropout(config.dropout)

    def project(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, of [B, S, d]: each [B, heads, S, size]."""
        batch, length, _ = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return rotate(q, *rotation), rotate(k, *rotation), v

    def update(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The layer's output; ``mask`` is true where a key is seen: bool [B, 1, 1, keys]."""
        seen = _attend(q, k, v, mask).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(seen))
        return x + self.dropout(self.down(torch.relu(self.up(self.mlp_norm(x)))))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if q.device.type != "cpu" or v.dtype.itemsize >= 4:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # On CPUs the backward pass of attention is several times slower in bfloat16 than in float32.
    with torch.autocast("cpu", enabled=False):
        wide = functional.scaled_dot_product_attention(
            q.float(), k.float(), v.float(), attn_mask=mask
        )
    return wide.to(v.dtype)


def rotary_angles(positions: Tensor, size: int, theta: float) -> Tensor:
    """float32 [..., size / 2]: the angle of each position and pair of channels (RoFormer)."""
    frequencies = theta ** (-torch.arange(0, size, 2, device=positions.device).float() / size)
    return positions.float()[..., None] * frequencies


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on [..., S, size]; channel i is paired with i + size / 2."""
    first, second = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
