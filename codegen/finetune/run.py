"""Runs a recipe with transformers' Trainer, peft and accelerate on a precomputed plan.

A run can be killed at any time; rerunning the same command resumes from its last complete
checkpoint and yields the same weights. A finished run with more ``steps`` or ``epochs`` is
extended, with the same weights as one run of that length. A directory of another recipe is an
error. Under ``accelerate launch`` or ``torchrun`` every process reads the data and runs its part of
each step; rank 0 writes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.core import optional_deps
from codegen.core.errors import CodegenError, ConfigError, ResumeError, require_known
from codegen.core.hub import hub_errors, repository_name
from codegen.core.paths import refuse_foreign, refuse_links
from codegen.core.runs import LOCK, RunDirectory
from codegen.evals import tasks
from codegen.finetune.artifacts import (
    CHECKPOINTS,
    MODEL_DIR,
    RESULT_NAME,
    STATE,
    TrainingResult,
    exact_match,
    is_first,
    last_whole_checkpoint,
    read_result,
    result_of,
    write_pages,
)
from codegen.finetune.batch_plan import StepPlan, describe, plan_of, statistics, steps_of
from codegen.finetune.dataset import (
    TOKENS,
    Dataset,
    Outline,
    holds_only_caches,
    read_dataset,
)
from codegen.finetune.model import load_model, make_trainable
from codegen.finetune.recipe import (
    EXTENDABLE,
    NEW,
    Recipe,
    steps_before_decay,
    why_not_extended,
)
from codegen.finetune.row_formats import source_digests
from codegen.models import fingerprint_of, load

if TYPE_CHECKING:
    from codegen.finetune.trainer import OnStep, Say

_CURVES = ("loss.svg", "learning_rate.svg", "reward.svg")


def train(
    recipe: Recipe,
    *,
    on_step: OnStep | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Trains a recipe, resumes an interrupted run, or returns the result of a finished one.

    Args:
        on_step: called after each optimizer step with (step, steps, loss).
        on_message: called with notes for the user, such as dropped texts or the resumed step.

    Raises:
        ConfigError, InputError, ResumeError, ModelError: with the remedy, before training starts.
        MachineError: if the disk becomes full.
    """
    output = Path(recipe.output)
    result_path = output / RESULT_NAME
    check_packages(recipe)
    fit = _fit_of(recipe)
    if not is_first():
        found = result_path.is_file()
        return read_result(output) if found else fit(recipe, output, None, lambda _: None)
    directory = RunDirectory(output, settings_file="recipe.json", option="output")
    settings = _settings(recipe)
    with directory.open():
        refuse_links(output / CHECKPOINTS)
        refuse_links(output / STATE)
        if result_path.is_file() and _is_longer(recipe, read_result(output).recipe):
            _extend(directory, recipe, settings)
            on_message(f"Extending the finished run in {output}.")
        begun = result_path.is_file() or last_whole_checkpoint(output) is not None
        if not begun and directory.read(directory.settings_file) is None:
            names = [MODEL_DIR, CHECKPOINTS, STATE, "rollouts.jsonl", *_CURVES]
            if not holds_only_caches(output / TOKENS):  # another rank may have started one
                names.append(TOKENS)
            refuse_foreign(output, *names)
        directory.claim(settings, begun=begun)
        if result_path.is_file():
            on_message(f"{output} already contains the finished run.")
            result = read_result(output)
        else:
            try:
                result = fit(recipe, output, on_step, on_message)
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


def _remove_traces(directory: RunDirectory) -> None:
    """Removes the files of a run that failed before its first checkpoint, such as for bad data."""
    folder = directory.folder
    shutil.rmtree(folder / TOKENS, ignore_errors=True)
    for path in (folder / directory.settings_file, folder / LOCK, *folder.glob("rollouts*.jsonl")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the directory has other files
        folder.rmdir()


def _fit_of(recipe: Recipe) -> Callable[..., TrainingResult]:
    """Returns the training function of the recipe's objective; its arguments are the recipe, the
    output directory, ``on_step`` and ``on_message``.
    """
    if recipe.objective == "sft":
        return _train
    from codegen.finetune import trl_runner

    return trl_runner.fit_dpo if recipe.objective == "dpo" else trl_runner.fit_grpo


def _is_longer(recipe: Recipe, finished: Mapping[str, Any]) -> bool:
    """Returns True if a recipe has more steps (or epochs) than the finished one."""
    if recipe.epochs:
        return 0 < finished.get("epochs", 0) < recipe.epochs
    return finished["steps"] < recipe.steps


def _extend(directory: RunDirectory, recipe: Recipe, settings: Mapping[str, Any]) -> None:
    """Rewinds a finished run to the last step that does not depend on the run's length.

    Raises:
        ResumeError: if other settings differ or the run cannot be extended, with the reason.
    """
    from codegen.finetune.trainer import copy_checkpoint

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


_NEEDED = {  # package required by a setting's value
    "qlora": "bitsandbytes",
    "adamw_8bit": "bitsandbytes",
}


def check_packages(recipe: Recipe) -> None:
    """Raises a ConfigError for a tracker, method, objective or optimizer without its package."""
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


_NOT_DECIDING: Any = {
    **dict.fromkeys(("output", "save_every", "token_cache", "report_to", "push_to"), True),
    "grpo": {"workers"},
}


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Returns all settings that determine the result, without paths and checkpoint intervals."""
    settings = recipe.model_dump(mode="json", exclude=_NOT_DECIDING)
    paths = [*(path for _, path in recipe.sources), *recipe.evaluation_sources]
    settings["data_digest"] = [digest for path in paths for digest in source_digests(path)]
    if recipe.objective == "grpo":
        problems = repr(tasks.load(recipe.grpo.task, recipe.grpo.source or None).problems())
        settings["data_digest"] = hashlib.sha256(problems.encode()).hexdigest()
    settings["model_fingerprint"] = NEW if recipe.model == NEW else fingerprint_of(recipe.model)
    return settings


def _means_full_disk(error: Exception, folder: Path) -> bool:
    """Returns True if an error of torch or safetensors means a full disk."""
    text = str(error)
    if "No space left" in text or "os error 28" in text:
        return True
    # torch's archive writer only says that it stopped at an unexpected position.
    torn = "PytorchStreamWriter" in text or "inline_container" in text
    return torn and shutil.disk_usage(folder).free < 64 << 20


def _train(recipe: Recipe, output: Path, on_step: OnStep | None, say: Say) -> TrainingResult:
    import torch

    from codegen.finetune.trainer import build_trainer, train_to_the_end

    dataset = read_dataset(recipe)
    compares = recipe.evaluation.answers or recipe.evaluation.watch
    if compares and recipe.evaluation.data and not dataset.held_out_texts:
        raise ConfigError(
            "evaluation.answers and evaluation.watch need texts, but evaluation.data has none.",
            "Add prompts and completions to evaluation.data.",
        )
    recipe = recipe.model_copy(update={"steps": steps_of(recipe, len(dataset.examples))})
    plan = plan_of(recipe, dataset.examples)
    counts = dataset.counts | statistics(dataset.examples, plan)
    say(describe(counts))
    reason = why_not_extended(recipe)
    if reason and recipe.schedule in EXTENDABLE:  # maybe chosen to extend the run
        say(f"This run cannot be extended later: {reason}.")
    loaded = load_model(recipe, dataset)
    torch.manual_seed(recipe.seed)  # for the adapter's initial weights
    model = make_trainable(loaded, recipe, dataset, plan)

    def watch(trained: Any) -> dict[str, float]:
        texts = dataset.held_out_texts[: recipe.evaluation.watch]
        match = exact_match(replace(loaded, model=trained), texts, recipe) if texts else {}
        return {"eval_exact_match": match["exact_match"]} if match else {}

    trainer = build_trainer(
        model,
        loaded,
        recipe,
        dataset,
        plan,
        checkpoints=output / CHECKPOINTS,
        on_step=on_step,
        watch=watch,
        keep=(steps_before_decay(recipe), output / STATE) if not reason else None,
    )
    # Checkpoints contain the embeddings of an extended vocabulary on purpose.
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers`")
    seconds, first = train_to_the_end(trainer, loaded, recipe, dataset.tokenizer, output, say)
    tokens, trained = _tokens(dataset, plan, first, trainer.state.global_step)
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
    """Returns the non-padding tokens and trained actions of steps ``first`` to ``last``."""
    outline = Outline.of(dataset.examples)
    seen = [plan.numbers(step) for step in range(first, last)]
    tokens = sum(int(outline.lengths[numbers].sum()) for numbers in seen)
    return tokens, sum(int(outline.trained[numbers].sum()) for numbers in seen)
