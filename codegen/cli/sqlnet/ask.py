"""``codegen sqlnet ask``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option
from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.sqlnet import Schema, Statement
    from codegen.sqlnet.databases import Rows, StatementLimits
    from codegen.sqlnet.fallback import Written
    from codegen.sqlnet.parser import Parse

_WIDEST = 60  # signs of a cell that are shown
_ANSWER = 4000  # tokens of a model on a server, which may think before it answers
_LOCAL_ANSWER = 400


def _aliases(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    for value in values:
        if not all(value.partition("=")[::2]):
            raise click.BadParameter(f"{value!r} is not COLUMN=NAME")
    return dict(value.split("=", 1) for value in values)


@click.command(
    epilog=example('codegen sqlnet ask shop.db "which city does Ann Lee live in?"'),
)
@click.argument("database", type=click.Path())
@click.argument("question")
@click.option("--table", metavar="NAME", help="Ask this table; by default the most probable one.")
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="COLUMN=NAME",
    callback=_aliases,
    help="What people call a column (or TABLE.COLUMN).",
)
@click.option("--model", metavar="DIR", help="A trained model; by default that of the package.")
@click.option("--encoder", metavar="DIR", help="Where the model's encoder lies, if it was moved.")
@click.option("--top", type=click.IntRange(1, 20), default=1, help="Show so many readings.")
@click.option(
    "--dialect", default="", metavar="NAME", help="Show the SQL in this dialect of sqlglot's."
)
@click.option("--no-run", is_flag=True, help="Only write the SQL: read no row.")
@click.option("--no-link", is_flag=True, help="Take values as the question has them.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=None,
    help="Give no answer below this.  [default: 0.2]",
)
@click.option("--attention", is_flag=True, help="Show which words each column looked at.")
@click.option("--rows", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True,
    help="Seconds that one statement may take.",
)  # fmt: skip
@click.option(
    "--llm",
    metavar="MODEL",
    help="Where a sketch is not enough, have this model write the SQL: embedded, a path or hub id"
    " or, with --endpoint, its name there.",
)
@click.option("--endpoint", metavar="URL", help="OpenAI-compatible server, http://host/v1.")
@click.option("--api-key-env", default="", help="Environment variable with the API key.")
@json_option
def ask(
    database: str,
    question: str,
    table: str | None,
    aliases: dict[str, str],
    model: str | None,
    encoder: str | None,
    top: int,
    dialect: str,
    no_run: bool,
    no_link: bool,
    min_confidence: float | None,
    attention: bool,
    rows: int,
    timeout: float,
    llm: str | None,
    endpoint: str | None,
    api_key_env: str,
    as_json: bool,
) -> dict[str, Any]:
    """Ask DATABASE (SQLite, DuckDB, .csv or .tsv) a QUESTION in English.

    Nothing but a single SELECT on its tables can run. Without an answer that can be trusted the
    exit code is 1.
    """
    if endpoint and not llm:
        raise ConfigError("--endpoint is given without --llm.", "Name its model with --llm.")
    from codegen.sqlnet.databases import StatementLimits
    from codegen.sqlnet.schema import Schema
    from codegen.sqlnet.sql import check_dialect

    if dialect:
        check_dialect(dialect)
    limits = StatementLimits(timeout, rows)
    schema = Schema.open(database).with_aliases(aliases)

    import torch

    from codegen.sqlnet.parser import MIN_CONFIDENCE, SQLNet

    torch.set_num_threads(1)
    parse = SQLNet.from_pretrained(model, encoder).parse(
        question,
        schema,
        table=table,
        top_k=top,
        execute="never" if no_run else "guided",
        link_values=not no_link,
        min_confidence=MIN_CONFIDENCE if min_confidence is None else min_confidence,
        limits=limits,
    )
    shown = dialect or schema.database.dialect if schema.database else dialect
    if llm and parse.abstained:
        return _asked_model(parse, schema, _writer(llm, endpoint, api_key_env), limits, as_json)
    if not as_json:
        click.echo("\n".join(_lines(parse, shown, attention)))
    return _row(parse, shown)


def _asked_model(
    parse: Parse, schema: Schema, complete: Any, limits: StatementLimits, as_json: bool
) -> dict[str, Any]:
    """Has a language model write the SQL."""
    from codegen.sqlnet.fallback import write

    click.echo("The sketch gives no answer: asking the language model.", err=True)
    written = write(parse.question, schema, complete, limits)
    if not as_json:
        click.echo("\n".join(_written_lines(parse, written)))
    return {
        "ok": not written.failure,
        "by": "llm",
        "question": parse.question,
        "why": parse.abstained,
        **_statement_row(written.statement),
        "answer": _rows_row(written.rows),
        "failure": written.failure,
    }


def _writer(model: str, endpoint: str | None, api_key_env: str) -> Any:
    """A function from a prompt to the model's answer."""
    from codegen.generation.asking import Answer, Ask
    from codegen.generation.endpoint import EndpointClient
    from codegen.generation.endpoint_settings import Endpoint
    from codegen.generation.local_model import LocalClient, LocalModel

    if endpoint:
        client = EndpointClient(Endpoint(endpoint, model, api_key_env))
    else:
        client = LocalClient(LocalModel(model))

    def complete(prompt: str) -> str:
        (answer,) = client.ask_many(
            [Ask(prompt, max_tokens=_ANSWER if endpoint else _LOCAL_ANSWER)]
        )
        if not isinstance(answer, Answer):
            raise answer
        return answer.text

    return complete


def _row(parse: Parse, dialect: str) -> dict[str, Any]:
    best = parse.best
    return {
        "ok": not parse.abstained and not parse.failure,
        "by": "sqlnet",
        "question": parse.question,
        "table": best.table.name,
        "query": best.query.to_row(),
        **_statement_row(parse.statement(dialect)),
        "confidence": round(parse.confidence, 4),
        "slots": [
            {"slot": slot.name, "content": slot.content, "confidence": round(slot.confidence, 4)}
            for slot in parse.slots
        ],
        "links": [
            {"column": link.column, "said": link.said, "found": link.found} for link in best.links
        ],
        "attention": {
            name: [[text, round(weight, 4)] for text, weight in weights]
            for name, weights in parse.attention.items()
        },
        "others": [
            {
                "query": reading.query.to_row(),
                **_statement_row(reading.statement(dialect)),
                "confidence": round(reading.confidence, 4),
            }
            for reading in parse.readings[1:]
        ],
        "tables": [
            {"table": item.table.name, "probability": round(item.probability, 4)}
            for item in parse.tables
        ],
        "abstained": parse.abstained,
        "notes": list(parse.notes),
        "answer": None if parse.abstained else _rows_row(parse.rows),
        "failure": parse.failure,
    }


def _statement_row(statement: Statement | None) -> dict[str, Any]:
    if statement is None:
        return {"sql": None, "parameters": [], "dialect": None}
    return {
        "sql": statement.text,
        "parameters": list(statement.parameters),
        "dialect": statement.dialect,
    }


def _rows_row(rows: Rows | None) -> dict[str, Any] | None:
    if rows is None:
        return None
    return {
        "columns": list(rows.columns),
        "rows": [[_json_value(value) for value in row] for row in rows.rows],
        "cut": rows.cut,
    }


def _json_value(value: Any) -> Any:
    """What JSON has no word for (days, decimals, bytes, infinities) as text."""
    plain = isinstance(value, (str, int, bool)) or value is None
    finite = isinstance(value, float) and abs(value) < float("inf")
    return value if plain or finite else str(value)


def _lines(parse: Parse, dialect: str, attention: bool) -> Iterator[str]:
    best = parse.best
    slots = ", ".join(f"{slot.name} {slot.confidence:.2f}" for slot in parse.slots)
    yield f"Table       {_shown(best.table.name)}"
    yield from _statement_lines(parse.statement(dialect))
    yield f"Confidence  {parse.confidence:.2f} ({slots})"
    for link in best.links:
        yield f"Value       {_shown(link.said)} was taken for {_shown(link.found)}"
    if attention:
        for name, weights in parse.attention.items():
            words = " ".join(f"{_shown(text)}:{weight:.2f}" for text, weight in weights)
            yield f"Looked at   {_shown(name)}: {words}"
    for note in parse.notes:
        yield f"Note        {_shown(note)}"
    for number, reading in enumerate(parse.readings[1:], 2):
        statement = reading.statement(dialect)
        yield f"Reading {number}   {reading.confidence:.2f}  {_shown(statement.text, 200)}"
        yield f"            {_values(statement)}"
    yield ""
    if parse.abstained:
        yield f"No answer: {parse.abstained}"
        yield "With --min-confidence 0 low confidence is no obstacle; --llm MODEL asks a model."
    elif parse.failure:
        yield f"No answer: {parse.failure}"
    elif parse.rows is not None:
        yield from _table(parse.rows)


def _written_lines(parse: Parse, written: Written) -> Iterator[str]:
    yield f"The sketch gave no answer: {parse.abstained}"
    yield "What follows was written by a language model, and is as reliable as it is."
    if written.statement:
        yield from _statement_lines(written.statement)
    yield ""
    if written.failure:
        yield f"No answer: {_shown(written.failure, 300)}"
    elif written.rows is not None:
        yield from _table(written.rows)


def _statement_lines(statement: Statement) -> Iterator[str]:
    yield f"SQL         {_shown(statement.text, 2000)}"
    if statement.parameters:
        yield f"Values      {_values(statement)}"


def _values(statement: Statement) -> str:
    return ", ".join(_shown(repr(value)) for value in statement.parameters)


def _table(rows: Rows) -> Iterator[str]:
    """The rows in columns; numbers to the right."""
    if not rows.rows:
        yield "(no rows)"
        return
    cells = [[_shown(name) for name in rows.columns]]
    cells += [["NULL" if v is None else _shown(str(v)) for v in row] for row in rows.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    numeric = [
        all(isinstance(row[i], (int, float)) for row in rows.rows) for i in range(len(widths))
    ]
    for number, row in enumerate(cells):
        yield "  ".join(_aligned(row, widths, numeric)).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)
    if rows.cut:
        yield f"... and more; --rows shows more than {len(rows.rows)}."


def _aligned(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> Iterator[str]:
    for text, width, right in zip(row, widths, numeric, strict=True):
        yield text.rjust(width) if right else text.ljust(width)


def _shown(text: str, most: int = _WIDEST) -> str:
    """Text of a stranger's database must not move the cursor; long text is cut."""
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return plain if len(plain) <= most else plain[: most - 1] + "…"
