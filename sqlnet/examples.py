"""Questions made ready for the network: tokens, features and gold slots, and batches of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import torch

from codegen.sqlnet.features import MAX_TOKENS, Encoded, collate, encode
from codegen.sqlnet.layout import MAX_CONDITIONS, Targets, Tensors, to_tensors
from codegen.sqlnet.query import Query
from codegen.sqlnet.schema import Table
from codegen.sqlnet.tokens import Token, find_span, tokenize
from codegen.sqlnet.wikisql import Question

if TYPE_CHECKING:
    from codegen.sqlnet.contextual import ContextEncoder


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on a table, read."""

    text: str
    table: Table
    tokens: tuple[Token, ...]
    encoded: Encoded


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question with its query; ``spans`` are first and last token of each condition's value, or
    (-1, -1) where the question does not hold it.
    """

    asked: Asked
    query: Query
    spans: tuple[tuple[int, int], ...]


def ask(text: str, table: Table) -> Asked:
    """Reads a question; beyond ``MAX_TOKENS`` tokens it is cut. There may be no token at all."""
    tokens = tuple(tokenize(text)[:MAX_TOKENS])
    return Asked(text, table, tokens, encode(tokens, table))


def label(questions: Iterable[Question]) -> list[Labelled]:
    """Reads questions with their queries; conditions beyond ``MAX_CONDITIONS`` are left out."""
    found = []
    for question in questions:
        asked = ask(question.text, question.table)
        conditions = question.query.conditions[:MAX_CONDITIONS]
        query = Query(question.query.select, question.query.aggregate, conditions)
        spans = tuple(
            find_span(question.text, list(asked.tokens), condition.value) or (-1, -1)
            for condition in conditions
        )
        if asked.tokens:
            found.append(Labelled(asked, query, spans))
    return found


def words_in(items: Iterable[Labelled], least: int = 1) -> list[str]:
    """The words of questions and column names that occur ``least`` times, the commonest first."""
    counts: Counter[str] = Counter()
    for item in items:
        counts.update(item.asked.encoded.words)
        for name in item.asked.encoded.columns:
            counts.update(name)
    return [word for word, count in counts.most_common() if count >= least]


def split_by_table(
    items: Sequence[Labelled], share: float, seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Questions to train on, and those of about ``share`` of the tables, held out."""

    def is_held_out(item: Labelled) -> bool:
        key = f"{seed}:{item.asked.table.name}".encode()
        return int.from_bytes(blake2b(key, digest_size=4).digest(), "big") < share * 2**32

    held = [item for item in items if is_held_out(item)]
    return [item for item in items if not is_held_out(item)], held


def batch_of(
    items: Sequence[Asked], vocabulary: Mapping[str, int], encoder: ContextEncoder | None = None
) -> Tensors:
    """A batch; see :func:`codegen.sqlnet.features.collate`."""
    context = encoder.context_of(items) if encoder else None
    return to_tensors(collate([item.encoded for item in items], vocabulary), context)


def targets_of(items: Sequence[Labelled]) -> Targets:
    """Gold slots of a batch."""
    slots = torch.full((4, len(items), MAX_CONDITIONS), -1)
    for b, item in enumerate(items):
        for k, (condition, span) in enumerate(zip(item.query.conditions, item.spans, strict=True)):
            slots[:, b, k] = torch.tensor([condition.column, condition.operator, *span])
    return Targets(
        torch.tensor([item.query.select for item in items]),
        torch.tensor([item.query.aggregate for item in items]),
        torch.tensor([len(item.query.conditions) for item in items]),
        *slots,
    )
