"""SeleKT: fine-tune all weights, but keep only the largest changes.

Source: Aggarwal et al., "NextCoder: Robust Adaptation of Code LMs to Diverse Code Edits", ICML 2025
(algorithm 1, selective knowledge transfer). All weights are trained; every so many steps, and at
the last one, the share of each tensor's entries that differ most from the base model keep their
values, and the others return to the base. The support is chosen again each time, so training
stays dense in between, while the result differs from the base in few weights and keeps its skills.

As in the released code the choice is made within each tensor, embeddings and norms included, and
the optimizer's moments stay. That code projects once an epoch; here it is ``selekt.every`` steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback


def project(weight: Tensor, base: Tensor, share: float) -> Tensor:
    """The weight with all but its largest changes taken back.

    Args:
        weight: of any shape, N entries.
        base: the same before training, on the same device.
        share: of the entries that keep their values, ``floor(share * N)`` of them; of equal changes
            the first ones.

    Returns:
        A tensor of the weight's type, equal to ``weight`` or to ``base`` in each entry.
    """
    kept = int(share * weight.numel())
    if kept == weight.numel():
        return weight
    changes = (weight - base).abs().flatten()
    # A stable order, so that a resumed run keeps the same ones of equal changes.
    largest = torch.sort(changes, descending=True, stable=True).indices[:kept]
    mask = torch.zeros_like(changes, dtype=torch.bool)
    mask[largest] = True
    return torch.where(mask.view_as(weight), weight, base)


class SeleKT(TrainerCallback):
    """Projects the weights of a run.

    Args:
        model: with the weights of the base, which are copied to the CPU.
        share: see :func:`project`.
        every: optimizer steps between projections.
    """

    def __init__(self, model: torch.nn.Module, share: float, every: int) -> None:
        self.share, self.every, self.model = share, every, model
        self.base = {n: w.detach().to("cpu", copy=True) for n, w in model.named_parameters()}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After the optimizer's step, before the model is evaluated or saved."""
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(project(weight, self.base[name].to(weight.device), self.share))
