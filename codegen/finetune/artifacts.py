"""Outputs of a run: checkpoints, the final model, its result and pages.

Held-out prompts are completed greedily and compared with the expected text (:func:`exact_match`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen import __version__
from codegen.core.errors import InputError, plural
from codegen.core.paths import new_folder
from codegen.core.records import TrainingText, write_atomic
from codegen.evals.report import LossCurve, loss_picture
from codegen.evals.statistics import wilson
from codegen.finetune.recipe import Recipe
from codegen.models import LoadedModel, ModelCard, write_card

if TYPE_CHECKING:
    from transformers import Trainer

MODEL_DIR = "model"
RESULT_NAME = "train.json"
CHECKPOINTS = "checkpoints"
STATE = "state"  # checkpoint from which a finished run is extended
WHOLE = "whole"  # marks a completely written checkpoint directory
_SPARE_TOKENS = 8  # beyond the longest expected completion, to detect longer ones
_PROMPTS_AT_ONCE = 64


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


def is_first() -> bool:
    """Returns True on rank 0, the only process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


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
        return TrainingResult(**row)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not the result of a fine-tuning run: {error}.") from None


def last_whole_checkpoint(output: Path) -> Path | None:
    """Returns the latest completely written checkpoint of a run; None without one."""
    folders = (output / CHECKPOINTS).glob("checkpoint-*")
    whole = {
        int(found[1]): path
        for path in folders
        if (found := re.fullmatch(r"checkpoint-(\d{1,9})", path.name)) and (path / WHOLE).is_file()
    }
    return whole[max(whole)] if whole else None


def save_model(
    trainer: Trainer, base: LoadedModel, recipe: Recipe, tokenizer: Any, output: Path
) -> None:
    """Writes the final model to a temporary directory and moves it, so it is complete or absent."""
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
    """Builds the result of a run from its trainer's history.

    Args:
        tokens, trained: tokens and trained actions in ``seconds``.
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
        if name == "eval_exact_match":
            parts["exact_match"] = curve(history, name)
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
    )


def write_pages(result: TrainingResult, base: str, output: Path) -> None:
    """Writes the curves and the model's README."""
    losses = {"loss": result.losses, "held out": result.evaluations}
    for name, title, lines in (
        ("loss", "Loss", losses),
        ("learning_rate", "Learning rate", {"learning rate": result.learning_rates}),
        ("reward", "Reward", {"reward": result.parts.get("reward")}),
    ):
        if curves := [LossCurve(label, points) for label, points in lines.items() if points]:
            write_atomic(output / f"{name}.svg", loss_picture(curves, title))
    readme = training_readme(base, result.recipe, result.counts, result.losses,
                             result.evaluations, result.versions, result.parts)  # fmt: skip
    write_atomic(output / MODEL_DIR / "README.md", readme)


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
        lines.append(f"- Held-out loss: {evaluations[-1][1]:.4f} at the last, {best:.4f} at best.")
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
        own = recipe["grpo"]
        return (
            f"{line} problems of the task {own['task']}, {own['group']} samples each; rewards:"
            f" {', '.join(f'{name} {weight:g}' for name, weight in own['rewards'].items())}."
        )
    kind = "pairs" if objective == "dpo" else "examples"
    return f"{line} {kind} with {counts['trained_tokens']} trained of {counts['tokens']} tokens."


def exact_match(
    loaded: LoadedModel, texts: Sequence[TrainingText], recipe: Recipe
) -> dict[str, Any]:
    """Returns the fraction of exact matches with its 95% Wilson interval, and the first wrong ones.

    Args:
        loaded: completes the prompts of the texts greedily.
        texts: held-out texts; their trained parts are the expected completions, compared by words.
    """
    from codegen.core.generation import Decoder, Request, SamplingParams, samples
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
        if completions[number].split() != text.trained.split()
    ]
    share = (len(texts) - len(wrong)) / len(texts)
    return {
        "exact_match": share,
        "interval": list(wilson(share, len(texts))),
        "asked": len(texts),
        "wrong": wrong[:5],
    }
