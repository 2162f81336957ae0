"""``codegen data``: makes, inspects and publishes training data."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from codegen.cli import CommandGroup, data_options
from codegen.cli.clients import ClientOptions, EndpointOptions, counted, model_client
from codegen.cli.options import as_words, command, given_settings, options, print_result, wants_json
from codegen.core import plugins
from codegen.core.config import Config
from codegen.core.errors import ConfigError, InputError, plural
from codegen.core.terminal import Progress, echo, visible
from codegen.edits.generator import LOGGED, Edits
from codegen.generation import LocalModel
from codegen.generation.endpoints import Endpoint
from codegen.methods.backspace.generator import Backspace
from codegen.methods.infilling import Infilling

if TYPE_CHECKING:
    from codegen.core.records import DataRecord
    from codegen.data import Manifest, TextGenerator
    from codegen.data import RunProgress as EngineProgress
    from codegen.data.filters import Filter
    from codegen.generation.request_chains import ModelClient

# Options that do not change the data.
_NOT_ON_THE_CARD = frozenset({"out", "workers", "ray", "chunk_size", "as_json", "settings"})
_OF_THE_SOURCE = (
    "instruction_column", "program_column", "id_column", "license_column", "license", "language",
    "language_column", "keep_docstring",
)  # fmt: skip
# A model's requests have their own time limits. Stopping an example earlier would waste responses
# that have been paid for.
_ITEM_TIMEOUT_S = 86_400.0


@click.group(cls=CommandGroup)
def data() -> None:
    """Make and inspect training data.

    SOURCE is a .jsonl, .jsonl.gz or .parquet file, a Python file or a directory of them,
    hub:org/name[:config][:split], stdlib (the functions of this Python's standard library),
    humaneval, mbpp, families (for cogex), puzzles:NAME (for plain) or git:PATH (for edits).

    Run the same command again to resume an interrupted run.
    """


data_command = partial(command, group=data)


def _add(name: str, kind: type[Config], about: str, example: str) -> None:
    """Adds the command of a generator that takes its options unchanged."""

    @data_command(name=name, example=example, short_help=about, help=kind.__doc__)
    @click.argument("source")
    @options(kind, "method")
    @options(data_options.DataRunOptions, "run")
    def generator(
        source: str, method: Config, run: data_options.DataRunOptions
    ) -> Mapping[str, Any]:
        settings = (
            method.option if isinstance(method, data_options.InstalledOptions) else dict(method)
        )
        return generate(name, settings, source, run)


_add(
    "lintseq",
    data_options.LintSeqOptions,
    "Make edit sequences that keep programs lint-clean.",
    "codegen data lintseq stdlib --out data/lintseq --sequences 5\n  "
    "codegen data lintseq programs.jsonl --out data/go --language go --verify strict",
)


@data_command(
    short_help="Insert pseudo-code between question and program (UniCoder).",
    example="codegen data unicode humaneval --out data/unicode\n  "
    "codegen data unicode pairs.jsonl --out data/llm --mode llm \\\n    "
    "--endpoint http://localhost:8000/v1 --model my-model",
)
@click.argument("source")
@options(data_options.UniCodeOptions, "method")
@options(ClientOptions, "client")
@options(EndpointOptions, "server")
@options(data_options.DataRunOptions, "run")
def unicode(
    source: str,
    method: data_options.UniCodeOptions,
    client: ClientOptions,
    server: EndpointOptions,
    run: data_options.DataRunOptions,
) -> Mapping[str, Any]:
    """Insert pseudo-code between questions and programs (UniCoder).

    Modes llm and hybrid require a model. Its responses are cached, so running the command again
    after an interruption, or with other objectives, does not pay for them twice.
    """
    settings = dict(method)
    own = ("min_score", "snippets")
    given = [name for name in own if name in method.model_fields_set]
    llm = model_client(client, server, method.mode, ("llm", "hybrid"), given)
    if llm is None:
        settings = {name: value for name, value in settings.items() if name not in own}
    elif method.snippets:  # the model writes the instructions
        run = run.model_copy(update={"instruction_column": ""})
    return generate("unicode", settings, source, run, llm=llm)


@data_command(
    example="codegen data cogex families:4000 --out data/cogex\n  "
    "codegen data cogex mbpp.jsonl --out data/run --mode run --instruction-column text \\\n    "
    "--program-column code -o call_column=test_list\n  "
    "codegen data cogex alpaca.jsonl --out data/llm --mode llm \\\n    "
    "--endpoint http://localhost:8000/v1 --model my-model"
)
@click.argument("source")
@options(data_options.CogexOptions, "method")
@options(ClientOptions, "client")
@options(EndpointOptions, "server")
@options(data_options.DataRunOptions, "run")
def cogex(
    source: str,
    method: data_options.CogexOptions,
    client: ClientOptions,
    server: EndpointOptions,
    run: data_options.DataRunOptions,
) -> Mapping[str, Any]:
    """Make pseudo-programs with their outputs (CoGEX).

    SOURCE may also be families[:NAME,...][:COUNT]: built-in problems with programs that solve them
    (word_sorting, coin_flip, large_sum, arithmetic and others). The program column defaults to
    code_prompt, program or output, depending on the mode. Records that break a rule are dropped
    and counted.
    """
    llm = model_client(client, server, method.mode, ("llm",))
    program, *extra = {
        "records": ("code_prompt", method.input_column, method.output_column),
        "run": ("program", method.input_column, method.call_column),
        "llm": ("output", method.input_column),  # the column of Alpaca's answers
    }[method.mode]
    if "program_column" not in run.model_fields_set:
        run = run.model_copy(update={"program_column": program})
    columns = tuple(name for name in extra if name)
    settings = {
        "mode": method.mode,
        "input": method.input_column,
        "output": method.output_column,
        "call": method.call_column,
    }
    return generate("cogex", settings, source, run, columns, llm)


_add(
    "backspace",
    Backspace,
    "Make programs with mistakes and backspaces (SequenceMatch).",
    "codegen data backspace stdlib --out data/backspace --noise syntax,uniform --eta 0.01",
)
_add(
    "infilling",
    Infilling,
    "Make fill-in-the-middle data.",
    "codegen data infilling stdlib --out data/fim --style fim-starcoder --spans line,ast",
)


@data_command(
    short_help="Make next edits from git histories and refactorings.",
    example="codegen data edits git:../my-project --out data/edits --license MIT\n  "
    "codegen data edits commits.jsonl --out data/edits -o license_column=license\n  "
    "codegen data edits edits.jsonl --from-editor --out data/mine",
)
@click.argument("source")
@options(Edits, "method")
@options(data_options.EditorOptions, "editor")
@options(data_options.DataRunOptions, "run")
def edits(
    source: str,
    method: Edits,
    editor: data_options.EditorOptions,
    run: data_options.DataRunOptions,
) -> Mapping[str, Any]:
    """Make next edits: states of an editing session, each with the edit that follows.

    SOURCE may also be git:PATH (a clone or a directory of clones). Rows contain a file before a
    change (the program column, by default old) and after it (new), or a unified diff (diff); path,
    date and subject are optional. Python files are also refactored. Other sources contain
    programs, which are refactored. With --from-editor, SOURCE is a file that `codegen serve lsp -o
    edit_log=FILE` wrote. Edits that you kept become targets. Where you rejected an edit and changed
    nothing else, the target is empty.
    """
    defaults = {"instruction_column": "", "program_column": "old"}
    columns: tuple[str, ...] = ("new", "diff", "path", "date", "subject")
    if editor.from_editor:
        if source.startswith("git:"):
            raise ConfigError(
                "--from-editor cannot be used with a git repository.",
                "Pass a file that codegen serve lsp -o edit_log=FILE wrote.",
            )
        defaults |= {"program_column": "text", "language_column": "language"}
        columns = LOGGED
    own = {name: text for name, text in defaults.items() if name not in run.model_fields_set}
    return generate("edits", dict(method), source, run.model_copy(update=own), columns)


_add(
    "whole",
    data_options.WholeOptions,
    "Make whole programs, the baseline of lintseq.",
    "codegen data whole stdlib --out data/whole",
)
_add(
    "plain",
    data_options.PlainOptions,
    "Make one record per example, unchanged.",
    "codegen data plain puzzles:star-easy:train:1000 --out data/star_easy",
)
for _name in plugins.names("generators"):
    if _name not in data.commands and (_package := plugins.package_of("generators", _name)):
        _add(
            _name,
            data_options.InstalledOptions,
            f"Run the generator of the package {_package}.",
            f"codegen data {_name} stdlib --out data/{_name}",
        )


@data_command(
    short_help="Make preference pairs (DPO) from a scored run.",
    example="codegen data preferences runs/mbpp --out data/mbpp_pairs",
)
@click.argument("run", metavar="RUN")
@options(data_options.PreferenceOptions, "given")
def preferences(run: str, given: data_options.PreferenceOptions) -> Mapping[str, Any]:
    """Make preference pairs (DPO), a passed and a failed answer each, from a scored run.

    RUN is the output directory of `codegen eval run` after `codegen eval score`. Train on the pairs
    with a recipe that has objective: dpo, or with TRL's DPOTrainer.
    """
    from codegen.data import is_finished
    from codegen.data import run as run_engine
    from codegen.data.filters.decontamination import Decontamination
    from codegen.data.preferences import Preferences, ScoredRun, scored_files
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.exchange import task_of

    samples, verdicts = scored_files(Path(run))
    task = load_task(given.task or task_of(samples), given.source)
    source = ScoredRun(samples, verdicts, task, given.rejected, given.alike)
    sets = given.decontaminate
    was_finished = is_finished(given.out)
    with Progress("data preferences") as bar:
        show = ProgressDisplay(bar)
        manifest = run_engine(
            Preferences(given.pairs, given.ratio),
            source,
            given.out,
            workers=1,
            filters=[Decontamination.build(sets)] if sets else [],
            on_progress=show,
            command=command_line(click.get_current_context()),
        )
    return summary(manifest, given.out, was_finished, show.resumed)


@data_command(
    short_help="Show counts and records.", example="codegen data inspect data/lintseq -n 1 --step"
)
@click.argument("directory", metavar="DIR")
@click.option("--id", "id_", metavar="ID", help="Show the records with this id or example id.")
@click.option(
    "-n",
    "number",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Number of records to show.",
)
@click.option("--step", is_flag=True, help="Show the program after each edit, or each mistake.")
def inspect(directory: str, id_: str | None, number: int, step: bool) -> Mapping[str, Any]:
    """Show a data directory: its counts and some of its records."""
    from codegen.core.records import to_json
    from codegen.data import load_manifest, read_data, view

    if id_ is not None:
        texts = _find(directory, id_)
    else:
        texts = list(islice(read_data(directory), min(number, sys.maxsize)))
    # A single file has no manifest.
    manifest = load_manifest(directory) if Path(directory).is_dir() else None
    if not texts and number and manifest is None:
        raise InputError(
            f"{directory} has no records.", "Pass a data directory or one of its files."
        )
    if wants_json():
        return {
            "manifest": asdict(manifest) if manifest else None,
            "texts": [json.loads(to_json(text)) for text in texts],
        }
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if manifest and id_ is None:
        console.print("\n".join(summary_lines(manifest)), markup=False)
    for text in texts:
        console.print()
        view.print_record(console, text, all_steps=step)
    return {}


@data_command(
    short_help="Join the shards of a run.",
    example="codegen data merge data/shard-* --out data/lintseq",
)
@click.argument("shards", nargs=-1, required=True, metavar="DIR...")
@click.option("--out", required=True, metavar="DIR", help="Output directory.")
def merge(shards: tuple[str, ...], out: str) -> Mapping[str, Any]:
    """Join the directories of all shards of a run (-o shard=0/N to N-1/N).

    The result equals, byte for byte, the data of an unsharded run. If the shards were made with
    --dedup, duplicates across shards are dropped.
    """
    from codegen.data import is_finished
    from codegen.data import merge as merge_shards

    was_finished = is_finished(out)
    manifest = merge_shards(shards, out, command=command_line(click.get_current_context()))
    return summary(manifest, out, was_finished, 0)


@data_command(short_help="Export to Parquet.", example="codegen data export data/lintseq")
@click.argument("directory", metavar="DIR")
@click.option("--out", metavar="DIR", help="Output directory.  [default: DIR/parquet]")
def export(directory: str, out: str | None) -> Mapping[str, Any]:
    """Write the records of a finished data directory as Parquet, one file per data file.

    The rows are unchanged. The column meta, whose keys differ between generators, is a JSON string.
    """
    from codegen.data.publish import export_parquet

    files = export_parquet(directory, out)
    size = sum(path.stat().st_size for path in files)
    where = files[0].parent if files else out or directory
    print_result(f"{len(files)} Parquet files in {where}, {size / 2**20:.1f} MiB")
    return {"ok": True, "files": [str(path) for path in files], "bytes": size}


@data_command(
    short_help="Publish a data directory on the Hugging Face hub.",
    example="codegen data push data/lintseq hub:me/edits --private",
)
@click.argument("directory", metavar="DIR")
@click.argument("target", metavar="hub:ORG/NAME")
@click.option("--private", is_flag=True, help="Make the dataset private.")
def push(directory: str, target: str, private: bool) -> Mapping[str, Any]:
    """Publish a finished data directory as a dataset on the Hugging Face hub, with its card.

    Includes the Parquet files of codegen data export. Requires a token with write access: run
    hf auth login, or set HF_TOKEN.
    """
    from codegen.data.publish import push as upload

    url = upload(directory, target, private=private)
    print_result(f"Published at {url}")
    return {"ok": True, "url": url, "private": private}


def command_line(context: click.Context) -> str:
    """Returns the command with the passed options that affect the data, for the card.

    The output directory is written as ``DIR``. Hidden input, such as a password, is omitted.
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
    run: data_options.DataRunOptions,
    columns: tuple[str, ...] = (),
    llm: ModelClient | None = None,
) -> Mapping[str, Any]:
    """Runs a generator over a source and prints a summary.

    Args:
        columns: other columns that the generator reads.
        llm: the model of a generator that requires one; adds its tokens and cost to the summary.

    Returns:
        The JSON summary.
    """
    from codegen.data import make

    if llm is None:
        return _run(make(name, **settings), source, run, columns)
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
            "chunk_size": max(run.chunk_size, at_once),  # a chunk's requests are sent together
            "item_timeout": run.item_timeout if is_timed else _ITEM_TIMEOUT_S,
        }
    )
    with counted(llm.prices, llm.cache) as (ledger, spent):
        generator = make(name, **settings, llm=replace(llm, ledger=ledger))
        summary = _run(generator, source, run, columns)
    if failed := summary["counts"]["failed"].get("RequestFailed"):
        others = (
            f"all other responses come from {llm.cache}" if llm.cache else "you pay for all again"
        )
        echo(
            f"{plural(failed, 'example')} got no response (RequestFailed in rejects.jsonl). "
            f"To retry them, run the command with another --out; {others}.",
            err=True,
        )
    return {**summary, "llm": spent}


def _run(
    generator: TextGenerator,
    source: str,
    options: data_options.DataRunOptions,
    columns: tuple[str, ...],
) -> dict[str, Any]:
    from codegen.data import EngineOptions, RayExecutor, Shard, is_finished, open_source, run
    from codegen.data.filters.decontamination import Decontamination
    from codegen.data.filters.dedup import Dedup

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
        dedup = Dedup(options.dedup, threshold=options.dedup_threshold)
    was_finished = is_finished(options.out)
    engine_options = EngineOptions(
        chunk_size=options.chunk_size,
        item_timeout_s=options.item_timeout,
        max_characters=options.max_characters,
    )
    with Progress(f"data {generator.name}") as bar:
        shown = ProgressDisplay(bar)
        manifest = run(
            generator,
            items,
            options.out,
            seed=options.seed,
            workers=options.workers,
            executor=RayExecutor(options.ray, options.workers) if options.ray else None,
            limit=options.limit,
            shard=Shard.parse(options.shard) if options.shard else None,
            dedup=dedup,
            filters=filters,
            on_progress=shown,
            options=engine_options,
            command=command_line(click.get_current_context()),
        )
    if manifest.run.shard and not wants_json():
        later = " That also drops the duplicates." if dedup else ""
        echo(
            f"This is shard {manifest.run.shard}. Join all shards with: "
            f"codegen data merge DIR... --out DIR{later}",
            err=True,
        )
    return summary(manifest, options.out, was_finished, shown.resumed, source)


def _nothing(manifest: Manifest, source: str) -> str:
    """Returns the reason that no record was kept; empty if any was."""
    if manifest.counts["inputs"] == 0:
        return f"No input: {source or 'the source'} has no examples, or --limit is 0"
    if manifest.kept:
        return ""
    reasons = {**manifest.counts["skipped"], **manifest.counts["failed"]}
    listed = ", ".join(f"{n} {why}" for why, n in sorted(reasons.items(), key=lambda r: -r[1]))
    return f"No examples kept{f' from {source}' if source else ''} ({listed})"


def summary(
    manifest: Manifest, out: str, was_finished: bool, resumed: int, source: str = ""
) -> dict[str, Any]:
    """Prints the summary of a finished run, and returns it for JSON.

    Args:
        resumed: number of inputs that an interrupted run had processed.
        source: name of the source, for messages.
    """
    if was_finished:
        echo(f"{out} is already finished; nothing to do.", err=True)
    print_result("\n".join(summary_lines(manifest)))
    if manifest.kept:
        print_result(f"Inspect it with: codegen data inspect {out}")
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


def summary_lines(manifest: Manifest) -> Iterator[str]:
    """Yields the counts of a run as lines."""
    counts = manifest.counts
    yield f"{plural(manifest.texts, 'text')} by {manifest.run.generator}, seed {manifest.run.seed}"
    yield f"  inputs   {counts['inputs']}"
    yield f"  kept     {counts['kept']}"
    for outcome in ("skipped", "failed"):
        reasons = counts[outcome]
        yield f"  {outcome:<8} {sum(reasons.values())}"
        for reason, number in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])):
            yield f"    {visible(reason)}: {number}"
    if manifest.licenses:
        listed = (f"{visible(k) or 'unknown'} {n}" for k, n in manifest.licenses.items())
        yield f"  licenses {', '.join(listed)}"


class ProgressDisplay:
    """Progress bar of an engine; ``resumed``: inputs that an interrupted run had processed."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.resumed = 0

    def __call__(self, progress: EngineProgress) -> None:
        """Updates the bar; called after each chunk."""
        if progress.resumed and not self.resumed:
            self.resumed = progress.resumed
            self.bar.say(f"Resuming after {plural(self.resumed, 'input')} of an interrupted run.")
        note = f"{progress.kept} kept, {progress.skipped} skipped, {progress.failed} failed"
        total = round(progress.inputs / progress.fraction) if progress.fraction else None
        self.bar.update(progress.inputs, total, note)


def _find(directory: str, id_: str) -> list[DataRecord]:
    """Returns the records with an id or example id.

    Raises:
        InputError: if absent; with the reason if the example was rejected.
    """
    from codegen.data import read_data, read_rejects

    found = [text for text in read_data(directory) if id_ in (text.id, text.example_id)]
    if found:
        return found
    if Path(directory).is_dir():
        for row in read_rejects(directory):
            if row["id"] == id_:
                why = ": ".join(part for part in (row["reason"], row["detail"]) if part)
                raise InputError(f"{id_!r} was rejected in {directory} ({row['outcome']}, {why}).")
    raise InputError(f"No record {id_!r} in {directory}.", "List ids with: -n 10")
