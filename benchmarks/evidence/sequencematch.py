"""SequenceMatch: data with or without backspaces, SequenceMatch loss or likelihood.

Small transformers from scratch learn one of two worlds, in four conditions at equal steps: plain or
with wrong tokens that backspaces remove (a fraction ``eta`` of positions), maximum likelihood or
the SequenceMatch loss (chi-squared mixture, the model's samples). ``--world sums``: ``a+b=`` for
numbers of up to two digits, in characters; ``--world functions``: small programs
(:mod:`.functions`). Measured on questions that were not trained on, sampling at temperature 1:

- ``right``: the final text is correct (programs are run);
- ``recovered``: the same after a forced error: a wrong first digit of a sum, or a random wrong
  token at a random position of a correct program;
- ``false_backspaces``: fraction of answers with any backspace after a clean start;
- ``actions``: actions per kept token;
- ``repetition``: seq-rep-4 of the answers from a clean start; ``unended``: the fraction that did
  not end within the budget.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence import functions as small
from codegen.benchmarks.evidence.harness import Experiment, character_model, train_small
from codegen.core.records import Example, Segment, TrainingText, write_jsonl
from codegen.data.sources.small_functions import functions
from codegen.decoding.loop import Row
from codegen.methods.backspace import BKSPC, Backspace, load_codec
from codegen.models import load
from codegen.sandbox import Sandbox

CONDITIONS = {
    "likelihood, plain": ("mle", False),
    "likelihood, backspaces": ("mle", True),
    "SequenceMatch, plain": ("sequencematch", False),
    "SequenceMatch, backspaces": ("sequencematch", True),
}


def sums(count: int, seed: int) -> list[tuple[str, str]]:
    """Returns distinct questions and answers; a larger count only appends to them."""
    rng = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        a, b = rng.randrange(10 ** rng.randint(1, 2)), rng.randrange(10 ** rng.randint(1, 2))
        found[f"{a}+{b}="] = str(a + b)
    return list(found.items())


class Sums:
    """Sums of numbers of up to two digits."""

    budget = 24
    recipe: Mapping[str, Any] = {"batch_size": 64, "micro_batch_size": 64, "max_length": 32}

    def __init__(self, count: int) -> None:
        pairs = sums(count, seed=0)
        self.examples: Sequence[Example] = [Example(f"{i}", *pair) for i, pair in enumerate(pairs)]

    def start(self, folder: Path, *, hidden: int, seed: int) -> Path:
        """Returns an untrained model."""
        return character_model(
            folder, "0123456789+=\n", hidden=hidden, layers=3, positions=64, seed=seed
        )

    def mistake(self, tokenizer: Any, answer: str, rng: random.Random) -> list[int]:
        """Returns a wrong first digit."""
        wrong = rng.choice([digit for digit in "0123456789" if digit != answer[0]])
        return tokenizer(wrong, add_special_tokens=False).input_ids

    def right(self, answers: Sequence[str]) -> list[bool]:
        """Returns True for each answer that equals its reference."""
        asked = self.examples[-len(answers) :]
        return [answer == example.program for answer, example in zip(answers, asked, strict=True)]


class Functions:
    """Small programs, run in the sandbox."""

    budget = 240
    recipe: Mapping[str, Any] = {
        "batch_size": 32,
        "micro_batch_size": 16,
        "max_length": 320,
        "learning_rate": 2e-3,
    }

    def __init__(self, count: int) -> None:
        self._functions = functions(count, seed=0)
        self.examples: Sequence[Example] = [
            f.example(number) for number, f in enumerate(self._functions)
        ]

    def start(self, folder: Path, *, hidden: int, seed: int) -> Path:
        """Returns an untrained model."""
        texts = [f"{e.instruction}\n{e.program}" for e in self.examples[:2000]]
        return small.start_model(folder, texts, hidden=hidden, layers=3, seed=seed)

    def mistake(self, tokenizer: Any, answer: str, rng: random.Random) -> list[int]:
        """Returns the correct tokens up to a random position, then a wrong one from the program."""
        clean = tokenizer(answer, add_special_tokens=False).input_ids
        at = rng.randrange(len(clean))
        used = sorted(set(clean) - {clean[at]})
        return [*clean[:at], rng.choice(used)]

    def right(self, answers: Sequence[str]) -> list[bool]:
        """Returns True for each program with the expected output."""
        asked = self._functions[-len(answers) :]
        with Sandbox(workers=1) as sandbox:
            return [one for (one,) in small.judge(sandbox, asked, [[text] for text in answers])]


WORLDS: Mapping[str, type[Sums] | type[Functions]] = {"sums": Sums, "functions": Functions}


def run(out: Path, condition: str, seed: int, options: Any) -> Mapping[str, Any]:
    """Runs one condition with one seed and returns its measures."""
    loss, backspaces = CONDITIONS[condition]
    world = WORLDS[options.world](options.questions + options.asked)
    name = f"{options.world}-{loss}-{'backspaces' if backspaces else 'plain'}-{seed}"
    model = world.start(
        out / "models" / f"{options.world}-{seed}", hidden=options.hidden, seed=seed
    )
    data = out / "data" / f"{name}.jsonl"
    known = world.examples[: options.questions]
    write_jsonl(data, _texts(model, known, seed, options.eta if backspaces else 0.0))
    recipe: dict[str, Any] = {
        "learning_rate": 1e-3,
        "loss": loss,
        "decoder": "backspace" if backspaces else "sample",
        "save_every": 500,
        "sequencematch": {
            "sample_every": 50,
            "samples": world.recipe["batch_size"],
            "buffer": 4 * world.recipe["batch_size"],
            "max_new_tokens": world.budget,
        },
        **world.recipe,
    }
    folder = out / "runs" / name
    result = train_small(model, data, folder, steps=options.steps, seed=seed, **recipe)
    return {"loss": result.losses[-1][1], **measure(result.model, world, options.asked, seed)}


def _texts(model: Path, examples: Sequence[Example], seed: int, eta: float) -> list[TrainingText]:
    if eta == 0:
        return [
            TrainingText(
                example.id,
                example.id,
                "whole",
                (Segment(example.instruction + "\n", False), Segment(example.program, True)),
            )
            for example in examples
        ]
    load_codec.cache_clear()
    generator = Backspace(model=str(model), eta=eta, sequences=1)
    return [
        text
        for example in examples
        for text in generator.generate(example, random.Random(f"{seed}:{example.id}"))
    ]


def measure(model: str, world: Sums | Functions, count: int, seed: int) -> dict[str, float]:
    """Measures a trained model on the last examples, which were not trained on."""
    loaded = load(model)
    tokenizer = loaded.tokenizer
    backspace = tokenizer.get_vocab().get(BKSPC, -1)
    asked = world.examples[-count:]
    rng = random.Random(seed)
    mistakes = [world.mistake(tokenizer, example.program, rng) for example in asked]

    def rows(begun: Sequence[Sequence[int]]) -> list[Row]:
        prompts = [example.instruction + "\n" for example in asked]
        written = small.write(
            loaded, prompts, n=1, budget=world.budget, seed=seed, begun=begun, backspace=backspace
        )
        return [row for (row,) in written]

    def right(found: list[Row]) -> float:
        texts = [tokenizer.decode(row.tokens) if row.finish == "eos" else "" for row in found]
        return fmean(world.right(texts))

    free, forced = rows(()), rows(mistakes)
    kept = sum(len(row.tokens) + 1 for row in free)
    return {
        "right": right(free),
        "recovered": right(forced),
        "false_backspaces": fmean(backspace in row.actions for row in free),
        "actions": sum(len(row.actions) for row in free) / kept,
        "repetition": fmean(seq_rep_4(row.tokens) for row in free),
        "unended": fmean(row.finish != "eos" for row in free),
    }


def seq_rep_4(tokens: Sequence[int]) -> float:
    """Returns the fraction of repeated 4-grams (Welleck et al. 2020), 0 without 4-grams."""
    grams = [tuple(tokens[at : at + 4]) for at in range(len(tokens) - 3)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


EXPERIMENT = Experiment(
    __doc__ or "",
    tuple(CONDITIONS),
    ("right", "recovered", "false_backspaces", "actions", "repetition", "unended"),
    run,
    {"world": "sums", "steps": 1000, "questions": 6000, "asked": 500, "hidden": 64, "eta": 0.1},
)

if __name__ == "__main__":
    EXPERIMENT.main()
