"""Right answers: a model is asked held-out questions, and what it writes is compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codegen.evals.statistics import wilson
from codegen.finetune.recipe import Recipe
from codegen.generation.protocol import Decoder, Request, SamplingParams, samples
from codegen.records import TrainingText

if TYPE_CHECKING:
    from codegen.models import LoadedModel

_SPARE = 8  # tokens above the longest right answer, so that too long ones show
_BATCH = 64


def is_right(answer: str, expected: str, set_of: int = 0) -> bool:
    """Whether an answer is the expected one, but for blanks.

    Args:
        answer, expected: texts.
        set_of: so many words belong together, and their groups have no order; 0 for plain texts.
    """
    given, wanted = answer.split(), expected.split()
    if not set_of:
        return given == wanted
    return len(given) == len(wanted) and _groups(given, set_of) == _groups(wanted, set_of)


def _groups(words: Sequence[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + size]) for at in range(0, len(words), size)}


def ask(loaded: LoadedModel, texts: Sequence[TrainingText], recipe: Recipe) -> list[str]:
    """The model's most probable answers to the prompts, in their order."""
    from codegen.generation.transformers import TransformersBackend

    longest = max(
        len(loaded.tokenizer(text.trained, add_special_tokens=False).input_ids) for text in texts
    )
    requests = [
        Request(text.prompt, chat=recipe.format == "chat", heal=False, index=number)
        for number, text in enumerate(texts)
    ]
    backend = TransformersBackend(loaded, _BATCH)
    params = SamplingParams(max_new_tokens=longest + _SPARE, seed=recipe.seed)
    made = samples(backend, requests, params, Decoder(recipe.decoder))
    answers = {sample.index: sample.completion for sample in made}
    return [answers[number] for number in range(len(texts))]


def exact_match(
    loaded: LoadedModel, texts: Sequence[TrainingText], recipe: Recipe
) -> dict[str, Any]:
    """The share of right answers with its 95 % interval (Wilson), and the first wrong ones."""
    answers = ask(loaded, texts, recipe)
    wrong = [
        {"prompt": text.prompt, "expected": text.trained, "answer": answer}
        for text, answer in zip(texts, answers, strict=True)
        if not is_right(answer, text.trained, recipe.evaluation.set_of)
    ]
    right = len(texts) - len(wrong)
    low, high = wilson(right / len(texts), len(texts))
    return {
        "exact_match": right / len(texts),
        "interval": [low, high],
        "asked": len(texts),
        "wrong": wrong[:5],
    }
