"""Training models that insert tokens anywhere (:mod:`codegen.decoding.insertion`) by a run's plan.

In every step each of its examples loses tokens at random, ``draws`` times. The lost tokens are a
function of (seed, step, example), so a resumed run gives the same result. Missing tokens are
removed, not masked, and draws of similar length share a micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codegen.decoding.insertion import FillingModel, Text
from codegen.decoding.insertion.base import Corrupted
from codegen.finetune.batches import Counted, StepDataset, share_of
from codegen.finetune.losses import Likelihood, LossSums
from codegen.finetune.plan import StepPlan
from codegen.finetune.tokens import EncodedExample

_HELD_OUT_ROWS = 256


def text_of(example: EncodedExample) -> Text:
    """An infilling example in the form that the models take."""
    border = len(example.ids) - len(example.targets)
    return Text(example.ids[:border], example.targets)


@dataclass(slots=True)
class InfillingBatch:
    """B draws as the arguments of a model's ``forward``."""

    inputs: dict[str, Any]

    def to(self, device: torch.device | str) -> InfillingBatch:
        """The same on a device."""
        return InfillingBatch({name: value.to(device) for name, value in self.inputs.items()})


class InfillingSteps(StepDataset):
    """The plan as a data set: item k is what this process runs in step k.

    Args:
        model: corrupts and collates the examples.
        examples, plan, rank, world: see :class:`~codegen.finetune.batches.StepDataset`.
        rows: draws per micro-batch.
    """

    def __init__(
        self,
        model: FillingModel,
        examples: Sequence[EncodedExample],
        plan: StepPlan,
        *,
        draws: int,
        rows: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(examples, plan, 0, rank=rank, world=world)
        self.model, self.draws, self.rows, self.seed = model, draws, rows, seed

    def __getitem__(self, step: int) -> tuple[list[Counted], int]:
        """The micro-batches, and the number of draws of the whole step."""
        drawn = []
        for number in self.plan.numbers(step):
            rng = np.random.default_rng([self.seed, step, number])
            text = text_of(self.examples[number])
            drawn += [self.model.corrupt(text, rng) for _ in range(self.draws)]
        groups = list(_alike(drawn, self.rows))
        made = [
            (InfillingBatch(self.model.collate(group)), counts)
            for group, counts in share_of(groups, self.rank, self.world)
        ]
        return made, len(drawn)


def _alike(drawn: Sequence[Corrupted], rows: int) -> Iterator[list[Corrupted]]:
    """Groups of at most ``rows`` draws of similar length."""
    ordered = sorted(drawn, key=len)
    for start in range(0, len(ordered), rows):
        yield ordered[start : start + rows]


def held_out_draws(
    model: FillingModel, examples: Sequence[EncodedExample], seed: int
) -> list[InfillingBatch]:
    """One draw of each example, the same at every evaluation."""
    drawn = [
        model.corrupt(text_of(example), np.random.default_rng([seed, number]))
        for number, example in enumerate(examples)
    ]
    return [InfillingBatch(model.collate(group)) for group in _alike(drawn, _HELD_OUT_ROWS)]


class InfillingLoss(Likelihood):
    """The mean of the model's own losses over the draws of a step."""

    def losses(self, model: Any, batch: Any, step: int, sums: LossSums) -> Tensor:
        """See :meth:`Likelihood.losses`."""
        found = model(**batch.inputs)
        for name, part in found.parts.items():
            sums.add(name, part)
        return found.losses

    def evaluate(self, model: Any, batch: Any, sums: LossSums) -> None:
        """Adds ``eval_loss``."""
        sums.add("eval_loss", model(**batch.inputs).losses)
