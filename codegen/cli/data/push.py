"""``codegen data push``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option


@click.command(
    short_help="Publish a data directory on the hub.",
    epilog=example("codegen data push data/lintseq hub:me/edits --private"),
)
@click.argument("directory", metavar="DIR")
@click.argument("target", metavar="hub:ORG/NAME")
@click.option("--private", is_flag=True, help="Only for those whom you let.")
@json_option
def push(directory: str, target: str, private: bool, as_json: bool) -> Mapping[str, Any]:
    """Publish a finished data directory as a dataset of the Hugging Face hub, with its card.

    Parquet files of codegen data export go too. Needs a token that may write: hf auth login, or
    HF_TOKEN.
    """
    from codegen.data.publish import push as upload

    url = upload(directory, target, private=private)
    if not as_json:
        click.echo(f"Published at {url}")
    return {"ok": True, "url": url, "private": private}
