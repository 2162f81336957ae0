"""What all generators' commands share: the options of a run, and the run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from codegen.data import TextGenerator


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
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


def run_generator(
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
    """Runs a generator with the options of :func:`run_options`; returns the summary."""
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
