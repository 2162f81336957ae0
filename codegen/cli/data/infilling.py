"""``codegen data infilling``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.cli.data.options import run_generator, run_options


@click.command(
    short_help="Make fill-in-the-middle data.",
    epilog=example(
        "codegen data infilling stdlib --out data/fim --style fim-starcoder --spans line,ast"
    ),
)
@click.option(
    "--style",
    default="fim-qwen",
    show_default=True,
    help="Sentinels and order of a model family, as in codegen eval run: fim-qwen, fim-qwen-spm, "
    "fim-starcoder, fim-starcoder-spm, fim-santacoder, fim-deepseek, fim-codellama, ...",
)
@click.option(
    "--spans",
    default="line,block,ast,char",
    show_default=True,
    metavar="KIND,...",
    help="What is taken out: line, block and ast (Python), char.",
)
@click.option(
    "--loss",
    type=click.Choice(["middle", "all"]),
    default="middle",
    show_default=True,
    help="What is trained on: the middle, or all as in pre-training.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Share of texts that are infilling; the others are the program as it is.",
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
def infilling(
    style: str, spans: str, loss: str, rate: float, sequences: int, **options: Any
) -> Mapping[str, Any]:
    """Make texts that ask for a part of a program between what stands around it.

    Train on them with format: plain; a chat template would go around the sentinels.
    """
    from codegen.data import make

    generator = make(
        "infilling", style=style, spans=spans, loss=loss, rate=rate, sequences=sequences
    )
    return run_generator(generator, **options)
