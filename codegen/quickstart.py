"""A first run, end to end: a known benchmark, edit sequences, and an improvement by training.

A code model (``coder``) solves HumanEval problems. LintSeq turns programs of the standard library
into edit sequences; the report shows one. Then a model with 0.2 million weights learns a task that
takes minutes, the functions of :mod:`codegen.data.sources.small_functions`: once from whole
programs and once from LintSeq edit sequences of the same programs, with equal numbers of steps. It
is evaluated on held-out functions with greedy decoding; their tests run in the sandbox.

Each stage writes its result to its own directory and resumes from it, so a killed quickstart can be
restarted at any point. HumanEval runs in rounds, each about as large as all earlier rounds
together, while another round fits in its part of the time. Then a few training steps of both forms
are timed to choose the number of steps. This plan is stored with the results.
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
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from codegen.core.config import Config, setting
from codegen.core.errors import ConfigError, ResumeError
from codegen.core.paths import refuse_links, write_atomic
from codegen.core.records import Sample, read_jsonl
from codegen.core.runs import RunDirectory, refuse_changes

if TYPE_CHECKING:
    from codegen.evals.report import EditSteps
    from codegen.evals.scoring import Score
    from codegen.evals.tasks import Task
    from codegen.finetune.lifecycle import TrainingResult
    from codegen.finetune.recipe import Recipe
    from codegen.generation import Backend
    from codegen.sandbox import SandboxProtocol

STAGES = (
    "answers to HumanEval",
    "edit sequences of the standard library",
    "small functions to learn",
    "measuring this machine",
    "training on whole programs",
    "training on edit sequences",
    "programs of the trained models",
    "report",
)
FORMS = ("whole", "edits")
_PLAN, _REPORT, _FUNCTIONS = "plan.json", "report.html", "small-functions.jsonl"
_SHOWN = 20  # programs of the standard library; the report shows one
_KNOWN, _HELD_OUT = 4000, 200  # training and held-out functions
_NETWORK = {"kind": "llama", "tokenizer": "bpe-400", "layers": 3, "width": 64, "heads": 4}
_BATCH, _LONGEST, _LEARNING_RATE = 32, 640, 4e-3


class QuickstartOptions(Config):
    """Options of ``codegen quickstart``."""

    out: str = setting("runs/quickstart", "Output directory.", metavar="DIR")
    minutes: float = setting(10.0, "Time limit in minutes.", ge=0.5, le=24 * 60)
    model: str = setting(
        "coder", "Model to score on HumanEval: a name, a file, a directory or a hub id."
    )
    small: bool = setting(False, "Score the embedded model instead of coder (a 491 MB download).")
    steps: int | None = setting(None, "Optimizer steps per training.", shown="planned", ge=1)
    limit: int | None = setting(
        None, "Number of HumanEval problems and of test functions.", shown="planned", ge=1
    )
    max_new_tokens: int = setting(512, "Maximum tokens per program.", ge=1, key=True)
    seed: int = setting(0, "Random seed.", ge=0, le=2**32 - 1)
    unsafe_local: bool = setting(
        False, "Run the programs without isolation if there is no sandbox. Dangerous."
    )

    def _check(self) -> None:
        if self.small and self.model != "coder":
            raise ConfigError("--small cannot be combined with --model.", "Pass one of them.")

    @property
    def answering(self) -> str:
        """The model to score on HumanEval."""
        return "embedded" if self.small else self.model


_FIRST = 32  # stride of the first round over HumanEval
_HUMANEVAL_SHARE = 0.25  # fraction of the time limit
_RESERVE = 0.15  # fraction of the time reserved for estimation errors
_MEASURED_STEPS = 6  # the first is slower
_FEWEST_STEPS, _MOST_STEPS = 20, 600
_PAGE_S = 5.0  # time to write the report


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan and its progress; stored as ``plan.json``.

    Attributes:
        request: the run's settings; a run cannot resume with other ones.
        rounds: finished rounds of HumanEval. answer_s: seconds per answer in the last round.
        step_s: form -> seconds per training step.
        sampling_s: seconds to sample one model's programs.
        steps: optimizer steps per training.
        expected, spent: stage -> seconds of wall time, planned and so far.
    """

    request: Mapping[str, Any]
    rounds: int = 0
    answer_s: float = 0.0
    step_s: Mapping[str, float] = field(default_factory=dict)
    sampling_s: float = 0.0
    steps: int = 0
    expected: Mapping[str, float] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)


def read_plan(directory: RunDirectory, request: Mapping[str, Any]) -> Plan:
    """Returns the plan of an earlier run, or an empty one.

    Raises:
        ResumeError: if the run has other settings, or the file is corrupt.
    """
    if (row := directory.read(_PLAN)) is None:
        return Plan(request)
    try:
        plan = Plan(**row)
        then = {key: plan.request[key] for key in request if key in plan.request}
    except (TypeError, KeyError):
        raise ResumeError(
            f"{directory.folder / _PLAN} is corrupt.",
            "Choose another --out, or delete that directory.",
        ) from None
    refuse_changes(directory.folder, then, request)
    return plan


def rounds_of(problems: Sequence[Any], limit: int | None) -> list[Sequence[Any]]:
    """Splits problems into rounds; the first ones are spread evenly over all problems."""
    if limit:
        return [problems[:: max(1, len(problems) // limit)][:limit]]
    strides = [_FIRST, *(_FIRST >> n for n in range(_FIRST.bit_length() - 1))]
    return [problems[(n and stride // 2) :: stride] for n, stride in enumerate(strides)]


def choose_steps(plan: Plan, settings: QuickstartOptions) -> Plan:
    """Returns the plan with the number of steps that fit in the remaining time."""
    sampling = len(FORMS) * plan.sampling_s
    left = 60 * settings.minutes * (1 - _RESERVE) - sum(plan.spent.values()) - sampling - _PAGE_S
    most = int(left / sum(plan.step_s.values()) + 1e-6)  # tolerates rounding
    steps = settings.steps or min(_MOST_STEPS, max(_FEWEST_STEPS, most))
    trained = {STAGES[4 + n]: steps * plan.step_s[form] for n, form in enumerate(FORMS)}
    expected = {**plan.spent, **trained, STAGES[6]: sampling, STAGES[7]: _PAGE_S}
    return replace(plan, steps=steps, expected=expected)


def _silent(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Listener:
    """Callbacks for a job's progress; each may be omitted.

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
    """The results of the job: the HTML page, run name -> score, and the plan with its times."""

    report: Path
    scores: dict[str, Score]
    plan: Plan


@dataclass(slots=True)
class _Job:
    """One run of the job: state that its stages share."""

    settings: QuickstartOptions
    directory: RunDirectory
    heard: Listener
    plan: Plan
    scores: dict[str, Score] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.directory.folder

    @contextmanager
    def stage(self, number: int) -> Iterator[None]:
        """Notifies the listener, and adds the stage's time to the plan."""
        name = STAGES[number - 1]
        self.heard.stage(number, name)
        started = time.perf_counter()
        yield
        spent = self.plan.spent.get(name, 0.0) + time.perf_counter() - started
        self.update(replace(self.plan, spent={**self.plan.spent, name: spent}))
        gc.collect()  # frees the reference cycle of a trainer and its model

    def update(self, plan: Plan) -> None:
        """Updates the plan, also on disk."""
        self.plan = plan
        self.directory.write(_PLAN, json.dumps(asdict(plan), indent=1) + "\n")


def quickstart(settings: QuickstartOptions, listener: Listener | None = None) -> Summary:
    """Runs the job, or resumes an interrupted one.

    Raises:
        CodegenError: if a stage fails; finished work is kept.
    """
    from codegen.sandbox.verdicts import choose_sandbox

    heard = listener or Listener()
    directory = RunDirectory(Path(settings.out))
    refuse_links(directory.folder)
    request = settings.model_dump(exclude={"out", "unsafe_local"})
    # Fail on a missing sandbox before the training, not after it.
    with choose_sandbox(unsafe_local=settings.unsafe_local) as sandbox, directory.open():
        heard.say(f"sandbox: {sandbox.describe()['backend']}")
        job = _Job(settings, directory, heard, read_plan(directory, request))
        with job.stage(1):
            _answer_humaneval(job, sandbox)
        with job.stage(2):
            steps = _edit_sequences(job)
        _report(job, {}, steps)  # creates the page
        heard.say(f"Preliminary report: {job.out / _REPORT}")
        with job.stage(3):
            _make_data(job)
        if job.plan.steps:
            _score_before(job, sandbox)
        else:
            with job.stage(4):
                _measure(job, sandbox)
            job.update(choose_steps(job.plan, settings))
        heard.plan(job.plan)
        trained: dict[str, TrainingResult] = {}
        for number, form in enumerate(FORMS, 5):

            def on_step(step: int, steps: int, loss: float) -> None:
                heard.progress("steps", step, steps, f"loss {loss:.3f}")

            with job.stage(number):
                trained[form] = _train(job, form, form, on_step)
        with job.stage(7):
            for form, result in trained.items():
                _measure_model(job, sandbox, form, result.model)
        with job.stage(8):
            report = _report(job, trained, steps)
    return Summary(report, job.scores, job.plan)


def _sample(
    job: _Job,
    what: str,
    out: Path,
    task: Task[Any],
    model: str,
    backend: str | Backend = "transformers",
    style: str | None = None,
) -> Path:
    """Samples one greedy program per problem; returns the samples' file."""
    from codegen.evaluate import TaskSampling, sample_task

    def on_progress(done: int, total: int) -> None:
        job.heard.progress(f"programs ({what})", done, total, "")

    sampling = TaskSampling(max_new_tokens=job.settings.max_new_tokens, style=style)
    run = sample_task(task, model, sampling, out=out, backend=backend, on_progress=on_progress)
    return run.path


def _measure_model(job: _Job, sandbox: SandboxProtocol, name: str, model: str) -> None:
    """Samples a model's programs for the small functions, in ``eval/NAME``, and scores them."""
    from codegen.evals.scoring import score
    from codegen.evals.tasks import load

    task, out = load(f"file:{job.out / 'data' / _FUNCTIONS}"), job.out / "eval" / name
    samples = _sample(job, name, out, task, model, style="plain")
    job.scores[name] = score(samples, task, out=out, sandbox=sandbox)


def _answer_humaneval(job: _Job, sandbox: SandboxProtocol) -> None:
    from codegen.evals.run import SAMPLES
    from codegen.evals.scoring import score
    from codegen.evals.tasks import load
    from codegen.evals.tasks.humaneval import HumanEval
    from codegen.generation import local_backend, open_backend

    settings, whole, backend = job.settings, load("humaneval"), None
    assert isinstance(whole, HumanEval)
    began, is_over = time.perf_counter(), STAGES[0] in job.plan.spent
    samples: list[Sample] = []
    for number, chosen in enumerate(rounds_of(whole.problems(), settings.limit)):
        started, out = time.perf_counter(), job.out / "eval" / f"humaneval-{number + 1}"
        if number >= job.plan.rounds:
            left = _HUMANEVAL_SHARE * 60 * settings.minutes - (started - began)
            if is_over or job.plan.answer_s * len(chosen) > left:
                break
            model = settings.answering
            backend = backend or open_backend(local_backend(model), model, batch_size=8)
            task = HumanEval(whole.name, whole.description, chosen, whole.source)
            _sample(job, "HumanEval", out, task, model, backend)
            answer_s = (time.perf_counter() - started) / len(chosen)
            job.update(replace(job.plan, rounds=number + 1, answer_s=answer_s))
        samples += read_jsonl(Sample, out / SAMPLES)
    out = job.out / "eval" / "humaneval"
    job.scores["humaneval"] = score(samples, whole, out=out, sandbox=sandbox)


def _edit_sequences(job: _Job) -> list[EditSteps]:
    """Makes edit sequences of programs of the standard library; returns the one to show."""
    from codegen.data import make, open_source, read_texts, run
    from codegen.data.sources import MemorySource
    from codegen.evals.report import EditSteps
    from codegen.lintseq import resolve

    out = job.out / "data" / "stdlib"
    programs = [item for item in islice(open_source("stdlib"), 4 * _SHOWN) if hasattr(item, "id")]
    run(make("lintseq"), MemorySource(tuple(programs[:_SHOWN])), out, seed=job.settings.seed)
    texts = list(read_texts(out))
    short = [text for text in texts if 3 <= text.meta.get("edits", 0) <= 8]
    shown = max(short or texts, key=lambda text: len(text.text))
    prompt, actions = shown.segments[0].text, "".join(s.text for s in shown.segments[1:])
    states = resolve(actions).states
    return [EditSteps(f"LintSeq of {shown.example_id}", prompt, states, "passed")]


def _make_data(job: _Job) -> None:
    """Makes training data of functions, whole and as edits, and a task of held-out functions."""
    from codegen.data import make, run
    from codegen.data.sources import MemorySource
    from codegen.data.sources.small_functions import functions

    drawn = functions(_KNOWN + _HELD_OUT, seed=1)
    source = MemorySource(tuple(one.example(n) for n, one in enumerate(drawn[:_KNOWN])))
    edits = make("lintseq", granularity="statement", format="anchored", sequences=2)
    for form, generator in zip(FORMS, (make("whole"), edits), strict=True):

        def on_progress(progress: Any, form: str = form) -> None:
            job.heard.progress(f"texts ({form})", progress.inputs, _KNOWN, "")

        folder = job.out / "data" / form
        run(generator, source, folder, seed=job.settings.seed, on_progress=on_progress)
    rows = [
        {
            "id": f"{number}",
            "prompt": one.instruction,
            "entry_point": "f",
            "tests": one.test,
            "solution": one.program,
        }
        for number, one in enumerate(drawn[_KNOWN:][: job.settings.limit])
    ]
    write_atomic(job.out / "data" / _FUNCTIONS, "".join(json.dumps(row) + "\n" for row in rows))


_BEFORE = "begun-whole"  # the training that is stopped after the measured steps


def _measure(job: _Job, sandbox: SandboxProtocol) -> None:
    """Times a few training steps of each form, and sampling from such a model."""
    step_s: dict[str, float] = {}
    for form in FORMS:
        stamps: list[float] = []
        rmtree(job.out / "train" / f"begun-{form}", ignore_errors=True)
        # pyrefly: ignore[missing-attribute]
        _train(job, form, f"begun-{form}", lambda *_, to=stamps: to.append(time.perf_counter()))
        step_s[form] = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    began = time.perf_counter()
    _score_before(job, sandbox)
    job.update(replace(job.plan, step_s=step_s, sampling_s=time.perf_counter() - began))


def _score_before(job: _Job, sandbox: SandboxProtocol) -> None:
    _measure_model(job, sandbox, "before", str(job.out / "train" / _BEFORE / "model"))


def _recipe(job: _Job, form: str, name: str) -> Recipe:
    from codegen.finetune import parse_recipe

    steps = job.plan.steps or _MEASURED_STEPS
    return parse_recipe(
        {
            "model": "new",
            "network": _NETWORK,
            "method": "full",
            "format": "plain",
            "dtype": "float32",
            "data": str(job.out / "data" / form),
            "output": str(job.out / "train" / name),
            "steps": steps,
            "batch_size": _BATCH,
            "micro_batch_size": _BATCH,
            "packing": "best_fit",
            "max_length": _LONGEST,
            "learning_rate": _LEARNING_RATE,
            "schedule": "cosine",
            "warmup": 0.05,
            "decoder": "edit_sequence" if form == "edits" else "sample",
            "save_every": max(10, steps // 10),
            "seed": job.settings.seed,
        },
        "quickstart",
    )


def _train(
    job: _Job, form: str, name: str, on_step: Callable[[int, int, float], None]
) -> TrainingResult:
    from codegen.finetune.lifecycle import train

    return train(_recipe(job, form, name), on_step=on_step, on_message=job.heard.say)


def _report(job: _Job, trained: Mapping[str, TrainingResult], steps: Sequence[EditSteps]) -> Path:
    from codegen.evals.report import LossCurve, NamedScore, write_report

    names = {
        "humaneval": Path(job.settings.answering).name,
        "before": f"small model, {_MEASURED_STEPS} steps",
        "whole": "small model, whole programs",
        "edits": "small model, edit sequences",
    }
    return write_report(
        [NamedScore(names[name], score) for name, score in job.scores.items()],
        job.out / _REPORT,
        title="A first run",
        subtitle=_subtitle(job),
        losses=[LossCurve(names[form], result.losses) for form, result in trained.items()],
        edit_steps=steps,
    )


def _subtitle(job: _Job) -> str:
    """Returns a summary of the results and a suggested next step."""

    def shown(name: str) -> str:
        estimate = job.scores[name].estimates[1]
        low, high = estimate.tasks_low, estimate.tasks_high
        interval = "" if low is None or high is None else f" ({100 * low:.0f}\u2013{high:.0%})"
        return f"{estimate.value:.0%}{interval}"

    asked = len(job.scores["humaneval"].problems)
    model = Path(job.settings.answering).name
    first = f"{model} solved {shown('humaneval')} of {asked} problems of HumanEval."
    if len(job.scores) == 1:
        return f"{first} A small model is still in training: this page will be replaced."
    gain = (
        "A new model of 0.2 million weights learned to write small functions: of "
        f"{len(job.scores['before'].problems)} that it had not seen, {shown('before')} were "
        f"correct after {_MEASURED_STEPS} steps of training; after {job.plan.steps} steps, "
        f"{shown('whole')} as whole programs and {shown('edits')} as edit sequences."
    )
    return (
        f"{first} {gain} Next, with your own model and data: codegen eval run humaneval "
        "--model NAME, and codegen data lintseq FILES with codegen finetune. (95% intervals)"
    )
