"""``codegen data plain``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.cli.data.options import run_generator, run_options


@click.command(
    short_help="Make texts of examples as they are.",
    epilog=example("codegen data plain puzzles:star-easy:train:1000 --out data/star_easy"),
)
@run_options
@json_option
def plain(**options: Any) -> Mapping[str, Any]:
    """Make one text of each example: its instruction, then its program, which is trained.

    Any language, and puzzles: puzzles:star-easy, star-medium, star-hard or zebra-3x3, with
    :train, :validation or :test and a number behind it.
    """
    from codegen.data import make

    return run_generator(make("plain"), **options)
