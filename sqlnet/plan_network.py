"""The network that scores a plan's slots, with its vocabulary.

Relation-aware layers (Shaw et al. 2018, arXiv 1803.02155; RAT-SQL, arXiv 1911.04942, section 4)
over [whole question; tokens; mentions; tables; columns], where a pair may have several relations;
then SQLNet's heads (arXiv 1711.04436): each item attends to the question and is scored for each
slot independently, so the order of tables and columns does not matter.

A word's input is the sum of its fixed vector, a trained offset if it occurs in the training
questions, and its character trigrams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codegen.core.errors import ConfigError
from codegen.sqlnet import plan_features
from codegen.sqlnet.features import TRIGRAM_BUCKETS, BatchVocabulary, padded
from codegen.sqlnet.plan import KINDS, PLAN_OPERATORS
from codegen.sqlnet.query import AGGREGATES
from codegen.sqlnet.storage import check_range, damage_named, read_network, save_network

MOST_SELECTED, MOST_TESTS, MOST_GROUPS, MOST_SECOND = 5, 4, 2, 2

OPERATOR_CLASSES = (*PLAN_OPERATORS, "= either")
ORDERINGS = ("none", "asc", "desc", "asc 1", "desc 1", "asc n", "desc n")
COMPANIONS = ("none", *KINDS)
_SELECT = len(AGGREGATES) + 1  # the last is COUNT(DISTINCT ...)
_AGG = len(AGGREGATES)

# Heads of each item: name -> number of classes. ``SECOND_HEADS`` are for the companion query.
ITEM_HEADS = {
    "select": _SELECT,
    "where": _AGG,
    "group": 1,
    "order": _AGG,
    "key": 1,
    "takes_part": 1,
    "operator": len(OPERATOR_CLASSES),
}
SECOND_HEADS = {
    "second_where": 1,
    "second_takes_part": 1,
    "second_operator": len(OPERATOR_CLASSES),
    "scalar": 1,
}
WHOLE_HEADS = {
    "selected": MOST_SELECTED,
    "tests": MOST_TESTS + 1,
    "groups": MOST_GROUPS + 1,
    "ordering": len(ORDERINGS),
    "distinct": 2,
    "any_of": 2,
    "companion": len(COMPANIONS),
    "second_tests": MOST_SECOND + 1,
    "scalar_aggregate": _AGG,
}
# Heads that point from an item to the mention that is its value.
VALUE_HEADS = ("value", "other_value", "second_value", "second_other_value")


@dataclass(frozen=True, slots=True)
class PlanConfig:
    """Settings of a network: width of the states, layers, attention heads, dropout."""

    width: int = 160
    layers: int = 3
    heads: int = 8
    dropout: float = 0.15

    def __post_init__(self) -> None:
        check_range(self, "width", "layers", "heads", below_one="dropout")
        if self.width % (2 * self.heads):
            raise ConfigError(f"width is {self.width}; it must be a multiple of 2 x heads.")


class PlanBatch(NamedTuple):
    """B questions, padded to L tokens, V mentions, T tables and C columns; N = 1 + L + V + T + C.

    For the first five fields see :class:`codegen.sqlnet.features.Tensors`.

    Attributes:
        question: [B, L] indices into the words. lengths: [B].
        tables, columns: [B, T] and [B, C] indices into the names.
        tokens, mentions, table_signs, column_signs: signs, float32.
        spans: [B, V, L] float32, rows that sum to 1 over a mention's tokens.
        mask: [B, N] bool. relations: [B, N, N, R] float32.
    """

    word_ids: Tensor
    trigram_ids: Tensor
    trigram_starts: Tensor
    names: Tensor
    name_lengths: Tensor
    question: Tensor
    lengths: Tensor
    tables: Tensor
    columns: Tensor
    tokens: Tensor
    mentions: Tensor
    table_signs: Tensor
    column_signs: Tensor
    spans: Tensor
    mask: Tensor
    relations: Tensor


def plan_batch(
    items: Sequence[plan_features.PlanQuestion], vocabulary: Mapping[str, int]
) -> PlanBatch:
    """Pads and joins questions, each with at least one token.

    Args:
        items: questions, at least one.
        vocabulary: word -> its row among the vectors, counted from 1.
    """
    held_words = BatchVocabulary()
    question = padded([held_words.words_at(item.words) for item in items])
    named = [held_words.names_at(item.schema.words[i] for i in item.items) for item in items]
    table_ids = padded([names[: item.tables] for names, item in zip(named, items, strict=True)])
    column_ids = padded([names[item.tables :] for names, item in zip(named, items, strict=True)])
    none = np.zeros((1, len(plan_features.MENTION_SIGNS)), np.float32)
    mentions = padded([item.mentions if item.found else none for item in items])
    size, length, held, tables = *question.shape, mentions.shape[1], table_ids.shape[1]
    total = 1 + length + held + tables + column_ids.shape[1]
    spans = np.zeros((size, held, length), np.float32)
    mask = np.zeros((size, total), bool)
    bits = np.zeros((size, total, total), np.uint32)
    likeness = np.zeros((size, total, total), np.float32)
    mask[:, 0] = True
    for b, item in enumerate(items):
        n, v, t, s = len(item.words), len(item.found), item.tables, len(item.items)
        for m, mention in enumerate(item.found):
            spans[b, m, mention.first : mention.last + 1] = 1 / (mention.last - mention.first + 1)
        base = 1 + length + held
        schema = np.r_[base : base + t, base + tables : base + tables + s - t]
        place = np.r_[1 : 1 + n, 1 + length : 1 + length + v, schema]
        mask[b, place] = True
        bits[b][np.ix_(place, place)] = item.relations
        likeness[b][np.ix_(np.arange(1, 1 + n), schema)] = item.likeness
    shifts = np.arange(len(plan_features.RELATIONS), dtype=np.uint32)
    relations = ((bits[..., None] >> shifts) & 1).astype(np.float32)
    relations[..., plan_features.RELATIONS.index("like")] = likeness.transpose(0, 2, 1)
    relations[..., plan_features.RELATIONS.index("likened")] = likeness
    return PlanBatch(
        *held_words.tensors(vocabulary),
        *(question, torch.tensor([len(item.words) for item in items]), table_ids, column_ids),
        *(padded([item.tokens for item in items]), mentions),
        padded([item.table_signs for item in items]),
        padded([item.column_signs for item in items]),
        *map(torch.from_numpy, (spans, mask, relations)),
    )


class _Attention(nn.Module):
    """Attention with keys and values for the relations of each pair."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        shape = (heads, len(plan_features.RELATIONS), self.size)
        self.relation_keys = nn.Parameter(torch.randn(shape) * 0.05)
        self.relation_bias = nn.Parameter(torch.zeros(heads, 1, len(plan_features.RELATIONS)))
        self.relation_values = nn.Parameter(torch.randn(shape) * 0.05)

    def forward(self, x: Tensor, relations: Tensor, blocked: Tensor) -> Tensor:
        """Computes attention; x: [B, N, width]; relations: [B, N, N, R]; blocked: [B, 1, N, 1]."""
        batch, length, width = x.shape
        split = self.queries_keys_values(x).view(batch, length, 3, self.heads, self.size)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # [B, H, N, size] each
        queries = queries / self.size**0.5
        scores = queries @ keys.transpose(-1, -2)  # [B, H, N, N]
        by_relation = queries @ self.relation_keys.transpose(-1, -2) + self.relation_bias
        # [B, N, H, R] @ [B, N, R, N] -> [B, N, H, N]
        added = by_relation.transpose(1, 2) @ relations.transpose(-1, -2)
        weights = (scores.transpose(1, 2) + added + blocked).softmax(-1)
        met = weights @ relations  # [B, N, H, R]
        out = weights.transpose(1, 2) @ values + met.transpose(1, 2) @ self.relation_values
        return self.out(out.transpose(1, 2).reshape(batch, length, width))


class _Layer(nn.Module):
    def __init__(self, config: PlanConfig) -> None:
        super().__init__()
        width = config.width
        self.attention = _Attention(width, config.heads)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, relations: Tensor, blocked: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.first(x), relations, blocked))
        return x + self.dropout(self.feed(self.second(x)))


class PlanModel(nn.Module):
    """The network that the module describes."""

    def __init__(self, vectors: Tensor, trained: int, config: PlanConfig) -> None:
        """Builds the network from word vectors [words + 1, width], row 0 zero; the first
        ``trained`` words get a trained offset.
        """
        super().__init__()
        width = config.width
        self.vectors = nn.Buffer(vectors)
        self.offset = nn.Embedding(trained + 1, width, padding_idx=0)
        nn.init.zeros_(self.offset.weight)
        self.grams = nn.EmbeddingBag(TRIGRAM_BUCKETS, 64, mode="mean")
        nn.init.normal_(self.grams.weight, std=0.1)
        self.word = nn.Linear(vectors.shape[1], width)
        self.gram = nn.Linear(64, width, bias=False)
        self.word_norm = nn.LayerNorm(width)
        self.question = nn.LSTM(
            width + len(plan_features.TOKEN_SIGNS), width // 2, batch_first=True, bidirectional=True
        )
        self.name = nn.Linear(2 * width, width)
        self.mention_signs = nn.Linear(len(plan_features.MENTION_SIGNS), width)
        self.table_signs = nn.Linear(len(plan_features.TABLE_SIGNS), width)
        self.column_signs = nn.Linear(len(plan_features.COLUMN_SIGNS), width)
        self.token_signs = nn.Linear(len(plan_features.TOKEN_SIGNS), width)
        self.whole = nn.Parameter(torch.randn(width) * 0.05)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.looks = nn.Linear(width, width, bias=False)
        hidden = 320
        self.item = nn.Linear(3 * width, hidden)
        self.second_item = nn.Linear(3 * width, hidden)
        self.item_out = nn.Linear(hidden, sum(ITEM_HEADS.values()))
        self.second_out = nn.Linear(hidden, sum(SECOND_HEADS.values()))
        self.whole_out = nn.Sequential(
            nn.Linear(2 * width, hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, sum(WHOLE_HEADS.values())),
        )
        pointers = len(VALUE_HEADS)
        self.item_pointer = nn.Linear(width, 64 * pointers)
        self.mention_pointer = nn.Linear(width, 64 * (pointers + 1))
        self.limit_pointer = nn.Linear(width, 64)

    def forward(self, batch: PlanBatch) -> dict[str, Tensor]:
        """Computes the logits of all slots.

        Returns:
            For each of ``ITEM_HEADS`` and ``SECOND_HEADS`` [B, T + C, classes], padding at -1e4
            except for operators; for each of ``WHOLE_HEADS`` [B, classes]; for each of
            ``VALUE_HEADS`` [B, T + C, V], and ``limit`` [B, V].
        """
        length, held = batch.question.shape[1], batch.mentions.shape[1]
        x = self._inputs(batch)
        blocked = torch.zeros_like(batch.mask, dtype=x.dtype).masked_fill(~batch.mask, -1e4)
        for layer in self.layers:
            x = layer(x, batch.relations, blocked[:, None, None, :])
        x = self.norm(x)
        whole, tokens = x[:, 0], x[:, 1 : 1 + length]
        mentions, items = x[:, 1 + length : 1 + length + held], x[:, 1 + length + held :]
        scores = self.looks(items) @ tokens.transpose(1, 2) / items.shape[-1] ** 0.5
        weights = (scores + blocked[:, None, 1 : 1 + length]).softmax(-1)
        asked = weights @ tokens  # [B, T + C, width]: an item's view of the question
        joined = torch.cat([items, asked, whole[:, None].expand_as(items)], -1)
        main = self.dropout(functional.gelu(self.item(joined)))
        second = self.dropout(functional.gelu(self.second_item(joined)))
        absent = ~batch.mask[:, 1 + length + held :, None]
        found: dict[str, Tensor] = {}
        for heads, out in (
            (ITEM_HEADS, self.item_out(main)),
            (SECOND_HEADS, self.second_out(second)),
        ):
            for name, part in zip(heads, out.split(list(heads.values()), -1), strict=True):
                keep = name.endswith("operator")
                found[name] = part if keep else part.masked_fill(absent, -1e4)
        mean = (tokens * batch.mask[:, 1 : 1 + length, None]).sum(1) / batch.lengths[:, None]
        out = self.whole_out(torch.cat([whole, mean], -1))
        found |= zip(WHOLE_HEADS, out.split(list(WHOLE_HEADS.values()), -1), strict=True)
        no_mention = blocked[:, None, 1 + length : 1 + length + held]
        left = self.item_pointer(items).unflatten(-1, (len(VALUE_HEADS), 64))
        right = self.mention_pointer(mentions).unflatten(-1, (len(VALUE_HEADS) + 1, 64))
        pointed = torch.einsum("bihd,bvhd->hbiv", left, right[..., :-1, :]) / 8
        found |= {name: one + no_mention for name, one in zip(VALUE_HEADS, pointed, strict=True)}
        limit = torch.einsum("bd,bvd->bv", self.limit_pointer(whole), right[..., -1, :])
        found["limit"] = limit / 8 + no_mention[:, 0]
        return found

    def _inputs(self, batch: PlanBatch) -> Tensor:
        """Computes the states before the first layer, [B, N, width]."""
        ids = batch.word_ids
        trained = self.offset.num_embeddings - 1
        offset = self.offset(torch.where(ids <= trained, ids, 0))
        grams = self.gram(self.grams(batch.trigram_ids, batch.trigram_starts))
        words = self.dropout(self.word_norm(self.word(self.vectors[ids]) + offset + grams))
        question = torch.cat([words[batch.question], batch.tokens], -1)
        packed = nn.utils.rnn.pack_padded_sequence(
            question, batch.lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.question(packed)[0], batch_first=True, total_length=question.shape[1]
        )
        places = torch.arange(batch.names.shape[1])
        there = (places < batch.name_lengths[:, None])[..., None]
        spelled = words[batch.names] * there  # [M, W, width]
        mean = spelled.sum(1) / batch.name_lengths[:, None]
        last = spelled[torch.arange(len(spelled)), batch.name_lengths - 1]
        names = self.name(torch.cat([mean, last], -1))
        parts = [
            self.whole.expand(len(states), 1, -1),
            states + self.token_signs(batch.tokens),
            batch.spans @ states + self.mention_signs(batch.mentions),
            names[batch.tables] + self.table_signs(batch.table_signs),
            names[batch.columns] + self.column_signs(batch.column_signs),
        ]
        return self.dropout(torch.cat(parts, 1))


@dataclass(frozen=True, slots=True)
class PlanNetwork:
    """A network with its vocabulary.

    Attributes:
        words: the vocabulary; word i has row i + 1 of the vectors.
        trained: number of words, from the first, with a trained offset.
        info: training information.
        vocabulary: word -> row.
        likeness: similarity of words, by the vectors.
    """

    model: PlanModel
    words: tuple[str, ...]
    trained: int
    config: PlanConfig
    info: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: Mapping[str, int] = field(init=False)
    likeness: plan_features.WordSimilarity = field(init=False)

    def __post_init__(self) -> None:
        rows = {word: row for row, word in enumerate(self.words, 1)}
        object.__setattr__(self, "vocabulary", rows)
        matrix = self.model.vectors[1:].numpy()
        object.__setattr__(self, "likeness", plan_features.WordSimilarity(self.words, matrix))

    @classmethod
    def build(
        cls, config: PlanConfig, words: Sequence[str], matrix: np.ndarray, trained: int
    ) -> PlanNetwork:
        """Creates a network with random weights; the seed is torch's.

        Args:
            matrix: the words' vectors, [words, width] float32.
            trained: number of words, from the first, that get a trained offset.
        """
        rows = torch.from_numpy(matrix)
        vectors = torch.cat([torch.zeros(1, rows.shape[1]), rows])
        return cls(PlanModel(vectors, trained, config).eval(), tuple(words), trained, config)

    @classmethod
    def load(cls, path: str | Path) -> PlanNetwork:
        """Loads a network from a directory.

        Raises:
            ModelError: if the directory has no plan network, or a corrupt one.
        """
        path = Path(path)
        with damage_named(path, "plan network", "codegen sqlnet train-plans"):
            row, words, weights = read_network(path)
            config, trained = PlanConfig(**row["plan_network"]), row["trained_words"]
            model = PlanModel(torch.zeros(len(words) + 1, row["word_width"]), trained, config)
            model.load_state_dict(weights)
        model.eval()
        return cls(model, words, trained, config, row.get("info", {}))

    def save(self, path: str | Path) -> None:
        """Writes the directory with float16 weights, which come last."""
        row = {
            "plan_network": asdict(self.config),
            "word_width": self.model.vectors.shape[1],
            "trained_words": self.trained,
            "info": dict(self.info),
        }
        save_network(Path(path), self.model, self.words, row)

    @torch.no_grad()
    def read(self, questions: Sequence[plan_features.PlanQuestion]) -> list[dict[str, np.ndarray]]:
        """Returns the scores of each question by slot, without padding; see :class:`PlanModel`."""
        batch = plan_batch(questions, self.vocabulary)
        tables = batch.tables.shape[1]
        scores = {name: value.numpy() for name, value in self.model(batch).items()}
        found = []
        for b, question in enumerate(questions):
            t, s, v = question.tables, len(question.items), len(question.found)
            items = np.r_[0:t, tables : tables + s - t]
            row: dict[str, np.ndarray] = {}
            for name, value in scores.items():
                if name in WHOLE_HEADS:
                    row[name] = value[b]
                elif name == "limit":
                    row[name] = value[b, :v]
                else:
                    row[name] = value[b][items]
                    if name in VALUE_HEADS:
                        row[name] = row[name][:, :v]
            found.append(row)
        return found

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)
