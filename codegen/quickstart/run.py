"""The main job, end to end: programs to edit sequences to two fine-tuned models to a scored report.

Each stage leaves its result in a directory of its own and resumes with what is there, so the whole
job can be killed at any moment and run again. Nothing here is tuned to look good: the settings were
fixed before the first run was scored, and the report says what was measured, gain or not.

The sizes, optimizer steps and samples, are planned so that the job ends in the time that the user
gives (:mod:`codegen.quickstart.plan`), and the plan is kept with the results.

The comparison: a base model; the same model fine-tuned on programs written whole; the same again
fine-tuned on LintSeq edit sequences of those programs. Both fine-tunings see the same programs at
the same optimizer steps.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.config import Config, setting
from codegen.errors import InputError, plural
from codegen.paths import refuse_links
from codegen.quickstart.plan import (
    FULL_N,
    FULL_STEPS,
    SHARD,
    STAGES,
    Fixed,
    Plan,
    choose,
    decoding,
    expect,
    lower,
    measure,
    read_plan,
)
from codegen.records import Sample, Status, TrainingText, Verdict, read_jsonl, write_jsonl
from codegen.runs import RunDirectory

if TYPE_CHECKING:
    from codegen.data import Manifest
    from codegen.evals.report import DataCounts, EditSteps
    from codegen.evals.sandbox import Sandbox
    from codegen.evals.score import Score
    from codegen.evals.tasks import Task
    from codegen.finetune.recipe import Recipe
    from codegen.finetune.result import TrainingResult

_REPORT = "report.html"
_STYLE = "chat"  # the same question for all models; a base model's card would have it continue code


class Settings(Config):
    """What the quickstart does: the options of ``codegen quickstart``."""

    out: str = setting("runs/quickstart", "Output directory.", metavar="DIR")
    minutes: float = setting(
        10.0,
        "Plan steps, samples and problems to finish within this time.",
        ge=0.5,
        le=24 * 60,
    )
    full: bool = setting(
        False, f"{FULL_STEPS} steps and {FULL_N} samples of every problem, however long they take."
    )
    model: str = setting("embedded", "Model: embedded, a directory or a hub id.")
    source: str = setting(
        "stdlib", "Training programs: stdlib, a file, a directory or hub:org/name."
    )
    task: str = setting("humaneval-short", "Task to score; humaneval has all 164 problems.")
    n: int | None = setting(
        None, "Samples per problem and model.", flags=("-n", "--n"), shown="planned", ge=1
    )
    steps: int | None = setting(None, "Optimizer steps of each fine-tuning.", shown="planned", ge=1)
    limit: int | None = setting(None, "Use only this many problems.", shown="planned", ge=1)
    batch_size: int = setting(8, "Programs per optimizer step.", ge=1)
    learning_rate: float = setting(1e-3, "Peak learning rate.", gt=0, le=1)
    max_length: int = setting(512, "Longest training example in tokens.", ge=8)
    temperature: float = setting(0.8, "Sampling temperature; 0 is greedy.", ge=0, le=100)
    top_p: float = setting(0.95, "Probability mass of the nucleus.", gt=0, le=1)
    max_new_tokens: int = setting(256, "Maximum tokens per sample.", ge=1)
    seed: int = setting(0, "Random seed.", ge=0, le=2**32 - 1)
    unsafe_local: bool = setting(
        False, "Run the programs without isolation if there is no sandbox. Dangerous."
    )

    @property
    def planned_minutes(self) -> float | None:
        """The time to plan for; None for ``full``."""
        return None if self.full else self.minutes


def _silent(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Listener:
    """Functions that follow the job; each may be left out.

    Attributes:
        stage: called with (number from 1, name) as each stage starts.
        plan: called with the plan when it is made or read, before the other stages.
        progress: called with (what, done, total, note).
        say: called with a line of text.
    """

    stage: Callable[[int, str], None] = _silent
    plan: Callable[[Plan], None] = _silent
    progress: Callable[[str, int, int, str], None] = _silent
    say: Callable[[str], None] = _silent


@dataclass(frozen=True, slots=True)
class Summary:
    """The results of the job.

    Attributes:
        report: path of the HTML page; the same as JSON lies beside it.
        scores: run's name -> score.
        plan: what was planned, and what the stages took.
    """

    report: Path
    scores: dict[str, Score]
    plan: Plan


def quickstart(settings: Settings, listener: Listener | None = None) -> Summary:
    """Runs the main job, or resumes an interrupted one.

    Raises:
        CodegenError: with the remedy; what was done is kept.
    """
    from codegen.evals.sandbox import Sandbox
    from codegen.evals.tasks import load

    heard = listener or Listener()
    directory = RunDirectory(Path(settings.out))
    refuse_links(directory.folder)
    task = load(settings.task)
    # A missing sandbox is an error before the training, not after it.
    with Sandbox(workers=1, unsafe_local=settings.unsafe_local) as sandbox:
        heard.say(f"sandbox: {sandbox.describe()['backend']}")
    with directory.open():
        plan = _plan(settings, directory, task, heard)
        return _stages(_Job(settings, directory, heard, task, plan))


def _stages(job: _Job) -> Summary:
    from codegen.evals.sandbox import Sandbox

    job.heard.plan(job.plan)
    with job.stage(2):
        manifest = _make_data(job)
    with job.stage(3):
        _first_page(job, manifest)
    trained: dict[str, TrainingResult] = {}
    for number, name in ((4, "whole"), (5, "edits")):
        with job.stage(number):
            trained[name] = _finetune(job, name)
    models = {"base": job.settings.model}
    models |= {name: result.model for name, result in trained.items()}
    with job.stage(6):
        _lower(job)
        for name, model in models.items():
            _sample(job, name, model)
    with job.stage(7), Sandbox(unsafe_local=job.settings.unsafe_local) as sandbox:
        scores = {name: _score(job, name, sandbox) for name in models}
    with job.stage(8):
        report = _report(job, scores, trained, manifest)
    return Summary(report, scores, job.plan)


@dataclass(slots=True)
class _Job:
    """One run of the job: what its stages share."""

    settings: Settings
    directory: RunDirectory
    heard: Listener
    task: Task[Any]
    plan: Plan

    @property
    def out(self) -> Path:
        """The directory's path."""
        return self.directory.folder

    @contextmanager
    def stage(self, number: int) -> Iterator[None]:
        """Tells the listener, and adds the stage's time to the plan's account."""
        name = STAGES[number - 1]
        self.heard.stage(number, name)
        started = time.perf_counter()
        yield
        spent = self.plan.spent.get(name, 0.0) + time.perf_counter() - started
        self.update(spent={**self.plan.spent, name: spent})
        gc.collect()  # a trainer and its model hold each other: without this, two are in memory

    def update(self, **changes: Any) -> None:
        """Changes the plan on disk too."""
        self.plan = replace(self.plan, **changes).write(self.directory)


def _plan(settings: Settings, directory: RunDirectory, task: Task[Any], heard: Listener) -> Plan:
    """The stored plan, or a new one for this machine as it is now."""
    request = {
        **settings.model_dump(exclude={"out", "full", "unsafe_local"}),
        "minutes": settings.planned_minutes,
    }
    if plan := read_plan(directory, request):
        return plan
    heard.stage(1, STAGES[0])
    fixed = _fixed(settings, task)
    recipe = _recipe(settings, "whole", steps=1)
    rates = measure(settings.model, settings.source, recipe, _prompts(task, settings.limit))
    sizes = choose(rates, fixed)
    spent = {STAGES[0]: rates.measuring}
    return Plan(request, rates, sizes, expect(rates, fixed, sizes), spent).write(directory)


def _fixed(settings: Settings, task: Task[Any]) -> Fixed:
    return Fixed(
        settings.planned_minutes, settings.steps, settings.n, settings.limit, settings.batch_size,
        settings.max_new_tokens, len(task.problems()),
    )  # fmt: skip


def _prompts(task: Task[Any], limit: int | None) -> list[str]:
    from codegen.evals.tasks import find_style

    style = find_style(_STYLE)
    return [task.request(problem, style, 0).prompt for problem in task.problems()[:limit]]


def _lower(job: _Job) -> None:
    """Decides, once, whether there is time for all the samples that were planned."""
    if job.plan.lowered is not None:
        return
    fixed = _fixed(job.settings, job.task)
    if fixed.minutes is None or (fixed.n and fixed.limit):
        job.update(lowered="")
        return
    from codegen.models import load

    now = decoding(load(job.settings.model), _prompts(job.task, job.settings.limit))
    gc.collect()
    rates = replace(
        job.plan.rates, prompt_token=now.prompt_token, step=now.step, step_row=now.step_row
    )
    sizes, was = lower(rates, fixed, job.plan), job.plan.sizes
    why = ""
    if sizes != was:
        why = (
            f"The machine was slower than when it was measured, so that there are samples of "
            f"{sizes.problems} problems, {sizes.n} a problem, instead of {was.problems} and "
            f"{was.n}."
        )
        job.heard.say(why)
    job.update(sizes=sizes, lowered=why)


def _make_data(job: _Job) -> Manifest:
    """Edit sequences, and the same programs whole, as two files with the same example ids."""
    from codegen.data import make, open_source, read_texts, run
    from codegen.data.engine import Progress
    from codegen.models import fingerprint_of

    settings, heard, data = job.settings, job.heard, RunDirectory(job.out / "data", "pairs.json")
    manifests = {}
    for name, generator in (("edits", make("lintseq", verify="ruff")), ("whole", make("whole"))):

        def on_progress(progress: Progress, name: str = name) -> None:
            total = round(progress.inputs / progress.fraction) if progress.fraction else 0
            heard.progress(f"programs ({name})", progress.inputs, total, f"{progress.kept} kept")

        source = open_source(settings.source)
        manifests[name] = run(
            generator, source, data.folder / name, seed=settings.seed, on_progress=on_progress
        )
    basis = {
        "model": fingerprint_of(settings.model),
        "max_length": settings.max_length,
        "data": {name: manifest.fingerprint for name, manifest in manifests.items()},
    }
    if data.read(data.settings_file) != basis:
        texts = {name: list(read_texts(data.folder / name)) for name in manifests}
        kept = _pair(texts, settings)
        if len(kept) < settings.batch_size:
            raise InputError(
                f"Only {len(kept)} programs of {settings.source} can be used, fewer than one "
                f"batch of {settings.batch_size}.",
                "Give a larger --source, or raise --max-length.",
            )
        (data.folder / data.settings_file).unlink(missing_ok=True)
        for name, rows in texts.items():
            pairs = (text for text in rows if text.example_id in kept)
            write_jsonl(data.folder / f"{name}.jsonl", pairs)
        data.write(data.settings_file, json.dumps(basis) + "\n")
        heard.say(f"{plural(len(kept), 'program')} fit in {settings.max_length} tokens both ways.")
    return manifests["edits"]


def _pair(texts: dict[str, list[TrainingText]], settings: Settings) -> set[str]:
    """Ids of the examples whose texts fit the maximal length in every form."""
    from codegen.finetune.dataset import TextEncoder, encode_all
    from codegen.models import load_tokenizer

    encoder = TextEncoder(load_tokenizer(settings.model), "chat")
    kept = []
    for rows in texts.values():
        pairs = (("", row) for row in rows)
        encoding = encode_all(pairs, encoder, max_length=settings.max_length)
        kept.append({example.example_id for example in encoding.examples})
    return set.intersection(*kept)


def _first_page(job: _Job, manifest: Manifest) -> None:
    """A report page within minutes: the data, and a program that is known to be right, scored."""
    from codegen.evals.report import ScoredRun, write_report
    from codegen.evals.sandbox import Sandbox
    from codegen.evals.scoring import score

    page = job.out / _REPORT
    problem = job.task.problems()[0]
    reference = job.task.reference(problem)
    if page.is_file() or not reference:
        return
    folder = job.out / "eval" / "reference"
    sample = Sample(
        task=job.task.name,
        problem_id=problem.id,
        index=0,
        prompt=problem.prompt,
        completion=f"```python\n{reference}```\n",
        finish_reason="stop",
        settings={"model": "reference", "decoder": "none"},
        seed=0,
        prompt_tokens=0,
        completion_tokens=0,
        meta={"style": _STYLE},
    )
    with Sandbox(workers=1, unsafe_local=job.settings.unsafe_local) as sandbox:
        scored = score([sample], job.task, out=folder, sandbox=sandbox)
    write_report(
        [ScoredRun("reference", scored)],
        page,
        title="A first page",
        subtitle="The training data, and one reference program scored. The models' results take "
        "this page's place when the run ends.",
        data_counts=_data_counts(job.settings, manifest),
    )
    job.heard.say(f"a first page: {page}")


def _recipe(settings: Settings, name: str, steps: int) -> Recipe:
    from codegen.finetune import parse_recipe

    out = Path(settings.out)
    return parse_recipe(
        {
            "model": settings.model,
            "data": str(out / "data" / f"{name}.jsonl"),
            "output": str(out / "train" / name),
            "steps": steps,
            "batch_size": settings.batch_size,
            "micro_batch_size": 1,
            "packing": "best_fit",
            "max_length": settings.max_length,
            "learning_rate": settings.learning_rate,
            "schedule": "cosine",
            "warmup": 0.1,
            "decoder": "edit_sequence" if name == "edits" else "sample",
            "save_every": max(1, min(8, steps // 4)),
            "seed": settings.seed,
        },
        "quickstart",
    )


def _finetune(job: _Job, name: str) -> TrainingResult:
    from codegen.finetune.run import train

    def on_step(step: int, steps: int, loss: float) -> None:
        job.heard.progress("steps", step, steps, f"loss {loss:.3f}")

    recipe = _recipe(job.settings, name, job.plan.sizes.steps)
    return train(recipe, on_step=on_step, on_message=job.heard.say)


def _sample(job: _Job, name: str, model: str) -> None:
    from codegen.evaluate import sample_task
    from codegen.generation import SamplingParams

    settings = job.settings
    sample_task(
        job.task,
        model,
        SamplingParams(
            settings.max_new_tokens, settings.temperature, settings.top_p, settings.seed
        ),
        n=job.plan.sizes.n,
        out=job.out / "eval" / name,
        style=_STYLE,
        limit=job.plan.sizes.problems,
        batch_size=SHARD,
        on_progress=lambda done, total: job.heard.progress(f"samples of {name}", done, total, ""),
    )


def _score(job: _Job, name: str, sandbox: Sandbox) -> Score:
    from codegen.evals.scoring import score

    folder, what = job.out / "eval" / name, f"programs and references of {name}"
    return score(
        folder / "samples.jsonl",
        job.task,
        out=folder,
        sandbox=sandbox,
        on_progress=lambda done, total: job.heard.progress(what, done, total, ""),
    )


def _data_counts(settings: Settings, manifest: Manifest) -> list[DataCounts]:
    from codegen.evals.report import DataCounts

    counts: Any = manifest.counts
    return [DataCounts(settings.source, manifest.kept, counts["skipped"], counts["failed"])]


def _report(
    job: _Job,
    scores: dict[str, Score],
    trained: dict[str, TrainingResult],
    manifest: Manifest,
) -> Path:
    from codegen.evals.report import LossCurve, ScoredRun, write_report

    return write_report(
        [ScoredRun(name, score) for name, score in scores.items()],
        job.out / _REPORT,
        title="Edit sequences against whole programs",
        subtitle=_subtitle(job, trained),
        losses=[LossCurve(name, result.losses) for name, result in trained.items()],
        data_counts=_data_counts(job.settings, manifest),
        edit_steps=_steps_to_show(job.out),
        notes=[*([job.plan.lowered] if job.plan.lowered else []), *_notes(job.settings, job.out)],
        versions=next(iter(trained.values())).versions,
    )


def _subtitle(job: _Job, trained: dict[str, TrainingResult]) -> str:
    examples = next(iter(trained.values())).counts["examples"]
    return (
        f"The model {job.settings.model!r} as it is (base), fine-tuned on {examples} programs "
        f"written whole (whole), and on LintSeq edit sequences of the same programs (edits); "
        f"{job.plan.sizes.steps} optimizer steps each"
    )


def _steps_to_show(out: Path) -> list[EditSteps]:
    """One sample of the edit-sequence model to step through: the passed one with most edits.

    If none passed, the one with most edits is shown, passed or not.
    """
    from codegen.evals.report import EditSteps
    from codegen.lintseq import resolve

    folder = out / "eval" / "edits"
    verdicts = read_jsonl(Verdict, folder / "verdicts.jsonl")
    status: dict[tuple[str, int], Status] = {
        (verdict.problem_id, verdict.index): verdict.status for verdict in verdicts
    }
    best: tuple[tuple[bool, int], Sample] | None = None
    for sample in read_jsonl(Sample, folder / "samples.jsonl"):
        passed = status[sample.problem_id, sample.index] == "passed"
        rank = (passed, sample.meta.get("edits", 0))
        if rank[1] and (best is None or rank > best[0]):
            best = rank, sample
    if best is None:
        return []
    sample = best[1]
    title = f"{sample.problem_id}, sample {sample.index + 1}"
    states = resolve(sample.actions, recount=True).states
    verdict = status[sample.problem_id, sample.index]
    return [EditSteps(title, sample.prompt, states, verdict)]


def _notes(settings: Settings, out: Path) -> list[str]:
    samples = list(read_jsonl(Sample, out / "eval" / "edits" / "samples.jsonl"))
    malformed = sum(sample.meta.get("malformed", 0) > 0 for sample in samples)
    cut = sum(sample.finish_reason == "length" for sample in samples)
    return [
        f"{malformed} of {len(samples)} samples of the edit-sequence model have a malformed hunk "
        "(most often a wrong line count). Such a hunk's lines are inserted all the same, as the "
        "published resolver does; a hunk with a broken header is skipped.",
        f"{cut} of its samples were cut off at {settings.max_new_tokens} tokens.",
        "The model is tiny and was trained for minutes: this shows that the whole chain works, and "
        "measures it, more than it shows what the method can do.",
    ]
