"""Questions and tables as tensors: word ids, and features for matching words.

A word is represented by its vector, if any, and hashed character trigrams, so that users' column
names are not all unknown. Matches between the question and the column names (exact, or by a crude
stem) and column types are features, as in TypeSQL (Yu et al. 2018, arXiv 1804.09769). The table's
content is not an input.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from codegen.sqlnet.query import Table
from codegen.sqlnet.words import MAX_TOKENS, WordToken, stem, tokenize

TRIGRAM_BUCKETS = 4096
TOKEN_FEATURES = 8
COLUMN_FEATURES = 6
PAIR_FEATURES = 4
MAX_COLUMN_WORDS = 24
_NEAR = 4


@dataclass(frozen=True, slots=True)
class Features:
    """One question on one table; L tokens, C columns.

    Attributes:
        words: the question's lower-cased words, L.
        columns: the words of each column name, C.
        tokens: [L, TOKEN_FEATURES] float32: is a number, begins with a capital, is all capitals,
            matches a column word exactly, by its stem, is a sign, looks like a year, follows the
            token before it without a space.
        types: [C, COLUMN_FEATURES] float32: is numeric, fraction of the name's words found exactly,
            by stem, whether the whole name is in the question, its fraction of the question's
            matched words, words of the name divided by 4.
        pairs: [C, L, PAIR_FEATURES] float32: whether a token matches a word of the column exactly,
            by its stem; how near the last matching token before it is, and the next one after it (1
            for its neighbor, 0 from ``_NEAR`` + 1 on).
    """

    words: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    tokens: np.ndarray
    types: np.ndarray
    pairs: np.ndarray


def _features(tokens: Sequence[WordToken], table: Table) -> Features:
    words = tuple(token.text.lower() for token in tokens)
    names = tuple(column.words[:MAX_COLUMN_WORDS] for column in table.columns)
    stems = [stem(word) for word in words]
    pairs = np.zeros((len(names), len(words), PAIR_FEATURES), np.float32)
    for c, name in enumerate(names):
        exact, by_stem = set(name), {stem(word) for word in name}
        for i, word in enumerate(words):
            if stems[i] in by_stem:
                pairs[c, i, :2] = word in exact, 1
                _mark_neighbours(pairs[c], i)
    token_features = np.zeros((len(words), TOKEN_FEATURES), np.float32)
    for i, token in enumerate(tokens):
        text = token.text
        token_features[i, :3] = text.isdigit(), text[:1].isupper(), text.isupper()
        token_features[i, 5] = not text.isalnum()
        token_features[i, 6] = text.isdigit() and len(text) == 4 and "1500" <= text <= "2100"
        token_features[i, 7] = i > 0 and tokens[i - 1].end == token.start
    if names and words:
        token_features[:, 3:5] = pairs[..., :2].max(axis=0)
    return Features(
        words, names, token_features, _column_features(table, names, words, stems), pairs
    )


@dataclass(frozen=True, slots=True)
class EncodedQuestion:
    """A question on a table with its tokens and features."""

    text: str
    table: Table
    tokens: tuple[WordToken, ...]
    features: Features


def encode_question(text: str, table: Table) -> EncodedQuestion:
    """Tokenizes a question, cut after ``MAX_TOKENS`` tokens; there may be none."""
    tokens = tuple(tokenize(text)[:MAX_TOKENS])
    return EncodedQuestion(text, table, tokens, _features(tokens, table))


def _mark_neighbours(pairs: np.ndarray, i: int) -> None:
    """Sets the nearness features of the tokens around the matching token i."""
    for distance in range(1, _NEAR + 1):
        nearness = 1 - (distance - 1) / _NEAR
        if i + distance < len(pairs):
            pairs[i + distance, 2] = max(pairs[i + distance, 2], nearness)
        if i >= distance:
            pairs[i - distance, 3] = max(pairs[i - distance, 3], nearness)


def _column_features(
    table: Table, names: Sequence[tuple[str, ...]], words: Sequence[str], stems: Sequence[str]
) -> np.ndarray:
    features = np.zeros((len(names), COLUMN_FEATURES), np.float32)
    found, found_stems = set(words), set(stems)
    joined = f" {' '.join(stems)} "
    for c, name in enumerate(names):
        name_stems = [stem(word) for word in name]
        by_stem = sum(word in found_stems for word in name_stems)
        features[c] = (
            table.columns[c].type == "real",
            sum(word in found for word in name) / len(name),
            by_stem / len(name),
            f" {' '.join(name_stems)} " in joined,
            by_stem / max(1, len(words)),
            len(name) / 4,
        )
    return features


@lru_cache(maxsize=100_000)
def trigrams(word: str) -> tuple[int, ...]:
    """Returns hashed trigrams of a word with boundary marks, each in [0, TRIGRAM_BUCKETS)."""
    framed = f"<{word}>"
    pieces = [framed[i : i + 3] for i in range(max(1, len(framed) - 2))]
    return tuple(zlib.crc32(piece.encode()) % TRIGRAM_BUCKETS for piece in pieces[:24])


class BatchVocabulary:
    """The distinct words and names of a batch, numbered in order of appearance."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.names: dict[tuple[str, ...], int] = {}

    def words_at(self, words: Iterable[str]) -> list[int]:
        """Returns each word's number."""
        return [self.words.setdefault(word, len(self.words)) for word in words]

    def names_at(self, names: Iterable[tuple[str, ...]]) -> list[int]:
        """Returns each name's number."""
        return [self.names.setdefault(name, len(self.names)) for name in names]

    def tensors(
        self, vocabulary: Mapping[str, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns the first five fields of :class:`Tensors`."""
        lengths = np.array([len(name) for name in self.names])
        names = np.zeros((len(self.names), int(lengths.max())), np.int64)
        for number, name in enumerate(self.names):
            names[number, : len(name)] = self.words_at(name)
        grams = [trigrams(word) for word in self.words]
        return (
            torch.tensor([vocabulary.get(word, 0) for word in self.words]),
            torch.tensor([gram for word in grams for gram in word]),
            torch.from_numpy(np.cumsum([0, *map(len, grams[:-1])])),
            torch.from_numpy(names),
            torch.from_numpy(lengths),
        )


def padded(rows: Sequence[ArrayLike]) -> Tensor:
    """Stacks one or more arrays of the same rank, zero-padded to the largest sizes."""
    arrays = [np.asarray(row) for row in rows]
    sizes = np.max([array.shape for array in arrays], axis=0)
    found = np.zeros((len(arrays), *sizes), arrays[0].dtype)
    for place, array in zip(found, arrays, strict=True):
        place[tuple(map(slice, array.shape))] = array
    return torch.from_numpy(found)


class Tensors(NamedTuple):
    """A batch of B questions, padded to L tokens and C columns.

    Each word occurs once: ``word_ids`` [U] (0 is unknown), with trigrams in a flat list
    (``trigram_ids``, ``trigram_starts`` [U]). So does each column name: ``names`` [N, W] are
    indices into the words, ``name_lengths`` [N] their lengths. Indices are int64, masks bool.

    Attributes:
        question: [B, L] indices into the words. column: [B, C] indices into the names.
        lengths: [B] tokens. token_mask: [B, L]. column_mask: [B, C].
        tokens, types, pairs: features, [B, L, .], [B, C, .] and [B, C, L, .], float32.
    """

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


def collate(items: Sequence[Features], vocabulary: Mapping[str, int]) -> Tensors:
    """Pads and joins questions.

    Args:
        items: at least one question, each with at least one token and one column.
        vocabulary: word -> its row among the vectors, counted from 1.
    """
    held = BatchVocabulary()
    question = padded([held.words_at(item.words) for item in items])
    column = padded([held.names_at(item.columns) for item in items])
    lengths = torch.tensor([len(item.words) for item in items])
    widths = torch.tensor([len(item.columns) for item in items])
    return Tensors(
        *held.tensors(vocabulary),
        question=question,
        lengths=lengths,
        token_mask=torch.arange(question.shape[1]) < lengths[:, None],
        column=column,
        column_mask=torch.arange(column.shape[1]) < widths[:, None],
        tokens=padded([item.tokens for item in items]),
        types=padded([item.types for item in items]),
        pairs=padded([item.pairs for item in items]),
    )
