"""What all generators' commands share: the options of a run, and the run itself."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from codegen.cli.progress import Progress as Bar
    from codegen.data import Manifest, Progress, TextGenerator
    from codegen.data.executors import Executor
    from codegen.data.filters import Dedup, Filter


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that all generators share."""
    above_0 = click.FloatRange(0, min_open=True)
    decorators = [
        click.argument("source"),
        click.option("--out", required=True, metavar="DIR", help="Directory to make."),
        click.option("--limit", type=click.IntRange(0), help="Take at most so many examples."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option("--workers", type=click.IntRange(1), help="Processes; default: one a CPU."),
        click.option(
            "--executor",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Where the work runs: processes of this machine, or a Ray cluster.",
        ),
        click.option(
            "--ray-address",
            metavar="ADDRESS",
            help="host:port of the cluster, auto for the one on this machine, or local to start "
            "one; default: RAY_ADDRESS, else local.",
        ),
        click.option(
            "--shard",
            metavar="I/N",
            help="Do only part I (from 0) of N, as a job of a batch scheduler; put the parts "
            "together with codegen data merge.",
        ),
        click.option(
            "--instruction-column",
            default="instruction",
            show_default=True,
            help="'' if rows have none.",
        ),
        click.option("--program-column", default="program", show_default=True),
        click.option("--id-column", default="", help="Column with row ids; default: id, if any."),
        click.option("--licence-column", default="", help="Column with each row's licence."),
        click.option("--licence", default="", help="Licence of all examples (an SPDX id)."),
        click.option("--language", default="python", show_default=True, help="Of rows' programs."),
        click.option("--language-column", default="", help="Column with each row's language."),
        click.option("--keep-docstring", is_flag=True, help="Leave docstrings in the programs."),
        click.option(
            "--dedup",
            type=click.Choice(["none", "exact", "near"]),
            default="none",
            show_default=True,
            help="Leave out programs that an earlier one equals (exact) or is nearly (MinHash).",
        ),
        click.option(
            "--dedup-against",
            multiple=True,
            metavar="SOURCE",
            help="Leave out the programs of this source too; can be given several times.",
        ),
        click.option(
            "--dedup-threshold",
            type=click.FloatRange(0, 1, min_open=True),
            default=0.7,
            show_default=True,
            help="Similarity (Jaccard, of 5-grams of words) from which on programs are alike.",
        ),
        click.option(
            "--decontaminate",
            multiple=True,
            metavar="SET",
            help="Leave out what holds a problem of this test set: humaneval, mbpp, hub:... or a "
            "file; can be given several times.",
        ),
        click.option(
            "--filter",
            "filters",
            multiple=True,
            metavar="NAME[:TEXT]",
            help="Apply a filter of another package; can be given several times.",
        ),
        click.option(
            "--item-timeout",
            type=above_0,
            default=60.0,
            show_default=True,
            help="Seconds that one example may take.",
        ),
        click.option(
            "--max-characters",
            type=click.IntRange(1),
            default=2**20,
            show_default=True,
            help="Skip longer programs.",
        ),
        click.option(
            "--chunk-size",
            type=click.IntRange(1),
            default=32,
            show_default=True,
            help="Inputs that a worker gets at once; never changes the data.",
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
    executor: str,
    ray_address: str | None,
    shard: str | None,
    dedup: str,
    dedup_against: tuple[str, ...],
    dedup_threshold: float,
    decontaminate: tuple[str, ...],
    filters: tuple[str, ...],
    item_timeout: float,
    max_characters: int,
    chunk_size: int,
    as_json: bool,
    **source_options: Any,
) -> Mapping[str, Any]:
    """Runs a generator with the options of :func:`run_options`; returns the summary."""
    from codegen.cli.data.command import command_line
    from codegen.cli.progress import Progress as Bar
    from codegen.data import EngineOptions, Shard, is_finished, open_source, run

    items = open_source(source, **source_options)
    was_finished = is_finished(out)
    with stopped_cleanly(), Bar(f"data {generator.name}") as bar:
        show = _Shown(bar)
        manifest = run(
            generator,
            items,
            out,
            seed=seed,
            workers=workers,
            executor=_executor(executor, ray_address, workers),
            limit=limit,
            shard=Shard.parse(shard) if shard else None,
            dedup=_dedup(dedup, dedup_against, dedup_threshold),
            filters=_filters(decontaminate, filters),
            on_progress=show,
            options=EngineOptions(
                chunk_size=chunk_size, item_timeout_s=item_timeout, max_characters=max_characters
            ),
            command=command_line(click.get_current_context()),
        )
    if not as_json and manifest.run.shard:
        waiting = " Duplicates are removed then." if manifest.run.dedup else ""
        click.echo(
            f"This is shard {manifest.run.shard}. Put all of them together with: "
            f"codegen data merge DIR... --out DIR{waiting}",
            err=True,
        )
    return summarise(manifest, out, was_finished, show.resumed, as_json)


def summarise(
    manifest: Manifest, out: str, was_finished: bool, resumed: int, as_json: bool
) -> Mapping[str, Any]:
    """Prints what was made, unless the summary that is returned is printed as JSON."""
    from codegen.data.view import summary_lines

    if was_finished:
        click.echo(f"{out} is already finished: nothing to do.", err=True)
    if not as_json:
        click.echo("\n".join(summary_lines(manifest)))
        if manifest.kept:
            click.echo(f"Look at it with: codegen data inspect {out} --step")
    if manifest.counts["inputs"] == 0:
        click.echo("There was no input: the source is empty, or --limit is 0.", err=True)
    elif manifest.kept == 0:
        click.echo(f"Nothing was kept; {out}/rejects.jsonl says why.", err=True)
    return {
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


class _Shown:
    """Shows an engine's progress on a bar."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.resumed = 0

    def __call__(self, progress: Progress) -> None:
        if progress.resumed and not self.resumed:
            self.resumed = progress.resumed
            self.bar.say(f"Going on after {self.resumed} inputs of an interrupted run.")
        note = f"{progress.kept} kept, {progress.skipped} skipped, {progress.failed} failed"
        total = round(progress.inputs / progress.fraction) if progress.fraction else None
        self.bar.update(progress.inputs, total, note)


def _executor(name: str, ray_address: str | None, workers: int | None) -> Executor | Any:
    from codegen.data import RayExecutor
    from codegen.errors import ConfigError

    if name == "ray":
        return RayExecutor(ray_address or "", workers)
    if ray_address:
        raise ConfigError("--ray-address is for a Ray cluster.", "Add: --executor ray")
    return name


def _dedup(kind: str, against: Sequence[str], threshold: float) -> Dedup | None:
    from codegen.data.filters import Dedup
    from codegen.errors import ConfigError

    if kind == "none":
        if against:
            raise ConfigError("--dedup-against needs a kind.", "Add: --dedup exact or --dedup near")
        return None
    return Dedup(
        "exact" if kind == "exact" else "near", threshold=threshold, references=tuple(against)
    )


def _filters(sets: Sequence[str], filters: Sequence[str]) -> list[Filter]:
    from codegen import plugins
    from codegen.data.filters import Decontamination

    found: list[Filter] = [Decontamination.build(sets)] if sets else []
    for text in filters:
        name, _, argument = text.partition(":")
        found.append(plugins.load("filters", name)(argument))
    return found


@contextmanager
def stopped_cleanly() -> Iterator[None]:
    """SIGTERM, which batch schedulers send before they kill, ends a run as Ctrl-C does."""
    terminated = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        if not terminated:
            raise
        click.echo("Terminated. Run the same command again; it goes on from there.", err=True)
        raise click.exceptions.Exit(143) from None
    finally:
        signal.signal(signal.SIGTERM, previous)
