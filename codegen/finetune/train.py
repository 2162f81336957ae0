"""Runs a recipe: transformers' Trainer, peft and accelerate on a fixed plan of micro-batches.

The trainer is used as it is; two of its extension points are ours. The collator asks the model for
logits only at the columns that some row trains on (``logits_to_keep``), since the vocabulary
projection is a large share of a small model's work; and the loss is the mean over all trained
tokens of the optimizer step, whatever the split into micro-batches.

A run can be killed at any moment and started again: it goes on from its last whole checkpoint and
ends with the same weights. A directory made by another recipe is refused.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen import __version__
from codegen.data.read import data_files, read_texts
from codegen.errors import CodegenError, ConfigError, InputError, ResumeError
from codegen.evals.report import LossCurve, loss_picture
from codegen.finetune.encode import IGNORE, Encoded, encode_all
from codegen.finetune.plan import make_plan
from codegen.finetune.recipe import Recipe
from codegen.models import LoadedModel, ModelCard, fingerprint_of, load, pick_dtype, write_card
from codegen.records import TrainingText, write_atomic

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainerCallback

MODEL_DIR = "model"
RESULT_NAME = "train.json"
PICTURE_NAME = "loss.svg"
_RECIPE_NAME = "recipe.json"
_CHECKPOINTS = "checkpoints"
_WHOLE = "whole"  # marks a checkpoint directory whose files are all written


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run gave; stored as ``train.json``.

    Attributes:
        model: directory of the adapter or model, for :func:`codegen.models.load`.
        losses: (step, loss) of every optimizer step; the loss is in nats a trained token.
        learning_rates: (step, rate).
        counts: examples, tokens, mask coverage, dropped by reason.
        tokens_per_s: tokens of the batches, padding left out, a second of training, over the part
            of the run made by the last process; 0 if there was nothing left to do for it.
    """

    model: str
    losses: list[tuple[int, float]]
    learning_rates: list[tuple[int, float]]
    counts: dict[str, Any]
    trainable_parameters: int
    tokens_per_s: float
    seconds: float
    dtype: str
    recipe: dict[str, Any]
    versions: dict[str, str]


def train(
    recipe: Recipe,
    *,
    on_step: Callable[[int, int, float], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Trains by the recipe, or goes on with an interrupted run, or returns a finished one's result.

    Args:
        on_step: called after each optimizer step with (step, steps, loss).
        on_message: called with notes for the user (what was dropped, where it resumes).

    Raises:
        ConfigError, InputError, ResumeError, ModelError: with the remedy, before training starts.
    """
    say = on_message or (lambda _: None)
    output = Path(recipe.output)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("Fine-tuning runs in one process.", "Start it without torchrun.")
    output.mkdir(parents=True, exist_ok=True)
    with _DirectoryLock(output):
        _claim(recipe, output)
        if (output / RESULT_NAME).is_file():
            say(f"{output} holds the finished run already.")
            shutil.rmtree(output / _CHECKPOINTS, ignore_errors=True)
            return read_result(output)
        try:
            return _train(recipe, output, on_step, say)
        except Exception as error:
            if _means_full_disk(error, output):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output)) from error
            raise


def read_result(output: str | Path) -> TrainingResult:
    """Reads ``train.json`` of a finished run."""
    path = Path(output) / RESULT_NAME
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        row["model"] = str(Path(output) / MODEL_DIR)
        row["losses"] = [(step, loss) for step, loss in row["losses"]]
        row["learning_rates"] = [(step, rate) for step, rate in row["learning_rates"]]
        return TrainingResult(**row)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is not the result of a fine-tuning run: {error}.") from None


def _train(
    recipe: Recipe,
    output: Path,
    on_step: Callable[[int, int, float], None] | None,
    say: Callable[[str], None],
) -> TrainingResult:
    import torch
    from transformers import Trainer, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    texts = list(_read_texts(recipe))
    loaded = load(recipe.model, dtype=torch.float32)
    encoding = encode_all(
        texts,
        loaded.tokenizer,
        format=recipe.format,
        max_length=recipe.max_length,
        overlong=recipe.overlong,
    )
    counts = encoding.counts()
    if not encoding.examples:
        reasons = ", ".join(f"{n} {reason}" for reason, n in encoding.dropped.items()) or "no text"
        raise InputError(
            f"No training text of {', '.join(recipe.sources)} can be trained on ({reasons}).",
            "Raise max_length, or look at the data with: codegen data inspect.",
        )
    say(_describe(counts))
    plan = make_plan(
        encoding.examples,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        micro_batch_size=recipe.micro_batch_size,
        seed=recipe.seed,
    )
    # The adapter's initial weights come from the global generator.
    torch.manual_seed(recipe.seed)
    model = _trainable(loaded.model, recipe)
    dtype = pick_dtype(loaded.model.device.type) if recipe.dtype == "auto" else None
    bf16 = recipe.dtype == "bfloat16" or dtype == torch.bfloat16
    arguments = TrainingArguments(
        output_dir=str(output / _CHECKPOINTS),
        max_steps=recipe.steps,
        per_device_train_batch_size=1,  # an item of our data set is a whole micro-batch
        gradient_accumulation_steps=recipe.batch_size // recipe.micro_batch_size,
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
        save_steps=recipe.save_every,
        save_total_limit=2,
        seed=recipe.seed,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
    )  # fmt: skip
    # With several GPUs in sight the trainer would split our micro-batches among them.
    arguments._n_gpu = min(1, arguments.n_gpu)
    pad = loaded.tokenizer.pad_token_id
    micro_batches: Any = _Plan(encoding.examples, plan)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=micro_batches,
        data_collator=lambda items: collate(items[0], pad),
        compute_loss_func=mean_loss,
        callbacks=[_callback(on_step, recipe.steps)],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = _last_whole_checkpoint(output)
    if checkpoint:
        say(f"Going on from {checkpoint.name}.")
    start_step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - started

    made = plan[start_step * recipe.batch_size // recipe.micro_batch_size :]
    tokens = sum(len(encoding.examples[i].ids) for micro_batch in made for i in micro_batch)
    history = [row for row in trainer.state.log_history if "loss" in row]
    result = TrainingResult(
        model=str(output / MODEL_DIR),
        losses=[(int(row["step"]), row["loss"]) for row in history],
        learning_rates=[(int(row["step"]), row["learning_rate"]) for row in history],
        counts=counts,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        tokens_per_s=tokens / seconds if made else 0.0,
        seconds=seconds,
        dtype="bfloat16 autocast" if bf16 else "float32",
        recipe=asdict(recipe),
        versions=_versions(),
    )
    _save(trainer.accelerator.unwrap_model(trainer.model), loaded, recipe, output)
    write_atomic(output / PICTURE_NAME, loss_picture([LossCurve("loss", result.losses)]))
    row = {**asdict(result), "model": MODEL_DIR}
    write_atomic(output / RESULT_NAME, json.dumps(row, indent=1) + "\n")
    shutil.rmtree(output / _CHECKPOINTS, ignore_errors=True)
    return result


def collate(examples: list[Encoded], pad: int) -> dict[str, torch.Tensor]:
    """One micro-batch, padded on the right.

    Returns:
        input_ids, attention_mask: int64 [B, T].
        logits_to_keep: int64 [C], the columns whose next token some row trains on.
        labels: int64 [B, 1 + C], a column of -100 (the trainer leaves the first column out when it
            counts the trained tokens) and the next tokens at those columns.
    """
    import torch

    width = max(len(example.ids) for example in examples)

    def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([row + [fill] * (width - len(row)) for row in rows])

    ids = padded([example.ids for example in examples], pad)
    labels = padded([example.labels for example in examples], IGNORE)
    mask = padded([[1] * len(example.ids) for example in examples], 0)
    columns = (labels[:, 1:] != IGNORE).any(0).nonzero()[:, 0]
    first = torch.full((len(examples), 1), IGNORE)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "logits_to_keep": columns,
        "labels": torch.cat([first, labels[:, 1:][:, columns]], dim=1),
    }


def mean_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Cross entropy in nats, summed over the micro-batch, over the step's number of trained tokens.

    Args:
        outputs: with ``logits`` [B, C, V] at the columns of :func:`collate`.
        labels: int64 [B, 1 + C].
        num_items_in_batch: trained tokens of the whole optimizer step, over all processes.
    """
    import torch

    targets = labels[:, 1:]
    trained = targets != IGNORE
    logits = outputs.logits[trained].float()
    total = torch.nn.functional.cross_entropy(logits, targets[trained], reduction="sum")
    return total / (trained.sum() if num_items_in_batch is None else num_items_in_batch)


class _Plan:
    """The plan as a map-style data set of micro-batches."""

    def __init__(self, examples: list[Encoded], plan: list[list[int]]) -> None:
        self.examples, self.plan = examples, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> list[Encoded]:
        return [self.examples[i] for i in self.plan[index]]


def _callback(
    on_step: Callable[[int, int, float], None] | None, steps: int
) -> TrainerCallback:  # fmt: skip
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
            if folder.is_dir():
                write_atomic(folder / _WHOLE, "")

    return Callback()


def _trainable(model: PreTrainedModel, recipe: Recipe) -> Any:
    model.config.use_cache = False
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()  # else a frozen base gives the checkpoints no gradient
    if recipe.method == "full":
        return model.train()
    from peft import LoraConfig, TaskType, get_peft_model

    targets = recipe.lora.targets
    config = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type=TaskType.CAUSAL_LM,
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"lora.targets fits no layer of {recipe.model}: {reason}") from None


def _save(model: Any, base: LoadedModel, recipe: Recipe, output: Path) -> None:
    """Writes the final model beside its place and moves it there, so it is whole or absent."""
    partial = output / f".{MODEL_DIR}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.config.use_cache = True
    for config in getattr(model, "peft_config", {}).values():
        if isinstance(config.target_modules, set):  # whose order changes from process to process
            config.target_modules = sorted(config.target_modules)
    model.save_pretrained(partial)
    base.tokenizer.save_pretrained(partial)
    below, fingerprint = "", ""
    if recipe.method == "lora":
        is_path = base.origin == "path" and Path(recipe.model).expanduser().is_dir()
        below = str(Path(recipe.model).expanduser().resolve()) if is_path else recipe.model
        fingerprint = base.fingerprint
    card = ModelCard(below, fingerprint, recipe.format, recipe.decoder, asdict(recipe))
    write_card(partial, card)
    shutil.rmtree(output / MODEL_DIR, ignore_errors=True)
    partial.rename(output / MODEL_DIR)


def _read_texts(recipe: Recipe) -> Iterator[TrainingText]:
    return chain.from_iterable(read_texts(source) for source in recipe.sources)


def _last_whole_checkpoint(output: Path) -> Path | None:
    folders = (output / _CHECKPOINTS).glob("checkpoint-*")
    whole = [path for path in folders if (path / _WHOLE).is_file()]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _claim(recipe: Recipe, output: Path) -> None:
    """Writes what decides the result into the directory, or compares it with what is there.

    Until a checkpoint is whole there is nothing to mix, and other settings simply take the place of
    those of the failed attempt.
    """
    path = output / _RECIPE_NAME
    now = json.loads(json.dumps(asdict(recipe)))
    del now["output"], now["save_every"]  # where things lie changes nothing about the result
    now["data_digest"] = [_digest(file) for source in recipe.sources for file in data_files(source)]
    now["model_fingerprint"] = fingerprint_of(recipe.model)
    begun = (output / RESULT_NAME).is_file() or _last_whole_checkpoint(output)
    if begun and path.is_file():
        try:
            then = json.loads(path.read_text(encoding="utf-8"))
            changed = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
        except (ValueError, TypeError, AttributeError):
            raise ResumeError(
                f"{path} is damaged.", "Choose another output, or delete that directory."
            ) from None
        if changed:
            key = changed[0]
            raise ResumeError(
                f"{output} was trained with {key} = {then.get(key)!r}, now it is {now.get(key)!r}.",
                "Choose another output, or delete that directory.",
            )
        return
    write_atomic(path, json.dumps(now, indent=1) + "\n")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()[:16]


class _DirectoryLock:
    """Holds a directory against a second process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        import fcntl

        self.file = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.close()
            raise InputError(
                f"{self.folder} is in use by another run.", "Wait for it, or choose another output."
            ) from None

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _means_full_disk(error: Exception, folder: Path) -> bool:
    """torch and safetensors report a full disk as errors of their own kinds."""
    text = str(error)
    if "No space left" in text or "os error 28" in text:
        return True
    # torch's archive writer says only that it came out at another position than it should.
    torn = "PytorchStreamWriter" in text or "inline_container" in text
    return torn and shutil.disk_usage(folder).free < 64 << 20


def _describe(counts: dict[str, Any]) -> str:
    text = (
        f"{counts['examples']} examples, {counts['tokens']} tokens, "
        f"{counts['mask_coverage']:.0%} of them trained"
    )
    dropped = [f"{n} dropped ({reason})" for reason, n in counts["dropped"].items()]
    if counts["cut"]:
        dropped.append(f"{counts['cut']} cut")
    return "; ".join([text, *dropped])


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "transformers", "peft", "accelerate")
    return {"codegen-toolkit": __version__, **{name: version(name) for name in names}}
