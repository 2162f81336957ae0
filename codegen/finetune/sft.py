"""Fine-tuning on texts, from the rows of a recipe to its trained weights, in reading order.

:func:`train_sft` has the stages: :func:`prepare` reads and encodes the rows and plans the steps,
the model gets trainable weights, and transformers' Trainer runs the steps. The TRL objectives
(:mod:`.trl_runner`) share the settings, checkpoints and optimizers.

A dataset item is one optimizer step instead of a micro-batch: the plan defines its micro-batches,
whose number may differ between steps, and each process runs its part of them. ``training_step``
divides the sum of their losses by the total weight of the step's trained actions in all processes
(each has weight 1 unless the data has weights). Evaluation is the weighted mean loss over all
held-out actions. The trainer and accelerate do everything else: optimizers, schedules, clipping,
mixed precision, DDP, FSDP, checkpoints, early stopping.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from codegen.core.errors import CodegenError, ConfigError, InputError
from codegen.core.paths import new_folder, write_atomic
from codegen.core.records import TrainingText
from codegen.evals.statistics import wilson
from codegen.finetune import batches, trainable
from codegen.finetune.batch_plan import (
    StepPlan,
    describe,
    make_curriculum,
    make_mixture,
    make_plan,
    statistics,
)
from codegen.finetune.dataset import Dataset, ExampleLengths, read_dataset, read_training_rows
from codegen.finetune.encode import set_template_arguments
from codegen.finetune.losses import (
    LOGITS_MB,
    InfillingLoss,
    Likelihood,
    LossSums,
    NestedLikelihood,
    OwnSamples,
    SequenceMatchLoss,
)
from codegen.finetune.recipe import (
    EXTENDABLE,
    NEW,
    Format,
    Recipe,
    steps_before_decay,
    why_not_extended,
)
from codegen.models import LoadedModel, load_tokenizer, pick_dtype
from codegen.models.chat import end_of_turn

OnStep = Callable[[int, int, float], None]
Say = Callable[[str], None]

TOKENS = "tokens"  # directory of a run's token cache
CHECKPOINTS = "checkpoints"
STATE = "state"  # checkpoint from which a finished run is extended
WHOLE = "whole"  # marks a completely written checkpoint directory
_SPARE_TOKENS = 8  # beyond the longest expected completion, to detect longer ones
_PROMPTS_AT_ONCE = 64


class TrainedModel(NamedTuple):
    """A model at the end of its training.

    Attributes:
        base: the loaded model, with the tokenizer.
        recipe: the recipe with its ``steps``.
        counts: examples, tokens, mask coverage, dropped and cut texts by reason, padding.
        seconds: time of the steps since the last resume.
        tokens, actions: tokens and trained actions in that time.
        widths: row width of each step; empty unless the plan has them.
        held_out: texts whose prompts are completed at the end.
    """

    trainer: Trainer
    base: LoadedModel
    recipe: Recipe
    counts: dict[str, Any]
    seconds: float
    tokens: int = 0
    actions: int = 0
    widths: Sequence[int] = ()
    held_out: Sequence[TrainingText] = ()


def train_sft(
    recipe: Recipe, output: Path, checkpoint: Path | None, on_step: OnStep | None, say: Say
) -> TrainedModel:
    """Trains a recipe on texts.

    Args:
        output: the run's directory.
        checkpoint: the checkpoint to resume from.
        on_step, say: see :func:`codegen.finetune.lifecycle.train`.

    Raises:
        ConfigError, InputError, ModelError: for data, a model or a machine that does not support
            the recipe.
    """
    # The examples, and the steps that they are used in.
    recipe, dataset, plan = prepare(recipe)
    compares = recipe.evaluation.answers or recipe.evaluation.watch
    if compares and recipe.evaluation.data and not dataset.held_out_texts:
        raise ConfigError(
            "evaluation.answers and evaluation.watch need texts, but evaluation.data has none.",
            "Add prompts and completions to evaluation.data.",
        )
    counts = dataset.counts | statistics(dataset.examples, plan)
    say(describe(counts))
    reason = why_not_extended(recipe)
    if reason and recipe.schedule in EXTENDABLE:  # possibly chosen to extend the run later
        say(f"This run cannot be extended later: {reason}.")

    # The model, and its trainable weights: float32, over frozen ones in the computation's dtype.
    tokenizer, new_token = dataset.tokenizer, dataset.new_token
    tokens = (*([] if new_token is None else [new_token]), *dataset.trained_tokens)
    if recipe.model == NEW:
        longest = dataset.longest_response
        loaded = trainable.init_model(recipe.network, tokenizer, longest, recipe.seed)
    else:
        loaded = trainable.load_model(
            recipe.model,
            method=recipe.method,
            dtype=recipe.dtype,
            decoder=recipe.decoder,
            grows=bool(tokens),
        )
    loaded, lengths = replace(loaded, tokenizer=tokenizer), ExampleLengths.of(dataset.examples)
    trainable.mark_exits(loaded.model, recipe.sorted.exits, recipe.loss)
    torch.manual_seed(recipe.seed)  # for the adapter's initial weights
    trainable.check_rows(loaded.model, recipe.model, lengths, plan)
    if new_token is not None:
        trainable.add_embedding(loaded.model, new_token, len(tokenizer))
    if dataset.trained_tokens:
        trainable.add_noise(loaded.model, dataset.trained_tokens)
    model = trainable.make_trainable(
        loaded.model,
        recipe.model,
        recipe.method,
        recipe.lora,
        tokens=tokens,
        gradient_checkpointing=recipe.gradient_checkpointing,
    )
    if recipe.method != "full" and recipe.lora.adapter:
        trainable.continue_adapter(model, recipe.lora, loaded)

    # The steps.
    trainer = _build_trainer(recipe, dataset, plan, loaded, model, output, on_step)
    # Checkpoints contain the embeddings of an extended vocabulary on purpose.
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers`")
    seconds, first = run_trainer(trainer, checkpoint, say, prints=recipe.report_to != "none")
    done = [plan.numbers(step) for step in range(first, trainer.state.global_step)]
    return TrainedModel(
        trainer,
        loaded,
        recipe,
        counts,
        seconds,
        tokens=sum(int(lengths.slots[numbers].sum()) for numbers in done),
        actions=sum(int(lengths.trained[numbers].sum()) for numbers in done),
        widths=plan.widths,
        held_out=dataset.held_out_texts[: recipe.evaluation.answers],
    )


def prepare(recipe: Recipe) -> tuple[Recipe, Dataset, StepPlan]:
    """Reads and encodes the rows of a recipe, and plans its steps.

    Returns:
        The recipe with its ``steps``, the dataset and the plan.

    Raises:
        ConfigError, InputError, ModelError: for rows or a tokenizer that do not fit the recipe.
    """
    if recipe.model == NEW:
        rows = (row for _, path in recipe.sources for row in read_training_rows(path, recipe.limit))
        texts = (row for row in rows if isinstance(row, TrainingText))
        tokenizer = trainable.new_tokenizer(recipe.network.tokenizer, texts)
    else:
        tokenizer = load_tokenizer(recipe.model)
        if recipe.chat_template_kwargs:
            set_template_arguments(tokenizer, recipe.chat_template_kwargs)
    dataset = read_dataset(
        tokenizer,
        recipe.encoding,
        recipe.sources,
        limit=recipe.limit,
        held_out=recipe.evaluation_sources,
        folder=Path(recipe.token_cache or Path(recipe.output, TOKENS)),
    )
    if recipe.loss == "sequencematch" and dataset.has_weights:
        raise InputError(
            "The data has segments with weights, which loss: sequencematch does not support.",
            "Use true and false for train, or set loss: mle.",
        )
    recipe = recipe.for_examples(len(dataset.examples))
    settings: dict[str, Any] = {"steps": recipe.steps, "seed": recipe.seed}
    if recipe.curriculum.mode != "none":
        return recipe, dataset, make_curriculum(dataset.examples, recipe.curriculum, **settings)
    settings |= {
        "batch_size": recipe.batch_size,
        "micro_batch_size": recipe.micro_batch_size,
        "row_length": recipe.packed_length,
        "isolation": recipe.isolation,
    }
    if recipe.uses_mixture:
        return recipe, dataset, make_mixture(dataset.examples, recipe.mixture, **settings)
    return recipe, dataset, make_plan(dataset.examples, shares=recipe.mixture.shares, **settings)


def _build_trainer(
    recipe: Recipe,
    dataset: Dataset,
    plan: StepPlan,
    loaded: LoadedModel,
    model: Any,
    output: Path,
    on_step: OnStep | None,
) -> StepTrainer:
    """Builds the trainer for a model with trainable weights.

    Raises:
        ConfigError: if the model, the machine or the launch does not support the settings.
    """
    arguments = TrainingArguments(
        per_device_train_batch_size=1,  # a dataset item is a whole step
        train_sampling_strategy="sequential",
        **training_options(recipe, output, loaded, evaluates=bool(dataset.held_out)),
    )
    # With several GPUs and one process, the trainer would split the micro-batches.
    arguments._n_gpu = min(1, arguments.n_gpu)
    process: dict[str, Any] = {"rank": arguments.process_index, "world": arguments.world_size}
    loss = _loss(recipe, dataset)
    if recipe.infilling:
        steps = batches.InfillingSteps(
            dataset.examples,
            plan,
            model=loaded.model,
            draws=recipe.network.draws,
            rows=recipe.micro_batch_size,
            seed=recipe.seed,
            **process,
        )
        held_out = batches.held_out_draws(loaded.model, dataset.held_out, recipe.seed)
    else:
        pad = dataset.tokenizer.pad_token_id
        held_out = list(batches.held_out_batches(dataset.held_out, pad))
        steps = batches.StepDataset(
            dataset.examples,
            plan,
            pad,
            successors=recipe.loss == "sequencematch",
            attention=batches.check(loaded.model, recipe.attention),
            **process,
        )
    callbacks: list[TrainerCallback] = [RunCallback(recipe, output, on_step, loss.own)]
    if recipe.evaluation.patience and held_out:
        callbacks.append(EarlyStoppingCallback(recipe.evaluation.patience))

    def watch(trained: Any) -> dict[str, float]:
        texts = dataset.held_out_texts[: recipe.evaluation.watch]
        if not texts:
            return {}
        inner = replace(loaded, model=trained)
        match = exact_match(inner, texts, recipe.format, recipe.decoder, recipe.seed)
        return {"eval_exact_match": match["exact_match"]}

    trainer = StepTrainer(
        model=model,
        args=arguments,
        callbacks=callbacks,
        steps=steps,
        loss=loss,
        held_out=held_out,
        watch=watch,
        optimizers=(trainable.own_optimizer(model, recipe), None),
    )
    trainer.remove_callback(PrinterCallback)
    keep_tensorboard_in(trainer, output)
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3 and not plugin.zero3_save_16bit_model:
        raise ConfigError(
            "DeepSpeed stage 3 shards the weights and would not gather them at the end.",
            "Set zero3_save_16bit_model: true in accelerate's configuration.",
        )
    return trainer


def training_options(
    recipe: Recipe, output: Path, loaded: LoadedModel, *, evaluates: bool = False
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
        output_dir=str(output / CHECKPOINTS),
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


def _loss(recipe: Recipe, dataset: Dataset) -> Likelihood:
    if recipe.infilling:
        return InfillingLoss()
    if recipe.sorted.exits:
        return NestedLikelihood(recipe.sorted.exits, trains_all=recipe.loss == "sorted")
    if recipe.loss != "sequencematch":
        return Likelihood(LOGITS_MB)
    settings, samples = recipe.sequencematch, None
    if settings.divergence == "chi2_mixture" and settings.buffer:
        is_chat = recipe.format == "chat"
        end = end_of_turn(dataset.tokenizer)[-1] if is_chat else dataset.tokenizer.eos_token_id
        samples = OwnSamples(
            settings, dataset.examples, frozenset([end]), dataset.backspace, recipe.seed
        )
    return SequenceMatchLoss(settings, recipe.steps, dataset.backspace, samples)


def run_trainer(
    trainer: Trainer, checkpoint: Path | None, say: Say, *, prints: bool
) -> tuple[float, int]:
    """Runs a trainer from a checkpoint, if given, to the end.

    Args:
        prints: True if trackers or TRL print to stdout, which is reserved for the result.

    Returns:
        Training seconds, and the first step.
    """
    if checkpoint:
        say(f"Resuming from {checkpoint.name}.")
        if isinstance(trainer, StepTrainer) and trainer.loss.own:
            trainer.loss.own.load(checkpoint)
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr if prints else sys.stdout):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - started
    return seconds, int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


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
        if isinstance(self.loss, SequenceMatchLoss):
            for batch, weight in self.loss.own_batches(base, step, self.steps):
                parts.append((batch, weight / total))
        # The loss is a sum over processes, but accelerate averages gradients.
        losses = []
        with batches.attending(base, self.steps.attention):
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


class RunCallback(TrainerCallback):
    """Reports steps, aborts on a non-finite loss, and completes checkpoints.

    Args:
        recipe, output: the run's recipe, with ``steps`` set, and directory.
        on_step: called after each step with (step, steps, value).
        own: the model's own samples, saved with each checkpoint.
    """

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        on_step: OnStep | None,
        own: OwnSamples | None = None,
    ) -> None:
        self.on_step, self.own, self.kept_in = on_step, own, output / STATE
        self.value = "reward" if recipe.objective == "grpo" else "loss"
        self.kept_step = 0 if why_not_extended(recipe) else steps_before_decay(recipe)

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
            if self.own:
                self.own.save(folder)
            write_atomic(folder / WHOLE, "")
            if state.global_step == self.kept_step:
                self._keep(folder, state)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keeps the checkpoint if the run was killed before keeping it."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        is_kept = folder.is_dir() and state.global_step == self.kept_step
        if is_kept and state.is_world_process_zero:
            self._keep(folder, state)

    def _keep(self, folder: Path, state: Any) -> None:
        partial = new_folder(self.kept_in)
        best = Path(state.best_model_checkpoint or folder)  # may remain best when extended
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


def keep_tensorboard_in(trainer: Trainer, output: Path) -> None:
    """Sets TensorBoard's directory to one in the run's directory."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(output / "tensorboard")


def exact_match(
    loaded: LoadedModel, texts: Sequence[TrainingText], format: Format, decoder: str, seed: int
) -> dict[str, Any]:
    """Returns the fraction of exact matches with its 95% Wilson interval, and the first mismatches.

    Args:
        loaded: model that completes the prompts greedily.
        texts: held-out texts; their trained parts are the expected completions, compared by words.
    """
    from codegen.core.generation import Decoder, Request, SamplingParams, samples
    from codegen.generation.transformers import TransformersBackend

    longest = max(
        len(loaded.tokenizer(text.trained, add_special_tokens=False).input_ids) for text in texts
    )
    requests = [
        Request(text.prompt, chat=format == "chat", heal=False, index=number)
        for number, text in enumerate(texts)
    ]
    params = SamplingParams(max_new_tokens=longest + _SPARE_TOKENS, seed=seed)
    backend = TransformersBackend(loaded, _PROMPTS_AT_ONCE)
    made = samples(backend, requests, params, Decoder(decoder))
    completions = {sample.index: sample.completion for sample in made}
    wrong = [
        {"prompt": text.prompt, "expected": text.trained, "answer": completions[number]}
        for number, text in enumerate(texts)
        if completions[number].split() != text.trained.split()
    ]
    share = (len(texts) - len(wrong)) / len(texts)
    return {
        "exact_match": share,
        "interval": list(wilson(share, len(texts))),
        "asked": len(texts),
        "wrong": wrong[:5],
    }
