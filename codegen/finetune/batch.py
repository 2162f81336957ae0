"""Rows of examples as tensors: one micro-batch, the input of one forward pass.

Logits are asked of the model only at the columns where some row is trained (``logits_to_keep``),
since the vocabulary's projection is a large share of a small model's work. With one row a
micro-batch, which packing makes sensible, there is no other column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from codegen.finetune.attention import Layout, joined, padded
from codegen.finetune.backends import Attention, Ends, mask_inputs
from codegen.finetune.encode import Encoded

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Isolation = Literal["example", "chunk", "none"]
# The examples of a row, by number, in chunks.
Row = tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class MicroBatch:
    """B rows of S slots; T trained actions in all.

    Attributes:
        inputs: what the model is called with: ``input_ids`` [B, S], ``position_ids`` [B, S],
            ``logits_to_keep`` [C], the columns whose logits are needed, and what
            :func:`codegen.finetune.backends.mask_inputs` says.
        nodes: int64 [T], where in the logits [B C, V] each action is chosen.
        targets: int64 [T], the right actions.
        then: int64 [T], where the state is that was reached; -1 where nobody asked for it.
        time: int64 [T], the number of each action in its example.
        trajectory: int64 [T], the number of its example among those of the micro-batch.
        ends: bool [T], whether the absorbing state was reached.
        start: bool [T], whether only the prompt stands, so that there is nothing to take back.
        domains: the domain of each example.
        tokens: slots that are not padding.
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
    tokens: int

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same on a device."""
        import torch

        def moved(value: Any) -> Any:
            return value.to(device) if isinstance(value, (torch.Tensor, Ends)) else value

        inputs = {name: moved(value) for name, value in self.inputs.items()}
        rest = {name: moved(getattr(self, name)) for name in self.__slots__ if name != "inputs"}
        return MicroBatch(inputs=inputs, **rest)


def collate(
    examples: Sequence[Encoded],
    rows: Sequence[Row],
    pad: int,
    *,
    isolation: Isolation = "example",
    width: int = 0,
    successors: bool = False,
    attention: Attention = "dense",
    parts: int = 1,
) -> MicroBatch:
    """One micro-batch, padded on the right.

    Args:
        examples: of the run.
        rows: numbers of examples; at least one row.
        pad: token id of padding.
        isolation: which examples of a row see one another: none (``example``), those of a chunk,
            or all (``none``).
        width: of the rows, at least; 0 for that of the longest.
        successors: also keep the logits of the states that are reached (SequenceMatch).
        attention: the back-end.
        parts: into how many the rows will be cut (:func:`codegen.finetune.sequences.part_of`).
    """
    import torch

    layouts = [_layout(examples, row, isolation) for row in rows]
    width = max(width, *(len(layout) for layout in layouts))
    width += -width % parts
    ids = np.full((len(rows), width), pad, np.int64)
    placed: list[tuple[int, int, Encoded]] = []  # row, first slot, example
    for b, row in enumerate(rows):
        at = 0
        for number in (number for chunk in row for number in chunk):
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
        **mask_inputs(layouts, closed, attention, shared=parts > 1),
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
        tokens=sum(len(layout) for layout in layouts),
    )


def _layout(examples: Sequence[Encoded], row: Row, isolation: Isolation) -> Layout:
    if len(row) == len(row[0]) == 1:
        return examples[row[0][0]].layout
    chunks = [
        joined([examples[number].layout for number in chunk], isolated=isolation == "example")
        for chunk in row
    ]
    return joined(chunks, isolated=isolation != "none")
