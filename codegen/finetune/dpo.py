"""``objective: dpo``: preferred and rejected answers (DPO, arXiv 2305.18290), by TRL's DPOTrainer.

The loss compares how much more probable each answer has become since the start of training, so it
needs the initial model: the model without its adapter or, with ``method: full``, a second copy.
Prompts and answers become the same tokens as in training on texts and at inference; TRL's own
preparation of a data set is not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from codegen.errors import InputError, plural
from codegen.finetune.conversations import set_template_arguments
from codegen.finetune.dataset import TextEncoder
from codegen.finetune.handover import batch_sizes, make_trl_trainer, train_with, trl_config
from codegen.finetune.model import load_model
from codegen.finetune.plan import steps_of
from codegen.finetune.recipe import Recipe
from codegen.finetune.result import TrainingResult
from codegen.finetune.rows import read_pairs
from codegen.finetune.trainer import OnStep

Pair = dict[str, list[int]]


class _Trainer(DPOTrainer):
    """TRL's trainer on pairs that are encoded already."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def fit(
    recipe: Recipe,
    output: Path,
    on_step: OnStep | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Trains by the recipe; see :func:`codegen.finetune.run.train`.

    Raises:
        ConfigError, InputError, ModelError: with the remedy, before training starts.
    """
    loaded = load_model(recipe)
    set_template_arguments(loaded.tokenizer, recipe.chat_template_kwargs)
    pairs, counts = read_encoded_pairs(recipe, loaded.tokenizer)
    recipe = recipe.model_copy(update={"steps": steps_of(recipe, len(pairs))})
    left_out = ", ".join(f"{n} {reason}" for reason, n in counts["dropped"].items())
    say(
        f"{plural(len(pairs), 'pair')}, {plural(counts['tokens'], 'token')}"
        + (f"; left out: {left_out}" * bool(left_out))
    )
    settings = recipe.dpo
    losses = {settings.loss_type: 1.0} | ({"sft": settings.sft} if settings.sft else {})
    config = trl_config(
        DPOConfig,
        recipe,
        loaded,
        {
            **batch_sizes(recipe, recipe.batch_size),
            "beta": settings.beta,
            "loss_type": list(losses),
            "loss_weights": list(losses.values()),
            "max_length": recipe.max_length if recipe.overlong == "truncate" else None,
        },
        settings.trl,
    )
    loaded.model.config.use_cache = False
    needs_reference = recipe.method == "full" and not config.precompute_ref_log_probs
    reference = load_model(recipe).model if needs_reference else None
    torch.manual_seed(recipe.seed)  # for the adapter's initial weights
    trainer = make_trl_trainer(
        _Trainer,
        loaded,
        recipe,
        config,
        ref_model=reference,
        train_dataset=datasets.Dataset.from_list(pairs),
    )
    return train_with(
        trainer, loaded, recipe, output, counts, value="loss", on_step=on_step, say=say
    )


def read_encoded_pairs(recipe: Recipe, tokenizer: Any) -> tuple[list[Pair], dict[str, Any]]:
    """The recipe's pairs as token ids (``prompt_ids``, ``chosen_ids``, ``rejected_ids``), and their
    counts.

    Raises:
        InputError: naming a row that is not a pair; or if no pair is left.
    """
    encoder = TextEncoder(tokenizer, recipe.format, turns=recipe.turns)
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    cut = tokens = answers = 0
    for _, path in recipe.sources:
        for where, *records in read_pairs(path, recipe.limit):
            encoded = [encoder.examples(record) for record in records]
            if any(len(examples) != 1 for examples in encoded):
                raise InputError(
                    f"{where}: an answer becomes several texts.",
                    "Set turns: all, or end the prompt before the last answer.",
                )
            texts = [examples[0].ids for examples in encoded]
            first = encoded[0][0].nodes[0] + 1  # where the answer begins
            chosen, rejected = (ids[first:] for ids in texts)
            longest = max(map(len, texts))
            if chosen == rejected:
                dropped["equal answers"] += 1
            elif first >= recipe.max_length or (
                longest > recipe.max_length and recipe.overlong == "drop"
            ):
                dropped["too long"] += 1
            else:
                cut += longest > recipe.max_length
                tokens += sum(min(len(ids), recipe.max_length) for ids in texts)
                answers += sum(min(len(ids), recipe.max_length) - first for ids in texts)
                prompt = texts[0][:first]
                pairs.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    if not pairs:
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "no row"
        paths = ", ".join(path for _, path in recipe.sources)
        raise InputError(
            f"No pair of {paths} can be trained on ({reasons}).",
            "Raise max_length, or look at the data with: codegen data inspect.",
        )
    counts = {
        "examples": len(pairs),
        "tokens": tokens,
        "trained_tokens": answers,
        "dropped": dict(dropped),
        "cut": cut,
    }
    return pairs, counts
