"""``codegen data inspect``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option
from codegen.errors import InputError

if TYPE_CHECKING:
    from codegen.records import TrainingText


@click.command(
    short_help="Show counts and texts; step through edits.",
    epilog=example("codegen data inspect data/lintseq -n 1 --step"),
)
@click.argument("directory", metavar="DIR")
@click.option("--id", "id_", metavar="ID", help="Show the texts with this id or example id.")
@click.option("-n", "number", type=click.IntRange(0), default=3, show_default=True)
@click.option(
    "--step", is_flag=True, help="Step through edits or mistakes (arrow keys on a terminal)."
)
@json_option
def inspect(
    directory: str, id_: str | None, number: int, step: bool, as_json: bool
) -> Mapping[str, Any]:
    """Show what a data directory holds: its counts and some of its texts."""
    import dataclasses
    import sys
    from pathlib import Path

    from codegen.data import load_manifest, view

    texts = _find(directory, id_) if id_ is not None else _first(directory, number)
    # A single file has no manifest.
    manifest = load_manifest(directory) if Path(directory).is_dir() else None
    if as_json:
        return {
            "manifest": dataclasses.asdict(manifest) if manifest else None,
            "texts": [_as_row(text) for text in texts],
        }
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if step and sys.stdin.isatty() and console.is_terminal:
        view.browse(console, [text for text in texts if view.has_steps(text)])
        return {}
    if manifest and id_ is None:
        console.print("\n".join(view.summary_lines(manifest)), markup=False)
    for text in texts:
        console.print()
        view.print_record(console, text, all_steps=step)
    return {}


def _as_row(text: TrainingText) -> dict[str, Any]:
    from codegen.records import to_json

    return json.loads(to_json(text))


def _first(directory: str, number: int) -> list[TrainingText]:
    from itertools import islice

    from codegen.data import read_texts

    return list(islice(read_texts(directory), number))


def _find(directory: str, id_: str) -> list[TrainingText]:
    """The texts with an id or example id.

    Raises:
        InputError: if there are none; with the reason, if the example was left out.
    """
    from pathlib import Path

    from codegen.data import read_rejects, read_texts

    found = [text for text in read_texts(directory) if id_ in (text.id, text.example_id)]
    if found:
        return found
    if Path(directory).is_dir():
        for row in read_rejects(directory):
            if row["id"] == id_:
                why = ": ".join(part for part in (row["reason"], row["detail"]) if part)
                raise InputError(f"{id_!r} was left out of {directory} ({row['outcome']}, {why}).")
    raise InputError(f"There is no text {id_!r} in {directory}.", "See the ids with: -n 10")
