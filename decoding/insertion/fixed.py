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

from codegen.decoding.device import download
from codegen.decoding.insertion.base import (
    Corrupted,
    Filled,
    FillingModel,
    FillOptions,
    Losses,
    at,
    at_least_float32,
    numbers,
    sum_by_row,
)
from codegen.decoding.insertion.encoder import Memory, TextEncoder
from codegen.decoding.insertion.text import FixedMaskConfig, Text, TextBatch
from codegen.decoding.sampling import choose


@dataclass(frozen=True, slots=True)
class Masked(Corrupted):
    """A text with masks, and each mask's token."""

    targets: list[int]


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

    def scores(self, batch: TextBatch, places: Tensor, memory: Memory | None = None) -> Tensor:
        """Logits [M, V] at the masks, whose places are as in :func:`.base.at`."""
        return self.head(at(self.encoder(batch, memory), places))

    def forward(self, targets: Tensor, **inputs: Tensor) -> Losses:
        """The mean cross entropy at each text's masks.

        Args:
            targets: int64 [M], the masks' tokens.
            inputs: see :meth:`.text.TextBatch.inputs`.
        """
        batch = TextBatch.from_inputs(inputs)
        masks = self.masks(batch)
        logits = self.scores(batch, masks)
        losses = functional.cross_entropy(at_least_float32(logits), targets, reduction="none")
        return Losses(sum_by_row(losses, masks) / masks.sum(-1).clamp(min=1), {})

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
        for step in range(steps):
            masks = self.masks(batch)
            draws = torch.from_numpy(np.stack([rng.random((2, size)) for rng in rngs]))
            of_mask = masks[masks.any(-1)].long().cumsum(-1)[masks] - 1
            rows = masks.nonzero()[:, 0]
            moved, (places, uniforms) = batch.on(
                self.device, numbers(masks), draws[rows, 0, of_mask]
            )
            logits = self.forbid(self.scores(moved, places, memory).float(), but=eos)
            tokens = choose(logits, uniforms, options.temperature, options.top_p)
            sure = logits.log_softmax(-1).amax(-1)
            found = torch.tensor(download(torch.stack([tokens.double(), sure.double()])))
            tokens, sure = found[0].long(), found[1]
            rank = sure if options.order == "confident" else draws[rows, 1, of_mask]
            ranks = torch.full(masks.shape, -torch.inf)
            ranks[masks] = rank.float()
            count = -(-size * (step + 1) // steps) - -(-size * step // steps)
            top = ranks.topk(count, -1).indices
            written = batch.input_ids.masked_scatter(masks, tokens)
            batch.input_ids.scatter_(1, top, written.gather(1, top))
        filled = []
        for body in batch.bodies():
            end = body.index(eos) if eos in body else size
            filled.append(Filled(body[:end], [False] * end, steps, end < size))
        return filled
