"""The insertion language model: one joint softmax over slots and tokens, and a head that stops.

Source: Patel et al., "Insertion Language Models", 2025 (arXiv 2505.05755), section 3; decoding by
one or several insertions per step follows section 3.3 and the released code. There, a finished text
stays in the batch and gets a masked dummy token per step; here it leaves the batch.
"""

from __future__ import annotations

import math
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
    Running,
    at_least_float32,
)
from codegen.decoding.insertion.encoder import Memory, TextEncoder
from codegen.decoding.insertion.text import InsertionConfig, Text, TextBatch
from codegen.decoding.sampling import choose

STOP, CONTINUE = range(2)  # classes of the stop head


@dataclass(frozen=True, slots=True)
class Dropped:
    """A text without some of its tokens.

    Attributes:
        visible: the remaining text.
        slots: for each missing token its slot, as the number of places right of ``[BOS]``.
        tokens: the missing tokens' ids.
    """

    visible: Text
    slots: list[int]
    tokens: list[int]

    def __len__(self) -> int:
        return len(self.visible.prefix) + len(self.visible.body)


def drop(text: Text, rng: np.random.Generator, infill_rate: float = 0.0) -> Dropped:
    """Removes a random subset of tokens.

    Its size is uniform from none to all, as in the released code (in the paper's text it starts at
    one, which would never train stopping), and so is the subset of that size. With probability
    ``infill_rate`` only tokens of one random span are removed, and only its slots are open.
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
    if spans:  # from the slot before the span to the slot after its last visible token
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
        self.encoder = TextEncoder(config)
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
        """The visible texts, and the rows, slots and ids of the missing tokens."""
        batch = TextBatch.of([item.visible for item in corrupted], self.config)
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

    def scores(self, batch: TextBatch, memory: Memory | None = None) -> tuple[Tensor, Tensor]:
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
            inputs: see :meth:`.text.TextBatch.inputs`.
        """
        batch = TextBatch.from_inputs(inputs)
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
        """Inserts tokens until the stop head ends each text, or ``max_new_tokens`` does.

        A text without an open slot is finished at once.
        """
        running = Running(self.start(texts), rngs)
        memory = self.remember(running.batch)
        running.finish(~running.batch.open_slots.any(-1), finished=True)
        while running.rows:
            logits, stop = self.scores(running.batch, memory)
            dense = _dense(self.forbid(logits), running.batch.open_slots)
            running.steps += 1
            if running.steps > 1 or not options.insist:
                done = stop.float().softmax(-1)[:, 0] >= options.stop_threshold
                running.finish(done, finished=True)
                dense = dense[~done, : running.batch.input_ids.shape[1]]
            if not running.rows:
                break
            budget = options.max_new_tokens - running.written
            running.insert(*pick(dense, running.uniforms(2), options, budget))
            running.finish(running.written >= options.max_new_tokens, finished=False)
        return running.results()


def insertion_loss(
    logits: Tensor, open_slots: Tensor, rows: Tensor, slots: Tensor, tokens: Tensor
) -> Tensor:
    """-sum over (k, v) of d[k, v] log p(k, v), for each text; 0 where nothing is missing.

    d[k, v] is the share of the n missing tokens that are v and belong in slot k; p is the softmax
    over all open slots and tokens. As d has at most n non-zero entries, the sum is log Z - (1/n)
    sum of the missing tokens' logits: a logsumexp and a gather, without a dense d.

    Args:
        logits: float32 [K, V], of the open slots in row-major order.
        open_slots: bool [B, S] with K marks, at least one per row.
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


def _dense(logits: Tensor, open_slots: Tensor) -> Tensor:
    """[K, V] to [B, S, V], -inf at closed slots."""
    shape = (*open_slots.shape, logits.shape[-1])
    dense = torch.full(shape, -torch.inf, dtype=logits.dtype, device=logits.device)
    dense[open_slots] = logits
    return dense


def pick(
    logits: Tensor, uniforms: Tensor, options: FillOptions, budget: Tensor
) -> tuple[Tensor, Tensor]:
    """Chooses slots and tokens to insert.

    Args:
        logits: float32 [B, S, V], -inf at closed slots; each row has an open slot.
        uniforms: float64 [2, B, S] in [0, 1).
        options: how gaps are filled.
        budget: int64 [B], insertions left, at least 1.

    Returns:
        The chosen slots, bool [B, S], and their tokens, int64 [B, S], read where marked.
    """
    rows = torch.arange(len(logits), device=logits.device)
    tokens = logits.argmax(-1)
    if options.stages == 1:
        flat = choose(logits.flatten(1), uniforms[0, :, 0], options.temperature, options.top_p)
        slot = flat // logits.shape[-1]
        tokens[rows, slot] = flat % logits.shape[-1]
    else:
        of_slot = logits.logsumexp(-1)
        slot = choose(of_slot, uniforms[0, :, 0], options.slot_temperature, 1.0)
        if options.temperature > 0:
            can = of_slot.isfinite()
            tokens[can] = choose(logits[can], uniforms[1][can], options.temperature, options.top_p)
    where = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
    where[rows, slot] = True
    if options.insertions > 1:
        _add_others(where, tokens, logits, options, budget)
    return where, tokens


def _add_others(
    where: Tensor, tokens: Tensor, logits: Tensor, options: FillOptions, budget: Tensor
) -> None:
    """Marks further slots by falling joint probability of slot and token, without neighbors.

    Two insertions into neighboring slots would be chosen independently of each other.
    """
    joint = logits.gather(-1, tokens[..., None])[..., 0]
    floor = joint[where] + math.log(options.least_share)  # one mark per row so far
    for done in range(1, options.insertions):
        near = where.clone()
        near[:, 1:] |= where[:, :-1]
        near[:, :-1] |= where[:, 1:]
        best, slot = joint.masked_fill(near, -torch.inf).max(-1)
        take = (best >= floor) & (budget > done)
        if not bool(take.any()):
            return
        rows = take.nonzero()[:, 0]
        where[rows, slot[rows]] = True
