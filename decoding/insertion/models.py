"""The three models: insertion, and masked diffusion of flexible or fixed length.

**Insertions**: one joint softmax over slots and tokens, and a stop head.

Source: Patel et al., "Insertion Language Models", 2025 (arXiv 2505.05755), section 3; decoding with
one or several insertions per step follows section 3.3 and the released code. There, a finished text
stays in the batch and gets a masked dummy token per step; here it leaves the batch.

**Flexible length**: the model inserts masks where tokens are missing, then fills them. Source: Kim
et al., "Any-Order Flexible Length Masked Diffusion", 2025 (arXiv 2509.01025), with linear
schedules. Every token has an insertion time T1, uniform on [0, 1], and an unmasking time T2,
uniform on [T1, 1]. At time t it is missing (t < T1), a mask (T1 <= t < T2) or present. The network
predicts the token at each mask and the expected number of missing tokens in each slot.

Unlike the insertion model's bag-of-tokens loss, this loss is a bound on the likelihood, and a
step can fill any number of tokens.

Decoding (section 4 and the released code) takes Euler steps in time. In a step from t to
t + dt a slot gets g dt / (1 - t) masks in expectation, where g is the expected number of tokens
missing there, and a mask becomes a token with probability dt / (1 - t). With ``order: confident``
the same number of masks is filled, but those with the most likely tokens. Unlike in the released
code, the last step also inserts, and one more pass fills its masks; otherwise each of a text's
tokens would be lost with probability 1 / steps, and the text would be too short.

**Fixed length**, a baseline: the model (Sahoo et al., "Simple and Effective Masked Diffusion
Language Models", 2024, arXiv 2406.07524) has as many masks as the longest body has tokens. The
number of masks is uniform from one to all, and a text's loss is the mean cross entropy at its
masks, which has the same expectation per token as the bound with a log-linear schedule. The network
is the same as for the other models, without conditioning on time, which masked diffusion does not
need. A shorter body is padded with end tokens, which are learned like any others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codegen.decoding.device import download
from codegen.decoding.insertion.base import (
    CorruptedText,
    FilledText,
    FillingModel,
    FillOptions,
    Losses,
    Memory,
    RunningBatch,
    at,
    at_least_float32,
    numbers,
    sum_by_row,
)
from codegen.decoding.insertion.text import (
    FixedMaskConfig,
    FlexibleMaskConfig,
    InsertionConfig,
    Text,
    TextBatch,
)
from codegen.decoding.sampling import choose

_STOP = 0  # index among the stop head's two classes


@dataclass(frozen=True, slots=True)
class DroppedText(CorruptedText):
    """A text with some of its tokens removed.

    Attributes:
        slots: each missing token's slot, as an offset from the slot of ``[BOS]``.
    """

    slots: list[int]


def drop(text: Text, rng: np.random.Generator, infill_rate: float = 0.0) -> DroppedText:
    """Removes a random subset of tokens.

    The size is uniform from none to all, as in the released code (in the paper it starts at one,
    which would never train stopping), and so is the subset of that size. With probability
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
    return DroppedText(Text(text.prefix, body, open_slots), tokens, slots)


class InsertionLM(FillingModel):
    """Model that inserts tokens at any position; see the module."""

    config_class = InsertionConfig
    config: InsertionConfig

    def __init__(self, config: InsertionConfig) -> None:
        super().__init__(config)
        d = config.hidden_size
        self.stop_mlp = nn.Sequential(
            nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Tanh(), nn.Linear(2 * d, d)
        )
        self.stop_head = nn.Linear(d, 2)
        self.post_init()

    def corrupt(self, text: Text, rng: np.random.Generator) -> DroppedText:
        """Drops random tokens; see :func:`drop`."""
        return drop(text, rng, self.config.infill_rate)

    def collate(self, corrupted: Sequence[DroppedText]) -> dict[str, Any]:
        """Returns the visible texts, and the rows, slots and ids of the missing tokens."""
        inputs = super().collate(corrupted)
        counts = [len(item.slots) for item in corrupted]
        starts = TextBatch.from_inputs(inputs).starts.tolist()
        slots = [
            start + k for start, item in zip(starts, corrupted, strict=True) for k in item.slots
        ]
        return {
            **inputs,
            "missing_rows": torch.repeat_interleave(torch.tensor(counts)),
            "missing_slots": torch.tensor(slots, dtype=torch.long),
        }

    def scores(
        self, batch: TextBatch, memory: Memory | None = None, slots: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Computes logits of all open slots, and of stopping.

        Args:
            batch: batch of texts.
            memory: the prefixes' keys and values.
            slots: row-major indices of the open slots, int64 [K], if known.

        Returns:
            float [K, V], for the K marks of ``batch.open_slots`` in row-major order; float [B, 2].
        """
        hidden = self.encoder(batch, memory)
        stop = hidden[:, 0]
        logits = self.head(at(hidden, batch.open_slots if slots is None else slots))
        return logits, self.stop_head(stop + self.stop_mlp(stop))

    def forward(
        self, missing_rows: Tensor, missing_slots: Tensor, targets: Tensor, **inputs: Tensor
    ) -> Losses:
        """Computes each text's loss; see :func:`insertion_loss`.

        Args:
            missing_rows, missing_slots, targets: int64 [T], each missing token's text, slot
                (the index of the token before it) and id.
            inputs: see :meth:`.text.TextBatch.inputs`.
        """
        batch = TextBatch.from_inputs(inputs)
        logits, stop = map(at_least_float32, self.scores(batch))
        missing = (missing_rows, missing_slots, targets)
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
    ) -> list[FilledText]:
        """Inserts tokens until the stop head or ``max_new_tokens`` ends each text.

        A text without an open slot is finished immediately.
        """
        running = RunningBatch(self.start(texts), rngs)
        memory = self.remember(running.batch)
        running.finish(~running.batch.open_slots.any(-1), finished=True)
        while running.rows:
            budget = options.max_new_tokens - running.written
            slots = numbers(running.batch.open_slots)
            batch, given = running.batch.on(self.device, slots, running.uniforms(2), budget)
            logits, stop = self.scores(batch, memory, given[0])
            where, tokens = pick(self.forbid(logits), *given, options=options)
            done = stop.float().softmax(-1)[:, _STOP] >= options.stop_threshold
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
    """Computes -sum over (k, v) of d[k, v] log p(k, v) per text; 0 where no token is missing.

    d[k, v] is the fraction of n missing tokens that are v and belong in slot k; p is the softmax
    over all open slots and tokens. As d has at most n non-zero entries, the sum is log Z - (1/n)
    sum of the missing tokens' logits: a logsumexp and a gather, without a dense d.

    Args:
        logits: float32 [K, V], logits of the open slots in row-major order.
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
        logits: float32 [K, V], logits of the open slots.
        slots: their row-major indices, int64 [K]; at least one per row.
        uniforms: float64 [2, B, S] in [0, 1).
        budget: int64 [B], insertions left, at least 1.
        options: fill options.

    Returns:
        The chosen slots, bool [B, S], and their tokens, int64 [B, S], used if chosen.
    """
    shape, vocabulary = uniforms.shape[1:], logits.shape[-1]

    def spread(values: Tensor, fill: float) -> Tensor:
        """Expands [K, ...] to [B, S, ...]."""
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
    """Marks additional slots by descending joint logits of slot and token [B, S]; no neighbors.

    Two insertions into neighboring slots would be chosen independently of each other.
    """
    first = joint.masked_fill(~where, -torch.inf).amax(-1)  # where: one True per row
    floor = first + math.log(options.least_share)
    columns = torch.arange(where.shape[1], device=where.device)
    for done in range(1, options.insertions):
        near = where.clone()
        near[:, 1:] |= where[:, :-1]
        near[:, :-1] |= where[:, 1:]
        best, slot = joint.masked_fill(near, -torch.inf).max(-1)
        take = (best >= floor) & (budget > done)
        where |= take[:, None] & (columns == slot[:, None])


DEFAULT_STEPS = 128
_LATEST = 0.999  # latest training time, as weights grow like 1 / (1 - t)


@dataclass(frozen=True, slots=True)
class InterpolatedText(CorruptedText):
    """A masked text at a time between empty (0) and complete (1).

    Attributes:
        gaps: number of missing tokens per slot, starting with the slot of ``[BOS]``.
        time: t.
    """

    gaps: list[int]
    time: float


def interpolate(text: Text, mask: int, rng: np.random.Generator) -> InterpolatedText:
    """Builds a text at a uniformly random time."""
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
    return InterpolatedText(Text(text.prefix, body), targets, gaps, time)


class FlexibleMaskLM(FillingModel):
    """Masked diffusion of flexible length; see the module."""

    config_class = FlexibleMaskConfig
    config: FlexibleMaskConfig

    def __init__(self, config: FlexibleMaskConfig) -> None:
        super().__init__(config)
        d = config.hidden_size
        self.gap_head = nn.Linear(d, 1)
        self.time_mlp = nn.Sequential(nn.Linear(1, d), nn.Tanh(), nn.Linear(d, d))
        self.post_init()

    def corrupt(self, text: Text, rng: np.random.Generator) -> InterpolatedText:
        """Corrupts a text; see :func:`interpolate`."""
        return interpolate(text, self.config.mask_token_id, rng)

    def collate(self, corrupted: Sequence[InterpolatedText]) -> dict[str, Any]:
        """Returns the masked texts, the masks' tokens, the slots' gaps, and the times."""
        return {
            **super().collate(corrupted),
            "gaps": torch.tensor([g for item in corrupted for g in item.gaps]).float(),
            "time": torch.tensor([item.time for item in corrupted]),
        }

    def scores(
        self,
        batch: TextBatch,
        time: Tensor,
        memory: Memory | None = None,
        places: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Computes logits at the masks and expected numbers of missing tokens, in row-major order.

        Args:
            batch: batch of texts.
            time: float [B].
            memory: the prefixes' keys and values.
            places: row-major indices of the masks, int64 [M], and of the open slots, int64 [K],
                if known.

        Returns:
            Logits, float [M, V]; logarithms of the expected numbers at the open slots, float [K].
        """
        masks, slots = places or (self.masks(batch), batch.open_slots)
        hidden = self.encoder(batch, memory, self.time_mlp(time.to(self.dtype)[:, None]))
        log_gaps = self.gap_head(at(hidden, slots))[:, 0]
        return self.head(at(hidden, masks)), at_least_float32(log_gaps)

    def forward(self, targets: Tensor, gaps: Tensor, time: Tensor, **inputs: Tensor) -> Losses:
        """Computes each text's bound on its negative log-likelihood, in nats / ``loss_length``.

        The terms have the weight 1 / (1 - t) of linear schedules: cross entropy at masks, and at
        slots the Bregman divergence g - c + c log(c / g) of the expected number g from the true c.
        All texts have the same divisor, as in the released code (batch size x maximum length). With
        the text's length |x| as the divisor, the model would learn p(x) / |x|.

        Args:
            targets: int64 [M], the masks' tokens.
            gaps: float32 [K], c per open slot.
            time: float32 [B].
            inputs: see :meth:`.text.TextBatch.inputs`.
        """
        batch = TextBatch.from_inputs(inputs)
        logits, log_gaps = self.scores(batch, time)
        tokens = functional.cross_entropy(at_least_float32(logits), targets, reduction="none")
        missing = log_gaps.exp() - gaps + torch.xlogy(gaps, gaps) - gaps * log_gaps
        scale = 1 / ((1 - time) * self.config.loss_length)
        parts = {
            "token": sum_by_row(tokens, self.masks(batch)) * scale,
            "gap": sum_by_row(missing, batch.open_slots) * scale,
        }
        losses = parts["token"] + parts["gap"]
        return Losses(losses, {name: part.detach() for name, part in parts.items()})

    @torch.inference_mode()
    def fill(
        self, texts: Sequence[Text], options: FillOptions, rngs: Sequence[np.random.Generator]
    ) -> list[FilledText]:
        """Goes from t = 0 to 1 in equal steps, then fills the last step's masks.

        Runs ``steps`` + 1 passes. A text that reaches ``max_new_tokens`` gets no more masks and
        counts as unfinished.
        """
        running = RunningBatch(self.start(texts), rngs)
        memory = self.remember(running.batch)
        steps = options.steps or DEFAULT_STEPS
        for step in range(steps + 1):
            share = 1 / max(steps - step, 1)  # dt / (1 - t)
            uniforms = running.uniforms(3)  # for tokens, masks to fill, new masks: [3, B, S]
            gaps = self._fill(running.batch, memory, step / steps, uniforms, share, options)
            running.steps += 1
            if step < steps:
                rates = torch.zeros_like(uniforms[2])
                rates[running.batch.open_slots] = gaps.clamp(max=options.max_new_tokens) * share
                if step < steps - 1:
                    counts = torch.where(rates > 0, (rates + uniforms[2]).floor(), 0.0)
                else:
                    counts = _nearest(rates)
                _insert_masks(running, counts, self, options)
        full = running.written >= options.max_new_tokens
        running.finish(full, finished=False)
        running.finish(torch.ones(len(running.rows), dtype=torch.bool), finished=True)
        return running.results()

    def _fill(
        self,
        batch: TextBatch,
        memory: Memory | None,
        time: float,
        uniforms: Tensor,
        share: float,
        options: FillOptions,
    ) -> Tensor:
        """Replaces a fraction ``share`` of the masks by tokens, in place.

        Returns:
            The expected numbers of missing tokens at the open slots, float64 [K].
        """
        masks = self.masks(batch)
        given = numbers(masks), numbers(batch.open_slots), uniforms[0][masks]
        moved, (*places, draws) = batch.on(self.device, *given)
        times = torch.full((len(batch),), time, device=self.device)
        logits, log_gaps = self.scores(moved, times, memory, (places[0], places[1]))
        tokens = choose(self.forbid(logits), draws, options.temperature, options.top_p)
        sure = logits.float().log_softmax(-1).amax(-1)
        parts = (tokens.double(), sure.double(), log_gaps.double().exp())
        found = torch.tensor(download(torch.cat(parts)), dtype=torch.float64)
        tokens, sure, gaps = found.split([len(part) for part in parts])
        filled = _chosen(masks, sure.float(), uniforms[1], share, options)
        batch.input_ids[filled] = batch.input_ids.masked_scatter(masks, tokens.long())[filled]
        return gaps


def _nearest(rates: Tensor) -> Tensor:
    """Rounds rates to whole numbers, float64 [B, S], so that running sums stay nearest.

    Used in the last step, as no later step corrects random errors.
    """
    sums = (rates.cumsum(-1) + 0.5).floor()
    return sums.diff(prepend=torch.zeros_like(sums[:, :1]))


def _insert_masks(
    running: RunningBatch, counts: Tensor, model: FlexibleMaskLM, options: FillOptions
) -> None:
    """Inserts ``counts`` [B, S] masks after each token, within the text's token limit."""
    left = (options.max_new_tokens - running.written)[:, None]
    counts = counts.clamp(max=left).long()
    before = counts.cumsum(-1) - counts
    counts = torch.minimum(counts, (left - before).clamp(min=0))
    while bool((where := counts > 0).any()):
        # One mask after each token with a count; the rest of the count moves to the new mask.
        rest = replace(running.batch, input_ids=torch.zeros_like(counts))
        counts = rest.insert(where, counts - 1).input_ids
        masks = torch.full_like(running.batch.input_ids, model.config.mask_token_id)
        running.insert(where, masks)


def _chosen(
    masks: Tensor, sure: Tensor, uniforms: Tensor, share: float, options: FillOptions
) -> Tensor:
    """Selects the masks to fill in a step: bool [B, S]; ``sure`` is float [M]."""
    drawn = masks & (uniforms < share)
    if options.order == "random":
        return drawn
    rank = torch.full(masks.shape, -torch.inf, device=masks.device).masked_scatter(masks, sure)
    place = rank.argsort(-1, descending=True).argsort(-1)  # 0 for the most confident
    return masks & (place < drawn.sum(-1, keepdim=True))


class FixedMaskLM(FillingModel):
    """Masked diffusion of fixed length; see the module."""

    config_class = FixedMaskConfig
    config: FixedMaskConfig

    def __init__(self, config: FixedMaskConfig) -> None:
        super().__init__(config)
        self.post_init()

    def corrupt(self, text: Text, rng: np.random.Generator) -> CorruptedText:
        """Replaces a random subset of the body, of uniformly random size, by masks."""
        size = self.config.body_length
        if len(text.body) > size:
            raise ValueError(f"a body has {len(text.body)} tokens, but the model supports {size}")
        body = [*text.body, *[self.config.eos_token_id] * (size - len(text.body))]
        places = sorted(rng.permutation(size)[: rng.integers(1, size + 1)].tolist())
        targets = [body[place] for place in places]
        for place in places:
            body[place] = self.config.mask_token_id
        return CorruptedText(Text(text.prefix, body), targets)

    def scores(self, batch: TextBatch, places: Tensor, memory: Memory | None = None) -> Tensor:
        """Computes logits [M, V] at the masks; for ``places`` see :func:`.base.at`."""
        return self.head(at(self.encoder(batch, memory), places))

    def forward(self, targets: Tensor, **inputs: Tensor) -> Losses:
        """Computes the mean cross entropy at each text's masks.

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
    ) -> list[FilledText]:
        """Fills an equal number of masks per step, the most confident first or in random order.

        Raises:
            ValueError: if a text has a body, as a model of fixed length cannot fill gaps.
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
            filled.append(FilledText(body[:end], [False] * end, steps, end < size))
        return filled
