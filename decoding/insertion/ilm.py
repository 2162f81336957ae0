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

from codegen.decoding.device import download
from codegen.decoding.insertion.base import (
    Corrupted,
    Filled,
    FillingModel,
    FillOptions,
    Losses,
    Running,
    at,
    at_least_float32,
    numbers,
)
from codegen.decoding.insertion.encoder import Memory, TextEncoder
from codegen.decoding.insertion.text import InsertionConfig, Text, TextBatch
from codegen.decoding.sampling import choose

STOP, CONTINUE = range(2)  # classes of the stop head


@dataclass(frozen=True, slots=True)
class Dropped(Corrupted):
    """A text without some of its tokens.

    Attributes:
        slots: for each missing token its slot, as the number of places right of ``[BOS]``.
        tokens: the missing tokens' ids.
    """

    slots: list[int]
    tokens: list[int]


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
        batch = TextBatch.of([item.text for item in corrupted], self.config)
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

    def scores(
        self, batch: TextBatch, memory: Memory | None = None, slots: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits of all open slots, and of stopping.

        Args:
            batch: the texts.
            memory: of the prefixes.
            slots: the numbers of the open slots, int64 [K], if they are known.

        Returns:
            float [K, V], for the K marks of ``batch.open_slots`` in row-major order; float [B, 2].
        """
        hidden = self.encoder(batch, memory)
        stop = hidden[:, 0]
        logits = self.head(at(hidden, batch.open_slots if slots is None else slots))
        return logits, self.stop_head(stop + self.stop_mlp(stop))

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
            budget = options.max_new_tokens - running.written
            slots = numbers(running.batch.open_slots)
            batch, given = running.batch.on(self.device, slots, running.uniforms(2), budget)
            logits, stop = self.scores(batch, memory, given[0])
            where, tokens = pick(self.forbid(logits), *given, options=options)
            done = stop.float().softmax(-1)[:, 0] >= options.stop_threshold
            chosen = torch.where(where, tokens, -1)
            found = torch.tensor(download(torch.cat([chosen, done.long()[:, None]], 1)))
            chosen, done = found[:, :-1], found[:, -1] > 0
            running.steps += 1
            if running.steps > 1 or not options.insist:
                running.finish(done, finished=True)
                chosen = chosen[~done, : running.batch.input_ids.shape[1]]
            if running.rows:
                running.insert(chosen >= 0, chosen)
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


def pick(
    logits: Tensor, slots: Tensor, uniforms: Tensor, budget: Tensor, options: FillOptions
) -> tuple[Tensor, Tensor]:
    """Chooses slots and tokens to insert.

    Args:
        logits: float32 [K, V], of the open slots.
        slots: their numbers in row-major order, int64 [K]; each row has one.
        uniforms: float64 [2, B, S] in [0, 1).
        budget: int64 [B], insertions left, at least 1.
        options: how gaps are filled.

    Returns:
        The chosen slots, bool [B, S], and their tokens, int64 [B, S], read where marked.
    """
    shape, vocabulary = uniforms.shape[1:], logits.shape[-1]

    def spread(values: Tensor, fill: float) -> Tensor:
        """[K, ...] to [B, S, ...]."""
        full = values.new_full((shape.numel(), *values.shape[1:]), fill)
        return full.index_copy_(0, slots, values).view(*shape, *values.shape[1:])

    own = logits.argmax(-1)
    if options.stages == 1:
        joint = spread(logits, -torch.inf).flatten(1)
        flat = choose(joint, uniforms[0, :, 0], options.temperature, options.top_p)
        slot = flat // vocabulary
        tokens = spread(own, 0).scatter(1, slot[:, None], flat[:, None] % vocabulary)
    else:
        of_slot = spread(logits.logsumexp(-1), -torch.inf)
        slot = choose(of_slot, uniforms[0, :, 0], options.slot_temperature, 1.0)
        if options.temperature > 0:
            own = choose(logits, at(uniforms[1], slots), options.temperature, options.top_p)
        tokens = spread(own, 0)
    where = torch.arange(shape[1], device=slot.device) == slot[:, None]
    if options.insertions > 1:
        chosen = logits.gather(1, at(tokens, slots)[:, None])[:, 0]
        _add_others(where, spread(chosen, -torch.inf), budget, options)
    return where, tokens


def _add_others(where: Tensor, joint: Tensor, budget: Tensor, options: FillOptions) -> None:
    """Marks further slots by falling joint logits of slot and token [B, S], without neighbors.

    Two insertions into neighboring slots would be chosen independently of each other.
    """
    first = joint.masked_fill(~where, -torch.inf).amax(-1)  # one mark per row so far
    floor = first + math.log(options.least_share)
    columns = torch.arange(where.shape[1], device=where.device)
    for done in range(1, options.insertions):
        near = where.clone()
        near[:, 1:] |= where[:, :-1]
        near[:, :-1] |= where[:, 1:]
        best, slot = joint.masked_fill(near, -torch.inf).max(-1)
        take = (best >= floor) & (budget > done)
        where |= take[:, None] & (columns == slot[:, None])
