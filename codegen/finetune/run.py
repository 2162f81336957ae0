"""Runs a recipe: transformers' Trainer, peft and accelerate on a plan made before training.

A run can be killed at any moment; the same command, run again, resumes at its last whole checkpoint
and ends with the same weights. A directory made by another recipe is refused. Under ``accelerate
launch`` or ``torchrun`` every process reads the data and runs its share of each step; rank 0
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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen import __version__
from codegen.data.manifest import digests
from codegen.errors import InputError
from codegen.evals.report import LossCurve, loss_picture
from codegen.evals.statistics import wilson
from codegen.finetune.attention import processes_per_row
from codegen.finetune.dataset import Dataset, read_dataset
from codegen.finetune.model import load_model, make_trainable
from codegen.finetune.plan import StepPlan, describe, plan_of, statistics
from codegen.finetune.recipe import NEW, Recipe, parse_recipe
from codegen.generation.protocol import Decoder, Request, SamplingParams, samples
from codegen.models import LoadedModel, ModelCard, fingerprint_of, load, write_card
from codegen.models.readme import training_readme
from codegen.paths import new_folder, refuse_links
from codegen.records import TrainingText, write_atomic
from codegen.runs import RunDirectory

if TYPE_CHECKING:
    from codegen.finetune.trainer import OnStep, StepTrainer

MODEL_DIR = "model"
RESULT_NAME = "train.json"
CHECKPOINTS = "checkpoints"
_SPARE_TOKENS = 8  # beyond the longest expected completion, so that too long ones show
_PROMPTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The result of a finished run; stored as ``train.json``.

    Attributes:
        model: directory of the adapter or model, for :func:`codegen.models.load`.
        losses: (step, loss) of every optimizer step; the loss is a mean over trained actions, in
            nats for maximum likelihood.
        learning_rates: (step, rate).
        evaluations: (step, negative log-likelihood on held-out texts).
        parts: name -> (step, value): the loss by domain or by length, and the loss's parts.
        counts: examples, tokens, mask coverage, dropped and cut by reason, padding of the plan.
        tokens_per_s: tokens of the batches without padding per second of training, over the steps
            that the last process ran; 0 if none were left.
        trained_per_s: the same of trained actions.
        kept_step: the step whose weights were kept.
        processes: how many processes trained.
        processes_a_row: how many of them shared each row.
        answers: of ``evaluation.answers``: ``exact_match``, its ``interval``, how many prompts were
            ``asked``, the first ``wrong`` completions.
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
    """Trains by the recipe, resumes an interrupted run, or returns a finished one's result.

    Args:
        recipe: the settings.
        on_step: called after each optimizer step with (step, steps, loss).
        on_message: called with notes for the user (what was dropped, where it resumes).

    Raises:
        ConfigError, InputError, ResumeError, ModelError: with the remedy, before training starts.
        MachineError: if the disk becomes full.
    """
    output = Path(recipe.output)
    result_path = output / RESULT_NAME
    if not is_first():
        return read_result(output) if result_path.is_file() else _train(recipe, output)
    directory = RunDirectory(output, settings_file="recipe.json", option="output")
    with directory.open():
        refuse_links(output / CHECKPOINTS)
        begun = result_path.is_file() or _last_whole_checkpoint(output) is not None
        # A setting that an older version lacked had today's default.
        plain = parse_recipe({"model": "-", "data": "-", "output": "-", "steps": 1})
        defaults = plain.model_dump(mode="json")
        directory.claim(_settings(recipe), begun=begun, defaults=defaults)
        if result_path.is_file():
            on_message(f"{output} already holds the finished run.")
            result = read_result(output)
        else:
            try:
                result = _train(recipe, output, on_step, on_message)
            except Exception as error:
                if _means_full_disk(error, output):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output)) from error
                raise
            row = {**asdict(result), "model": MODEL_DIR}
            directory.write(RESULT_NAME, json.dumps(row, indent=1) + "\n")
        shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
        return result


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


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Everything that decides the result; paths and checkpoint intervals do not."""
    settings = recipe.model_dump(mode="json", exclude={"output", "save_every"})
    paths = [*(path for _, path in recipe.sources), *recipe.evaluation_sources]
    settings["data_digest"] = [digest for path in paths for digest in digests(path)]
    settings["model_fingerprint"] = NEW if recipe.model == NEW else fingerprint_of(recipe.model)
    return settings


def _last_whole_checkpoint(output: Path) -> Path | None:
    from codegen.finetune.trainer import WHOLE

    folders = (output / CHECKPOINTS).glob("checkpoint-*")
    whole = {
        int(found[1]): path
        for path in folders
        if (found := re.fullmatch(r"checkpoint-(\d{1,9})", path.name)) and (path / WHOLE).is_file()
    }
    return whole[max(whole)] if whole else None


def _means_full_disk(error: Exception, folder: Path) -> bool:
    """torch and safetensors report a full disk as errors of their own kinds."""
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

    from codegen.finetune.trainer import build_trainer

    dataset = read_dataset(recipe)
    plan = plan_of(recipe, dataset.examples)
    counts = dataset.counts | statistics(dataset.examples, plan)
    say(describe(counts))
    loaded = load_model(recipe, dataset)
    torch.manual_seed(recipe.seed)  # of the adapter's initial weights
    model = make_trainable(loaded, recipe, dataset, plan)

    def watch(trained: Any) -> dict[str, float]:
        texts = dataset.held_out_texts[: recipe.evaluation.watch]
        match = exact_match(replace(loaded, model=trained), texts, recipe) if texts else {}
        return {"eval_exact_match": match["exact_match"]} if match else {}

    checkpoints = output / CHECKPOINTS
    trainer = build_trainer(
        model, loaded, recipe, dataset, plan, checkpoints=checkpoints, on_step=on_step, watch=watch
    )
    checkpoint = _last_whole_checkpoint(output)
    if checkpoint:
        say(f"Resuming from {checkpoint.name}.")
        trainer.loss.load(checkpoint)
    start_step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    started = time.perf_counter()
    # Checkpoints hold the embeddings of a grown vocabulary, as they should.
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers`")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - started
    _save(trainer, loaded, recipe, dataset, output)
    result = _result(trainer, recipe, dataset, plan, counts, start_step, seconds)
    if not is_first():
        return result
    if texts := dataset.held_out_texts[: recipe.evaluation.answers]:
        say(f"Generating completions of {len(texts)} held-out prompts.")
        saved = load(result.model, dtype=torch.float32)
        result = replace(result, answers=exact_match(saved, texts, recipe))
    _write_pages(result, recipe.model, output)
    return result


def _save(
    trainer: StepTrainer, base: LoadedModel, recipe: Recipe, dataset: Dataset, output: Path
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
        model = model.merge_and_unload()
    for config in getattr(model, "peft_config", {}).values() if is_adapter else ():
        if isinstance(config.target_modules, set):  # a set's order differs between processes
            config.target_modules = sorted(config.target_modules)
    options: dict[str, Any] = {}
    if weights is not None:  # after gathering, a tensor under two names is two tensors
        tied = getattr(model, "all_tied_weights_keys", {}) if recipe.method == "full" else {}
        options["state_dict"] = {name: w for name, w in weights.items() if name not in tied}
    if is_adapter:  # of a grown vocabulary only the new rows belong to the adapter
        options["save_embedding_layers"] = False
    model.save_pretrained(partial, **options)
    dataset.tokenizer.save_pretrained(partial)
    below, fingerprint = "", ""
    if is_adapter:
        is_path = base.origin == "path" and Path(recipe.model).expanduser().is_dir()
        below = str(Path(recipe.model).expanduser().resolve()) if is_path else recipe.model
        fingerprint = base.fingerprint
    settings = recipe.model_dump()
    write_card(partial, ModelCard(below, fingerprint, recipe.format, recipe.decoder, settings))
    shutil.rmtree(output / MODEL_DIR, ignore_errors=True)
    partial.rename(output / MODEL_DIR)


def _result(
    trainer: StepTrainer,
    recipe: Recipe,
    dataset: Dataset,
    plan: StepPlan,
    counts: dict[str, Any],
    start_step: int,
    seconds: float,
) -> TrainingResult:
    assert trainer.model is not None
    last, history = trainer.state.global_step, trainer.state.log_history
    seen = [dataset.examples[i] for step in range(start_step, last) for i in plan.numbers(step)]
    steps = [row for row in history if "loss" in row]

    def curve(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
        return [(int(row["step"]), row[name]) for row in rows if name in row]

    losses, parts = curve(steps, "loss"), {}
    reported = {"loss", "grad_norm", "learning_rate", "epoch", "step"}
    for name in dict.fromkeys(name for row in steps for name in sorted(row.keys() - reported)):
        parts[name] = curve(steps, name)
    if matches := curve(history, "eval_exact_match"):
        parts["exact_match"] = matches
    for name in dict.fromkeys(name for row in history for name in sorted(row)):
        if name.startswith("eval_loss_layer_"):
            parts[name] = curve(history, name)
    for step, loss in losses if plan.widths else ():
        parts.setdefault(f"loss_length_{plan.width(step - 1)}", []).append((step, loss))
    best = trainer.state.best_global_step if recipe.evaluation.keep == "best" else None
    versions = {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
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
        tokens_per_s=sum(map(len, seen)) / seconds if seen else 0.0,
        trained_per_s=sum(len(e.targets) for e in seen) / seconds if seen else 0.0,
        seconds=seconds,
        dtype="bfloat16 autocast" if trainer.args.bf16 else "float32",
        kept_step=best if trainer.args.load_best_model_at_end and best else last,
        recipe=recipe.model_dump(mode="json"),
        versions={"codegen-toolkit": __version__, **versions},
        processes=trainer.args.world_size,
        processes_a_row=processes_per_row(),
    )


def _write_pages(result: TrainingResult, base: str, output: Path) -> None:
    """The curves and the model's README."""
    curves = [LossCurve("loss", result.losses)]
    if result.evaluations:
        curves.append(LossCurve("held out", result.evaluations))
    write_atomic(output / "loss.svg", loss_picture(curves))
    rates = [LossCurve("learning rate", result.learning_rates)]
    write_atomic(output / "learning_rate.svg", loss_picture(rates, "Learning rate"))
    readme = training_readme(base, result.recipe, result.counts, result.losses,
                             result.evaluations, result.versions)  # fmt: skip
    write_atomic(output / MODEL_DIR / "README.md", readme)


def exact_match(
    loaded: LoadedModel, texts: Sequence[TrainingText], recipe: Recipe
) -> dict[str, Any]:
    """The share of right completions with its 95 % interval (Wilson), and the first wrong ones.

    Args:
        loaded: completes the prompts of the texts greedily.
        texts: held out; their trained parts are the expected completions.
        recipe: the format and the decoder.
    """
    from codegen.generation.transformers import TransformersBackend

    longest = max(
        len(loaded.tokenizer(text.trained, add_special_tokens=False).input_ids) for text in texts
    )
    requests = [
        Request(text.prompt, chat=recipe.format == "chat", heal=False, index=number)
        for number, text in enumerate(texts)
    ]
    params = SamplingParams(max_new_tokens=longest + _SPARE_TOKENS, seed=recipe.seed)
    backend = TransformersBackend(loaded, _PROMPTS_AT_ONCE)
    made = samples(backend, requests, params, Decoder(recipe.decoder))
    completions = {sample.index: sample.completion for sample in made}
    wrong = [
        {"prompt": text.prompt, "expected": text.trained, "answer": completions[number]}
        for number, text in enumerate(texts)
        if not is_right(completions[number], text.trained, recipe.evaluation.set_of)
    ]
    share = (len(texts) - len(wrong)) / len(texts)
    return {
        "exact_match": share,
        "interval": list(wilson(share, len(texts))),
        "asked": len(texts),
        "wrong": wrong[:5],
    }


def is_right(completion: str, expected: str, set_of: int = 0) -> bool:
    """Whether a completion has the words of the expected text.

    Args:
        completion, expected: texts; blanks only separate words.
        set_of: words per group, whose order among the groups is free; 0 compares sequences.
    """
    given, wanted = completion.split(), expected.split()
    if not set_of:
        return given == wanted

    def groups(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[at : at + set_of]) for at in range(0, len(words), set_of)}

    return len(given) == len(wanted) and groups(given) == groups(wanted)
