"""Insertion language models and their peers on planning puzzles, each trained from nothing.

Every kind of network (insertion, masks of flexible and of fixed length, an unmodified Llama of
equal size from left to right) is trained on the same puzzles by the settings of
``recipes/ilm_star_easy.yaml``, and asked the same held-out ones. A run that was cut off continues,
one that is finished is not made again. Printed: the share of right answers with its 95 % interval
(Wilson), steps, parameters, seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.setting import arguments
from codegen.finetune import parse_recipe
from codegen.finetune.result import TrainingResult
from codegen.finetune.run import train

KINDS = ("insertion", "llama", "fixed_masks", "flexible_masks")
# Task -> (width, steps).
TASKS = {
    "star-easy": (64, 8000),
    "star-medium": (96, 16_000),
    "star-hard": (96, 16_000),
    "zebra-3x3": (64, 8000),
}


def settings(
    task: str, kind: str, out: Path, *, steps: int = 0, asked: int = 500, seed: int = 0
) -> dict[str, Any]:
    """The recipe of one run; 0 steps are the task's."""
    width, usual = TASKS[task]
    # As many sequences a step for all: of the Llama, which loses no tokens, other examples.
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
        "data": f"puzzles:{task}:train" + ":10000" * task.startswith("zebra"),
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
            "set_of": 3 if task.startswith("zebra") else 0,
        },
        "save_every": 250,
        "seed": seed,
    }


def table(rows: Sequence[tuple[str, str, TrainingResult]]) -> str:
    """A Markdown table of finished runs."""
    lines = [
        "| task | network | right answers | 95 % | steps | parameters | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, kind, result in rows:
        low, high = result.answers["interval"]
        cells = (
            task,
            kind,
            f"{result.answers['exact_match']:.1%}",
            f"{low:.1%} to {high:.1%}",
            result.losses[-1][0],
            result.trainable_parameters,
            round(result.seconds),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def curve(result: TrainingResult) -> str:
    """The share of right answers over the steps."""
    points: Sequence[tuple[int, float]] = result.parts.get("exact_match", [])
    return ", ".join(f"{step}: {value:.2f}" for step, value in points)


def main() -> None:
    """Runs what is not there and prints the table."""
    chosen: Mapping[str, Any] = vars(
        arguments(__doc__ or "", tasks="star-easy,star-medium", kinds=",".join(KINDS), steps=0)
    )
    rows = []
    for task in chosen["tasks"].split(","):
        for kind in chosen["kinds"].split(","):
            row = settings(task, kind, chosen["out"], steps=chosen["steps"])
            result = train(parse_recipe(row), on_message=print)
            rows.append((task, kind, result))
            print(f"{task} {kind}: {curve(result)}")  # noqa: T201
    print(table(rows))  # noqa: T201


if __name__ == "__main__":
    main()
