"""Whether preferences and reinforcement pay, beside more training on texts at the same cost.

A small model from scratch learns small functions from instructions and programs: the start. Then it
continues in three ways, each for about the same CPU time: on the same texts (``sft``), on pairs of
its own passed and failed samples (``dpo``; sampling and judging count), or by reinforcement
(``grpo``). The last two see 400 other functions, of which they know the tests and no program.
Everything runs as users run it: ``codegen.evaluate``, ``codegen.data.preferences``, recipes.
Measured on new functions: pass@1 and pass@10 at temperature 1. ``--form edits`` writes every
program as a LintSeq edit sequence (anchored, five a program).
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.forms import FORMS
from codegen.benchmarks.evidence.functions import Function, functions, start_model
from codegen.benchmarks.evidence.setting import arguments, once, table
from codegen.data import read_texts, run
from codegen.data.preferences import Preferences, ScoredRun, scored_files
from codegen.data.sources import MemorySource
from codegen.evals.sandbox import Sandbox
from codegen.evals.scoring import score
from codegen.evals.tasks import load
from codegen.evaluate import sample_task
from codegen.finetune import parse_recipe
from codegen.finetune.run import train
from codegen.generation.protocol import SamplingParams
from codegen.records import write_atomic

ARMS = ("start", "sft", "dpo", "grpo")
TEXTS, JUDGED, HELD_OUT = 3000, 400, 150
SAMPLES = 10
LONGEST = {"whole": 140, "edits": 320}  # tokens of a sample


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """A JSONL file, and its path."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def task_file(path: Path, asked: Sequence[Function]) -> str:
    """The functions as a task of one's own (``file:``)."""
    rows = [
        {"id": f"{i}", "prompt": f.instruction, "entry_point": "f", "tests": f.test, "cpu_s": 2}
        for i, f in enumerate(asked)
    ]
    return f"file:{write_rows(path, rows)}"


def text_data(folder: Path, known: Sequence[Function], form: str) -> str:
    """Training texts of the functions: a JSONL file of programs, or a data directory of edits."""
    if form == "whole":
        rows = [{"prompt": f.instruction + "\n", "completion": f.program} for f in known]
        return write_rows(folder / "texts.jsonl", rows)
    source = MemorySource(tuple(f.example(number) for number, f in enumerate(known)))
    run(FORMS["anchored edits"].generator, source, folder / "edits", workers=1)
    return str(folder / "edits")


def judged_samples(out: Path, task: str, model: str, seed: int, longest: int) -> Any:
    """Samples of a model in a directory, scored; the score."""
    loaded = load(task)
    params = SamplingParams(max_new_tokens=longest, temperature=1.0, seed=seed)
    sample_task(loaded, model, params, n=SAMPLES, out=out, style="plain", batch_size=200)
    with Sandbox(workers=1) as sandbox:
        return score(out / "samples.jsonl", loaded, out=out, sandbox=sandbox)


def continued(
    out: Path, arm: str, start: str, texts: str, task: str, *, form: str, **recipe: Any
) -> str:
    """The model of one way of continuing from ``start``."""
    recipe |= {
        "model": start,
        "output": str(out / "run"),
        "method": "full",
        "format": "plain",
        "decoder": "edit_sequence" if form == "edits" else "sample",
        "micro_batch_size": 32,
        "max_length": 512,
        "warmup": 0.05,
        "dtype": "float32",
        "save_every": recipe["steps"],
    }
    if arm in ("start", "sft"):
        recipe |= {"data": texts, "batch_size": 32, "schedule": "cosine"}
    elif arm == "dpo":
        judged_samples(out / "samples", task, start, recipe["seed"], LONGEST[form])
        source = ScoredRun(*scored_files(out / "samples"), load(task), alike=4)
        run(Preferences(pairs=4), source, out / "pairs", workers=1)
        recipe |= {
            "objective": "dpo",
            "data": str(out / "pairs"),
            "batch_size": 32,
            "dpo": {"beta": 0.1, "sft": 0.2},
        }
    else:
        asked = {"task": task, "style": "plain", "group": 8, "max_new_tokens": LONGEST[form]}
        recipe |= {
            "objective": "grpo",
            "batch_size": 16,
            "micro_batch_size": 64,
            "schedule": "constant",
            "grpo": asked,
        }
    return train(parse_recipe(recipe)).model


def cpu_seconds() -> float:
    """Of this process and its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


class Experiment:
    """All runs of the experiment, each made once; see :func:`main`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, options.out
        every = functions(TEXTS + JUDGED + HELD_OUT, seed=1)
        known = every[: options.texts]
        self.samples = [f"{f.instruction}\n{f.program}" for f in known]
        self.texts = text_data(self.out, known, options.form)
        self.judged = task_file(self.out / "judged.jsonl", every[TEXTS : TEXTS + JUDGED])
        self.held_out = task_file(self.out / "held_out.jsonl", every[TEXTS + JUDGED :])

    def path(self, arm: str, seed: int) -> Path:
        """Where a run's measures are."""
        return self.out / "results" / f"{arm}-{seed}.json"

    def run(self, arm: str, seed: int) -> dict[str, Any]:
        """The measures of a run, which is made first if it is missing."""
        return once(self.path(arm, seed), lambda: self._make(arm, seed))

    def _make(self, arm: str, seed: int) -> dict[str, Any]:
        folder, options = self.out / f"{arm}-{seed}", self.options
        if arm == "start":
            texts = self.samples
            if options.form == "edits":
                texts = [text.text for text in islice(read_texts(self.texts), 3000)]
            width = options.hidden
            before = str(start_model(folder / "new", texts, hidden=width, layers=3, seed=seed))
        else:
            before = self.run("start", seed)["model"]
        began = cpu_seconds()
        model = continued(
            folder,
            arm,
            before,
            self.texts,
            self.judged,
            form=options.form,
            seed=seed,
            steps=getattr(options, arm),
            learning_rate=getattr(options, f"{arm}_rate"),
        )
        spent = cpu_seconds() - began
        longest = LONGEST[options.form]
        found = judged_samples(folder / "held_out", self.held_out, model, seed, longest).estimates
        values = {f"pass@{k}": found[k].value for k in (1, SAMPLES)}
        return {"model": model, "cpu_s": spent, **values}


def main() -> None:
    """Makes the runs that are missing, and prints the table."""
    given = {"start": 1000, "sft": 300, "dpo": 100, "grpo": 60}
    rates = {"start_rate": 2e-3, "sft_rate": 5e-4, "dpo_rate": 3e-5, "grpo_rate": 5e-5}
    sizes = {"hidden": 96, "texts": TEXTS, "most": 0}
    names = {"form": "whole", "arms": ",".join(ARMS)}
    options = arguments(__doc__ or "", **given, **rates, **sizes, **names)
    experiment = Experiment(options)
    results: dict[str, list[dict[str, Any]]] = {}
    made = 0
    for seed in range(options.seeds):
        for arm in options.arms.split(","):
            if not experiment.path(arm, seed).exists():
                if made == (options.most or -1):
                    continue
                made += 1
            results.setdefault(arm, []).append(experiment.run(arm, seed))
            print(arm, seed, results[arm][-1], flush=True)  # noqa: T201
    print(table(results, ("pass@1", f"pass@{SAMPLES}", "cpu_s")))  # noqa: T201


if __name__ == "__main__":
    main()
