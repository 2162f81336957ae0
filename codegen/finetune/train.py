"""Runs a recipe: transformers' Trainer, peft and accelerate on a plan made before training.

A run can be killed at any moment and started again: it goes on from its last whole checkpoint and
ends with the same weights. A directory made by another recipe is refused. Under ``accelerate
launch`` or ``torchrun`` every process reads the data and runs its share of each step; the first one
writes.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen import __version__
from codegen.data.manifest import digests
from codegen.errors import ConfigError, InputError, ResumeError
from codegen.evals.report import LossCurve, loss_picture
from codegen.finetune.assembly import CHECKPOINTS, WHOLE, make_trainer
from codegen.finetune.nested import keep_first_layers, mark_exits
from codegen.finetune.prepare import Prepared, load_options, prepare, trainable
from codegen.finetune.processes import is_first, processes_a_row
from codegen.finetune.recipe import NEW, Recipe
from codegen.models import (
    LoadedModel,
    ModelCard,
    fills_gaps,
    fingerprint_of,
    load,
    write_card,
)
from codegen.models.readme import training_readme
from codegen.paths import new_folder, open_plain, refuse_links
from codegen.records import write_atomic

if TYPE_CHECKING:
    from codegen.finetune.trainer import StepTrainer

MODEL_DIR = "model"
RESULT_NAME = "train.json"
PICTURE_NAME = "loss.svg"
RATE_PICTURE_NAME = "learning_rate.svg"
_RECIPE_NAME = "recipe.json"


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run gave; stored as ``train.json``.

    Attributes:
        model: directory of the adapter or model, for :func:`codegen.models.load`.
        losses: (step, loss) of every optimizer step; the loss is a mean over trained actions, in
            nats for maximum likelihood.
        learning_rates: (step, rate).
        evaluations: (step, negative log-likelihood on held-out texts).
        parts: name -> (step, value): the loss by domain or by length, and the loss's parts.
        counts: examples, tokens, mask coverage, dropped and cut by reason, padding of the plan.
        tokens_per_s: tokens of the batches, padding left out, a second of training, over the part
            of the run made by the last process; 0 if there was nothing left to do for it.
        trained_per_s: the same of trained actions.
        kept_step: the step whose weights were kept.
        processes: how many trained.
        processes_a_row: how many of them shared each row.
        answers: of ``evaluation.answers``: ``exact_match``, its ``interval``, how many were
            ``asked``, the first ``wrong`` ones.
    """

    model: str
    losses: list[tuple[int, float]]
    learning_rates: list[tuple[int, float]]
    evaluations: list[tuple[int, float]]
    parts: dict[str, list[tuple[int, float]]]
    counts: dict[str, Any]
    trainable_parameters: int
    tokens_per_s: float
    trained_per_s: float
    seconds: float
    dtype: str
    kept_step: int
    recipe: dict[str, Any]
    versions: dict[str, str]
    answers: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    processes_a_row: int = 1


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
    output = Path(recipe.output)
    if not is_first():
        on_step, on_message = None, None
    say = on_message or (lambda _: None)
    if (output / RESULT_NAME).is_file() and not is_first():
        return read_result(output)
    output.mkdir(parents=True, exist_ok=True)
    with _DirectoryLock(output):
        if is_first():
            refuse_links(output / CHECKPOINTS)
        _claim(recipe, output)
        if (output / RESULT_NAME).is_file():
            say(f"{output} holds the finished run already.")
            shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
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
        for key in ("losses", "learning_rates", "evaluations"):
            row[key] = [(step, value) for step, value in row[key]]
        row["parts"] = {
            name: [(step, value) for step, value in points] for name, points in row["parts"].items()
        }
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

    loaded = _start(recipe)
    if recipe.sorted.layers:
        keep_first_layers(loaded.model, recipe.sorted.layers)
    mark_exits(loaded.model, recipe.sorted.exits, recipe.loss)
    prepared = prepare(recipe, loaded)
    say(_describe(prepared.counts))
    # The adapter's initial weights come from the global generator.
    torch.manual_seed(recipe.seed)
    model = trainable(loaded, recipe, prepared)
    trainer = make_trainer(model, loaded, recipe, prepared, output, on_step)
    _check_launch(trainer)
    checkpoint = _last_whole_checkpoint(output)
    if checkpoint:
        say(f"Going on from {checkpoint.name}.")
        if trainer.replay is not None:
            trainer.replay.load(checkpoint)
    start_step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    started = time.perf_counter()
    # Checkpoints hold the embeddings of a grown vocabulary, which is all right.
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers`")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - started
    _save(trainer, loaded, recipe, prepared, output)
    result = _result(trainer, recipe, prepared, output, start_step, seconds)
    if not is_first():
        return result
    if recipe.evaluation.answers:
        result = replace(result, answers=_answers(recipe, prepared, output, say))
    _write_pictures(result, output)
    readme = training_readme(recipe.model, result.recipe, result.counts, result.losses,
                             result.evaluations, result.versions)  # fmt: skip
    write_atomic(output / MODEL_DIR / "README.md", readme)
    row = {**asdict(result), "model": MODEL_DIR}
    write_atomic(output / RESULT_NAME, json.dumps(row, indent=1) + "\n")
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    return result


def _answers(
    recipe: Recipe, prepared: Prepared, output: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """How many answers of the saved model are right."""
    import torch

    from codegen.finetune.answers import exact_match

    texts = prepared.held_out_texts[: recipe.evaluation.answers]
    say(f"Asking the model {len(texts)} held-out questions.")
    return exact_match(load(str(output / MODEL_DIR), dtype=torch.float32), texts, recipe)


def _start(recipe: Recipe) -> LoadedModel:
    """The model to train.

    Raises:
        ConfigError: if its outputs can't be read by the recipe's decoder.
    """
    import torch

    if recipe.model == NEW:
        from codegen.finetune.scratch import new_model

        return new_model(recipe)
    loaded = load(recipe.model, dtype=torch.float32, **load_options(recipe))
    if recipe.fills_gaps != fills_gaps(loaded.model):
        raise ConfigError(
            f"The decoder {recipe.decoder} can't read what {recipe.model} writes.",
            "Set decoder: insertion for a model that fills gaps, and for no other.",
        )
    return loaded


def _result(
    trainer: StepTrainer,
    recipe: Recipe,
    prepared: Prepared,
    output: Path,
    start_step: int,
    seconds: float,
) -> TrainingResult:
    plan, examples = prepared.plan, prepared.examples
    assert trainer.model is not None
    last = trainer.state.global_step
    seen = [examples[i] for step in range(start_step, last) for i in plan.numbers(step)]
    history = [row for row in trainer.state.log_history if "loss" in row]
    losses = [(int(row["step"]), row["loss"]) for row in history]
    parts: dict[str, list[tuple[int, float]]] = {}
    for row in history:
        for name in sorted(row.keys() - {"loss", "grad_norm", "learning_rate", "epoch", "step"}):
            parts.setdefault(name, []).append((int(row["step"]), row[name]))
    for row in trainer.state.log_history:
        if "eval_exact_match" in row:
            point = (int(row["step"]), row["eval_exact_match"])
            parts.setdefault("exact_match", []).append(point)
        for name in sorted(name for name in row if name.startswith("eval_loss_layer_")):
            parts.setdefault(name, []).append((int(row["step"]), row[name]))
    for step, loss in losses if plan.widths else ():
        parts.setdefault(f"loss_length_{plan.width(step - 1)}", []).append((step, loss))
    best = trainer.state.best_global_step if recipe.evaluation.keep == "best" else None
    kept = best if trainer.args.load_best_model_at_end and best else last
    return TrainingResult(
        model=str(output / MODEL_DIR),
        losses=losses,
        learning_rates=[(int(row["step"]), row["learning_rate"]) for row in history],
        evaluations=[
            (int(row["step"]), row["eval_loss"])
            for row in trainer.state.log_history
            if "eval_loss" in row
        ],
        parts=parts,
        counts=prepared.counts,
        trainable_parameters=sum(
            weight.numel() for weight in trainer.model.parameters() if weight.requires_grad
        ),
        tokens_per_s=sum(map(len, seen)) / seconds if seen else 0.0,
        trained_per_s=sum(len(e.targets) for e in seen) / seconds if seen else 0.0,
        seconds=seconds,
        dtype="bfloat16 autocast" if trainer.args.bf16 else "float32",
        kept_step=kept,
        recipe=json.loads(json.dumps(asdict(recipe))),
        versions=_versions(),
        processes=trainer.args.world_size,
        processes_a_row=processes_a_row(),
    )


def _write_pictures(result: TrainingResult, output: Path) -> None:
    curves = [LossCurve("loss", result.losses)]
    if result.evaluations:
        curves.append(LossCurve("held out", result.evaluations))
    write_atomic(output / PICTURE_NAME, loss_picture(curves))
    rates = [LossCurve("learning rate", result.learning_rates)]
    write_atomic(output / RATE_PICTURE_NAME, loss_picture(rates, "Learning rate"))


def _save(
    trainer: StepTrainer, base: LoadedModel, recipe: Recipe, prepared: Prepared, output: Path
) -> None:
    """Writes the final model beside its place and moves it there, so it is whole or absent."""
    accelerator = trainer.accelerator
    weights = accelerator.get_state_dict(trainer.model_wrapped) if _is_sharded(trainer) else None
    if not is_first():
        return
    partial = new_folder(output / MODEL_DIR)
    model: Any = accelerator.unwrap_model(trainer.model)
    model.config.use_cache = True
    is_adapter = recipe.method != "full" and not recipe.merge
    if recipe.method != "full" and recipe.merge:
        model = model.merge_and_unload()
    for config in getattr(model, "peft_config", {}).values() if is_adapter else ():
        if isinstance(config.target_modules, set):  # whose order changes from process to process
            config.target_modules = sorted(config.target_modules)
    options: dict[str, Any] = {}
    if weights is not None:  # gathered: what was one tensor under two names is two
        tied = getattr(model, "all_tied_weights_keys", {}) if recipe.method == "full" else {}
        options["state_dict"] = {name: w for name, w in weights.items() if name not in tied}
    if is_adapter:  # of a grown vocabulary the new rows are part of the adapter, the rest is not
        options["save_embedding_layers"] = False
    model.save_pretrained(partial, **options)
    prepared.tokenizer.save_pretrained(partial)
    below, fingerprint = "", ""
    if is_adapter:
        is_path = base.origin == "path" and Path(recipe.model).expanduser().is_dir()
        below = str(Path(recipe.model).expanduser().resolve()) if is_path else recipe.model
        fingerprint = base.fingerprint
    card = ModelCard(below, fingerprint, recipe.format, recipe.decoder, asdict(recipe))
    write_card(partial, card)
    shutil.rmtree(output / MODEL_DIR, ignore_errors=True)
    partial.rename(output / MODEL_DIR)


def _check_launch(trainer: StepTrainer) -> None:
    """Refuses a launch whose result could not be saved, before it is trained.

    Raises:
        ConfigError: naming the setting of accelerate's configuration.
    """
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3 and not plugin.zero3_save_16bit_model:
        raise ConfigError(
            "DeepSpeed's stage 3 keeps the weights in parts and would not give them back.",
            "Set zero3_save_16bit_model: true in accelerate's configuration.",
        )


def _is_sharded(trainer: StepTrainer) -> bool:
    return trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled


def _last_whole_checkpoint(output: Path) -> Path | None:
    folders = (output / CHECKPOINTS).glob("checkpoint-*")
    whole = {
        int(found[1]): path
        for path in folders
        if (found := re.fullmatch(r"checkpoint-(\d{1,9})", path.name)) and (path / WHOLE).is_file()
    }
    return whole[max(whole)] if whole else None


def _defaults() -> dict[str, Any]:
    """The settings of a recipe as they are where it does not speak of them."""
    found: dict[str, Any] = {}
    for each in fields(Recipe):
        if each.default_factory is not MISSING:
            found[each.name] = asdict(each.default_factory())
        elif each.default is not MISSING:
            found[each.name] = each.default
    return json.loads(json.dumps(found))


def _claim(recipe: Recipe, output: Path) -> None:
    """Writes what decides the result into the directory, or compares it with what is there.

    Until a checkpoint is whole there is nothing to mix, and other settings simply take the place of
    those of the failed attempt.
    """
    if not is_first():
        return
    path = output / _RECIPE_NAME
    now = json.loads(json.dumps(asdict(recipe)))
    del now["output"], now["save_every"]  # where things lie changes nothing about the result
    paths = [*(path for _, path in recipe.sources), *recipe.evaluation_sources]
    now["data_digest"] = [digest for path in paths for digest in digests(path)]
    now["model_fingerprint"] = NEW if recipe.model == NEW else fingerprint_of(recipe.model)
    begun = (output / RESULT_NAME).is_file() or _last_whole_checkpoint(output)
    if begun and path.is_file():
        try:
            # Settings that an older version did not have were as they are now by default.
            stored = json.loads(path.read_text(encoding="utf-8"))
            then = {key: value for key, value in _defaults().items() if key in now} | stored
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


class _DirectoryLock:
    """Holds a directory against a second process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        import fcntl

        if not is_first():  # the first process holds it for all
            self.file = Path(os.devnull).open("w")
            return
        self.file = os.fdopen(open_plain(self.folder / ".lock", os.O_WRONLY | os.O_CREAT), "w")
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
    lost = counts["dropped_tokens"]
    parts = [f"{n} dropped ({why}, {lost[why]} tokens)" for why, n in counts["dropped"].items()]
    if counts["cut"]:
        parts.append(f"{counts['cut']} cut ({counts['cut_tokens']} tokens)")
    parts.append(f"{counts['epochs']:.1f} epochs, {counts['padding']:.0%} padding")
    return "; ".join([text, *parts])


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "transformers", "peft", "accelerate")
    return {"codegen-toolkit": __version__, **{name: version(name) for name in names}}
