"""``codegen data lintseq``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.cli.data.options import run_generator, run_options


@click.command(
    short_help="Make edit sequences that keep programs lint-clean.",
    epilog=example("codegen data lintseq stdlib --out data/lintseq --sequences 5"),
)
@click.option(
    "--sequences",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Edit sequences for each program (5 in the paper).",
)
@click.option(
    "--granularity",
    default="statement",
    show_default=True,
    metavar="PIECE",
    help="Smallest piece that an edit inserts: statement.",
)
@click.option(
    "--verify",
    default="compile",
    show_default=True,
    metavar="CHECK",
    help="What checks each state between two edits: static (none), compile or ruff.",
)
@click.option(
    "--strict/--no-strict", default=True, show_default=True, help="Stricter dependencies."
)
@run_options
@json_option
def lintseq(
    sequences: int, granularity: str, verify: str, strict: bool, **options: Any
) -> Mapping[str, Any]:
    """Turn programs into sequences of edits that keep them lint-clean (LintSeq)."""
    from codegen.data import make

    generator = make(
        "lintseq", sequences=sequences, granularity=granularity, verify=verify, strict=strict
    )
    return run_generator(generator, **options)
