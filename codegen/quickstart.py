"""The main job, end to end: programs, edit sequences, two fine-tuned models, a scored report.

The comparison: a base model; the same model fine-tuned on programs written whole; the same again
fine-tuned on LintSeq edit sequences of those programs. Both fine-tunings see the same programs at
the same optimizer steps.

Each stage leaves its result in its own directory and resumes with what is there, so the whole job
can be killed at any moment and run again. Nothing here is tuned to look good: the settings were
fixed before the first run was scored, and the report says what was measured, gain or not.

The plan: once the data is there, a training step and some decoding steps are timed. The rates give
the time of each stage as a function of three sizes: optimizer steps of each fine-tuning, samples
per problem, and problems. Half of the time that is left goes to the fine-tunings, the rest to the
samples: first one per problem for as many problems as possible, then more per problem. If training
took longer than planned, there are fewer samples. The plan is kept with the results.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.config import Config, setting
from codegen.errors import InputError, ResumeError, plural
from codegen.paths import refuse_links
from codegen.records import Sample, Status, TrainingText, Verdict, read_jsonl, write_jsonl
from codegen.runs import RunDirectory, refuse_changes

if TYPE_CHECKING:
    from codegen.evals.sandbox import Sandbox
    from codegen.evals.score import Score
    from codegen.evals.tasks import Task
    from codegen.finetune.recipe import Recipe
    from codegen.finetune.result import TrainingResult
    from codegen.models import LoadedModel

STAGES = (
    "programs and edit sequences",
    "measuring this machine",
    "fine-tuning on whole programs",
    "fine-tuning on edit sequences",
    "samples",
    "running the samples",
    "report",
)
FULL_STEPS, FULL_N = 32, 5  # the comparison of --full
_PLAN, _REPORT = "plan.json", "report.html"
_STYLE = "chat"  # the same question for all models; a base model's card would have it continue code


class Settings(Config):
    """What the quickstart does: the options of ``codegen quickstart``."""

    out: str = setting("runs/quickstart", "Output directory.", metavar="DIR")
    minutes: float = setting(10.0, "Time in which to finish.", ge=0.5, le=24 * 60)
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
    batch_size: int = setting(8, "Programs per optimizer step.", ge=1, key=True)
    learning_rate: float = setting(1e-3, "Peak learning rate.", gt=0, le=1, key=True)
    max_length: int = setting(512, "Longest training example in tokens.", ge=8, key=True)
    temperature: float = setting(0.8, "Sampling temperature.", ge=0, le=100, key=True)
    top_p: float = setting(0.95, "Probability mass of the nucleus.", gt=0, le=1, key=True)
    max_new_tokens: int = setting(256, "Maximum tokens per sample.", ge=1)
    seed: int = setting(0, "Random seed.", ge=0, le=2**32 - 1)
    unsafe_local: bool = setting(
        False, "Run the programs without isolation if there is no sandbox. Dangerous."
    )

    @property
    def budget(self) -> float | None:
        """Seconds to plan for; None for ``full``."""
        return None if self.full else 60 * self.minutes


_MODELS = 3  # base, whole, edits
_SHARD = 40  # samples decoded together
_MOST_STEPS, _MOST_N = 200, 20
_FEWEST_STEPS, _FEWEST_PROBLEMS = 2, 4
_TRAINING_SHARE = 0.5
_RESERVE = 0.05  # fraction of the time kept for what was estimated too low
_LATE = 1.1  # a run that would take more than this many times its minutes gets fewer samples
# The rest is not measured. The first fine-tuning imports the trainer; each one reads and encodes
# the texts, and writes checkpoints. Programs run on all cores; some run into a time limit.
_TRAINING_LOADS, _SAMPLING_LOADS = 5, 2
_LIVE = 0.75  # mean fraction of a batch's samples that are still being written
_SANDBOX_S, _PROGRAM_S, _PAGE_S = 2.0, 0.25, 3.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of wall time on this machine.

    Attributes:
        load: loading the model.
        train_step: an optimizer step.
        prompt: encoding one problem's prompt.
        step, step_row: a decoding step of a batch takes ``step + rows * step_row``.
    """

    load: float
    train_step: float
    prompt: float
    step: float
    step_row: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that a plan decides: optimizer steps, samples per problem and model, problems."""

    steps: int
    n: int
    problems: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan and its progress; stored as ``plan.json``.

    Attributes:
        request: the run's settings; another request is another run.
        expected, spent: stage -> seconds of wall time, planned and so far.
        lowered: why there are fewer samples than planned; None until that is decided.
    """

    request: Mapping[str, Any]
    rates: Rates | None = None
    sizes: Sizes | None = None
    expected: Mapping[str, float] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    lowered: str | None = None


def read_plan(directory: RunDirectory, request: Mapping[str, Any]) -> Plan:
    """The plan that a run was begun with, or an empty one.

    Raises:
        ResumeError: if it was begun with another request, or the file is damaged.
    """
    row = directory.read(_PLAN)
    if row is None:
        return Plan(request)
    try:
        plan = Plan(**row)
        plan = replace(
            plan,
            rates=plan.rates and Rates(**row["rates"]),
            sizes=plan.sizes and Sizes(**row["sizes"]),
        )
        then = {key: plan.request[key] for key in request if key in plan.request}
    except (TypeError, KeyError):
        raise ResumeError(
            f"{directory.folder / _PLAN} is damaged.",
            "Choose another --out, or delete that directory.",
        ) from None
    refuse_changes(directory.folder, then, request)
    return plan


def choose(rates: Rates, settings: Settings, problems: int, spent: float) -> Sizes:
    """The largest sizes that fit in the user's minutes; the smallest if none do.

    Args:
        problems: of the task.
        spent: seconds so far.
    """
    problems = min(settings.limit or problems, problems)
    if settings.budget is None:
        return Sizes(settings.steps or FULL_STEPS, settings.n or FULL_N, problems)
    budget = settings.budget * (1 - _RESERVE) - spent
    fewest = problems if settings.limit else min(_FEWEST_PROBLEMS, problems)
    least = Sizes(settings.steps or _FEWEST_STEPS, settings.n or 1, fewest)
    if settings.steps is None:
        left = budget - sum(expect(rates, settings, least).values())
        more = max(0, int(_TRAINING_SHARE * left / (2 * rates.train_step)))
        least = replace(least, steps=min(_MOST_STEPS, least.steps + more))
    most = Sizes(least.steps, settings.n or _MOST_N, problems)
    return _largest(rates, settings, least, most, budget)


def lower(plan: Plan, settings: Settings) -> Sizes:
    """The plan's sizes, or fewer samples if the run would end late.

    What follows is expected to take as many times longer as the fine-tunings did.
    """
    assert plan.rates and plan.sizes
    budget = settings.budget and settings.budget * _LATE - sum(plan.spent.values())
    if budget is None:
        return plan.sizes
    trained = STAGES[2:4]
    slower = sum(plan.spent[s] for s in trained) / sum(plan.expected[s] for s in trained)
    rates = Rates(**{name: max(1.0, slower) * s for name, s in asdict(plan.rates).items()})
    problems = plan.sizes.problems
    fewest = problems if settings.limit else min(_FEWEST_PROBLEMS, problems)
    least = Sizes(0, settings.n or 1, fewest)
    budget += 2 * _TRAINING_LOADS * rates.load  # which is over
    sizes = _largest(rates, settings, least, replace(plan.sizes, steps=0), budget)
    return replace(sizes, steps=plan.sizes.steps)


def _largest(rates: Rates, settings: Settings, least: Sizes, most: Sizes, budget: float) -> Sizes:
    """The largest sizes that fit: first more problems, then more samples of each."""
    larger = [replace(least, problems=n) for n in range(least.problems + 1, most.problems + 1)]
    larger += [replace(most, n=n) for n in range(least.n + 1, most.n + 1)]
    chosen = least
    for sizes in larger:
        if sum(expect(rates, settings, sizes).values()) > budget:
            break
        chosen = sizes
    return chosen


def expect(rates: Rates, settings: Settings, sizes: Sizes) -> dict[str, float]:
    """Stage -> seconds of wall time, for the stages after the measurement."""
    training = _TRAINING_LOADS * rates.load + sizes.steps * rates.train_step
    rows = sizes.n * sizes.problems
    steps = -(-rows // _SHARD) * settings.max_new_tokens
    decoding = rows * rates.prompt + steps * rates.step
    decoding += rows * settings.max_new_tokens * _LIVE * rates.step_row
    samples = _MODELS * (_SAMPLING_LOADS * rates.load + decoding)
    programs = _SANDBOX_S + (_MODELS * rows + sizes.problems) * _PROGRAM_S
    return dict(zip(STAGES[2:], (training, training, samples, programs, _PAGE_S), strict=True))


_FEW, _MANY, _STEPS = 4, 24, 5  # rows decoded together, and steps of each


def measure(settings: Settings, recipe: Recipe, prompts: Sequence[str]) -> Rates:
    """Times decoding, and a training step of the recipe.

    Args:
        prompts: of the problems, each the user's turn of a chat.
    """
    from tempfile import TemporaryDirectory

    from codegen.finetune.run import train
    from codegen.models import load

    load(settings.model)  # fetches it
    began = time.perf_counter()
    loaded = load(settings.model)
    load_s = time.perf_counter() - began
    first, few, many = _decoding(loaded, prompts)
    del loaded
    gc.collect()
    stamps: list[float] = []
    with TemporaryDirectory(prefix="codegen-quickstart-") as folder:
        own = recipe.model_copy(update={"output": folder, "steps": 2, "save_every": 100})
        train(own, on_step=lambda *_: stamps.append(time.perf_counter()))
    step_row = max(0.0, (many - few) / (_MANY - _FEW))
    step = max(few - _FEW * step_row, 0.0)
    return Rates(load_s, stamps[1] - stamps[0], max(first - few, 0.0) / _FEW, step, step_row)


def _decoding(loaded: LoadedModel, prompts: Sequence[str]) -> tuple[float, float, float]:
    """Seconds to the first token of few rows, and of a later step of few and of many rows."""
    from codegen.decoding.loop import Row, decode
    from codegen.models.chat import chat_prompt

    encoded = sorted((chat_prompt(loaded.tokenizer, prompt) for prompt in prompts), key=len)
    prompt = encoded[len(encoded) // 2]

    def timed(rows: int) -> tuple[float, float]:
        times = [time.perf_counter()]

        def on_token(row: int, _: int) -> bool:
            if row == 0:
                times.append(time.perf_counter())
            return False

        numbers = [0.5] * (_STEPS + 1)
        decode(
            loaded.model,
            [Row(list(prompt), list(numbers)) for _ in range(rows)],
            max_new_tokens=_STEPS + 1,
            temperature=0.8,
            top_p=0.95,
            eos=frozenset(),
            on_token=on_token,
        )
        return times[1] - times[0], (times[-1] - times[1]) / _STEPS

    timed(1)  # the first pass of a process is slower
    return *timed(_FEW), timed(_MANY)[1]


def _silent(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Listener:
    """Functions that follow the job; each may be omitted.

    Attributes:
        stage: called with (number from 1, name) as each stage starts.
        plan: called with the plan when it is made or read.
        progress: called with (what, done, total, note).
        say: called with a line of text.
    """

    stage: Callable[[int, str], None] = _silent
    plan: Callable[[Plan], None] = _silent
    progress: Callable[[str, int, int, str], None] = _silent
    say: Callable[[str], None] = _silent


@dataclass(frozen=True, slots=True)
class Summary:
    """The results of the job: the HTML page, run's name -> score, and the plan with its times."""

    report: Path
    scores: dict[str, Score]
    plan: Plan


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
        return self.directory.folder

    @property
    def sizes(self) -> Sizes:
        assert self.plan.sizes
        return self.plan.sizes

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
        self.plan = replace(self.plan, **changes)
        self.directory.write(_PLAN, json.dumps(asdict(self.plan), indent=1) + "\n")


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
    exclude = {"out", "full", "unsafe_local", "minutes"}
    request = {**settings.model_dump(exclude=exclude), "seconds": settings.budget}
    with directory.open():
        return _stages(_Job(settings, directory, heard, task, read_plan(directory, request)))


def _stages(job: _Job) -> Summary:
    from codegen.evals.sandbox import Sandbox

    with job.stage(1):
        _make_data(job)
    if job.plan.sizes is None:
        with job.stage(2):
            _make_plan(job)
    job.heard.plan(job.plan)
    trained: dict[str, TrainingResult] = {}
    for number, name in ((3, "whole"), (4, "edits")):
        with job.stage(number):
            trained[name] = _finetune(job, name)
    models = {"base": job.settings.model}
    models |= {name: result.model for name, result in trained.items()}
    with job.stage(5):
        _lower(job)
        for name, model in models.items():
            _sample(job, name, model)
    with job.stage(6), Sandbox(unsafe_local=job.settings.unsafe_local) as sandbox:
        scores = {name: _score(job, name, sandbox) for name in models}
    with job.stage(7):
        report = _report(job, scores, trained)
    return Summary(report, scores, job.plan)


def _make_plan(job: _Job) -> None:
    from codegen.evals.tasks import find_style

    problems, style = job.task.problems(), find_style(_STYLE)
    prompts = [job.task.request(problem, style, 0).prompt for problem in problems]
    began = time.perf_counter()
    rates = measure(job.settings, _recipe(job.settings, "whole", steps=2), prompts)
    spent = sum(job.plan.spent.values()) + time.perf_counter() - began
    sizes = choose(rates, job.settings, len(problems), spent)
    expected = {STAGES[0]: job.plan.spent[STAGES[0]], STAGES[1]: time.perf_counter() - began}
    expected |= expect(rates, job.settings, sizes)
    job.update(rates=rates, sizes=sizes, expected=expected)


def _lower(job: _Job) -> None:
    """Decides, once, whether there is time for all the samples that were planned."""
    if job.plan.lowered is not None:
        return
    was, sizes = job.sizes, lower(job.plan, job.settings)
    why = ""
    if sizes != was:
        why = (
            f"The machine was slower than measured, so there are {sizes.n} samples of "
            f"{sizes.problems} problems, instead of {was.n} of {was.problems}."
        )
        job.heard.say(why)
    job.update(sizes=sizes, lowered=why)


def _make_data(job: _Job) -> None:
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

    recipe = _recipe(job.settings, name, job.sizes.steps)
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
        n=job.sizes.n,
        out=job.out / "eval" / name,
        style=_STYLE,
        limit=job.sizes.problems,
        batch_size=_SHARD,
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


def _report(
    job: _Job,
    scores: dict[str, Score],
    trained: dict[str, TrainingResult],
) -> Path:
    from codegen.evals.report import LossCurve, ScoredRun, write_report

    return write_report(
        [ScoredRun(name, score) for name, score in scores.items()],
        job.out / _REPORT,
        title="Edit sequences against whole programs",
        subtitle=_subtitle(job, trained),
        losses=[LossCurve(name, result.losses) for name, result in trained.items()],
        edit_steps=_steps_to_show(job.out),
        notes=[*([job.plan.lowered] if job.plan.lowered else []), *_notes(job.settings, job.out)],
        versions=next(iter(trained.values())).versions,
    )


def _subtitle(job: _Job, trained: dict[str, TrainingResult]) -> str:
    examples = next(iter(trained.values())).counts["examples"]
    return (
        f"The model {job.settings.model!r} as it is (base), fine-tuned on {examples} programs "
        f"written whole (whole), and on LintSeq edit sequences of the same programs (edits); "
        f"{job.sizes.steps} optimizer steps each"
    )


def _steps_to_show(out: Path) -> list[Any]:
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
