"""Masked diffusion of flexible length: masks are inserted where tokens are missing, then filled.

Source: Kim et al., "Any-Order Flexible Length Masked Diffusion", 2025 (arXiv 2509.01025), with
linear schedules. Every token has an insertion time T1, uniform on [0, 1], and an unmasking time T2,
uniform on [T1, 1]. At time t it is missing (t < T1), a mask (T1 <= t < T2) or there. The network
tells the token at each mask and the expected number of missing tokens in each slot.

Unlike the insertion language model's bag of tokens, this is a bound on the likelihood; and a step
can write any number of tokens.
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
from codegen.decoding.insertion.config import FlexibleMaskConfig
from codegen.decoding.insertion.encoder import Encoder, Memory
from codegen.decoding.insertion.mask_sampling import fill_by_masks
from codegen.decoding.insertion.text import Batch, Text

_LATEST = 0.999  # of the training times: weights grow as 1 / (1 - t)


@dataclass(frozen=True, slots=True)
class Interpolated:
    """A text at a time between nothing and whole.

    Attributes:
        text: what is there, masks among it.
        targets: the token of each mask, in order.
        gaps: missing tokens by slot, that of ``[BOS]`` first.
        time: t.
    """

    text: Text
    targets: list[int]
    gaps: list[int]
    time: float

    def __len__(self) -> int:
        return len(self.text.prefix) + len(self.text.body)


def interpolate(text: Text, mask: int, rng: np.random.Generator) -> Interpolated:
    """A text at a uniformly random time."""
    size = len(text.body)
    time = float(rng.uniform(0, _LATEST))
    inserted = rng.random(size)
    unmasked = inserted + (1 - inserted) * rng.random(size)
    there, clean = inserted <= time, unmasked <= time
    body, targets, gaps = [], [], [0]
    for number, token in enumerate(text.body):
        if not there[number]:
            gaps[-1] += 1
            continue
        body.append(token if clean[number] else mask)
        gaps.append(0)
        if not clean[number]:
            targets.append(token)
    return Interpolated(Text(text.prefix, body), targets, gaps, time)


class FlexibleMaskLM(FillingModel):
    """See the module."""

    config_class = FlexibleMaskConfig
    config: FlexibleMaskConfig

    def __init__(self, config: FlexibleMaskConfig) -> None:
        super().__init__(config)
        d = config.hidden_size
        self.encoder = Encoder(config)
        self.head = nn.Linear(d, config.vocab_size, bias=False)
        self.gap_head = nn.Linear(d, 1)
        self.time_mlp = nn.Sequential(nn.Linear(1, d), nn.Tanh(), nn.Linear(d, d))
        self.post_init()

    def corrupt(self, text: Text, rng: np.random.Generator) -> Interpolated:
        """See :func:`interpolate`."""
        return interpolate(text, self.config.mask_token_id, rng)

    def collate(self, corrupted: Sequence[Interpolated]) -> dict[str, Any]:
        """The texts as they are, the masks' tokens, the slots' gaps, the times."""
        batch = Batch.of([item.text for item in corrupted], self.config)
        return {
            **batch.inputs(),
            "targets": torch.tensor([t for item in corrupted for t in item.targets]).long(),
            "gaps": torch.tensor([g for item in corrupted for g in item.gaps]).float(),
            "time": torch.tensor([item.time for item in corrupted]),
        }

    def scores(
        self, batch: Batch, time: Tensor, memory: Memory | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits at the masks, float [M, V], and the logarithms of the expected numbers of missing
        tokens in the open slots, float [K]; both in row-major order. ``time`` is float [B].
        """
        hidden = self.encoder(batch, memory, self.time_mlp(time.to(self.dtype)[:, None]))
        log_gaps = self.gap_head(hidden[batch.open_slots])[:, 0]
        return self.head(hidden[self.masks(batch)]), at_least_float32(log_gaps)

    def masks(self, batch: Batch) -> Tensor:
        """Where masks stand: bool [B, S]."""
        return (batch.input_ids == self.config.mask_token_id) & batch.attention_mask

    def forward(self, targets: Tensor, gaps: Tensor, time: Tensor, **inputs: Tensor) -> Losses:
        """Each text's bound on the negative log-likelihood in nats, over ``config.loss_length``.

        Its terms have the weight 1 / (1 - t) of linear schedules: cross entropy at masks, and at
        slots the Bregman divergence g - c + c log(c / g) of the expected number g from the true c.
        The divisor is the same for every text, as in the released code (batch size x maximum
        length). Divided by its own length |x| instead, a text would count 1 / |x| times, and the
        model would learn p(x) / |x|.

        Args:
            targets: int64 [M], the masks' tokens.
            gaps: float32 [K], c of the open slots.
            time: float32 [B].
            inputs: see :meth:`.text.Batch.inputs`.
        """
        batch = Batch.from_inputs(inputs)
        logits, log_gaps = self.scores(batch, time)
        tokens = functional.cross_entropy(at_least_float32(logits), targets, reduction="none")
        missing = log_gaps.exp() - gaps + torch.xlogy(gaps, gaps) - gaps * log_gaps
        scale = 1 / ((1 - time) * self.config.loss_length)
        parts = {
            "token": _by_row(tokens, self.masks(batch)) * scale,
            "gap": _by_row(missing, batch.open_slots) * scale,
        }
        losses = parts["token"] + parts["gap"]
        return Losses(losses, {name: part.detach() for name, part in parts.items()})

    @torch.inference_mode()
    def fill(
        self, texts: Sequence[Text], options: FillOptions, rngs: Sequence[np.random.Generator]
    ) -> list[Filled]:
        """See :func:`.mask_sampling.fill_by_masks`."""
        return fill_by_masks(self, texts, options, rngs)


def _by_row(values: Tensor, places: Tensor) -> Tensor:
    """Sums of values [N] at the N marks of bool [B, S], by row."""
    rows = places.nonzero()[:, 0]
    return values.new_zeros(len(places)).index_add(0, rows, values)
