"""The run of ``recipes/grpo.yaml``: a model of 3 million parameters, reinforced on small functions.

Makes what the recipe needs, runs it, and measures: functions (:mod:`.functions`) with short
programs; a Llama from scratch that learns some of them from texts, for too short a time; other
functions, of which only instructions and tests are known, as the task; and functions that neither
saw, on which pass@1 and pass@k are measured before and after, at temperature 1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.functions import functions, start_model
from codegen.benchmarks.evidence.objectives import judged_samples, task_file, write_rows
from codegen.benchmarks.evidence.setting import arguments, once
from codegen.finetune import load_recipe, parse_recipe
from codegen.finetune.run import train

RECIPE = Path(__file__).parents[2] / "recipes" / "grpo.yaml"
TEXTS, JUDGED, HELD_OUT = 2000, 300, 100
LONGEST_PROGRAM = 170  # characters


def start(out: Path, hidden: int, layers: int, steps: int, seed: int) -> Path:
    """Writes the tasks, and trains the model to begin with; its directory."""
    every = [f for f in functions(20_000, seed=2) if len(f.program) <= LONGEST_PROGRAM]
    every = every[: TEXTS + JUDGED + HELD_OUT]
    rows = [{"prompt": f.instruction + "\n", "completion": f.program} for f in every[:TEXTS]]
    texts = write_rows(out / "texts.jsonl", rows)
    task_file(out / "problems.jsonl", every[TEXTS : TEXTS + JUDGED])
    task_file(out / "held_out.jsonl", every[TEXTS + JUDGED :])
    new = start_model(
        out / "new",
        (row["prompt"] + row["completion"] for row in rows),
        hidden=hidden,
        layers=layers,
        seed=seed,
    )
    recipe = {
        "model": str(new),
        "data": texts,
        "output": str(out / "start"),
        "steps": steps,
        "method": "full",
        "format": "plain",
        "batch_size": 32,
        "micro_batch_size": 32,
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "dtype": "float32",
        "save_every": 1000,
        "seed": seed,
    }
    return Path(train(parse_recipe(recipe)).model)


def measured(out: Path, model: str, seed: int) -> Mapping[str, Any]:
    """pass@1 and pass@10 of a model on the held-out functions, with their intervals."""
    found = judged_samples(out, f"file:{out.parent / 'held_out.jsonl'}", model, seed)
    return {f"pass@{k}": [e.value, e.tasks_low, e.tasks_high] for k, e in found.estimates.items()}


def main() -> None:
    """Makes what is missing, and prints the figures."""
    options = arguments(__doc__ or "", steps=0, first_steps=150, hidden=192, layers=5, seed=0)
    out, seed = options.out, options.seed
    model = out / "start" / "model"
    if not (model / "config.json").exists():
        start(out, options.hidden, options.layers, options.first_steps, seed)
    before = once(out / "before.json", lambda: measured(out / "before", str(model), seed))
    print("before", before, flush=True)  # noqa: T201
    changes = [f"model={model}", f"grpo.task=file:{out / 'problems.jsonl'}", f"seed={seed}"]
    changes += [f"output={out / 'run'}"] + [f"steps={options.steps}"] * (options.steps > 0)
    began = time.process_time()
    result = train(load_recipe(RECIPE, changes))
    spent = time.process_time() - began
    after = once(out / "after.json", lambda: measured(out / "after", result.model, seed))
    print("after", after)  # noqa: T201
    print(  # noqa: T201
        {
            "parameters": result.trainable_parameters,
            "reward": [result.parts["reward"][0][1], result.parts["reward"][-1][1]],
            "seconds": result.seconds,
            "cpu_s": spent,
        }
    )


if __name__ == "__main__":
    main()
