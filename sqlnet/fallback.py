"""A language model for what one sketch can't say: joins, grouping, ordering.

The model sees the schema's names and types, never the rows. What it writes passes the same gate as
everything else (:func:`codegen.sqlnet.sql.validate`) and runs on the same read-only database. An
error of the gate or of the database is told to the model once, and it may try again. The result is
no more reliable than the model: it has no confidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from codegen.sqlnet.databases.base import DEFAULT_LIMITS, Limits, Rows
from codegen.sqlnet.errors import DatabaseError, UnsafeSQLError
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import Statement, validate

TRIES = 2
_MOST_TABLES = 40
_FENCE = re.compile(r"```(?:[a-z]*\n)?(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_BEGINNING = re.compile(r"\b(?:select|with)\b.*", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Written:
    """What a language model wrote.

    Attributes:
        statement: None if nothing that it wrote may run.
        rows: what the statement gave; None if there is no database, or it failed.
        failure: why there is no statement or there are no rows.
    """

    statement: Statement | None
    rows: Rows | None = None
    failure: str = ""


def write(
    question: str,
    schema: Schema,
    complete: Callable[[str], str],
    limits: Limits = DEFAULT_LIMITS,
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
        written = _tried(text, schema, dialect, limits)
        if not written.failure:
            break
        prompt = (
            f"{prompt_of(question, schema, dialect)}\n\nYou wrote:\n{text.strip()[:2000]}\n\n"
            f"That failed: {written.failure}\nWrite a corrected statement."
        )
    return written


def _tried(text: str, schema: Schema, dialect: str, limits: Limits) -> Written:
    try:
        statement = statement_from(text, schema, dialect)
    except UnsafeSQLError as error:
        return Written(None, failure=str(error))
    if schema.database is None:
        return Written(statement)
    try:
        return Written(statement, schema.database.execute(statement, limits))
    except DatabaseError as error:
        return Written(statement, failure=str(error))


def prompt_of(question: str, schema: Schema, dialect: str) -> str:
    """The question and the schema as a prompt."""
    lines = []
    for table in schema.tables[:_MOST_TABLES]:
        columns = ", ".join(
            f'"{_quoted(column.name)}" {"REAL" if column.type == "real" else "TEXT"}'
            for column in table.columns
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


def statement_from(text: str, schema: Schema, dialect: str) -> Statement:
    """The statement in a model's answer: in a code fence, or from the first SELECT or WITH on.

    Raises:
        UnsafeSQLError: if there is none, or it may not run.
    """
    text = _THOUGHTS.sub("", text)
    fence = _FENCE.search(text)
    found = _BEGINNING.search(fence[1] if fence else text)
    if not found:
        raise UnsafeSQLError("The model wrote no SELECT.")
    sql = found[0].strip().rstrip(";").strip()
    validate(sql, schema, dialect)
    return Statement(sql, (), dialect)


def _quoted(name: str) -> str:
    return name.replace('"', '""')
