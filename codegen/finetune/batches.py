"""Rows of examples as tensors with their attention masks; a micro-batch is one forward pass.

The model computes logits only at columns where some row is trained (``logits_to_keep``), because
the output projection is a large part of a small model's cost. With one row per micro-batch, the
usual choice with packing, these are exactly the columns of its trained actions.

Slot k of a row has a token, a position id and ``end[k]``. Query q attends to key k if and only if
``k <= q < end[k]``. This array expresses

- *packing*: several documents in a row that do not attend to each other;
- *chunks* (Mixture-of-Instructions, arXiv 2404.18410): groups whose members attend to each other;
- *backspaces* (SequenceMatch, arXiv 2306.05426): a removed token is visible to tokens written
  before the removal, but not after it (:mod:`codegen.methods.backspace`);

and combinations of these (:func:`joined`). :func:`mask_inputs` turns a batch of rows into

- a plain padding mask, where every row is one causal document;
- *blocks*, where every row consists of causal blocks that do not attend to each other (packing,
  chunks): each block is computed alone, so the cost is the sum of the squared block lengths instead
  of the squared row length. On a CUDA device in half precision one variable-length kernel computes
  all blocks (:func:`torch.nn.attention.varlen.varlen_attn`); elsewhere each block is one SDPA call;
- a dense boolean mask for SDPA, on any device.

``auto`` uses the first applicable form; ``dense`` never uses blocks.

Models that insert tokens anywhere (:mod:`codegen.decoding.insertion`) get different batches: in
every step random tokens are removed from each example (:class:`InfillingSteps`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from codegen.finetune.batch_plan import Row, StepPlan, numbers_of
from codegen.finetune.dataset import ExampleLengths
from codegen.finetune.encode import OPEN, EncodedExample, RowLayout, causal
from codegen.finetune.recipe import Attention, Isolation

if TYPE_CHECKING:
    from codegen.decoding.insertion import FillingModel, Text
    from codegen.decoding.insertion.base import CorruptedText

_BLOCKWISE = "codegen_blockwise"  # the implementation's name in transformers
_HELD_OUT_TOKENS = 4096  # tokens per evaluation micro-batch, padding included
_HELD_OUT_DRAWS = 256  # draws per evaluation micro-batch, for infilling
# A micro-batch, and whether its losses count; if not, it only keeps the processes synchronized.
Counted = tuple[Any, bool]


@dataclass(slots=True)
class MicroBatch:
    """B rows of S slots with T trained actions in total.

    Attributes:
        inputs: model arguments: ``input_ids`` [B, S], ``position_ids`` [B, S],
            ``logits_to_keep`` [C], the columns that need logits, and the arguments from
            :func:`mask_inputs`.
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
        """Returns a copy on a device."""

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
        isolation: attention between a row's examples: none (``example``), within chunks
            (``chunk``), or between all (``none``).
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

    All processes run the same number, so that none waits for another: a process without any left
    repeats the step's first one, whose losses do not count.
    """
    rounds = -(-len(micro_batches) // world)
    share = []
    for turn in range(rounds):
        number = turn * world + rank
        counts = number < len(micro_batches)
        share.append((micro_batches[number if counts else 0], counts))
    return share


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

    def __len__(self) -> int:
        return len(self.plan.steps)

    @cached_property
    def weights(self) -> np.ndarray:
        """Total weight of each example's actions, [N]."""
        lengths = ExampleLengths.of(self.examples)
        return lengths.trained if lengths.weights is None else lengths.weights

    def __getitem__(self, step: int) -> tuple[list[Counted], float]:
        """Returns the micro-batches, and the total weight of the step's actions."""
        planned = self.plan.steps[step]
        made = [
            (self._collate(rows, step), counts)
            for rows, counts in share_of(planned, self.rank, self.world)
        ]
        return made, math.fsum(self.weights[self.plan.numbers(step)])

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
        """Returns a copy on a device."""
        return InfillingBatch({name: value.to(device) for name, value in self.inputs.items()})


@dataclass(eq=False, kw_only=True)
class InfillingSteps(StepDataset):
    """The plan as a dataset; item k has this process's micro-batches of step k.

    Args:
        model: corrupts and collates the examples. Which tokens are removed depends only on (seed,
            step, example). Draws of similar length share a micro-batch.
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


def _alike(drawn: Sequence[CorruptedText], rows: int) -> Iterator[list[CorruptedText]]:
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


def joined(parts: Sequence[RowLayout], *, isolated: bool) -> RowLayout:
    """Concatenates parts into one row.

    Args:
        parts: layouts in row order, at least one.
        isolated: if True, parts do not attend to each other, and positions restart in each. Else a
            part attends to the remaining tokens of the earlier parts and continues their positions.
    """
    ends, positions, start, depth = [], [], 0, 0
    for part in parts:
        stop = start + len(part)
        end = np.where(part.end == OPEN, OPEN, part.end + start)
        ends.append(np.minimum(end, stop) if isolated else end)
        positions.append(part.positions + depth)
        start = stop
        depth += 0 if isolated else part.depth
    return RowLayout(np.concatenate(ends), np.concatenate(positions))


def padded(layout: RowLayout, width: int) -> RowLayout:
    """Pads a row to ``width`` slots and limits ``end``; a padding slot attends only to itself."""
    length = len(layout)
    fill = np.arange(length, width)
    return RowLayout(
        np.concatenate([np.minimum(layout.end, length), fill + 1]),
        np.concatenate([layout.positions, np.zeros(width - length, np.int64)]),
    )


def cumulative_lengths(layout: RowLayout) -> list[int] | None:
    """Returns a row's block boundaries [0, ..., S] (variable-length kernels' ``cu_seqlens``).

    Returns None unless the row consists of causal blocks that do not attend to each other.
    """
    borders, end = [0], np.minimum(layout.end, len(layout))
    while borders[-1] < len(layout):
        start = borders[-1]
        stop = int(end[start])
        if not (end[start:stop] == stop).all():
            return None
        borders.append(stop)
    return borders


@dataclass(slots=True)
class CausalBlocks:
    """The causal blocks of B rows of S slots.

    Attributes:
        borders: block boundaries [0, ..., S] of each row.
        calls: number of layers that used the blocks.
    """

    borders: list[list[int]]
    calls: int = 0
    _joined: dict[torch.device, tuple[torch.Tensor, int]] = field(default_factory=dict)

    def cumulative(self, device: torch.device) -> tuple[torch.Tensor, int]:
        """Returns ``cu_seqlens`` (int32 [N + 1]) of concatenated rows, and the longest block."""
        if device not in self._joined:
            lengths = [stop - start for row in self.borders for start, stop in pairwise(row)]
            joined = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
            self._joined[device] = joined, max(lengths)
        return self._joined[device]


def mask_inputs(
    layouts: Sequence[RowLayout],
    closed: Sequence[RowLayout],
    attention: Attention = "dense",
) -> dict[str, Any]:
    """Returns keyword arguments for a transformers model to use the layouts' attention patterns.

    Args:
        closed: the same layouts, padded to one width.
        attention: the backend; it must be active (:func:`attending`) when the model is called.
    """
    if all(layout.is_causal for layout in layouts):
        # The model's own causal mask is sufficient and cheaper.
        slots = np.arange(len(closed[0]))
        rows = [slots < len(layout) for layout in layouts]
        return {"attention_mask": torch.from_numpy(np.stack(rows).astype(np.int64))}
    if attention == "auto":
        borders = [cumulative_lengths(layout) for layout in layouts]
        if all(borders):
            # Padding is a block too. A 4D mask keeps the model from building its own.
            width, unused = len(closed[0]), torch.ones(1, 1, 1, 1, dtype=torch.bool)
            whole = [[*b, *([width] if b[-1] < width else [])] for b in borders if b]
            return {"attention_mask": unused, "blocks": CausalBlocks(whole)}
    end = torch.from_numpy(np.stack([layout.end for layout in closed]))
    return {"attention_mask": dense_mask(end)}


def dense_mask(end: torch.Tensor) -> torch.Tensor:
    """Returns transformers' 4D mask: bool [B, 1, S, S], query by key, true where visible.

    Args:
        end: int64 [B, S].
    """
    slots = torch.arange(end.shape[1], device=end.device)
    seen = (slots <= slots[:, None]) & (slots[:, None] < end[:, None, :])  # [B, S, S]
    return seen[:, None]


@contextmanager
def attending(model: Any, attention: Attention) -> Iterator[None]:
    """Context manager that sets a model's attention backend; ``dense`` changes nothing."""
    if attention == "dense":
        yield
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    before = model.config._attn_implementation
    AttentionInterface.register(_BLOCKWISE, blockwise_attention)
    AttentionMaskInterface.register(_BLOCKWISE, sdpa_mask)
    model.set_attn_implementation(_BLOCKWISE)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def check(model: Any, attention: Attention) -> Attention:
    """Returns the attention backend that a model can be trained with.

    Encodes two short blocks with the backend and with a dense mask. ``auto`` becomes ``dense`` for
    a model that drops extra attention arguments, and, with a warning, if the logits differ.
    """
    from codegen.decoding.passes import logits_agree

    if attention == "dense":
        return attention
    rows = [joined([causal(1), causal(2)], isolated=True)]
    given, plain = mask_inputs(rows, rows, attention), mask_inputs(rows, rows)

    @torch.no_grad()
    def logits(inputs: dict[str, Any]) -> torch.Tensor:
        mask = inputs["attention_mask"].to(model.device)
        return model(ids, position_ids=positions, **(inputs | {"attention_mask": mask})).logits

    ids = torch.tensor([[0, 1, 0]], device=model.device)
    positions = torch.from_numpy(rows[0].positions).to(model.device)[None]
    model.eval()  # dropout would change the logits; training sets its own mode
    try:
        with attending(model, attention):
            blockwise = logits(given)
    except (TypeError, ValueError, ImportError, RuntimeError):
        return "dense"
    layers = model.config.get_text_config().num_hidden_layers
    if given["blocks"].calls != layers:
        return "dense"
    if logits_agree(model, blockwise, logits(plain)):
        return attention
    warnings.warn(
        "Blockwise attention and a dense mask give different logits; using dense masks.",
        RuntimeWarning,
        stacklevel=2,
    )
    return "dense"


def blockwise_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    blocks: CausalBlocks | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Computes attention with transformers' signature: query [B, H, S, D], key and value
    [B, H / G, S, D]; returns [B, S, H, D]. Without blocks it is SDPA.
    """
    if blocks is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if options.get(name) is not None:
            raise ValueError(f"blockwise attention does not support {name}")
    blocks.calls += 1
    grouped = query.shape[1] != key.shape[1]
    half = query.dtype in (torch.float16, torch.bfloat16)
    if query.is_cuda and half and not dropout:
        return variable_length_attention(query, key, value, scaling, blocks, grouped), None
    rows = []
    for row, borders in enumerate(blocks.borders):
        parts = [
            torch.nn.functional.scaled_dot_product_attention(
                *(states[row : row + 1, :, start:stop] for states in (query, key, value)),
                is_causal=True,
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=grouped,
            )
            for start, stop in pairwise(borders)
        ]
        rows.append(torch.cat(parts, 2))
    return torch.cat(rows).transpose(1, 2), None


def variable_length_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    blocks: CausalBlocks,
    grouped: bool,
) -> torch.Tensor:
    """Computes all blocks of all rows in one kernel call: [B, S, H, D]."""
    from torch.nn.attention.varlen import varlen_attn

    borders, longest = blocks.cumulative(query.device)
    q, k, v = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    attended: Any = varlen_attn(
        q, k, v, borders, borders, longest, longest,
        scale=scaling, window_size=(-1, 0), enable_gqa=grouped,
    )  # fmt: skip
    return attended.unflatten(0, (query.shape[0], query.shape[2]))
