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
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen import extras
from codegen.errors import ConfigError, ResumeError
from codegen.evals import tasks
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
from codegen.finetune.result import (
    CHECKPOINTS,
    MODEL_DIR,
    RESULT_NAME,
    STATE,
    TrainingResult,
    is_first,
    last_whole_checkpoint,
    read_result,
    result_of,
    save_model,
    write_pages,
)
from codegen.finetune.rows import source_digests
from codegen.finetune.tokens import Outline, holds_only_caches
from codegen.hub import hub_errors, repository_name
from codegen.models import fingerprint_of, load
from codegen.paths import refuse_foreign, refuse_links
from codegen.runs import RunDirectory

if TYPE_CHECKING:
    from codegen.finetune.trainer import OnStep

_CURVES = ("loss.svg", "learning_rate.svg", "reward.svg", "pass.svg")


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
        directory.claim(settings, begun=begun, defaults=defaults)
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
    directory.claim(then, begun=True, defaults=defaults)
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
        problems = repr(tasks.load(recipe.grpo.task, recipe.grpo.source or None).problems())
        settings["data_digest"] = hashlib.sha256(problems.encode()).hexdigest()
    settings["model_fingerprint"] = NEW if recipe.model == NEW else fingerprint_of(recipe.model)
    return settings


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
    from codegen.finetune.trainer import build_trainer, tracking

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
    output_of_trackers = sys.stderr if prints else sys.stdout
    with contextlib.redirect_stdout(output_of_trackers), tracking(recipe):
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
