"""Rows of examples as tensors; a micro-batch is the input of one forward pass.

The model computes logits only at columns where some row is trained (``logits_to_keep``), because
the output projection is a large part of a small model's cost. With one row per micro-batch, the
usual choice with packing, these are exactly the columns of its trained actions.

Models that insert tokens anywhere (:mod:`codegen.decoding.insertion`) get different batches: in
every step random tokens are removed from each example (:class:`InfillingSteps`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from codegen.finetune.attention import RowLayout, joined, mask_inputs, padded
from codegen.finetune.batch_plan import Row, StepPlan, numbers_of
from codegen.finetune.dataset import Outline
from codegen.finetune.encode import EncodedExample
from codegen.finetune.recipe import Attention, Isolation

if TYPE_CHECKING:
    from codegen.decoding.insertion import FillingModel, Text
    from codegen.decoding.insertion.base import Corrupted

_HELD_OUT_TOKENS = 4096  # slots per evaluation micro-batch
_HELD_OUT_DRAWS = 256  # draws per evaluation micro-batch, for infilling
# A micro-batch, and whether its losses count; if not, it only keeps the processes synchronized.
Counted = tuple[Any, bool]


@dataclass(slots=True)
class MicroBatch:
    """B rows of S slots with T trained actions in total.

    Attributes:
        inputs: model arguments: ``input_ids`` [B, S], ``position_ids`` [B, S],
            ``logits_to_keep`` [C], the columns that need logits, and the arguments from
            :func:`codegen.finetune.attention.mask_inputs`.
        nodes: row of the logits [B C, V] that predicts each action, int64 [T].
        targets: target actions, int64 [T].
        then: logits row of the next state, int64 [T]; -1 unless ``successors`` were kept.
        time: index of each action in its example, int64 [T].
        trajectory: index of its example in the micro-batch, int64 [T].
        ends: whether the next state is the absorbing one, bool [T].
        start: whether the state is only the prompt, where a backspace is illegal, bool [T].
        domains: domain of each example.
        weights: loss weight of each action, float32 [T]; None if all are 1.
        own: whether the model sampled the examples itself.
    """

    inputs: dict[str, Any]
    nodes: Tensor
    targets: Tensor
    then: Tensor
    time: Tensor
    trajectory: Tensor
    ends: Tensor
    start: Tensor
    domains: list[str]
    weights: Tensor | None = None
    own: bool = False

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same on a device."""

        def moved(value: Any) -> Any:
            return value.to(device) if isinstance(value, torch.Tensor) else value

        inputs = {name: moved(value) for name, value in self.inputs.items()}
        rest = {name: moved(getattr(self, name)) for name in self.__slots__ if name != "inputs"}
        return MicroBatch(inputs=inputs, **rest)


def collate(
    examples: Sequence[EncodedExample] | Mapping[int, EncodedExample],
    rows: Sequence[Row],
    pad: int,
    *,
    isolation: Isolation = "example",
    width: int = 0,
    successors: bool = False,
    attention: Attention = "dense",
) -> MicroBatch:
    """Builds one micro-batch, padded on the right.

    Args:
        examples: all examples of the run, or a mapping from number to example for the rows.
        rows: example numbers of each row; at least one row.
        pad: padding token id.
        isolation: which examples of a row attend to each other: none (``example``), the examples
            of a chunk, or all (``none``).
        width: minimum row width.
        successors: also keep the logits of the next states (SequenceMatch).
    """
    layouts = [_layout(examples, row, isolation) for row in rows]
    width = max(width, *(len(layout) for layout in layouts))
    ids = np.full((len(rows), width), pad, np.int64)
    placed: list[tuple[int, int, EncodedExample]] = []  # row, first slot, example
    for b, row in enumerate(rows):
        at = 0
        for number in numbers_of(row):
            example = examples[number]
            ids[b, at : at + len(example)] = example.ids
            placed.append((b, at, example))
            at += len(example)
    nodes = [np.array(e.nodes) + at for _, at, e in placed]
    start = [np.array(e.nodes) == e.nodes[0] for _, _, e in placed]
    then = [np.array(e.then) + at for _, at, e in placed]
    counts = [len(e.targets) for _, _, e in placed]
    in_row = np.repeat([b for b, _, _ in placed], counts)
    columns = np.unique(np.concatenate([*nodes, *(then if successors else [])]))

    def place(slots: list[np.ndarray]) -> np.ndarray:
        return in_row * len(columns) + np.searchsorted(columns, np.concatenate(slots))

    ends = np.concatenate([np.arange(n) == (n - 1 if e.final else n) for n, (_, _, e) in
                           zip(counts, placed, strict=True)])  # fmt: skip
    reached = place(then) if successors else np.full(sum(counts), -1)
    closed = [padded(layout, width) for layout in layouts]
    inputs = {
        "input_ids": torch.from_numpy(ids),
        "position_ids": torch.from_numpy(np.stack([layout.positions for layout in closed])),
        "logits_to_keep": torch.from_numpy(columns),
        **mask_inputs(layouts, closed, attention),
    }
    return MicroBatch(
        inputs,
        nodes=torch.from_numpy(place(nodes)),
        targets=torch.from_numpy(np.concatenate([e.targets for _, _, e in placed])),
        then=torch.from_numpy(reached),
        time=torch.from_numpy(np.concatenate([np.arange(n) for n in counts])),
        trajectory=torch.from_numpy(np.repeat(np.arange(len(placed)), counts)),
        ends=torch.from_numpy(ends),
        start=torch.from_numpy(np.concatenate(start)),
        domains=[e.domain for *_, e in placed],
        weights=_weights([e for *_, e in placed]),
    )


def _weights(examples: Sequence[EncodedExample]) -> Tensor | None:
    if not any(example.weights for example in examples):
        return None
    weights = [example.weights or np.ones(len(example.targets)) for example in examples]
    return torch.from_numpy(np.concatenate(weights, dtype=np.float32))


def _layout(
    examples: Sequence[EncodedExample] | Mapping[int, EncodedExample],
    row: Row,
    isolation: Isolation,
) -> RowLayout:
    if len(row) == len(row[0]) == 1:
        return examples[row[0][0]].layout
    chunks = [
        joined([examples[number].layout for number in chunk], isolated=isolation == "example")
        for chunk in row
    ]
    return joined(chunks, isolated=isolation != "none")


def share_of(micro_batches: Sequence[Any], rank: int, world: int) -> list[tuple[Any, bool]]:
    """Returns the micro-batches of a step for one of ``world`` processes, and whether each counts.

    All processes run equally many, so that none waits for another: a process that has none left
    repeats the first, whose losses then do not count.
    """
    rounds = -(-len(micro_batches) // world)
    found = []
    for turn in range(rounds):
        number = turn * world + rank
        counts = number < len(micro_batches)
        found.append((micro_batches[number if counts else 0], counts))
    return found


@dataclass(eq=False)
class StepDataset:
    """The plan as a map-style dataset; item k has this process's micro-batches of step k.

    Args:
        successors, attention: see :func:`collate`.
        rank, world: number of this process, and number of processes.
    """

    examples: Sequence[EncodedExample]
    plan: StepPlan
    pad: int = 0
    _: KW_ONLY
    successors: bool = False
    attention: Attention = "dense"
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        self.outline = Outline.of(self.examples)

    def __len__(self) -> int:
        return len(self.plan.steps)

    def __getitem__(self, step: int) -> tuple[list[Counted], float]:
        """Returns the micro-batches, and the total weight of the step's actions."""
        planned = self.plan.steps[step]
        total = self.outline.total(self.plan.numbers(step))
        made = [
            (self._collate(rows, step), counts)
            for rows, counts in share_of(planned, self.rank, self.world)
        ]
        return made, total

    def _collate(self, rows: Sequence[Row], step: int) -> MicroBatch:
        numbers = {number for row in rows for number in numbers_of(row)}
        return collate(
            {number: self.examples[number] for number in numbers},
            rows,
            self.pad,
            isolation=self.plan.isolation,
            width=self.plan.width(step),
            successors=self.successors,
            attention=self.attention,
        )


def held_out_batches(examples: Sequence[EncodedExample], pad: int) -> Iterator[MicroBatch]:
    """Yields evaluation micro-batches, grouped by length."""

    def batch(numbers: list[int]) -> MicroBatch:
        return collate(examples, [((i,),) for i in numbers], pad)

    order = sorted(range(len(examples)), key=lambda i: (len(examples[i]), i))
    group: list[int] = []
    for number in order:
        if group and (len(group) + 1) * len(examples[number]) > _HELD_OUT_TOKENS:
            yield batch(group)
            group = []
        group.append(number)
    if group:
        yield batch(group)


def text_of(example: EncodedExample) -> Text:
    """Converts an infilling example to the models' input type."""
    from codegen.decoding.insertion import Text

    border = len(example.ids) - len(example.targets)
    return Text(example.ids[:border], example.targets)


@dataclass(slots=True)
class InfillingBatch:
    """B draws as the arguments of a model's ``forward``."""

    inputs: dict[str, Any]

    def to(self, device: torch.device | str) -> InfillingBatch:
        """The same on a device."""
        return InfillingBatch({name: value.to(device) for name, value in self.inputs.items()})


@dataclass(eq=False, kw_only=True)
class InfillingSteps(StepDataset):
    """The plan as a dataset; item k has this process's micro-batches of step k.

    Args:
        model: corrupts and collates the examples. Which tokens are removed depends only on (seed,
            step, example). They are not masked; draws of similar length share a micro-batch.
        examples, plan, rank, world: see :class:`StepDataset`.
        rows: draws per micro-batch.
    """

    model: FillingModel
    draws: int
    rows: int
    seed: int

    def __getitem__(self, step: int) -> tuple[list[Counted], int]:
        """Returns the micro-batches, and the number of draws in the whole step."""
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
    """Yields groups of at most ``rows`` draws of similar length."""
    ordered = sorted(drawn, key=len)
    for start in range(0, len(ordered), rows):
        yield ordered[start : start + rows]


def held_out_draws(
    model: FillingModel, examples: Sequence[EncodedExample], seed: int
) -> list[InfillingBatch]:
    """Returns one draw per example, the same at every evaluation."""
    drawn = [
        model.corrupt(text_of(example), np.random.default_rng([seed, number]))
        for number, example in enumerate(examples)
    ]
    return [InfillingBatch(model.collate(group)) for group in _alike(drawn, _HELD_OUT_DRAWS)]
