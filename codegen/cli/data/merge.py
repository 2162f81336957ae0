"""``codegen data merge``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.cli.data.options import stopped_cleanly, summarise


@click.command(
    short_help="Put the shards of a run together.",
    epilog=example("codegen data merge data/shard-* --out data/lintseq"),
)
@click.argument("shards", nargs=-1, required=True, metavar="DIR...")
@click.option("--out", required=True, metavar="DIR", help="Directory to make.")
@json_option
def merge(shards: tuple[str, ...], out: str, as_json: bool) -> Mapping[str, Any]:
    """Put the directories of all shards of a run (--shard 0/N to N-1/N) together.

    The result is, byte for byte, the data of the run in one piece; duplicates are removed now, if
    the shards were made with --dedup.
    """
    from codegen.cli.data.command import command_line
    from codegen.data import is_finished
    from codegen.data import merge as merge_shards

    was_finished = is_finished(out)
    with stopped_cleanly():
        manifest = merge_shards(shards, out, command=command_line(click.get_current_context()))
    return summarise(manifest, out, was_finished, 0, as_json)
