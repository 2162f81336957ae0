"""Quality of a model during and after training: exact matches, and programs that pass.

Held-out prompts are completed greedily and compared with their texts (:func:`exact_match`). Samples
of a task's problems are judged in the sandbox (:class:`TaskScores`) and kept in the run's
directory, in a folder per evaluation. Neither changes the training: random states are restored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from codegen.evals import tasks
from codegen.evals.run import run as sample
from codegen.evals.sandbox import Sandbox
from codegen.evals.scoring import score
from codegen.evals.statistics import wilson
from codegen.finetune.recipe import Recipe
from codegen.generation.protocol import Decoder, Request, SamplingParams, samples
from codegen.generation.transformers import TransformersBackend
from codegen.models import LoadedModel
from codegen.records import TrainingText

EVALUATIONS = "evaluations"
_SPARE_TOKENS = 8  # after the longest expected completion, to detect longer ones
_PROMPTS_AT_ONCE = 64
_SAMPLES_AT_ONCE = 16


class TaskScores:
    """pass@k of the model in training on the recipe's task.

    Args:
        recipe: its ``evaluation`` names the task.

    Raises:
        InputError, ConfigError: for an unknown task, or one that the format cannot prompt.
        SandboxError: if this machine has no sandbox.
    """

    def __init__(self, recipe: Recipe, loaded: LoadedModel, output: Path) -> None:
        self.recipe, self.loaded, self.folder = recipe, loaded, output / EVALUATIONS
        self.task = tasks.load(recipe.evaluation.task)
        style = self.task.style or recipe.format
        self.style = tasks.find_style(style) if isinstance(style, str) else style
        with Sandbox(workers=1):  # fails now, not after the first steps
            pass

    def __call__(self, model: Any, step: int) -> dict[str, float]:
        """``eval_pass@K`` of a step, for every K that the samples allow."""
        settings, folder = self.recipe.evaluation, self.folder / f"step-{step}"
        backend = TransformersBackend(replace(self.loaded, model=model), _SAMPLES_AT_ONCE)
        params = SamplingParams(
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=self.recipe.seed,
        )
        with evaluating(model), Sandbox() as sandbox:
            path = sample(
                self.task,
                backend,
                params,
                Decoder(self.recipe.decoder),
                n=settings.samples,
                style=self.style,
                out=folder,
                limit=settings.problems or None,
                shard_size=_SAMPLES_AT_ONCE,
                settings={"model": self.recipe.output, "step": step},
            )
            found = score(path, self.task, out=folder, sandbox=sandbox)
        return {f"eval_pass@{k}": estimate.value for k, estimate in found.estimates.items()}


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """A block in which the model generates; restores it and torch's random numbers afterwards."""
    was_training, config = model.training, model.config
    used_cache, devices = config.use_cache, range(torch.cuda.device_count())
    model.eval()
    config.use_cache = True
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        config.use_cache = used_cache
        model.train(was_training)


def exact_match(
    loaded: LoadedModel, texts: Sequence[TrainingText], recipe: Recipe
) -> dict[str, Any]:
    """The share of right completions with its 95 % interval (Wilson), and the first wrong ones.

    Args:
        loaded: completes the prompts of the texts greedily.
        texts: held out; their trained parts are the expected completions.
    """
    longest = max(
        len(loaded.tokenizer(text.trained, add_special_tokens=False).input_ids) for text in texts
    )
    requests = [
        Request(text.prompt, chat=recipe.format == "chat", heal=False, index=number)
        for number, text in enumerate(texts)
    ]
    params = SamplingParams(max_new_tokens=longest + _SPARE_TOKENS, seed=recipe.seed)
    backend = TransformersBackend(loaded, _PROMPTS_AT_ONCE)
    made = samples(backend, requests, params, Decoder(recipe.decoder))
    completions = {sample.index: sample.completion for sample in made}
    wrong = [
        {"prompt": text.prompt, "expected": text.trained, "answer": completions[number]}
        for number, text in enumerate(texts)
        if not is_right(completions[number], text.trained, recipe.evaluation.set_of)
    ]
    share = (len(texts) - len(wrong)) / len(texts)
    return {
        "exact_match": share,
        "interval": list(wilson(share, len(texts))),
        "asked": len(texts),
        "wrong": wrong[:5],
    }


def is_right(completion: str, expected: str, set_of: int = 0) -> bool:
    """Whether a completion has the words of the expected text.

    Args:
        completion, expected: texts; blanks only separate words.
        set_of: words per group, whose order among the groups is free; 0 compares sequences.
    """
    given, wanted = completion.split(), expected.split()
    if not set_of:
        return given == wanted

    def groups(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[at : at + set_of]) for at in range(0, len(words), set_of)}

    return len(given) == len(wanted) and groups(given) == groups(wanted)
