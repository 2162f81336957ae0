"""transformers' Trainer on whole optimizer steps instead of micro-batches.

A dataset item is one step: the plan defines its micro-batches, whose number may differ between
steps, and each process runs its part of them. ``training_step`` divides the sum of their losses by
the total weight of the step's trained actions in all processes (each has weight 1 unless the data
has weights). Evaluation is the weighted mean loss over all held-out actions. The trainer and
accelerate do everything else: optimizers, schedules, clipping, mixed precision, DDP, FSDP,
checkpoints, early stopping.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from codegen.core.errors import CodegenError, ConfigError
from codegen.core.paths import new_folder
from codegen.core.records import write_atomic
from codegen.finetune import batches
from codegen.finetune.artifacts import WHOLE, last_whole_checkpoint, save_model
from codegen.finetune.attention import attending, check
from codegen.finetune.losses import (
    LOGITS_MB,
    InfillingLoss,
    Likelihood,
    LossSums,
    NestedLikelihood,
)
from codegen.finetune.recipe import Recipe, steps_before_decay
from codegen.models import LoadedModel, pick_dtype

if TYPE_CHECKING:
    from codegen.finetune.batch_plan import StepPlan
    from codegen.finetune.dataset import Dataset

OnStep = Callable[[int, int, float], None]
Say = Callable[[str], None]


class StepTrainer(Trainer):
    """A trainer whose dataset items are whole optimizer steps.

    Args:
        held_out: evaluation micro-batches.
        watch: returns extra metrics of the model at each evaluation.
    """

    def __init__(
        self,
        *args: Any,
        steps: batches.StepDataset,
        loss: Likelihood,
        held_out: Sequence[Any] = (),
        watch: Callable[[Any], dict[str, float]] = lambda _: {},
        **kwargs: Any,
    ) -> None:
        data: Any = steps
        super().__init__(
            *args,
            train_dataset=data,
            eval_dataset=held_out or None,  # pyrefly: ignore[bad-argument-type]
            data_collator=_only,
            **kwargs,
        )
        self.steps, self.loss, self.held_out, self.watch = steps, loss, held_out, watch
        self.sums = LossSums()

    def get_train_dataloader(self) -> DataLoader:
        """Returns a loader without accelerate, which would divide steps among processes."""
        data: Any = self.steps
        return DataLoader(data, batch_size=1, shuffle=False, collate_fn=_only)

    def floating_point_ops(self, inputs: Any) -> int:
        """Returns 0: operations are not counted."""
        return 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Computes the gradients of one step; returns its loss times the number of processes, since
        the trainer averages over processes.
        """
        model.train()
        micro_batches, total = inputs
        step = self.state.global_step
        base = _base(self.accelerator.unwrap_model(model))
        parts = [(batch, float(counts) / total) for batch, counts in micro_batches]
        own = self.loss.own_batches(base, step, self.steps)
        parts += [(batch, weight / total) for batch, weight in own]
        # The loss is a sum over processes, but accelerate averages gradients.
        losses = []
        with attending(base, self.steps.attention):
            for number, (batch, weight) in enumerate(parts):
                last = number == len(parts) - 1
                self.accelerator.gradient_state._set_sync_gradients(last)
                context = contextlib.nullcontext() if last else self.accelerator.no_sync(model)
                sums = self.sums if weight > 0 else LossSums()
                with context:
                    with self.compute_loss_context_manager():
                        moved = batch.to(self.args.device)
                        loss = self.loss.losses(model, moved, step, sums).sum() * weight
                    self.accelerator.backward(loss * self.args.world_size)
                losses.append(loss.detach())
        return sum(losses[1:], losses[0]) * self.args.world_size

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the losses by domain and component to the logs."""
        if "loss" in logs:
            logs = {**logs, **self.sums.means()}
        super().log(logs, *args, **kwargs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Returns ``eval_loss``, the mean loss over held-out texts, and other metrics."""
        assert self.model is not None
        self.model.eval()
        sums = LossSums()
        with torch.inference_mode(), self.compute_loss_context_manager():
            for batch in self.held_out:
                self.loss.evaluate(self.model, batch.to(self.args.device), sums)
        metrics = sums.means() | self.watch(self.model)
        self.model.train()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def _base(model: Any) -> Any:
    """Returns the underlying transformers model, including injected adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _only(items: list[Any]) -> Any:
    return items[0]


def build_trainer(
    model: Any,
    loaded: LoadedModel,
    recipe: Recipe,
    dataset: Dataset,
    plan: StepPlan,
    *,
    checkpoints: Path,
    on_step: OnStep | None = None,
    watch: Callable[[Any], dict[str, float]] = lambda _: {},
    keep: tuple[int, Path] | None = None,
) -> StepTrainer:
    """Builds the trainer of a recipe.

    Args:
        on_step: called after each optimizer step with (step, steps, loss).
        watch: returns extra metrics at each evaluation.
        keep: step of a checkpoint to keep, and its directory.

    Raises:
        ConfigError: if the model, the machine or the launch does not support the settings.
    """
    arguments = TrainingArguments(
        per_device_train_batch_size=1,  # a dataset item is a whole step
        train_sampling_strategy="sequential",
        **training_options(loaded, recipe, checkpoints, evaluates=bool(dataset.held_out)),
    )
    # With several GPUs and one process, the trainer would split the micro-batches.
    arguments._n_gpu = min(1, arguments.n_gpu)
    place: dict[str, Any] = {"rank": arguments.process_index, "world": arguments.world_size}
    attention = "dense" if recipe.infilling else check(loaded.model, recipe.attention)
    if recipe.infilling:
        steps = batches.InfillingSteps(
            dataset.examples,
            plan,
            model=loaded.model,
            draws=recipe.network.draws,
            rows=recipe.micro_batch_size,
            seed=recipe.seed,
            **place,
        )
        loss = InfillingLoss()
        held_out = batches.held_out_draws(loaded.model, dataset.held_out, recipe.seed)
    else:
        pad = dataset.tokenizer.pad_token_id
        steps = batches.StepDataset(
            dataset.examples,
            plan,
            pad,
            successors=recipe.loss == "sequencematch",
            attention=attention,
            **place,
        )
        held_out = list(batches.held_out_batches(dataset.held_out, pad))
        loss = _loss(recipe, dataset)
    callbacks: list[TrainerCallback] = [RunCallback(on_step, loss=loss, keep=keep)]
    if recipe.evaluation.patience and held_out:
        callbacks.append(EarlyStoppingCallback(recipe.evaluation.patience))
    trainer = StepTrainer(
        model=model,
        args=arguments,
        callbacks=callbacks,
        steps=steps,
        loss=loss,
        held_out=held_out,
        watch=watch,
        optimizers=(muon_and_adamw(model, recipe) if recipe.optimizer == "muon" else None, None),
    )
    trainer.remove_callback(PrinterCallback)
    keep_tensorboard_in(trainer, checkpoints)
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3 and not plugin.zero3_save_16bit_model:
        raise ConfigError(
            "DeepSpeed stage 3 shards the weights and would not gather them at the end.",
            "Set zero3_save_16bit_model: true in accelerate's configuration.",
        )
    return trainer


def keep_tensorboard_in(trainer: Trainer, checkpoints: Path) -> None:
    """Sets TensorBoard's directory, next to the checkpoint directory."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(checkpoints.with_name("tensorboard"))


def train_to_the_end(
    trainer: Any,
    loaded: LoadedModel,
    recipe: Recipe,
    tokenizer: Any,
    output: Path,
    say: Say,
) -> tuple[float, int]:
    """Runs a trainer from its last complete checkpoint to the end, and saves the model.

    Returns:
        Training seconds, and the first step.
    """
    checkpoint = last_whole_checkpoint(output)
    if checkpoint:
        say(f"Resuming from {checkpoint.name}.")
        if isinstance(trainer, StepTrainer):
            trainer.loss.load(checkpoint)
    started = time.perf_counter()
    # stdout is for the result, but trackers and TRL print.
    prints = recipe.report_to != "none" or not isinstance(trainer, StepTrainer)
    with contextlib.redirect_stdout(sys.stderr if prints else sys.stdout):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - started
    save_model(trainer, loaded, recipe, tokenizer, output)
    return seconds, int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def _loss(recipe: Recipe, dataset: Dataset) -> Likelihood:
    if recipe.sorted.exits:
        return NestedLikelihood(recipe.sorted.exits, trains_all=recipe.loss == "sorted")
    if recipe.loss != "sequencematch":
        return Likelihood(LOGITS_MB)
    from codegen.finetune.losses import OwnSamples, SequenceMatchLoss
    from codegen.models.chat import end_of_turn

    settings, own = recipe.sequencematch, None
    if settings.divergence == "chi2_mixture" and settings.buffer:
        is_chat = recipe.format == "chat"
        end = end_of_turn(dataset.tokenizer)[-1] if is_chat else dataset.tokenizer.eos_token_id
        own = OwnSamples(
            settings, dataset.examples, frozenset([end]), dataset.backspace, recipe.seed
        )
    return SequenceMatchLoss(settings, recipe.steps, dataset.backspace, own)


def training_options(
    loaded: LoadedModel, recipe: Recipe, checkpoints: Path, *, evaluates: bool = False
) -> dict[str, Any]:
    """Returns a recipe's arguments, except batch sizes, for transformers' ``TrainingArguments``
    and TRL's subclasses.
    """
    dtype = pick_dtype(loaded.model.device.type) if recipe.dtype == "auto" else None
    evaluation = recipe.evaluation
    options: dict[str, Any] = {}
    if recipe.optimizer not in ("adamw", "muon"):
        options["optim"] = recipe.optimizer
    keeps_best = evaluates and (evaluation.keep == "best" or evaluation.patience > 0)
    if evaluates:
        options |= {"eval_strategy": "steps", "eval_steps": evaluation.every}
    if keeps_best:
        options |= {
            "load_best_model_at_end": evaluation.keep == "best",
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    schedules = {"constant": "constant_with_warmup", "wsd": "warmup_stable_decay"}
    warmup = recipe.warmup if recipe.warmup >= 1 else recipe.warmup * recipe.steps
    if recipe.schedule == "wsd":
        decay_steps = recipe.steps - steps_before_decay(recipe)
        options["lr_scheduler_kwargs"] = {"num_decay_steps": decay_steps, "decay_type": "linear"}
    trackers = [recipe.report_to] if isinstance(recipe.report_to, str) else list(recipe.report_to)
    return dict(
        output_dir=str(checkpoints),
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=schedules.get(recipe.schedule, recipe.schedule),
        warmup_steps=math.ceil(warmup),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.dtype == "bfloat16" or dtype == torch.bfloat16,
        use_cpu=loaded.model.device.type == "cpu",
        logging_steps=1,
        # The best step can be kept only if its weights were saved.
        save_steps=evaluation.every if keeps_best else recipe.save_every,
        save_total_limit=2,
        seed=recipe.seed,
        report_to=trackers,
        run_name=Path(recipe.output).name,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
        ddp_find_unused_parameters=False,
        **options,
    )


class RunCallback(TrainerCallback):
    """Reports steps, aborts on a non-finite loss, and completes checkpoints.

    Args:
        on_step: called after each step with (step, steps, value).
        value: name of the logged value to report.
        loss: loss whose state is saved with each checkpoint.
        keep: step of a checkpoint to keep, and its directory.
    """

    def __init__(
        self,
        on_step: OnStep | None,
        *,
        value: str = "loss",
        loss: Likelihood | None = None,
        keep: tuple[int, Path] | None = None,
    ) -> None:
        self.on_step, self.value, self.loss = on_step, value, loss
        self.kept_step, self.kept_in = keep or (0, Path())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Runs before the step is logged, evaluated and saved."""
        if state.global_step == self.kept_step:
            control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Runs after each step and each evaluation."""
        if "loss" not in (logs or {}):
            return
        if not math.isfinite(logs["loss"]):
            raise CodegenError(
                f"The loss became {logs['loss']} at step {state.global_step}.",
                "Lower learning_rate, or set dtype: float32.",
            )
        if self.on_step:
            self.on_step(state.global_step, state.max_steps, logs.get(self.value) or 0.0)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Runs after all files of a checkpoint are written."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if folder.is_dir() and state.is_world_process_zero:
            if self.loss:
                self.loss.save(folder)
            write_atomic(folder / WHOLE, "")
            self._keep(folder, state)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keeps the checkpoint if the run was killed before doing so."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if folder.is_dir() and state.is_world_process_zero:
            self._keep(folder, state)

    def _keep(self, folder: Path, state: Any) -> None:
        if state.global_step != self.kept_step:
            return
        partial = new_folder(self.kept_in)
        best = Path(state.best_model_checkpoint or folder)  # it may remain the best
        for kept in {folder, best} if best.is_dir() else {folder}:
            copy_checkpoint(kept, partial / kept.name)
        shutil.rmtree(self.kept_in, ignore_errors=True)
        partial.rename(self.kept_in)


def copy_checkpoint(folder: Path, place: Path) -> None:
    """Copies a checkpoint, by hard links if possible, since its files do not change."""

    def copy(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    shutil.copytree(folder, place, copy_function=copy)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for matrices and AdamW for other weights, as one optimizer.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; torch
    implements it for matrices only. The update of a matrix is its momentum with all singular
    values set near 1. On the puzzles it needs about half of AdamW's steps (docs/insertion.md).

    Args:
        parts: the two optimizers; a schedule scales both learning rates.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self._parts = parts
        super().__init__(self._groups(), {})
        self.param_groups = self._groups()

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Any = None) -> Any:
        """Runs one step of both optimizers."""
        loss = closure() if closure is not None else None
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of both optimizers."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a state from :meth:`state_dict`."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()


def muon_and_adamw(model: torch.nn.Module, recipe: Recipe) -> MuonAndAdamW:
    """Builds Muon for the trained matrices of the layers and AdamW for the rest."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    inside = {name for name, weight in trained if ".layers." in name and weight.dim() == 2}
    decay = recipe.weight_decay
    return MuonAndAdamW(
        torch.optim.Muon(
            [weight for name, weight in trained if name in inside],
            lr=recipe.muon_rate,
            weight_decay=decay,
        ),
        torch.optim.AdamW(
            [weight for name, weight in trained if name not in inside],
            lr=recipe.learning_rate,
            weight_decay=decay,
        ),
    )
