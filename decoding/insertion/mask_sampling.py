"""Filling gaps by masks: steps of time in each of which masks appear and tokens replace masks.

Source: Kim et al. 2025 (arXiv 2509.01025), section 4 and the released code (Euler steps). In a step
from t to t + dt a slot gets g dt / (1 - t) masks in expectation, g being the expected number of
tokens missing there, and a mask becomes a token with probability dt / (1 - t). With ``order:
confident`` as many masks are filled, but those with the most probable tokens.

Unlike the released code, the last step inserts too, and one more pass fills those masks: otherwise
a text of n tokens would lose each with probability 1 / steps, and come out short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from codegen.decoding.insertion.base import Filled, FillOptions
from codegen.decoding.insertion.running import Running
from codegen.decoding.insertion.text import Batch, Text
from codegen.decoding.sampling import choose

if TYPE_CHECKING:
    from codegen.decoding.insertion.flexible import FlexibleMaskLM

DEFAULT_STEPS = 128


def fill_by_masks(
    model: FlexibleMaskLM,
    texts: Sequence[Text],
    options: FillOptions,
    rngs: Sequence[np.random.Generator],
) -> list[Filled]:
    """Goes from t = 0 to 1 in equal steps, then fills the last step's masks: ``steps`` + 1 passes.

    A text that has reached ``max_new_tokens`` gets no more masks, and counts as unfinished.
    """
    running = Running(model.start(texts), rngs)
    memory = model.remember(running.batch)
    steps = options.steps or DEFAULT_STEPS
    for step in range(steps + 1):
        batch = running.batch
        time = torch.full((len(batch),), step / steps, device=model.device)
        share = 1 / max(steps - step, 1)  # dt / (1 - t)
        logits, log_gaps = model.scores(batch, time, memory)
        uniforms = running.uniforms(3)  # tokens, which are filled, new masks: [3, B, S]
        _fill(model, batch, logits, uniforms, share, options)
        running.steps += 1
        if step < steps:
            rates = torch.zeros_like(uniforms[2])
            gaps = log_gaps.double().exp().clamp(max=options.max_new_tokens)
            rates[batch.open_slots] = gaps * share
            if step < steps - 1:
                counts = torch.where(rates > 0, (rates + uniforms[2]).floor(), 0.0)
            else:
                counts = _nearest(rates)
            _insert_masks(running, counts, model, options)
    full = running.written >= options.max_new_tokens
    running.finish(full, finished=False)
    running.finish(torch.ones(len(running.rows), dtype=torch.bool), finished=True)
    return running.results()


def _nearest(rates: Tensor) -> Tensor:
    """Whole numbers, float64 [B, S], whose sums along a row are the nearest ones to the rates'.

    They end the last step: no later one mends what chance would insert too much or too little.
    """
    sums = (rates.cumsum(-1) + 0.5).floor()
    return sums.diff(prepend=torch.zeros_like(sums[:, :1]))


def _fill(
    model: FlexibleMaskLM,
    batch: Batch,
    logits: Tensor,
    uniforms: Tensor,
    share: float,
    options: FillOptions,
) -> None:
    """Replaces a ``share`` of the masks by tokens, in place; ``logits`` is float [M, V]."""
    masks = model.masks(batch)
    if not bool(masks.any()):
        return
    tokens = choose(model.forbid(logits), uniforms[0][masks], options.temperature, options.top_p)
    sure = logits.float().log_softmax(-1).amax(-1)
    filled = _chosen(masks, sure, uniforms[1], share, options)
    batch.input_ids[filled] = batch.input_ids.masked_scatter(masks, tokens)[filled]


def _insert_masks(
    running: Running, counts: Tensor, model: FlexibleMaskLM, options: FillOptions
) -> None:
    """Inserts ``counts`` [B, S] masks after each token, no more than the text may still grow."""
    left = (options.max_new_tokens - running.written)[:, None]
    counts = counts.clamp(max=left).long()
    before = counts.cumsum(-1) - counts
    counts = torch.minimum(counts, (left - before).clamp(min=0))
    while bool((where := counts > 0).any()):
        # One mask after each token that lacks some; the rest of its count passes to the new mask.
        rest = replace(running.batch, input_ids=torch.zeros_like(counts))
        counts = rest.insert(where, counts - 1).input_ids
        masks = torch.full_like(running.batch.input_ids, model.config.mask_token_id)
        running.insert(where, masks)


def _chosen(
    masks: Tensor, sure: Tensor, uniforms: Tensor, share: float, options: FillOptions
) -> Tensor:
    """Which masks are filled in a step: bool [B, S]; ``sure`` is float [M]."""
    drawn = masks & (uniforms < share)
    if options.order == "random":
        return drawn
    rank = torch.full(masks.shape, -torch.inf, device=masks.device).masked_scatter(masks, sure)
    place = rank.argsort(-1, descending=True).argsort(-1)  # 0 for the surest
    return masks & (place < drawn.sum(-1, keepdim=True))
