"""The trainer of a run: its steps, its loss, transformers' arguments, callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.errors import CodegenError, ConfigError
from codegen.finetune import backends, replay
from codegen.finetune.prepare import Prepared
from codegen.finetune.processes import UNSHARED, is_first, processes_a_row
from codegen.finetune.recipe import Recipe
from codegen.finetune.seqmatch import Objective
from codegen.finetune.sequences import share_of_launch, share_rows_ourselves
from codegen.models import LoadedModel, pick_dtype
from codegen.records import write_atomic

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from transformers import TrainerCallback, TrainingArguments

    from codegen.finetune.trainer import Steps, StepTrainer

CHECKPOINTS = "checkpoints"
WHOLE = "whole"  # marks a checkpoint directory whose files are all written


def make_trainer(
    model: Any,
    loaded: LoadedModel,
    recipe: Recipe,
    prepared: Prepared,
    output: Path,
    on_step: Callable[[int, int, float], None] | None,
) -> StepTrainer:
    """Puts the trainer of a recipe together; ``on_step`` is called with step, steps and loss."""
    from transformers import EarlyStoppingCallback
    from transformers.trainer_callback import PrinterCallback

    arguments = _arguments(loaded, recipe, output, evaluates=bool(prepared.held_out))
    kind, steps = _steps(recipe, loaded, prepared, arguments)
    settings, objective, buffer = recipe.sequencematch, None, None
    if recipe.loss == "sequencematch":
        objective = Objective(
            settings.alpha, settings.gamma, settings.divergence, settings.terminal
        )
        if settings.divergence == "chi2_mixture" and settings.buffer:
            from codegen.models.chat import end_of_turn

            is_chat = recipe.format == "chat"
            end = end_of_turn(prepared.tokenizer)[-1] if is_chat else loaded.tokenizer.eos_token_id
            buffer = replay.Replay(
                settings, prepared.examples, frozenset([end]), prepared.backspace, recipe.seed
            )
    ramp = max(1, round(settings.ramp * recipe.steps))
    callbacks = [_callback(on_step, recipe.steps, buffer)]
    if recipe.evaluation.patience and prepared.held_out:
        callbacks.append(EarlyStoppingCallback(recipe.evaluation.patience))
    trainer = kind(
        model=model,
        args=arguments,
        eval_dataset=prepared.held_out or None,
        callbacks=callbacks,
        steps=steps,
        held_out=prepared.held_out,
        objective=objective,
        alpha=lambda step: settings.alpha * min(1.0, step / ramp),
        backspace=prepared.backspace,
        replay=buffer,
        exits=recipe.sorted.exits,
        trains_exits=recipe.loss == "sorted",
        watch=_watch(recipe, loaded, prepared),
        optimizers=(_optimizer(recipe, model), None),
    )
    trainer.remove_callback(PrinterCallback)
    if processes_a_row() > 1:
        share_rows_ourselves(trainer.accelerator)
    return trainer


def _steps(
    recipe: Recipe, loaded: LoadedModel, prepared: Prepared, arguments: TrainingArguments
) -> tuple[type[StepTrainer], Steps]:
    from codegen.finetune.trainer import Steps, StepTrainer

    place: dict[str, Any] = {"rank": arguments.process_index, "world": arguments.world_size}
    attention = "dense" if recipe.fills_gaps else backends.check(loaded.model, recipe.attention)
    if processes_a_row() > 1 and (recipe.loss != "mle" or attention != "auto"):
        raise ConfigError(
            "Processes that share rows need loss: mle, attention: auto, and a model that hands its"
            " attention what it is called with.",
            UNSHARED,
        )
    if recipe.fills_gaps:
        from codegen.finetune.gaps import GapSteps, GapTrainer

        return GapTrainer, GapSteps(
            loaded.model,
            prepared.examples,
            prepared.plan,
            draws=recipe.network.draws,
            rows=recipe.micro_batch_size,
            seed=recipe.seed,
            **place,
        )
    return StepTrainer, Steps(
        prepared.examples,
        prepared.plan,
        prepared.tokenizer.pad_token_id,
        successors=recipe.loss == "sequencematch",
        attention=attention,
        share=share_of_launch(loaded.model, **place),
        **place,
    )


def _optimizer(recipe: Recipe, model: Any) -> Optimizer | None:
    """None for the trainer's own."""
    if recipe.optimizer == "adamw":
        return None
    from codegen.finetune.muon import make_optimizer

    return make_optimizer(
        model,
        muon_rate=recipe.muon_rate,
        rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )


def _watch(
    recipe: Recipe, loaded: LoadedModel, prepared: Prepared
) -> Callable[[Any], dict[str, float]]:
    """Right answers to some of the questions that are held out."""
    texts = prepared.held_out_texts[: recipe.evaluation.watch]

    def watch(model: Any) -> dict[str, float]:
        if not texts:
            return {}
        from codegen.finetune.answers import exact_match

        asked = replace(loaded, model=model, tokenizer=prepared.tokenizer)
        return {"eval_exact_match": exact_match(asked, texts, recipe)["exact_match"]}

    return watch


def _arguments(
    loaded: LoadedModel, recipe: Recipe, output: Path, *, evaluates: bool
) -> TrainingArguments:
    import torch
    from transformers import TrainingArguments

    dtype = pick_dtype(loaded.model.device.type) if recipe.dtype == "auto" else None
    bf16 = recipe.dtype == "bfloat16" or dtype == torch.bfloat16
    keeps_best = evaluates and (recipe.evaluation.keep == "best" or recipe.evaluation.patience > 0)
    options: dict[str, Any] = {}
    if evaluates:
        options = {"eval_strategy": "steps", "eval_steps": recipe.evaluation.every}
    if keeps_best:
        options |= {
            "load_best_model_at_end": recipe.evaluation.keep == "best",
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    arguments = TrainingArguments(
        output_dir=str(output / CHECKPOINTS),
        max_steps=recipe.steps,
        per_device_train_batch_size=1,  # an item of our data set is a whole step
        train_sampling_strategy="sequential",
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule if recipe.schedule != "constant" else
        "constant_with_warmup",
        warmup_steps=math.ceil(recipe.warmup * recipe.steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=bf16,
        use_cpu=loaded.model.device.type == "cpu",
        logging_steps=1,
        # The best step must be one whose weights are there.
        save_steps=recipe.evaluation.every if keeps_best else recipe.save_every,
        save_total_limit=2,
        seed=recipe.seed,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
        ddp_find_unused_parameters=False,
        **options,
    )  # fmt: skip
    # With several GPUs in sight and one process the trainer would split our micro-batches.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _callback(
    on_step: Callable[[int, int, float], None] | None, steps: int, buffer: replay.Replay | None
) -> TrainerCallback:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" not in (logs or {}):
                return
            if not math.isfinite(logs["loss"]):
                raise CodegenError(
                    f"The loss became {logs['loss']} at step {state.global_step}.",
                    "Lower learning_rate, or set dtype: float32.",
                )
            if on_step:
                on_step(state.global_step, steps, logs["loss"])

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if folder.is_dir() and is_first():
                if buffer is not None:
                    buffer.save(folder)
                write_atomic(folder / WHOLE, "")

    return Callback()
