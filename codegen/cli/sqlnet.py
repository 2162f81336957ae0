"""``codegen sqlnet``: queries a database in English; trains and scores the model for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from codegen.cli import CommandGroup
from codegen.cli.clients import EndpointOptions, SqlGrammar, check_model, sql_writer
from codegen.cli.options import command, options, print_result
from codegen.core.config import Config, keyed, setting
from codegen.core.errors import ConfigError
from codegen.core.terminal import echo, one_line

if TYPE_CHECKING:
    from codegen.sqlnet import Schema, Statement
    from codegen.sqlnet.databases import ResultSet, StatementLimits
    from codegen.sqlnet.fallback import GeneratedQuery
    from codegen.sqlnet.parser import Parse


@click.group(
    cls=CommandGroup,
    lazy={
        "train": ("codegen.cli.sqltrain:train", "Train a model on questions with SQL."),
        "eval": ("codegen.cli.sqltrain:evaluate", "Score a model on questions with SQL."),
        "plans": ("codegen.cli.sqltrain:plans", "Make training questions for several tables."),
        "train-plans": ("codegen.cli.sqltrain:train_plans", "Train a model for several tables."),
    },
)
def sqlnet() -> None:
    """Query a database or a file of tables in English, read-only."""


sqlnet_command = partial(command, group=sqlnet)


class AskOptions(Config):
    """Options of ``codegen sqlnet ask``."""

    model: str | None = setting(
        None, "Directory of a trained model.", metavar="DIR", shown="the package's model"
    )
    layer: str | None = setting(
        None,
        "YAML file of synonyms, joins, values and measures; `sqlnet describe` writes a template.",
        metavar="FILE",
    )
    table: str | None = setting(None, "Table to query.", metavar="NAME", shown="any")
    no_run: bool = setting(False, "Print the SQL without running it.")
    rows: int = setting(20, "Maximum number of rows to show.", ge=1)
    min_confidence: float | None = setting(
        None,
        "Minimum confidence of an answer; 0 always answers.",
        shown="the model's",
        ge=0,
        le=1,
    )
    explain: bool = setting(False, "Show how each word of the question was understood.")
    llm: str | None = setting(
        None,
        "Fallback model that writes SQL if the sketch fails: embedded, a directory, a hub id, a "
        "GGUF file, an endpoint, or a model name at --endpoint.",
        metavar="MODEL",
    )
    llm_samples: int = keyed(
        5,
        "Number of statements that the model writes; their most frequent result is the answer.",
        ge=1,
        le=32,
    )
    llm_grammar: SqlGrammar = keyed(
        "auto",
        "Constrain the model to the grammar of allowed SQL: auto (only if it runs on this "
        "machine), decoder, a server's own option (llama.cpp, vllm), or none.",
    )
    dialect: str = keyed("", "Show the SQL in this sqlglot dialect.", shown="the database's")
    may_write: bool = keyed(False, "Accept a database role that may write; nothing is written.")
    timeout: float = keyed(5.0, "Time limit for one statement in seconds.", gt=0)


@sqlnet_command(
    short_help="Ask a database a question.",
    example='codegen sqlnet ask shop.db "which city does Ann Lee live in?"',
)
@click.argument("database", type=click.Path())
@click.argument("question")
@options(AskOptions, "given")
@options(EndpointOptions, "server", heading="Server of --llm")
def ask(database: str, question: str, given: AskOptions, server: EndpointOptions) -> dict[str, Any]:
    """Answer QUESTION, in English, from DATABASE.

    DATABASE is a SQLite, DuckDB, Parquet, .csv or .tsv file, or a server: postgresql://USER@HOST/DB
    or mysql://USER@HOST/DB, its password in PGPASSWORD or MYSQL_PWD.

    Only a single SELECT on its tables can run. The exit code is 1 if no answer is reliable.
    """
    from codegen.sqlnet.databases import StatementLimits
    from codegen.sqlnet.schema import Schema, SemanticLayer
    from codegen.sqlnet.sql import check_dialect

    if given.dialect:
        check_dialect(given.dialect)
    of_llm = {"llm_samples", "llm_grammar"} & given.model_fields_set
    if of_llm and not given.llm:
        raise ConfigError("llm_samples and llm_grammar require --llm.", "Add --llm MODEL.")
    if server.model_fields_set and not given.llm:
        raise ConfigError(f"{server.given()} requires --llm.", "Pass the server's model as --llm.")
    if given.llm:
        check_model(given.llm, server)
    limits = StatementLimits(given.timeout, given.rows)
    schema = Schema.open(database, may_write=given.may_write)
    if given.layer:
        layer = SemanticLayer.read(given.layer)
        schema = layer.apply(schema)
        if found := layer.measure(question, schema):
            return _measured(question, *found, schema, limits)

    import torch

    from codegen.sqlnet.parser import SQLNet

    torch.set_num_threads(1)
    parse = SQLNet.from_pretrained(given.model).parse(
        question,
        schema,
        table=given.table,
        top_k=1,
        execute=not given.no_run,
        min_confidence=given.min_confidence,
        limits=limits,
    )
    dialect = given.dialect or schema.database.dialect if schema.database else given.dialect
    if given.llm and parse.abstained:
        return _ask_model(parse, schema, given, server, limits)
    print_result("\n".join(_lines(parse, dialect, given)))
    return _row(parse, dialect)


def _measured(
    question: str,
    name: str,
    statement: Statement,
    schema: Schema,
    limits: StatementLimits,
) -> dict[str, Any]:
    """Answers the question with a measure from the layer file."""
    assert schema.database
    rows = schema.database.execute(statement, limits)
    print_result(f"Asked       the measure {one_line(name)}")
    print_result("\n".join([*statement_lines(statement), "", *table_lines(rows)]))
    return {
        "ok": True,
        "by": "measure",
        "question": question,
        "asked": name,
        **statement_row(statement),
        "answer": rows_row(rows),
    }


def _ask_model(
    parse: Parse,
    schema: Schema,
    given: AskOptions,
    server: EndpointOptions,
    limits: StatementLimits,
) -> dict[str, Any]:
    """Requests the SQL from a language model."""
    from codegen.sqlnet.fallback import gbnf_of, write
    from codegen.sqlnet.plan_features import LinkedSchema

    gbnf, linked = gbnf_of(schema.tables), LinkedSchema(schema.tables, schema.database)
    with sql_writer(given.llm or "", server, gbnf, given.llm_grammar) as complete:
        echo("The SQL sketch has no answer; requesting one from the language model.", err=True)
        samples = given.llm_samples
        written = write(parse.question, schema, complete, limits, samples=samples, linked=linked)
    print_result("\n".join(_written_lines(parse, written)))
    return {
        "ok": not written.failure,
        "by": "llm",
        "question": parse.question,
        "why": parse.abstained,
        **statement_row(written.statement),
        "answer": rows_row(written.rows),
        "failure": written.failure,
        "written": written.text,
        "votes": written.votes,
        "samples": written.samples,
    }


def _row(parse: Parse, dialect: str) -> dict[str, Any]:
    best = parse.best
    return {
        "ok": not parse.abstained and not parse.failure,
        "by": "sqlnet",
        "question": parse.question,
        "asked": best.sentence,
        "table": best.table.name,
        "query": best.query.to_row(),
        **statement_row(parse.statement(dialect)),
        "confidence": round(parse.confidence, 4),
        "slots": [
            {"slot": slot.name, "content": slot.content, "confidence": round(slot.confidence, 4)}
            for slot in parse.slots
        ],
        "links": [
            {"column": link.column, "said": link.said, "found": link.found} for link in best.links
        ],
        "others": [
            {
                "asked": reading.sentence,
                "query": reading.query.to_row(),
                **statement_row(reading.statement(dialect)),
                "confidence": round(reading.confidence, 4),
            }
            for reading in parse.readings[1:]
        ],
        "abstained": parse.abstained,
        "reasons": [{"code": doubt.code, "text": doubt.text} for doubt in parse.doubts],
        "words": [{"word": word, "taken_for": part} for word, part in parse.words],
        "notes": list(parse.notes),
        "answer": None if parse.abstained else rows_row(parse.rows),
        "failure": parse.failure,
    }


def statement_row(statement: Statement | None) -> dict[str, Any]:
    """Returns a statement for the JSON summary."""
    if statement is None:
        return {"sql": None, "parameters": [], "dialect": None}
    return {
        "sql": statement.text,
        "parameters": list(statement.parameters),
        "dialect": statement.dialect,
    }


def rows_row(rows: ResultSet | None) -> dict[str, Any] | None:
    """Returns rows for the JSON summary."""
    if rows is None:
        return None
    return {
        "columns": list(rows.columns),
        "rows": [[_json_value(value) for value in row] for row in rows.rows],
        "cut": rows.cut,
    }


def _json_value(value: Any) -> Any:
    """Converts values that JSON lacks to strings (dates, decimals, bytes, infinities)."""
    plain = isinstance(value, (str, int, bool)) or value is None
    finite = isinstance(value, float) and abs(value) < float("inf")
    return value if plain or finite else str(value)


def _lines(parse: Parse, dialect: str, given: AskOptions) -> Iterator[str]:
    best = parse.best
    slots = ", ".join(f"{slot.name} {slot.confidence:.2f}" for slot in parse.slots)
    label = "Best guess" if parse.abstained else "Asked"
    yield f"{label:<12}{one_line(best.sentence, 300)}"
    yield f"Table       {one_line(best.table.name)}"
    yield from statement_lines(parse.statement(dialect))
    yield f"Confidence  {parse.confidence:.2f} ({slots})"
    for link in best.links:
        yield f"Value       {one_line(link.said)} was matched to {one_line(link.found)}"
    if given.explain:
        for word, part in parse.words:
            yield f"Word        {one_line(word)}: {one_line(part) or 'not understood'}"
        for doubt in parse.doubts[1:]:
            yield f"Doubt       {one_line(doubt.text, 200)}"
    for note in parse.notes:
        yield f"Note        {one_line(note, 200)}"
    for number, reading in enumerate(parse.readings[1:], 2):
        statement = reading.statement(dialect)
        yield f"Alternative {number} {reading.confidence:.2f}  {one_line(reading.sentence, 300)}"
        yield f"            {one_line(statement.text, 200)}"
        yield f"            {_values(statement)}"
    yield ""
    if parse.abstained:
        yield f"No answer: {one_line(parse.abstained, 600)}"
        yield "Add --min-confidence 0 to answer anyway, or --llm MODEL to have a model write it."
    elif parse.failure:
        yield f"No answer: {parse.failure}"
    elif parse.rows is not None:
        yield from table_lines(parse.rows)


def _written_lines(parse: Parse, written: GeneratedQuery) -> Iterator[str]:
    from codegen.sqlnet.fallback import MOST_SHOWN

    yield f"The SQL sketch has no answer: {parse.abstained}"
    if written.statement:
        yield "The SQL below was written by a language model and may be wrong."
        if written.samples > 1:
            yield f"Votes       {written.votes} of {written.samples} statements return this result"
        yield from statement_lines(written.statement)
    elif written.text:
        yield f"The language model wrote: {one_line(written.text, MOST_SHOWN)}"
    yield ""
    if written.failure:
        yield f"No answer: {one_line(written.failure, 300)}"
    elif written.rows is not None:
        yield from table_lines(written.rows)


def statement_lines(statement: Statement) -> Iterator[str]:
    """Yields a statement and its values for the terminal."""
    yield f"SQL         {one_line(statement.text, 2000)}"
    if statement.parameters:
        yield f"Values      {_values(statement)}"


def _values(statement: Statement) -> str:
    return ", ".join(one_line(repr(value)) for value in statement.parameters)


def table_lines(rows: ResultSet) -> Iterator[str]:
    """Yields the rows in columns; numbers are right-aligned."""
    if not rows.rows:
        yield "(no rows)"
        return
    cells = [[one_line(name) for name in rows.columns]]
    cells += [["NULL" if v is None else one_line(str(v)) for v in row] for row in rows.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    numeric = [
        all(isinstance(row[i], (int, float)) for row in rows.rows) for i in range(len(widths))
    ]
    for number, row in enumerate(cells):
        aligned = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        )
        yield "  ".join(aligned).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)
    if rows.cut:
        yield f"... and more; raise --rows to see more than {len(rows.rows)}."


class DescribeOptions(Config):
    """Options of ``codegen sqlnet describe``."""

    out: str | None = setting(None, "File to write.", metavar="FILE", shown="standard output")
    may_write: bool = keyed(False, "Accept a database role that may write; nothing is written.")


@sqlnet_command(
    short_help="Write a file in which to add synonyms for a database.",
    example="codegen sqlnet describe shop.db --out shop.yaml",
)
@click.argument("database", type=click.Path())
@options(DescribeOptions, "given")
def describe(database: str, given: DescribeOptions) -> dict[str, Any]:
    """Write the tables of DATABASE as a YAML file for `sqlnet ask --layer`.

    The file lists tables, columns and guessed joins. Add the words that users use for them.
    """
    from codegen.core.records import write_new
    from codegen.sqlnet.schema import Schema
    from codegen.sqlnet.schema import describe as described

    text = described(Schema.open(database, may_write=given.may_write))
    if given.out:
        write_new(given.out, text)
    else:
        echo(text.rstrip())
    return {"out": given.out, "layer": text}
