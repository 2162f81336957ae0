"""Questions with their queries: WikiSQL's files, and batches of them for the network.

Files: questions (``*.jsonl``) and tables (``*.tables.jsonl``), as published (Zhong, Xiong and
Socher 2017, https://github.com/salesforce/WikiSQL), packed with gzip or not. Tables without rows
(``*.schema.jsonl``) are enough if no query is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from codegen.errors import InputError
from codegen.records import read_rows
from codegen.sqlnet.features import EncodedQuestion, Tensors, collate, encode_question
from codegen.sqlnet.layout import MAX_CONDITIONS, Targets
from codegen.sqlnet.query import Column, Query, Table, query_from_row, unique_names
from codegen.sqlnet.vectors import ContextEncoder
from codegen.sqlnet.words import find_span


@dataclass(frozen=True, slots=True)
class WikiTable:
    """A table with its rows, if the file has them."""

    table: Table
    rows: tuple[tuple[Any, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One question on a table, with its query."""

    id: str
    text: str
    table: Table
    query: Query


def read_tables(path: str | Path) -> dict[str, WikiTable]:
    """The tables of a file, by id.

    Raises:
        InputError: naming file and line; also if there are none.
    """
    tables = {}
    for where, row in read_rows(path):
        try:
            names = unique_names([str(name) for name in row["header"]])
            kinds = ["real" if kind == "real" else "text" for kind in row["types"]]
            columns = tuple(Column(n, k) for n, k in zip(names, kinds, strict=True))  # type: ignore[arg-type]
            rows = tuple(map(tuple, row.get("rows", ())))
            tables[row["id"]] = WikiTable(Table(str(row["id"]), columns), rows)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{where}: not a WikiSQL table ({type(error).__name__}: {error})."
            ) from None
    if not tables:
        raise InputError(f"{path} holds no tables.", "Give a file with at least one.")
    return tables


def read_questions(
    path: str | Path, tables: Mapping[str, WikiTable], limit: int | None = None
) -> Iterator[Question]:
    """Streams the questions of a file.

    Raises:
        InputError: naming file and line, also if a table is missing.
    """
    for number, (where, row) in enumerate(read_rows(path)):
        if limit is not None and number >= limit:
            return
        if not isinstance(row, dict) or not isinstance(row.get("question"), str):
            raise InputError(f"{where}: not a WikiSQL question: it has no text 'question'.")
        held = tables.get(str(row.get("table_id")))
        if held is None:
            raise InputError(f"{where}: there is no table {row.get('table_id')!r}.")
        query = query_from_row(row.get("sql") or {}, len(held.table.columns), where)
        yield Question(str(number), row["question"], held.table, query)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question with its query; ``spans`` are the first and last token of each condition's value,
    (-1, -1) if it is not in the question.
    """

    question: EncodedQuestion
    query: Query
    spans: tuple[tuple[int, int], ...]


def label(questions: Iterable[Question]) -> list[Labelled]:
    """Encodes questions with their queries; conditions beyond ``MAX_CONDITIONS`` are dropped."""
    found = []
    for question in questions:
        encoded = encode_question(question.text, question.table)
        conditions = question.query.conditions[:MAX_CONDITIONS]
        query = Query(question.query.select, question.query.aggregate, conditions)
        spans = tuple(
            find_span(question.text, list(encoded.tokens), condition.value) or (-1, -1)
            for condition in conditions
        )
        if encoded.tokens:
            found.append(Labelled(encoded, query, spans))
    return found


def words_in(items: Iterable[Labelled], least: int = 1) -> list[str]:
    """The words that occur at least ``least`` times, most frequent first."""
    counts: Counter[str] = Counter()
    for item in items:
        counts.update(item.question.features.words)
        for name in item.question.features.columns:
            counts.update(name)
    return [word for word, count in counts.most_common() if count >= least]


def split_by_table(
    items: Sequence[Labelled], share: float, seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Questions to train on, and the held-out questions of about ``share`` of the tables."""

    def is_held_out(item: Labelled) -> bool:
        key = f"{seed}:{item.question.table.name}".encode()
        return int.from_bytes(blake2b(key, digest_size=4).digest(), "big") < share * 2**32

    held = [item for item in items if is_held_out(item)]
    return [item for item in items if not is_held_out(item)], held


def batch_of(
    items: Sequence[EncodedQuestion],
    vocabulary: Mapping[str, int],
    encoder: ContextEncoder | None = None,
) -> Tensors:
    """A batch; see :func:`codegen.sqlnet.features.collate`."""
    context = encoder.context_of(items) if encoder else None
    return collate([item.features for item in items], vocabulary)._replace(context=context)


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
