"""``codegen sqlnet train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option
from codegen.cli.progress import Progress
from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.sqlnet.examples import Labelled
    from codegen.sqlnet.vectors import WordVectors

_RANDOM_WIDTH = 50
_HIDDEN = {"shared": 200, "paper": 100}


@click.command(
    epilog=example(
        "codegen sqlnet train train.jsonl train.tables.jsonl --out models/mine \\\n    "
        "--vectors glove.6B.50d.txt"
    )
)
@click.argument("questions", type=click.Path())
@click.argument("tables", type=click.Path())
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Gets the model.")
@click.option(
    "--vectors", metavar="FILE", help="Word vectors: .npz, GloVe's or word2vec's text form."
)
@click.option(
    "--encoder",
    metavar="DIR",
    help="A sentence-transformer, or another encoder on this machine: its vectors of words in their"
    " context are read too. It is not trained; the model can't be asked without it.",
)
@click.option(
    "--max-words",
    type=click.IntRange(1),
    default=50_000,
    show_default=True,
    help="Vectors kept beside those of the questions' words.",
)
@click.option("--dev-questions", type=click.Path(), help="Questions to choose the best epoch by.")
@click.option("--dev-tables", type=click.Path(), help="Their tables.")
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.9, min_open=True),
    default=0.04,
    show_default=True,
    help="Without --dev-questions: the share of tables that is held out for that.",
)
@click.option(
    "--layout",
    type=click.Choice(["shared", "paper"]),
    default="shared",
    show_default=True,
    help="Encoders that read each other and span pointers, or the paper's twelve encoders.",
)
@click.option("--hidden", type=int, help="Width of a state.  [default: 200; paper: 100]")
@click.option("--dropout", type=float, default=0.3, show_default=True)
@click.option("--epochs", type=int, default=12, show_default=True)
@click.option("--batch-size", type=int, default=64, show_default=True)
@click.option("--learning-rate", type=float, default=2e-3, show_default=True)
@click.option(
    "--alpha",
    type=float,
    help="Weight of columns that are in a condition.  [default: 1; paper: 3]",
)
@click.option(
    "--frozen-epochs",
    type=int,
    default=0,
    show_default=True,
    help="Epochs before the word vectors are trained too.",
)
@click.option("--patience", type=int, default=4, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="auto: bfloat16 where the processor multiplies it fast.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first questions.")
@json_option
def train(
    questions: str,
    tables: str,
    out: str,
    vectors: str | None,
    encoder: str | None,
    max_words: int,
    dev_questions: str | None,
    dev_tables: str | None,
    held_out: float,
    layout: str,
    hidden: int | None,
    dropout: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    alpha: float | None,
    frozen_epochs: int,
    patience: int,
    precision: str,
    seed: int,
    limit: int | None,
    as_json: bool,
) -> dict[str, Any]:
    """Train on QUESTIONS about TABLES, both in WikiSQL's form (JSON lines).

    One thread is used. An interrupted run goes on when the same command is run again.
    """
    if (dev_questions is None) != (dev_tables is None):
        raise ConfigError("--dev-questions and --dev-tables belong together.", "Give both.")
    if encoder and layout != "shared":
        raise ConfigError(f"The layout {layout} reads no encoder.", "Leave --encoder out.")
    import torch

    from codegen.sqlnet.examples import label, read_questions, read_tables, split_by_table
    from codegen.sqlnet.metrics import databases_of
    from codegen.sqlnet.network import NetworkConfig
    from codegen.sqlnet.training import Epoch, TrainingConfig
    from codegen.sqlnet.training import train as run
    from codegen.sqlnet.vectors import ContextEncoder

    torch.set_num_threads(1)
    read = ContextEncoder.load(encoder) if encoder else None
    config = TrainingConfig(
        network=NetworkConfig(
            layout,  # type: ignore[arg-type]
            hidden or _HIDDEN[layout],
            dropout,
            read.config if read else None,
        ),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        alpha=alpha if alpha is not None else (3.0 if layout == "paper" else 1.0),
        frozen_epochs=frozen_epochs,
        precision=_precision(precision),  # type: ignore[arg-type]
        patience=patience,
        seed=seed,
    )
    held = read_tables(tables)
    items = label(read_questions(questions, held, limit))
    if dev_questions and dev_tables:
        held = read_tables(dev_tables)
        development = label(read_questions(dev_questions, held))
    else:
        items, development = split_by_table(items, held_out, seed)
    table = _vectors(vectors, items, max_words, seed)
    if read:
        with Progress("reading") as progress:
            read.remember((item.asked for item in (*items, *development)), progress.update)
    with Progress("training") as progress:

        def on_epoch(epoch: Epoch) -> None:
            losses = sum(epoch.losses.values())
            progress.say(
                f"epoch {epoch.epoch}: loss {losses:.3f}, query match"
                f" {100 * epoch.scores['query_match']:.1f} % of {len(development)}"
            )

        network = run(
            config,
            table,
            items,
            development,
            out,
            info={"questions": len(items), "held_out": len(development)},
            databases=databases_of(development, held),
            encoder=read,
            on_epoch=on_epoch,
            on_step=progress.update,
        )
    best = dict(network.info["best"])
    if not as_json:
        click.echo(", ".join(f"{name} {100 * value:.1f} %" for name, value in best.items()))
        click.echo(f"The model is in {out}; use it with: codegen sqlnet ask --model {out}")
    return {
        "out": out,
        "questions": len(items),
        "held_out": len(development),
        "parameters": network.parameters,
        "words": len(network.words),
        "precision": config.precision,
        "best": best,
        "calibration_error": network.info["calibration_error"],
    }


def _vectors(path: str | None, items: list[Labelled], most: int, seed: int) -> WordVectors:
    from codegen.sqlnet.examples import words_in
    from codegen.sqlnet.vectors import chosen_vectors, random_vectors, read_vectors

    words = words_in(items)
    if path is None:
        return random_vectors(words_in(items, least=2), _RANDOM_WIDTH, seed)
    return chosen_vectors(read_vectors(path), words, most)


def _precision(name: str) -> str:
    """float32 or bfloat16; the latter only where PyTorch can train in it."""
    import torch

    from codegen.models import pick_dtype
    from codegen.sqlnet.training import has_bfloat16_lstm

    if name == "bfloat16" and not has_bfloat16_lstm():
        click.echo("PyTorch has no bfloat16 LSTM for this CPU; training in float32.", err=True)
        return "float32"
    if name != "auto":
        return name
    return "bfloat16" if pick_dtype("cpu") == torch.bfloat16 else "float32"
