"""Masked diffusion of fixed length, the baseline: as many masks as the longest body has tokens.

Source: Sahoo et al., "Simple and Effective Masked Diffusion Language Models", 2024 (arXiv
2406.07524). The number of masks is uniform from one to all, and a text's loss is the mean cross
entropy at its masks, which has the same expectation per token as the bound with a log-linear
schedule. The network is that of the other models, without conditioning on time, which masked
diffusion does not need. A shorter body ends in end tokens, which are learned like any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codegen.decoding.insertion.base import (
    Filled,
    FillingModel,
    FillOptions,
    Losses,
    at_least_float32,
)
from codegen.decoding.insertion.encoder import Memory, TextEncoder
from codegen.decoding.insertion.text import FixedMaskConfig, Text, TextBatch
from codegen.decoding.sampling import choose


@dataclass(frozen=True, slots=True)
class Masked:
    """A text with masks, and each mask's token."""

    text: Text
    targets: list[int]

    def __len__(self) -> int:
        return len(self.text.prefix) + len(self.text.body)


class FixedMaskLM(FillingModel):
    """See the module."""

    config_class = FixedMaskConfig
    config: FixedMaskConfig

    def __init__(self, config: FixedMaskConfig) -> None:
        super().__init__(config)
        self.encoder = TextEncoder(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def corrupt(self, text: Text, rng: np.random.Generator) -> Masked:
        """Replaces a random subset of the body, of uniformly random size, by masks."""
        size = self.config.body_length
        if len(text.body) > size:
            raise ValueError(f"a body has {len(text.body)} tokens, the model supports {size}")
        body = [*text.body, *[self.config.eos_token_id] * (size - len(text.body))]
        places = sorted(rng.permutation(size)[: rng.integers(1, size + 1)].tolist())
        targets = [body[place] for place in places]
        for place in places:
            body[place] = self.config.mask_token_id
        return Masked(Text(text.prefix, body), targets)

    def collate(self, corrupted: Sequence[Masked]) -> dict[str, Any]:
        """The texts and the masks' tokens."""
        batch = TextBatch.of([item.text for item in corrupted], self.config)
        return {
            **batch.inputs(),
            "targets": torch.tensor([t for item in corrupted for t in item.targets]).long(),
        }

    def scores(self, batch: TextBatch, memory: Memory | None = None) -> tuple[Tensor, Tensor]:
        """Logits at the masks, float [M, V], and the masks' places, bool [B, S]."""
        masks = (batch.input_ids == self.config.mask_token_id) & batch.attention_mask
        return self.head(self.encoder(batch, memory)[masks]), masks

    def forward(self, targets: Tensor, **inputs: Tensor) -> Losses:
        """The mean cross entropy at each text's masks.

        Args:
            targets: int64 [M], the masks' tokens.
            inputs: see :meth:`.text.TextBatch.inputs`.
        """
        logits, masks = self.scores(TextBatch.from_inputs(inputs))
        losses = functional.cross_entropy(at_least_float32(logits), targets, reduction="none")
        rows = masks.nonzero()[:, 0]
        sums = losses.new_zeros(len(masks)).index_add(0, rows, losses)
        return Losses(sums / masks.sum(-1).clamp(min=1), {})

    @torch.inference_mode()
    def fill(
        self, texts: Sequence[Text], options: FillOptions, rngs: Sequence[np.random.Generator]
    ) -> list[Filled]:
        """Fills an equal number of masks per step, the most certain first or in random order.

        Raises:
            ValueError: if a text has a body, since a model of fixed length cannot fill gaps.
        """
        if any(text.body for text in texts):
            raise ValueError("a model of fixed length cannot fill gaps")
        size = self.config.body_length
        masked = [Text(text.prefix, [self.config.mask_token_id] * size) for text in texts]
        batch = self.start(masked)
        memory = self.remember(batch)
        steps = min(options.steps or size, size)
        eos = self.config.eos_token_id
        forbidden = [t for t in self.config.forbidden_token_ids if t != eos]
        for step in range(steps):
            logits, masks = self.scores(batch, memory)
            logits = logits.float()
            logits[:, forbidden] = -torch.inf
            draws = torch.from_numpy(np.stack([rng.random((2, size)) for rng in rngs]))
            draws = draws.to(logits.device)
            of_mask = masks[masks.any(-1)].long().cumsum(-1)[masks] - 1
            rows = masks.nonzero()[:, 0]
            tokens = choose(logits, draws[rows, 0, of_mask], options.temperature, options.top_p)
            sure = logits.log_softmax(-1).amax(-1)
            rank = sure if options.order == "confident" else draws[rows, 1, of_mask].float()
            ranks = torch.full(masks.shape, -torch.inf, device=logits.device)
            ranks[masks] = rank
            count = -(-size * (step + 1) // steps) - -(-size * step // steps)
            top = ranks.topk(count, -1).indices
            written = batch.input_ids.masked_scatter(masks, tokens)
            batch.input_ids.scatter_(1, top, written.gather(1, top))
        filled = []
        for body in batch.bodies():
            end = body.index(eos) if eos in body else size
            filled.append(Filled(body[:end], [False] * end, steps, end < size))
        return filled
