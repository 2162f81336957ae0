"""``codegen sqlnet train``, ``eval``, ``plans`` and ``train-plans``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from codegen.cli.options import command, options, print_result
from codegen.core.config import Config, keyed, setting
from codegen.core.errors import ConfigError, InputError, plural
from codegen.core.terminal import Progress

if TYPE_CHECKING:
    from codegen.sqlnet.examples import LabeledQuestion
    from codegen.sqlnet.network import WordVectors
    from codegen.sqlnet.training import Epoch, Stage

_RANDOM_WIDTH = 50
_HIDDEN = {"shared": 200, "paper": 100}
_ALPHA = {"shared": 1.0, "paper": 3.0}


class TrainOptions(Config):
    """Options of ``codegen sqlnet train``."""

    out: str = setting(..., "Directory for the model.", metavar="DIR")
    vectors: str | None = setting(
        None, "Word vectors: .npz, or GloVe's or word2vec's text format.", metavar="FILE"
    )
    layout: Literal["shared", "paper"] = setting(
        "shared",
        "shared: encoders that attend to each other, and span pointers. paper: the paper's twelve "
        "encoders.",
    )
    seed: int = setting(0, "Random seed.", ge=0)
    max_words: int = keyed(50_000, "Word vectors to keep, all words in questions included.", ge=1)
    held_out: float = keyed(
        0.04, "Fraction of the tables held out to select the best epoch.", gt=0, le=0.9
    )
    hidden: int | None = keyed(None, "Width of the hidden states.", shown="200; paper: 100")
    dropout: float = keyed(0.3, "Dropout rate.")
    epochs: int = keyed(12, "Maximum number of epochs.")
    batch_size: int = keyed(64, "Questions per step.")
    learning_rate: float = keyed(2e-3, "Learning rate.")
    alpha: float | None = keyed(
        None, "Loss weight of columns that appear in a condition.", shown="1; paper: 3"
    )
    frozen_epochs: int = keyed(0, "Epochs with frozen word vectors.")
    patience: int = keyed(4, "Epochs without improvement before training stops.")


@command(
    name="train",
    example="codegen sqlnet train train.jsonl train.tables.jsonl --out models/mine \\\n    "
    "--vectors glove.6B.50d.txt",
)
@click.argument("questions", type=click.Path())
@click.argument("tables", type=click.Path())
@options(TrainOptions, "given")
def train(questions: str, tables: str, given: TrainOptions) -> dict[str, Any]:
    """Train on QUESTIONS about TABLES, both JSON lines in WikiSQL's format.

    Uses one thread. Run the same command again to resume an interrupted run.
    """
    import torch

    from codegen.sqlnet.examples import label, read_questions, read_tables, split_by_table
    from codegen.sqlnet.network import NetworkConfig
    from codegen.sqlnet.training import TrainingConfig
    from codegen.sqlnet.training import train as run

    torch.set_num_threads(1)
    layout = given.layout
    config = TrainingConfig(
        network=NetworkConfig(layout, given.hidden or _HIDDEN[layout], given.dropout),
        epochs=given.epochs,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        alpha=_ALPHA[layout] if given.alpha is None else given.alpha,
        frozen_epochs=given.frozen_epochs,
        patience=given.patience,
        seed=given.seed,
    )
    held = read_tables(tables)
    items = label(read_questions(questions, held))
    items, development = split_by_table(items, given.held_out, given.seed)
    vectors = _vectors(given.vectors, items, given.max_words, given.seed)
    with Progress("training") as progress:

        def on_epoch(epoch: Epoch) -> None:
            losses = sum(epoch.losses.values())
            progress.say(
                f"epoch {epoch.epoch}: loss {losses:.3f}, query match"
                f" {100 * epoch.scores['query_match']:.1f}% of {len(development)}"
            )

        network = run(
            config,
            vectors,
            items,
            development,
            given.out,
            info={"questions": len(items), "held_out": len(development)},
            on_epoch=on_epoch,
            on_step=progress.update,
        )
    best = dict(network.info["best"])
    print_result(", ".join(f"{name} {100 * value:.1f}%" for name, value in best.items()))
    print_result(
        f"The model is in {given.out}; use it with: codegen sqlnet ask --model {given.out}"
    )
    return {
        "out": given.out,
        "questions": len(items),
        "held_out": len(development),
        "parameters": network.parameters,
        "words": len(network.words),
        "best": best,
    }


def _vectors(path: str | None, items: list[LabeledQuestion], most: int, seed: int) -> WordVectors:
    from codegen.sqlnet.examples import words_in
    from codegen.sqlnet.network import chosen_vectors, random_vectors, read_vectors

    words = words_in(items)
    if path is None:
        return random_vectors(words_in(items, least=2), _RANDOM_WIDTH, seed)
    return chosen_vectors(read_vectors(path), words, most)


_ABOUT = {
    "query_match": "whole query, by WikiSQL's rule",
    "aggregate": "aggregate function",
    "select": "SELECT column",
    "where": "set of conditions",
    "execution": "result of the query",
}


class EvalOptions(Config):
    """Options of ``codegen sqlnet eval``."""

    model: str | None = setting(
        None, "Directory of a trained model.", metavar="DIR", shown="the package's model"
    )
    guided: bool = setting(
        False, "Link values to the table's cells, and choose queries by executing them."
    )
    greedy: bool = setting(False, "Fill the slots one by one, as in the paper.")

    def _check(self) -> None:
        if self.guided and self.greedy:
            raise ConfigError("--guided cannot be combined with --greedy.", "Omit one of them.")


@command(name="eval", example="codegen sqlnet eval dev.jsonl dev.tables.jsonl --guided")
@click.argument("questions", type=click.Path())
@click.argument("tables", type=click.Path())
@options(EvalOptions, "given")
def evaluate(questions: str, tables: str, given: EvalOptions) -> dict[str, Any]:
    """Score a model on QUESTIONS about TABLES, both JSON lines in WikiSQL's format.

    Executes the queries if the tables have rows. For questions on whole databases, use `codegen
    eval run spider --model sqlnet`.
    """
    import torch

    from codegen.evals.statistics import wilson
    from codegen.sqlnet.examples import (
        databases_of,
        label,
        predict,
        predict_guided,
        read_questions,
        read_tables,
        score,
    )
    from codegen.sqlnet.network import SketchNetwork
    from codegen.sqlnet.parser import DEFAULT_MODEL

    torch.set_num_threads(1)
    network = SketchNetwork.load(given.model or DEFAULT_MODEL)
    held = read_tables(tables)
    items = label(read_questions(questions, held))
    if not items:
        raise InputError(f"{questions} has no questions.", "Pass a file with questions.")
    databases = databases_of(items, held)
    if given.guided and databases is None:
        raise ConfigError(f"{tables} has no rows to execute queries on.", "Remove --guided.")
    if given.guided and databases is not None:
        choices = predict_guided(network, items, databases, link=True)
        predicted = [choice.candidate.query for choice in choices]
    else:
        predicted = predict(network, items, greedy=given.greedy)
    scores = score(predicted, items, databases).to_row()
    n = len(items)
    intervals = {
        name: list(wilson(value, n))
        for name, value in scores.items()
        if name in _ABOUT and value is not None
    }
    for name, about in _ABOUT.items():
        value = scores[name]
        if value is not None:
            bounds = intervals.get(name)
            text = f"[{100 * bounds[0]:5.1f}, {100 * bounds[1]:5.1f}]" if bounds else ""
            print_result(f"{name:<12} {100 * value:5.1f}%  {text:<16} {about}")
    print_result(plural(n, "question"))
    return {**scores, "intervals": intervals}


class PlansOptions(Config):
    """Options of ``codegen sqlnet plans``."""

    out: str = setting(..., "Directory for the questions.", metavar="DIR")
    databases: tuple[str, ...] = setting(
        ..., "Folder with the SQLite files <db_id>.sqlite. Repeatable.", metavar="DIR"
    )
    held_out: float = keyed(
        0.08, "Fraction of the questions held out, by whole databases.", gt=0, lt=1
    )


@command(
    name="plans",
    example="codegen sqlnet plans train.jsonl --databases spider/database --out data/plans",
)
@click.argument("questions", nargs=-1, required=True, type=click.Path())
@options(PlansOptions, "given")
def plans(questions: tuple[str, ...], given: PlansOptions) -> dict[str, Any]:
    """Convert QUESTIONS with gold SQL (JSON lines in Spider's format) to questions with plans.

    A gold query is kept if its plan returns the same result.
    """
    from codegen.sqlnet.plan_data import prepare, read_gold

    golds = [gold for path in questions for gold in read_gold(path)]
    if not golds:
        raise InputError(f"No questions in {', '.join(questions)}.", "Pass a file with questions.")
    found = prepare(golds, given.databases, given.out, held_out=given.held_out)
    listed = ", ".join(f"{count} {source}" for source, count in found.sources.items())
    print_result(f"{listed}; {found.held_out} held out.")
    for reason, count in sorted(found.left.items(), key=lambda pair: -pair[1]):
        print_result(f"{count:6}  skipped: {reason}")
    return {
        "out": given.out,
        "questions": dict(found.sources),
        "held_out": found.held_out,
        "left_out": dict(found.left),
    }


class TrainPlansOptions(Config):
    """Options of ``codegen sqlnet train-plans``."""

    out: str = setting(..., "Directory for the model.", metavar="DIR")
    databases: tuple[str, ...] = setting(
        (), "Folder with the SQLite files <db_id>.sqlite. Repeatable.", metavar="DIR"
    )
    vectors: str = setting(
        ..., "Word vectors: .npz, or GloVe's or word2vec's text format.", metavar="FILE"
    )
    steps: int = keyed(4000, "Optimizer steps.", ge=1)
    batch_size: int = keyed(32, "Questions per step.", ge=1)
    learning_rate: float = keyed(1e-3, "Learning rate.", gt=0)
    width: int = keyed(160, "Width of the hidden states.", ge=16)
    layers: int = keyed(3, "Number of layers.", ge=1)
    dropout: float = keyed(0.15, "Dropout rate.", ge=0, lt=1)
    seed: int = keyed(0, "Random seed.", ge=0)


@command(
    name="train-plans",
    example="codegen sqlnet train-plans data/plans --databases spider/database \\\n    "
    "--vectors vectors.npz --out models/plans",
)
@click.argument("questions", type=click.Path())
@options(TrainPlansOptions, "given")
def train_plans(questions: str, given: TrainPlansOptions) -> dict[str, Any]:
    """Train on QUESTIONS, a directory written by `codegen sqlnet plans`.

    Uses one thread. Run the same command again to resume an interrupted run; `steps` may differ.
    """
    import torch

    from codegen.sqlnet.network import read_vectors
    from codegen.sqlnet.plan_data import read_planned
    from codegen.sqlnet.plan_network import PlanConfig
    from codegen.sqlnet.training import PlanTrainingConfig, new_network, plan_examples
    from codegen.sqlnet.training import train_plans as run

    torch.set_num_threads(1)
    folder = Path(questions)
    config = PlanTrainingConfig(
        network=PlanConfig(width=given.width, layers=given.layers, dropout=given.dropout),
        steps=given.steps,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        seed=given.seed,
    )
    planned = read_planned(folder / "plans.jsonl")
    network = new_network(config.network, read_vectors(given.vectors), planned, given.seed)
    with Progress("reading") as progress:
        examples, left = plan_examples(
            planned,
            given.databases,
            network.likeness,
            lambda done: progress.update(done, len(planned)),
        )
    with Progress("training") as progress:

        def on_stage(stage: Stage) -> None:
            loss = sum(stage.losses.values())
            progress.say(f"step {stage.step}: loss {loss:.3f}, {stage.cpu_s:.0f} CPU s")
            progress.update(stage.step, config.steps)

        trained = run(config, network, examples, given.out, on_stage=on_stage)
    print_result(f"The model is in {given.out}.")
    return {
        "out": given.out,
        "questions": len(examples),
        "without_slots": left,
        "parameters": trained.parameters,
        "words": len(trained.words),
        "cpu_s": trained.info["cpu_s"],
    }
