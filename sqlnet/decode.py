"""From logits to queries: the slots' probabilities, and the most probable query of each question.

The WHERE columns are the K most probable ones, K the most probable number (section 3.3 of the
paper). Type masks: a ``text`` column is neither summed nor ordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from codegen.sqlnet.layout import MAX_CONDITIONS, Layout, Span, Tensors, lowest
from codegen.sqlnet.query import AGGREGATES, OPERATORS, Condition, Query
from codegen.sqlnet.schema import Table
from codegen.sqlnet.tokens import Token

_NUMERIC_AGGREGATES = tuple(AGGREGATES.index(name) for name in ("MAX", "MIN", "SUM", "AVG"))
_ORDERING = tuple(OPERATORS.index(name) for name in (">", "<"))
_ATTENDED: tuple[Literal["select", "where"], ...] = ("select", "where")


@dataclass(frozen=True, slots=True)
class Slots:
    """Log-probabilities of one question's slots; C columns.

    Attributes:
        select: [C]. aggregate: [C, aggregates], given that the column is selected.
        where: [C], that the column is in a condition. number: [MAX_CONDITIONS + 1].
        operator: [C, operators]. values: for (column, operator), its best spans, best first; of
            the columns that are most likely in a condition alone, the likeliest first.
        attention: for ``select`` and ``where``, how much each column looks at each token, [C, L];
            empty unless asked for.
    """

    select: Tensor
    aggregate: Tensor
    where: Tensor
    number: Tensor
    operator: Tensor
    values: dict[tuple[int, int], tuple[Span, ...]]
    attention: dict[str, Tensor] = field(default_factory=dict)


@torch.inference_mode()
def slots(
    model: Layout,
    batch: Tensors,
    tables: Sequence[Table],
    *,
    beam: int = 1,
    type_masks: bool = True,
    attention: bool = False,
) -> list[Slots]:
    """The slots of each question.

    Args:
        model: in evaluation mode.
        batch: B questions.
        tables: theirs.
        beam: spans kept for each (column, operator); with 1, those of the best operator alone.
        type_masks: whether to leave out what makes no sense for a column's type.
        attention: whether to give it.
    """
    states = model.encode(batch)
    outputs = model.slots(states)
    aggregate, operator = model.aggregates(states), model.operators(states)
    if type_masks:
        for b, table in enumerate(tables):
            text = [c for c, column in enumerate(table.columns) if column.type == "text"]
            for masked, logits in ((_NUMERIC_AGGREGATES, aggregate), (_ORDERING, operator)):
                for index in masked:
                    logits[b, text, index] = lowest(logits)
    operator = operator.log_softmax(-1)
    values = _values(model, states, outputs.where, operator, beam)
    aggregate, where = aggregate.log_softmax(-1), logsigmoid(outputs.where)
    select, number = outputs.select.log_softmax(-1), outputs.number.log_softmax(-1)
    looks = {slot: model.attention(states, slot) for slot in _ATTENDED} if attention else {}
    widths, lengths = batch.column_mask.sum(1).tolist(), batch.lengths.tolist()
    return [
        Slots(
            select[b, :c],
            aggregate[b, :c],
            where[b, :c],
            number[b],
            operator[b, :c],
            values[b],
            {slot: weights[b, :c, :n] for slot, weights in looks.items()},
        )
        for b, (c, n) in enumerate(zip(widths, lengths, strict=True))
    ]


def _values(
    model: Layout, states: object, where: Tensor, operator: Tensor, beam: int
) -> list[dict[tuple[int, int], tuple[Span, ...]]]:
    columns = where.topk(min(MAX_CONDITIONS, where.shape[1])).indices  # [B, K]
    ranked = operator[torch.arange(len(columns))[:, None], columns].argsort(-1, descending=True)
    ranks = 1 if beam == 1 else len(OPERATORS)
    operators = ranked[..., :ranks].transpose(1, 2).flatten(1)  # [B, ranks K], the best first
    asked = columns.repeat(1, ranks)
    spans = model.values(states, asked, operators, beam)
    return [
        dict(zip(zip(*keys, strict=True), row, strict=True))
        for *keys, row in zip(asked.tolist(), operators.tolist(), spans, strict=True)
    ]


def best_query(found: Slots, question: str, tokens: Sequence[Token]) -> Query:
    """The most probable query, slot after slot along the graph of the paper."""
    select = int(found.select.argmax())
    aggregate = int(found.aggregate[select].argmax())
    number = min(int(found.number.argmax()), len(found.where))
    conditions = []
    for column in list(dict.fromkeys(column for column, _ in found.values))[:number]:
        operator = int(found.operator[column].argmax())
        span = found.values[column, operator][0]
        conditions.append(Condition(column, operator, value_of(question, tokens, span)))
    return Query(select, aggregate, tuple(conditions))


def value_of(question: str, tokens: Sequence[Token], span: Span) -> str:
    """The slice of the question that a span stands for."""
    return question[tokens[span.first].start : tokens[span.last].end]
