"""``codegen eval report``: one page about the scores of directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from codegen.cli import example, json_option


@click.command(epilog=example("codegen eval report runs/base tuned=runs/7/eval --out report.html"))
@click.argument("directories", nargs=-1, required=True, metavar="[NAME=]DIR...")
@click.option("--out", default="report.html", show_default=True, type=click.Path(dir_okay=False))
@click.option("--title", default="Evaluation", show_default=True)
@json_option
def report(directories: tuple[str, ...], out: str, title: str, as_json: bool) -> dict[str, Any]:
    """Write one HTML page (and the same as JSON) about the scores of directories.

    A run is called NAME or, without one, by the end of its path that tells it from the others.
    """
    from codegen.evals.report import ScoredRun, write_report
    from codegen.evals.scoring import read_score

    runs = [ScoredRun(name, read_score(folder)) for name, folder in _named(directories)]
    path = write_report(runs, Path(out), title=title)
    if not as_json:
        click.echo(str(path))
    return {"report": str(path)}


def _named(arguments: Sequence[str]) -> list[tuple[str, Path]]:
    """The name and directory of each ``[NAME=]DIR``."""
    # A directory may have an equals sign in its own name.
    parts = [("", a) if "=" not in a or Path(a).exists() else a.split("=", 1) for a in arguments]
    paths = [Path(folder).resolve() for _, folder in parts]
    return [
        (name or _shortest_end(path, [other for other in paths if other != path]), Path(folder))
        for (name, folder), path in zip(parts, paths, strict=True)
    ]


def _shortest_end(path: Path, others: Sequence[Path]) -> str:
    """The last parts of a path, as few as no other path ends with."""
    for count in range(1, len(path.parts)):
        end = path.parts[-count:]
        if not any(other.parts[-count:] == end for other in others):
            return "/".join(end)
    return str(path)
