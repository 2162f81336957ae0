"""``codegen data backspace``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.cli.data.options import run_generator, run_options


@click.command(
    short_help="Make programs with mistakes taken back (SequenceMatch).",
    epilog=example(
        "codegen data backspace stdlib --out data/backspace --noise syntax,uniform --eta 0.01"
    ),
)
@click.option(
    "--model",
    default="embedded",
    show_default=True,
    help="Model whose tokenizer is used: embedded, a directory or a hub id.",
)
@click.option(
    "--eta",
    type=click.FloatRange(0, 1),
    default=0.001,
    show_default=True,
    help="Probability of a mistake before each token.",
)
@click.option(
    "--span",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Most wrong tokens in a row.",
)
@click.option(
    "--noise",
    default="uniform",
    show_default=True,
    metavar="KIND,...",
    help="Kinds of mistake, the first that applies: uniform, syntax (Python) or model (slow).",
)
@click.option(
    "--format",
    type=click.Choice(["plain", "chat"]),
    default="plain",
    show_default=True,
    help="Form of the prompt; as in the recipe that trains on it.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Leave out texts with more tokens and backspaces; 0 for no limit.",
)
@click.option(
    "--sequences",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Texts for each program.",
)
@run_options
@json_option
def backspace(
    model: str,
    eta: float,
    span: int,
    noise: str,
    format: str,
    max_tokens: int,
    sequences: int,
    **options: Any,
) -> Mapping[str, Any]:
    """Make programs with wrong tokens and the backspaces that take them back (SequenceMatch)."""
    from codegen.data import make

    generator = make(
        "backspace",
        model=model,
        eta=eta,
        span=span,
        noise=noise,
        format=format,
        max_tokens=max_tokens,
        sequences=sequences,
    )
    return run_generator(generator, **options)
