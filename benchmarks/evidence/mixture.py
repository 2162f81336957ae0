"""Mixture-of-Instructions: which examples of a chunk attend to each other, on three small tasks.

A small transformer from scratch learns sums, sorting of digits and reversal of digits, in chunks of
one example of each, with three masks at equal steps: only the example (``example``), the chunk
(``chunk``, as in the method), or the whole row (``none``). Measured on new questions, one per
prompt, decoded greedily: the fraction of correct answers, by task and on average.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence.harness import Experiment, character_model, train_small
from codegen.benchmarks.evidence.sequencematch import sums
from codegen.core.records import Segment, TrainingText, write_jsonl
from codegen.decoding.loop import Row, decode
from codegen.models import load

TASKS = ("sum", "sort", "reverse")


def questions(task: str, count: int) -> list[tuple[str, str]]:
    """Returns distinct questions and answers of a task."""
    if task == "sum":
        return sums(count, seed=1)
    rng = random.Random(task)
    found: dict[str, str] = {}
    while len(found) < count:
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 6)))
        answer = "".join(sorted(digits)) if task == "sort" else digits[::-1]
        found[f"{'s' if task == 'sort' else 'r'}{digits}="] = answer
    return list(found.items())


def run(out: Path, mask: str, seed: int, options: Any) -> Mapping[str, Any]:
    """Runs one mask with one seed and returns its measures."""
    model = character_model(
        out / "models" / f"start-{seed}", "0123456789+=sr\n", hidden=options.hidden, layers=3,
        positions=512, seed=seed,
    )  # fmt: skip
    data, held = {}, {}
    for task in TASKS:
        pairs = questions(task, 4200)
        held[task] = pairs[4000:]
        path = out / "data" / f"{task}.jsonl"
        segments = [(Segment(q + "\n", False), Segment(a, True)) for q, a in pairs[:4000]]
        rows = [TrainingText(f"{i}", f"{task}{i}", "whole", s) for i, s in enumerate(segments)]
        write_jsonl(path, rows)
        data[task] = str(path)
    result = train_small(
        model, data, out / "runs" / f"{mask}-{seed}", steps=options.steps, seed=seed,
        batch_size=96, micro_batch_size=8, max_length=32, packing="best_fit", row_length=192,
        isolation=mask, mixture={"balance": True, "order": "random"},
    )  # fmt: skip
    loaded = load(result.model)
    scores = {task: _correct(loaded, pairs) for task, pairs in held.items()}
    return {**scores, "mean": fmean(scores.values())}


def _correct(loaded: Any, pairs: list[tuple[str, str]]) -> float:
    tokenizer = loaded.tokenizer
    rows = [
        Row(tokenizer(question + "\n", add_special_tokens=False).input_ids, [0.0] * 10)
        for question, _ in pairs
    ]
    decode(loaded.model, rows, max_new_tokens=10, temperature=0.0, top_p=1.0,
           eos=frozenset([tokenizer.eos_token_id]))  # fmt: skip
    return fmean(
        row.finish == "eos" and tokenizer.decode(row.tokens) == answer
        for row, (_, answer) in zip(rows, pairs, strict=True)
    )


EXPERIMENT = Experiment(
    __doc__ or "",
    ("example", "chunk", "none"),
    (*TASKS, "mean"),
    run,
    {"steps": 600, "hidden": 64},
)

if __name__ == "__main__":
    EXPERIMENT.main()
