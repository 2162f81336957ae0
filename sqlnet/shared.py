"""The default layout: shared encoders that read each other, a set of columns, span pointers.

What differs from the paper: one encoder for the question and one for the columns where the paper
has twelve, which read each other before the heads do; values by the first and the last token of a
span, as in SQLova (Hwang et al. 2019, arXiv 1902.01069), where the paper has a pointer decoder;
match and type features (see :mod:`codegen.sqlnet.features`).

The columns are a set: permuting them permutes the outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from codegen.sqlnet.features import (
    COLUMN_FEATURES,
    PAIR_FEATURES,
    TOKEN_FEATURES,
    TRIGRAM_BUCKETS,
)
from codegen.sqlnet.layout import (
    MAX_CONDITIONS,
    BiLSTM,
    Outputs,
    Span,
    Targets,
    Tensors,
    attend,
    head,
    lowest,
    pool,
    slots_loss,
)
from codegen.sqlnet.query import AGGREGATES, OPERATORS

MAX_VALUE_TOKENS = 24
_TRIGRAM_WIDTH = 32
_OPERATOR_WIDTH = 32
_SET_HEADS = 4


class States(NamedTuple):
    """``tokens``: [B, L, d]. ``columns``: [B, C, d]. The masks and pairs are the batch's."""

    tokens: Tensor
    columns: Tensor
    token_mask: Tensor
    column_mask: Tensor
    pairs: Tensor


class ColumnAttention(nn.Module):
    """E_{Q|c} of the paper (section 3.3), with a bonus for words that match."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Linear(hidden, hidden)
        self.match = nn.Linear(PAIR_FEATURES, 1, bias=False)

    def scores(self, tokens: Tensor, columns: Tensor, pairs: Tensor) -> Tensor:
        """v = E_c^T W H_Q / sqrt(d) + match: [B, C, L]."""
        scores = columns @ self.weight(tokens).transpose(1, 2)
        return scores / tokens.shape[-1] ** 0.5 + self.match(pairs).squeeze(-1)

    def forward(self, states: States) -> Tensor:
        """[B, C, d]."""
        scores = self.scores(states.tokens, states.columns, states.pairs)
        return attend(scores, states.token_mask, states.tokens)


class Encoder(nn.Module):
    """Question and columns, read separately and then in the light of each other."""

    def __init__(self, vectors: Tensor, hidden: int, dropout: float) -> None:
        super().__init__()
        width = vectors.shape[1] + _TRIGRAM_WIDTH
        self.word = nn.Embedding.from_pretrained(vectors, freeze=True, padding_idx=0)
        self.trigram = nn.EmbeddingBag(TRIGRAM_BUCKETS, _TRIGRAM_WIDTH, mode="mean")
        self.first = BiLSTM(width + TOKEN_FEATURES, hidden)
        self.name = BiLSTM(width, hidden)
        self.column = nn.Linear(hidden + COLUMN_FEATURES, hidden)
        self.attention = ColumnAttention(hidden)
        self.second = BiLSTM(3 * hidden + TOKEN_FEATURES, hidden)
        self.match = nn.Linear(3 * hidden + COLUMN_FEATURES, hidden)
        self.set = nn.MultiheadAttention(hidden, _SET_HEADS, batch_first=True)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Tensors) -> States:
        """The states of a batch."""
        vectors = self.word(batch.word_ids), self.trigram(batch.trigram_ids, batch.trigram_starts)
        words = self.dropout(torch.cat(vectors, dim=-1))  # [U, width]
        read = torch.cat([words[batch.question], batch.tokens], dim=-1)
        tokens = self.dropout(self.first(read, batch.lengths)[0])
        names = self.name(words[batch.names], batch.name_lengths)[1]
        read = torch.cat([names[batch.column], batch.types], dim=-1)
        columns = torch.tanh(self.column(self.dropout(read)))

        # [B, C, L]: which token speaks of which column; read both ways.
        scores = self.attention.scores(tokens, columns, batch.pairs)
        of_columns = attend(scores, batch.token_mask, tokens)
        of_tokens = attend(scores.transpose(1, 2), batch.column_mask, columns)
        read = torch.cat([tokens, of_tokens, tokens * of_tokens, batch.tokens], dim=-1)
        tokens = self.dropout(self.second(self.dropout(read), batch.lengths)[0])

        read = torch.cat([columns, of_columns, columns * of_columns, batch.types], dim=-1)
        columns = torch.tanh(self.match(self.dropout(read)))
        among, _ = self.set(
            columns, columns, columns, key_padding_mask=~batch.column_mask, need_weights=False
        )
        columns = self.norm(columns + self.dropout(among))
        return States(tokens, columns, batch.token_mask, batch.column_mask, batch.pairs)


class SharedSQLNet(nn.Module):
    """See the module, and :class:`codegen.sqlnet.layout.Layout` for the methods."""

    def __init__(self, vectors: Tensor, hidden: int = 200, dropout: float = 0.3) -> None:
        """``vectors``: [words + 1, width]; row 0 is that of unknown words."""
        super().__init__()
        self.word_width = vectors.shape[1]
        self.encoder = Encoder(vectors, hidden, dropout)
        self.attentions = nn.ModuleDict(
            {name: ColumnAttention(hidden) for name in ("select", "where", "aggregate", "operator")}
        )
        self.select = head(2 * hidden, hidden, 1)
        self.where = head(2 * hidden, hidden, 1)
        self.aggregate = head(2 * hidden, hidden, len(AGGREGATES))
        self.operator = head(2 * hidden, hidden, len(OPERATORS))
        self.pool_tokens = nn.Linear(hidden, 1, bias=False)
        self.pool_columns = nn.Linear(hidden, 1, bias=False)
        self.number = head(2 * hidden, hidden, MAX_CONDITIONS + 1)
        self.value_operator = nn.Embedding(len(OPERATORS), _OPERATOR_WIDTH)
        self.value_column = nn.Linear(2 * hidden + _OPERATOR_WIDTH, hidden)
        self.value_token = nn.Linear(hidden + PAIR_FEATURES, hidden)
        self.start = nn.Linear(hidden, 1)
        self.end = nn.Linear(hidden, 1)

    def encode(self, batch: Tensors) -> States:
        """See :class:`~codegen.sqlnet.layout.Layout`."""
        return self.encoder(batch)

    def slots(self, states: States) -> Outputs:
        """See :class:`~codegen.sqlnet.layout.Layout`."""
        select = self.select(self._seen("select", states)).squeeze(-1)
        where = self.where(self._seen("where", states)).squeeze(-1)
        pooled = (
            pool(states.tokens, self.pool_tokens, states.token_mask),
            pool(states.columns, self.pool_columns, states.column_mask),
        )
        return Outputs(
            select.masked_fill(~states.column_mask, lowest(select)),
            where.masked_fill(~states.column_mask, lowest(where)),
            self.number(torch.cat(pooled, dim=-1)),
        )

    def aggregates(self, states: States) -> Tensor:
        """See :class:`~codegen.sqlnet.layout.Layout`."""
        return self.aggregate(self._seen("aggregate", states))

    def operators(self, states: States) -> Tensor:
        """See :class:`~codegen.sqlnet.layout.Layout`."""
        return self.operator(self._seen("operator", states))

    def value_loss(self, states: States, targets: Targets) -> dict[str, Tensor]:
        """See :class:`~codegen.sqlnet.layout.Layout`."""
        columns, operators = targets.columns.clamp(min=0), targets.operators.clamp(min=0)
        starts, ends = self.spans(states, columns, operators)
        return {"start": slots_loss(starts, targets.starts), "end": slots_loss(ends, targets.ends)}

    def values(
        self, states: States, columns: Tensor, operators: Tensor, beam: int
    ) -> list[list[tuple[Span, ...]]]:
        """See :class:`~codegen.sqlnet.layout.Layout`."""
        starts, ends = self.spans(states, columns, operators)
        starts, ends = starts.log_softmax(-1), ends.log_softmax(-1)
        length = starts.shape[-1]
        scores = starts[..., :, None] + ends[..., None, :]  # [B, K, first, last]
        allowed = torch.ones(length, length, dtype=torch.bool).triu().tril(MAX_VALUE_TOKENS - 1)
        flat = scores.masked_fill(~allowed, lowest(scores)).flatten(2)
        best = flat.topk(min(beam, flat.shape[-1]))
        return [
            [
                tuple(Span(i // length, i % length, s) for i, s in zip(*pair, strict=True))
                for pair in zip(*row, strict=True)
            ]
            for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def spans(self, states: States, columns: Tensor, operators: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the first and of the last token of K values a question: two [B, K, L]."""
        rows = torch.arange(len(columns))[:, None]
        column = self._seen("operator", states)[rows, columns]
        asked = self.value_column(torch.cat([column, self.value_operator(operators)], dim=-1))
        tokens = states.tokens[:, None].expand(-1, columns.shape[1], -1, -1)
        read = self.value_token(torch.cat([tokens, states.pairs[rows, columns]], dim=-1))
        hidden = torch.tanh(asked[:, :, None] + read)  # [B, K, L, d]
        starts, ends = self.start(hidden).squeeze(-1), self.end(hidden).squeeze(-1)
        mask = ~states.token_mask[:, None]
        return starts.masked_fill(mask, lowest(starts)), ends.masked_fill(mask, lowest(ends))

    def _seen(self, slot: str, states: States) -> Tensor:
        """Each column with what the question says of it for one slot: [B, C, 2 d]."""
        return torch.cat([states.columns, self.attentions[slot](states)], dim=-1)
