"""SequenceMatch: backspaces in the data or not, the loss or likelihood, on sums of numbers.

Small transformers from scratch learn ``a+b=`` for numbers of up to two digits, in four
conditions at equal steps: plain or with wrong tokens that are taken back (``eta`` of the
positions), maximum likelihood or the SequenceMatch loss (chi-squared mixture, own samples).
Measured on sums that were not trained on, sampling at temperature 1 with at most 24 actions:

- ``right``: the answer that stands in the end is right;
- ``recovered``: the same when the first digit of the answer is forced to a wrong one;
- ``false_backspaces``: share of the answers from a clean start in which anything is taken back;
- ``actions``: a kept token.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen.backspace import BKSPC, Backspace, load_codec
from codegen.benchmarks.evidence.setting import arguments, once, small_model, table
from codegen.decoding.loop import Row, decode
from codegen.finetune import parse_recipe
from codegen.finetune.train import train
from codegen.models import load
from codegen.records import Example, Segment, TrainingText, write_jsonl

CONDITIONS = {
    "likelihood, plain": ("mle", False),
    "likelihood, backspaces": ("mle", True),
    "SequenceMatch, plain": ("sequencematch", False),
    "SequenceMatch, backspaces": ("sequencematch", True),
}
COLUMNS = ("right", "recovered", "false_backspaces", "actions")
_BUDGET = 24


def sums(count: int, seed: int) -> list[tuple[str, str]]:
    """Distinct questions and answers; the same first ones for any count."""
    rng = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        a, b = rng.randrange(10 ** rng.randint(1, 2)), rng.randrange(10 ** rng.randint(1, 2))
        found[f"{a}+{b}="] = str(a + b)
    return list(found.items())


def run(
    out: Path, condition: str, seed: int, steps: int, questions: int, hidden: int, eta: float
) -> Mapping[str, Any]:
    """One condition with one seed: its measures."""
    loss, backspaces = CONDITIONS[condition]
    name = f"{loss}-{'backspaces' if backspaces else 'plain'}-{seed}"
    model = small_model(
        out / "models" / f"start-{seed}", "0123456789+=\n", hidden=hidden, layers=3, positions=64,
        seed=seed,
    )  # fmt: skip
    pairs = sums(questions + 500, seed=0)
    data = out / "data" / f"{name}.jsonl"
    write_jsonl(data, _texts(model, pairs[:questions], seed, eta if backspaces else 0.0))
    recipe = {
        "model": str(model),
        "data": str(data),
        "output": str(out / "runs" / name),
        "steps": steps,
        "method": "full",
        "format": "plain",
        "loss": loss,
        "decoder": "backspace" if backspaces else "sample",
        "batch_size": 64,
        "micro_batch_size": 64,
        "max_length": 32,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.05,
        "dtype": "float32",
        "save_every": 500,
        "seed": seed,
        "sequencematch": {
            "sample_every": 50,
            "samples": 64,
            "buffer": 256,
            "max_new_tokens": _BUDGET,
        },
    }
    result = train(parse_recipe(recipe))
    return {"loss": result.losses[-1][1], **measure(result.model, pairs[questions:], seed)}


def _texts(model: Path, pairs: list[tuple[str, str]], seed: int, eta: float) -> list[TrainingText]:
    if eta == 0:
        return [
            TrainingText(
                f"{i}", f"{i}", "whole", (Segment(question + "\n", False), Segment(answer, True))
            )
            for i, (question, answer) in enumerate(pairs)
        ]
    load_codec.cache_clear()
    generator = Backspace(model=str(model), eta=eta, sequences=1)
    return [
        text
        for i, (question, answer) in enumerate(pairs)
        for text in generator.generate(
            Example(f"{i}", question, answer), random.Random(f"{seed}:{i}")
        )
    ]


def measure(model: str, pairs: list[tuple[str, str]], seed: int) -> dict[str, float]:
    """The measures of a trained model on questions with answers."""
    loaded = load(model)
    tokenizer = loaded.tokenizer
    backspace = tokenizer.get_vocab().get(BKSPC, -1)
    rng = random.Random(seed)

    def rows(forced: bool) -> list[Row]:
        found = []
        for question, answer in pairs:
            prompt = tokenizer(question + "\n", add_special_tokens=False).input_ids
            wrong = rng.choice([d for d in "0123456789" if d != answer[0]])
            begun = tokenizer(wrong, add_special_tokens=False).input_ids if forced else []
            found.append(Row(prompt, [rng.random() for _ in range(_BUDGET)], tokens=begun))
        for start in range(0, len(found), 100):
            decode(
                loaded.model, found[start : start + 100], max_new_tokens=_BUDGET, temperature=1.0,
                top_p=1.0, eos=frozenset([tokenizer.eos_token_id]), backspace=backspace,
            )  # fmt: skip
        return found

    def right(found: list[Row]) -> float:
        good = [
            row.finish == "eos" and tokenizer.decode(row.tokens) == answer
            for row, (_, answer) in zip(found, pairs, strict=True)
        ]
        return sum(good) / len(good)

    free, forced = rows(False), rows(True)
    taken_back = sum(backspace in row.actions for row in free) / len(free)
    kept = sum(len(row.tokens) + 1 for row in free)
    return {
        "right": right(free),
        "recovered": right(forced),
        "false_backspaces": taken_back,
        "actions": sum(len(row.actions) for row in free) / kept,
    }


def main() -> None:
    """Runs all conditions and seeds, and prints the table."""
    options = arguments(__doc__ or "", steps=1000, questions=6000, hidden=64, eta=0.1)
    rows: dict[str, list[dict[str, Any]]] = {}
    for condition in CONDITIONS:
        for seed in range(options.seeds):
            name = condition.replace(", ", "-").replace(" ", "-").lower()
            found = once(
                options.out / "results" / f"{name}-{seed}.json",
                lambda c=condition, s=seed: run(
                    options.out, c, s, options.steps, options.questions, options.hidden, options.eta
                ),
            )
            rows.setdefault(condition, []).append(found)
            print(condition, seed, found, flush=True)  # noqa: T201
    print(table(rows, COLUMNS))  # noqa: T201


if __name__ == "__main__":
    main()
