"""The released code's way to train an insertion model: dropped tokens stay, hidden as masks.

Every sequence keeps its full length. What was dropped is a mask token that nothing attends to, the
others' positions are counted again, all positions get logits, and the targets are a dense tensor of
the logits' size. The loss is the same as ours (tested); what it costs is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codegen.decoding.insertion import InsertionLM, Text, TextBatch
from codegen.decoding.insertion.models import Dropped


class Drawn(NamedTuple):
    """A text and which tokens of its body are dropped."""

    text: Text
    gone: np.ndarray

    def removed(self) -> Dropped:
        """The same draw as ours, with the tokens removed from the text."""
        body = np.array(self.text.body)
        slots = np.cumsum(~self.gone)[self.gone].tolist()
        visible = Text(self.text.prefix, body[~self.gone].tolist())
        return Dropped(visible, body[self.gone].tolist(), slots)


def draw(text: Text, rng: np.random.Generator) -> Drawn:
    """A subset of uniformly random size, as in :func:`codegen.decoding.insertion.models.drop`."""
    size = len(text.body)
    gone = np.zeros(size, bool)
    gone[rng.permutation(size)[: rng.integers(0, size + 1)]] = True
    return Drawn(text, gone)


def in_place_losses(model: InsertionLM, drawn: Sequence[Drawn]) -> Tensor:
    """Token loss of each text: float32 [B]. For models with the prefix in the text."""
    config = model.config
    batch = TextBatch.of([item.text for item in drawn], config)
    visible = batch.attention_mask.clone()
    for row, (item, start) in enumerate(zip(drawn, batch.starts.tolist(), strict=True)):
        visible[row, start + 1 : start + 1 + len(item.gone)] = torch.from_numpy(~item.gone)
    ids = torch.where(visible, batch.input_ids, config.mask_token_id)
    open_slots = batch.open_slots & visible
    encoder = model.encoder
    x = encoder.embed(ids, visible, batch.kinds, open_slots)
    rotation = encoder.rotation(visible.long().cumsum(-1) - 1)
    for layer in encoder.layers:
        x = layer.update(x, *layer.project(x, rotation), visible[:, None, None])
    logits = model.head(encoder.norm(x)).float()
    logits = logits.masked_fill(~open_slots[..., None], torch.finfo(torch.float32).min)
    log_p = logits.flatten(1).log_softmax(-1).view_as(logits)
    return -(_targets(batch, visible, logits) * log_p).flatten(1).sum(-1)


def _targets(batch: TextBatch, visible: Tensor, logits: Tensor) -> Tensor:
    """Dense shares of the dropped tokens by slot and token, [B, S, V]."""
    targets = torch.zeros_like(logits)
    rows, places = (batch.attention_mask & ~visible).nonzero(as_tuple=True)
    last = torch.arange(visible.shape[1]) * visible
    slots = last.cummax(-1).values[rows, places]  # the visible token before it
    counts = torch.bincount(rows, minlength=len(visible))
    tokens = batch.input_ids[rows, places]
    targets.index_put_((rows, slots, tokens), 1 / counts[rows].float(), accumulate=True)
    return targets
