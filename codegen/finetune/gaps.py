"""Training models that fill gaps (:mod:`codegen.decoding.insertion`) by the plan of a run.

At every step each of its examples loses tokens at random, ``draws`` times. What it loses is a
function of (seed, step, example), so a resumed run goes on as it would have. Draws of like length
share a micro-batch: what is missing is gone, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.decoding.insertion import FillingModel, Text
from codegen.decoding.insertion.base import Corrupted
from codegen.errors import InputError
from codegen.finetune.attention import causal
from codegen.finetune.encode import Encoded, Encoder
from codegen.finetune.losses import Tally
from codegen.finetune.plan import Plan, share_of
from codegen.finetune.trainer import Steps, StepTrainer, Weighted
from codegen.records import TrainingText

if TYPE_CHECKING:
    import torch

_HELD_OUT_ROWS = 256


class GapEncoder(Encoder):
    """Encodes texts for a model that fills gaps: the trained part is the body, without an end."""

    def encode(self, text: TrainingText, domain: str = "") -> Encoded:
        """One text; all of its trained tokens are targets.

        Raises:
            InputError: if it is more than a prompt and an answer.
        """
        if text.text != text.prompt + text.trained:
            raise InputError(
                f"Text {text.id!r} has untrained parts within its answer.",
                "A model that fills gaps takes a prompt and an answer that is trained whole.",
            )
        prefix, body = (
            self.tokenizer(part, add_special_tokens=False).input_ids
            for part in (text.prompt, text.trained)
        )
        ids = [*prefix, *body]
        slots = list(range(len(prefix), len(ids)))
        return Encoded(
            text.example_id, ids, slots, body, slots, causal(len(ids)), domain, final=False
        )


def text_of(example: Encoded) -> Text:
    """What :class:`GapEncoder` encoded, as the models take it."""
    border = len(example.ids) - len(example.targets)
    return Text(example.ids[:border], example.targets)


@dataclass(slots=True)
class GapBatch:
    """B draws as a model's ``forward`` takes them."""

    inputs: dict[str, Any]

    def to(self, device: torch.device | str) -> GapBatch:
        """The same on a device."""
        return GapBatch({name: value.to(device) for name, value in self.inputs.items()})


class GapSteps(Steps):
    """The plan as a data set: item k is what this process runs at step k.

    Args:
        model: what the draws are for.
        examples, plan, rank, world: see :class:`~codegen.finetune.trainer.Steps`.
        draws: of each example.
        rows: draws of a micro-batch.
        seed: of the draws.
    """

    def __init__(
        self,
        model: FillingModel,
        examples: Sequence[Encoded],
        plan: Plan,
        *,
        draws: int,
        rows: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(examples, plan, 0, successors=False, rank=rank, world=world)
        self.model, self.draws, self.rows, self.seed = model, draws, rows, seed

    def __getitem__(self, step: int) -> tuple[list[Weighted], int]:
        """The micro-batches, and the number of draws of the whole step."""
        drawn = []
        for number in self.plan.numbers(step):
            rng = np.random.default_rng([self.seed, step, number])
            text = text_of(self.examples[number])
            drawn += [self.model.corrupt(text, rng) for _ in range(self.draws)]
        made: list[Any] = [
            (GapBatch(self.model.collate(group)), counts)
            for group, counts in share_of(list(alike(drawn, self.rows)), self.rank, self.world)
        ]
        return made, len(drawn)


def alike(drawn: Sequence[Corrupted], rows: int) -> Iterator[list[Corrupted]]:
    """Groups of so many draws of like length."""
    ordered = sorted(drawn, key=len)
    for start in range(0, len(ordered), rows):
        yield ordered[start : start + rows]


def held_out_batches(model: FillingModel, examples: Sequence[Encoded], seed: int) -> list[GapBatch]:
    """One draw of each example, the same at every evaluation."""
    drawn = [
        model.corrupt(text_of(example), np.random.default_rng([seed, number]))
        for number, example in enumerate(examples)
    ]
    return [GapBatch(model.collate(group)) for group in alike(drawn, _HELD_OUT_ROWS)]


class GapTrainer(StepTrainer):
    """Minimises the mean of the model's losses over the draws of a step."""

    def _loss(self, model: Any, batch: Any, own: bool, counts: bool) -> torch.Tensor:
        return self._measure(model, batch, self.tally if counts else Tally()).sum()

    def _measure(self, model: Any, batch: GapBatch, tally: Tally) -> torch.Tensor:
        found = model(**batch.inputs)
        for name, part in found.parts.items():
            tally.add(name, part.sum(), len(part))
        return found.losses

    def held_out_losses(self, tally: Tally) -> None:
        """Adds up ``eval_loss``."""
        for batch in self.held_out:
            moved: Any = batch.to(self.args.device)
            losses = self._measure(self.model, moved, Tally())
            tally.add("eval_loss", losses.sum(), len(losses))
