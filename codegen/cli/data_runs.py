"""Runs a data generator for ``codegen data``: the engine's settings, progress and summary."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from codegen import plugins
from codegen.cli.clients import counted
from codegen.cli.data_options import RunOptions
from codegen.cli.options import as_words, given_settings
from codegen.errors import ConfigError, plural
from codegen.generation.backends import Endpoint, LocalModel
from codegen.terminal import Progress as Bar
from codegen.terminal import echo

if TYPE_CHECKING:
    from codegen.data import Manifest, Progress, TextGenerator
    from codegen.data.filters import Filter
    from codegen.generation.plans import ModelClient

# Options that do not change the data.
_NOT_ON_THE_CARD = frozenset({"out", "workers", "ray", "chunk_size", "as_json", "settings"})
_OF_THE_SOURCE = (
    "instruction_column", "program_column", "id_column", "license_column", "license", "language",
    "language_column", "keep_docstring",
)  # fmt: skip
# With a model, an example takes as long as its requests, which have time limits of their own. To
# stop it earlier would waste responses that have been paid for.
_ITEM_TIMEOUT_S = 86_400.0


def command_line(context: click.Context) -> str:
    """The command with the given options that decide the data, for the card.

    The output directory is written as ``DIR``. Hidden input, such as a password, is left out.
    """
    words = [*context.command_path.split()]
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        is_hidden = getattr(parameter, "hide_input", False)
        if given and name in context.params and name not in _NOT_ON_THE_CARD and not is_hidden:
            words += as_words(parameter, context.params[name])
    words += given_settings(context, _NOT_ON_THE_CARD)
    return shlex.join([*words, "--out", "DIR"])


def generate(
    name: str,
    settings: Mapping[str, Any],
    source: str,
    run: RunOptions,
    as_json: bool,
    columns: tuple[str, ...] = (),
    llm: ModelClient | None = None,
) -> Mapping[str, Any]:
    """Runs a generator over a source and prints what it made.

    Args:
        columns: further columns of the rows that it reads.
        llm: the model of a generator that requires one; the summary then also holds the tokens and
            their cost.

    Returns:
        The JSON summary.
    """
    from codegen.data import make

    if llm is None:
        return _run(make(name, **settings), source, run, as_json, columns)
    spec, at_once = llm.spec, 1
    if isinstance(spec, LocalModel):
        at_once = spec.batch_size
    elif isinstance(spec, Endpoint):
        at_once = spec.concurrency
        if spec.max_cost and ((run.workers or 1) > 1 or run.ray):
            raise ConfigError("--max-cost requires one process.", "Remove --workers and -o ray.")
    is_timed = "item_timeout" in run.model_fields_set
    run = run.model_copy(
        update={
            "workers": run.workers or 1,  # one process keeps all requests in flight
            "chunk_size": max(run.chunk_size, at_once),  # the requests of a chunk go together
            "item_timeout": run.item_timeout if is_timed else _ITEM_TIMEOUT_S,
        }
    )
    with counted(llm.prices, llm.cache) as (ledger, spent):
        generator = make(name, **settings, llm=replace(llm, ledger=ledger))
        summary = _run(generator, source, run, as_json, columns)
    if failed := summary["counts"]["failed"].get("RequestFailed"):
        others = f"all other responses come from {llm.cache}" if llm.cache else "all are paid again"
        echo(
            f"{plural(failed, 'example')} got no response (RequestFailed in rejects.jsonl). "
            f"To request them again, run the command with another --out; {others}.",
            err=True,
        )
    return {**summary, "llm": spent}


def _run(
    generator: TextGenerator,
    source: str,
    options: RunOptions,
    as_json: bool,
    columns: tuple[str, ...],
) -> dict[str, Any]:
    from codegen.data import EngineOptions, RayExecutor, Shard, is_finished, open_source, run
    from codegen.data.filters.decontamination import Decontamination
    from codegen.data.filters.dedup import Dedup

    if options.dedup_against and options.dedup == "none":
        raise ConfigError("-o dedup_against requires --dedup.", "Add --dedup exact or near.")
    items = open_source(
        source,
        extra_columns=columns,
        **{name: getattr(options, name) for name in _OF_THE_SOURCE},
    )
    sets = options.decontaminate
    filters: list[Filter] = [Decontamination.build(sets)] if sets else []
    for text in options.filter:
        name, _, argument = text.partition(":")
        filters.append(plugins.load("filters", name)(argument))
    dedup = None
    if options.dedup != "none":
        dedup = Dedup(
            options.dedup, threshold=options.dedup_threshold, references=options.dedup_against
        )
    was_finished = is_finished(options.out)
    with Bar(f"data {generator.name}") as bar:
        shown = Shown(bar)
        manifest = run(
            generator,
            items,
            options.out,
            seed=options.seed,
            workers=options.workers,
            executor=RayExecutor(options.ray, options.workers) if options.ray else "local",
            limit=options.limit,
            shard=Shard.parse(options.shard) if options.shard else None,
            dedup=dedup,
            filters=filters,
            on_progress=shown,
            options=EngineOptions(
                chunk_size=options.chunk_size,
                item_timeout_s=options.item_timeout,
                max_characters=options.max_characters,
            ),
            command=command_line(click.get_current_context()),
        )
    if not as_json and manifest.run.shard:
        later = " That also drops the duplicates." if dedup else ""
        echo(
            f"This is shard {manifest.run.shard}. Join all shards with: "
            f"codegen data merge DIR... --out DIR{later}",
            err=True,
        )
    return summary(manifest, options.out, was_finished, shown.resumed, as_json, source)


def _nothing(manifest: Manifest, source: str) -> str:
    """Why nothing was kept; empty if something was."""
    if manifest.counts["inputs"] == 0:
        return f"There was no input: {source or 'the source'} holds no examples, or --limit is 0"
    if manifest.kept:
        return ""
    reasons = {**manifest.counts["skipped"], **manifest.counts["failed"]}
    listed = ", ".join(f"{n} {why}" for why, n in sorted(reasons.items(), key=lambda r: -r[1]))
    return f"Nothing was kept{f' of {source}' if source else ''} ({listed})"


def summary(
    manifest: Manifest,
    out: str,
    was_finished: bool,
    resumed: int,
    as_json: bool,
    source: str = "",
) -> dict[str, Any]:
    """Prints what a finished run made, and returns the JSON summary.

    Args:
        resumed: inputs that an interrupted run had done.
        as_json: whether only the summary is printed, by the caller.
        source: what was read, for a message.
    """
    from codegen.data.view import summary_lines

    if was_finished:
        echo(f"{out} is already finished; nothing to do.", err=True)
    if not as_json:
        echo("\n".join(summary_lines(manifest)))
        if manifest.kept:
            echo(f"Inspect it with: codegen data inspect {out}")
    if why := _nothing(manifest, source):
        see = f"; see {out}/rejects.jsonl" if manifest.counts["inputs"] else ""
        echo(f"Error: {why}{see}.", err=True)
    return {
        "ok": manifest.kept > 0,
        "out": out,
        "generator": manifest.run.generator,
        "counts": manifest.counts,
        "texts": manifest.texts,
        "licenses": manifest.licenses,
        "files": manifest.files,
        "fingerprint": manifest.fingerprint,
        "throughput": manifest.throughput,
        "resumed_after": resumed,
        "already_finished": was_finished,
    }


class Shown:
    """Shows an engine's progress on a bar; ``resumed`` is what an interrupted run had done."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.resumed = 0

    def __call__(self, progress: Progress) -> None:
        """What the engine calls after each chunk."""
        if progress.resumed and not self.resumed:
            self.resumed = progress.resumed
            self.bar.say(f"Resuming after {plural(self.resumed, 'input')} of an interrupted run.")
        note = f"{progress.kept} kept, {progress.skipped} skipped, {progress.failed} failed"
        total = round(progress.inputs / progress.fraction) if progress.fraction else None
        self.bar.update(progress.inputs, total, note)
