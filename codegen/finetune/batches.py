"""Rows of examples as tensors: a micro-batch is the input of one forward pass.

Logits are requested from the model only at columns where some row is trained (``logits_to_keep``),
because projecting to the vocabulary is a large share of a small model's work. With one row per
micro-batch, which packing makes sensible, there is no other column.

Models that insert tokens anywhere (:mod:`codegen.decoding.insertion`) get other batches: in every
step each of its examples loses tokens at random (:class:`InfillingSteps`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from codegen.finetune.attention import RowLayout, joined, mask_inputs, padded
from codegen.finetune.dataset import Outline
from codegen.finetune.encode import EncodedExample
from codegen.finetune.plan import Row, StepPlan, numbers_of
from codegen.finetune.recipe import Attention, Isolation

if TYPE_CHECKING:
    from codegen.decoding.insertion import FillingModel, Text
    from codegen.decoding.insertion.base import Corrupted

_HELD_OUT_TOKENS = 4096  # slots per micro-batch of evaluation
_HELD_OUT_DRAWS = 256  # likewise, for infilling
# A micro-batch, and whether its losses count; if not, it only keeps the processes in step.
Counted = tuple[Any, bool]


@dataclass(slots=True)
class MicroBatch:
    """B rows of S slots; T trained actions in all.

    Attributes:
        inputs: arguments of the model: ``input_ids`` [B, S], ``position_ids`` [B, S],
            ``logits_to_keep`` [C], the columns whose logits are needed, and the arguments from
            :func:`codegen.finetune.attention.mask_inputs`.
        nodes: int64 [T], the row of the logits [B C, V] in which each action is chosen.
        targets: int64 [T], the right actions.
        then: int64 [T], the logits' row of the state reached; -1 unless ``successors`` were kept.
        time: int64 [T], the index of each action in its example.
        trajectory: int64 [T], the index of its example in the micro-batch.
        ends: bool [T], whether the absorbing state was reached.
        start: bool [T], whether the state is the prompt alone, where a backspace is illegal.
        domains: the domain of each example.
        weights: float32 [T], how much each action counts in the loss; None if each counts 1.
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
    """One micro-batch, padded on the right.

    Args:
        examples: of the run, or only the examples of the rows by number.
        rows: numbers of examples; at least one row.
        pad: token id of padding.
        isolation: which examples of a row see one another: none (``example``), the examples of a
            chunk, or all (``none``).
        width: least width of the rows.
        successors: also keep the logits of the states that are reached (SequenceMatch).
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
    """The micro-batches of a step that one of ``world`` processes runs, and whether each counts.

    All processes run equally many, so that none waits for another: a process without one repeats
    the first, whose losses do not count again.
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
    """The plan as a map-style data set: item k is what this process runs in step k.

    Args:
        successors, attention: see :func:`collate`.
        rank, world: number of this process, and of all.
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
        """The micro-batches, and the weight of all actions of the whole step."""
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
    """Micro-batches to evaluate on, grouped by length."""

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
    """An infilling example in the form that the models take."""
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
    """The plan as a data set: item k is what this process runs in step k.

    Args:
        model: corrupts and collates the examples. The lost tokens are a function of (seed, step,
            example). They are removed, not masked; draws of similar length share a micro-batch.
        examples, plan, rank, world: see :class:`StepDataset`.
        rows: draws per micro-batch.
    """

    model: FillingModel
    draws: int
    rows: int
    seed: int

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
    return [InfillingBatch(model.collate(group)) for group in _alike(drawn, _HELD_OUT_DRAWS)]
