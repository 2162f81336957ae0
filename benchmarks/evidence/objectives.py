"""Preferences and reinforcement, compared with more training on texts at the same cost.

A start model is trained further in three ways, for about equal CPU time: on texts (``sft``), pairs
of its own passed and failed samples (``dpo``), or by reinforcement (``grpo``); including sampling
and scoring. Everything uses the public interfaces: ``codegen.evaluate``,
``codegen.data.preferences``, recipes. Measured on other problems: pass@1 and pass@10 at temperature
1, and the gain over the start, clustered by problem. The results apply only to these runs.

The start is a small model from scratch that learns small functions from instructions and programs.
``sft`` continues on the same texts; the other two use other functions, with their tests and without
programs: ``dpo`` the first ``--dpo-problems``, ``grpo`` the ones it samples, without repetition up
to 150 steps. ``--form edits`` writes every program as a LintSeq edit sequence (anchored, five per
program). ``--model embedded`` trains LoRA of the embedded model instead, also for the start.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.forms import FORMS
from codegen.benchmarks.evidence.functions import start_model
from codegen.benchmarks.evidence.harness import Experiment, gains, once, train_small
from codegen.benchmarks.tools.timing import cpu_seconds, tree_cpu_s
from codegen.core.paths import write_atomic
from codegen.data import read_texts
from codegen.data import run as make_data
from codegen.data.preferences import Preferences, ScoredRun, scored_files
from codegen.data.sources import MemorySource
from codegen.data.sources.small_functions import SmallFunction, functions
from codegen.evals.scoring import score
from codegen.evals.tasks import load
from codegen.evaluate import TaskSampling, sample_task
from codegen.sandbox import Sandbox

ARMS = ("start", "sft", "dpo", "grpo")
TEXTS, JUDGED, HELD_OUT, MORE = 3000, 400, 150, 2000
SAMPLES = 10
LONGEST = {"whole": 140, "edits": 320}  # maximum tokens of a sample
ADAPTER = {"method": "lora", "merge": True, "micro_batch_size": 8, "dtype": "auto"}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes a JSONL file and returns its path."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def task_file(path: Path, asked: Sequence[SmallFunction]) -> str:
    """Returns the functions as a user's task (``file:``)."""
    rows = [
        {"id": f"{i}", "prompt": f.instruction, "entry_point": "f", "tests": f.test, "cpu_s": 2}
        for i, f in enumerate(asked)
    ]
    return f"file:{write_rows(path, rows)}"


@cache
def world(out: Path, known: int, measured: int, form: str) -> tuple[str, str, str]:
    """Returns training texts of ``known`` functions, a task to learn from, and a held-out task."""
    every = functions(TEXTS + JUDGED + HELD_OUT + MORE, seed=1)
    held_out = every[TEXTS + JUDGED :][:measured]
    judged = every[TEXTS : TEXTS + JUDGED] + every[TEXTS + JUDGED + HELD_OUT :]
    if form == "whole":
        rows = [{"prompt": f.instruction + "\n", "completion": f.program} for f in every[:known]]
        texts = write_rows(out / "texts.jsonl", rows)
    else:
        source = MemorySource(tuple(f.example(n) for n, f in enumerate(every[:known])))
        make_data(FORMS["anchored edits"].generator, source, out / "edits", workers=1)
        texts = str(out / "edits")
    return (
        texts,
        task_file(out / "judged.jsonl", judged),
        task_file(out / "held_out.jsonl", held_out),
    )


class Cost:
    """CPU seconds of this process, its ended children, and a sandbox.

    The sandbox's processes are not waited for, so their time is read while it is open.
    """

    def __init__(self) -> None:
        self._began, self._sandbox = cpu_seconds(), 0.0

    def read(self, *_: object) -> None:
        """Records the CPU time of the open sandbox."""
        self._sandbox = max(self._sandbox, tree_cpu_s() - cpu_seconds())

    @property
    def cpu_s(self) -> float:
        """CPU seconds up to now."""
        return cpu_seconds() - self._began + self._sandbox


def judged_samples(
    out: Path, task: str, model: str, seed: int, options: Any, cost: Cost, limit: int | None = None
) -> Any:
    """Samples a model into a directory, scores the samples and returns the score."""
    loaded = load(task)
    sampling = TaskSampling(
        options.samples,
        temperature=1.0,
        seed=seed,
        max_new_tokens=LONGEST[options.form],
        style="plain",
        limit=limit,
    )
    sample_task(loaded, model, sampling, out=out, batch_size=200)
    with Sandbox(workers=1) as sandbox:
        found = score(out / "samples.jsonl", loaded, out=out, sandbox=sandbox)
        cost.read()
        return found


def continued(out: Path, arm: str, start: str, seed: int, options: Any, cost: Cost) -> str:
    """Trains ``start`` further in one way; returns the model."""
    texts, judged, _ = world(options.out, options.texts, options.held_out, options.form)
    size = {"sft": 8, "dpo": 8, "grpo": 4} if options.model else {"sft": 32, "dpo": 32, "grpo": 16}
    changes: dict[str, Any] = {
        "micro_batch_size": 32,
        "decoder": "edit_sequence" if options.form == "edits" else "sample",
        "max_length": 512,
        "batch_size": size["sft" if arm == "start" else arm],
        "learning_rate": getattr(options, f"{arm}_rate"),
        **(ADAPTER if options.model else {}),
    }
    data: Any = texts
    if arm == "dpo":
        folder = out / "samples"
        judged_samples(folder, judged, start, seed, options, cost, limit=options.dpo_problems)
        source = ScoredRun(*scored_files(folder), load(judged), alike=4)
        make_data(Preferences(pairs=4), source, out / "pairs", workers=1)
        data = str(out / "pairs")
        changes |= {
            "objective": "dpo",
            "dpo": {
                "beta": 0.1,
                "trl": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
            },
            "schedule": "linear",
        }
    elif arm == "grpo":
        data = ""
        changes |= {
            "objective": "grpo",
            "micro_batch_size": 2 * changes["micro_batch_size"],
            "schedule": "constant",
            "warmup": 0,
            "grpo": {
                "task": judged, "style": "plain", "group": 8,
                "max_new_tokens": LONGEST[options.form],
            },
        }  # fmt: skip
    steps = getattr(options, arm)
    return train_small(
        start, data, out / "run", steps=steps, seed=seed, on_step=cost.read, **changes
    ).model


def run(out: Path, arm: str, seed: int, options: argparse.Namespace) -> Mapping[str, Any]:
    """Returns the measures of one arm with one seed; the start is made first if it is missing."""
    texts, _, held_out = world(out, options.texts, options.held_out, options.form)
    folder, cost = out / f"{arm}-{seed}", Cost()
    if arm != "start":
        path = out / "results" / f"start-{seed}.json"
        model = once(path, lambda: run(out, "start", seed, options))["model"]
        cost = Cost()
    else:
        model = options.model or _new(folder / "new", texts, seed, options)
    if getattr(options, arm):
        model = continued(folder, arm, model, seed, options, cost)
    spent = cost.cpu_s
    found = judged_samples(folder / "held_out", held_out, model, seed, options, cost)
    values = {f"pass@{k}": found.estimates[k].value for k in (1, options.samples)}
    counts = {id_: [count.n, count.c] for id_, count in found.counts.items()}
    return {"model": model, "cpu_s": spent, **values, "counts": counts}


def _new(folder: Path, texts: str, seed: int, options: Any) -> str:
    """Creates an untrained model with the corpus's vocabulary."""
    if options.form == "edits":
        some = [text.text for text in islice(read_texts(texts), TEXTS)]
    else:
        rows = map(json.loads, Path(texts).read_text().splitlines())
        some = [row["prompt"] + row["completion"] for row in rows]
    return str(start_model(folder, some, hidden=options.hidden, layers=3, seed=seed))


EXPERIMENT = Experiment(
    __doc__ or "",
    ARMS,
    ("pass@1", f"pass@{SAMPLES}", "cpu_s"),
    run,
    {
        "start": 600, "sft": 480, "dpo": 120, "grpo": 38, "dpo_problems": JUDGED,
        "start_rate": 2e-3, "sft_rate": 5e-4, "dpo_rate": 1e-5, "grpo_rate": 1e-4,
        "hidden": 96, "texts": TEXTS, "held_out": HELD_OUT, "samples": SAMPLES,
        "form": "whole", "model": "",
    },
)  # fmt: skip


def main() -> None:
    """Runs what is missing and prints both tables."""
    rows = EXPERIMENT.main()
    print("", *gains(rows, "start", (1, SAMPLES)), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
