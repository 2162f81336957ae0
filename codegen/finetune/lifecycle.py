"""Lifecycle of a run: starting, resuming, extending, finishing and pushing.

A run can be killed at any time; rerunning the same command resumes from its last complete
checkpoint and yields the same weights. A finished run with more ``steps`` or ``epochs`` is
extended, with the same weights as one run of that length. Another recipe's directory raises an
error. Under ``accelerate launch`` or ``torchrun`` every process reads the data and runs its part of
each step; rank 0 writes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from codegen import __version__
from codegen.core import optional_deps
from codegen.core.errors import (
    CodegenError,
    ConfigError,
    InputError,
    ResumeError,
    plural,
    require_known,
)
from codegen.core.hub import hub_errors, repository_name
from codegen.core.paths import new_folder, refuse_foreign, refuse_links, write_atomic
from codegen.core.runs import LOCK, RunDirectory
from codegen.evals import tasks
from codegen.evals.report import LossCurve, loss_picture
from codegen.finetune.dataset import source_digests
from codegen.finetune.recipe import NEW, Recipe, why_not_extended
from codegen.finetune.sft import (
    CHECKPOINTS,
    STATE,
    TOKENS,
    WHOLE,
    OnStep,
    Say,
    TrainedModel,
    copy_checkpoint,
    exact_match,
    train_sft,
)
from codegen.models import ModelCard, fingerprint_of, load, write_card

MODEL_DIR = "model"
RESULT_NAME = "train.json"
_CURVES = ("loss.svg", "learning_rate.svg", "reward.svg")
_CACHE = re.compile(r"\.?[0-9a-f]{32}\b")  # key at the start of a token cache's name


_NEEDED = {  # package required by a setting's value
    "qlora": "bitsandbytes",
    "adamw_8bit": "bitsandbytes",
}


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The result of a finished run, stored as ``train.json``.

    Attributes:
        model: directory of the adapter or model, for :func:`codegen.models.load`.
        losses: (step, loss) of every optimizer step; the mean over trained actions, in nats for
            maximum likelihood.
        learning_rates: (step, learning rate).
        evaluations: (step, negative log-likelihood on held-out texts).
        parts: name -> (step, value): the loss by domain or length, and its components.
        counts: examples, tokens, mask coverage, dropped and cut texts by reason, padding.
        tokens_per_s: non-padding tokens per second of training, over the steps since the last
            resume; 0 without steps.
        trained_per_s: trained actions per second, over the same steps.
        kept_step: step of the saved weights.
        processes: number of training processes.
        answers: for ``evaluation.answers``: ``exact_match``, its ``interval``, the number of
            prompts ``asked``, and the first ``wrong`` completions.
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


def train(
    recipe: Recipe,
    *,
    on_step: OnStep | None = None,
    on_message: Say = lambda _: None,
) -> TrainingResult:
    """Trains a recipe, resumes an interrupted run, or returns the result of a finished one.

    Args:
        on_step: called after each optimizer step with (step, steps, loss).
        on_message: called with notes for the user, such as dropped texts or the resumed step.

    Raises:
        ConfigError, InputError, ResumeError, ModelError: before training starts, with a remedy.
        MachineError: if the disk becomes full.
    """
    output = Path(recipe.output)
    result_path = output / RESULT_NAME
    check_packages(recipe)
    fit = train_sft
    if recipe.objective != "sft":
        from codegen.finetune import trl_runner

        fit = trl_runner.train_dpo if recipe.objective == "dpo" else trl_runner.train_grpo
    if not is_first():
        if result_path.is_file():
            return read_result(output)
        trained = fit(recipe, output, last_whole_checkpoint(output), None, lambda _: None)
        save_model(trained, output)
        return result_of(trained, output)
    settings = recipe.deciding()
    settings["data_digest"] = source_digests(recipe.paths)
    if recipe.objective == "grpo":
        problems = repr(tasks.load(recipe.grpo.task, recipe.grpo.source or None).problems())
        settings["data_digest"] = hashlib.sha256(problems.encode()).hexdigest()
    settings["model_fingerprint"] = NEW if recipe.model == NEW else fingerprint_of(recipe.model)
    directory = RunDirectory(output, settings_file="recipe.json", option="output")
    with directory.open():
        stored = directory.read(directory.settings_file)
        begun = result_path.is_file() or last_whole_checkpoint(output) is not None
        is_used = not _holds_only_caches(output / TOKENS)  # another rank may have started a cache
        refuse_links(output / CHECKPOINTS)
        refuse_links(output / STATE)
        if not begun and stored is None:
            names = [MODEL_DIR, CHECKPOINTS, STATE, "rollouts.jsonl", *_CURVES]
            refuse_foreign(output, *names, *[TOKENS] * is_used)
        if result_path.is_file() and _is_longer(recipe, read_result(output).recipe):
            _extend(directory, recipe, settings)
            on_message(f"Extending the finished run in {output}.")
        directory.claim(settings, begun=begun)
        if result_path.is_file():
            on_message(f"{output} already contains the finished run.")
            result = read_result(output)
        else:
            try:
                checkpoint = last_whole_checkpoint(output)
                trained = fit(recipe, output, checkpoint, on_step, on_message)
                result = _finish(trained, output, on_message)
            except Exception as error:
                if isinstance(error, CodegenError) and not (output / CHECKPOINTS).exists():
                    _remove_traces(directory)
                if _means_full_disk(error, output):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output)) from error
                raise
            row = {**asdict(result), "model": MODEL_DIR}
            directory.write(RESULT_NAME, json.dumps(row, indent=1) + "\n")
        for name in (CHECKPOINTS, TOKENS):
            shutil.rmtree(output / name, ignore_errors=True)
        if recipe.push_to:
            on_message(f"The model is on the hub: {push_model(output / MODEL_DIR, recipe.push_to)}")
        return result


def _finish(trained: TrainedModel, output: Path, say: Say) -> TrainingResult:
    """Writes the model, its README and curves, and completes the held-out prompts."""
    save_model(trained, output)
    result, recipe = result_of(trained, output), trained.recipe
    if texts := trained.held_out:
        say(f"Generating completions of {len(texts)} held-out prompts.")
        saved = load(result.model, dtype=torch.float32)
        answers = exact_match(saved, texts, recipe.format, recipe.decoder, recipe.seed)
        result = replace(result, answers=answers)
    write_pages(result, recipe.model, output)
    return result


def check_packages(recipe: Recipe) -> None:
    """Raises a ConfigError if a tracker, method, objective or optimizer lacks its package."""
    if recipe.objective != "sft":
        optional_deps.require("trl")
    for key, value in {"method": recipe.method, "optimizer": recipe.optimizer}.items():
        package = _NEEDED.get(value)
        if package and find_spec(package) is None:
            raise ConfigError(
                f"{key}: {value} needs {package}, which is not installed.",
                f"Run: pip install {package}",
            )
    check_trackers(recipe)


def check_trackers(recipe: Recipe) -> None:
    """Raises a ConfigError for a tracker that is unknown or not installed."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in [recipe.report_to] if isinstance(recipe.report_to, str) else recipe.report_to:
        require_known("tracker", name, ("none", *sorted(INTEGRATION_TO_CALLBACK)))
        if name in ("trackio", "wandb", "tensorboard", "mlflow") and find_spec(name) is None:
            raise ConfigError(f"report_to: {name} is not installed.", f"Run: pip install {name}")


def is_first() -> bool:
    """Returns True on rank 0, the only process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def _holds_only_caches(folder: Path) -> bool:
    """Returns True if a directory is missing or contains only token caches."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return all(_CACHE.match(name) for name in names)


def read_result(output: str | Path) -> TrainingResult:
    """Reads ``train.json`` of a finished run.

    Raises:
        InputError: if the file is missing or corrupt.
    """
    path = Path(output) / RESULT_NAME

    def curve(points: Any) -> list[tuple[int, float]]:
        return [(step, value) for step, value in points]

    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        row["model"] = str(Path(output) / MODEL_DIR)
        for key in ("losses", "learning_rates", "evaluations"):
            row[key] = curve(row[key])
        row["parts"] = {name: curve(points) for name, points in row["parts"].items()}
        known = {item.name for item in fields(TrainingResult)}  # other versions have other fields
        return TrainingResult(**{key: value for key, value in row.items() if key in known})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not the result of a fine-tuning run: {error}.") from None


def last_whole_checkpoint(output: Path) -> Path | None:
    """Returns the latest completely written checkpoint of a run; None if absent."""
    folders = (output / CHECKPOINTS).glob("checkpoint-*")
    whole = {
        int(match[1]): path
        for path in folders
        if (match := re.fullmatch(r"checkpoint-(\d{1,9})", path.name)) and (path / WHOLE).is_file()
    }
    return whole[max(whole)] if whole else None


def _remove_traces(directory: RunDirectory) -> None:
    """Removes the files of a run that failed before its first checkpoint, such as for bad data."""
    folder = directory.folder
    shutil.rmtree(folder / TOKENS, ignore_errors=True)
    for path in (folder / directory.settings_file, folder / LOCK, *folder.glob("rollouts*.jsonl")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the directory has other files
        folder.rmdir()


def _is_longer(recipe: Recipe, finished: Mapping[str, Any]) -> bool:
    """Returns True if a recipe has more steps (or epochs) than the finished run."""
    if recipe.epochs:
        return 0 < finished.get("epochs", 0) < recipe.epochs
    return finished["steps"] < recipe.steps


def _extend(directory: RunDirectory, recipe: Recipe, settings: Mapping[str, Any]) -> None:
    """Rewinds a finished run to the last step that does not depend on the run's length.

    Raises:
        ResumeError: if other settings differ or the run cannot be extended, with the reason.
    """
    output, stored = directory.folder, directory.read("recipe.json") or {}
    then = {**settings, **{key: stored.get(key) for key in ("steps", "epochs")}}
    directory.claim(then, begun=True)
    kept = list((output / STATE).glob("checkpoint-*"))
    if reason := why_not_extended(recipe) or ("" if kept else "its state was not kept"):
        raise ResumeError(
            f"{output} contains a finished run that cannot be extended: {reason}.",
            f"Start a new run with model: {output / MODEL_DIR} and another output.",
        )
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    for checkpoint in kept:
        copy_checkpoint(checkpoint, output / CHECKPOINTS / checkpoint.name)
    directory.write("recipe.json", json.dumps(settings, indent=2) + "\n")
    (output / RESULT_NAME).unlink()


def _means_full_disk(error: Exception, folder: Path) -> bool:
    """Returns True if an error of torch or safetensors means a full disk."""
    text = str(error)
    if "No space left" in text or "os error 28" in text:
        return True
    # torch's archive writer only reports an unexpected position.
    torn = "PytorchStreamWriter" in text or "inline_container" in text
    return torn and shutil.disk_usage(folder).free < 64 << 20


def save_model(trained: TrainedModel, output: Path) -> None:
    """Writes the final model to a temporary directory, which is then renamed."""
    trainer, recipe, base = trained.trainer, trained.recipe, trained.base
    accelerator = trainer.accelerator
    is_sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    weights = accelerator.get_state_dict(trainer.model_wrapped) if is_sharded else None
    if not is_first():
        return
    partial = new_folder(output / MODEL_DIR)
    model: Any = accelerator.unwrap_model(trainer.model)
    model.config.use_cache = True
    is_adapter = recipe.method != "full" and not recipe.merge
    if recipe.method != "full" and recipe.merge:
        if recipe.method == "lora":
            model = model.float()  # merging in bfloat16 would lose most of a small update
        model = model.merge_and_unload()
    for config in getattr(model, "peft_config", {}).values() if is_adapter else ():
        if isinstance(config.target_modules, set):  # set order differs between processes
            config.target_modules = sorted(config.target_modules)
    options: dict[str, Any] = {}
    if weights is not None:  # gathering duplicates tied weights
        tied = getattr(model, "all_tied_weights_keys", {}) if recipe.method == "full" else {}
        options["state_dict"] = {name: w for name, w in weights.items() if name not in tied}
    if is_adapter:  # for an extended vocabulary the adapter needs only the new rows
        options["save_embedding_layers"] = False
    model.save_pretrained(partial, **options)
    base.tokenizer.save_pretrained(partial)
    below, fingerprint = "", ""
    if is_adapter:
        is_path = base.origin == "path" and Path(recipe.model).expanduser().is_dir()
        below = str(Path(recipe.model).expanduser().resolve()) if is_path else recipe.model
        fingerprint = base.fingerprint
    settings = recipe.model_dump()
    write_card(partial, ModelCard(below, fingerprint, recipe.format, recipe.decoder, settings))
    shutil.rmtree(output / MODEL_DIR, ignore_errors=True)
    partial.rename(output / MODEL_DIR)


def result_of(trained: TrainedModel, output: Path) -> TrainingResult:
    """Builds the result of a run from its trainer's history."""
    trainer, recipe, seconds = trained.trainer, trained.recipe, trained.seconds
    assert trainer.model is not None
    last, history = trainer.state.global_step, trainer.state.log_history
    steps = [row for row in history if "loss" in row]

    def curve(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
        return [(int(row["step"]), row[name]) for row in rows if row.get(name) is not None]

    losses, parts = curve(steps, "loss"), {}
    reported = {"loss", "grad_norm", "learning_rate", "epoch", "step"}
    for name in dict.fromkeys(name for row in steps for name in sorted(row.keys() - reported)):
        parts[name] = curve(steps, name)
    for name in dict.fromkeys(name for row in history for name in row):
        if name == "eval_exact_match":
            parts["exact_match"] = curve(history, name)
    for name in dict.fromkeys(name for row in history for name in sorted(row)):
        if name.startswith("eval_loss_layer_"):
            parts[name] = curve(history, name)
    for step, loss in losses if trained.widths else ():
        name = f"loss_length_{trained.widths[step - 1]}"
        parts.setdefault(name, []).append((step, loss))
    best = trainer.state.best_global_step if recipe.evaluation.keep == "best" else None
    packages = ["torch", "transformers", "peft", "accelerate"]
    versions = {name: version(name) for name in packages + ["trl"] * (recipe.objective != "sft")}
    return TrainingResult(
        model=str(output / MODEL_DIR),
        losses=losses,
        learning_rates=curve(steps, "learning_rate"),
        evaluations=curve(history, "eval_loss"),
        parts=parts,
        counts=trained.counts,
        trainable_parameters=sum(
            weight.numel() for weight in trainer.model.parameters() if weight.requires_grad
        ),
        tokens_per_s=trained.tokens / seconds if trained.tokens else 0.0,
        trained_per_s=trained.actions / seconds if trained.actions else 0.0,
        seconds=seconds,
        dtype="bfloat16 autocast" if trainer.args.bf16 else "float32",
        kept_step=best if trainer.args.load_best_model_at_end and best else last,
        recipe=recipe.model_dump(mode="json"),
        versions={"codegen-toolkit": __version__, **versions},
        processes=trainer.args.world_size,
    )


def write_pages(result: TrainingResult, base: str, output: Path) -> None:
    """Writes the model's README and the curves."""
    readme = training_readme(base, result.recipe, result.counts, result.losses,
                             result.evaluations, result.versions, result.parts)  # fmt: skip
    write_atomic(output / MODEL_DIR / "README.md", readme)
    losses = {"loss": result.losses, "held out": result.evaluations}
    for name, title, lines in (
        ("loss", "Loss", losses),
        ("learning_rate", "Learning rate", {"learning rate": result.learning_rates}),
        ("reward", "Reward", {"reward": result.parts.get("reward")}),
    ):
        if curves := [LossCurve(label, points) for label, points in lines.items() if points]:
            write_atomic(output / f"{name}.svg", loss_picture(curves, title))


def training_readme(
    base: str,
    recipe: Mapping[str, Any],
    counts: Mapping[str, Any],
    losses: Sequence[tuple[int, float]],
    evaluations: Sequence[tuple[int, float]],
    versions: Mapping[str, str],
    parts: Mapping[str, Sequence[tuple[int, float]]],
) -> str:
    """Returns a Hugging Face model card that contains only measured values.

    Args:
        base: name of the base model.
        recipe: all settings.
        counts: data counts, see :class:`TrainingResult`.
        evaluations: (step, loss on held-out texts).
        parts: other curves; ``reward`` and ``solved`` are reported.
    """
    is_adapter = recipe["method"] != "full" and not recipe["merge"]
    head: dict[str, str] = {
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": json.dumps(["code", "codegen-toolkit"]),
    }
    data = recipe["data"]
    paths = [data] if isinstance(data, str) else data.values() if isinstance(data, dict) else data
    if datasets := [path.split(":")[1] for path in paths if path.startswith("hub:")]:
        head["datasets"] = json.dumps(datasets)
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        head["base_model"] = base
    lines = ["---", *(f"{key}: {value}" for key, value in head.items()), "---", ""]
    lines += [
        f"# {base.rstrip('/').rpartition('/')[2]}, fine-tuned",
        "",
        _what_it_saw(recipe, counts),
        "",
        f"- Decode outputs with the decoder `{recipe['decoder']}`.",
        f"- Training loss: {losses[0][1]:.4f} at the first step, {losses[-1][1]:.4f} at the last."
        if losses
        else "- No training steps.",
    ]
    if evaluations:
        best = min(loss for _, loss in evaluations)
        lines.append(f"- Held-out loss: {evaluations[-1][1]:.4f} last, {best:.4f} best.")
    for name, points in parts.items():
        if name in ("reward", "solved"):
            lines.append(
                f"- Mean {name} of the samples: {points[0][1]:.3f} at the first step, "
                f"{points[-1][1]:.3f} at the last."
            )
    for reason, count in counts["dropped"].items():
        lines.append(f"- Dropped: {plural(count, 'text')} ({reason}).")
    shown = {key: value for key, value in recipe.items() if key not in ("data", "output", "model")}
    lines += ["", "## Settings", "", "```json", json.dumps(shown, indent=1), "```", ""]
    lines += ["Made with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".", ""]
    return "\n".join(lines)


def _what_it_saw(recipe: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    objective = recipe.get("objective", "sft")
    by = f"loss {recipe['loss']}" if objective == "sft" else f"objective {objective}"
    line = (
        f"{recipe['steps']} optimizer steps ({recipe['method']}, {by}, prompts in the"
        f" {recipe['format']} format) on {counts['examples']}"
    )
    if objective == "grpo":
        grpo = recipe["grpo"]
        return (
            f"{line} problems of the task {grpo['task']}, {grpo['group']} samples each; rewards:"
            f" {', '.join(f'{name} {weight:g}' for name, weight in grpo['rewards'].items())}."
        )
    kind = "pairs" if objective == "dpo" else "examples"
    return f"{line} {kind} with {counts['trained_tokens']} trained of {counts['tokens']} tokens."


def push_model(folder: Path, target: str, api: Any = None) -> str:
    """Uploads a model directory to the Hugging Face hub; a new repository is private.

    Args:
        api: hub client; by default one with the environment's token.

    Returns:
        The URL of the repository.

    Raises:
        InputError: if the name is invalid, no token with write access exists, or the hub cannot be
            reached. Rerun the same command to retry.
    """
    from huggingface_hub import HfApi

    name = repository_name(target)
    refuse_links(folder)
    api = api or HfApi()
    with hub_errors(api, target):
        # None keeps the visibility of an existing repository.
        exists = api.repo_exists(name)
        url = api.create_repo(name, private=None if exists else True, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Fine-tuned with codegen-toolkit"
        )
    return str(url)
