"""A language model for what one sketch can't say: joins, grouping, ordering.

The model sees the schema's names and types, never the rows. What it writes passes the same gate as
everything else (:func:`codegen.sqlnet.sql.validate`) and runs on the same read-only database. An
error of the gate or of the database is told to the model once, and it may try again. The result is
no more reliable than the model: it has no confidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from codegen.sqlnet.databases import DEFAULT_LIMITS, DatabaseError, Rows, StatementLimits
from codegen.sqlnet.linking import overlaps
from codegen.sqlnet.query import Column, Statement, Table, UnsafeSQLError
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import validate
from codegen.sqlnet.words import stem, tokenize

TRIES = 2
MOST_SHOWN = 2000  # characters of a failed answer that the model, and the user, see again
MOST_SIGNS = 10_000  # of a statement; checking takes the longer the more it holds
_MOST_COLUMNS = 400  # told to the model, of all tables
_MOST_OF_A_TABLE = 100
_FENCE = re.compile(r"```(?:[a-z]*\n)?(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_BEGINNING = re.compile(r"\b(?:select|with)\b.*", re.DOTALL | re.IGNORECASE)
_OTHER = re.compile(
    r"\b(?:alter|analyze|attach|begin|create|delete|detach|drop|insert|pragma|reindex|replace"
    r"|savepoint|set|update|vacuum)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Written:
    """What a language model wrote.

    Attributes:
        statement: None if nothing that it wrote may run.
        rows: what the statement gave; None if there is no database, or it failed.
        failure: why there is no statement or there are no rows.
        text: what the model wrote, cut to ``MOST_SHOWN`` characters.
    """

    statement: Statement | None
    rows: Rows | None = None
    failure: str = ""
    text: str = ""


def write(
    question: str,
    schema: Schema,
    complete: Callable[[str], str],
    limits: StatementLimits = DEFAULT_LIMITS,
) -> Written:
    """Asks a language model for the SQL of a question, and runs it where there is a database.

    Args:
        question: what is asked.
        schema: what can be asked.
        complete: gives the model's answer to a prompt.
        limits: of the statement.
    """
    dialect = schema.database.dialect if schema.database else "sqlite"
    prompt = prompt_of(question, schema, dialect)
    written = Written(None, failure="The model wrote no SQL.")
    for _ in range(TRIES):
        text = complete(prompt)
        shown = text.strip()[:MOST_SHOWN]
        written = replace(_tried(text, schema, dialect, limits), text=shown)
        if not written.failure:
            break
        prompt = (
            f"{prompt_of(question, schema, dialect)}\n\nYou wrote:\n{shown}\n\n"
            f"That failed: {written.failure}\nWrite a corrected statement."
        )
    return written


def _tried(text: str, schema: Schema, dialect: str, limits: StatementLimits) -> Written:
    try:
        statement = statement_from(text, schema, dialect)
        if schema.database is None:
            return Written(statement)
        try:
            return Written(statement, schema.database.execute(statement, limits))
        except DatabaseError as error:
            return Written(statement, failure=str(error))
    except UnsafeSQLError as error:
        return Written(None, failure=str(error))


def prompt_of(question: str, schema: Schema, dialect: str) -> str:
    """The question and the schema as a prompt."""
    lines = []
    for table, shown in _told(question, schema):
        columns = ", ".join(
            f'"{_quoted(column.name)}" {"REAL" if column.type == "real" else "TEXT"}'
            for column in shown
        )
        name = f'"{_quoted(table.name)}"'
        if table.namespace:
            name = f'"{_quoted(table.namespace)}".{name}'
        lines.append(f"CREATE TABLE {name} ({columns});")
    tables = "\n".join(lines)
    return (
        f"Database ({dialect}):\n{tables}\n\n"
        f"Write one {dialect} SELECT statement that answers the question. Use only these tables and"
        f" columns. Answer with the SQL alone.\n\nQuestion: {question}"
    )


def _told(question: str, schema: Schema) -> list[tuple[Table, tuple[Column, ...]]]:
    """The tables that share most with the question, as many as fit, with columns that do."""
    asked = {stem(token.text.lower()) for token in tokenize(question)}
    shares = overlaps(question, schema.tables)
    told, left = [], _MOST_COLUMNS
    for number in sorted(range(len(shares)), key=lambda i: -shares[i]):
        table = schema.tables[number]
        columns = table.columns
        if len(columns) > _MOST_OF_A_TABLE:
            near = sorted(columns, key=lambda c: -len(asked & {stem(word) for word in c.words}))
            columns = tuple(near[:_MOST_OF_A_TABLE])
        left -= len(columns)
        if left < 0:
            break
        told.append((number, columns))
    return [(schema.tables[number], columns) for number, columns in sorted(told)]


def statement_from(text: str, schema: Schema, dialect: str) -> Statement:
    """The statement in a model's answer: in a code fence, or from the first SELECT or WITH on.

    Raises:
        UnsafeSQLError: if there is none, or it may not run.
    """
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    fence = _FENCE.search(text)
    code = fence[1] if fence else text
    found = _BEGINNING.search(code)
    if not found:
        raise UnsafeSQLError("The model wrote no SELECT.")
    if any(_OTHER.search(part) for part in code[: found.start()].split(";")[:-1]):
        raise UnsafeSQLError("Only a single SELECT may run; the model wrote more than that.")
    sql = found[0].strip().rstrip(";").strip()
    if len(sql) > MOST_SIGNS:
        raise UnsafeSQLError(f"The model's statement is longer than {MOST_SIGNS} signs.")
    if any(
        type(node).__name__ == "Placeholder"
        for node in validate(sql, schema.tables, dialect).walk()
    ):
        raise UnsafeSQLError("The model's statement leaves a value open.")
    return Statement(sql, (), dialect)


def _quoted(name: str) -> str:
    return name.replace('"', '""')
