"""``codegen eval``: sample a task, score the samples by running them, report, exchange."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import click
from pydantic import Field

from codegen import plugins
from codegen.cli import Group
from codegen.cli.clients import EndpointOptions, opened_endpoint
from codegen.cli.generate import BackendOptions
from codegen.cli.options import command, completes, options
from codegen.cli.planning import needs, with_plan
from codegen.config import Config, setting
from codegen.errors import ConfigError, InputError, plural
from codegen.terminal import Progress, columns, echo

if TYPE_CHECKING:
    from codegen.evals.report import PairedResult
    from codegen.evals.score import Score
    from codegen.evals.tasks import Task
    from codegen.evals.tasks.check import Check
    from codegen.evaluate import SampledRun
    from codegen.generation import Backend


@click.group(
    name="eval",
    cls=Group,
    lazy={
        "kolmogorov": (
            "codegen.cli.kolmogorov:kolmogorov",
            "Test compression by programs.",
        ),
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


_Format = Literal["human-eval", "evalplus", "bigcode"]
_AUTO = "auto"
_PLANNED_SAMPLES = 48  # that `eval score --plan` scores, at least
_PLANNED_PROBLEMS = 24  # that `eval check --plan` checks, at most


class SandboxOptions(Config):
    """How programs run."""

    workers: int | None = setting(None, "Number of sandboxes.", shown="one per CPU", ge=1)
    unsafe_local: bool = setting(
        False, "Run the programs without isolation if there is no sandbox. Dangerous."
    )
    packages: tuple[str, ...] = setting(
        (),
        "Installed packages that programs may import (numpy), or directories (./lib); auto means "
        "those that the task's problems import.",
        metavar="NAME,...",
        commas=True,
    )

    def settings_for(self, task: Task[Any]) -> dict[str, Any]:
        """The arguments of a sandbox for the programs of a task."""
        return {
            "workers": self.workers,
            "unsafe_local": self.unsafe_local,
            "packages": self._packages_for(task),
            "languages": task.languages,
        }

    def _packages_for(self, task: Task[Any]) -> tuple[str, ...]:
        """The packages to mount; in place of ``auto`` those that the task's problems import."""
        from codegen.evals.tasks.base import installed

        if _AUTO not in self.packages:
            return self.packages
        wanted = frozenset[str]().union(*(task.modules(problem) for problem in task.problems()))
        found = installed(wanted)
        missing = sorted(wanted - {*found})
        echo(f"Packages mounted: {', '.join(found) or 'none'}", err=True)
        if missing:
            echo(f"Packages not installed here: {', '.join(missing)}", err=True)
        return (*(name for name in self.packages if name != _AUTO), *found)


class DateOptions(Config):
    """Limits a task to problems of some dates."""

    since: str | None = setting(
        None, "Use only problems from this day on (livecodebench).", metavar="YYYY-MM-DD"
    )
    until: str | None = setting(
        None, "Use only problems up to this day (livecodebench).", metavar="YYYY-MM-DD"
    )

    def _check(self) -> None:
        super()._check()
        for name in ("since", "until"):
            _day(name, getattr(self, name))

    def of(self, task: Task[Any]) -> Task[Any]:
        """The task, limited to the problems of these dates."""
        if self.since is None and self.until is None:
            return task
        return task.dated(_day("since", self.since), _day("until", self.until))


def _day(name: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--{name} is {text!r}, which is not a date.", "Write it as 2025-01-31."
        ) from None


class TaskOptions(Config):
    """The task of samples that are converted."""

    task: str = setting(..., "Task that the samples belong to.")
    source: str | None = setting(None, "Path of the task's data, or hub:org/name.")
    out: str = setting(..., "File to write.", metavar="FILE")


class RunOptions(DateOptions, BackendOptions):
    """The options of ``codegen eval run``."""

    model: str = setting(
        ...,
        "Model: embedded, a directory, a hub id, a GGUF file or an endpoint; sqlnet for tasks with "
        "databases.",
    )
    n: int = setting(1, "Samples per problem.", flags=("-n",), ge=1)
    out: str = setting(..., "Output directory.", metavar="DIR")
    limit: int | None = setting(None, "Use only this many problems.", ge=1)
    style: str | None = setting(
        None,
        "Prompt style, see `codegen eval styles`.",
        metavar="NAME",
        shown="as the model was tuned",
    )
    styles: str | None = setting(None, "YAML file with your own prompt styles.", metavar="FILE")
    temperature: float = setting(0.8, "Sampling temperature; 0 is greedy.", ge=0, le=100)
    top_p: float = setting(0.95, "Probability mass of the nucleus.", gt=0, le=1)
    max_new_tokens: int = setting(256, "Maximum tokens per sample.", ge=1)
    batch_size: int = setting(
        40, "Samples per forward pass; with a server the same as --concurrency.", ge=1
    )
    seed: int = setting(0, "Random seed.")
    source: str | None = setting(None, "Path of the task's data, or hub:org/name.")
    retry: str | None = setting(
        None,
        "Second tries: keep the samples of this scored run that passed, and request the others "
        "again with the results of their tests.",
        metavar="DIR",
    )

    def _check(self) -> None:
        super()._check()
        if self.decoder_option and not self.decoder:
            raise ConfigError("--decoder-option requires --decoder.")


def run_needs(
    task: str,
    given: RunOptions,
    server: EndpointOptions,
    opened: dict[str, Backend] | None = None,
) -> dict[str, Any]:
    """What a run needs, by sampling one batch of it; see :func:`sample_cell`."""
    from codegen.evals.tasks import load as load_task

    problems = len(given.of(load_task(task, given.source)).problems())
    problems = min(problems, given.limit or problems)
    batch = max(given.batch_size, 4)
    n = min(given.n, batch)
    bar = Progress("one batch")
    llm: dict[str, Any] = {}
    with TemporaryDirectory(prefix="codegen-plan-") as part:
        own = {"n": n, "limit": min(problems, -(-batch // n)), "out": part}
        sample_cell(task, given.model_copy(update=own), server, llm, opened, bar)
        return {**needs("samples", Path(part), given.out, bar, problems * given.n), **llm}


@command(
    group=evals,
    short_help="Sample a task with a model.",
    example="codegen eval run humaneval-short --model embedded -n 5 --out runs/base",
)
@click.argument("task", shell_complete=completes(lambda: plugins.names("tasks")))
@options(RunOptions, "given")
@options(EndpointOptions, "server")
@with_plan(run_needs)
def run(task: str, given: RunOptions, server: EndpointOptions, as_json: bool) -> dict[str, Any]:
    """Sample TASK with a model.

    TASK is one of `codegen eval tasks`, or file:PATH for your own task.
    """
    from codegen.evals.run import IncompleteRun
    from codegen.evals.tasks import FILE

    llm: dict[str, Any] = {}
    try:
        sampled = sample_cell(task, given, server, llm)
    except IncompleteRun as error:
        if not as_json:
            raise
        echo(f"Error: {error}", err=True)
        return {"ok": False, "samples": error.samples, "failed": error.failed, **llm}
    if not as_json:
        path = sampled.path
        echo(f"{path} (style {sampled.style}, decoder {sampled.decoder})")
        where = f" --task {task}" if task.startswith(FILE) else ""
        where += f" --source {given.source}" if given.source else ""
        echo(f"Score it with: codegen eval score {given.out}{where}")
    return {**asdict(sampled), "path": str(sampled.path), **llm}


def sample_cell(
    task: str,
    given: RunOptions,
    server: EndpointOptions,
    llm: dict[str, Any],
    opened: dict[str, Backend] | None = None,
    bar: Progress | None = None,
) -> SampledRun:
    """Samples a task as the options say.

    Args:
        bar: shows the progress, by default a new one.
        llm: gets the key ``llm``: the tokens of a server's responses and their cost.
        opened: keeps a local model open for the next call; its keys are all that decides how the
            model is opened.

    Raises:
        IncompleteRun: if requests to a server failed one by one.
    """
    from codegen.evals.tasks import find_style, read_styles
    from codegen.evals.tasks import load as load_task
    from codegen.evaluate import SQLNET, SqlnetBackend, sample_task
    from codegen.generation import Decoder, SamplingParams
    from codegen.generation.backends import open_backend

    known = read_styles(given.styles) if given.styles else None
    style = find_style(given.style, known) if given.style else None
    loaded = given.of(load_task(task, given.source))
    if style:
        loaded.request(loaded.problems()[0], style, 0)  # fails if the task cannot use the style
    at_once = given.batch_size if "batch_size" in given.model_fields_set else None
    endpoint = given.server_of(given.model, server, at_once)
    kind = "openai" if endpoint else given.backend_of(given.model)
    params = SamplingParams(given.max_new_tokens, given.temperature, given.top_p, given.seed)

    def sample(backend: str | Backend) -> SampledRun:
        with bar or Progress("samples") as progress:
            return sample_task(
                loaded,
                endpoint.model if endpoint else given.model,
                params,
                n=given.n,
                out=given.out,
                style=style,
                decoder=Decoder(given.decoder, given.decoder_option) if given.decoder else None,
                limit=given.limit,
                batch_size=given.batch_size,
                backend=backend,
                options=None if endpoint else given.own_options(kind),
                after=given.retry,
                on_progress=progress.update,
            )

    if given.model == SQLNET and endpoint is None:
        with _one_thread():
            return sample(SqlnetBackend(loaded))
    if endpoint is None and opened is not None:
        how = {"batch_size": given.batch_size, **given.own_options(kind)}
        key = json.dumps([kind, given.model, how], sort_keys=True)
        if key not in opened:
            opened.clear()  # one at a time is in memory
            opened[key] = open_backend(kind, given.model, **how)
        return sample(opened[key])
    if endpoint is None:
        return sample(kind)
    with opened_endpoint(endpoint, server) as (backend, spent):
        llm["llm"] = spent
        return sample(backend)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Has torch use one thread, which is fastest for a small network."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ScoreOptions(SandboxOptions):
    """The options of ``codegen eval score``."""

    task: str | None = setting(
        None, "Task that the samples belong to.", shown="the one that all samples name"
    )
    source: str | None = setting(None, "Path of the task's data, or hub:org/name.")
    out: str | None = setting(None, "Output directory.", metavar="DIR", shown="the run's own")
    k: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        (), "Report pass@k for this k. Repeatable."
    )
    executor: Literal["local", "ray"] = setting(
        "local", "Run the sandboxes on this machine or on a Ray cluster."
    )
    ray_address: str = setting(
        "", "Address of the Ray cluster.", shown="RAY_ADDRESS, else one is started here"
    )
    reward: str | None = setting(
        None,
        "Also write a reward for each sample to rewards.jsonl: passed, or one of another package.",
        metavar="NAME",
    )


def _score_needs(samples: str, given: ScoreOptions) -> dict[str, Any]:
    """What scoring needs, by scoring all samples of a few problems."""
    from codegen.evals.scoring import read_samples, task_of
    from codegen.records import write_jsonl

    path, out = _to_score(samples, given)
    counts = Counter(sample.problem_id for sample in read_samples(path))
    few: list[str] = []
    for id_ in Random(0).sample(list(counts), len(counts)):
        if sum(counts[known] for known in few) >= _PLANNED_SAMPLES:
            break
        few.append(id_)
    with TemporaryDirectory(prefix="codegen-plan-") as folder:
        part = Path(folder, "samples.jsonl")
        write_jsonl(part, (one for one in read_samples(path) if one.problem_id in few))
        own = {"task": given.task or task_of(path), "out": str(Path(folder, "out"))}
        bar = Progress("a few problems")
        score_cell(str(part), given.model_copy(update=own), bar)
        total = round(bar.done * counts.total() / max(sum(counts[id_] for id_ in few), 1))
        what = "programs"  # and reference solutions
        return needs(what, Path(folder, "out"), out, bar, total)


@command(
    group=evals,
    short_help="Score samples by running them.",
    example="codegen eval score runs/base",
)
@click.argument("samples", type=click.Path())
@options(ScoreOptions, "given")
@with_plan(_score_needs)
def score(samples: str, given: ScoreOptions, as_json: bool) -> dict[str, Any]:
    """Run each sample of a JSONL file against the tests of its problem.

    SAMPLES is the output directory or file of `codegen eval run`, or a file of human-eval or
    EvalPlus.
    """
    if given.reward:
        plugins.load("rewards", given.reward)  # an unknown name fails before anything runs
    result, samples, out = score_cell(samples, given)
    if not as_json:
        _print_score(result)
    summary = {"ok": result.complete, **asdict(result)}
    if given.reward:
        summary["reward"] = _reward(given.reward, samples, Path(out), as_json)
    return summary


def score_cell(
    samples: str, given: ScoreOptions, bar: Progress | None = None
) -> tuple[Score, str, str]:
    """Scores samples as the options say.

    Args:
        bar: shows the progress, by default a new one.

    Returns:
        The score, the file that was scored, and the directory of the results.
    """
    from codegen.evals.sandbox import ClusterSandbox, Sandbox
    from codegen.evals.scoring import score as score_samples
    from codegen.evals.scoring import task_of
    from codegen.evals.tasks import load as load_task

    samples, out = _to_score(samples, given)
    task = load_task(given.task or task_of(samples), given.source)
    how = given.settings_for(task)
    is_remote = given.executor == "ray"
    opened = ClusterSandbox(given.ray_address, **how) if is_remote else Sandbox(**how)
    with bar or Progress("programs and reference solutions") as progress, opened as sandbox:
        result = score_samples(
            samples,
            task,
            out=out,
            sandbox=sandbox,
            ks=given.k or None,
            on_progress=progress.update,
        )
    return result, samples, out


def _to_score(samples: str, given: ScoreOptions) -> tuple[str, str]:
    """The file to score, and the directory of the results."""
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
                f"Run the same `codegen eval run` again, or score what is there: {partial}",
            )
        samples = str(partial if is_unfinished else folder / SAMPLES)
    elif not folder.exists():
        raise InputError(f"There is no {samples}.", "Give a run's directory, or a file of samples.")
    if not out:
        raise ConfigError(f"{samples} is a file, so --out is needed.", "Name a directory.")
    return samples, out


def _reward(name: str, samples: str, out: Path, as_json: bool) -> dict[str, Any]:
    from codegen.evals.scoring import REWARDS, VERDICTS, read_samples
    from codegen.records import Verdict, read_jsonl
    from codegen.rewards import write_rewards

    verdicts = read_jsonl(Verdict, out / VERDICTS)
    found = write_rewards(name, read_samples(samples), verdicts, out / REWARDS)
    if not as_json:
        mean = "none" if found["mean"] is None else f"{found['mean']:.3f}"
        echo(f"reward {name}: mean {mean} of {plural(int(found['valued'] or 0), 'sample')}")
    return found


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.1%} to {high:.1%}"


def _print_score(score: Score) -> None:
    for k, estimate in score.estimates.items():
        line = f"pass@{k:<3} {estimate.value:6.1%}"
        if interval := _interval(estimate.tasks_low, estimate.tasks_high):
            line += f"   other tasks like these: {interval}"
        if interval := _interval(estimate.samples_low, estimate.samples_high):
            line += f"   these tasks, more samples: {interval}"
        echo(line)
    for label, estimate in score.groups.items():
        line = f"  {label}: {estimate.value:.1%} of {plural(estimate.m, 'problem')}"
        if interval := _interval(estimate.tasks_low, estimate.tasks_high):
            line += f"   {interval}"
        echo(line)
    counts = ", ".join(f"{n} {status}" for status, n in score.statuses.items())
    echo(f"{plural(score.samples, 'sample')}: {counts}")
    for name, measure in score.measures.items():
        error = "" if measure.stderr is None else f" ± {measure.stderr:.3f} (standard error)"
        echo(f"{name}: {measure.mean:.3f}{error}, {plural(measure.samples, 'sample')}")
    for note in score.notes:
        echo(note)


@command(
    group=evals,
    short_help="Write an HTML report about scores.",
    example="codegen eval report runs/base tuned=runs/7/eval --out report.html",
)
@click.argument("directories", nargs=-1, required=True, metavar="[NAME=]DIR...")
@click.option(
    "--out",
    default="report.html",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="HTML file to write; the JSON and Markdown files go beside it.",
)
@click.option("--title", default="Evaluation", show_default=True, help="Title of the page.")
@click.option(
    "--samples/--no-samples",
    "with_samples",
    default=True,
    show_default=True,
    help="Include every sample in the page, compressed.",
)
@click.option(
    "--samples-file",
    "files",
    multiple=True,
    metavar="[NAME=]FILE",
    help="The file that was scored for the run NAME, if it is not in DIR. Repeatable.",
)
def report(
    directories: tuple[str, ...],
    out: str,
    title: str,
    with_samples: bool,
    files: tuple[str, ...],
    as_json: bool,
) -> dict[str, Any]:
    """Write an HTML page about the scores in directories, and the numbers as JSON and Markdown.

    Each run is called NAME or, by default, by the shortest end of its path that is unique. The page
    includes the samples if DIR contains them or --samples-file names them. A run of reinforcement
    (codegen finetune with objective: grpo) is shown in stages of its training.
    """
    from codegen.catalog import shown_size
    from codegen.evals.report import (
        LossCurve,
        ScoredRun,
        is_training,
        read_run,
        read_training,
        write_report,
    )
    from codegen.evals.score import read_score

    named = _named(directories)
    where = _files(files, [name for name, _ in named])
    runs: list[ScoredRun] = []
    curves: list[LossCurve] = []
    for name, folder in named:
        if is_training(folder):
            stages, found = read_training(name, folder)
            runs += stages if with_samples else [replace(run, samples={}) for run in stages]
            curves += found
        elif with_samples:
            runs.append(read_run(name, folder, where.get(name)))
        else:
            runs.append(ScoredRun(name, read_score(folder)))
    path = write_report(runs, Path(out), title=title, losses=curves, quantity="Value")
    shown = sum(len(problem.samples) for run in runs for problem in run.samples.values())
    size = path.stat().st_size
    if not as_json:
        echo(f"{path} ({shown_size(size)}, {plural(shown, 'sample')}). Open it in a browser.")
    return {
        "report": str(path),
        "json": str(path.with_suffix(".json")),
        "markdown": str(path.with_suffix(".md")),
        "samples": shown,
        "bytes": size,
    }


@command(
    group=evals,
    short_help="Compare scored runs problem by problem.",
    example="codegen eval compare runs/base tuned=runs/7",
)
@click.argument("directories", nargs=-1, required=True, metavar="[NAME=]DIR...")
@click.option("-k", "ks", multiple=True, type=click.IntRange(1), help="Compare pass@k. Repeatable.")
def compare(directories: tuple[str, ...], ks: tuple[int, ...], as_json: bool) -> dict[str, Any]:
    """Compare the scores in directories pairwise, on the problems that they share.

    The test is paired: for one sample per problem McNemar's exact test, else a permutation test of
    the signs of the differences. Problems that are variants of one task count as one cluster, and
    p-values are adjusted for the number of comparisons (Holm).
    """
    from codegen.evals.report import ScoredRun, compare_runs
    from codegen.evals.score import read_score

    runs = [ScoredRun(name, read_score(folder)) for name, folder in _named(directories)]
    if len(runs) < 2:
        raise ConfigError("There is nothing to compare with.", "Give two directories or more.")
    found = compare_runs(runs, ks=ks or None)
    if not found:
        raise ConfigError(
            "No two of the runs have a task and enough samples of its problems in common.",
            "Compare runs of one task, and a k up to the number of samples per problem.",
        )
    complete_of = {run.name: run.score.complete for run in runs}
    rates = {run.name: {i: c.c / c.n for i, c in run.score.counts.items()} for run in runs}
    rows: list[dict[str, Any]] = []
    for pair in found:
        first, second = rates[pair.first], rates[pair.second]
        gained = [i for i in first if i in second and second[i] > first[i]]
        lost = [i for i in first if i in second and second[i] < first[i]]
        complete = complete_of[pair.first] and complete_of[pair.second]
        rows.append(
            {**asdict(pair), "complete": complete, "gained_problems": gained, "lost_problems": lost}
        )
        if not as_json:
            print_pair(pair, complete)
    return {"comparisons": rows}


def print_pair(pair: PairedResult, complete: bool) -> None:
    """Prints a comparison of two runs in a line."""
    found = pair.comparison
    line = f"{pair.first} -> {pair.second}   pass@{found.k} {found.difference:+.1%}"
    if found.low is not None and found.high is not None and found.low < found.high:
        line += f" ({found.low:+.1%} to {found.high:+.1%})"
    adjusted = "" if pair.p_adjusted == found.p_value else f", adjusted {pair.p_adjusted:.3g}"
    echo(
        f"{line}, p = {found.p_value:.3g} ({found.method}{adjusted}); of "
        f"{plural(found.m, 'problem')} of {pair.task} {found.better} better, {found.worse} worse"
    )
    if not complete:
        echo("  One of the scores is incomplete.")


def _files(arguments: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """The samples files given by --samples-file, by run."""
    found: dict[str, Path] = {}
    for argument in arguments:
        name, _, file = argument.rpartition("=")
        if name and name not in names:
            raise ConfigError(
                f"--samples-file: unknown run {name!r}.", f"Runs are: {', '.join(names)}."
            )
        if not name and len(names) > 1:
            raise ConfigError(
                "--samples-file must name the run that the file belongs to.", "Use NAME=FILE."
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
    """The shortest end of a path that no other path ends with."""
    for count in range(1, len(path.parts)):
        end = path.parts[-count:]
        if not any(other.parts[-count:] == end for other in others):
            return "/".join(end)
    return str(path)


@command(group=evals, example="codegen eval tasks")
def tasks(as_json: bool) -> dict[str, Any]:
    """List the tasks.

    file:PATH is a task of your own: a YAML file, or a JSONL file with the columns prompt, and
    tests, or calls and expected, or stdin and stdout, or answer (see docs/tasks.md).
    """
    from codegen.evals.tasks import names

    rows = names()
    if not as_json:
        own = ("file:PATH", "a task of your own, see docs/tasks.md")
        echo("\n".join(columns([*rows, own])))
    return {"tasks": [{"name": name, "about": about} for name, about in rows]}


@command(
    group=evals,
    short_help="List the prompt styles.",
    example="codegen eval styles --styles my-styles.yaml",
)
@click.option(
    "--styles", type=click.Path(dir_okay=False), help="YAML file with your own styles to add."
)
def styles(styles: str | None, as_json: bool) -> dict[str, Any]:
    """List the prompt styles: how a problem becomes a prompt and a completion a program."""
    from codegen.evals.tasks import STYLES, read_styles

    known = {**STYLES, **(read_styles(styles) if styles else {})}
    if not as_json:
        echo("\n".join(columns([(name, style.about) for name, style in known.items()])))
    return {"styles": [style.model_dump() for style in known.values()]}


class CheckOptions(DateOptions, SandboxOptions):
    """The options of ``codegen eval check``."""

    limit: int | None = setting(None, "Check only this many problems.", ge=1)
    every: int = setting(1, "Check only every N-th problem.", ge=1)
    source: str | None = setting(None, "Path of the task's data, or hub:org/name.")


def _check_needs(task: str, given: CheckOptions) -> dict[str, Any]:
    """What a check needs, by checking a few problems."""
    from codegen.evals.tasks import load as load_task

    problems = len(given.of(load_task(task, given.source)).problems())
    total = min(-(-problems // given.every), given.limit or problems)
    few = min(total, _PLANNED_PROBLEMS)
    own = {"limit": few, "every": given.every * (total // max(few, 1))}
    bar = Progress("a few problems")
    _checked(task, given.model_copy(update=own), bar)
    return needs("programs", Path(), ".", bar, round(bar.done * total / max(few, 1)), disk=0)


def _checked(task: str, given: CheckOptions, bar: Progress) -> tuple[Task[Any], Check]:
    from codegen.evals.sandbox import Sandbox
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.check import check as check_task

    loaded = given.of(load_task(task, given.source))
    with bar as progress, Sandbox(**given.settings_for(loaded)) as sandbox:
        return loaded, check_task(
            loaded, sandbox, limit=given.limit, every=given.every, on_progress=progress.update
        )


@command(
    group=evals,
    short_help="Test a task: references must pass, known bugs must fail.",
    example="codegen eval check humanevalfix --every 10",
)
@click.argument("task", shell_complete=completes(lambda: plugins.names("tasks")))
@options(CheckOptions, "given")
@with_plan(_check_needs)
def check(task: str, given: CheckOptions, as_json: bool) -> dict[str, Any]:
    """Run TASK's reference solutions, which must pass, and its known bugs, which must fail.

    References known to fail here are listed with the reason and do not count. The exit code is 1 if
    the task cannot be trusted on this machine.
    """
    loaded, found = _checked(task, given, Progress("programs"))
    if not as_json:
        _print_check(found)
    return {"ok": found.holds, "task": loaded.name, "source": loaded.source, **asdict(found)}


def _print_check(found: Check) -> None:
    echo(f"{found.passed} of {found.references} references pass")
    for id_, reason in found.failures.items():
        echo(f"  {id_} should pass: {reason}")
    for id_, reason in found.exceptions.items():
        passes = " (but it passes)" if id_ in found.exceptions_passed else ""
        echo(f"  {id_} is an exception: {reason}{passes}")
    if found.buggy:
        echo(f"{found.rejected} of {found.buggy} known bugs are rejected")
    for id_ in found.accepted:
        echo(f"  {id_}: a known bug passes")
    echo(f"{found.cpu_s:.1f} s of CPU time")


class ImportOptions(TaskOptions):
    """The options of ``codegen eval import``."""

    format: _Format | None = setting(None, "Format of the file.", shown="detected from the content")


@command(
    group=evals,
    name="import",
    short_help="Read the samples of another harness.",
    example="codegen eval import generations.json --task mbpp-test --out samples.jsonl",
)
@click.argument("path", type=click.Path())
@options(ImportOptions, "given")
def import_(path: str, given: ImportOptions, as_json: bool) -> dict[str, Any]:
    """Convert another harness's samples at PATH to ours.

    Reads the JSONL files of human-eval and EvalPlus, EvalPlus's directories of programs, and the
    generations of bigcode-evaluation-harness.
    """
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.exchange import read_samples_of
    from codegen.records import write_jsonl

    task = load_task(given.task, given.source)
    count = write_jsonl(given.out, read_samples_of(path, task, given.format), replace=False)
    if not as_json:
        echo(f"{given.out}: {plural(count, 'sample')}")
    return {"path": given.out, "samples": count}


class ExportOptions(TaskOptions):
    """The options of ``codegen eval export``."""

    format: _Format = setting(..., "Harness to write for.")


@command(
    group=evals,
    short_help="Write samples for another harness.",
    example="codegen eval export samples.jsonl --task humaneval --format evalplus --out ep.jsonl",
)
@click.argument("samples", type=click.Path(dir_okay=False))
@options(ExportOptions, "given")
def export(samples: str, given: ExportOptions, as_json: bool) -> dict[str, Any]:
    """Write SAMPLES in the format of another harness."""
    from codegen.evals.scoring import read_samples
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.exchange import write_samples_for

    task = load_task(given.task, given.source)
    count = write_samples_for(given.out, read_samples(samples), task, given.format)
    if not as_json:
        echo(f"{given.out}: {plural(count, 'sample')}")
    return {"path": given.out, "samples": count, "format": given.format}


class LmEvalOptions(Config):
    """The options of ``codegen eval lm-eval``."""

    style: str = setting("continue", "Prompt style, see `codegen eval styles`.")
    n: int = setting(1, "Samples per problem.", flags=("-n",), ge=1)
    temperature: float = setting(0.0, "Sampling temperature; 0 is greedy.", ge=0, le=100)
    top_p: float = setting(0.95, "Probability mass of the nucleus.", gt=0, le=1)
    max_new_tokens: int = setting(256, "Maximum tokens per sample.", ge=1)
    out: str = setting(..., "Output directory.", metavar="DIR")
    source: str | None = setting(None, "Path of the task's data, or hub:org/name.")


@command(
    group=evals,
    name="lm-eval",
    short_help="Write a task for lm-evaluation-harness.",
    example="codegen eval lm-eval mbpp-plus --style chat --out harness-tasks",
)
@click.argument("task", shell_complete=completes(lambda: plugins.names("tasks")))
@options(LmEvalOptions, "given")
def lm_eval(task: str, given: LmEvalOptions, as_json: bool) -> dict[str, Any]:
    """Write TASK as a task of lm-evaluation-harness, scored in our sandbox.

    The harness generates with its own models, in one of our prompt styles; our sandbox scores.
    """
    from codegen.evals.lm_eval import write_task

    settings = dict(given)
    path, name = write_task(settings.pop("out"), task, settings.pop("style"), **settings)
    if not as_json:
        echo(f"{path}: run it with")
        echo(
            f"lm_eval run --model hf --model_args pretrained=DIR --include_path "
            f"{given.out} --tasks {name}"
        )
    return {"path": str(path), "task": name}
