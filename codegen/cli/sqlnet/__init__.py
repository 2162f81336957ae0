"""``codegen sqlnet``: questions to SQL. One file a command."""

from __future__ import annotations

import click

from codegen.cli import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "ask": ("codegen.cli.sqlnet.ask:ask", "Ask a database a question."),
        "train": ("codegen.cli.sqlnet.train:train", "Train a model on questions with queries."),
        "eval": ("codegen.cli.sqlnet.evaluate:evaluate", "Score a model on such questions."),
    },
)
def sqlnet() -> None:
    """Ask a SQLite, DuckDB or CSV file in English; it is only ever read."""
