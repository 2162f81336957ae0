"""The run of ``recipes/grpo.yaml``: a model of 3 million parameters, reinforced by the sandbox.

Builds the recipe's inputs, runs it, and measures. The problems and the initial training texts come
from :mod:`.reward_hacking` (world ``numbers``): short functions; two fifths of the training
programs are correct, and some are cheats. Half of each problem's tests are hidden from the reward.
Before and after, each problem gets 20 samples at temperature 1, which run against all tests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.harness import arguments, once
from codegen.benchmarks.evidence.reward_hacking import first_model, questions, value
from codegen.core.paths import write_atomic
from codegen.evals.scoring import score
from codegen.evals.statistics import wilson
from codegen.evals.tasks import load
from codegen.evaluate import TaskSampling, sample_task
from codegen.finetune import load_recipe
from codegen.finetune.lifecycle import train
from codegen.sandbox import Sandbox

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "grpo.yaml"
WORLD = "numbers"
SAMPLES = 20


def task_of(path: Path) -> str:
    """Returns the problems as a user's task (``file:``)."""
    rows = [
        {
            "id": str(number),
            "prompt": question.prompt.rstrip("\n"),
            "entry_point": "f",
            "tests": [
                f"assert f({x!r}) == {value(question.expression, x)!r}"
                for x in (*question.seen, *question.hidden)
            ],
        }
        for number, question in enumerate(questions(WORLD))
    ]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    return f"file:{path}"


def measured(out: Path, task: str, model: str, seed: int) -> Mapping[str, Any]:
    """Returns the fraction of samples that pass all tests, its 95% interval, and pass@10."""
    loaded = load(task)
    sampling = TaskSampling(SAMPLES, temperature=1.0, seed=seed, max_new_tokens=48, style="plain")
    sample_task(loaded, model, sampling, out=out, batch_size=240)
    with Sandbox(workers=1) as sandbox:
        found = score(out / "samples.jsonl", loaded, out=out, sandbox=sandbox)
    share = found.estimates[1].value
    return {"pass@1": [share, *wilson(share, found.samples)], "pass@10": found.estimates[10].value}


def main() -> None:
    """Runs the missing parts and prints the results."""
    options = arguments(__doc__ or "", steps=0, first_steps=100, hidden=192, layers=5, seed=0)
    out, seed = options.out, options.seed
    task = task_of(out / "problems.jsonl")
    start = first_model(
        out, WORLD, seed, options.first_steps, hidden=options.hidden, layers=options.layers
    )
    before = once(out / "before.json", lambda: measured(out / "before", task, start, seed))
    print("before", before, flush=True)  # noqa: T201
    changes = [f"model={start}", f"grpo.task={task}", f"seed={seed}", f"output={out / 'run'}"]
    changes += [f"steps={options.steps}"] * (options.steps > 0)
    began = time.process_time()
    result = train(load_recipe(RECIPE, changes))
    spent = time.process_time() - began
    after = once(out / "after.json", lambda: measured(out / "after", task, result.model, seed))
    print("after", after)  # noqa: T201
    curves = {name: (result.parts[name][0][1], result.parts[name][-1][1]) for name in CURVES}
    print({"parameters": result.trainable_parameters, "cpu_s": round(spent), **curves})  # noqa: T201


CURVES = ("reward", "solved", "suspects")

if __name__ == "__main__":
    main()
