"""The insertion language model: one joint softmax over slots and tokens, and a head that stops.

Source: Patel et al., "Insertion Language Models", 2025 (arXiv 2505.05755), section 3.
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
from codegen.decoding.insertion.config import InsertionConfig
from codegen.decoding.insertion.encoder import Encoder, Memory
from codegen.decoding.insertion.sampling import fill_by_insertion
from codegen.decoding.insertion.text import Batch, Text

STOP, CONTINUE = range(2)  # classes of the stop head


@dataclass(frozen=True, slots=True)
class Dropped:
    """A text with tokens taken out.

    Attributes:
        visible: what is left.
        slots: for each token taken out its slot: how many places right of ``[BOS]``.
        tokens: their ids.
    """

    visible: Text
    slots: list[int]
    tokens: list[int]

    def __len__(self) -> int:
        return len(self.visible.prefix) + len(self.visible.body)


def drop(text: Text, rng: np.random.Generator, infill_rate: float = 0.0) -> Dropped:
    """Takes a random subset of tokens out.

    The number is uniform from none to all, as in the released code (the paper's text starts at one,
    and would never train stopping), and so is the subset of that size. With ``infill_rate``, so
    often only tokens of one span of uniformly random ends can be missing, and only its slots are
    open.
    """
    size = len(text.body)
    first, last = 0, size
    spans = infill_rate > 0 and rng.random() < infill_rate
    if spans:
        first, last = sorted(rng.integers(0, size + 1, 2).tolist())
    count = int(rng.integers(0, last - first + 1))
    gone = np.zeros(size, bool)
    gone[first + rng.permutation(last - first)[:count]] = True
    slots = np.cumsum(~gone)[gone].tolist()
    body = [token for token, missing in zip(text.body, gone, strict=True) if not missing]
    open_slots: list[bool] = []
    if spans:  # from the slot before the span to the one after its last visible token
        inside = last - first - count
        open_slots = [first <= slot <= first + inside for slot in range(len(body) + 1)]
    tokens = [token for token, missing in zip(text.body, gone, strict=True) if missing]
    return Dropped(Text(text.prefix, body, open_slots), slots, tokens)


class InsertionLM(FillingModel):
    """See the module."""

    config_class = InsertionConfig
    config: InsertionConfig

    def __init__(self, config: InsertionConfig) -> None:
        super().__init__(config)
        d = config.hidden_size
        self.encoder = Encoder(config)
        self.head = nn.Linear(d, config.vocab_size, bias=False)
        self.stop_mlp = nn.Sequential(
            nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Tanh(), nn.Linear(2 * d, d)
        )
        self.stop_head = nn.Linear(d, 2)
        self.post_init()

    def corrupt(self, text: Text, rng: np.random.Generator) -> Dropped:
        """See :func:`drop`."""
        return drop(text, rng, self.config.infill_rate)

    def collate(self, corrupted: Sequence[Dropped]) -> dict[str, Any]:
        """The visible texts and, as row, slot and token, what is missing where."""
        batch = Batch.of([item.visible for item in corrupted], self.config)
        counts = [len(item.tokens) for item in corrupted]
        slots = [
            start + k
            for start, item in zip(batch.starts.tolist(), corrupted, strict=True)
            for k in item.slots
        ]
        return {
            **batch.inputs(),
            "missing_rows": torch.repeat_interleave(torch.tensor(counts)),
            "missing_slots": torch.tensor(slots, dtype=torch.long),
            "missing_tokens": torch.tensor([t for item in corrupted for t in item.tokens]).long(),
        }

    def scores(self, batch: Batch, memory: Memory | None = None) -> tuple[Tensor, Tensor]:
        """Logits of all open slots, and of stopping.

        Returns:
            float [K, V], for the K marks of ``batch.open_slots`` in row-major order; float [B, 2].
        """
        hidden = self.encoder(batch, memory)
        stop = hidden[:, 0]
        return self.head(hidden[batch.open_slots]), self.stop_head(stop + self.stop_mlp(stop))

    def forward(
        self, missing_rows: Tensor, missing_slots: Tensor, missing_tokens: Tensor, **inputs: Tensor
    ) -> Losses:
        """The loss of each text: see :func:`insertion_loss`.

        Args:
            missing_rows, missing_slots, missing_tokens: int64 [T], each missing token's text, slot
                (the index of the token before it) and id.
            inputs: see :meth:`.text.Batch.inputs`.
        """
        batch = Batch.from_inputs(inputs)
        logits, stop = map(at_least_float32, self.scores(batch))
        missing = (missing_rows, missing_slots, missing_tokens)
        token = insertion_loss(logits, batch.open_slots, *missing)
        counts = torch.bincount(missing_rows, minlength=len(batch))
        weights = stop.new_tensor(self.config.stop_class_weights)
        stopping = functional.cross_entropy(
            stop, (counts > 0).long(), weight=weights, reduction="none"
        )
        parts = {"token": token.detach(), "stop": stopping.detach()}
        return Losses(token + self.config.stop_weight * stopping, parts)

    @torch.inference_mode()
    def fill(
        self, texts: Sequence[Text], options: FillOptions, rngs: Sequence[np.random.Generator]
    ) -> list[Filled]:
        """See :func:`.sampling.fill_by_insertion`."""
        return fill_by_insertion(self, texts, options, rngs)


def insertion_loss(
    logits: Tensor, open_slots: Tensor, rows: Tensor, slots: Tensor, tokens: Tensor
) -> Tensor:
    """-sum over (k, v) of d[k, v] log p(k, v), for each text; 0 where nothing is missing.

    d[k, v] is the share of the n missing tokens that are v and lie in slot k, p the softmax over
    all open slots and tokens. As d has n non-zero entries at most, the sum is
    log Z - (1/n) sum of the missing tokens' logits: a logsumexp and a gather, with memory linear in
    the logits, and no dense d.

    Args:
        logits: float32 [K, V], of the open slots in row-major order.
        open_slots: bool [B, S] with K marks; one at least in each row.
        rows, slots, tokens: int64 [T], the missing tokens.

    Returns:
        float32 [B].
    """
    batch = len(open_slots)
    number = (open_slots.flatten().long().cumsum(0) - 1).view_as(open_slots)
    of_slot = torch.full(open_slots.shape, -torch.inf, dtype=logits.dtype, device=logits.device)
    of_slot = of_slot.masked_scatter(open_slots, logits.logsumexp(-1))
    chosen = logits[number[rows, slots], tokens]
    counts = torch.bincount(rows, minlength=batch)
    total = torch.zeros(batch, dtype=logits.dtype, device=logits.device).index_add(0, rows, chosen)
    loss = of_slot.logsumexp(-1) - total / counts.clamp(min=1)
    return torch.where(counts > 0, loss, 0.0)
