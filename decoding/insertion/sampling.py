"""Filling gaps by insertions, one or several a step.

Source: Patel et al. 2025 (arXiv 2505.05755), section 3.3 and the released code. There a finished
text stays in the batch and gets a masked dummy token each step; here it leaves the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from codegen.decoding.insertion.base import Filled, FillOptions
from codegen.decoding.insertion.running import Running
from codegen.decoding.insertion.text import Text
from codegen.decoding.sampling import choose

if TYPE_CHECKING:
    from codegen.decoding.insertion.ilm import InsertionLM


def fill_by_insertion(
    model: InsertionLM,
    texts: Sequence[Text],
    options: FillOptions,
    rngs: Sequence[np.random.Generator],
) -> list[Filled]:
    """Inserts tokens until the stop head ends each text, or ``max_new_tokens`` does.

    A text without an open slot is finished at once.
    """
    running = Running(model.start(texts), rngs)
    memory = model.remember(running.batch)
    running.finish(~running.batch.open_slots.any(-1), finished=True)
    while running.rows:
        logits, stop = model.scores(running.batch, memory)
        dense = _dense(model.forbid(logits), running.batch.open_slots)
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


def _dense(logits: Tensor, open_slots: Tensor) -> Tensor:
    """[K, V] to [B, S, V], -inf at closed slots."""
    shape = (*open_slots.shape, logits.shape[-1])
    dense = torch.full(shape, -torch.inf, dtype=logits.dtype, device=logits.device)
    dense[open_slots] = logits
    return dense


def pick(
    logits: Tensor, uniforms: Tensor, options: FillOptions, budget: Tensor
) -> tuple[Tensor, Tensor]:
    """Where to insert what.

    Args:
        logits: float32 [B, S, V], -inf where nothing may be inserted; some slot of each row can.
        uniforms: float64 [2, B, S] in [0, 1).
        options: how.
        budget: int64 [B], how many insertions are left, at least 1.

    Returns:
        bool [B, S] and int64 [B, S], read where marked.
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
    """Marks further slots by falling joint probability of slot and token, none beside another.

    Of two insertions into neighbouring slots, which one token separates, neither distribution knows
    of the other.
    """
    joint = logits.gather(-1, tokens[..., None])[..., 0]
    floor = joint[where] + math.log(options.least_share)  # one mark a row so far
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
