"""``codegen finetune``: run a recipe."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from codegen.cli.options import command, completes
from codegen.cli.planning import needs, show, size_of
from codegen.errors import ConfigError, plural
from codegen.terminal import Progress, echo, visible

if TYPE_CHECKING:
    from codegen.finetune import Recipe

_PLANNED_STEPS = 3  # that --plan takes where needs cannot be computed


def _built_in() -> list[str]:
    from codegen.finetune.recipe import built_in

    return list(built_in())


class _EnoughSteps(Exception):
    """Ends the part of a run that a plan is measured on."""


def _measured(recipe: Recipe) -> dict[str, Any]:
    """What a run needs without its evaluations, by its first steps."""
    from codegen.finetune.result import CHECKPOINTS
    from codegen.finetune.run import train

    steps = 0
    with TemporaryDirectory(prefix="codegen-plan-") as folder, Progress("the first steps") as bar:
        part = Path(folder)
        own = {"output": folder, "save_every": _PLANNED_STEPS, "report_to": "none", "push_to": ""}
        own |= {"evaluation": type(recipe.evaluation)()}

        def on_step(step: int, of: int, _: float) -> None:
            nonlocal steps
            steps = of
            if step > _PLANNED_STEPS:  # the checkpoint is written
                raise _EnoughSteps
            bar.update(step)

        with suppress(_EnoughSteps):
            train(recipe.model_copy(update=own), on_step=on_step, on_message=bar.say)
        saved = size_of(part / CHECKPOINTS) or size_of(part)
        other = (size_of(part) - saved) * steps // max(bar.done, 1)
        # At most three checkpoints are there at once, and the model.
        return needs("steps", part, recipe.output, bar, steps, disk=4 * saved + other)


@command(example="codegen finetune lintseq -o data=data/mine -o steps=200 -o lora.rank=8")
@click.argument("recipe", shell_complete=completes(_built_in, files=True))
@click.option(
    "-o",
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a key of the recipe; dots reach into sections. Repeatable.",
)
@click.option("--check", is_flag=True, help="Check the recipe, print its settings and stop.")
@click.option(
    "--plan", is_flag=True, help="Print the memory, tokens, steps and operations it needs and stop."
)
@click.option(
    "--flops",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="N",
    help="With --plan: FLOP/s that the machine reaches, to print hours, such as 1e14.",
)
def finetune(
    recipe: str,
    overrides: tuple[str, ...],
    check: bool,
    plan: bool,
    flops: float,
    as_json: bool,
) -> dict[str, Any] | None:
    """Fine-tune a model from a RECIPE: a YAML file, or the name of a built-in one.

    Run the same command again to resume an interrupted run from its last checkpoint. More steps or
    epochs extend a finished run whose schedule is constant or wsd.
    """
    from dataclasses import asdict

    from codegen.config import keys
    from codegen.finetune import Recipe, load_recipe

    settings = load_recipe(recipe, overrides)
    if check:
        if not as_json:
            for key in keys(Recipe):
                section, _, name = key.name.rpartition(".")
                value = getattr(getattr(settings, section) if section else settings, name)
                line = visible(f"{key.name}: {value}")
                echo(f"{line:<44} # {key.about} ({key.allowed})")
        return settings.model_dump(mode="json")

    if plan:
        from codegen.finetune.estimate import can_estimate, describe_needs, estimate
        from codegen.finetune.run import check_packages, check_trackers

        check_trackers(settings)
        if not can_estimate(settings):
            found = _measured(settings)
            if not as_json:
                show(found)
            return found
        needs = estimate(settings, flops)
        try:  # the plan may be for another machine, so it needs none of them
            check_packages(settings)
        except ConfigError as error:
            echo(f"Before you train here: {error}", err=True)
        if not as_json:
            echo(describe_needs(needs))
        return needs.to_json()

    from codegen.finetune.result import is_first
    from codegen.finetune.run import train

    if not is_first():
        train(settings)
        return None  # only rank 0 reports
    ran = False
    value = "reward" if settings.objective == "grpo" else "loss"
    with Progress("fine-tuning", settings.steps or None) as progress:

        def on_step(step: int, of: int, loss: float) -> None:
            nonlocal ran
            ran = True
            progress.update(step, of, note=f"{value} {loss:.3f}")

        result = train(settings, on_step=on_step, on_message=progress.say)
        if not ran:  # finished before
            progress.update(len(result.losses), len(result.losses))
    if not as_json:
        curve = result.losses if value == "loss" else result.parts["reward"]
        first, last = curve[0][1], curve[-1][1]
        ending = f", {result.tokens_per_s:.0f} tokens/s." if ran else "; already finished."
        steps = plural(len(result.losses), "step")
        echo(f"{value.capitalize()} {first:.3f} -> {last:.3f} in {steps}{ending}")
        if value == "reward":
            echo(
                f"Every sample is in {settings.output}; see: codegen eval report {settings.output}"
            )
        if answers := result.answers:
            low, high = answers["interval"]
            echo(
                f"{answers['exact_match']:.1%} of {answers['asked']} held-out answers are correct "
                f"({low:.1%} to {high:.1%})."
            )
        echo(f"The model is in {result.model}; use it with --model {result.model}")
    return asdict(result)
