"""Muon for the matrices of the layers, AdamW for everything else, as one optimizer.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; torch has it
for matrices alone. A step's update of a matrix is its momentum with all singular values brought
near 1. On the puzzles here it needs about half of AdamW's steps (docs/insertion.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class MuonAndAdamW(torch.optim.Optimizer):
    """Two of torch's optimizers, stepped together.

    Args:
        matrices: parameters of two dimensions, for Muon.
        others: for AdamW.
        muon_rate, rate: their learning rates; a schedule scales both.
        weight_decay: of both.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        muon_rate: float,
        rate: float,
        weight_decay: float,
    ) -> None:
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(list(matrices), lr=muon_rate, weight_decay=weight_decay),
            torch.optim.AdamW(list(others), lr=rate, weight_decay=weight_decay),
        ]
        super().__init__(self._groups(), {})
        self.param_groups = self._groups()

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Any = None) -> Any:
        """One step of both."""
        loss = closure() if closure is not None else None
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What :meth:`state_dict` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()


def make_optimizer(
    model: nn.Module, *, muon_rate: float, rate: float, weight_decay: float
) -> MuonAndAdamW:
    """Muon for what is trained of the layers' matrices, AdamW for the rest."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    inside = {name for name, weight in trained if ".layers." in name and weight.dim() == 2}
    return MuonAndAdamW(
        [weight for name, weight in trained if name in inside],
        [weight for name, weight in trained if name not in inside],
        muon_rate=muon_rate,
        rate=rate,
        weight_decay=weight_decay,
    )
