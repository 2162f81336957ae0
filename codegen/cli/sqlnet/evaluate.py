"""``codegen sqlnet eval``."""

from __future__ import annotations

from typing import Any

import click

from codegen.cli import example, json_option
from codegen.errors import ConfigError

_ABOUT = {
    "query_match": "the whole query, by WikiSQL's rule",
    "aggregate": "its aggregate",
    "select": "its SELECT column",
    "where": "its set of conditions",
    "number": "how many conditions",
    "columns": "the set of their columns",
    "operators": "where the columns are right: the operators",
    "values": "where the columns are right: the values",
    "execution": "the answer of the query",
}


@click.command(epilog=example("codegen sqlnet eval dev.jsonl dev.tables.jsonl --guided"))
@click.argument("questions", type=click.Path())
@click.argument("tables", type=click.Path())
@click.option("--model", metavar="DIR", help="A trained model; by default that of the package.")
@click.option("--encoder", metavar="DIR", help="Where the model's encoder lies, if it was moved.")
@click.option("--guided", is_flag=True, help="Choose among queries by running them.")
@click.option("--link", is_flag=True, help="With --guided: link values to those of the table.")
@click.option("--greedy", is_flag=True, help="Fill slot after slot, as in the paper.")
@click.option("--limit", type=click.IntRange(1), help="Only the first questions.")
@json_option
def evaluate(
    questions: str,
    tables: str,
    model: str | None,
    encoder: str | None,
    guided: bool,
    link: bool,
    greedy: bool,
    limit: int | None,
    as_json: bool,
) -> dict[str, Any]:
    """Score a model on QUESTIONS about TABLES, both in WikiSQL's form (JSON lines).

    Queries are run where the tables have rows. Shares come with their 95 % interval.
    """
    if guided and greedy:
        raise ConfigError("--guided and --greedy exclude each other.", "Give one of them.")
    if link and not guided:
        raise ConfigError("--link is given without --guided.", "Add --guided.")
    import torch

    from codegen.evals.statistics import wilson
    from codegen.sqlnet.calibration import calibration_error, join
    from codegen.sqlnet.examples import label
    from codegen.sqlnet.metrics import databases_of, outcomes, predict, predict_guided, score
    from codegen.sqlnet.network import Network
    from codegen.sqlnet.parser import DEFAULT_MODEL
    from codegen.sqlnet.wikisql import read_questions, read_tables

    torch.set_num_threads(1)
    network = Network.load(model or DEFAULT_MODEL, encoder)
    held = read_tables(tables)
    items = label(read_questions(questions, held, limit))
    databases = databases_of(items, held)
    if guided and databases is None:
        raise ConfigError(f"{tables} holds no rows to run on.", "Leave --guided out.")
    if guided and databases is not None:
        choices = predict_guided(network, items, databases, link=link)
        predicted = [choice.candidate.query for choice in choices]
    else:
        predicted = predict(network, items, greedy=greedy)
    scores = score(predicted, items, databases).to_row()
    n = len(items)
    intervals = {
        name: list(wilson(value, n))
        for name, value in scores.items()
        if name in _ABOUT and name not in ("operators", "values") and value is not None and n
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
                click.echo(f"{name:<12} {100 * value:5.1f} %  {text:<16} {about}")
        click.echo(f"{n} questions; calibration error of the confidence {error:.3f}")
    return {**scores, "intervals": intervals, "calibration_error": error}
