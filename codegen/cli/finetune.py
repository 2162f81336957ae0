"""``codegen finetune``: run a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from codegen.cli.options import command, completes, print_result
from codegen.core.errors import ConfigError, plural
from codegen.core.terminal import Progress, echo, visible

if TYPE_CHECKING:
    from codegen.finetune.estimate import ResourceEstimate


def _built_in() -> list[str]:
    from codegen.finetune.recipe import built_in

    return list(built_in())


def _print_needs(needs: ResourceEstimate) -> None:
    memory = {"memory": needs.peak, **{f"  {name}": size for name, size in needs.memory.items()}}
    for name, size in (memory | {"disk": needs.disk}).items():
        print_result(f"{name:<14}{size / 1e9:>9.2f} GB")
    trained = f"{needs.trained_parameters / 1e6:.1f} M of them trained"
    print_result(f"{'parameters':<14}{needs.parameters / 1e6:>9.1f} M, {trained}")
    print_result(f"{'steps':<14}{needs.steps:>9}")
    print_result(f"{'tokens':<14}{needs.tokens:>9} with padding")
    print_result(f"{'operations':<14}{needs.flops:>9.2e}")


@command(example="codegen finetune lintseq -o data=data/mine -o steps=200 -o lora.rank=8")
@click.argument("recipe", shell_complete=completes(_built_in, files=True))
@click.option(
    "-o",
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a recipe key; dots separate section and key. Repeatable.",
)
@click.option("--check", is_flag=True, help="Check the recipe, print its settings and stop.")
@click.option(
    "--plan", is_flag=True, help="Print the run's memory, tokens, steps and operations, and stop."
)
def finetune(
    recipe: str,
    overrides: tuple[str, ...],
    check: bool,
    plan: bool,
) -> dict[str, Any] | None:
    """Fine-tune a model from a RECIPE: a YAML file, or the name of a built-in one.

    Run the same command again to resume an interrupted run from its last checkpoint. More steps or
    epochs extend a finished run whose schedule is constant or wsd.
    """
    from dataclasses import asdict

    from codegen.core.config import keys
    from codegen.finetune import Recipe, load_recipe

    settings = load_recipe(recipe, overrides)
    if check:
        for key in keys(Recipe):
            section, _, name = key.name.rpartition(".")
            value = getattr(getattr(settings, section) if section else settings, name)
            line = visible(f"{key.name}: {value}")
            print_result(f"{line:<44} # {key.about} ({key.allowed})")
        return settings.model_dump(mode="json")

    if plan:
        from codegen.finetune.estimate import estimate
        from codegen.finetune.lifecycle import check_packages, check_trackers

        check_trackers(settings)
        needs = estimate(settings)
        try:  # the plan may be for another machine, so this is only a warning
            check_packages(settings)
        except ConfigError as error:
            echo(f"Before training here: {error}", err=True)
        _print_needs(needs)
        return needs.to_json()

    from codegen.finetune.lifecycle import is_first, train

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
    curve = result.losses if value == "loss" else result.parts["reward"]
    first, last = curve[0][1], curve[-1][1]
    ending = f", {result.tokens_per_s:.0f} tokens/s." if ran else "; already finished."
    steps = plural(len(result.losses), "step")
    print_result(f"{value.capitalize()} {first:.3f} -> {last:.3f} in {steps}{ending}")
    if value == "reward":
        print_result(f"See every sample with: codegen view {settings.output}")
    if answers := result.answers:
        low, high = answers["interval"]
        print_result(
            f"{answers['exact_match']:.1%} of {answers['asked']} held-out answers are correct "
            f"({low:.1%} to {high:.1%})."
        )
    print_result(f"The model is in {result.model}; use it with --model {result.model}")
    return asdict(result)
