"""The default layout: encoders that attend to each other, a set of columns, span pointers.

Differences from the paper:

- one encoder for the question and one for the columns, which attend to each other; the paper
  has twelve;
- values by the first and last token of a span, as in SQLova (Hwang et al. 2019, arXiv 1902.01069);
  the paper has a pointer decoder;
- match and type features (:mod:`codegen.sqlnet.features`), and the cosine of word vectors;
- trainable word vectors, and character trigrams for words without one.

The columns are a set: permuting them permutes the outputs.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codegen.sqlnet import layout
from codegen.sqlnet.features import (
    COLUMN_FEATURES,
    PAIR_FEATURES,
    TOKEN_FEATURES,
    TRIGRAM_BUCKETS,
    Tensors,
)
from codegen.sqlnet.query import AGGREGATES, OPERATORS

MAX_VALUE_TOKENS = 24
_TRIGRAM_WIDTH = 32
_OPERATOR_WIDTH = 32
_SET_HEADS = 4
_PAIRS = PAIR_FEATURES + 1
_UNKNOWN_RATE = 0.02  # fraction of words masked per training step, so that trigrams matter


class SharedStates(NamedTuple):
    """``tokens``: [B, L, d]. ``columns``: [B, C, d]. Masks and ``pairs`` are the batch's; ``pairs``
    has an extra feature, the cosine of the token and the column's nearest word.
    """

    tokens: Tensor
    columns: Tensor
    token_mask: Tensor
    column_mask: Tensor
    pairs: Tensor


class ColumnAttention(nn.Module):
    """The paper's E_{Q|c} (section 3.3), with a bonus for words that match."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Linear(hidden, hidden)
        self.match = nn.Linear(_PAIRS, 1, bias=False)

    def scores(self, tokens: Tensor, columns: Tensor, pairs: Tensor) -> Tensor:
        """Computes v = E_c^T W H_Q / sqrt(d) + match: [B, C, L]."""
        scores = columns @ self.weight(tokens).transpose(1, 2)
        return scores / tokens.shape[-1] ** 0.5 + self.match(pairs).squeeze(-1)

    def forward(self, states: SharedStates) -> Tensor:
        """Returns [B, C, d]."""
        scores = self.scores(states.tokens, states.columns, states.pairs)
        return layout.attend(scores, states.token_mask, states.tokens)


class SetAttention(nn.Module):
    """Multi-head attention among the columns, without positions."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, columns: Tensor, mask: Tensor) -> Tensor:
        """Maps [B, C, d] to [B, C, d]."""
        size, count, width = columns.shape
        parts = self.inputs(columns).view(size, count, 3, _SET_HEADS, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind()  # each [B, heads, C, d / heads]
        scores = queries @ keys.transpose(2, 3) / keys.shape[-1] ** 0.5
        weights = scores.masked_fill(~mask[:, None, None], layout.lowest(scores)).softmax(-1)
        return self.output((weights @ values).transpose(1, 2).reshape(size, count, width))


class JointEncoder(nn.Module):
    """Encodes question and columns separately, then each with attention to the other."""

    def __init__(self, vectors: Tensor, hidden: int, dropout: float) -> None:
        super().__init__()
        width = vectors.shape[1] + _TRIGRAM_WIDTH
        self.word = nn.Embedding.from_pretrained(vectors, freeze=False, padding_idx=0)
        self.trigram = nn.EmbeddingBag(TRIGRAM_BUCKETS, _TRIGRAM_WIDTH, mode="mean")
        self.first = layout.BiLSTM(width + TOKEN_FEATURES, hidden)
        self.name = layout.BiLSTM(width, hidden)
        self.column = nn.Linear(hidden + COLUMN_FEATURES, hidden)
        self.attention = ColumnAttention(hidden)
        self.second = layout.BiLSTM(3 * hidden + TOKEN_FEATURES, hidden)
        self.match = nn.Linear(3 * hidden + COLUMN_FEATURES, hidden)
        self.set = SetAttention(hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = layout.RowDropout(dropout)

    def forward(self, batch: Tensors) -> SharedStates:
        """Computes the states of a batch."""
        ids = batch.word_ids
        if self.training:
            ids = ids * (torch.rand(len(ids)) >= _UNKNOWN_RATE)
        vectors = self.word(ids)
        trigrams = self.trigram(batch.trigram_ids, batch.trigram_starts)
        words = torch.cat([vectors, trigrams], dim=-1)  # [U, width]
        likeness = _likeness(vectors.detach(), batch)
        pairs = torch.cat([batch.pairs, likeness[..., None]], dim=-1)
        read = torch.cat([self.dropout(words[batch.question]), batch.tokens], dim=-1)
        tokens = self.dropout(self.first(read, batch.lengths)[0])
        names = self.name.last(self.dropout(words[batch.names]), batch.name_lengths)
        read = torch.cat([names[batch.column], batch.types], dim=-1)
        columns = torch.tanh(self.column(read))

        # [B, C, L]: relevance of a token to a column; normalized both ways.
        scores = self.attention.scores(tokens, columns, pairs)
        of_columns = layout.attend(scores, batch.token_mask, tokens)
        of_tokens = layout.attend(scores.transpose(1, 2), batch.column_mask, columns)
        read = torch.cat([tokens, of_tokens, tokens * of_tokens, batch.tokens], dim=-1)
        tokens = self.dropout(self.second(self.dropout(read), batch.lengths)[0])

        read = torch.cat([columns, of_columns, columns * of_columns, batch.types], dim=-1)
        columns = torch.tanh(self.match(self.dropout(read)))
        among = self.set(columns, batch.column_mask)
        columns = self.norm(columns + self.dropout(among))
        return SharedStates(tokens, columns, batch.token_mask, batch.column_mask, pairs)


def _likeness(vectors: Tensor, batch: Tensors) -> Tensor:
    """Computes the cosine of each token and each column's nearest word: [B, C, L].

    ``vectors`` [U, width]: vectors of the batch's words, without gradient.
    """
    unit = F.normalize(vectors.float(), dim=-1)
    cosines = unit @ unit.T
    width = batch.names.shape[1]
    real = torch.arange(width) < batch.name_lengths[:, None]  # [N, W]
    words, real = batch.names[batch.column], real[batch.column]  # [B, C, W]
    found = cosines[words[..., None], batch.question[:, None, None]]  # [B, C, W, L]
    found = found.masked_fill(~real[..., None], -1.0).amax(2)
    return found * (batch.column_mask[:, :, None] & batch.token_mask[:, None])


class SharedSQLNet(nn.Module):
    """The default network; see :class:`codegen.sqlnet.layout.Layout` for the methods."""

    def __init__(self, vectors: Tensor, hidden: int = 200, dropout: float = 0.3) -> None:
        """Builds the network; ``vectors``: [words + 1, width], row 0 for unknown words."""
        super().__init__()
        self.word_width = vectors.shape[1]
        self.encoder = JointEncoder(vectors, hidden, dropout)
        self.attentions = nn.ModuleDict(
            {name: ColumnAttention(hidden) for name in ("select", "where", "aggregate", "operator")}
        )
        self.select = layout.head(2 * hidden, hidden, 1)
        self.where = layout.head(2 * hidden, hidden, 1)
        self.aggregate = layout.head(2 * hidden, hidden, len(AGGREGATES))
        self.operator = layout.head(2 * hidden, hidden, len(OPERATORS))
        self.pool_tokens = nn.Linear(hidden, 1, bias=False)
        self.pool_columns = nn.Linear(hidden, 1, bias=False)
        self.number = layout.head(2 * hidden, hidden, layout.MAX_CONDITIONS + 1)
        self.value_operator = nn.Embedding(len(OPERATORS), _OPERATOR_WIDTH)
        self.value_column = nn.Linear(2 * hidden + _OPERATOR_WIDTH, hidden)
        self.value_token = nn.Linear(hidden, hidden)
        self.value_features = nn.Linear(_PAIRS + 1, hidden, bias=False)
        self.start = nn.Linear(hidden, 1)
        self.end = nn.Linear(hidden, 1)

    def encode(self, batch: Tensors, targets: layout.Targets | None = None) -> SharedStates:
        """Encodes the inputs; see :class:`~codegen.sqlnet.layout.Layout`."""
        return self.encoder(batch)

    def slots(self, states: SharedStates) -> layout.Outputs:
        """Scores the slots; see :class:`~codegen.sqlnet.layout.Layout`."""
        select = self.select(self._seen("select", states)).squeeze(-1)
        where = self.where(self._seen("where", states)).squeeze(-1)
        pooled = (
            layout.pool(states.tokens, self.pool_tokens, states.token_mask),
            layout.pool(states.columns, self.pool_columns, states.column_mask),
        )
        return layout.Outputs(
            select.masked_fill(~states.column_mask, layout.lowest(select)),
            where.masked_fill(~states.column_mask, layout.lowest(where)),
            self.number(torch.cat(pooled, dim=-1)),
        )

    def aggregates(self, states: SharedStates) -> Tensor:
        """Scores the aggregates; see :class:`~codegen.sqlnet.layout.Layout`."""
        return self.aggregate(self._seen("aggregate", states))

    def operators(self, states: SharedStates) -> Tensor:
        """Scores the operators; see :class:`~codegen.sqlnet.layout.Layout`."""
        return self.operator(self._seen("operator", states))

    def value_loss(self, states: SharedStates, targets: layout.Targets) -> dict[str, Tensor]:
        """Computes the values' losses; see :class:`~codegen.sqlnet.layout.Layout`."""
        real = (targets.columns >= 0).nonzero(as_tuple=True)
        found = self.spans(states, real[0], targets.columns[real], targets.operators[real])
        gold = {"start": targets.starts[real], "end": targets.ends[real]}
        size = len(targets.columns)
        return {
            name: F.cross_entropy(logits, gold[name], ignore_index=-1, reduction="sum") / size
            for name, logits in zip(gold, found, strict=True)
        }

    def values(
        self, states: SharedStates, columns: Tensor, operators: Tensor, beam: int
    ) -> list[list[tuple[layout.ValueSpan, ...]]]:
        """Finds the best spans; see :class:`~codegen.sqlnet.layout.Layout`."""
        rows = torch.arange(len(columns)).repeat_interleave(columns.shape[1])
        logits = self.spans(states, rows, columns.flatten(), operators.flatten())
        starts, ends = (found.log_softmax(-1).view(*columns.shape, -1) for found in logits)
        length = starts.shape[-1]
        scores = starts[..., :, None] + ends[..., None, :]  # [B, K, first, last]
        allowed = torch.ones(length, length, dtype=torch.bool).triu().tril(MAX_VALUE_TOKENS - 1)
        flat = scores.masked_fill(~allowed, layout.lowest(scores)).flatten(2)
        best = flat.topk(min(beam, flat.shape[-1]))
        return [
            [
                tuple(
                    layout.ValueSpan(i // length, i % length, s) for i, s in zip(*pair, strict=True)
                )
                for pair in zip(*row, strict=True)
            ]
            for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def spans(
        self, states: SharedStates, rows: Tensor, columns: Tensor, operators: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Computes logits of the first and of the last token of M values: two [M, L].

        Args:
            rows: [M], index of each value's question.
            columns: [M], index of its column.
            operators: [M], index of its operator.
        """
        # The attention scores for a column's operator are also features of its value.
        scores = cast(ColumnAttention, self.attentions["operator"]).scores(
            states.tokens, states.columns, states.pairs
        )
        seen = layout.attend(scores, states.token_mask, states.tokens)
        column = torch.cat([states.columns, seen], dim=-1)[rows, columns]
        asked = self.value_column(torch.cat([column, self.value_operator(operators)], dim=-1))
        looks = torch.tanh(scores[rows, columns][..., None])
        features = torch.cat([states.pairs[rows, columns], looks], dim=-1)
        read = self.value_token(states.tokens)[rows] + self.value_features(features)
        hidden = torch.tanh(asked[:, None] + read)  # [M, L, d]
        starts, ends = self.start(hidden).squeeze(-1), self.end(hidden).squeeze(-1)
        mask = ~states.token_mask[rows]
        return starts.masked_fill(mask, layout.lowest(starts)), ends.masked_fill(
            mask, layout.lowest(ends)
        )

    def _seen(self, slot: str, states: SharedStates) -> Tensor:
        """Returns each column with its view of the question for one slot: [B, C, 2 d]."""
        return torch.cat([states.columns, self.attentions[slot](states)], dim=-1)
