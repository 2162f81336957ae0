"""The main job, end to end: programs to edit sequences to two fine-tuned models to a scored report.

Each stage leaves its result in a directory of its own and goes on with what is there, so the whole
job can be killed at any moment and run again. Nothing here is tuned to look good: the settings were
fixed before the first run was scored, and the report says what was measured, gain or not.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.errors import InputError
from codegen.paths import refuse_links
from codegen.records import (
    Sample,
    Status,
    TrainingText,
    Verdict,
    read_jsonl,
    write_atomic,
    write_jsonl,
)

if TYPE_CHECKING:
    from codegen.data import Manifest
    from codegen.evals.report import EditSteps
    from codegen.evals.sandbox import Sandbox
    from codegen.evals.scoring import Score
    from codegen.finetune.train import TrainingResult

STAGES = (
    "programs and edit sequences",
    "fine-tuning on whole programs",
    "fine-tuning on edit sequences",
    "samples",
    "running the samples",
    "report",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the quickstart does. The defaults end within 15 minutes on two CPU cores.

    Attributes:
        source: of the programs, see ``codegen data``.
        steps: optimizer steps of each fine-tuning, of ``batch_size`` programs each.
        n: samples a problem and model.
        limit: only the first so many problems of the task.
        unsafe_local: run programs without a sandbox where there is none.
    """

    out: str = "runs/quickstart"
    model: str = "embedded"
    source: str = "stdlib"
    task: str = "humaneval-short"
    n: int = 5
    steps: int = 32
    batch_size: int = 8
    learning_rate: float = 1e-3
    max_length: int = 512
    temperature: float = 0.8
    top_p: float = 0.95
    max_new_tokens: int = 256
    limit: int | None = None
    seed: int = 0
    unsafe_local: bool = False


def _silent(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Listener:
    """How a caller follows the job; every function may be left out.

    Attributes:
        stage: called with (number from 1, name) as each stage starts.
        progress: called with (what, done, total, note).
        say: called with a line of text.
    """

    stage: Callable[[int, str], None] = _silent
    progress: Callable[[str, int, int, str], None] = _silent
    say: Callable[[str], None] = _silent


@dataclass(frozen=True, slots=True)
class Summary:
    """What the job ended with.

    Attributes:
        report: path of the HTML page; the same as JSON lies beside it.
        scores: run's name -> score.
        seconds: stage -> wall seconds of this process, resumed parts not counted.
    """

    report: Path
    scores: dict[str, Score] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def quickstart(settings: Settings, listener: Listener | None = None) -> Summary:
    """Runs the main job, or goes on with an interrupted one.

    Raises:
        CodegenError: with the remedy; what was done is kept.
    """
    from codegen.evals.sandbox import Sandbox

    heard = listener or Listener()
    out = Path(settings.out)
    refuse_links(out)
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(number: int) -> Iterator[None]:
        heard.stage(number, STAGES[number - 1])
        started = time.perf_counter()
        yield
        seconds[STAGES[number - 1]] = time.perf_counter() - started
        gc.collect()  # a trainer and its model hold each other: without this, two are in memory

    # Better to hear now that there is no sandbox than after the training.
    with Sandbox(workers=1, unsafe_local=settings.unsafe_local) as sandbox:
        heard.say(f"sandbox: {sandbox.describe()['backend']}")
    with stage(1):
        manifest = _make_data(settings, out, heard)
    trained: dict[str, TrainingResult] = {}
    for number, name in ((2, "whole"), (3, "edits")):
        with stage(number):
            trained[name] = _finetune(settings, out, name, heard)
    models = {"base": settings.model, **{name: result.model for name, result in trained.items()}}
    with stage(4):
        for name, model in models.items():
            _sample(settings, out, name, model, heard)
    with stage(5), Sandbox(unsafe_local=settings.unsafe_local) as sandbox:
        scores = {name: _score(settings, out, name, sandbox, heard) for name in models}
    with stage(6):
        report = _report(settings, out, scores, trained, manifest)
    return Summary(report, scores, seconds)


def _make_data(settings: Settings, out: Path, heard: Listener) -> Manifest:
    """Edit sequences, and the same programs whole, as two files with the same example ids."""
    from codegen.data import make, open_source, read_texts, run
    from codegen.data.engine import Progress
    from codegen.models import fingerprint_of

    def on_progress(progress: Progress) -> None:
        total = round(progress.inputs / progress.fraction) if progress.fraction else 0
        heard.progress("programs", progress.inputs, total, f"{progress.kept} kept")

    manifests = {}
    for name, generator in (("edits", make("lintseq", verify="ruff")), ("whole", make("whole"))):
        source = open_source(settings.source)
        manifests[name] = run(
            generator, source, out / "data" / name, seed=settings.seed, on_progress=on_progress
        )
    paired = {name: out / "data" / f"{name}.jsonl" for name in manifests}
    record = out / "data" / "pairs.json"
    basis = {
        "model": fingerprint_of(settings.model),
        "max_length": settings.max_length,
        "data": {name: manifest.fingerprint for name, manifest in manifests.items()},
    }
    if _read_json(record) != basis:
        record.unlink(missing_ok=True)
        texts = {name: list(read_texts(out / "data" / name)) for name in manifests}
        kept = _pair(texts, settings)
        if len(kept) < settings.batch_size:
            raise InputError(
                f"Only {len(kept)} programs of {settings.source} can be used, fewer than one "
                f"batch of {settings.batch_size}.",
                "Give a larger --source, or raise --max-length.",
            )
        for name, path in paired.items():
            write_jsonl(path, (text for text in texts[name] if text.example_id in kept))
        write_atomic(record, json.dumps(basis) + "\n")
        heard.say(f"{len(kept)} programs fit in {settings.max_length} tokens both ways.")
    return manifests["edits"]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _pair(texts: dict[str, list[TrainingText]], settings: Settings) -> set[str]:
    """Ids of the examples whose texts fit the maximal length in every form."""
    from codegen.finetune.encode import Encoder, encode_all
    from codegen.models import load_tokenizer

    encoder = Encoder(load_tokenizer(settings.model), "chat")
    kept = []
    for rows in texts.values():
        pairs = (("", row) for row in rows)
        encoding = encode_all(pairs, encoder, max_length=settings.max_length)
        kept.append({example.example_id for example in encoding.examples})
    return set.intersection(*kept)


def _finetune(settings: Settings, out: Path, name: str, heard: Listener) -> TrainingResult:
    from codegen.finetune import parse_recipe
    from codegen.finetune.train import train

    recipe = parse_recipe(
        {
            "model": settings.model,
            "data": str(out / "data" / f"{name}.jsonl"),
            "output": str(out / "train" / name),
            "steps": settings.steps,
            "batch_size": settings.batch_size,
            "micro_batch_size": 2,
            "max_length": settings.max_length,
            "learning_rate": settings.learning_rate,
            "schedule": "cosine",
            "warmup": 0.1,
            "decoder": "edit_sequence" if name == "edits" else "sample",
            "save_every": 8,
            "seed": settings.seed,
        },
        "quickstart",
    )

    def on_step(step: int, steps: int, loss: float) -> None:
        heard.progress("steps", step, steps, f"loss {loss:.3f}")

    return train(recipe, on_step=on_step, on_message=heard.say)


def _sample(settings: Settings, out: Path, name: str, model: str, heard: Listener) -> None:
    from codegen.evals.tasks import load
    from codegen.evaluate import sample_task
    from codegen.generation import SamplingParams

    sample_task(
        load(settings.task),
        model,
        SamplingParams(
            settings.max_new_tokens, settings.temperature, settings.top_p, settings.seed
        ),
        n=settings.n,
        out=out / "eval" / name,
        # All three models get the same question; a base model's card would have it continue code.
        style="chat",
        limit=settings.limit,
        on_progress=lambda done, total: heard.progress(f"samples of {name}", done, total, ""),
    )


def _score(settings: Settings, out: Path, name: str, sandbox: Sandbox, heard: Listener) -> Score:
    from codegen.evals.scoring import score
    from codegen.evals.tasks import load

    folder = out / "eval" / name
    return score(
        folder / "samples.jsonl",
        load(settings.task),
        out=folder,
        sandbox=sandbox,
        on_progress=lambda done, total: heard.progress(f"programs of {name}", done, total, ""),
    )


def _report(
    settings: Settings,
    out: Path,
    scores: dict[str, Score],
    trained: dict[str, TrainingResult],
    manifest: Manifest,
) -> Path:
    from codegen.evals.report import DataCounts, LossCurve, ScoredRun, write_report

    counts: Any = manifest.counts
    versions = next(iter(trained.values())).versions
    return write_report(
        [ScoredRun(name, score) for name, score in scores.items()],
        out / "report.html",
        title="Edit sequences against whole programs",
        subtitle=_subtitle(settings, trained),
        losses=[LossCurve(name, result.losses) for name, result in trained.items()],
        data_counts=[
            DataCounts(settings.source, manifest.kept, counts["skipped"], counts["failed"])
        ],
        edit_steps=_steps_to_show(out),
        notes=_notes(settings, out),
        versions=versions,
    )


def _subtitle(settings: Settings, trained: dict[str, TrainingResult]) -> str:
    examples = next(iter(trained.values())).counts["examples"]
    return (
        f"The model {settings.model!r} as it is (base), fine-tuned on {examples} programs written "
        f"whole (whole), and on LintSeq edit sequences of the same programs (edits); "
        f"{settings.steps} optimizer steps each"
    )


def _steps_to_show(out: Path) -> list[EditSteps]:
    """One sample of the edit-sequence model to step through: the passed one with most edits.

    If none passed, the one with most edits is shown, whatever became of it.
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
