"""WikiSQL's files, and the quality of predicted queries.

Files: questions (``*.jsonl``) and tables (``*.tables.jsonl``), as published (Zhong, Xiong and
Socher 2017, https://github.com/salesforce/WikiSQL), optionally gzipped. Tables without rows
(``*.schema.jsonl``) are enough if no query is run.

Query match is WikiSQL's official equality (:meth:`Query.matches`), for sketches the same as
logical-form accuracy. Execution accuracy runs both queries and compares their rows. The breakdown
is the paper's Table 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from codegen.core.errors import InputError
from codegen.core.records import read_rows
from codegen.sqlnet import decode
from codegen.sqlnet.databases import DatabaseError
from codegen.sqlnet.databases.files import Database, SqliteDatabase
from codegen.sqlnet.features import EncodedQuestion, encode_question
from codegen.sqlnet.layout import MAX_CONDITIONS, Targets
from codegen.sqlnet.linking import Linker
from codegen.sqlnet.network import SketchNetwork
from codegen.sqlnet.query import Column, Query, Table, query_from_row, unique_names
from codegen.sqlnet.sql import to_sql
from codegen.sqlnet.words import find_span


@dataclass(frozen=True, slots=True)
class WikiTable:
    """A table and, if the file has them, its rows."""

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
    """Reads the tables of a file, by id.

    Raises:
        InputError: if a line is malformed (names file and line), or there are no tables.
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
        raise InputError(f"{path} contains no tables.", "Pass a file with tables.")
    return tables


def read_questions(path: str | Path, tables: Mapping[str, WikiTable]) -> Iterator[Question]:
    """Streams the questions of a file.

    Raises:
        InputError: if a line is malformed or its table is missing; names file and line.
    """
    for number, (where, row) in enumerate(read_rows(path)):
        if not isinstance(row, dict) or not isinstance(row.get("question"), str):
            raise InputError(f"{where}: not a WikiSQL question: it has no string 'question'.")
        held = tables.get(str(row.get("table_id")))
        if held is None:
            raise InputError(f"{where}: unknown table {row.get('table_id')!r}.")
        query = query_from_row(row.get("sql") or {}, len(held.table.columns), where)
        yield Question(str(number), row["question"], held.table, query)


@dataclass(frozen=True, slots=True)
class LabeledQuestion:
    """A question with its query; ``spans`` are the first and last token of each condition's value,
    (-1, -1) if it is not in the question.
    """

    question: EncodedQuestion
    query: Query
    spans: tuple[tuple[int, int], ...]


def label(questions: Iterable[Question]) -> list[LabeledQuestion]:
    """Encodes questions with their queries; drops conditions beyond ``MAX_CONDITIONS``."""
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
            found.append(LabeledQuestion(encoded, query, spans))
    return found


def words_in(items: Iterable[LabeledQuestion], least: int = 1) -> list[str]:
    """Returns the words that occur at least ``least`` times, most frequent first."""
    counts: Counter[str] = Counter()
    for item in items:
        counts.update(item.question.features.words)
        for name in item.question.features.columns:
            counts.update(name)
    return [word for word, count in counts.most_common() if count >= least]


def split_by_table(
    items: Sequence[LabeledQuestion], share: float, seed: int
) -> tuple[list[LabeledQuestion], list[LabeledQuestion]]:
    """Returns training questions, and held-out questions (about a fraction ``share`` of tables)."""

    def is_held_out(item: LabeledQuestion) -> bool:
        key = f"{seed}:{item.question.table.name}".encode()
        return int.from_bytes(blake2b(key, digest_size=4).digest(), "big") < share * 2**32

    held = [item for item in items if is_held_out(item)]
    return [item for item in items if not is_held_out(item)], held


def targets_of(items: Sequence[LabeledQuestion]) -> Targets:
    """Returns the gold slots of a batch."""
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


BATCH = 128
BEAM = 4


@dataclass(frozen=True, slots=True)
class QueryScores:
    """Fractions of n questions; ``execution`` is None if no query was run."""

    n: int
    query_match: float
    aggregate: float
    select: float
    where: float
    execution: float | None = None

    def to_row(self) -> dict[str, float | int | None]:
        """Returns JSON values."""
        return asdict(self)


def predict(
    network: SketchNetwork, items: Sequence[LabeledQuestion], *, greedy: bool = False
) -> list[Query]:
    """Predicts the query of each question.

    Args:
        greedy: fill one slot after another, as in the paper; else take the query with the highest
            joint probability.
    """
    if greedy:
        read = _read(network, items, beam=1)
        return [decode.best_query(slots, encoded.text, encoded.tokens) for encoded, slots in read]
    read = _read(network, items, beam=BEAM)
    return [
        decode.candidates(slots, one.text, one.tokens, BEAM, 1, one.table)[0].query
        for one, slots in read
    ]


def predict_guided(
    network: SketchNetwork,
    items: Sequence[LabeledQuestion],
    databases: Mapping[str, Database],
    *,
    link: bool = False,
) -> list[decode.ExecutedChoice]:
    """Predicts the query of each question by running candidates.

    Args:
        databases: databases by table name.
        link: also link values to the table's values, as the parser does.
    """
    found = []
    for encoded, read in _read(network, items, beam=BEAM):
        database, slots = databases[encoded.table.name], read
        linker = Linker(database, encoded.table) if link else None
        if linker:
            slots = decode.with_mentions(slots, linker.mentioned(encoded.text, encoded.tokens))
        listed = decode.candidates(slots, encoded.text, encoded.tokens, BEAM, table=encoded.table)
        found.append(decode.choose(listed, encoded.table, database, linker=linker))
    return found


def databases_of(
    items: Sequence[LabeledQuestion], tables: Mapping[str, WikiTable]
) -> dict[str, Database] | None:
    """Builds a database in memory for each question's table; None if the tables have no rows."""
    names = {item.question.table.name for item in items}
    held = {name: tables[name] for name in names}
    if not any(table.rows for table in held.values()):
        return None
    return {
        name: SqliteDatabase.from_table(table.table, table.rows) for name, table in held.items()
    }


def _read(
    network: SketchNetwork, items: Sequence[LabeledQuestion], beam: int
) -> Iterator[tuple[EncodedQuestion, decode.SlotScores]]:
    for start in range(0, len(items), BATCH):
        encoded = [item.question for item in items[start : start + BATCH]]
        yield from zip(encoded, network.read(encoded, beam=beam), strict=True)


def score(
    predicted: Sequence[Query],
    items: Sequence[LabeledQuestion],
    databases: Mapping[str, Database] | None = None,
) -> QueryScores:
    """Scores predictions against gold queries; runs both if there are databases."""
    pairs = list(zip(predicted, (item.query for item in items), strict=True))

    def share(test: Callable[[Query, Query], bool]) -> float:
        return sum(test(found, gold) for found, gold in pairs) / max(1, len(pairs))

    execution = None
    if databases is not None:
        same = sum(
            _same_result(found, item, databases[item.question.table.name])
            for found, item in zip(predicted, items, strict=True)
        )
        execution = same / max(1, len(pairs))
    return QueryScores(
        n=len(pairs),
        query_match=share(Query.matches),
        aggregate=share(lambda a, b: a.aggregate == b.aggregate),
        select=share(lambda a, b: a.select == b.select),
        where=share(lambda a, b: _where(a).matches(_where(b))),
        execution=execution,
    )


def _where(query: Query) -> Query:
    return Query(0, 0, query.conditions)


def _same_result(predicted: Query, item: LabeledQuestion, database: Database) -> bool:
    if predicted.matches(item.query):
        return True
    table = item.question.table
    try:
        found, gold = (
            database.execute(to_sql(query, table, database.dialect)).rows
            for query in (predicted, item.query)
        )
    except DatabaseError:
        return False
    return sorted(found, key=repr) == sorted(gold, key=repr)
