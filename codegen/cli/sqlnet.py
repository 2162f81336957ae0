"""``codegen sqlnet``: query a database in English; train and score the model for it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from codegen.cli import Group
from codegen.cli.clients import EndpointOptions, SqlGrammar, check_model, sql_writer
from codegen.cli.options import command, options
from codegen.cli.planning import needs, size_of, with_plan
from codegen.config import Config, setting
from codegen.errors import ConfigError, InputError, plural
from codegen.terminal import Progress, echo, one_line

if TYPE_CHECKING:
    from codegen.sqlnet import Schema, Statement
    from codegen.sqlnet.databases import Rows, StatementLimits
    from codegen.sqlnet.databases.files import Database
    from codegen.sqlnet.examples import Labelled
    from codegen.sqlnet.fallback import Written
    from codegen.sqlnet.parser import Parse
    from codegen.sqlnet.training import TrainingConfig
    from codegen.sqlnet.vectors import ContextEncoder, WordVectors

_RANDOM_WIDTH = 50
_HIDDEN = {"shared": 200, "paper": 100}
_PLANNED_STEPS, _PLANNED_QUESTIONS = 12, 256  # that `sqlnet train --plan` takes and scores, at most


@click.group(
    cls=Group,
    lazy={
        "chat": ("codegen.cli.sqlchat:chat", "Ask a database questions that refer to one another."),
        "plans": ("codegen.cli.sqlplans:plans", "Make training questions for several tables."),
        "train-plans": ("codegen.cli.sqlplans:train_plans", "Train a model for several tables."),
    },
)
def sqlnet() -> None:
    """Query a database or a file of tables in English; it is only read."""


class ReadOptions(Config):
    """How a database is read."""

    layer: str | None = setting(
        None,
        "YAML file of synonyms, joins, values and measures; `sqlnet describe` writes a first one.",
        metavar="FILE",
    )
    may_write: bool = setting(False, "Accept a database role that may write; nothing is written.")
    rows: int = setting(20, "Maximum number of rows to show.", ge=1)
    timeout: float = setting(5.0, "Time limit for one statement in seconds.", gt=0)

    def limits(self) -> StatementLimits:
        """The limits of each statement."""
        from codegen.sqlnet.databases import StatementLimits

        return StatementLimits(self.timeout, self.rows)


class TrainedOptions(Config):
    """Which model turns questions into SQL sketches."""

    model: str | None = setting(
        None, "A trained model.", metavar="DIR", shown="the package's model"
    )
    encoder: str | None = setting(
        None, "Directory of the model's encoder, if it was moved.", metavar="DIR"
    )


class AskOptions(ReadOptions, TrainedOptions):
    """The options of ``codegen sqlnet ask``."""

    table: str | None = setting(
        None, "Table to query.", metavar="NAME", shown="the most probable one"
    )
    alias: dict[str, Any] = setting(
        {},
        "Another name that people use for a column (or TABLE.COLUMN). Repeatable.",
        metavar="COLUMN=NAME",
    )
    top: int = setting(1, "Number of interpretations to show.", ge=1, le=20)
    dialect: str = setting(
        "", "Show the SQL in this sqlglot dialect.", metavar="NAME", shown="the database's"
    )
    no_run: bool = setting(False, "Only write the SQL; read no rows.")
    no_link: bool = setting(False, "Use values exactly as in the question.")
    min_confidence: float | None = setting(
        None,
        "Give no answer below this confidence; 0 always answers.",
        shown="the model's",
        ge=0,
        le=1,
    )
    strict: bool = setting(False, "Give no answer if any word of the question was not used.")
    explain: bool = setting(False, "Show how each word of the question was understood.")
    attention: bool = setting(False, "Show which words each column attends to.")
    llm: str | None = setting(
        None,
        "Where the SQL sketch is not enough, have this model write the SQL: embedded, a "
        "directory, a hub id, a GGUF file or an endpoint, or with --endpoint its name there.",
        metavar="MODEL",
    )
    llm_samples: int = setting(
        5,
        "Statements that the model writes; their most frequent result is the answer.",
        ge=1,
        le=32,
    )
    llm_grammar: SqlGrammar = setting(
        "auto",
        "How the model is constrained to the grammar of allowed SQL: auto (only if it runs on this "
        "machine), decoder, a server's own option (llama.cpp, vllm), or none.",
    )


@command(
    group=sqlnet,
    short_help="Ask a database a question.",
    example='codegen sqlnet ask shop.db "which city does Ann Lee live in?"',
)
@click.argument("database", type=click.Path())
@click.argument("question")
@options(AskOptions, "given")
@options(EndpointOptions, "server")
def ask(
    database: str, question: str, given: AskOptions, server: EndpointOptions, as_json: bool
) -> dict[str, Any]:
    """Answer QUESTION, in English, from DATABASE.

    DATABASE is a SQLite, DuckDB, Parquet, .csv or .tsv file, or a server: postgresql://USER@HOST/DB
    or mysql://USER@HOST/DB, its password in PGPASSWORD or MYSQL_PWD.

    Only a single SELECT on its tables can run. The exit code is 1 if there is no answer that can be
    trusted.
    """
    from codegen.sqlnet.layer import Layer
    from codegen.sqlnet.schema import Schema
    from codegen.sqlnet.sql import check_dialect

    if given.dialect:
        check_dialect(given.dialect)
    of_llm = {"llm_samples", "llm_grammar"} & given.model_fields_set
    if of_llm and not given.llm:
        raise ConfigError("--llm-samples and --llm-grammar require --llm.", "Name a model.")
    if server.model_fields_set and not given.llm:
        raise ConfigError(
            f"{server.given()} requires --llm.", "Name the server's model with --llm."
        )
    if given.llm:
        check_model(given.llm, server)
    limits = given.limits()
    aliases = {column: str(name) for column, name in given.alias.items()}
    schema = Schema.open(database, may_write=given.may_write).with_aliases(aliases)
    if given.layer:
        layer = Layer.read(given.layer)
        schema = layer.apply(schema)
        if found := layer.measure(question, schema):
            return _measured(question, *found, schema, limits, as_json)

    import torch

    from codegen.sqlnet.parser import SQLNet

    torch.set_num_threads(1)
    parse = SQLNet.from_pretrained(given.model, given.encoder).parse(
        question,
        schema,
        table=given.table,
        top_k=given.top,
        execute="never" if given.no_run else "guided",
        link_values=not given.no_link,
        min_confidence=given.min_confidence,
        strict=given.strict,
        limits=limits,
    )
    dialect = given.dialect or schema.database.dialect if schema.database else given.dialect
    if given.llm and parse.abstained:
        return _ask_model(parse, schema, given, server, limits, as_json)
    if parse.doubts and parse.doubts[0].code == "readings" and not as_json and _is_terminal():
        parse = _chosen(parse, schema, limits)
    if not as_json:
        echo("\n".join(_lines(parse, dialect, given)))
    return _row(parse, dialect)


def _measured(
    question: str,
    name: str,
    statement: Statement,
    schema: Schema,
    limits: StatementLimits,
    as_json: bool,
) -> dict[str, Any]:
    """Answers with a measure of the layer."""
    assert schema.database
    rows = schema.database.execute(statement, limits)
    if not as_json:
        echo(f"Asked       the measure {one_line(name)}")
        echo("\n".join([*statement_lines(statement), "", *table_lines(rows)]))
    return {
        "ok": True,
        "by": "measure",
        "question": question,
        "asked": name,
        **statement_row(statement),
        "answer": rows_row(rows),
    }


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _chosen(parse: Parse, schema: Schema, limits: StatementLimits) -> Parse:
    """Lets the user choose a reading; the parse with that one first."""
    from codegen.sqlnet.databases import DatabaseError

    for number, reading in enumerate(parse.readings, 1):
        echo(f"{number}  {one_line(reading.sentence, 200)}")
    chosen = click.prompt("Which one is meant", type=click.IntRange(1, len(parse.readings))) - 1
    best = parse.readings[chosen]
    others = tuple(reading for reading in parse.readings if reading is not best)
    rows, failure = parse.rows, ""
    if chosen and schema.database:
        try:
            rows = schema.database.execute(best.statement(schema.database.dialect), limits)
        except DatabaseError as error:
            rows, failure = None, str(error)
    return replace(parse, readings=(best, *others), doubts=(), rows=rows, failure=failure)


def _ask_model(
    parse: Parse,
    schema: Schema,
    given: AskOptions,
    server: EndpointOptions,
    limits: StatementLimits,
    as_json: bool,
) -> dict[str, Any]:
    """Has a language model write the SQL."""
    from codegen.sqlnet.fallback import write
    from codegen.sqlnet.grammar import gbnf_of
    from codegen.sqlnet.plan_features import LinkedSchema

    gbnf, linked = gbnf_of(schema.tables), LinkedSchema(schema.tables, schema.database)
    with sql_writer(given.llm or "", server, gbnf, given.llm_grammar) as complete:
        echo("The SQL sketch gives no answer; requesting one from the language model.", err=True)
        samples = given.llm_samples
        written = write(parse.question, schema, complete, limits, samples=samples, linked=linked)
    if not as_json:
        echo("\n".join(_written_lines(parse, written)))
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
        "attention": {
            name: [[text, round(weight, 4)] for text, weight in weights]
            for name, weights in parse.attention.items()
        },
        "others": [
            {
                "asked": reading.sentence,
                "query": reading.query.to_row(),
                **statement_row(reading.statement(dialect)),
                "confidence": round(reading.confidence, 4),
            }
            for reading in parse.readings[1:]
        ],
        "tables": [
            {"table": item.table.name, "probability": round(item.probability, 4)}
            for item in parse.tables
        ],
        "abstained": parse.abstained,
        "reasons": [{"code": doubt.code, "text": doubt.text} for doubt in parse.doubts],
        "words": [{"word": word, "taken_for": part} for word, part in parse.words],
        "notes": list(parse.notes),
        "answer": None if parse.abstained else rows_row(parse.rows),
        "failure": parse.failure,
    }


def statement_row(statement: Statement | None) -> dict[str, Any]:
    """A statement in a JSON summary."""
    if statement is None:
        return {"sql": None, "parameters": [], "dialect": None}
    return {
        "sql": statement.text,
        "parameters": list(statement.parameters),
        "dialect": statement.dialect,
    }


def rows_row(rows: Rows | None) -> dict[str, Any] | None:
    """Rows in a JSON summary."""
    if rows is None:
        return None
    return {
        "columns": list(rows.columns),
        "rows": [[_json_value(value) for value in row] for row in rows.rows],
        "cut": rows.cut,
    }


def _json_value(value: Any) -> Any:
    """A value, as text where JSON has no such type (dates, decimals, bytes, infinities)."""
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
    if given.attention:
        for name, weights in parse.attention.items():
            words = " ".join(f"{one_line(text)}:{weight:.2f}" for text, weight in weights)
            yield f"Attended to {one_line(name)}: {words}"
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
        yield "--min-confidence 0 answers anyway; --llm MODEL has a language model write the SQL."
    elif parse.failure:
        yield f"No answer: {parse.failure}"
    elif parse.rows is not None:
        yield from table_lines(parse.rows)


def _written_lines(parse: Parse, written: Written) -> Iterator[str]:
    from codegen.sqlnet.fallback import MOST_SHOWN

    yield f"The SQL sketch gave no answer: {parse.abstained}"
    if written.statement:
        yield "The SQL below was written by a language model and may be wrong."
        if written.samples > 1:
            yield f"Votes       {written.votes} of {written.samples} statements give this result"
        yield from statement_lines(written.statement)
    elif written.text:
        yield f"The language model wrote: {one_line(written.text, MOST_SHOWN)}"
    yield ""
    if written.failure:
        yield f"No answer: {one_line(written.failure, 300)}"
    elif written.rows is not None:
        yield from table_lines(written.rows)


def statement_lines(statement: Statement) -> Iterator[str]:
    """A statement and its values for the terminal."""
    yield f"SQL         {one_line(statement.text, 2000)}"
    if statement.parameters:
        yield f"Values      {_values(statement)}"


def _values(statement: Statement) -> str:
    return ", ".join(one_line(repr(value)) for value in statement.parameters)


def table_lines(rows: Rows) -> Iterator[str]:
    """The rows in columns; numbers to the right."""
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
    """The options of ``codegen sqlnet describe``."""

    out: str | None = setting(None, "File to write.", metavar="FILE", shown="standard output")
    may_write: bool = setting(False, "Accept a database role that may write; nothing is written.")


@command(
    group=sqlnet,
    short_help="Write a first file of synonyms for a database.",
    example="codegen sqlnet describe shop.db --out shop.yaml",
)
@click.argument("database", type=click.Path())
@options(DescribeOptions, "given")
def describe(database: str, given: DescribeOptions, as_json: bool) -> dict[str, Any]:
    """Write the tables of DATABASE as a YAML file for `sqlnet ask --layer`.

    The file lists tables, columns and guessed joins. Add the words that people use for them.
    """
    from codegen.records import write_new
    from codegen.sqlnet.layer import describe as described
    from codegen.sqlnet.schema import Schema

    text = described(Schema.open(database, may_write=given.may_write))
    if given.out:
        write_new(given.out, text)
    elif not as_json:
        echo(text.rstrip())
    return {"out": given.out, "layer": text}


class TrainOptions(Config):
    """The options of ``codegen sqlnet train``."""

    out: str = setting(..., "Directory for the model.", metavar="DIR")
    vectors: str | None = setting(
        None, "Word vectors: .npz, or GloVe's or word2vec's text format.", metavar="FILE"
    )
    encoder: str | None = setting(
        None,
        "A local sentence-transformer or other encoder whose contextual word vectors are an "
        "additional input. It is not trained, and the model requires it later.",
        metavar="DIR",
    )
    max_words: int = setting(50_000, "Vectors to keep besides those of the questions' words.", ge=1)
    dev_questions: str | None = setting(
        None, "Questions that select the best epoch.", metavar="FILE"
    )
    dev_tables: str | None = setting(None, "Tables of --dev-questions.", metavar="FILE")
    held_out: float = setting(
        0.04, "Without --dev-questions: share of the tables held out instead.", gt=0, le=0.9
    )
    layout: Literal["shared", "paper"] = setting(
        "shared",
        "shared: encoders that read each other, and span pointers. paper: the paper's twelve "
        "encoders.",
    )
    hidden: int | None = setting(None, "Width of the hidden states.", shown="200; paper: 100")
    dropout: float = setting(0.3, "Dropout rate.")
    epochs: int = setting(12, "Maximum number of epochs.")
    batch_size: int = setting(64, "Questions per step.")
    learning_rate: float = setting(2e-3, "Learning rate.")
    alpha: float | None = setting(
        None, "Weight of columns that appear in a condition.", shown="1; paper: 3"
    )
    frozen_epochs: int = setting(0, "Epochs before the word vectors are trained too.")
    patience: int = setting(4, "Epochs without improvement before training stops.")
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "auto: bfloat16 where the processor computes it fast."
    )
    seed: int = setting(0, "Random seed.", ge=0)
    limit: int | None = setting(None, "Use only this many questions.", ge=1)

    def _check(self) -> None:
        if (self.dev_questions is None) != (self.dev_tables is None):
            raise ConfigError("--dev-questions and --dev-tables belong together.", "Give both.")
        if self.encoder and self.layout != "shared":
            raise ConfigError(
                f"The layout {self.layout} does not use an encoder.", "Leave --encoder out."
            )


class _Prepared(NamedTuple):
    config: TrainingConfig
    table: WordVectors
    items: list[Labelled]
    development: list[Labelled]
    databases: Mapping[str, Database] | None
    encoder: ContextEncoder | None


def _prepared(questions: str, tables: str, given: TrainOptions) -> _Prepared:
    """What training is called with."""
    import torch

    from codegen.sqlnet.examples import label, read_questions, read_tables, split_by_table
    from codegen.sqlnet.metrics import databases_of
    from codegen.sqlnet.network import NetworkConfig
    from codegen.sqlnet.training import TrainingConfig
    from codegen.sqlnet.vectors import ContextEncoder

    torch.set_num_threads(1)
    encoder = ContextEncoder.load(given.encoder) if given.encoder else None
    layout, alpha = given.layout, given.alpha
    hidden = given.hidden or _HIDDEN[layout]
    config = TrainingConfig(
        network=NetworkConfig(layout, hidden, given.dropout, encoder.config if encoder else None),
        epochs=given.epochs,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        alpha=alpha if alpha is not None else (3.0 if layout == "paper" else 1.0),
        frozen_epochs=given.frozen_epochs,
        precision=_precision(given.precision),
        patience=given.patience,
        seed=given.seed,
    )
    held = read_tables(tables)
    items = label(read_questions(questions, held, given.limit))
    if given.dev_questions and given.dev_tables:
        held = read_tables(given.dev_tables)
        development = label(read_questions(given.dev_questions, held))
    else:
        items, development = split_by_table(items, given.held_out, given.seed)
    table = _vectors(given.vectors, items, given.max_words, given.seed)
    databases = databases_of(development, held)
    return _Prepared(config, table, items, development, databases, encoder)


def _train_needs(questions: str, tables: str, given: TrainOptions) -> dict[str, Any]:
    """What training needs, by a few steps and by scoring a few questions."""
    from codegen.sqlnet.metrics import predict
    from codegen.sqlnet.training import calibrated
    from codegen.sqlnet.training import train as run

    config, table, items, development, databases, encoder = _prepared(questions, tables, given)
    some, disk = development[:_PLANNED_QUESTIONS], 0
    with TemporaryDirectory(prefix="codegen-plan-") as folder, Progress("a few steps") as bar:
        part = Path(folder)

        def on_epoch(_: object) -> None:
            nonlocal disk
            disk = 2 * size_of(part)  # a state is written before the last one is deleted

        network = run(
            replace(config, epochs=1),
            table,
            items[: config.batch_size * _PLANNED_STEPS],
            some,
            part,
            encoder=encoder,
            on_epoch=on_epoch,
            on_step=bar.update,
        )
        began = monotonic()
        predict(network, some, greedy=True)
        scored = monotonic()
        calibrated(network, some, databases)
        ended = monotonic()
        steps = config.epochs * (len(items) // config.batch_size)
        seconds = None
        if bar.speed:
            each = config.epochs * (scored - began) + ended - scored
            seconds = steps / bar.speed + each * len(development) / len(some)
        return needs("steps", part, given.out, bar, steps, seconds=seconds, disk=disk)


@command(
    group=sqlnet,
    short_help="Train a model on questions with queries.",
    example="codegen sqlnet train train.jsonl train.tables.jsonl --out models/mine \\\n    "
    "--vectors glove.6B.50d.txt",
)
@click.argument("questions", type=click.Path())
@click.argument("tables", type=click.Path())
@options(TrainOptions, "given")
@with_plan(_train_needs)
def train(questions: str, tables: str, given: TrainOptions, as_json: bool) -> dict[str, Any]:
    """Train on QUESTIONS about TABLES, both in WikiSQL's format (JSON lines).

    Uses one thread. Run the same command again to resume an interrupted run.
    """
    from codegen.sqlnet.training import Epoch
    from codegen.sqlnet.training import train as run

    config, table, items, development, databases, encoder = _prepared(questions, tables, given)
    if encoder:
        with Progress("encoding") as progress:
            encoder.remember((item.question for item in (*items, *development)), progress.update)
    with Progress("training") as progress:

        def on_epoch(epoch: Epoch) -> None:
            losses = sum(epoch.losses.values())
            progress.say(
                f"epoch {epoch.epoch}: loss {losses:.3f}, query match"
                f" {100 * epoch.scores['query_match']:.1f} % of {len(development)}"
            )

        network = run(
            config,
            table,
            items,
            development,
            given.out,
            info={"questions": len(items), "held_out": len(development)},
            databases=databases,
            encoder=encoder,
            on_epoch=on_epoch,
            on_step=progress.update,
        )
    best = dict(network.info["best"])
    if not as_json:
        echo(", ".join(f"{name} {100 * value:.1f} %" for name, value in best.items()))
        echo(f"The model is in {given.out}; use it with: codegen sqlnet ask --model {given.out}")
    return {
        "out": given.out,
        "questions": len(items),
        "held_out": len(development),
        "parameters": network.parameters,
        "words": len(network.words),
        "precision": config.precision,
        "best": best,
        "calibration_error": network.info["calibration_error"],
    }


def _vectors(path: str | None, items: list[Labelled], most: int, seed: int) -> WordVectors:
    from codegen.sqlnet.examples import words_in
    from codegen.sqlnet.vectors import chosen_vectors, random_vectors, read_vectors

    words = words_in(items)
    if path is None:
        return random_vectors(words_in(items, least=2), _RANDOM_WIDTH, seed)
    return chosen_vectors(read_vectors(path), words, most)


def _precision(name: str) -> Literal["float32", "bfloat16"]:
    """float32 or bfloat16; the latter only where PyTorch can train with it."""
    import torch

    from codegen.models import pick_dtype
    from codegen.sqlnet.training import has_bfloat16_lstm

    if name == "bfloat16" and not has_bfloat16_lstm():
        echo("PyTorch has no bfloat16 LSTM for this CPU; training in float32.", err=True)
        return "float32"
    if name == "auto":
        name = "bfloat16" if pick_dtype("cpu") == torch.bfloat16 else "float32"
    return "bfloat16" if name == "bfloat16" else "float32"


_ABOUT = {
    "query_match": "the whole query, by WikiSQL's rule",
    "aggregate": "its aggregate",
    "select": "its SELECT column",
    "where": "its set of conditions",
    "number": "its number of conditions",
    "columns": "the set of their columns",
    "operators": "the operators, where the columns are correct",
    "values": "the values, where the columns are correct",
    "execution": "the result of the query",
}


class EvalOptions(TrainedOptions):
    """The options of ``codegen sqlnet eval``."""

    guided: bool = setting(False, "Choose among queries by executing them.")
    link: bool = setting(False, "With --guided: link values to those in the table.")
    greedy: bool = setting(False, "Fill slot by slot, as in the paper.")
    ask: bool = setting(
        False,
        "Ask as `sqlnet ask` does and count answers that are right, wrong, or not given. A folder "
        "of databases implies it.",
    )
    fit: str | None = setting(
        None,
        "With --ask: fit the confidence to half of the databases, keep it in this model's "
        "directory, and score on the other half.",
        metavar="DIR",
    )
    limit: int | None = setting(None, "Use only this many questions.", ge=1)

    def _check(self) -> None:
        if self.guided and self.greedy:
            raise ConfigError("--guided and --greedy exclude each other.", "Give one of them.")
        if self.link and not self.guided:
            raise ConfigError("--link requires --guided.", "Add --guided.")
        if self.ask and (self.guided or self.greedy):
            raise ConfigError(
                "--ask can't be combined with --guided or --greedy.", "Leave them out."
            )


@command(
    group=sqlnet,
    name="eval",
    short_help="Score a model on questions with queries.",
    example="codegen sqlnet eval dev.jsonl dev.tables.jsonl --guided",
)
@click.argument("questions", type=click.Path())
@click.argument("tables", type=click.Path())
@options(EvalOptions, "given")
def evaluate(questions: str, tables: str, given: EvalOptions, as_json: bool) -> dict[str, Any]:
    """Score a model on QUESTIONS about TABLES, both in WikiSQL's format (JSON lines).

    Executes the queries if the tables have rows. Shares have 95 % intervals. With a folder of
    databases in place of TABLES, each question names one by its db_id and holds the expected
    query, queries or answer; see the documentation.
    """
    import torch

    if given.ask or given.fit or Path(tables).is_dir():
        torch.set_num_threads(1)
        return _evaluate_asking(questions, tables, given, as_json)

    from codegen.evals.statistics import wilson
    from codegen.sqlnet.examples import label, read_questions, read_tables
    from codegen.sqlnet.metrics import databases_of, outcomes, predict, predict_guided, score
    from codegen.sqlnet.network import Network
    from codegen.sqlnet.parser import DEFAULT_MODEL
    from codegen.sqlnet.trust import calibration_error, join

    torch.set_num_threads(1)
    network = Network.load(given.model or DEFAULT_MODEL, given.encoder)
    held = read_tables(tables)
    items = label(read_questions(questions, held, given.limit))
    if not items:
        raise InputError(f"{questions} holds no questions.", "Give a file with at least one.")
    databases = databases_of(items, held)
    if given.guided and databases is None:
        raise ConfigError(f"{tables} holds no rows to execute queries on.", "Leave --guided out.")
    if given.guided and databases is not None:
        choices = predict_guided(network, items, databases, link=given.link)
        predicted = [choice.candidate.query for choice in choices]
    else:
        predicted = predict(network, items, greedy=given.greedy)
    scores = score(predicted, items, databases).to_row()
    n = len(items)
    intervals = {
        name: list(wilson(value, n))
        for name, value in scores.items()
        if name in _ABOUT and name not in ("operators", "values") and value is not None
    }
    pairs = join(outcomes(network, items))["query"]
    error = calibration_error(
        (network.calibration.confidence("query", log_probability), right)
        for log_probability, right in pairs
    )
    if not as_json:
        for name, about in _ABOUT.items():
            value = scores[name]
            if value is not None:
                bounds = intervals.get(name)
                text = f"[{100 * bounds[0]:5.1f}, {100 * bounds[1]:5.1f}]" if bounds else ""
                echo(f"{name:<12} {100 * value:5.1f} %  {text:<16} {about}")
        echo(f"{plural(n, 'question')}; calibration error of the confidence {error:.3f}")
    return {**scores, "intervals": intervals, "calibration_error": error}


def _evaluate_asking(
    questions: str, tables: str, given: EvalOptions, as_json: bool
) -> dict[str, Any]:
    """Asks the questions of whole databases, and counts the verdicts."""
    from codegen.evals.statistics import clustered_interval
    from codegen.sqlnet import SQLNet, trials
    from codegen.sqlnet.examples import read_questions, read_tables

    if given.fit and not Path(given.fit).is_dir():
        raise InputError(f"There is no directory {given.fit}.", "Give a model's directory.")
    parser = SQLNet.from_pretrained(given.model, given.encoder)
    if Path(tables).is_dir():
        asked = islice(trials.read_trials(questions, tables), given.limit)
    else:
        held = read_tables(tables)
        asked = trials.wikisql_trials(read_questions(questions, held, given.limit), held)
    if given.fit:
        found, _, outcomes = trials.fit_trust(parser, asked)
        found.save(Path(given.fit))
    else:
        with Progress("Questions") as progress:
            outcomes = []
            for number, trial in enumerate(asked, 1):
                outcomes.append(trials.run(parser, trial))
                progress.update(number)
    if not outcomes:
        raise InputError(f"{questions} holds no question that can be scored.")
    names = [outcome.database for outcome in outcomes]
    n = len(outcomes)
    counts = {v: sum(o.verdict == v for o in outcomes) for v in trials.VERDICTS}
    intervals = {
        v: clustered_interval([float(o.verdict == v) for o in outcomes], counts[v] / n, names)
        for v in trials.VERDICTS
    }
    answered = sum(not o.code for o in outcomes)
    codes = Counter(o.code for o in outcomes if o.code)
    if not as_json:
        for verdict in trials.VERDICTS:
            low, high = intervals[verdict]
            text = "" if low is None or high is None else f"[{100 * low:5.1f}, {100 * high:5.1f}]"
            echo(f"{verdict:<10} {counts[verdict]:>6}  {100 * counts[verdict] / n:5.1f} %  {text}")
        reasons = ", ".join(f"{code} {count}" for code, count in codes.most_common())
        of = plural(len(set(names)), "database")
        echo(f"{plural(n, 'question')} on {of}; {answered} answered")
        echo(f"not answered because of: {reasons or 'nothing'}")
    return {
        "questions": n,
        "databases": len(set(names)),
        **counts,
        "answered": answered,
        "intervals": {v: list(interval) for v, interval in intervals.items()},
        "reasons": dict(codes),
        "wrong_ids": [o.id for o in outcomes if o.verdict == "wrong"],
    }
