"""Filling gaps by masks: steps of time in each of which masks appear and tokens replace masks.

Source: Kim et al. 2025 (arXiv 2509.01025), section 4 and the released code (Euler steps). A slot
gets a mask with probability g dt / (1 - t), g being the expected number of tokens missing there,
and a mask its token with probability dt / (1 - t). With ``order: confident`` as many masks are
filled, but the surest ones.
"""

from __future__ import annotations

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
    from codegen.decoding.insertion.flexible import FlexibleMaskLM

DEFAULT_STEPS = 128


def fill_by_masks(
    model: FlexibleMaskLM,
    texts: Sequence[Text],
    options: FillOptions,
    rngs: Sequence[np.random.Generator],
) -> list[Filled]:
    """Goes from t = 0 to 1 in equal steps; in the last one all masks are filled, none appears.

    A text that has reached ``max_new_tokens`` gets no more masks, and counts as unfinished.
    """
    mask = model.config.mask_token_id
    running = Running(model.start(texts), rngs)
    memory = model.remember(running.batch)
    steps = options.steps or DEFAULT_STEPS
    for step in range(steps):
        batch, last = running.batch, step == steps - 1
        time = torch.full((len(batch),), step / steps, device=model.device)
        share = 1 / (steps - step)  # dt / (1 - t)
        logits, log_gaps = model.scores(batch, time, memory)
        uniforms = running.uniforms(3)  # tokens, who is filled, who gets a mask: [3, B, S]
        masks = model.masks(batch)
        if bool(masks.any()):
            tokens = choose(
                model.forbid(logits), uniforms[0][masks], options.temperature, options.top_p
            )
            sure = logits.float().log_softmax(-1).amax(-1)
            filled = _chosen(masks, sure, uniforms[1], share, options)
            batch.input_ids[filled] = torch.zeros_like(batch.input_ids).masked_scatter(
                masks, tokens
            )[filled]
        running.steps += 1
        if not last:
            rate = torch.zeros_like(uniforms[2])
            rate[batch.open_slots] = log_gaps.double().exp() * share
            grown = uniforms[2] < rate
            left = (options.max_new_tokens - running.written)[:, None]
            grown &= grown.long().cumsum(-1) <= left
            running.insert(grown, torch.full_like(batch.input_ids, mask))
    full = running.written >= options.max_new_tokens
    running.finish(full, finished=False)
    running.finish(torch.ones(len(running.rows), dtype=torch.bool), finished=True)
    return running.results()


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
