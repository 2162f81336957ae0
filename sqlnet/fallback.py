"""A language model as fallback: a vote over the results of its statements decides.

The model sees the names and types of the relevant tables (:func:`prompt_of`), never rows. Each
statement passes the usual check (:func:`codegen.sqlnet.sql.validate`) and runs on the read-only
database. The most frequent result is the answer; its fraction of the samples is the confidence
(self-consistency by execution, Shi et al. 2022, arXiv 2204.11454; voting with one correction as in
CSC-SQL, arXiv 2505.13271). If no statement runs, the model gets one error message and may try
again. A model that can be constrained gets a grammar of statements that the check may accept
(:func:`gbnf_of`).

Limit: a vote cannot detect a mistake that most samples share.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlglot import exp
from sqlglot.tokens import Tokenizer

from codegen.sqlnet.databases import DEFAULT_LIMITS, DatabaseError, ResultSet, StatementLimits
from codegen.sqlnet.joins import JoinGraph, PlanError
from codegen.sqlnet.linking import overlaps
from codegen.sqlnet.plan_features import LinkedSchema, mentions_of
from codegen.sqlnet.query import Column, Statement, Table, UnsafeSQLError
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import validate
from codegen.sqlnet.words import quoted, stem, tokenize

CANNOT = "CANNOT ANSWER"
"""A model's answer if the database lacks what the question asks for."""

MOST_SHOWN = 2000  # maximum characters of a failed answer shown to the model and the user
BUDGET = 8000  # characters of the schema in a prompt, about 2,000 tokens
_MOST_OF_A_TABLE = 100  # columns
_FENCE = re.compile(r"```(?:[a-z]*\n)?(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_BEGINNING = re.compile(r"\b(?:select|with)\b.*", re.DOTALL | re.IGNORECASE)
_DECLINED = re.compile(rf"\s*(?:```\w*\s*)?{CANNOT}\b:?\s*(.{{0,300}})", re.IGNORECASE)
_OTHER = re.compile(
    r"\b(?:alter|analyze|attach|begin|create|delete|detach|drop|insert|pragma|reindex|replace"
    r"|savepoint|set|update|vacuum)\b",
    re.IGNORECASE,
)

Complete = Callable[[str, int], Sequence[str]]
"""(prompt, n) -> n completions, most likely first."""


@dataclass(frozen=True, slots=True)
class GeneratedQuery:
    """A language model's result.

    Attributes:
        statement: None if the model wrote no permitted statement.
        rows: None without a database, if the statement failed, or if too few samples agree.
        failure: reason for a missing statement or missing rows.
        text: the completion, cut to ``MOST_SHOWN`` characters.
        votes: number of samples with this result.
        samples: number of all samples.
        declined: True if the model said that the database cannot answer.
    """

    statement: Statement | None
    rows: ResultSet | None = None
    failure: str = ""
    text: str = ""
    votes: int = 0
    samples: int = 0
    declined: bool = False


def write(
    question: str,
    schema: Schema,
    complete: Complete,
    limits: StatementLimits = DEFAULT_LIMITS,
    *,
    samples: int = 1,
    linked: LinkedSchema | None = None,
) -> GeneratedQuery:
    """Requests the SQL of a question from a language model, and runs it if there is a database.

    Args:
        samples: number of statements that vote.
        linked: if set, cells that the question mentions are shown with their columns.
    """
    dialect = schema.database.dialect if schema.database else "sqlite"
    prompt = prompt_of(question, schema, dialect, linked)
    texts = complete(prompt, samples)
    tried = {text: _tried(text, schema, dialect, limits) for text in dict.fromkeys(texts)}
    written = [tried[text] for text in texts]
    votes = Counter(_result(one) for one in written if one.declined or not one.failure)
    if votes:
        most, count = max(votes.items(), key=lambda pair: pair[1])
        found = next(one for one in map(tried.__getitem__, texts) if _result(one) == most)
        found = replace(found, votes=count, samples=len(texts))
        if len(texts) > 2 and 2 * count < len(texts):
            failure = f"Only {count} of {len(texts)} answers of the model agree."
            return replace(found, rows=None, failure=failure)
        return found
    first = tried[texts[0]] if texts else GeneratedQuery(None, failure="The model wrote no SQL.")
    again = complete(
        f"{prompt}\n\nYou wrote:\n{first.text}\n\nThat failed: {first.failure}\n"
        "Write a corrected statement.",
        1,
    )
    second = _tried(again[0], schema, dialect, limits) if again else first
    return replace(second, votes=int(not second.failure), samples=len(texts))


def _result(written: GeneratedQuery) -> object:
    """Returns the vote: rows in any order, else the statement, or that the model declined."""
    if written.declined:
        return CANNOT
    if written.rows is None:
        return written.statement
    rows = Counter(tuple(sorted(map(repr, row))) for row in written.rows.rows)
    return frozenset(rows.items()), written.rows.cut


def _tried(text: str, schema: Schema, dialect: str, limits: StatementLimits) -> GeneratedQuery:
    shown = text.strip()[:MOST_SHOWN]
    try:
        if declined := _DECLINED.match(_after_thinking(text)):
            said = f"The model says that the database cannot answer: {declined[1].strip() or '-'}"
            return GeneratedQuery(None, failure=said, text=shown, declined=True)
        statement = statement_from(text, schema, dialect)
        if schema.database is None:
            return GeneratedQuery(statement, text=shown)
        try:
            return GeneratedQuery(statement, schema.database.execute(statement, limits), text=shown)
        except DatabaseError as error:
            return GeneratedQuery(statement, failure=str(error), text=shown)
    except UnsafeSQLError as error:
        return GeneratedQuery(None, failure=str(error), text=shown)


def prompt_of(
    question: str, schema: Schema, dialect: str, linked: LinkedSchema | None = None
) -> str:
    """Builds the prompt: the question and the relevant part of the schema."""
    return (
        f"Database ({dialect}):\n{schema_text(question, schema, linked)}\n\n"
        f"Write one {dialect} SELECT statement that answers the question. Use only these tables and"
        " columns, and return only what is asked for. Answer with the SQL alone, or with "
        f"{CANNOT}: and a reason if the database does not hold it.\n\nQuestion: {question}"
    )


def schema_text(question: str, schema: Schema, linked: LinkedSchema | None = None) -> str:
    """Describes tables, joins and linked cells, in at most about ``BUDGET`` characters."""
    tables, graph = schema.tables, JoinGraph(tuple(schema.tables))
    cells = [*_cells(question, linked)] if linked else []
    hit = {number for number, _ in cells}
    shares = overlaps(question, tables)
    scores = [share + (number in hit) for number, share in enumerate(shares)]
    order = sorted(range(len(tables)), key=lambda number: -scores[number])
    lines: dict[int, str] = {}
    left = BUDGET
    for number in _with_bridges(order, scores, graph):
        line = _table_line(tables[number], question)
        left -= len(line)
        if left < 0 and lines:
            break
        lines[number] = line
    joins = dict.fromkeys(
        f"-- {_column(tables[join.child], one)} = {_column(tables[join.parent], other)}"
        for join in graph.joins
        if join.child in lines and join.parent in lines and join.origin != "same name"
        for one, other in zip(join.child_columns, join.parent_columns, strict=True)
    )
    said = [text for number, text in cells if number in lines]
    return "\n".join([*(lines[number] for number in sorted(lines)), *joins, *said])


def _with_bridges(order: Sequence[int], scores: Sequence[float], graph: JoinGraph) -> list[int]:
    """Orders tables by score, and inserts after the best ones the tables that connect them."""
    best = [number for number in order[:4] if scores[number] > 0]
    try:
        between = graph.trees(best)[0].tables if best else frozenset()
    except PlanError:
        between = frozenset()
    return list(dict.fromkeys([*best, *sorted(between), *order]))


def _table_line(table: Table, question: str) -> str:
    columns: Sequence[Column] = table.columns
    if len(columns) > _MOST_OF_A_TABLE:
        asked = {stem(token.text.lower()) for token in tokenize(question)}
        near = sorted(columns, key=lambda c: -len(asked & {stem(word) for word in c.words}))
        columns = near[:_MOST_OF_A_TABLE]
    listed = ", ".join(
        f"{quoted(column.name)} {'REAL' if column.type == 'real' else 'TEXT'}" for column in columns
    )
    name = quoted(table.name)
    if table.namespace:
        name = f"{quoted(table.namespace)}.{name}"
    return f"CREATE TABLE {name} ({listed});"


def _cells(question: str, linked: LinkedSchema) -> Iterator[tuple[int, str]]:
    """Yields each cell in the question as its table's number and a prompt line."""
    for mention in mentions_of(question, tokenize(question), linked):
        for item, cell in mention.cells.items():
            if cell.casefold() == mention.text.casefold():
                column = _column(linked.tables[item.table], item.column)
                yield item.table, f"-- {column} has {cell!r}"


def _column(table: Table, column: int) -> str:
    return f"{quoted(table.name)}.{quoted(table.columns[column].name)}"


def _after_thinking(text: str) -> str:
    return text.rpartition("</think>")[2].partition("<think>")[0]


def statement_from(text: str, schema: Schema, dialect: str) -> Statement:
    """Extracts the statement from a completion or its code fence: from the first SELECT or WITH on.

    Raises:
        UnsafeSQLError: if it is missing or not allowed.
    """
    text = _after_thinking(text)
    fence = _FENCE.search(text)
    code = fence[1] if fence else text
    found = _BEGINNING.search(code)
    if not found:
        raise UnsafeSQLError("The model wrote no SELECT.")
    if any(_OTHER.search(part) for part in code[: found.start()].split(";")[:-1]):
        raise UnsafeSQLError("Only a single SELECT may run; the model wrote more than that.")
    sql = found[0].strip().rstrip(";").strip()
    if validate(sql, schema.tables, dialect).find(exp.Placeholder):
        raise UnsafeSQLError("The model's statement has a placeholder.")
    return Statement(sql, (), dialect)


_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_KEYWORDS = frozenset(word for words in Tokenizer.KEYWORDS for word in words.upper().split())


def gbnf_of(tables: Sequence[Table]) -> str:
    """Builds the GBNF grammar of statements over one or more tables.

    GBNF is llama.cpp's notation; vLLM reads it too, and :mod:`codegen.decoding` constrains local
    models by it. A constrained model writes one SELECT that consists of known parts and the
    schema's names, or ``CANNOT ANSWER:`` and a reason. Which column belongs to which table is not
    in the grammar; :func:`codegen.sqlnet.sql.validate` checks it.
    """
    namespaces = {(table.namespace, table.name) for table in tables}
    names = (column.name for table in tables for column in table.columns)
    full = [(f"{quoted(ns)}." if ns else "") + quoted(name) for ns, name in sorted(namespaces)]
    bare = [name for ns, name in sorted(namespaces) if not ns and _is_bare(name)]
    columns = sorted(set(names))
    plain = [name for name in columns if _is_bare(name)]
    return (
        Path(__file__).with_name("select.gbnf").read_text("utf-8")
        + f"table ::= {_alternatives([*full, *bare])}"
        + f"\nname ::= {_alternatives([*map(quoted, columns), *plain])}\n"
    )


def _is_bare(name: str) -> bool:
    return bool(_BARE.fullmatch(name)) and name.upper() not in _KEYWORDS


def _alternatives(texts: Iterable[str]) -> str:
    return " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
