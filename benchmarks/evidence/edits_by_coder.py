"""Edit sequences (LintSeq) against whole programs with a model that can code.

The model ``coder`` answers the problems of ``mbpp`` that are not in ``mbpp-plus``; its own distinct
correct programs are the training data, so the whole programs teach it nothing new, and the forms
differ only in how a program is written:

- ``untrained``: the model as it is, in EvalPlus's style;
- ``whole``: LoRA on the programs;
- ``edits``: LoRA on LintSeq's edit sequences of the same programs, format ``anchored``, at equal
  steps;
- ``whole, equal tokens``: ``whole``, trained until it has seen as many tokens as ``edits``.

Measured on every ``stride``-th problem of ``humaneval-plus``, ``n`` samples at temperature 0.8, in
the sandbox: pass@k; ``distinct`` correct programs of a problem; ``tokens`` that a correct sample
costs; ``sound``, the fraction of samples whose edits have no fault.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence.harness import Experiment, gains, once, slug, train_small
from codegen.core.records import Example, Sample, Verdict, read_jsonl
from codegen.data import make, run
from codegen.data.sources import MemorySource
from codegen.evals.metrics import normal_form
from codegen.evals.run import SAMPLES, VERDICTS
from codegen.evals.scoring import score
from codegen.evals.tasks import Task, load
from codegen.evaluate import TaskSampling, sample_task
from codegen.sandbox import Sandbox

MODEL = "coder"


def some(name: str, keep: Any) -> Task[Any]:
    """Returns a task with some of its problems."""
    task: Any = load(name)
    chosen = [p for number, p in enumerate(task.problems()) if keep(number, p)]
    return type(task)(task.name, task.description, chosen, task.source)


def correct(
    task: Task[Any], model: str, out: Path, n: int, seed: int, style: str | None = None
) -> tuple[Any, dict[str, list[tuple[Sample, str]]]]:
    """Returns the score of ``n`` samples per problem, and each problem's correct programs."""
    sampling = TaskSampling(n, 0.8, 0.95, seed, max_new_tokens=768, style=style)
    sample_task(task, model, sampling, out=out, batch_size=16)
    with Sandbox(workers=2) as sandbox:
        found = score(out / SAMPLES, task, out=out, sandbox=sandbox)
    programs: dict[str, list[tuple[Sample, str]]] = {p.id: [] for p in task.problems()}
    problems = {p.id: p for p in task.problems()}
    samples: Iterable[Sample] = read_jsonl(Sample, out / SAMPLES)
    for sample, verdict in zip(samples, read_jsonl(Verdict, out / VERDICTS), strict=True):
        if verdict.passed:
            program = task.program(problems[sample.problem_id], sample)
            programs[sample.problem_id].append((sample, program))
    return found, programs


def data(out: Path, options: Namespace) -> Mapping[str, Path]:
    """Returns the directories of the training texts, by form."""
    tested = {p.id.rpartition("/")[2] for p in load("mbpp-plus").problems()}
    task = some("mbpp", lambda _, p: str(p.number) not in tested)
    folders = {form: out / "data" / form for form in ("whole", "edits")}
    if not all((folder / "manifest.json").exists() for folder in folders.values()):
        _, programs = correct(task, MODEL, out / "own", options.own, 0)
        asked: Any = {p.id: task.instruction(p) for p in task.problems()}  # type: ignore[attr-defined]
        examples = [
            Example(f"{id_}#{number}", asked[id_], program)
            for id_, every in programs.items()
            for number, program in enumerate({normal_form(p): p for _, p in every}.values())
        ]
        edits = make("lintseq", granularity="statement", format="anchored", sequences=2)
        for form, generator in zip(folders, (make("whole"), edits), strict=True):
            run(generator, MemorySource(tuple(examples)), folders[form], workers=1)
    return folders


def cell(out: Path, condition: str, seed: int, options: Namespace) -> Mapping[str, Any]:
    """Trains and measures a condition with one seed."""
    model, style, tokens, name = MODEL, None, 0, f"{slug(condition)}-{seed}"
    if condition != "untrained":
        form, steps = condition.partition(",")[0], options.steps
        folders = data(out, options)
        if condition == "whole, equal tokens":
            seen = {f: trained(out, folders[f], f, steps, seed)[1] for f in ("edits", "whole")}
            steps = round(steps * seen["edits"] / seen["whole"])
            form = f"whole-{steps}"
        model, tokens = trained(out, folders[form.partition("-")[0]], form, steps, seed)
        style = "chat"
    task = some("humaneval-plus", lambda number, _: number % options.stride == 0)
    found, programs = correct(task, model, out / "samples" / name, options.n, seed, style)
    samples = list(read_jsonl(Sample, out / "samples" / name / SAMPLES))
    solved = [sample for every in programs.values() for sample, _ in every]
    sound = [s.meta["malformed"] == 0 for s in samples if "malformed" in s.meta]
    return {
        **{f"pass@{k}": estimate.value for k, estimate in found.estimates.items()},
        "distinct": fmean(len({normal_form(p) for _, p in every}) for every in programs.values()),
        "tokens": sum(s.completion_tokens for s in samples) / max(1, len(solved)),
        "trained": tokens,
        **({"sound": fmean(sound)} if sound else {}),
        "counts": {problem.problem_id: [problem.n, problem.c] for problem in found.problems},
    }


def trained(out: Path, folder: Path, form: str, steps: int, seed: int) -> tuple[str, float]:
    """Returns an adapter, trained if it is not there, and the tokens that it was trained on."""
    run_folder = out / "train" / f"{form}-{seed}"

    def make_adapter() -> Mapping[str, Any]:
        result = train_small(
            MODEL, folder, run_folder, steps=steps, seed=seed, method="lora",
            lora={"rank": 16, "alpha": 32}, format="chat", batch_size=8, micro_batch_size=4,
            learning_rate=2e-4, max_length=1024, packing="best_fit", dtype="bfloat16",
            save_every=10, decoder="edit_sequence" if form == "edits" else "sample",
        )  # fmt: skip
        return {"model": str(result.model), "tokens": result.trained_per_s * result.seconds}

    found = once(run_folder / "trained.json", make_adapter)
    return found["model"], found["tokens"]


EXPERIMENT = Experiment(
    __doc__ or "",
    ("untrained", "whole", "edits", "whole, equal tokens"),
    ("pass@1", "pass@10", "distinct", "tokens", "sound", "trained"),
    cell,
    {"steps": 60, "stride": 2, "n": 10, "own": 2},
)

if __name__ == "__main__":
    print("\n".join(gains(EXPERIMENT.main(), "whole", (1, 10))))  # noqa: T201
