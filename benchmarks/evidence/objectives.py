"""Whether preferences and reinforcement pay, beside more training on texts at the same cost.

A start continues in three ways, each for about the same CPU time: on texts (``sft``), on pairs of
its own passed and failed samples (``dpo``), or by reinforcement (``grpo``); sampling and judging
count. Everything runs as users run it: ``codegen.evaluate``, ``codegen.data.preferences``, recipes.
Measured on other problems: pass@1 and pass@10 at temperature 1, and the gain over the start: over
seeds (a t-interval) and clustered by problem, which holds for these starts and runs.

``--world functions``: a small model from scratch learns small functions from instructions and
programs: the start. ``sft`` continues on the same texts; the other two see other functions, of
which they know the tests and no program: ``dpo`` the first ``--dpo-problems``, ``grpo`` as many as
it draws, none twice up to 150 steps. ``--form edits`` writes every program as a LintSeq edit
sequence (anchored, five a program). ``--model embedded`` trains LoRA of the embedded model instead,
also for the start.

``--world mbpp --start 0``: LoRA of the embedded model, on problems of MBPP's training split;
``sft`` sees their programs, the other two their tests.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.forms import FORMS
from codegen.benchmarks.evidence.functions import Function, functions, start_model
from codegen.benchmarks.evidence.setting import arguments, mean_with_interval, once, table
from codegen.benchmarks.tools.timing import cpu_seconds, tree_cpu_s
from codegen.data import read_texts, run
from codegen.data.preferences import Preferences, ScoredRun, scored_files
from codegen.data.sources import MemorySource
from codegen.evals.sandbox import Job, Sandbox
from codegen.evals.scoring import score
from codegen.evals.statistics import Count, compare
from codegen.evals.tasks import find_style, load
from codegen.evaluate import sample_task
from codegen.finetune import parse_recipe
from codegen.finetune.run import train
from codegen.generation.protocol import SamplingParams
from codegen.records import write_atomic

ARMS = ("start", "sft", "dpo", "grpo")
TEXTS, JUDGED, HELD_OUT, MORE = 3000, 400, 150, 2000
MBPP_TRAINING, MBPP_JUDGED, MBPP_HELD_OUT = range(601, 975), 120, 60
SAMPLES = 10
LONGEST = {"whole": 140, "edits": 320, "mbpp": 128}  # tokens of a sample
ADAPTER = {"method": "lora", "merge": True, "micro_batch_size": 8}


@dataclass(frozen=True, slots=True)
class World:
    """A model to continue, and problems.

    Attributes:
        base: the model that the start is trained from; empty for a new one.
        texts: for ``sft`` and the start.
        judged, held_out: tasks, to learn from and to measure.
        style: prompt style.
        longest: tokens of a sample.
        recipe: settings of all runs.
        rows: per step: texts, pairs, and problems of ``grpo``, with 8 samples each.
    """

    base: str
    texts: str
    judged: str
    held_out: str
    style: str
    longest: int
    recipe: Mapping[str, Any]
    rows: Mapping[str, int]


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


def function_world(out: Path, known: int, measured: int, form: str, base: str) -> World:
    """Small functions: ``known`` come with their programs, ``measured`` are held out."""
    every = functions(TEXTS + JUDGED + HELD_OUT + MORE, seed=1)
    held_out = every[TEXTS + JUDGED :][:measured]
    judged = every[TEXTS : TEXTS + JUDGED] + every[TEXTS + JUDGED + HELD_OUT :]
    new = {"method": "full", "micro_batch_size": 32, "dtype": "float32"}
    return World(
        base=base,
        texts=text_data(out, every[:known], form),
        judged=task_file(out / "judged.jsonl", judged),
        held_out=task_file(out / "held_out.jsonl", held_out),
        style="plain",
        longest=LONGEST[form],
        recipe={
            "format": "plain",
            "decoder": "edit_sequence" if form == "edits" else "sample",
            **(ADAPTER if base else new),
        },
        rows={"sft": 8, "dpo": 8, "grpo": 4} if base else {"sft": 32, "dpo": 32, "grpo": 16},
    )


def mbpp_world(out: Path) -> World:
    """MBPP for the embedded model: its training split, and the first problems of its test split."""

    def rows_of(name: str) -> list[dict[str, Any]]:
        task, style = load(name), find_style("chat")
        jobs = {problem: task.job(problem, "") for problem in task.problems()}
        return [
            {
                "id": problem.id,
                "prompt": task.request(problem, style, 0).prompt,
                "entry_point": job.entry_point,
                "setup": job.setup,
                "tests": job.test,
                "solution": problem.solution,
                "cpu_s": 2,
            }
            for problem, job in jobs.items()
            if isinstance(job, Job) and job.mode == "isolated"
        ]

    numbers = {f"MBPP/{number}" for number in MBPP_TRAINING}
    training = [row for row in rows_of("mbpp") if row["id"] in numbers]
    texts = [
        {"prompt": row["prompt"], "completion": f"```python\n{row['solution']}\n```"}
        for row in training
    ]
    judged, held_out = out / "judged.jsonl", out / "held_out.jsonl"
    return World(
        base="embedded",
        texts=write_rows(out / "texts.jsonl", texts),
        judged=f"file:{write_rows(judged, training[:MBPP_JUDGED])}",
        held_out=f"file:{write_rows(held_out, rows_of('mbpp-test')[:MBPP_HELD_OUT])}",
        style="chat",
        longest=LONGEST["mbpp"],
        recipe={"format": "chat", **ADAPTER},
        rows={"sft": 8, "dpo": 8, "grpo": 4},
    )


class Cost:
    """CPU seconds of this process, its ended children, and a sandbox.

    Nobody waits for the processes of a sandbox, so their time is read while it is open.
    """

    def __init__(self) -> None:
        self._began, self._sandbox = cpu_seconds(), 0.0

    def read(self, *_: object) -> None:
        """Takes note of the time of the sandbox that is open now."""
        self._sandbox = max(self._sandbox, tree_cpu_s() - cpu_seconds())

    @property
    def cpu_s(self) -> float:
        """Up to now."""
        return cpu_seconds() - self._began + self._sandbox


def judged_samples(
    out: Path,
    world: World,
    task: str,
    model: str,
    seed: int,
    samples: int,
    cost: Cost | None = None,
    limit: int | None = None,
) -> Any:
    """Samples of a model in a directory, scored; the score."""
    loaded = load(task)
    params = SamplingParams(max_new_tokens=world.longest, temperature=1.0, seed=seed)
    sample_task(
        loaded, model, params, n=samples, out=out, style=world.style, batch_size=200, limit=limit
    )
    with Sandbox(workers=1) as sandbox:
        found = score(out / "samples.jsonl", loaded, out=out, sandbox=sandbox)
        if cost:
            cost.read()
        return found


def continued(
    out: Path, world: World, arm: str, start: str, cost: Cost, problems: int, **recipe: Any
) -> str:
    """The model of one way of continuing from ``start``; ``dpo`` samples ``problems``."""
    recipe |= {
        **world.recipe,
        "model": start,
        "output": str(out / "run"),
        "max_length": 512,
        "warmup": 0.05,
        "save_every": recipe["steps"],
        "batch_size": world.rows["sft" if arm == "start" else arm],
    }
    if arm in ("start", "sft"):
        recipe |= {"data": world.texts, "schedule": "cosine"}
    elif arm == "dpo":
        seed = recipe["seed"]
        judged_samples(
            out / "samples", world, world.judged, start, seed, SAMPLES, cost, limit=problems
        )
        source = ScoredRun(*scored_files(out / "samples"), load(world.judged), alike=4)
        run(Preferences(pairs=4), source, out / "pairs", workers=1)
        recipe |= {
            "objective": "dpo",
            "data": str(out / "pairs"),
            "dpo": {
                "beta": 0.1,
                "trl": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
            },
        }
    else:
        asked = {"task": world.judged, "style": world.style, "group": 8}
        recipe |= {
            "objective": "grpo",
            "micro_batch_size": 2 * world.recipe["micro_batch_size"],
            "schedule": "constant",
            "warmup": 0,
            "grpo": {**asked, "max_new_tokens": world.longest},
        }
    return train(parse_recipe(recipe), on_step=cost.read).model


class Experiment:
    """All runs of the experiment, each made once; see :func:`main`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, options.out
        functional = options.world == "functions"
        self.world = (
            function_world(self.out, options.texts, options.held_out, options.form, options.model)
            if functional
            else mbpp_world(self.out)
        )

    def path(self, arm: str, seed: int) -> Path:
        """Where a run's measures are."""
        return self.out / "results" / f"{arm}-{seed}.json"

    def run(self, arm: str, seed: int) -> dict[str, Any]:
        """The measures of a run, which is made first if it is missing."""
        return once(self.path(arm, seed), lambda: self._make(arm, seed))

    def _make(self, arm: str, seed: int) -> dict[str, Any]:
        folder, world = self.out / f"{arm}-{seed}", self.world
        cost = Cost()
        if arm != "start":
            model = self.run("start", seed)["model"]
        else:
            model = world.base or self._new(folder / "new", seed)
        if getattr(self.options, arm):
            model = continued(
                folder,
                world,
                arm,
                model,
                cost,
                problems=self.options.dpo_problems,
                seed=seed,
                steps=getattr(self.options, arm),
                learning_rate=getattr(self.options, f"{arm}_rate"),
            )
        spent = cost.cpu_s
        most = self.options.samples
        found = judged_samples(folder / "held_out", world, world.held_out, model, seed, most)
        values = {f"pass@{k}": found.estimates[k].value for k in (1, most)}
        counts = {id_: [count.n, count.c] for id_, count in found.counts.items()}
        return {"model": model, "cpu_s": spent, **values, "counts": counts}

    def _new(self, folder: Path, seed: int) -> str:
        """An untrained model with a vocabulary of the texts."""
        if self.options.form == "edits":
            texts = [text.text for text in islice(read_texts(self.world.texts), TEXTS)]
        else:
            rows = map(json.loads, Path(self.world.texts).read_text().splitlines())
            texts = [row["prompt"] + row["completion"] for row in rows]
        return str(start_model(folder, texts, hidden=self.options.hidden, layers=3, seed=seed))


def gains(results: Mapping[str, Mapping[int, Mapping[str, Any]]], most: int) -> list[str]:
    """Lines of a Markdown table: what each arm gained over the starts, over all seeds and by seed.

    Intervals are clustered by problem. Over several seeds the t-interval of their means follows.

    Args:
        results: arm -> seed -> measures.
        most: k of pass@k, beside 1.
    """

    def counts(arm: str, seeds: Sequence[int]) -> dict[str, Count]:
        return {
            f"{seed}:{id_}": Count(*count)
            for seed in seeds
            for id_, count in results[arm][seed]["counts"].items()
        }

    lines = []
    for arm in results:
        seeds = [seed for seed in results[arm] if seed in results["start"]]
        for several in (seeds, *([seed] for seed in seeds if len(seeds) > 1)):
            cells = [arm, " ".join(map(str, several))]
            for k in (1, most):
                found = compare(
                    counts("start", several),
                    counts(arm, several),
                    k,
                    cluster=lambda key: key.partition(":")[2],
                )
                if found and found.low is not None and found.high is not None:
                    cell = f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
                    means = [
                        results[arm][seed][f"pass@{k}"] - results["start"][seed][f"pass@{k}"]
                        for seed in several
                    ]
                    over = f"; over seeds {mean_with_interval(means)}" if len(means) > 1 else ""
                    cells.append(cell + over)
            if arm != "start":
                lines.append(f"| {' | '.join(cells)} |")
    head = f"| gain over the start | seeds | pass@1 | pass@{most} |"
    return [head, "|---|---|---|---|", *lines]


def main() -> None:
    """Makes the runs that are missing, and prints the tables."""
    given = {"start": 600, "sft": 480, "dpo": 120, "grpo": 38, "dpo_problems": JUDGED}
    rates = {"start_rate": 2e-3, "sft_rate": 5e-4, "dpo_rate": 1e-5, "grpo_rate": 1e-4}
    sizes = {"hidden": 96, "texts": TEXTS, "held_out": HELD_OUT, "samples": SAMPLES}
    sizes |= {"most": 0, "first_seed": 0}
    names = {"world": "functions", "form": "whole", "model": "", "arms": ",".join(ARMS)}
    options = arguments(__doc__ or "", **given, **rates, **sizes, **names)
    experiment = Experiment(options)
    results: dict[str, dict[int, dict[str, Any]]] = {}
    made = 0
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for arm in options.arms.split(","):
            if not experiment.path(arm, seed).exists():
                if made == (options.most or -1):
                    continue
                made += 1
            found = results.setdefault(arm, {})[seed] = experiment.run(arm, seed)
            shown = {name: value for name, value in found.items() if name != "counts"}
            print(arm, seed, shown, flush=True)  # noqa: T201
    columns = ("pass@1", f"pass@{options.samples}", "cpu_s")
    print(table({arm: [*runs.values()] for arm, runs in results.items()}, columns))  # noqa: T201
    if "start" in results:
        print("", *gains(results, options.samples), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
