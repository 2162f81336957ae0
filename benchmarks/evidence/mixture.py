"""Mixture-of-Instructions: what the examples of a chunk see of one another, on three small tasks.

A small transformer from scratch learns sums, sorting of digits and reversal of digits, in chunks of
one example of each, with three masks at equal steps: examples alone (``example``), the chunk
(``chunk``, the method's), or everything in the row (``none``). Measured, on new questions asked
alone: the share that is right, by task and on average, sampling greedily.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence.sequencematch import sums
from codegen.benchmarks.evidence.setting import arguments, once, small_model, table
from codegen.decoding.loop import Row, decode
from codegen.finetune import parse_recipe
from codegen.finetune.run import train
from codegen.models import load
from codegen.records import Segment, TrainingText, write_jsonl

MASKS = ("example", "chunk", "none")
TASKS = ("sum", "sort", "reverse")


def questions(task: str, count: int) -> list[tuple[str, str]]:
    """Distinct questions and answers of a task."""
    if task == "sum":
        return sums(count, seed=1)
    rng = random.Random(task)
    found: dict[str, str] = {}
    while len(found) < count:
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 6)))
        answer = "".join(sorted(digits)) if task == "sort" else digits[::-1]
        found[f"{'s' if task == 'sort' else 'r'}{digits}="] = answer
    return list(found.items())


def run(out: Path, mask: str, seed: int, steps: int, hidden: int) -> Mapping[str, Any]:
    """One mask with one seed: its measures."""
    model = small_model(
        out / "models" / f"start-{seed}", "0123456789+=sr\n", hidden=hidden, layers=3,
        positions=512, seed=seed,
    )  # fmt: skip
    data, held = {}, {}
    for task in TASKS:
        pairs = questions(task, 4200)
        held[task] = pairs[4000:]
        path = out / "data" / f"{task}.jsonl"
        rows = [
            TrainingText(
                f"{i}", f"{task}{i}", "whole", (Segment(q + "\n", False), Segment(a, True))
            )
            for i, (q, a) in enumerate(pairs[:4000])
        ]
        write_jsonl(path, rows)
        data[task] = str(path)
    result = train(
        parse_recipe(
            {
                "model": str(model),
                "data": data,
                "output": str(out / "runs" / f"{mask}-{seed}"),
                "steps": steps,
                "method": "full",
                "format": "plain",
                "batch_size": 96,
                "micro_batch_size": 8,
                "max_length": 32,
                "packing": "best_fit",
                "row_length": 192,
                "isolation": mask,
                "mixture": {"balance": True, "order": "random"},
                "learning_rate": 2e-3,
                "schedule": "cosine",
                "warmup": 0.05,
                "dtype": "float32",
                "save_every": steps,
                "seed": seed,
            }
        )
    )
    loaded = load(result.model)
    scores = {task: _right(loaded, pairs) for task, pairs in held.items()}
    return {**scores, "mean": fmean(scores.values())}


def _right(loaded: Any, pairs: list[tuple[str, str]]) -> float:
    tokenizer = loaded.tokenizer
    rows = [
        Row(tokenizer(question + "\n", add_special_tokens=False).input_ids, [0.0] * 10)
        for question, _ in pairs
    ]
    decode(loaded.model, rows, max_new_tokens=10, temperature=0.0, top_p=1.0,
           eos=frozenset([tokenizer.eos_token_id]))  # fmt: skip
    good = [
        row.finish == "eos" and tokenizer.decode(row.tokens) == answer
        for row, (_, answer) in zip(rows, pairs, strict=True)
    ]
    return sum(good) / len(good)


def main() -> None:
    """Runs all masks and seeds, and prints the table."""
    options = arguments(__doc__ or "", steps=600, hidden=64)
    rows: dict[str, list[dict[str, Any]]] = {}
    for mask in MASKS:
        for seed in range(options.seeds):
            found = once(
                options.out / "results" / f"{mask}-{seed}.json",
                lambda m=mask, s=seed: run(options.out, m, s, options.steps, options.hidden),
            )
            rows.setdefault(mask, []).append(found)
            print(mask, seed, found, flush=True)  # noqa: T201
    print(table(rows, (*TASKS, "mean")))  # noqa: T201


if __name__ == "__main__":
    main()
