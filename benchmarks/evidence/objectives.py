"""Whether preferences and reinforcement pay, beside more training on texts at the same cost.

A small model from scratch learns small functions from instructions and programs: the start. Then it
continues in three ways, each for about the same CPU time: on the same texts (``sft``), on pairs of
its own passed and failed samples (``dpo``; sampling and judging count), or by reinforcement
(``grpo``). The last two see 400 other functions, of which they know the tests and no program.
Everything runs as users run it: ``codegen.evaluate``, ``codegen.data.preferences``, recipes.
Measured on new functions: pass@1 and pass@10 at temperature 1.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.functions import Function, functions, start_model
from codegen.benchmarks.evidence.setting import arguments, once, table
from codegen.data import run
from codegen.data.preferences import Preferences, ScoredRun, scored_files
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
LONGEST = 140  # tokens of a sample


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


def judged_samples(out: Path, task: str, model: str, seed: int) -> Any:
    """Samples of a model in a directory, scored; the score."""
    loaded = load(task)
    params = SamplingParams(max_new_tokens=LONGEST, temperature=1.0, seed=seed)
    sample_task(loaded, model, params, n=SAMPLES, out=out, style="plain", batch_size=200)
    with Sandbox(workers=1) as sandbox:
        return score(out / "samples.jsonl", loaded, out=out, sandbox=sandbox)


def continued(
    out: Path, arm: str, start: str, texts: str, task: str, *, seed: int, steps: int, rate: float
) -> str:
    """The model of one way of continuing from ``start``."""
    recipe: dict[str, Any] = {
        "model": start,
        "output": str(out / "run"),
        "steps": steps,
        "method": "full",
        "format": "plain",
        "micro_batch_size": 32,
        "max_length": 256,
        "warmup": 0.05,
        "dtype": "float32",
        "save_every": steps,
        "seed": seed,
    }
    if arm in ("start", "sft"):
        recipe |= {"data": texts, "batch_size": 32, "learning_rate": rate, "schedule": "cosine"}
    elif arm == "dpo":
        judged_samples(out / "samples", task, start, seed)
        source = ScoredRun(*scored_files(out / "samples"), load(task), alike=4)
        run(Preferences(pairs=4), source, out / "pairs", workers=1)
        recipe |= {
            "objective": "dpo",
            "data": str(out / "pairs"),
            "batch_size": 32,
            "learning_rate": rate,
            "dpo": {"beta": 0.1, "sft": 0.2},
        }
    else:
        recipe |= {
            "objective": "grpo",
            "batch_size": 16,
            "micro_batch_size": 64,
            "learning_rate": rate,
            "schedule": "constant",
            "grpo": {"task": task, "style": "plain", "group": 8, "max_new_tokens": LONGEST},
        }
    return train(parse_recipe(recipe)).model


def cpu_seconds() -> float:
    """Of this process and its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


class Experiment:
    """All runs of the experiment, each made once; see :func:`main`."""

    def __init__(
        self,
        out: Path,
        *,
        texts: int,
        hidden: int,
        steps: Mapping[str, int],
        rates: Mapping[str, float],
    ) -> None:
        self.out, self.hidden, self.steps, self.rates = out, hidden, steps, rates
        every = functions(TEXTS + JUDGED + HELD_OUT, seed=1)
        self.rows = [
            {"prompt": f.instruction + "\n", "completion": f.program} for f in every[:texts]
        ]
        self.texts = write_rows(out / "texts.jsonl", self.rows)
        self.judged = task_file(out / "judged.jsonl", every[TEXTS : TEXTS + JUDGED])
        self.held_out = task_file(out / "held_out.jsonl", every[TEXTS + JUDGED :])

    def path(self, arm: str, seed: int) -> Path:
        """Where a run's measures are."""
        return self.out / "results" / f"{arm}-{seed}.json"

    def run(self, arm: str, seed: int) -> dict[str, Any]:
        """The measures of a run, made first if it was not."""
        return once(self.path(arm, seed), lambda: self._make(arm, seed))

    def _make(self, arm: str, seed: int) -> dict[str, Any]:
        folder = self.out / f"{arm}-{seed}"
        if arm == "start":
            texts = (row["prompt"] + row["completion"] for row in self.rows)
            new = start_model(folder / "new", texts, hidden=self.hidden, layers=3, seed=seed)
            before = str(new)
        else:
            before = self.run("start", seed)["model"]
        began = cpu_seconds()
        model = continued(
            folder,
            arm,
            before,
            self.texts,
            self.judged,
            seed=seed,
            steps=self.steps[arm],
            rate=self.rates[arm],
        )
        spent = cpu_seconds() - began
        found = judged_samples(folder / "held_out", self.held_out, model, seed).estimates
        values = {f"pass@{k}": found[k].value for k in (1, SAMPLES)}
        return {"model": model, "cpu_s": spent, **values}


def main() -> None:
    """Makes the runs that are missing, and prints the table."""
    given = {"start": 1000, "sft": 300, "dpo": 100, "grpo": 60}
    rates = {"start_rate": 2e-3, "sft_rate": 5e-4, "dpo_rate": 3e-5, "grpo_rate": 5e-5}
    options = arguments(
        __doc__ or "", **given, **rates, hidden=96, texts=TEXTS, most=0, arms=",".join(ARMS)
    )
    experiment = Experiment(
        options.out,
        texts=options.texts,
        hidden=options.hidden,
        steps={arm: getattr(options, arm) for arm in ARMS},
        rates={arm: getattr(options, f"{arm}_rate") for arm in ARMS},
    )
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
