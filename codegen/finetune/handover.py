"""The shared part of the objectives that TRL trains: its configuration, and a run of its trainer.

TRL's trainers are transformers' Trainer, so settings, checkpoints, curves and the saved model are
the same as for texts; the recipe's ``trl`` holds settings that only TRL has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers.trainer_callback import PrinterCallback

from codegen.errors import ConfigError, in_one_line, nearest
from codegen.finetune.held_out import TaskScores
from codegen.finetune.model import adapter_config
from codegen.finetune.recipe import Recipe, steps_before_decay, why_not_extended
from codegen.finetune.result import (
    CHECKPOINTS,
    STATE,
    TrainingResult,
    is_first,
    last_whole_checkpoint,
    result_of,
    save_model,
    write_pages,
)
from codegen.finetune.trainer import (
    OnStep,
    RunCallback,
    add_reports,
    muon_and_adamw,
    tracking,
    training_options,
)
from codegen.models import LoadedModel


def trl_config(
    kind: Any,
    recipe: Recipe,
    loaded: LoadedModel,
    own: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Any:
    """A configuration of TRL, such as ``GRPOConfig``, of a recipe.

    Args:
        recipe: its general settings are carried over.
        own: settings from the recipe's section for this objective.
        given: the section's ``trl``, settings by TRL's names.

    Raises:
        ConfigError: for a name that TRL does not know, one that the recipe decides, or a value that
            TRL refuses.
    """
    section = f"{recipe.objective}.trl"
    decided = {
        **training_options(loaded, recipe, Path(recipe.output) / CHECKPOINTS),
        "gradient_checkpointing": recipe.gradient_checkpointing,
        **own,
    }
    # TRL reads transformers' old names at every sample.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for name in given:
        if name in decided:
            raise ConfigError(
                f"{section}.{name} is decided by the recipe.", "Set the recipe's own key."
            )
        if name not in known:
            hint = nearest(name, known)
            raise ConfigError(
                f"{section}.{name} is not a setting of TRL's {kind.__name__}.",
                hint or f"help(trl.{kind.__name__}) lists them.",
            )
    with _refusals(kind.__name__, ValueError, TypeError):
        return kind(**decided, **given)


@contextlib.contextmanager
def _refusals(name: str, *kinds: type[Exception]) -> Iterator[None]:
    """Reports these errors of a class of TRL as settings that it refuses."""
    try:
        yield
    except kinds as error:
        raise ConfigError(f"TRL's {name} refuses these settings: {in_one_line(error)}.") from None


def batch_sizes(recipe: Recipe, rows: int) -> dict[str, int]:
    """TRL's settings that divide a step's rows among forward passes and processes.

    Raises:
        ConfigError: if they cannot be divided evenly.
    """
    at_once = min(recipe.micro_batch_size, rows)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if rows % (at_once * processes):
        samples = f", so {rows} samples a step," if rows != recipe.batch_size else ""
        times = f", times {processes} processes" if processes > 1 else ""
        raise ConfigError(
            f"batch_size {recipe.batch_size}{samples} is not a multiple of micro_batch_size "
            f"{at_once}{times}.",
            f"With objective: {recipe.objective}, all forward passes have equally many rows.",
        )
    return {
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": rows // (at_once * processes),
    }


def make_trl_trainer(
    kind: Any, loaded: LoadedModel, recipe: Recipe, arguments: Any, **own: Any
) -> Any:
    """A trainer of TRL for the recipe's model, adapter and optimizer.

    Args:
        arguments: from :func:`trl_config`.

    Raises:
        ConfigError: for settings that TRL refuses, ``lora.targets`` that fit no layer, or Muon with
            an adapter, which TRL adds after the optimizer is made.
    """
    optimizer = None
    if recipe.optimizer == "muon":
        if recipe.method != "full":
            raise ConfigError(
                f"optimizer: muon trains no adapter with objective: {recipe.objective}.",
                "Choose another optimizer, or method: full.",
            )
        optimizer = muon_and_adamw(loaded.model, recipe)
    with _refusals(kind.__base__.__name__, ValueError):
        return kind(
            **own,
            model=loaded.model,
            args=arguments,
            processing_class=loaded.tokenizer,
            optimizers=(optimizer, None),
            peft_config=None if recipe.method == "full" else adapter_config(recipe),
        )


def train_with(
    trainer: Any,
    loaded: LoadedModel,
    recipe: Recipe,
    output: Path,
    counts: dict[str, Any],
    *,
    value: str,
    on_step: OnStep | None,
    say: Callable[[str], None],
) -> TrainingResult:
    """Runs a trainer of TRL from its last whole checkpoint to the end, and saves the model.

    Args:
        trainer: before its first step.
        recipe, output: of the run; the recipe's ``steps`` are set.
        value: the logged value that ``on_step`` gets.
        on_step, say: see :func:`codegen.finetune.run.train`.
    """
    scores = TaskScores(recipe, loaded, output) if recipe.evaluation.task else None
    keeps = not why_not_extended(recipe)
    keep = (steps_before_decay(recipe), output / STATE) if keeps else None
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(RunCallback(on_step, value=value, keep=keep))
    add_reports(trainer, recipe, output / CHECKPOINTS, scores)
    checkpoint = last_whole_checkpoint(output)
    if checkpoint:
        say(f"Resuming from {checkpoint.name}.")
    started = time.perf_counter()
    # Standard output is for the result; trackers and TRL print.
    with contextlib.redirect_stdout(sys.stderr), tracking(recipe):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - started
    save_model(trainer, loaded, recipe, loaded.tokenizer, output)
    seen = int(trainer.state.num_input_tokens_seen)
    result = result_of(trainer, recipe, counts, seconds, 0 if checkpoint else seen, 0)
    if is_first():
        write_pages(result, recipe.model, output)
    return result
