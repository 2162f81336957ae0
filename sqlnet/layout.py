"""Parts shared by the network's two layouts: inputs, outputs, the loss, attention, spans.

A layout is a network with the methods of :class:`Layout`: ``shared`` (the default,
:mod:`codegen.sqlnet.shared_encoder`) and ``paper`` (:mod:`codegen.sqlnet.paper_model`).

Source: Xu, Liu and Song, "SQLNet: Generating Structured Queries From Natural Language Without
Reinforcement Learning" (arXiv 1711.04436), sections 3.2 to 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codegen.sqlnet.features import Tensors

MAX_CONDITIONS = 4


@dataclass(frozen=True, slots=True)
class ValueSpan:
    """A value: its first and last token, and its log-probability."""

    first: int
    last: int
    log_probability: float


class Outputs(NamedTuple):
    """Logits; masked ones are the lowest finite number.

    ``select``: [B, C]. ``where``: [B, C]. ``number``: [B, MAX_CONDITIONS + 1].
    """

    select: Tensor
    where: Tensor
    number: Tensor


class Targets(NamedTuple):
    """Gold slots of B questions; condition slots beyond a question's number are -1.

    ``select``, ``aggregate``, ``number``: [B]. ``columns``, ``operators``, ``starts``, ``ends``:
    [B, MAX_CONDITIONS]; start and end are also -1 if the question does not contain the value.
    """

    select: Tensor
    aggregate: Tensor
    number: Tensor
    columns: Tensor
    operators: Tensor
    starts: Tensor
    ends: Tensor


class Layout(Protocol):
    """A network that scores every slot of the sketch; ``states`` is the result of ``encode``."""

    def encode(self, batch: Tensors, targets: Targets | None = None) -> Any:
        """Encodes questions and columns; with targets, only the parts that their loss needs."""
        ...

    def slots(self, states: Any) -> Outputs:
        """Scores the slots that depend on only the question and the columns."""
        ...

    def aggregates(self, states: Any) -> Tensor:
        """Returns logits [B, C, aggregates], given that the column is selected."""
        ...

    def operators(self, states: Any) -> Tensor:
        """Returns logits [B, C, operators], given that the column is in a condition."""
        ...

    def value_loss(self, states: Any, targets: Targets) -> dict[str, Tensor]:
        """Returns the loss of values, by part: summed over conditions, averaged over questions."""
        ...

    def values(
        self, states: Any, columns: Tensor, operators: Tensor, beam: int
    ) -> list[list[tuple[ValueSpan, ...]]]:
        """Returns the ``beam`` best values of K conditions per question.

        Args:
            states: states of B questions.
            columns: [B, K] column indices.
            operators: [B, K] operator indices.
            beam: number of values, at least 1.

        Returns:
            B lists of K tuples, each best first and not empty.
        """
        ...


def losses(
    model: Layout, states: Any, targets: Targets, column_mask: Tensor, alpha: float
) -> dict[str, Tensor]:
    """Computes each slot's loss (section 3.4), with teacher forcing along the dependency graph.

    Args:
        column_mask: [B, C], True for real columns.
        alpha: weight of the columns that are in a condition; 3 in the paper.
    """
    outputs = model.slots(states)
    rows = torch.arange(len(targets.select))
    columns = targets.columns.clamp(min=0)
    wanted = torch.zeros_like(outputs.where)
    real = targets.columns >= 0
    wanted[rows[:, None].expand_as(columns)[real], columns[real]] = 1.0
    where = F.binary_cross_entropy_with_logits(
        outputs.where, wanted, pos_weight=torch.tensor(alpha), reduction="none"
    )
    return {
        "select": F.cross_entropy(outputs.select, targets.select),
        "aggregate": F.cross_entropy(
            model.aggregates(states)[rows, targets.select], targets.aggregate
        ),
        "number": F.cross_entropy(outputs.number, targets.number),
        "where": where[column_mask].sum() / len(rows),
        "operator": slots_loss(model.operators(states)[rows[:, None], columns], targets.operators),
        **model.value_loss(states, targets),
    }


def slots_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Computes cross-entropy, summed over slots other than -1, averaged over questions."""
    total = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
    )
    return total / len(targets)


class BiLSTM(nn.Module):
    """A bidirectional LSTM over padded sequences; ``hidden`` is the width of both directions.

    Sequences are padded at the end, not packed; the backward direction gets each sequence reversed
    within its length. Padding thus never comes before a sequence's items, and the CPU's fused LSTM
    kernels can be used, which halves the time.
    """

    def __init__(self, width: int, hidden: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        half = hidden // 2
        widths = [width, *[hidden] * (layers - 1)]
        self.forwards = nn.ModuleList(nn.LSTM(w, half, batch_first=True) for w in widths)
        self.backwards = nn.ModuleList(nn.LSTM(w, half, batch_first=True) for w in widths)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs: Tensor, lengths: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns outputs [N, T, hidden], undefined beyond a sequence's length, and the last
        layer's final states [N, hidden].

        Args:
            inputs: [N, T, width].
            lengths: [N], each at least 1.
            state: initial hidden and cell states, each [2 layers, N, hidden / 2], forward and
                backward of each layer in turn.
        """
        places = torch.arange(inputs.shape[1])
        turned = lengths[:, None] - 1 - places
        turned = torch.where(turned >= 0, turned, places)[..., None]  # [N, T, 1]
        outputs = inputs
        for layer, (forward, backward) in enumerate(
            zip(self.forwards, self.backwards, strict=True)
        ):
            if layer:
                outputs = self.dropout(outputs)
            ahead, _ = forward(outputs, _state_of(state, 2 * layer))
            back, _ = backward(_taken(outputs, turned), _state_of(state, 2 * layer + 1))
            outputs = torch.cat([ahead, _taken(back, turned)], dim=-1)
        rows = torch.arange(len(inputs))
        half = outputs.shape[-1] // 2
        last = outputs[rows, lengths - 1, :half], outputs[:, 0, half:]
        return outputs, torch.cat(last, dim=-1)

    def last(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Returns the final states [N, hidden]; many sequences run in groups of similar length."""
        if len(lengths) < _MANY:
            return self(inputs, lengths)[1]
        order = lengths.argsort(stable=True)
        ordered = lengths[order]
        borders = torch.searchsorted(ordered, torch.tensor(_BUCKETS), right=True).tolist()
        found = []
        for start, end in zip([0, *borders], [*borders, len(lengths)], strict=True):
            if start < end:
                rows, most = order[start:end], int(ordered[end - 1])
                found.append(self(inputs[rows, :most], ordered[start:end])[1])
        return torch.cat(found)[order.argsort()]


_MANY = 32  # sequences; for fewer, a second run costs more than padding
_BUCKETS = (3, 6)


def _state_of(state: tuple[Tensor, Tensor] | None, number: int) -> tuple[Tensor, Tensor] | None:
    if state is None:
        return None
    hidden, cell = state
    return hidden[number : number + 1].contiguous(), cell[number : number + 1].contiguous()


def _taken(values: Tensor, places: Tensor) -> Tensor:
    return values.gather(1, places.expand(-1, -1, values.shape[-1]))


class RowDropout(nn.Module):
    """Dropout with one mask per sequence: [B, T, d] loses the same features at every T."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        """Returns the values, some of them 0 in training."""
        if not self.training or not self.rate:
            return values
        keep = torch.rand(len(values), 1, values.shape[-1]) >= self.rate
        return values * (keep / (1 - self.rate)).to(values.dtype)


def attend(scores: Tensor, mask: Tensor, values: Tensor) -> Tensor:
    """Averages ``values`` [B, L, d] with weights softmax(``scores`` [B, C, L]), under ``mask``."""
    return scores.masked_fill(~mask[:, None], lowest(scores)).softmax(-1) @ values


def pool(values: Tensor, score: nn.Linear, mask: Tensor) -> Tensor:
    """Returns the mean [B, d] of ``values`` [B, L, d], weighted by their own scores."""
    return attend(score(values).transpose(1, 2), mask, values).squeeze(1)


def head(width: int, hidden: int, classes: int) -> nn.Sequential:
    """Returns the layers of U2 tanh(U1 x)."""
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, classes))


def lowest(like: Tensor) -> float:
    """Returns the lowest finite number of a tensor's type, for masked logits."""
    return torch.finfo(like.dtype).min
