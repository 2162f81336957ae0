"""``codegen data lintseq``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.cli.data.options import run_generator, run_options

# Spelled out here, so that --help need not load the generator.
_PRESETS = ("paper",)
_GRANULARITIES = ("line", "statement")
_CHECKS = ("static", "compile", "ruff", "pylint")
_ENGINES = ("fast", "reference", "random")
_FORMATS = ("diff", "chat", "pairs")


@click.command(
    short_help="Make edit sequences that keep programs lint-clean.",
    epilog=example("codegen data lintseq stdlib --out data/lintseq --sequences 5"),
)
@click.option(
    "--preset",
    type=click.Choice(_PRESETS),
    help="paper: the data of the paper, which is --engine reference --sequences 5.",
)
@click.option(
    "--sequences",
    type=click.IntRange(1),
    help="Edit sequences for each program (5 in the paper).  [default: 1]",
)
@click.option(
    "--granularity",
    type=click.Choice(_GRANULARITIES),
    help="Smallest piece that an edit inserts: lines as in the paper, or whole statements."
    "  [default: line]",
)
@click.option(
    "--verify",
    type=click.Choice(_CHECKS),
    help="What checks each state between two edits: nothing (static), Python's compiler, ruff "
    "(undefined names too), or pylint as in the paper, some 10 times slower.  [default: ruff]",
)
@click.option(
    "--audit",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Share of the states that pylint looks at besides, to tell how many it would object to."
    "  [default: 0.005; 0 with --verify pylint]",
)
@click.option(
    "--strict/--no-strict",
    default=False,
    show_default=True,
    help="Use stricter dependency rules: fewer and larger edits than in the paper.",
)
@click.option(
    "--engine",
    type=click.Choice(_ENGINES),
    help="fast: sample from dependency rules. reference: the published algorithm, with pylint "
    "after each deletion. random: its ablation RandSeq, whose states need not be valid."
    "  [default: fast]",
)
@click.option(
    "--format",
    type=click.Choice(_FORMATS),
    default="diff",
    show_default=True,
    help="diff: one text for each sequence, in the published form. chat: the same as chat "
    "messages. pairs: one text for each edit, from a state to the next diff.",
)
@run_options
@json_option
def lintseq(
    preset: str | None,
    sequences: int | None,
    granularity: str | None,
    verify: str | None,
    audit: float | None,
    strict: bool,
    engine: str | None,
    format: str,
    **options: Any,
) -> Mapping[str, Any]:
    """Turn programs into sequences of edits that keep them lint-clean (LintSeq)."""
    from codegen.data import make

    generator = make(
        "lintseq",
        preset=preset,
        sequences=sequences,
        granularity=granularity,
        verify=verify,
        audit=audit,
        strict=strict,
        engine=engine,
        format=format,
    )
    return run_generator(generator, **options)
