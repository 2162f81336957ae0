"""Edit sequences (LintSeq) against whole programs with a model that can code.

The model ``coder`` answers the problems of ``mbpp`` that are not in ``mbpp-plus``; its own distinct
correct programs are the training data, so the whole programs teach it nothing new, and the forms
differ only in how a program is written:

- ``untrained``: the unchanged model, in EvalPlus's style;
- ``whole``: LoRA on the programs;
- ``edits``: LoRA on LintSeq's edit sequences of the same programs, format ``anchored``, at equal
  steps;
- ``whole, equal tokens``: ``whole``, trained until it has seen as many tokens as ``edits``.

Measured on every ``stride``-th problem of ``humaneval-plus``, ``n`` samples at temperature 0.8 with
weights of 8 bits, in the sandbox: pass@k; ``distinct`` correct programs of a problem; ``tokens``
per correct sample; ``sound``, the fraction of samples without malformed edits.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence.harness import Experiment, gains, once, slug, train_small
from codegen.core.records import Example, Sample, Verdict, read_jsonl
from codegen.data import make, run
from codegen.data.manifest import MANIFEST
from codegen.data.sources import MemorySource
from codegen.evals.metrics import normal_form
from codegen.evals.run import SAMPLES, VERDICTS
from codegen.evals.scoring import Score, score
from codegen.evals.tasks import Task, load
from codegen.evaluate import TaskSampling, sample_task
from codegen.generation.transformers import TransformersBackend
from codegen.models import load as load_model
from codegen.sandbox import Sandbox

MODEL = "coder"
EQUAL_TOKENS = "whole, equal tokens"


def some(name: str, keep: Any) -> Task[Any]:
    """Returns a task with some of its problems."""
    task: Any = load(name)
    chosen = [p for number, p in enumerate(task.problems()) if keep(number, p)]
    return type(task)(task.name, task.description, chosen, task.source)


def sampled(
    task: Task[Any], model: str, out: Path, n: int, seed: int, style: str | None = None
) -> tuple[Score, list[Sample], dict[str, list[str]]]:
    """Returns the score of ``n`` samples per problem, the samples, and correct programs by problem.

    Programs with the same normal form count as one.
    """
    sampling = TaskSampling(n, 0.8, 0.95, seed, max_new_tokens=768, style=style)
    backend = TransformersBackend(load_model(model, bits=8), batch_size=16)
    sample_task(task, model, sampling, out=out, backend=backend)
    with Sandbox(workers=2) as sandbox:
        found = score(out / SAMPLES, task, out=out, sandbox=sandbox)
    problems = {problem.id: problem for problem in task.problems()}
    samples = list(read_jsonl(Sample, out / SAMPLES))
    programs: dict[str, dict[str, str]] = {id_: {} for id_ in problems}
    for sample, verdict in zip(samples, read_jsonl(Verdict, out / VERDICTS), strict=True):
        if verdict.passed:
            program = task.program(problems[sample.problem_id], sample)
            programs[sample.problem_id][normal_form(program)] = program
    return found, samples, {id_: list(distinct.values()) for id_, distinct in programs.items()}


def data_of(out: Path, form: str, options: Namespace) -> Path:
    """Returns the data directory of a form, ``whole`` or ``edits``."""
    folder = out / "data" / form
    if not (folder / MANIFEST).exists():
        tested = {problem.id.rpartition("/")[2] for problem in load("mbpp-plus").problems()}
        task: Any = some("mbpp", lambda _, problem: str(problem.number) not in tested)
        programs = sampled(task, MODEL, out / "own", options.own, 0)[2]
        examples = [
            Example(f"{problem.id}#{number}", task.instruction(problem), program)
            for problem in task.problems()
            for number, program in enumerate(programs[problem.id])
        ]
        edits = {"granularity": "statement", "format": "anchored", "sequences": 2}
        generator = make("whole") if form == "whole" else make("lintseq", **edits)
        run(generator, MemorySource(tuple(examples)), folder, workers=1)
    return folder


def trained(out: Path, form: str, steps: int, seed: int, options: Namespace) -> tuple[str, float]:
    """Returns an adapter, trained if it is missing, and its number of training tokens."""
    run_folder = out / "train" / f"{form}-{steps}-{seed}"

    def make_adapter() -> Mapping[str, Any]:
        result = train_small(
            MODEL, data_of(out, form, options), run_folder, steps=steps, seed=seed, method="lora",
            lora={"rank": 16, "alpha": 32}, format="chat", batch_size=8, micro_batch_size=4,
            learning_rate=2e-4, max_length=1024, packing="best_fit", dtype="bfloat16",
            save_every=10, decoder="edit_sequence" if form == "edits" else "sample",
        )  # fmt: skip
        return {"model": str(result.model), "tokens": result.trained_per_s * result.seconds}

    found = once(run_folder / "trained.json", make_adapter)
    return found["model"], found["tokens"]


def cell(out: Path, condition: str, seed: int, options: Namespace) -> Mapping[str, Any]:
    """Trains and measures a condition with one seed."""
    model, style, tokens, steps = MODEL, None, 0.0, options.steps
    if condition != "untrained":
        style, form = "chat", condition.partition(",")[0]
        model, tokens = trained(out, form, steps, seed, options)
        if condition == EQUAL_TOKENS:
            steps = round(steps * trained(out, "edits", steps, seed, options)[1] / tokens)
            model, tokens = trained(out, form, steps, seed, options)
    task = some("humaneval-plus", lambda number, _: number % options.stride == 0)
    folder = out / "samples" / f"{slug(condition)}-{seed}"
    found, samples, programs = sampled(task, model, folder, options.n, seed, style)
    sound = [sample.meta["malformed"] == 0 for sample in samples if "malformed" in sample.meta]
    counts = {problem.problem_id: [problem.n, problem.c] for problem in found.problems}
    tokens_written = sum(sample.completion_tokens for sample in samples)
    return {
        **{f"pass@{k}": estimate.value for k, estimate in found.estimates.items()},
        "distinct": fmean(map(len, programs.values())),
        "tokens": tokens_written / max(1, sum(passed for _, passed in counts.values())),
        "trained": tokens,
        **({"sound": fmean(sound)} if sound else {}),
        "counts": counts,
    }


EXPERIMENT = Experiment(
    __doc__ or "",
    ("untrained", "whole", "edits", EQUAL_TOKENS),
    ("pass@1", "pass@10", "distinct", "tokens", "sound", "trained"),
    cell,
    {"steps": 60, "stride": 2, "n": 10, "own": 2},
)

if __name__ == "__main__":
    print("\n".join(gains(EXPERIMENT.main(), "whole", (1, 10))))  # noqa: T201
