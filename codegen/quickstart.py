"""A first run, end to end: a known benchmark, edit sequences, and a gain by fine-tuning.

A code model (``coder``) answers problems of HumanEval. LintSeq turns programs of the standard
library into edit sequences, of which the report shows one. Then a small model learns what minutes
suffice for, the functions of :mod:`codegen.data.sources.small_functions`: once from whole programs
and once from LintSeq edit sequences of the same programs. Before and after are measured on other
functions, greedy, with tests that run in the sandbox.

Each stage leaves its result in its own directory and resumes with what is there, so the whole job
can be killed at any moment and run again. The plan: an answer, a training step and some decoding
steps are timed, and give the time of each stage as a function of three sizes. It is kept with the
results. If training took longer than planned, fewer functions are measured.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.config import Config, setting
from codegen.errors import ResumeError
from codegen.paths import refuse_links
from codegen.records import TrainingText, write_atomic
from codegen.runs import RunDirectory, refuse_changes

if TYPE_CHECKING:
    from codegen.evals.report import EditSteps, ScoredRun
    from codegen.evals.sandbox import Sandbox
    from codegen.evals.score import Score
    from codegen.evals.tasks import Task
    from codegen.finetune.recipe import Recipe
    from codegen.finetune.result import TrainingResult
    from codegen.generation import Backend

STAGES = (
    "answers to HumanEval",
    "edit sequences of the standard library",
    "small functions to learn",
    "measuring this machine",
    "fine-tuning on whole programs",
    "fine-tuning on edit sequences",
    "programs before and after",
    "report",
)
FORMS = ("whole", "edits")
_PLAN, _REPORT, _FUNCTIONS = "plan.json", "report.html", "small-functions.jsonl"
_STYLE = "chat"  # the same question for all models; a base model's card would have it continue code
_SHOWN = 20  # programs of the standard library, of which one is shown
_KNOWN, _HELD_OUT = 1500, 200  # functions to learn from, and to measure with
_ASKED = "Write a Python function f(xs) that goes through a list of integers and returns one."


class Settings(Config):
    """What the quickstart does: the options of ``codegen quickstart``."""

    out: str = setting("runs/quickstart", "Output directory.", metavar="DIR")
    minutes: float = setting(10.0, "Time in which to finish.", ge=0.5, le=24 * 60)
    small: bool = setting(
        False, "Have --model answer HumanEval too, without coder, a download of 491 MB."
    )
    model: str = setting("embedded", "Model to fine-tune: a name, a directory or a hub id.")
    steps: int | None = setting(None, "Optimizer steps of each fine-tuning.", shown="planned", ge=1)
    limit: int | None = setting(
        None, "Problems of HumanEval, and functions to measure with.", shown="planned", ge=1
    )
    batch_size: int = setting(4, "Programs per optimizer step.", ge=1, key=True)
    learning_rate: float = setting(1e-3, "Peak learning rate.", gt=0, le=1, key=True)
    max_length: int = setting(640, "Longest training example in tokens.", ge=8, key=True)
    max_new_tokens: int = setting(512, "Maximum tokens of a program.", ge=1, key=True)
    seed: int = setting(0, "Random seed.", ge=0, le=2**32 - 1)
    unsafe_local: bool = setting(
        False, "Run the programs without isolation if there is no sandbox. Dangerous."
    )

    @property
    def coder(self) -> str:
        """The model that answers HumanEval."""
        return self.model if self.small else "coder"


# --- the plan ------------------------------------------------------------------------------------

_STRIDES = (1, 2, 4, 8)  # every so many-th problem of HumanEval
_TIMED, _ANSWER = 64, 3.5  # tokens of a timed answer; a whole one takes so many times as long
_HUMANEVAL_SHARE, _SAMPLING_SHARE = 0.2, 0.15  # of the minutes; training gets the rest
_RESERVE = 0.1  # share of the time kept for what was estimated too low, and for the report
_MOST_STEPS, _FEWEST_STEPS, _FEWEST = 150, 5, 20
_LOADS = 4  # loading a model, against the rest of a training's or sampling's fixed time
_PROGRAM_S, _PAGE_S = 0.05, 5.0  # running a program, writing the report


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of wall time on this machine.

    Attributes:
        load: loading the model.
        token: training on a token.
        step, row: a decoding step of a batch takes ``step + rows * row``.
    """

    load: float
    token: float
    step: float
    row: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan and its progress; stored as ``plan.json``.

    Attributes:
        request: the run's settings; another request is another run.
        stride: every so many-th problem of HumanEval is asked.
        tokens: form -> mean and largest number of tokens of a training text.
        steps: of each fine-tuning. functions: to measure with.
        expected, spent: stage -> seconds of wall time, planned and so far.
    """

    request: Mapping[str, Any]
    stride: int = 0
    tokens: Mapping[str, Sequence[float]] = field(default_factory=dict)
    rates: Rates | None = None
    steps: int = 0
    functions: int = 0
    expected: Mapping[str, float] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)


def read_plan(directory: RunDirectory, request: Mapping[str, Any]) -> Plan:
    """The plan that a run was begun with, or an empty one.

    Raises:
        ResumeError: if it was begun with another request, or the file is damaged.
    """
    if (row := directory.read(_PLAN)) is None:
        return Plan(request)
    try:
        plan = Plan(**row)
        plan = replace(plan, rates=plan.rates and Rates(**row["rates"]))
        then = {key: plan.request[key] for key in request if key in plan.request}
    except (TypeError, KeyError):
        raise ResumeError(
            f"{directory.folder / _PLAN} is damaged.",
            "Choose another --out, or delete that directory.",
        ) from None
    refuse_changes(directory.folder, then, request)
    return plan


def choose_stride(settings: Settings, problems: int, answer_s: float) -> int:
    """How many of HumanEval's problems are asked: all, every second, fourth or eighth."""
    if settings.limit:
        return max(1, problems // settings.limit)
    budget = _HUMANEVAL_SHARE * 60 * settings.minutes
    fits = [stride for stride in _STRIDES if problems / stride * answer_s <= budget]
    return min(fits, default=_STRIDES[-1])


def choose_sizes(plan: Plan, settings: Settings) -> Plan:
    """The plan with the steps and the functions that fit in what is left of the minutes."""
    assert plan.rates
    seconds = 60 * settings.minutes * (1 - _RESERVE) - sum(plan.spent.values())
    functions = settings.limit or _fitting(plan, _SAMPLING_SHARE * 60 * settings.minutes)
    step_s = plan.rates.token * settings.batch_size * sum(mean for mean, _ in plan.tokens.values())
    sampling = _sampling(plan, functions)
    left = seconds - sampling - 2 * _LOADS * plan.rates.load - _PAGE_S
    steps = settings.steps or min(_MOST_STEPS, max(_FEWEST_STEPS, int(left / step_s)))
    trained = {
        stage: _LOADS * plan.rates.load
        + steps * settings.batch_size * plan.rates.token * plan.tokens[form][0]
        for stage, form in zip(STAGES[4:6], FORMS, strict=True)
    }
    expected = {**plan.spent, **trained, STAGES[6]: sampling, STAGES[7]: _PAGE_S}
    return replace(plan, steps=steps, functions=functions, expected=expected)


def _sampling(plan: Plan, functions: int) -> float:
    """Seconds for sampling and running ``functions`` programs of each of the three models."""
    assert plan.rates
    steps = plan.tokens["whole"][1] * 2 + plan.tokens["edits"][1]
    decoding = steps * (plan.rates.step + functions * plan.rates.row)
    return 3 * _LOADS * plan.rates.load + decoding + 3 * functions * _PROGRAM_S


def _fitting(plan: Plan, seconds: float) -> int:
    """The most functions that can be measured in so many seconds."""
    fits = [n for n in range(_FEWEST, _HELD_OUT + 1, 10) if _sampling(plan, n) <= seconds]
    return max(fits, default=_FEWEST)


_FEW, _MANY, _DECODED = 4, 24, 5  # rows decoded together, and steps of each


def measure(settings: Settings, recipe: Recipe, prompt: str, tokens: float) -> Rates:
    """Times loading, a training step of the recipe, and decoding.

    Args:
        prompt: the user's turn of a chat.
        tokens: mean length of the recipe's texts.
    """
    from tempfile import TemporaryDirectory

    from codegen.finetune.run import train
    from codegen.models import load

    load(settings.model)  # fetches it
    began = time.perf_counter()
    loaded = load(settings.model)
    load_s = time.perf_counter() - began
    few, many = _decoding_step(loaded, prompt, _FEW), _decoding_step(loaded, prompt, _MANY)
    del loaded
    gc.collect()
    stamps: list[float] = []
    with TemporaryDirectory(prefix="codegen-quickstart-") as folder:
        own = recipe.model_copy(update={"output": folder, "steps": 3, "save_every": 100})
        train(own, on_step=lambda *_: stamps.append(time.perf_counter()))
    token = (stamps[2] - stamps[0]) / (2 * settings.batch_size * tokens)
    row = max(0.0, (many - few) / (_MANY - _FEW))
    return Rates(load_s, token, max(few - _FEW * row, 0.0), row)


def _decoding_step(loaded: Any, prompt: str, rows: int) -> float:
    """Seconds of a decoding step of a batch."""
    from codegen.decoding.loop import Row, decode
    from codegen.models.chat import chat_prompt

    times: list[float] = []

    def on_token(row: int, _: int) -> bool:
        if row == 0:
            times.append(time.perf_counter())
        return False

    ids = chat_prompt(loaded.tokenizer, prompt)
    decode(
        loaded.model,
        [Row(list(ids), [0.5] * _DECODED) for _ in range(rows)],
        max_new_tokens=_DECODED,
        temperature=0.0,
        top_p=1.0,
        eos=frozenset(),
        on_token=on_token,
    )
    return (times[-1] - times[0]) / (len(times) - 1)


# --- the job -------------------------------------------------------------------------------------


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
    plan: Plan
    scores: dict[str, Score] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.directory.folder

    @contextmanager
    def stage(self, number: int) -> Iterator[None]:
        """Tells the listener, and adds the stage's time to the plan's account."""
        name = STAGES[number - 1]
        self.heard.stage(number, name)
        started = time.perf_counter()
        yield
        spent = self.plan.spent.get(name, 0.0) + time.perf_counter() - started
        self.update(replace(self.plan, spent={**self.plan.spent, name: spent}))
        gc.collect()  # a trainer and its model hold each other: without this, two are in memory

    def update(self, plan: Plan) -> None:
        """Changes the plan, on disk too."""
        self.plan = plan
        self.directory.write(_PLAN, json.dumps(asdict(plan), indent=1) + "\n")


def quickstart(settings: Settings, listener: Listener | None = None) -> Summary:
    """Runs the job, or resumes an interrupted one.

    Raises:
        CodegenError: with the remedy; what was done is kept.
    """
    from codegen.evals.sandbox import Sandbox

    heard = listener or Listener()
    directory = RunDirectory(Path(settings.out))
    refuse_links(directory.folder)
    request = settings.model_dump(exclude={"out", "unsafe_local"})
    # A missing sandbox is an error before the training, not after it.
    with Sandbox(unsafe_local=settings.unsafe_local) as sandbox, directory.open():
        heard.say(f"sandbox: {sandbox.describe()['backend']}")
        job = _Job(settings, directory, heard, read_plan(directory, request))
        with job.stage(1):
            _answer_humaneval(job, sandbox)
        with job.stage(2):
            steps = _edit_sequences(job)
        _report(job, {}, steps)  # a first page
        heard.say(f"A first page: {job.out / _REPORT}")
        with job.stage(3):
            _make_data(job)
        if not job.plan.steps:
            with job.stage(4):
                _make_plan(job)
            job.update(choose_sizes(job.plan, settings))
        heard.plan(job.plan)
        trained: dict[str, TrainingResult] = {}
        for number, form in enumerate(FORMS, 5):
            with job.stage(number):
                trained[form] = _finetune(job, form)
        with job.stage(7):
            models = {"before": settings.model}
            models |= {form: result.model for form, result in trained.items()}
            for name, model in models.items():
                form = "edits" if name == "edits" else "whole"
                most = min(round(job.plan.tokens[form][1]), settings.max_new_tokens)
                _sample_and_score(job, sandbox, name, model, most)
        with job.stage(8):
            report = _report(job, trained, steps)
    return Summary(report, job.scores, job.plan)


def _sample_and_score(
    job: _Job,
    sandbox: Sandbox,
    name: str,
    model: str,
    most_tokens: int,
    task: Task[Any] | None = None,
    backend: str | Backend = "transformers",
) -> None:
    """Greedy programs of a model in ``eval/NAME``, and their score in ``job.scores``.

    Args:
        task: by default the small functions.
    """
    from codegen.evals.scoring import score
    from codegen.evals.tasks import load
    from codegen.evaluate import sample_task
    from codegen.generation import SamplingParams

    def on_progress(done: int, total: int) -> None:
        job.heard.progress(f"programs ({name})", done, total, "")

    out, functions = job.out / "eval" / name, f"file:{job.out / 'data' / _FUNCTIONS}"
    asked = task or load(functions)
    sample_task(
        asked,
        model,
        SamplingParams(most_tokens, 0.0),
        n=1,
        out=out,
        style=None if task else _STYLE,
        limit=None if task else job.plan.functions,
        backend=backend,
        on_progress=on_progress,
    )
    job.scores[name] = score(out / "samples.jsonl", asked, out=out, sandbox=sandbox)


def _answer_humaneval(job: _Job, sandbox: Sandbox) -> None:
    from codegen.evals.tasks import load
    from codegen.evals.tasks.humaneval import HumanEval
    from codegen.generation import Decoder, Request, SamplingParams
    from codegen.generation.backends import local_backend, open_backend

    settings, whole = job.settings, load("humaneval")
    assert isinstance(whole, HumanEval)
    backend = open_backend(local_backend(settings.coder), settings.coder, batch_size=8)
    problems = whole.problems()
    if not job.plan.stride:
        asked = [Request(problem.prompt, chat=True) for problem in problems[:8]]
        list(backend.generate(asked, SamplingParams(4), Decoder()))  # the first ones are slower
        began = time.perf_counter()
        made = list(backend.generate(asked, SamplingParams(_TIMED), Decoder()))
        took = _ANSWER * (time.perf_counter() - began) / len(made)
        job.update(replace(job.plan, stride=choose_stride(settings, len(problems), took)))
    stride = job.plan.stride
    name = "humaneval" if stride == 1 else f"humaneval, one problem of {stride}"
    chosen = problems[::stride][: settings.limit]
    task = HumanEval(name, whole.description, chosen, whole.source)
    run = "humaneval" if settings.small else settings.coder
    _sample_and_score(job, sandbox, run, settings.coder, settings.max_new_tokens, task, backend)


def _edit_sequences(job: _Job) -> list[EditSteps]:
    """Edit sequences of some programs of the standard library; the one to show."""
    from codegen.data import make, open_source, run
    from codegen.data.sources import MemorySource
    from codegen.evals.report import EditSteps
    from codegen.lintseq import resolve

    out = job.out / "data" / "stdlib"
    programs = [item for item in islice(open_source("stdlib"), 4 * _SHOWN) if hasattr(item, "id")]
    run(make("lintseq"), MemorySource(tuple(programs[:_SHOWN])), out, seed=job.settings.seed)
    texts = [text for text in _texts(out) if 3 <= text.meta.get("edits", 0) <= 8]
    shown = max(texts or _texts(out), key=lambda text: len(text.text))
    prompt, actions = shown.segments[0].text, "".join(s.text for s in shown.segments[1:])
    states = resolve(actions).states
    return [EditSteps(f"LintSeq of {shown.example_id}", prompt, states, "passed")]


def _texts(folder: Path) -> list[TrainingText]:
    from codegen.data import read_texts

    return list(read_texts(str(folder)))


def _make_data(job: _Job) -> None:
    """The functions to learn, whole and as edits, and a task of others."""
    from codegen.data import make, run
    from codegen.data.sources import MemorySource
    from codegen.data.sources.small_functions import functions
    from codegen.models import load_tokenizer

    drawn = functions(_KNOWN + _HELD_OUT, seed=1)
    examples = tuple(
        replace(one.example(number), instruction=f"{_ASKED} {one.instruction}")
        for number, one in enumerate(drawn[:_KNOWN])
    )
    tokenizer, tokens = load_tokenizer(job.settings.model), {}
    for form, generator in zip(FORMS, (make("whole"), make("lintseq", verify="ruff")), strict=True):

        def on_progress(progress: Any, form: str = form) -> None:
            job.heard.progress(f"texts ({form})", progress.inputs, _KNOWN, "")

        folder = job.out / "data" / form
        source = MemorySource(examples)
        run(generator, source, folder, seed=job.settings.seed, on_progress=on_progress)
        some = [text.text for text in _texts(folder)[:200]]
        counts = [len(ids) for ids in tokenizer(some).input_ids]
        tokens[form] = [sum(counts) / len(counts), max(counts)]
    rows = [
        {
            "id": f"{number}",
            "prompt": f"{_ASKED} {one.instruction}",
            "entry_point": "f",
            "tests": one.test,
            "solution": one.program,
        }
        for number, one in enumerate(drawn[_KNOWN:])
    ]
    write_atomic(job.out / "data" / _FUNCTIONS, "".join(json.dumps(row) + "\n" for row in rows))
    job.update(replace(job.plan, tokens=tokens))


def _make_plan(job: _Job) -> None:
    rates = measure(job.settings, _recipe(job, "whole"), _ASKED, job.plan.tokens["whole"][0])
    job.update(replace(job.plan, rates=rates))


def _recipe(job: _Job, form: str) -> Recipe:
    from codegen.finetune import parse_recipe

    settings, steps = job.settings, max(1, job.plan.steps)
    return parse_recipe(
        {
            "model": settings.model,
            "data": str(job.out / "data" / form),
            "output": str(job.out / "train" / form),
            "steps": steps,
            "batch_size": settings.batch_size,
            "micro_batch_size": 1,
            "packing": "best_fit",
            "max_length": settings.max_length,
            "learning_rate": settings.learning_rate,
            "schedule": "cosine",
            "warmup": 0.1,
            "decoder": "edit_sequence" if form == "edits" else "sample",
            "save_every": max(1, min(10, steps // 4)),
            "seed": settings.seed,
        },
        "quickstart",
    )


def _finetune(job: _Job, form: str) -> TrainingResult:
    from codegen.finetune.run import train

    def on_step(step: int, steps: int, loss: float) -> None:
        job.heard.progress("steps", step, steps, f"loss {loss:.3f}")

    return train(_recipe(job, form), on_step=on_step, on_message=job.heard.say)


def _report(job: _Job, trained: Mapping[str, TrainingResult], steps: Sequence[EditSteps]) -> Path:
    from codegen.evals.report import LossCurve, ScoredRun, write_report

    runs = [ScoredRun(name, score) for name, score in job.scores.items()]
    return write_report(
        runs,
        job.out / _REPORT,
        title="A first run",
        subtitle=_subtitle(job, runs),
        losses=[LossCurve(form, result.losses) for form, result in trained.items()],
        edit_steps=steps,
    )


def _subtitle(job: _Job, runs: Sequence[ScoredRun]) -> str:
    """What was run, what improved by how much, and what to do next."""

    def shown(name: str) -> str:
        estimate = job.scores[name].estimates[1]
        low, high = estimate.tasks_low, estimate.tasks_high
        interval = "" if low is None or high is None else f" (95% interval {low:.0%} to {high:.0%})"
        return f"{estimate.value:.0%}{interval}"

    settings, asked = job.settings, len(runs[0].score.problems)
    first = f"{settings.coder} solved {shown(runs[0].name)} of {asked} problems of HumanEval."
    if len(runs) == 1:
        return f"{first} The fine-tuning is still running: this page will be replaced."
    gain = (
        f"{settings.model} wrote {shown('before')} of {job.plan.functions} small functions "
        f"correctly, after {job.plan.steps} steps of fine-tuning on others {shown('whole')} as "
        f"whole programs and {shown('edits')} as edit sequences."
    )
    return (
        f"{first} {gain} Next, with your own model and data: codegen eval run humaneval "
        "--model NAME, and codegen data lintseq FILES with codegen finetune."
    )
