"""The README of a fine-tuned model: what a model hub shows of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def training_readme(
    base: str,
    recipe: Mapping[str, Any],
    counts: Mapping[str, Any],
    losses: Sequence[tuple[int, float]],
    evaluations: Sequence[tuple[int, float]],
    versions: Mapping[str, str],
) -> str:
    """A model card in the form of the Hugging Face hub, with nothing in it that was not measured.

    Args:
        base: name of the model that was trained.
        recipe: all settings.
        counts: of the data, see ``codegen.finetune.TrainingResult``.
        losses: of the steps.
        evaluations: on held-out texts.
        versions: of the packages.
    """
    head = {"library_name": "peft" if recipe["method"] != "full" else "transformers"}
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        head["base_model"] = base
    lines = ["---", *(f"{key}: {value}" for key, value in head.items()), "---", ""]
    lines += [
        f"# {base.rstrip('/').rpartition('/')[2]}, fine-tuned",
        "",
        f"{recipe['steps']} optimizer steps ({recipe['method']}, loss {recipe['loss']}, prompts in"
        f" the {recipe['format']} format) on {counts['examples']} examples with"
        f" {counts['trained_tokens']} trained of {counts['tokens']} tokens.",
        "",
        f"- Outputs are read by the decoder `{recipe['decoder']}`.",
        f"- Training loss: {losses[0][1]:.4f} at the first step, {losses[-1][1]:.4f} at the last."
        if losses
        else "- No step was made.",
    ]
    if evaluations:
        best = min(loss for _, loss in evaluations)
        lines.append(f"- Held-out loss: {evaluations[-1][1]:.4f} at the last, {best:.4f} at best.")
    for reason, count in counts["dropped"].items():
        lines.append(f"- Left out: {count} texts ({reason}).")
    shown = {key: value for key, value in recipe.items() if key not in ("data", "output", "model")}
    lines += ["", "## Settings", "", "```json", json.dumps(shown, indent=1), "```", ""]
    lines += ["Made with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".", ""]
    return "\n".join(lines)
