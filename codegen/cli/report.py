"""``codegen eval report``: one page about the scores of directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.errors import ConfigError


@click.command(epilog=example("codegen eval report runs/base tuned=runs/7/eval --out report.html"))
@click.argument("directories", nargs=-1, required=True, metavar="[NAME=]DIR...")
@click.option("--out", default="report.html", show_default=True, type=click.Path(dir_okay=False))
@click.option("--title", default="Evaluation", show_default=True)
@click.option("--samples/--no-samples", "with_samples", default=True, show_default=True,
              help="Put every sample into the page, compressed.")  # fmt: skip
@click.option("--samples-file", "files", multiple=True, metavar="[NAME=]FILE",
              help="The file that was scored, where DIR does not hold it; of the run NAME.",
              )  # fmt: skip
@json_option
def report(
    directories: tuple[str, ...],
    out: str,
    title: str,
    with_samples: bool,
    files: tuple[str, ...],
    as_json: bool,
) -> dict[str, Any]:
    """Write one HTML page about the scores of directories, and its numbers as JSON and Markdown.

    A run is called NAME or, without one, by the end of its path that tells it from the others. The
    page holds the samples too if they are in DIR, or named by --samples-file.
    """
    from codegen.evals.report import ScoredRun, read_run, write_report
    from codegen.evals.score import read_score

    named = _named(directories)
    where = _files(files, [name for name, _ in named])
    runs = [
        read_run(name, folder, where.get(name))
        if with_samples
        else ScoredRun(name, read_score(folder))
        for name, folder in named
    ]
    path = write_report(runs, Path(out), title=title)
    shown = sum(len(problem.samples) for run in runs for problem in run.samples.values())
    size = path.stat().st_size
    if not as_json:
        click.echo(f"{path} ({size / 1e6:.1f} MB, {shown} samples)")
    return {
        "report": str(path),
        "json": str(path.with_suffix(".json")),
        "markdown": str(path.with_suffix(".md")),
        "samples": shown,
        "bytes": size,
    }


def _files(arguments: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """The file of samples of each run that has one given."""
    found: dict[str, Path] = {}
    for argument in arguments:
        name, _, file = argument.rpartition("=")
        if name and name not in names:
            raise ConfigError(
                f"--samples-file names the run {name!r}, which there is not.",
                f"Runs are: {', '.join(names)}.",
            )
        if not name and len(names) > 1:
            raise ConfigError(
                "--samples-file must say of which run the file is.", "Write it as NAME=FILE."
            )
        found[name or names[0]] = Path(file)
    return found


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
