"""The README of a fine-tuned model, as a model hub shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from codegen.errors import plural


def training_readme(
    base: str,
    recipe: Mapping[str, Any],
    counts: Mapping[str, Any],
    losses: Sequence[tuple[int, float]],
    evaluations: Sequence[tuple[int, float]],
    versions: Mapping[str, str],
    parts: Mapping[str, Sequence[tuple[int, float]]] = {},
) -> str:
    """A model card in the form of the Hugging Face hub, with nothing in it that was not measured.

    Args:
        base: name of the model that was trained.
        recipe: all settings.
        counts: of the data, see ``codegen.finetune.TrainingResult``.
        evaluations: on held-out texts.
        parts: further curves; those of ``pass@k`` are reported.
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
        f"- Outputs are read by the decoder `{recipe['decoder']}`.",
        f"- Training loss: {losses[0][1]:.4f} at the first step, {losses[-1][1]:.4f} at the last."
        if losses
        else "- No step was made.",
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
        if name.startswith("pass@"):
            lines.append(
                f"- {name} on the task {recipe['evaluation']['task']}: {points[0][1]:.1%} at step "
                f"{points[0][0]}, {points[-1][1]:.1%} at step {points[-1][0]}."
            )
    for reason, count in counts["dropped"].items():
        lines.append(f"- Left out: {plural(count, 'text')} ({reason}).")
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
