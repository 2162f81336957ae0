"""``codegen sqlnet plans`` and ``train-plans``: the model for questions on several tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from codegen.cli.options import command, options
from codegen.cli.planning import needs, size_of, with_plan
from codegen.config import Config, setting
from codegen.errors import InputError
from codegen.terminal import Progress, echo

if TYPE_CHECKING:
    from codegen.sqlnet.plan_network import PlanNetwork
    from codegen.sqlnet.plan_training import PlanExample, PlanTrainingConfig, Stage

_PLANNED_STEPS = 3  # that `train-plans --plan` takes three times


class PlansOptions(Config):
    """The options of ``codegen sqlnet plans``."""

    out: str = setting(..., "Directory for the questions.", metavar="DIR")
    databases: tuple[str, ...] = setting(
        ..., "Folder with the SQLite files <db_id>.sqlite. Repeatable.", metavar="DIR"
    )
    schemas: str | None = setting(
        None,
        "File of made-up databases to add; recipes/sql_schemas.txt is an example.",
        metavar="FILE",
    )
    held_out: float = setting(
        0.08, "Share of the questions, by whole databases, to hold out.", gt=0, lt=1
    )
    on_each: int = setting(40, "Made-up questions on each database.", ge=0)
    on_made_up: int = setting(250, "Made-up questions on each made-up database.", ge=0)
    seed: int = setting(0, "Random seed.", ge=0)


@command(
    name="plans",
    example="codegen sqlnet plans train.jsonl --databases spider/database \\\n    "
    "--schemas recipes/sql_schemas.txt --out data/plans",
)
@click.argument("questions", nargs=-1, required=True, type=click.Path())
@options(PlansOptions, "given")
def plans(questions: tuple[str, ...], given: PlansOptions, as_json: bool) -> dict[str, Any]:
    """Turn QUESTIONS with gold SQL (JSON lines in Spider's format) into questions with plans.

    A gold query is kept if its plan gives the same result; made-up questions are added.
    """
    from codegen.sqlnet.plan_data import read_gold
    from codegen.sqlnet.plan_generate import prepare, read_schemas

    golds = [gold for path in questions for gold in read_gold(path)]
    if not golds:
        raise InputError(
            f"No questions in {', '.join(questions)}.", "Give a file with at least one."
        )
    found = prepare(
        golds,
        given.databases,
        given.out,
        schemas=read_schemas(given.schemas) if given.schemas else None,
        held_out=given.held_out,
        on_each=given.on_each,
        on_made_up=given.on_made_up,
        seed=given.seed,
    )
    if not as_json:
        listed = ", ".join(f"{count} {source}" for source, count in found.sources.items())
        echo(f"{listed}; {found.held_out} held out.")
        for reason, count in sorted(found.left.items(), key=lambda pair: -pair[1]):
            echo(f"{count:6}  left out: {reason}")
    return {
        "out": given.out,
        "questions": dict(found.sources),
        "held_out": found.held_out,
        "left_out": dict(found.left),
    }


class TrainPlansOptions(Config):
    """The options of ``codegen sqlnet train-plans``."""

    out: str = setting(..., "Directory for the model.", metavar="DIR")
    databases: tuple[str, ...] = setting(
        (), "Folder with the SQLite files <db_id>.sqlite. Repeatable.", metavar="DIR"
    )
    vectors: str = setting(
        ..., "Word vectors: .npz, or GloVe's or word2vec's text format.", metavar="FILE"
    )
    steps: int = setting(4000, "Steps.", ge=1)
    batch_size: int = setting(32, "Questions per step.", ge=1)
    learning_rate: float = setting(1e-3, "Learning rate.", gt=0)
    width: int = setting(160, "Width of the states.", ge=16)
    layers: int = setting(3, "Number of layers.", ge=1)
    dropout: float = setting(0.15, "Dropout rate.", ge=0, lt=1)
    bfloat16: bool = setting(False, "Compute products in bfloat16.")
    seed: int = setting(0, "Random seed.", ge=0)


def _prepared(
    questions: str, given: TrainPlansOptions
) -> tuple[PlanTrainingConfig, PlanNetwork, list[PlanExample], int]:
    """What training is called with, and the number of questions without slots."""
    import torch

    from codegen.sqlnet.plan_data import read_planned
    from codegen.sqlnet.plan_network import PlanConfig
    from codegen.sqlnet.plan_training import PlanTrainingConfig, new_network, plan_examples
    from codegen.sqlnet.vectors import read_vectors

    torch.set_num_threads(1)
    folder = Path(questions)
    config = PlanTrainingConfig(
        network=PlanConfig(width=given.width, layers=given.layers, dropout=given.dropout),
        steps=given.steps,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        bfloat16=given.bfloat16,
        seed=given.seed,
    )
    planned = read_planned(folder / "plans.jsonl")
    network = new_network(config.network, read_vectors(given.vectors), planned, given.seed)
    folders = [*given.databases, folder / "databases"]
    with Progress("reading") as progress:
        examples, left = plan_examples(
            planned, folders, network.likeness, lambda done: progress.update(done, len(planned))
        )
    return config, network, examples, left


def _train_needs(questions: str, given: TrainPlansOptions) -> dict[str, Any]:
    """What training needs, by a few steps; all questions are read."""
    from codegen.sqlnet.plan_training import train_plans as run

    began = monotonic()
    config, network, examples, _ = _prepared(questions, given)
    reading = monotonic() - began
    few = replace(config, steps=3 * _PLANNED_STEPS, every=_PLANNED_STEPS)
    times, disk = list[float](), 0
    with TemporaryDirectory(prefix="codegen-plan-") as folder, Progress("a few steps") as bar:
        part = Path(folder)

        def on_stage(stage: Stage) -> None:
            nonlocal disk
            bar.update(stage.step)
            times.append(stage.cpu_s)
            disk = 2 * size_of(part)  # a state is written before the last one is deleted

        run(few, network, examples, part, on_stage=on_stage)
        seconds = reading + config.steps * mean(times[1:]) / few.every  # one thread: its CPU time
        return needs("steps", part, given.out, bar, config.steps, seconds=seconds, disk=disk)


@command(
    name="train-plans",
    example="codegen sqlnet train-plans data/plans --databases spider/database \\\n    "
    "--vectors vectors.npz --out models/plans",
)
@click.argument("questions", type=click.Path())
@options(TrainPlansOptions, "given")
@with_plan(_train_needs)
def train_plans(questions: str, given: TrainPlansOptions, as_json: bool) -> dict[str, Any]:
    """Train on the directory QUESTIONS that `codegen sqlnet plans` made.

    Uses one thread. Run the same command again to resume an interrupted run; --steps
    may differ.
    """
    from codegen.sqlnet.plan_training import train_plans as run

    config, network, examples, left = _prepared(questions, given)
    with Progress("training") as progress:

        def on_stage(stage: Stage) -> None:
            loss = sum(stage.losses.values())
            progress.say(f"step {stage.step}: loss {loss:.3f}, {stage.cpu_s:.0f} CPU s")
            progress.update(stage.step, config.steps)

        trained = run(config, network, examples, given.out, on_stage=on_stage)
    if not as_json:
        echo(f"The model is in {given.out}.")
    return {
        "out": given.out,
        "questions": len(examples),
        "without_slots": left,
        "parameters": trained.parameters,
        "words": len(trained.words),
        "cpu_s": trained.info["cpu_s"],
    }
