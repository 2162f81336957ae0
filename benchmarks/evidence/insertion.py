"""Insertion language models and their peers on planning puzzles, each trained from scratch.

Every kind of network (insertion, masks of flexible and of fixed length, an unmodified Llama of
equal size from left to right) is trained on the same puzzles with the settings of
``recipes/ilm_star_easy.yaml`` and answers the same held-out ones. A condition is a puzzle and a
network, such as ``star-easy llama``. Measured: the fraction of correct answers, steps, parameters,
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.harness import Experiment
from codegen.finetune import parse_recipe
from codegen.finetune.lifecycle import train

KINDS = ("insertion", "llama", "fixed_masks", "flexible_masks")
# Task -> (width, steps).
TASKS = {"star-easy": (64, 8000), "star-medium": (96, 16_000), "star-hard": (96, 16_000)}


def settings(
    task: str, kind: str, out: Path, *, steps: int = 0, asked: int = 500, seed: int = 0
) -> dict[str, Any]:
    """Returns the recipe of one run; 0 steps select the task's default."""
    width, usual = TASKS[task]
    # All models train on 64 sequences per step: the Llama, which drops no tokens, on 64 examples,
    # the others on 4 draws of 16.
    examples, draws = (64, 1) if kind == "llama" else (16, 4)
    return {
        "model": "new",
        "network": {
            "kind": kind,
            "layers": 3,
            "width": width,
            "heads": 4,
            "rope_step": 3.14159,
            "final_norm": True,
            "prefix_apart": True,
            "mixes_neighbours": True,
            "match_keys": True,
            "draws": draws,
        },
        "data": f"puzzles:{task}:train",
        "output": str(out / f"{task}-{kind}"),
        "decoder": "sample" if kind == "llama" else "insertion",
        "method": "full",
        "format": "plain",
        "steps": steps or usual,
        "batch_size": examples,
        "micro_batch_size": examples * draws,
        "optimizer": "muon",
        "learning_rate": 3e-3,
        "muon_rate": 0.01,
        "schedule": "linear",
        "warmup": 0.02,
        "evaluation": {
            "data": f"puzzles:{task}:test:{asked}",
            "every": 250,
            "watch": 100,
            "answers": asked,
            "keep": "last",
        },
        "save_every": 250,
        "seed": seed,
    }


def run(out: Path, condition: str, seed: int, options: Any) -> Mapping[str, Any]:
    """Runs one puzzle with one network and returns its measures."""
    task, kind = condition.split()
    recipe = settings(task, kind, out / f"seed-{seed}", steps=options.steps, seed=seed)
    result = train(parse_recipe(recipe), on_message=print)
    low, high = result.answers["interval"]
    return {
        "correct": result.answers["exact_match"],
        "low": low,
        "high": high,
        "steps": result.losses[-1][0],
        "parameters": result.trainable_parameters,
        "seconds": result.seconds,
    }


EXPERIMENT = Experiment(
    __doc__ or "",
    tuple(f"{task} {kind}" for task in ("star-easy", "star-medium") for kind in KINDS),
    ("correct", "low", "high", "steps", "parameters", "seconds"),
    run,
    {"steps": 0},
)

if __name__ == "__main__":
    EXPERIMENT.main()
