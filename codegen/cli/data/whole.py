"""``codegen data whole``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.cli.data.options import run_generator, run_options


@click.command(
    short_help="Make the baseline: whole programs.",
    epilog=example("codegen data whole stdlib --out data/whole"),
)
@run_options
@json_option
def whole(**options: Any) -> Mapping[str, Any]:
    """Make the baseline of lintseq: the same programs as whole texts."""
    from codegen.data import make

    return run_generator(make("whole"), **options)
