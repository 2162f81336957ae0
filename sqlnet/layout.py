"""What the two layouts of the network share: tensors in and out, the loss, attention, spans.

A layout is a network with the methods of :class:`Layout`; there are ``shared`` (the default,
:mod:`codegen.sqlnet.shared`) and ``paper`` (:mod:`codegen.sqlnet.paper`).

Source: Xu, Liu and Song, "SQLNet: Generating Structured Queries From Natural Language Without
Reinforcement Learning" (arXiv 1711.04436), sections 3.2 to 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from codegen.sqlnet.features import Batch

MAX_CONDITIONS = 4


@dataclass(frozen=True, slots=True)
class Span:
    """A value: its first and last token, and its log-probability."""

    first: int
    last: int
    log_probability: float


class Tensors(NamedTuple):
    """A :class:`~codegen.sqlnet.features.Batch` as tensors."""

    word_ids: Tensor
    trigram_ids: Tensor
    trigram_starts: Tensor
    names: Tensor
    name_lengths: Tensor
    question: Tensor
    lengths: Tensor
    token_mask: Tensor
    column: Tensor
    column_mask: Tensor
    tokens: Tensor
    types: Tensor
    pairs: Tensor


def to_tensors(batch: Batch) -> Tensors:
    """Shares the arrays' memory."""
    return Tensors(*(torch.from_numpy(getattr(batch, name)) for name in Tensors._fields))


class Outputs(NamedTuple):
    """Logits; masked ones are the lowest number.

    ``select``: [B, C]. ``where``: [B, C]. ``number``: [B, MAX_CONDITIONS + 1].
    """

    select: Tensor
    where: Tensor
    number: Tensor


class Targets(NamedTuple):
    """Gold slots of B questions; condition slots beyond a question's number are -1.

    ``select``, ``aggregate``, ``number``: [B]. ``columns``, ``operators``, ``starts``, ``ends``:
    [B, MAX_CONDITIONS]; start and end are -1 too where the question does not hold the value.
    """

    select: Tensor
    aggregate: Tensor
    number: Tensor
    columns: Tensor
    operators: Tensor
    starts: Tensor
    ends: Tensor


class Layout(Protocol):
    """A network that scores every slot of the sketch; ``states`` is what its ``encode`` gave."""

    def encode(self, batch: Tensors) -> Any:
        """Reads the questions and the columns."""
        ...

    def slots(self, states: Any) -> Outputs:
        """The slots that depend on nothing but the question and the columns."""
        ...

    def aggregates(self, states: Any) -> Tensor:
        """Logits for each column, were it selected: [B, C, aggregates]."""
        ...

    def operators(self, states: Any) -> Tensor:
        """Logits for each column, were it in a condition: [B, C, operators]."""
        ...

    def value_loss(self, states: Any, targets: Targets) -> dict[str, Tensor]:
        """The loss of the values, in named parts: summed over conditions, a question on average."""
        ...

    def values(
        self, states: Any, columns: Tensor, operators: Tensor, beam: int
    ) -> list[list[tuple[Span, ...]]]:
        """The ``beam`` best values of K conditions a question.

        Args:
            states: of B questions.
            columns: [B, K] column indices.
            operators: [B, K] operator indices.
            beam: how many values are wanted, at least 1.

        Returns:
            B lists of K tuples, each best first and not empty.
        """
        ...


def losses(
    model: Layout, states: Any, targets: Targets, column_mask: Tensor, alpha: float
) -> dict[str, Tensor]:
    """The loss of each slot (section 3.4), teacher-forced along the dependency graph.

    Args:
        model: the network.
        states: what it read.
        targets: gold slots.
        column_mask: [B, C], which columns are real.
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
    """Cross entropy summed over the condition slots that are not -1, a question on average."""
    total = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
    )
    return total / len(targets)


class BiLSTM(nn.Module):
    """A bidirectional LSTM over padded rows; ``hidden`` is the width of both ways together."""

    def __init__(self, width: int, hidden: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            width, hidden // 2, layers, batch_first=True, bidirectional=True, dropout=dropout
        )

    def forward(
        self, inputs: Tensor, lengths: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Outputs [N, T, hidden], and the last states of both ways of the last layer [N, hidden].

        Args:
            inputs: [N, T, width].
            lengths: [N], each at least 1.
            state: initial hidden and cell states, each [2 layers, N, hidden / 2].
        """
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, (last, _) = self.lstm(packed, state)
        padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
        return padded, torch.cat([last[-2], last[-1]], dim=-1)


def attend(scores: Tensor, mask: Tensor, values: Tensor) -> Tensor:
    """Means of ``values`` [B, L, d] with weights softmax(``scores`` [B, C, L]), where ``mask``."""
    weights = scores.masked_fill(~mask[:, None], lowest(scores)).softmax(-1)
    return weights @ values


def pool(values: Tensor, score: nn.Linear, mask: Tensor) -> Tensor:
    """One mean of ``values`` [B, L, d] a row, with weights that they choose themselves: [B, d]."""
    return attend(score(values).transpose(1, 2), mask, values).squeeze(1)


def head(width: int, hidden: int, classes: int) -> nn.Sequential:
    """U2 tanh(U1 x)."""
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, classes))


def lowest(like: Tensor) -> float:
    """The lowest finite number of a tensor's type: what masks a logit."""
    return torch.finfo(like.dtype).min
