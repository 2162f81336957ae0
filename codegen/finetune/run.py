"""Runs a recipe: transformers' Trainer, peft and accelerate on a plan made before training.

A run can be killed at any moment; the same command, run again, resumes at its last whole checkpoint
and ends with the same weights. A finished run with more ``steps`` or ``epochs`` is extended, and
ends with the weights of one run of that length. A directory made by another recipe is refused.
Under ``accelerate launch`` or ``torchrun`` every process reads the data and runs its share of each
step; rank 0 writes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen import __version__, extras
from codegen.errors import ConfigError, InputError, ResumeError
from codegen.evals import tasks
from codegen.evals.report import LossCurve, loss_picture
from codegen.finetune.attention import processes_per_row
from codegen.finetune.dataset import TOKENS, Dataset, read_dataset
from codegen.finetune.model import load_model, make_trainable
from codegen.finetune.plan import StepPlan, describe, plan_of, statistics, steps_of
from codegen.finetune.recipe import (
    EXTENDABLE,
    NEW,
    Recipe,
    parse_recipe,
    steps_before_decay,
    why_not_extended,
)
from codegen.finetune.rows import source_digests
from codegen.finetune.tokens import Outline, holds_only_caches
from codegen.hub import hub_errors, repository_name
from codegen.models import LoadedModel, ModelCard, fingerprint_of, load, write_card
from codegen.models.readme import training_readme
from codegen.paths import new_folder, refuse_foreign, refuse_links
from codegen.records import write_atomic
from codegen.runs import RunDirectory

if TYPE_CHECKING:
    from transformers import Trainer

    from codegen.finetune.trainer import OnStep

MODEL_DIR = "model"
RESULT_NAME = "train.json"
CHECKPOINTS = "checkpoints"
_CURVES = ("loss.svg", "learning_rate.svg", "reward.svg", "pass.svg")
STATE = "state"  # the checkpoint that a longer run begins with


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The result of a finished run, stored as ``train.json``.

    Attributes:
        model: directory of the adapter or model, for :func:`codegen.models.load`.
        losses: (step, loss) of every optimizer step; the loss is a mean over trained actions, in
            nats for maximum likelihood.
        learning_rates: (step, rate).
        evaluations: (step, negative log-likelihood on held-out texts).
        parts: name -> (step, value): the loss by domain or by length, and the loss's parts.
        counts: examples, tokens, mask coverage, dropped and cut by reason, padding of the plan.
        tokens_per_s: tokens without padding per second of training, over the steps since the last
            resume; 0 if there were none.
        trained_per_s: trained actions per second, likewise.
        kept_step: the step whose weights were kept.
        processes: number of processes.
        processes_a_row: number of processes that shared each row.
        answers: for ``evaluation.answers``: ``exact_match``, its ``interval``, the number of
            prompts ``asked``, the first ``wrong`` completions.
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


def is_first() -> bool:
    """Whether this is rank 0, the only process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def train(
    recipe: Recipe,
    *,
    on_step: OnStep | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Trains by the recipe, resumes an interrupted run, or returns the result of a finished one.

    Args:
        on_step: called after each optimizer step with (step, steps, loss).
        on_message: called with notes for the user, such as dropped texts or the step it resumes at.

    Raises:
        ConfigError, InputError, ResumeError, ModelError: with the remedy, before training starts.
        MachineError: if the disk becomes full.
    """
    output = Path(recipe.output)
    result_path = output / RESULT_NAME
    check_packages(recipe)
    fit = _fit_of(recipe)
    if not is_first():
        return read_result(output) if result_path.is_file() else fit(recipe, output)
    directory = RunDirectory(output, settings_file="recipe.json", option="output")
    with directory.open():
        refuse_links(output / CHECKPOINTS)
        refuse_links(output / STATE)
        # A setting that an older version lacked has its default.
        plain = parse_recipe({"model": "-", "data": "-", "output": "-", "steps": 1})
        defaults = plain.model_dump(mode="json")
        settings = _settings(recipe)
        if result_path.is_file() and _is_longer(recipe, read_result(output).recipe):
            _extend(directory, recipe, settings, defaults)
            on_message(f"Extending the finished run in {output}.")
        begun = result_path.is_file() or last_whole_checkpoint(output) is not None
        if not begun and directory.read(directory.settings_file) is None:
            names = [MODEL_DIR, CHECKPOINTS, STATE, "rollouts.jsonl", *_CURVES]
            if not holds_only_caches(output / TOKENS):  # another rank may have begun one
                names.append(TOKENS)
            refuse_foreign(output, *names)
        directory.claim(settings, begun=begun, defaults=defaults, old_values=_OLD_VALUES)
        if result_path.is_file():
            on_message(f"{output} already holds the finished run.")
            result = read_result(output)
        else:
            try:
                result = fit(recipe, output, on_step, on_message)
            except Exception as error:
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


def _fit_of(recipe: Recipe) -> Callable[..., TrainingResult]:
    """The training function of the recipe's objective, called with the recipe, the output
    directory, ``on_step`` and ``on_message``.
    """
    if recipe.objective == "sft":
        return _train
    if recipe.objective == "dpo":
        from codegen.finetune import dpo

        return dpo.fit
    from codegen.finetune import grpo

    return grpo.fit


def _is_longer(recipe: Recipe, finished: Mapping[str, Any]) -> bool:
    """Whether a recipe trains longer than the finished one, by the same measure."""
    if recipe.epochs:
        return 0 < finished.get("epochs", 0) < recipe.epochs
    return finished["steps"] < recipe.steps


def _extend(
    directory: RunDirectory,
    recipe: Recipe,
    settings: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> None:
    """Turns a finished run into one interrupted before the schedule depends on its length.

    Raises:
        ResumeError: if other settings differ, or the run cannot be extended, with the reason.
    """
    from codegen.finetune.trainer import copy_checkpoint

    output, stored = directory.folder, directory.read("recipe.json") or {}
    length = {key: stored.get(key, defaults[key]) for key in ("steps", "epochs")}
    then = {**settings, **length}
    directory.claim(then, begun=True, defaults=defaults, old_values=_OLD_VALUES)
    kept = list((output / STATE).glob("checkpoint-*"))
    if reason := why_not_extended(recipe) or ("" if kept else "its state was not kept"):
        raise ResumeError(
            f"{output} holds a finished run that cannot be extended: {reason}.",
            f"Begin a new run with model: {output / MODEL_DIR} and another output.",
        )
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    for checkpoint in kept:
        copy_checkpoint(checkpoint, output / CHECKPOINTS / checkpoint.name)
    directory.write("recipe.json", json.dumps(settings, indent=2) + "\n")
    (output / RESULT_NAME).unlink()


_TRACKERS = ("trackio", "wandb", "tensorboard", "mlflow")
_NEEDED = {  # the package that a setting's value needs
    "qlora": "bitsandbytes",
    "adamw_8bit": "bitsandbytes",
    "paged_adamw_8bit": "bitsandbytes",
    "lion_8bit": "bitsandbytes",
    "adamw_torch_8bit": "torchao",
    "adamw_torch_4bit": "torchao",
    "liger": "liger-kernel",
}


def check_packages(recipe: Recipe) -> None:
    """Raises an error for a tracker, method, objective or optimizer whose package is missing."""
    if recipe.objective != "sft":
        extras.require("trl")
    used = {"method": recipe.method, "optimizer": recipe.optimizer}
    if recipe.liger:
        used["liger"] = "liger"
    for key, value in used.items():
        package = _NEEDED.get(value)
        if package and find_spec(package.replace("-", "_")) is None:
            raise ConfigError(
                f"{key}: {value} needs {package}, which is not installed.",
                f"Run: pip install {package}",
            )
    check_trackers(recipe)


def check_trackers(recipe: Recipe) -> None:
    """Raises a ConfigError for a tracker that is unknown or not installed."""
    names = [recipe.report_to] if isinstance(recipe.report_to, str) else recipe.report_to
    for name in names:
        if name in _TRACKERS and find_spec(name) is None:
            raise ConfigError(
                f"report_to names {name}, which is not installed.", f"Run: pip install {name}"
            )
        if name not in (*_TRACKERS, "none"):
            from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

            if name not in INTEGRATION_TO_CALLBACK:
                known = ", ".join(("none", *sorted(INTEGRATION_TO_CALLBACK)))
                raise ConfigError(
                    f"report_to names the unknown tracker {name!r}.", f"Known: {known}"
                )


def push_model(folder: Path, target: str, api: Any = None) -> str:
    """Uploads a model directory to the Hugging Face hub; a new repository is private.

    Args:
        api: the hub's client; by default one with the token of the environment.

    Returns:
        The address of the repository.

    Raises:
        InputError: if the name cannot be used, there is no token that may write, or the hub cannot
            be reached. Run the same command again to push again.
    """
    from huggingface_hub import HfApi

    name = repository_name(target)
    refuse_links(folder)
    api = api or HfApi()
    with hub_errors(api, target):
        # None leaves the visibility of a repository that exists as it is.
        exists = api.repo_exists(name)
        url = api.create_repo(name, private=None if exists else True, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Fine-tuned with codegen-toolkit"
        )
    return str(url)


def read_result(output: str | Path) -> TrainingResult:
    """Reads ``train.json`` of a finished run.

    Raises:
        InputError: if there is none, or it is damaged.
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
        return TrainingResult(**row)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not the result of a fine-tuning run: {error}.") from None


_OLD_VALUES = {"overlong": {"cut": "truncate"}}
_NOT_DECIDING: Any = {
    **dict.fromkeys(("output", "save_every", "token_cache", "report_to", "run_name"), True),
    **dict.fromkeys(("project", "push_to"), True),
    "grpo": {"workers"},
}


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Everything that decides the result, without paths and checkpoint intervals."""
    settings = recipe.model_dump(mode="json", exclude=_NOT_DECIDING)
    paths = [*(path for _, path in recipe.sources), *recipe.evaluation_sources]
    settings["data_digest"] = [digest for path in paths for digest in source_digests(path)]
    if recipe.objective == "grpo":
        problems = repr(tasks.load(recipe.grpo.task).problems())
        settings["data_digest"] = hashlib.sha256(problems.encode()).hexdigest()
    settings["model_fingerprint"] = NEW if recipe.model == NEW else fingerprint_of(recipe.model)
    return settings


def last_whole_checkpoint(output: Path) -> Path | None:
    """The latest checkpoint of a run that is completely written."""
    from codegen.finetune.trainer import WHOLE

    folders = (output / CHECKPOINTS).glob("checkpoint-*")
    whole = {
        int(found[1]): path
        for path in folders
        if (found := re.fullmatch(r"checkpoint-(\d{1,9})", path.name)) and (path / WHOLE).is_file()
    }
    return whole[max(whole)] if whole else None


def _means_full_disk(error: Exception, folder: Path) -> bool:
    """Whether an error of torch or safetensors means a full disk."""
    text = str(error)
    if "No space left" in text or "os error 28" in text:
        return True
    # torch's archive writer only says that it stopped at an unexpected position.
    torn = "PytorchStreamWriter" in text or "inline_container" in text
    return torn and shutil.disk_usage(folder).free < 64 << 20


def _train(
    recipe: Recipe,
    output: Path,
    on_step: OnStep | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    import torch

    from codegen.finetune.held_out import TaskScores, exact_match
    from codegen.finetune.trainer import build_trainer

    dataset = read_dataset(recipe)
    compares = recipe.evaluation.answers or recipe.evaluation.watch
    if compares and recipe.evaluation.data and not dataset.held_out_texts:
        raise ConfigError(
            "evaluation.answers and evaluation.watch compare texts, and evaluation.data has none.",
            "Name texts there, or judge programs with evaluation.task.",
        )
    recipe = recipe.model_copy(update={"steps": steps_of(recipe, len(dataset.examples))})
    plan = plan_of(recipe, dataset.examples)
    counts = dataset.counts | statistics(dataset.examples, plan)
    say(describe(counts))
    reason = why_not_extended(recipe)
    if reason and recipe.schedule in EXTENDABLE:  # perhaps chosen to extend the run
        say(f"This run cannot be extended later: {reason}.")
    loaded = load_model(recipe, dataset)
    torch.manual_seed(recipe.seed)  # for the adapter's initial weights
    model = make_trainable(loaded, recipe, dataset, plan)

    scores = TaskScores(recipe, loaded, output) if recipe.evaluation.task else None

    def watch(trained: Any) -> dict[str, float]:
        texts = dataset.held_out_texts[: recipe.evaluation.watch]
        match = exact_match(replace(loaded, model=trained), texts, recipe) if texts else {}
        return {"eval_exact_match": match["exact_match"]} if match else {}

    checkpoints = output / CHECKPOINTS
    trainer = build_trainer(
        model,
        loaded,
        recipe,
        dataset,
        plan,
        checkpoints=checkpoints,
        on_step=on_step,
        watch=watch,
        scores=scores,
        keep=(steps_before_decay(recipe), output / STATE) if not reason else None,
    )
    checkpoint = last_whole_checkpoint(output)
    if checkpoint:
        say(f"Resuming from {checkpoint.name}.")
        trainer.loss.load(checkpoint)
    start_step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    started = time.perf_counter()
    # Checkpoints hold the embeddings of an extended vocabulary on purpose.
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers`")
    prints = recipe.report_to != "none"  # trackers print
    with contextlib.redirect_stdout(sys.stderr if prints else sys.stdout):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - started
    save_model(trainer, loaded, recipe, dataset.tokenizer, output)
    tokens, trained = _tokens(dataset, plan, start_step, trainer.state.global_step)
    result = result_of(trainer, recipe, counts, seconds, tokens, trained)
    for step, loss in result.losses if plan.widths else ():
        result.parts.setdefault(f"loss_length_{plan.width(step - 1)}", []).append((step, loss))
    if not is_first():
        return result
    if texts := dataset.held_out_texts[: recipe.evaluation.answers]:
        say(f"Generating completions of {len(texts)} held-out prompts.")
        saved = load(result.model, dtype=torch.float32)
        result = replace(result, answers=exact_match(saved, texts, recipe))
    write_pages(result, recipe.model, output)
    return result


def _tokens(dataset: Dataset, plan: StepPlan, first: int, last: int) -> tuple[int, int]:
    """Tokens without padding and trained actions of the steps from ``first`` to ``last``."""
    outline = Outline.of(dataset.examples)
    seen = [plan.numbers(step) for step in range(first, last)]
    tokens = sum(int(outline.lengths[numbers].sum()) for numbers in seen)
    return tokens, sum(int(outline.trained[numbers].sum()) for numbers in seen)


def save_model(
    trainer: Trainer, base: LoadedModel, recipe: Recipe, tokenizer: Any, output: Path
) -> None:
    """Writes the final model to a temporary directory and moves it, so it is whole or absent."""
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
            model = model.float()  # a sum in bfloat16 would lose most of a small update
        model = model.merge_and_unload()
    for config in getattr(model, "peft_config", {}).values() if is_adapter else ():
        if isinstance(config.target_modules, set):  # a set's order differs between processes
            config.target_modules = sorted(config.target_modules)
    options: dict[str, Any] = {}
    if weights is not None:  # gathering duplicates tied tensors
        tied = getattr(model, "all_tied_weights_keys", {}) if recipe.method == "full" else {}
        options["state_dict"] = {name: w for name, w in weights.items() if name not in tied}
    if is_adapter:  # only the new rows of an extended vocabulary belong to the adapter
        options["save_embedding_layers"] = False
    model.save_pretrained(partial, **options)
    tokenizer.save_pretrained(partial)
    below, fingerprint = "", ""
    if is_adapter:
        is_path = base.origin == "path" and Path(recipe.model).expanduser().is_dir()
        below = str(Path(recipe.model).expanduser().resolve()) if is_path else recipe.model
        fingerprint = base.fingerprint
    settings = recipe.model_dump()
    write_card(partial, ModelCard(below, fingerprint, recipe.format, recipe.decoder, settings))
    shutil.rmtree(output / MODEL_DIR, ignore_errors=True)
    partial.rename(output / MODEL_DIR)


def result_of(
    trainer: Trainer,
    recipe: Recipe,
    counts: dict[str, Any],
    seconds: float,
    tokens: int,
    trained: int,
) -> TrainingResult:
    """The result of a run from its trainer's history.

    Args:
        tokens, trained: tokens and trained actions in that time.
    """
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
        if name == "eval_exact_match" or name.startswith("eval_pass@"):
            parts[name.removeprefix("eval_")] = curve(history, name)
    for name in dict.fromkeys(name for row in history for name in sorted(row)):
        if name.startswith("eval_loss_layer_"):
            parts[name] = curve(history, name)
    best = trainer.state.best_global_step if recipe.evaluation.keep == "best" else None
    packages = ["torch", "transformers", "peft", "accelerate"]
    versions = {name: version(name) for name in packages + ["trl"] * (recipe.objective != "sft")}
    return TrainingResult(
        model=str(Path(recipe.output) / MODEL_DIR),
        losses=losses,
        learning_rates=curve(steps, "learning_rate"),
        evaluations=curve(history, "eval_loss"),
        parts=parts,
        counts=counts,
        trainable_parameters=sum(
            weight.numel() for weight in trainer.model.parameters() if weight.requires_grad
        ),
        tokens_per_s=tokens / seconds if tokens else 0.0,
        trained_per_s=trained / seconds if trained else 0.0,
        seconds=seconds,
        dtype="bfloat16 autocast" if trainer.args.bf16 else "float32",
        kept_step=best if trainer.args.load_best_model_at_end and best else last,
        recipe=recipe.model_dump(mode="json"),
        versions={"codegen-toolkit": __version__, **versions},
        processes=trainer.args.world_size,
        processes_a_row=processes_per_row(),
    )


def write_pages(result: TrainingResult, base: str, output: Path) -> None:
    """The curves and the model's README."""
    losses = {"loss": result.losses, "held out": result.evaluations}
    scores = {name: part for name, part in result.parts.items() if name.startswith("pass@")}
    for name, title, lines in (
        ("loss", "Loss", losses),
        ("learning_rate", "Learning rate", {"learning rate": result.learning_rates}),
        ("reward", "Reward", {"reward": result.parts.get("reward")}),
        ("pass", "pass@k", scores),
    ):
        if curves := [LossCurve(label, points) for label, points in lines.items() if points]:
            write_atomic(output / f"{name}.svg", loss_picture(curves, title))
    readme = training_readme(base, result.recipe, result.counts, result.losses,
                             result.evaluations, result.versions, result.parts)  # fmt: skip
    write_atomic(output / MODEL_DIR / "README.md", readme)
