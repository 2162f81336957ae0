"""``codegen data``: make training data and look at it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option
from codegen.errors import InputError

if TYPE_CHECKING:
    from codegen.data import TextGenerator
    from codegen.records import TrainingText


@click.group()
def data() -> None:
    """Make training data, and look at it.

    SOURCE is a .jsonl, .jsonl.gz or .parquet file, a directory of Python files,
    hub:org/name[:config][:split], stdlib (the functions of this Python's standard library) or
    humaneval.

    An interrupted run goes on when the same command is run again.
    """


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that all generators share."""
    decorators = [
        click.argument("source"),
        click.option("--out", required=True, metavar="DIR", help="Directory to make."),
        click.option("--limit", type=click.IntRange(0), help="Take at most so many examples."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option("--workers", type=click.IntRange(1), help="Processes; default: one a CPU."),
        click.option("--instruction-column", default="instruction", show_default=True),
        click.option("--program-column", default="program", show_default=True),
        click.option("--id-column", default="", help="Column with row ids; default: id, if any."),
        click.option("--licence-column", default="", help="Column with each row's licence."),
        click.option("--licence", default="", help="Licence of all examples (an SPDX id)."),
        click.option("--keep-docstring", is_flag=True, help="Leave docstrings in the programs."),
        click.option(
            "--item-timeout",
            type=click.FloatRange(0, min_open=True),
            default=60.0,
            show_default=True,
            help="Seconds that one example may take.",
        ),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


@data.command(
    short_help="Make edit sequences that keep programs lint-clean.",
    epilog=example("codegen data lintseq stdlib --out data/lintseq --sequences 5"),
)
@click.option(
    "--sequences",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Edit sequences for each program (5 in the paper).",
)
@click.option(
    "--granularity",
    default="statement",
    show_default=True,
    metavar="PIECE",
    help="Smallest piece that an edit inserts: statement.",
)
@click.option(
    "--verify",
    default="compile",
    show_default=True,
    metavar="CHECK",
    help="What checks each state between two edits: static (none), compile or ruff.",
)
@click.option(
    "--strict/--no-strict", default=True, show_default=True, help="Stricter dependencies."
)
@_run_options
@json_option
def lintseq(
    sequences: int, granularity: str, verify: str, strict: bool, **options: Any
) -> Mapping[str, Any]:
    """Turn programs into sequences of edits that keep them lint-clean (LintSeq)."""
    from codegen.data import make

    generator = make(
        "lintseq", sequences=sequences, granularity=granularity, verify=verify, strict=strict
    )
    return _run(generator, **options)


@data.command(
    short_help="Make the baseline: whole programs.",
    epilog=example("codegen data whole stdlib --out data/whole"),
)
@_run_options
@json_option
def whole(**options: Any) -> Mapping[str, Any]:
    """Make the baseline of lintseq: the same programs as whole texts."""
    from codegen.data import make

    return _run(make("whole"), **options)


def _run(
    generator: TextGenerator,
    *,
    source: str,
    out: str,
    limit: int | None,
    seed: int,
    workers: int | None,
    item_timeout: float,
    as_json: bool,
    **source_options: Any,
) -> Mapping[str, Any]:
    from codegen.cli.progress import Progress as Bar
    from codegen.data import EngineOptions, Progress, is_finished, open_source, run
    from codegen.data.view import summary_lines

    items = open_source(source, **source_options)
    was_finished = is_finished(out)
    resumed = 0
    with Bar(f"data {generator.name}") as bar:

        def show(progress: Progress) -> None:
            nonlocal resumed
            if progress.resumed and not resumed:
                resumed = progress.resumed
                bar.say(f"Going on after {resumed} inputs of an interrupted run.")
            total = round(progress.inputs / progress.fraction) if progress.fraction else None
            note = f"{progress.kept} kept, {progress.skipped} skipped, {progress.failed} failed"
            bar.update(progress.inputs, total, note)

        manifest = run(
            generator,
            items,
            out,
            seed=seed,
            workers=workers,
            limit=limit,
            on_progress=show,
            options=EngineOptions(item_timeout_s=item_timeout),
        )
    if was_finished:
        click.echo(f"{out} is already finished: nothing to do.", err=True)
    summary = {
        "ok": manifest.kept > 0,
        "out": out,
        "generator": manifest.run.generator,
        "counts": manifest.counts,
        "texts": manifest.texts,
        "licences": manifest.licences,
        "files": manifest.files,
        "fingerprint": manifest.fingerprint,
        "throughput": manifest.throughput,
        "resumed_after": resumed,
        "already_finished": was_finished,
    }
    if not as_json:
        click.echo("\n".join(summary_lines(manifest)))
        if manifest.kept:
            click.echo(f"Look at it with: codegen data inspect {out} --step")
    if manifest.counts["inputs"] == 0:
        click.echo("There was no input: the source is empty, or --limit is 0.", err=True)
    elif manifest.kept == 0:
        click.echo(f"Nothing was kept; {out}/rejects.jsonl says why.", err=True)
    return summary


@data.command(
    short_help="Show counts and texts; step through edits.",
    epilog=example("codegen data inspect data/lintseq -n 1 --step"),
)
@click.argument("directory", metavar="DIR")
@click.option("--id", "id_", metavar="ID", help="Show the texts with this id or example id.")
@click.option("-n", "number", type=click.IntRange(0), default=3, show_default=True)
@click.option(
    "--step", is_flag=True, help="Step through edit sequences (arrow keys on a terminal)."
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
        view.browse(console, [text for text in texts if view.is_edit_sequence(text)])
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
