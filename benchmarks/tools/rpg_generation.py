"""Continuations of repetitive prompts under rules against repetition, kept in a file.

Batches of prompts go through all methods in turn, so that a run that is cut short has the same
prompts for each. A line of the file is one continuation; a run continues with what is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.notes import say
from codegen.errors import InputError

# What is compared: a name, a decoder and its options.
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "greedy": ("sample", {}),
    "ours": ("rpg", {"mode": "ours"}),
    "paper": ("rpg", {"mode": "paper"}),
    "reference": ("rpg", {"mode": "reference"}),
    "repetition_penalty": ("repetition_penalty", {"penalty": 1.1}),
    "no_repeat_ngram": ("no_repeat_ngram", {"size": 10}),
    "dry": ("dry", {}),
}


@dataclass(frozen=True, slots=True)
class Continuation:
    """One row of the file.

    Attributes:
        method: a key of ``METHODS``.
        number: of the prompt in its file.
        prompt, text: what the model was given, and what it wrote.
        finish: ``eos`` or ``length``.
        tokens: generated.
        cpu_s: its share of its batch's CPU time.
    """

    method: str
    number: int
    prompt: str
    text: str
    finish: str
    tokens: int
    cpu_s: float


def read_prompts(file: str) -> list[str]:
    """CodeRepetEval's prompts.

    Raises:
        InputError: if the file is not CodeRepetEval's.
    """
    from codegen.evals.tasks import load

    return [problem.prompt for problem in load("coderepeteval", file).problems()]


def read_continuations(path: Path) -> list[Continuation]:
    """What a file holds; a last line that was cut off is left out."""
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(Continuation(**json.loads(line)))
        except (ValueError, TypeError):
            if number == len(path.read_text(encoding="utf-8").splitlines()):
                break
            raise InputError(
                f"{path}, line {number} is not a continuation.", "Give another file by -o out=FILE."
            ) from None
    return found


def make_continuations(
    prompts: Mapping[int, str],
    path: Path,
    *,
    model: str = "embedded",
    max_new_tokens: int = 256,
    batch_size: int = 16,
    cpu_minutes: float = 25,
    methods: Sequence[str] = tuple(METHODS),
) -> list[Continuation]:
    """Adds continuations to a file until all prompts are done or the time is spent.

    Args:
        prompts: by number, in the order in which they are taken.
        path: the file.
        cpu_minutes: CPU time of this call, checked after each batch.
    """
    from codegen.generation import Decoder, Request, SamplingParams, samples
    from codegen.generation.transformers import TransformersBackend
    from codegen.models import load

    found = read_continuations(path)
    done = {(one.method, one.number) for one in found}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(_line(one) for one in found), encoding="utf-8")
    generator = TransformersBackend(load(model), batch_size)
    params = SamplingParams(max_new_tokens)
    began = time.process_time()
    numbers = list(prompts)
    for start in range(0, len(numbers), batch_size):
        for method in methods:
            batch = [n for n in numbers[start : start + batch_size] if (method, n) not in done]
            if not batch:
                continue
            requests = [Request(prompts[n], problem_id=str(n)) for n in batch]
            name, options = METHODS[method]
            before = time.process_time()
            made = list(samples(generator, requests, params, Decoder(name, options)))
            share = (time.process_time() - before) / len(batch)
            with path.open("a", encoding="utf-8") as file:
                for number, sample in zip(batch, made, strict=True):
                    one = Continuation(
                        method,
                        number,
                        sample.prompt,
                        sample.completion,
                        sample.finish_reason,
                        sample.completion_tokens,
                        share,
                    )
                    file.write(_line(one))
                    found.append(one)
        spent = time.process_time() - began
        say(f"{min(start + batch_size, len(numbers))} of {len(numbers)} prompts, {spent:.0f} s CPU")
        if spent > 60 * cpu_minutes:
            break
    return found


def _line(one: Continuation) -> str:
    row = {name: getattr(one, name) for name in Continuation.__dataclass_fields__}
    return json.dumps(row, ensure_ascii=True) + "\n"
