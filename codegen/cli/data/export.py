"""``codegen data export``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option


@click.command(
    short_help="Write the texts as Parquet.",
    epilog=example("codegen data export data/lintseq"),
)
@click.argument("directory", metavar="DIR")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["parquet"]),
    default="parquet",
    show_default=True,
)
@click.option("--out", metavar="DIR", help="Folder to make; default: parquet in DIR.")
@json_option
def export(directory: str, format_: str, out: str | None, as_json: bool) -> Mapping[str, Any]:
    """Write the texts of a finished data directory as Parquet, a file for each data file.

    The rows are the same. The column meta, whose keys differ between generators, is JSON text.
    """
    from codegen.data.publish import export_parquet

    files = export_parquet(directory, out)
    size = sum(path.stat().st_size for path in files)
    if not as_json:
        where = files[0].parent if files else out or directory
        click.echo(f"{len(files)} Parquet files in {where}, {size / 2**20:.1f} MiB")
    return {"ok": True, "format": format_, "files": [str(path) for path in files], "bytes": size}
