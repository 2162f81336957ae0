"""The paper's layout: six modules with two encoders each, column attention, a pointer decoder.

Source: SQLNet (arXiv 1711.04436), sections 3.2 to 3.4, with the layer shapes of the released code
and the paper's tanh. Unlike in that code, gradients reach the column encoders, the aggregate reads
the predicted SELECT column at test time, masks apply to every batch, and a value is the slice of
the question from the first to the last position pointed at.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codegen.sqlnet import layout
from codegen.sqlnet.features import Tensors
from codegen.sqlnet.query import AGGREGATES, OPERATORS
from codegen.sqlnet.words import MAX_TOKENS

MODULES = ("select", "aggregate", "number", "where", "operator", "value")
_ASKED_OF_GOLD = ("aggregate", "operator", "value")  # in training
_LAYERS = 2
_POSITIONS = MAX_TOKENS + 2  # the question is between <BEG> and <END>
_MAX_STEPS = 26


class ModuleInputs(NamedTuple):
    """Inputs of one module: ``question`` [B, L + 2, d] with BEG/END, ``columns`` [B, C, d]."""

    question: Tensor
    columns: Tensor


class PaperStates(NamedTuple):
    """Inputs of each module; masks [B, L + 2] and [B, C]; ``lengths`` [B] of the questions."""

    read: dict[str, ModuleInputs]
    question_mask: Tensor
    column_mask: Tensor
    lengths: Tensor


class SketchModule(nn.Module):
    """The encoders of one module, and its column attention, if any."""

    def __init__(self, width: int, hidden: int, dropout: float, *, attends: bool) -> None:
        super().__init__()
        self.question = layout.BiLSTM(width, hidden, _LAYERS, dropout)
        self.name = layout.BiLSTM(width, hidden, _LAYERS, dropout)
        if attends:
            self.attention = nn.Linear(hidden, hidden)

    def seen(self, read: ModuleInputs, mask: Tensor) -> Tensor:
        """Returns E_{Q|c}, from v = E_c^T W H_Q [B, C, L + 2]: [B, C, d]."""
        scores = read.columns @ self.attention(read.question).transpose(1, 2)
        return layout.attend(scores, mask, read.question)


class PaperSQLNet(nn.Module):
    """The paper's network; see :class:`codegen.sqlnet.layout.Layout` for the methods."""

    def __init__(self, vectors: Tensor, hidden: int = 100, dropout: float = 0.3) -> None:
        """Builds the network; ``vectors``: [words + 1, width]; row 0 (unknown, BEG/END) is zero."""
        super().__init__()
        self.word_width = vectors.shape[1]
        width = vectors.shape[1]
        self.word = nn.Embedding.from_pretrained(vectors, freeze=False, padding_idx=0)
        self.encoders = nn.ModuleDict(
            {
                name: SketchModule(width, hidden, dropout, attends=name not in ("number", "value"))
                for name in MODULES
            }
        )
        self.of_question = nn.ModuleDict(
            {name: nn.Linear(hidden, hidden) for name in ("select", "where", "operator")}
        )
        self.of_column = nn.ModuleDict(
            {name: nn.Linear(hidden, hidden) for name in ("select", "where", "operator")}
        )
        self.select_score = nn.Linear(hidden, 1)
        self.where_score = nn.Linear(hidden, 1)
        self.aggregate_head = layout.head(hidden, hidden, len(AGGREGATES))
        self.operator_head = layout.head(hidden, hidden, len(OPERATORS))
        self.number_columns = nn.Linear(hidden, 1, bias=False)
        self.number_hidden = nn.Linear(hidden, _LAYERS * hidden)
        self.number_cell = nn.Linear(hidden, _LAYERS * hidden)
        self.number_tokens = nn.Linear(hidden, 1, bias=False)
        self.number_head = layout.head(hidden, hidden, layout.MAX_CONDITIONS + 1)
        self.decoder = nn.LSTM(_POSITIONS, hidden, _LAYERS, batch_first=True)
        self.value_question = nn.Linear(hidden, hidden)
        self.value_column = nn.Linear(hidden, hidden)
        self.value_decoder = nn.Linear(hidden, hidden)
        self.value_score = nn.Linear(hidden, 1)

    def encode(self, batch: Tensors, targets: layout.Targets | None = None) -> PaperStates:
        """Encodes the inputs; see :class:`~codegen.sqlnet.layout.Layout`."""
        words = self.word(batch.word_ids)
        question = F.pad(words[batch.question], (0, 0, 1, 1))  # [B, L + 2, width]
        # Zeros from <END> on, since the padding's index 0 may be any word of the batch.
        question = question * F.pad(batch.token_mask, (1, 1))[..., None]
        lengths = batch.lengths + 2
        names = words[batch.names]
        read = {}
        for name in MODULES:
            module, state = self._module(name), None
            columns = self._read_names(name, names, batch, targets)
            if name == "number":
                state = self._number_state(columns, batch.column_mask)
            read[name] = ModuleInputs(module.question(question, lengths, state)[0], columns)
        mask = torch.arange(question.shape[1]) < lengths[:, None]
        return PaperStates(read, mask, batch.column_mask, batch.lengths)

    def _read_names(
        self, name: str, names: Tensor, batch: Tensors, targets: layout.Targets | None
    ) -> Tensor:
        """Returns a module's states of the columns: [B, C, d].

        With targets, modules that score only gold columns skip other columns, which stay zero.
        """
        encoder = self._module(name).name
        if targets is None or name not in _ASKED_OF_GOLD:
            return encoder.last(names, batch.name_lengths)[batch.column]
        gold = targets.select[:, None] if name == "aggregate" else targets.columns
        wanted = batch.column.gather(1, gold.clamp(min=0))[gold >= 0].unique()
        if not len(wanted):
            wanted = batch.column[:1, 0]
        read = encoder.last(names[wanted], batch.name_lengths[wanted])
        placed = read.new_zeros(len(names), read.shape[1]).index_copy(0, wanted, read)
        return placed[batch.column]

    def _number_state(self, columns: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        pooled = layout.pool(columns, self.number_columns, mask)  # [B, d]
        shape = len(pooled), 2 * _LAYERS, -1
        hidden = self.number_hidden(pooled).view(shape).transpose(0, 1).contiguous()
        return hidden, self.number_cell(pooled).view(shape).transpose(0, 1).contiguous()

    def slots(self, states: PaperStates) -> layout.Outputs:
        """Scores the slots; see :class:`~codegen.sqlnet.layout.Layout`."""
        select = self.select_score(torch.tanh(self._mixed("select", states))).squeeze(-1)
        where = self.where_score(torch.tanh(self._mixed("where", states))).squeeze(-1)
        number = layout.pool(
            states.read["number"].question, self.number_tokens, states.question_mask
        )
        return layout.Outputs(
            select.masked_fill(~states.column_mask, layout.lowest(select)),
            where.masked_fill(~states.column_mask, layout.lowest(where)),
            self.number_head(number),
        )

    def aggregates(self, states: PaperStates) -> Tensor:
        """Scores the aggregates; see :class:`~codegen.sqlnet.layout.Layout`."""
        return self.aggregate_head(self._seen("aggregate", states))

    def operators(self, states: PaperStates) -> Tensor:
        """Scores the operators; see :class:`~codegen.sqlnet.layout.Layout`."""
        return self.operator_head(self._mixed("operator", states))

    def _seen(self, name: str, states: PaperStates) -> Tensor:
        return self._module(name).seen(states.read[name], states.question_mask)

    def _module(self, name: str) -> SketchModule:
        return cast(SketchModule, self.encoders[name])

    def _mixed(self, name: str, states: PaperStates) -> Tensor:
        """Computes U_q E_{Q|c} + U_c E_c: [B, C, d]."""
        seen = self.of_question[name](self._seen(name, states))
        return seen + self.of_column[name](states.read[name].columns)

    def value_loss(self, states: PaperStates, targets: layout.Targets) -> dict[str, Tensor]:
        """Returns the loss, averaged over each value's positions and <END>; see the layout."""
        known = (targets.starts >= 0).nonzero(as_tuple=True)
        rows, columns, starts = known[0], targets.columns[known], targets.starts[known]
        lengths = (targets.ends[known] - starts + 1).clamp(max=_MAX_STEPS - 1)
        steps = int(lengths.max()) + 1 if len(rows) else 1
        offsets = torch.arange(steps)
        # Positions count <BEG>: the first token is 1. After the last one comes <END>.
        gold = starts[:, None] + 1 + offsets
        gold = torch.where(offsets < lengths[:, None], gold, states.lengths[rows, None] + 1)
        inputs = F.pad(gold[:, :-1], (1, 0))  # begins at <BEG>, which is 0
        logits, _ = self._point(states, rows, columns, inputs.clamp(max=_POSITIONS - 1))
        loss = F.cross_entropy(logits.flatten(0, 1), gold.flatten(), reduction="none")
        loss = loss.view(-1, steps) * (offsets <= lengths[:, None])
        return {"value": (loss.sum(-1) / (lengths + 1)).sum() / len(targets.starts)}

    def _point(
        self,
        states: PaperStates,
        rows: Tensor,
        columns: Tensor,
        inputs: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Computes scores a = u^T tanh(U1 H_Q + U2 E_c + U3 h_t) of the next position.

        Args:
            rows: [M], index of each value's question.
            columns: [M], index of its column.
            inputs: [M, T] positions chosen before.

        Returns:
            Logits [M, T, L + 2], and the decoder's state.
        """
        read = states.read["value"]
        one_hot = F.one_hot(inputs, _POSITIONS).to(read.question.dtype)
        hidden, after = self.decoder(one_hot, state)
        hidden = self.value_decoder(hidden)[:, :, None]  # [M, T, 1, d]
        column = self.value_column(read.columns[rows, columns])[:, None, None]
        question = self.value_question(read.question)[rows, None]  # [M, 1, L + 2, d]
        scores = self.value_score(torch.tanh(question + (column + hidden))).squeeze(-1)
        return scores.masked_fill(~states.question_mask[rows, None], layout.lowest(scores)), after

    def values(
        self, states: PaperStates, columns: Tensor, operators: Tensor, beam: int
    ) -> list[list[tuple[layout.ValueSpan, ...]]]:
        """Decodes greedily, as in the paper: one value per condition, regardless of the beam."""
        size, slots = columns.shape
        rows, columns = torch.arange(size).repeat_interleave(slots), columns.flatten()
        chosen = torch.zeros(len(rows), 1, dtype=torch.long)
        total = torch.zeros(len(rows))
        first, last = torch.full_like(rows, -1), torch.full_like(rows, -1)
        done = torch.zeros(len(rows), dtype=torch.bool)
        end = states.lengths[rows] + 1
        state = None
        for step in range(_MAX_STEPS):
            logits, state = self._point(states, rows, columns, chosen, state)
            scores = logits[:, 0].log_softmax(-1)
            scores[:, 0] = layout.lowest(scores)  # <BEG> is never chosen
            if step == 0:
                scores.scatter_(-1, end[:, None], layout.lowest(scores))
            best = scores.max(-1)
            total = total + best.values * ~done
            done = done | (best.indices == end)
            place = best.indices - 1
            first = torch.where(done | (first >= 0), first, place)
            last = torch.where(done, last, torch.maximum(last, place))
            if bool(done.all()):
                break
            chosen = best.indices[:, None]
        spans = list(map(layout.ValueSpan, first.tolist(), last.tolist(), total.tolist()))
        return [[(span,) for span in spans[b * slots : (b + 1) * slots]] for b in range(size)]
