"""``codegen data``: make training data, look at it, and publish it.

Each generator is a command of its own, made from the configuration below that describes it.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from codegen import plugins
from codegen.cli import Group
from codegen.cli.clients import ClientOptions, EndpointOptions, counted, model_client
from codegen.cli.options import Command, as_words, command, options
from codegen.config import Config, setting
from codegen.errors import ConfigError, InputError
from codegen.generation.backends import Endpoint, LocalModel
from codegen.terminal import Progress as Bar
from codegen.terminal import echo

if TYPE_CHECKING:
    from codegen.data import Manifest, Progress, TextGenerator
    from codegen.data.executors import Executor
    from codegen.data.filters import Dedup, Filter
    from codegen.generation.plans import ModelClient
    from codegen.records import DataRecord

# Options that do not change the data.
_NOT_ON_THE_CARD = frozenset({"out", "workers", "executor", "as_json", "traceback"})


@click.group(cls=Group)
def data() -> None:
    """Make and inspect training data.

    SOURCE is a .jsonl, .jsonl.gz or .parquet file, a Python file or a directory of them,
    hub:org/name[:config][:split], stdlib (the functions of this Python's standard library),
    humaneval, mbpp, families (for cogex), puzzles:NAME (for plain) or git:PATH (for edits).

    Run the same command again to resume an interrupted run.
    """


class RunOptions(Config):
    """The options that all generators share."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    limit: int | None = setting(None, "Read at most this many examples.", ge=0)
    seed: int = setting(0, "Random seed.")
    workers: int | None = setting(None, "Number of worker processes.", shown="one per CPU", ge=1)
    executor: Literal["local", "ray"] = setting(
        "local", "Run in processes of this machine or on a Ray cluster."
    )
    ray_address: str | None = setting(
        None,
        "Ray cluster: host:port, auto (the one on this machine) or local (start one).",
        metavar="ADDRESS",
        shown="RAY_ADDRESS, else local",
    )
    shard: str | None = setting(
        None,
        "Process only part I (from 0) of N, as one job of a batch scheduler. Join the parts with "
        "codegen data merge.",
        metavar="I/N",
    )
    instruction_column: str = setting(
        "instruction", "Column of the instruction; '' if the rows have none."
    )
    program_column: str = setting("program", "Column of the program.")
    id_column: str = setting("", "Column of the row id.", shown="id, if present")
    license_column: str = setting("", "Column of each row's license.", old="licence_column")
    license: str = setting("", "License of all examples (an SPDX id).", old="licence")
    language: str = setting("python", "Programming language of the rows.")
    language_column: str = setting("", "Column of each row's programming language.")
    keep_docstring: bool = setting(False, "Keep docstrings in the programs.")
    dedup: Literal["none", "exact", "near"] = setting(
        "none", "Drop exact or near duplicates (MinHash)."
    )
    dedup_against: tuple[str, ...] = setting(
        (), "Also drop duplicates of this source's programs. Repeatable.", metavar="SOURCE"
    )
    dedup_threshold: float = setting(
        0.7, "Jaccard similarity of word 5-grams at which programs are near duplicates.", gt=0, le=1
    )
    decontaminate: tuple[str, ...] = setting(
        (),
        "Drop examples that contain a problem of this test set: humaneval, mbpp, hub:... or a "
        "file. Repeatable.",
        metavar="SET",
    )
    filter: tuple[str, ...] = setting(
        (), "Apply a filter of another package. Repeatable.", metavar="NAME[:TEXT]"
    )
    item_timeout: float = setting(60.0, "Time limit for one example in seconds.", gt=0)
    max_characters: int = setting(2**20, "Skip programs longer than this.", ge=1)
    chunk_size: int = setting(
        32, "Examples sent to a worker at a time. Does not change the data.", ge=1
    )


class LintSeqOptions(Config):
    """Turn programs into sequences of edits that keep them lint-clean (LintSeq)."""

    preset: Literal["paper"] | None = setting(
        None, "paper: the paper's data, same as --engine reference --sequences 5."
    )
    sequences: int | None = setting(
        None, "Edit sequences per program (5 in the paper).", shown="1", ge=1
    )
    granularity: Literal["line", "statement"] | None = setting(
        None,
        "Smallest piece that an edit inserts: lines, as in the paper, or whole statements.",
        shown="line",
    )
    verify: Literal["static", "compile", "ruff", "pylint"] | None = setting(
        None,
        "Checker of every intermediate program: none (static), Python's compiler, ruff (also "
        "finds undefined names) or pylint (as in the paper, about 10 times slower).",
        shown="ruff",
    )
    audit: float | None = setting(
        None,
        "Share of the intermediate programs that pylint checks as well, to report how many it "
        "rejects.",
        metavar="SHARE",
        shown="0.005; 0 with --verify pylint",
        ge=0,
        le=1,
    )
    strict: bool = setting(
        False,
        "Use stricter dependency rules: fewer and larger edits than in the paper.",
        is_pair=True,
    )
    engine: Literal["fast", "reference", "random"] | None = setting(
        None,
        "fast: sample from dependency rules. reference: the published algorithm, with pylint "
        "after each deletion. random: the ablation RandSeq, whose intermediate programs may be "
        "invalid.",
        shown="fast",
    )
    format: Literal["diff", "anchored", "chat", "pairs"] = setting(
        "diff",
        "diff: one text per sequence, in the published form. anchored: the same with the line "
        "above in place of line numbers and counts. chat: diff as chat messages. "
        "pairs: one text per edit, from a program to the next diff.",
    )


class UniCodeOptions(Config):
    """The options of ``codegen data unicode``."""

    mode: Literal["ast", "llm", "hybrid"] = setting(
        "ast",
        "Who writes the pseudo-code: the syntax tree, a model, or both (the model adds comments).",
    )
    objectives: tuple[str, ...] = setting(
        ("qa", "qp", "pa", "uot"),
        "Texts per example: question to answer (qa), question to pseudo-code (qp), pseudo-code "
        "to answer (pa), and all three (uot).",
        commas=True,
    )
    styles: tuple[str, ...] = setting(
        ("mix",),
        "Pseudo-code styles: mix (all), or some of braces, begin_end and indent, each also with "
        "_lower.",
        commas=True,
    )
    template: Literal["plain", "alpaca"] = setting("plain", "Prompt template.")
    min_score: int = setting(
        0,
        "Mode llm: have the model grade each text and keep grades from this on; 4 is strict, 0 "
        "turns grading off.",
        ge=0,
        le=5,
    )
    snippets: bool = setting(
        False, "Mode llm: programs inspire new tasks (OSS-Instruct); instructions are not read."
    )


class CogexOptions(Config):
    """The options of ``codegen data cogex``."""

    mode: Literal["records", "run", "llm"] = setting(
        "records",
        "What the rows hold: finished records to check, functions to run in the sandbox with a "
        "call, or instructions with answers that a model turns into programs.",
    )
    input_column: str = setting("input", "Column of the input.")
    output_column: str = setting("code_output", "Mode records: column of the output.")
    call_column: str = setting(
        "",
        "Mode run: column of the call, or of tests that contain one.",
        shown="after the function",
    )


class BackspaceOptions(Config):
    """Make programs with wrong tokens and the backspaces that remove them (SequenceMatch)."""

    model: str = setting(
        "embedded", "Model whose tokenizer is used: embedded, a directory or a hub id."
    )
    eta: float = setting(0.001, "Probability of a mistake before each token.", ge=0, le=1)
    span: int = setting(1, "Maximum number of wrong tokens in a row.", ge=1)
    noise: str = setting(
        "uniform",
        "Kinds of mistake, the first that applies is made: uniform, syntax (Python) or model "
        "(slow).",
        metavar="KIND,...",
    )
    format: Literal["plain", "chat"] = setting(
        "plain", "Prompt format; must match the recipe that trains on the data."
    )
    max_tokens: int = setting(
        0, "Drop texts with more tokens, backspaces included; 0 for no limit.", ge=0
    )
    sequences: int = setting(1, "Texts per program.", ge=1)


class InfillingOptions(Config):
    """Make fill-in-the-middle texts: a part of a program, given the code around it.

    Train on them with format: plain; a chat template would wrap the sentinels.
    """

    style: str = setting(
        "fim-qwen",
        "Sentinels and order of a model family, as in codegen eval run: fim-qwen, fim-qwen-spm, "
        "fim-starcoder, fim-starcoder-spm, fim-santacoder, fim-deepseek, fim-codellama and "
        "others.",
    )
    spans: str = setting(
        "line,block,ast,char",
        "What is cut out: line, block and ast (Python), char.",
        metavar="KIND,...",
    )
    loss: Literal["middle", "all"] = setting(
        "middle", "Train on the middle, or on everything as in pre-training."
    )
    rate: float = setting(
        1.0, "Share of infilling texts; the others are whole programs.", ge=0, le=1
    )
    sequences: int = setting(1, "Texts per program.", ge=1)


class EditsOptions(Config):
    """The options of ``codegen data edits``."""

    format: str = setting(
        "blocks",
        "Format of prompt and answer: blocks, window or rows (for models with the tokens of "
        "StarCoder, each also with -qwen), zeta, zeta2, sweep, mercury, search-replace, udiff or "
        "few-shot.",
    )
    moments: int = setting(2, "Texts per changed file.", ge=0)
    refactorings: int = setting(2, "Texts per Python program, each of another refactoring.", ge=0)
    kinds: str = setting(
        "",
        "Refactorings to make: rename, signature, parameter, field, import, deletion, variable, "
        "literal, annotation, docstring.",
        metavar="KIND,...",
        shown="all",
    )
    nothing: float = setting(
        0.15, "Share of moments at which nothing is to be changed.", ge=0, le=1
    )
    unfinished: float = setting(0.2, "Share of moments in the middle of an edit.", ge=0, le=1)
    above: int = setting(10, "Lines of the window above the cursor.", ge=0)
    below: int = setting(10, "Lines of the window below the cursor.", ge=0)
    history: int = setting(6, "Edits of the history shown at most.", ge=0)
    characters: int = setting(
        1600, "Characters of prompt and answer; window and history shrink to fit.", ge=100
    )
    licenses: str = setting(
        "MIT,BSD-2-Clause,BSD-3-Clause,Apache-2.0,ISC,0BSD,Unlicense,PSF-2.0",
        "Licenses of the files that are taken (SPDX ids); any takes all.",
        metavar="ID,...",
    )
    since: str = setting("", "Only changes from this date on.", metavar="DATE", shown="no limit")
    until: str = setting("", "Only changes before this date.", metavar="DATE", shown="no limit")


class WholeOptions(Config):
    """Make the baseline of lintseq: the same programs as whole texts."""


class PlainOptions(Config):
    """Make one text per example: its instruction, then its program, which is trained on.

    Works for any language, and for puzzles: puzzles:star-easy, star-medium, star-hard or zebra-3x3,
    followed by :train, :validation or :test and a number.
    """


class InstalledOptions(Config):
    """Make training texts with a generator of another package."""

    option: dict[str, Any] = setting(
        {}, "An option of the generator. Repeatable.", flags=("-o", "--option")
    )


class _InstalledCommand(Command):
    """The command of another package's generator, which is imported for the help or to run."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes what the generator's docstring says, then its options."""
        from codegen.data.generators import described

        about, own = described(plugins.load("generators", self.name or ""))
        self.help = about or self.help
        super().format_help_text(ctx, formatter)
        if own:
            with formatter.section("Options of the generator, each as -o NAME=VALUE"):
                formatter.write_dl(own)


def _add(
    name: str,
    kind: type[Config],
    about: str,
    example: str,
    cls: type[Command] = Command,
) -> None:
    """The command of a generator whose options are passed on as they are."""

    @command(name=name, group=data, example=example, short_help=about, help=kind.__doc__, cls=cls)
    @click.argument("source")
    @options(kind, "method")
    @options(RunOptions, "run")
    def generator(source: str, method: Config, run: RunOptions, as_json: bool) -> Mapping[str, Any]:
        from codegen.data import make

        settings = method.option if isinstance(method, InstalledOptions) else dict(method)
        return _generate(make(name, **settings), source, run, as_json)


_add(
    "lintseq",
    LintSeqOptions,
    "Make edit sequences that keep programs lint-clean.",
    "codegen data lintseq stdlib --out data/lintseq --sequences 5",
)


@command(
    group=data,
    short_help="Insert pseudo-code between question and program (UniCoder).",
    example="codegen data unicode humaneval --out data/unicode\n  "
    "codegen data unicode pairs.jsonl --out data/llm --mode llm \\\n    "
    "--endpoint http://localhost:8000/v1 --model my-model",
)
@click.argument("source")
@options(UniCodeOptions, "method")
@options(ClientOptions, "client")
@options(EndpointOptions, "server")
@options(RunOptions, "run")
def unicode(
    source: str,
    method: UniCodeOptions,
    client: ClientOptions,
    server: EndpointOptions,
    run: RunOptions,
    as_json: bool,
) -> Mapping[str, Any]:
    """Insert pseudo-code between questions and programs (UniCoder).

    Modes llm and hybrid require a model. Its responses are cached: after an interruption, or with
    other objectives, run the command again and nothing is paid for twice.
    """
    settings = dict(method)
    own = ("min_score", "snippets")
    given = [name for name in own if name in method.model_fields_set]
    llm = model_client(client, server, method.mode, ("llm", "hybrid"), given)
    if llm is None:
        from codegen.data import make

        settings = {name: value for name, value in settings.items() if name not in own}
        return _generate(make("unicode", **settings), source, run, as_json)
    if method.snippets:  # the model invents the instruction
        run = run.model_copy(update={"instruction_column": ""})
    return _generate_with_model("unicode", settings, llm, source, run, as_json)


@command(
    group=data,
    short_help="Make pseudo-programs with their outputs (CoGEX).",
    example="codegen data cogex families:4000 --out data/cogex\n  "
    "codegen data cogex mbpp.jsonl --out data/run --mode run --instruction-column text \\\n    "
    "--program-column code --call-column test_list\n  "
    "codegen data cogex alpaca.jsonl --out data/llm --mode llm \\\n    "
    "--endpoint http://localhost:8000/v1 --model my-model",
)
@click.argument("source")
@options(CogexOptions, "method")
@options(ClientOptions, "client")
@options(EndpointOptions, "server")
@options(RunOptions, "run")
def cogex(
    source: str,
    method: CogexOptions,
    client: ClientOptions,
    server: EndpointOptions,
    run: RunOptions,
    as_json: bool,
) -> Mapping[str, Any]:
    """Make pseudo-programs with their outputs (CoGEX).

    SOURCE may also be families[:NAME,...][:COUNT]: built-in problems with programs that solve them
    (word_sorting, coin_flip, large_sum, arithmetic and others). The program column defaults to
    code_prompt, program or output, by mode. Records that break a rule are dropped and counted.
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
    if llm is None:
        from codegen.data import make

        return _generate(make("cogex", **settings), source, run, as_json, columns)
    return _generate_with_model("cogex", settings, llm, source, run, as_json, columns)


_add(
    "backspace",
    BackspaceOptions,
    "Make programs with mistakes and backspaces (SequenceMatch).",
    "codegen data backspace stdlib --out data/backspace --noise syntax,uniform --eta 0.01",
)
_add(
    "infilling",
    InfillingOptions,
    "Make fill-in-the-middle data.",
    "codegen data infilling stdlib --out data/fim --style fim-starcoder --spans line,ast",
)


@command(
    group=data,
    short_help="Make next edits from git histories and refactorings.",
    example="codegen data edits git:../my-project --out data/edits --license MIT\n  "
    "codegen data edits commits.jsonl --out data/edits --license-column license",
)
@click.argument("source")
@options(EditsOptions, "method")
@options(RunOptions, "run")
def edits(source: str, method: EditsOptions, run: RunOptions, as_json: bool) -> Mapping[str, Any]:
    """Make next edits: moments of editing, each with the edit that comes next.

    SOURCE may also be git:PATH, a repository or a directory of several. Rows hold a file before a
    change (the program column, by default old) and its text after (new) or a unified diff (diff);
    path, date and subject are read where they are there. Python files are refactored besides, those
    of other sources only.
    """
    from codegen.data import make

    if "instruction_column" not in run.model_fields_set:
        run = run.model_copy(update={"instruction_column": ""})
    if "program_column" not in run.model_fields_set:
        run = run.model_copy(update={"program_column": "old"})
    columns = ("new", "diff", "path", "date", "subject")
    return _generate(make("edits", **dict(method)), source, run, as_json, columns)


_add(
    "whole",
    WholeOptions,
    "Make the baseline of lintseq: whole programs.",
    "codegen data whole stdlib --out data/whole",
)
_add(
    "plain",
    PlainOptions,
    "Make texts of the examples as they are.",
    "codegen data plain puzzles:star-easy:train:1000 --out data/star_easy",
)
for _name in plugins.names("generators"):
    if _name not in data.commands and (_package := plugins.package_of("generators", _name)):
        _add(
            _name,
            InstalledOptions,
            f"Run the generator of the package {_package}.",
            f"codegen data {_name} stdlib --out data/{_name}",
            _InstalledCommand,
        )


class PreferenceOptions(Config):
    """The options of ``codegen data preferences``."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    task: str = setting("", "Task of the samples.", metavar="NAME", shown="the one that they name")
    source: str | None = setting(None, "Read the task's data from here.")
    rejected: tuple[str, ...] = setting(
        ("wrong",),
        "Verdicts of answers to reject, such as wrong,error,syntax_error. Never infra_error: the "
        "sandbox failed, not the program.",
        metavar="STATUS,...",
        commas=True,
    )
    pairs: int = setting(
        4, "Most pairs per problem; with --unpaired, most answers of each label.", ge=1
    )
    ratio: float = setting(1.5, "Pair answers whose lengths differ by at most this factor.", ge=1)
    alike: int = setting(
        2,
        "Keep this many programs that differ only in names, numbers and strings, per problem and "
        "verdict.",
        ge=1,
    )
    unpaired: bool = setting(False, "Write single answers with a label (KTO) instead of pairs.")
    decontaminate: tuple[str, ...] = setting(
        (),
        "Drop problems of this test set: humaneval, mbpp, hub:... or a file. Repeatable.",
        metavar="SET",
    )


@command(
    group=data,
    short_help="Make preference pairs from a scored run.",
    example="codegen data preferences runs/mbpp --out data/mbpp_pairs",
)
@click.argument("run", metavar="RUN")
@options(PreferenceOptions, "given")
def preferences(run: str, given: PreferenceOptions, as_json: bool) -> Mapping[str, Any]:
    """Make pairs of a passed and a failed answer (DPO) from a scored run.

    RUN is the output directory of `codegen eval run` after `codegen eval score`. Train on the pairs
    with a recipe with objective: dpo, or with TRL's DPOTrainer.
    """
    from codegen.data import is_finished
    from codegen.data import run as run_engine
    from codegen.data.filters import Decontamination
    from codegen.data.preferences import Preferences, ScoredRun, scored_files
    from codegen.evals.scoring import task_of
    from codegen.evals.tasks import load as load_task

    samples, verdicts = scored_files(Path(run))
    task = load_task(given.task or task_of(samples), given.source)
    source = ScoredRun(samples, verdicts, task, given.rejected, given.alike)
    sets = given.decontaminate
    was_finished = is_finished(given.out)
    with stopped_cleanly(), Bar("data preferences") as bar:
        show = _Shown(bar)
        manifest = run_engine(
            Preferences(given.pairs, given.ratio, given.unpaired),
            source,
            given.out,
            workers=1,
            filters=[Decontamination.build(sets)] if sets else [],
            on_progress=show,
            command=command_line(click.get_current_context()),
        )
    return _summary(manifest, given.out, was_finished, show.resumed, as_json)


@command(
    group=data,
    short_help="Show counts and texts; step through edits.",
    example="codegen data inspect data/lintseq -n 1 --step",
)
@click.argument("directory", metavar="DIR")
@click.option("--id", "id_", metavar="ID", help="Show the texts with this id or example id.")
@click.option(
    "-n",
    "number",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Number of texts to show.",
)
@click.option(
    "--step", is_flag=True, help="Step through edits or mistakes (arrow keys on a terminal)."
)
def inspect(
    directory: str, id_: str | None, number: int, step: bool, as_json: bool
) -> Mapping[str, Any]:
    """Show a data directory: its counts and some of its texts."""
    from codegen.data import load_manifest, read_data, view
    from codegen.records import to_json

    if id_ is not None:
        texts = _find(directory, id_)
    else:
        texts = list(islice(read_data(directory), min(number, sys.maxsize)))
    # A single file has no manifest.
    manifest = load_manifest(directory) if Path(directory).is_dir() else None
    if not texts and number and manifest is None:
        raise InputError(
            f"{directory} holds no texts.", "Give a data directory or one of its files."
        )
    if as_json:
        return {
            "manifest": asdict(manifest) if manifest else None,
            "texts": [json.loads(to_json(text)) for text in texts],
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


@command(
    group=data,
    short_help="Join the shards of a run.",
    example="codegen data merge data/shard-* --out data/lintseq",
)
@click.argument("shards", nargs=-1, required=True, metavar="DIR...")
@click.option("--out", required=True, metavar="DIR", help="Output directory.")
def merge(shards: tuple[str, ...], out: str, as_json: bool) -> Mapping[str, Any]:
    """Join the directories of all shards of a run (--shard 0/N to N-1/N).

    The result equals, byte for byte, the data of an unsharded run. Duplicates are dropped now if
    the shards were made with --dedup.
    """
    from codegen.data import is_finished
    from codegen.data import merge as merge_shards

    was_finished = is_finished(out)
    with stopped_cleanly():
        manifest = merge_shards(shards, out, command=command_line(click.get_current_context()))
    return _summary(manifest, out, was_finished, 0, as_json)


@command(
    group=data, short_help="Write the texts as Parquet.", example="codegen data export data/lintseq"
)
@click.argument("directory", metavar="DIR")
@click.option(
    "--format", "format_", type=click.Choice(["parquet"]), default="parquet", show_default=True
)
@click.option("--out", metavar="DIR", help="Output directory.  [default: DIR/parquet]")
def export(directory: str, format_: str, out: str | None, as_json: bool) -> Mapping[str, Any]:
    """Write the texts of a finished data directory as Parquet, one file per data file.

    The rows are the same. The column meta, whose keys differ between generators, is JSON text.
    """
    from codegen.data.publish import export_parquet

    files = export_parquet(directory, out)
    size = sum(path.stat().st_size for path in files)
    if not as_json:
        where = files[0].parent if files else out or directory
        echo(f"{len(files)} Parquet files in {where}, {size / 2**20:.1f} MiB")
    return {"ok": True, "format": format_, "files": [str(path) for path in files], "bytes": size}


@command(
    group=data,
    short_help="Publish a data directory on the Hugging Face hub.",
    example="codegen data push data/lintseq hub:me/edits --private",
)
@click.argument("directory", metavar="DIR")
@click.argument("target", metavar="hub:ORG/NAME")
@click.option("--private", is_flag=True, help="Make the dataset private.")
def push(directory: str, target: str, private: bool, as_json: bool) -> Mapping[str, Any]:
    """Publish a finished data directory as a dataset on the Hugging Face hub, with its card.

    Includes the Parquet files of codegen data export. Requires a token with write access: run
    hf auth login, or set HF_TOKEN.
    """
    from codegen.data.publish import push as upload

    url = upload(directory, target, private=private)
    if not as_json:
        echo(f"Published at {url}")
    return {"ok": True, "url": url, "private": private}


def command_line(context: click.Context) -> str:
    """The command with the given options that decide the data, for the card.

    The output directory is written as ``DIR``. Hidden input, such as a password, is left out.
    """
    words = [*context.command_path.split()]
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        is_hidden = getattr(parameter, "hide_input", False)
        if given and name not in _NOT_ON_THE_CARD and not is_hidden:
            words += as_words(parameter, context.params[name])
    return shlex.join([*words, "--out", "DIR"])


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
        echo("Terminated. Run the same command again to resume.", err=True)
        raise click.exceptions.Exit(143) from None
    finally:
        signal.signal(signal.SIGTERM, previous)


def _generate(
    generator: TextGenerator,
    source: str,
    options: RunOptions,
    as_json: bool,
    extra_columns: tuple[str, ...] = (),
) -> Mapping[str, Any]:
    """Runs a generator over a source; returns the summary."""
    from codegen.data import EngineOptions, Shard, is_finished, open_source, run

    items = open_source(
        source,
        instruction_column=options.instruction_column,
        program_column=options.program_column,
        id_column=options.id_column,
        license_column=options.license_column,
        license=options.license,
        language=options.language,
        language_column=options.language_column,
        keep_docstring=options.keep_docstring,
        extra_columns=extra_columns,
    )
    out = options.out
    was_finished = is_finished(out)
    with stopped_cleanly(), Bar(f"data {generator.name}") as bar:
        show = _Shown(bar)
        manifest = run(
            generator,
            items,
            out,
            seed=options.seed,
            workers=options.workers,
            executor=_executor(options),
            limit=options.limit,
            shard=Shard.parse(options.shard) if options.shard else None,
            dedup=_dedup(options),
            filters=_filters(options),
            on_progress=show,
            options=EngineOptions(
                chunk_size=options.chunk_size,
                item_timeout_s=options.item_timeout,
                max_characters=options.max_characters,
            ),
            command=command_line(click.get_current_context()),
        )
    if not as_json and manifest.run.shard:
        later = " That also drops the duplicates." if manifest.run.dedup else ""
        echo(
            f"This is shard {manifest.run.shard}. Join all shards with: "
            f"codegen data merge DIR... --out DIR{later}",
            err=True,
        )
    return _summary(manifest, out, was_finished, show.resumed, as_json)


def _summary(
    manifest: Manifest, out: str, was_finished: bool, resumed: int, as_json: bool
) -> Mapping[str, Any]:
    """Prints what was made, unless the summary that is returned is printed as JSON."""
    from codegen.data.view import summary_lines

    if was_finished:
        echo(f"{out} is already finished; nothing to do.", err=True)
    if not as_json:
        echo("\n".join(summary_lines(manifest)))
        if manifest.kept:
            echo(f"Inspect it with: codegen data inspect {out} --step")
    if manifest.counts["inputs"] == 0:
        echo("Error: There was no input: the source is empty, or --limit is 0.", err=True)
    elif manifest.kept == 0:
        reasons = {**manifest.counts["skipped"], **manifest.counts["failed"]}
        listed = ", ".join(f"{n} {why}" for why, n in sorted(reasons.items(), key=lambda r: -r[1]))
        echo(f"Error: Nothing was kept ({listed}); see {out}/rejects.jsonl.", err=True)
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


class _Shown:
    """Shows an engine's progress on a bar."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.resumed = 0

    def __call__(self, progress: Progress) -> None:
        if progress.resumed and not self.resumed:
            self.resumed = progress.resumed
            self.bar.say(f"Resuming after {self.resumed} inputs of an interrupted run.")
        note = f"{progress.kept} kept, {progress.skipped} skipped, {progress.failed} failed"
        total = round(progress.inputs / progress.fraction) if progress.fraction else None
        self.bar.update(progress.inputs, total, note)


def _executor(options: RunOptions) -> Executor | Literal["local"]:
    from codegen.data import RayExecutor

    if options.executor == "ray":
        return RayExecutor(options.ray_address or "", options.workers)
    if options.ray_address:
        raise ConfigError("--ray-address requires a Ray cluster.", "Add --executor ray.")
    return "local"


def _dedup(options: RunOptions) -> Dedup | None:
    from codegen.data.filters import Dedup

    kind, against = options.dedup, options.dedup_against
    if kind == "none":
        if against:
            raise ConfigError("--dedup-against requires --dedup.", "Add --dedup exact or near.")
        return None
    return Dedup(kind, threshold=options.dedup_threshold, references=against)


def _filters(options: RunOptions) -> list[Filter]:
    from codegen.data.filters import Decontamination

    sets = options.decontaminate
    found: list[Filter] = [Decontamination.build(sets)] if sets else []
    for text in options.filter:
        name, _, argument = text.partition(":")
        found.append(plugins.load("filters", name)(argument))
    return found


def _find(directory: str, id_: str) -> list[DataRecord]:
    """The texts with an id or example id.

    Raises:
        InputError: if there are none; with the reason, if the example was left out.
    """
    from codegen.data import read_data, read_rejects

    found = [text for text in read_data(directory) if id_ in (text.id, text.example_id)]
    if found:
        return found
    if Path(directory).is_dir():
        for row in read_rejects(directory):
            if row["id"] == id_:
                why = ": ".join(part for part in (row["reason"], row["detail"]) if part)
                raise InputError(f"{id_!r} was left out of {directory} ({row['outcome']}, {why}).")
    raise InputError(f"There is no text {id_!r} in {directory}.", "List the ids with: -n 10")


# With a model, an example takes as long as its requests, which have time limits of their own; an
# example that runs into this one would have been paid for.
_ITEM_TIMEOUT_S = 86_400.0


def _generate_with_model(
    name: str,
    settings: Mapping[str, Any],
    llm: ModelClient,
    source: str,
    run: RunOptions,
    as_json: bool,
    columns: tuple[str, ...] = (),
) -> Mapping[str, Any]:
    """Runs a generator that requires a model; the summary also gives the tokens and their cost."""
    from codegen.data import make

    spec, at_once = llm.spec, 1
    if isinstance(spec, Endpoint):
        at_once = spec.concurrency
        if spec.max_cost and ((run.workers or 1) > 1 or run.executor == "ray"):
            raise ConfigError(
                "--max-cost requires one process.", "Leave out --workers and --executor."
            )
    elif isinstance(spec, LocalModel):
        at_once = spec.batch_size
    run = run.model_copy(
        update={
            "workers": run.workers or 1,  # one process keeps all requests in flight
            "chunk_size": max(run.chunk_size, at_once),  # the requests of a chunk go together
            "item_timeout": run.item_timeout
            if "item_timeout" in run.model_fields_set
            else _ITEM_TIMEOUT_S,
        }
    )
    with counted(llm.prices, llm.cache) as (ledger, spent):
        generator = make(name, **settings, llm=replace(llm, ledger=ledger))
        summary = _generate(generator, source, run, as_json, columns)
    if failed := summary["counts"]["failed"].get("RequestFailed"):
        others = f"all other responses come from {llm.cache}" if llm.cache else "all are paid again"
        echo(
            f"{failed} examples got no response (RequestFailed in rejects.jsonl). To request them "
            f"again, run the command with another --out; {others}.",
            err=True,
        )
    return {**summary, "llm": spent}
