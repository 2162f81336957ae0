"""Trains a network on questions with queries: one thread, resumable, with curves.

AdamW with warm-up and cosine decay to zero, clipped gradients, and a running mean of the weights,
which is scored and kept. Each epoch ends with a score on the development questions and a saved
state, from which a killed run resumes with the same weights. Training ends early after ``patience``
epochs without a better query match. For the paper's layout the best epoch is chosen for each module
by itself, as in the released code (:data:`BLOCKS`).
"""

from __future__ import annotations

import math
import random
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from codegen.errors import ConfigError, InputError
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.examples import Labelled, batch_of, targets_of
from codegen.sqlnet.layout import losses
from codegen.sqlnet.metrics import outcomes, predict, score
from codegen.sqlnet.network import Network, NetworkConfig
from codegen.sqlnet.storage import Progress, TrainingState, batches, check_range
from codegen.sqlnet.trust import Calibration, calibration_error, fit_curves, join
from codegen.sqlnet.vectors import ContextEncoder, WordVectors

# Measure -> the weights (a regular expression) whose best epoch it chooses.
BLOCKS: Mapping[str, Mapping[str, str]] = {
    "shared": {"query_match": ""},
    "paper": {
        "aggregate": "aggregate",
        "select": "select",
        "where": "number|where|operator|value|decoder",
    },
}
WORDS = {"shared": "encoder.word.weight", "paper": "word.weight"}  # the vectors of words


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How to train.

    Attributes:
        network: what to train.
        epochs: passes over the questions, at most.
        batch_size: questions a step.
        learning_rate: the highest.
        alpha: weight of the columns that are in a condition (3 in the paper).
        clip: the gradient's largest norm.
        frozen_epochs: initial epochs that do not train word vectors; the paper trains them in a
            second stage.
        precision: ``bfloat16`` computes most products in that type; weights and their mean stay
            float32. If PyTorch has no bfloat16 LSTM for the CPU (:func:`has_bfloat16_lstm`),
            training warns and uses float32.
        mean: how slowly the running mean of the weights moves, in [0, 1).
        patience: epochs without a better query match that end training.
    """

    network: NetworkConfig = NetworkConfig()
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 2e-3
    alpha: float = 3.0
    clip: float = 5.0
    frozen_epochs: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    mean: float = 0.999
    patience: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        above_zero = ("epochs", "batch_size", "learning_rate", "alpha", "clip", "patience")
        check_range(self, *above_zero, below_one="mean")
        if self.frozen_epochs < 0:
            raise ConfigError(f"frozen_epochs is {self.frozen_epochs}; it must not be below 0.")
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"Unknown precision {self.precision!r}; choose float32 or bfloat16.")


def has_bfloat16_lstm() -> bool:
    """Whether PyTorch can run an LSTM in bfloat16 on this CPU: oneDNN needs AVX-512 for it."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of ``metrics.jsonl``: mean losses by slot, and scores on the development set."""

    epoch: int
    losses: Mapping[str, float]
    scores: Mapping[str, float]
    cpu_s: float


def train(
    config: TrainingConfig,
    vectors: WordVectors,
    questions: Sequence[Labelled],
    development: Sequence[Labelled],
    out: str | Path,
    *,
    info: Mapping[str, Any] | None = None,
    databases: Mapping[str, Database] | None = None,
    encoder: ContextEncoder | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Network:
    """Trains a network and saves it in ``out``, or resumes a run that was cut off.

    Args:
        development: chooses the epoch.
        out: gets the network (:mod:`codegen.sqlnet.network`), ``metrics.jsonl``, and ``state/``
            until the run ends.
        info: kept with the network, such as where the data comes from.
        databases: for the development questions, if their tables have rows; see
            :func:`calibrated`.
        encoder: the one that ``config`` names, if any; it reads every text once, before the first
            step.
        on_step: called after each step with the steps done and the total.

    Raises:
        InputError: if there are fewer questions than make a batch, or none to validate on.
        ResumeError: if ``out`` holds a run with another configuration or other questions.
    """
    if len(questions) < config.batch_size or not development:
        raise InputError(
            f"{len(questions)} questions to train on and {len(development)} to validate on are too"
            " few.",
            f"Give at least {config.batch_size} and 1.",
        )
    run = _Run(config, vectors, len(questions), Path(out), encoder)
    if encoder:
        encoder.remember(item.question for item in (*questions, *development))
    while run.epoch < config.epochs and run.stale < config.patience:
        epoch = run.train_epoch(questions, development, on_step)
        if on_epoch:
            on_epoch(epoch)
    return run.finish(dict(info or {}), development, databases)


def calibrated(
    network: Network,
    development: Sequence[Labelled],
    databases: Mapping[str, Database] | None = None,
) -> Network:
    """The network with calibrated confidence.

    With databases, the confidence of guided queries is calibrated too. The curves are fitted on
    every second question; ``info`` keeps the expected calibration error on the others by slot,
    before and after.
    """
    found = outcomes(network, development, databases)
    calibration, rest = fit_curves(found[::2]), join(found[1::2])
    errors = {
        slot: [
            round(calibration_error((by.confidence(slot, p), right) for p, right in rest[slot]), 4)
            for by in (Calibration(), calibration)
        ]
        for slot in rest
        if rest[slot]
    }
    return replace(
        network,
        calibration=calibration,
        info={**network.info, "calibration_error": errors, "calibration_questions": len(found)},
    )


class _Run:
    """A training run: its epochs, and the best weights of each block."""

    def __init__(
        self,
        config: TrainingConfig,
        vectors: WordVectors,
        questions: int,
        out: Path,
        encoder: ContextEncoder | None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, out
        self.narrow = config.precision == "bfloat16" and has_bfloat16_lstm()
        if config.precision == "bfloat16" and not self.narrow:
            warnings.warn(
                "PyTorch has no bfloat16 LSTM for this CPU; training in float32.", stacklevel=4
            )
        self.network = Network.build(config.network, vectors, encoder)
        self.model = self.network.model
        identity = {
            "config": _without_path(asdict(config)),
            "questions": questions,
            "words": len(vectors.words),
        }
        self.state = TrainingState(
            *(self.model, out, identity),
            learning_rate=config.learning_rate,
            weight_decay=1e-4,
            clip=config.clip,
            mean=config.mean,
        )
        self.best = dict.fromkeys(BLOCKS[config.network.layout], (-1.0, self.state.mean))
        self.steps = config.epochs * (questions // config.batch_size)
        self.epoch = self.stale = 0
        self.epochs: list[dict[str, Any]] = []
        if found := self.state.resume(_Progress):
            progress, held = found
            self.epoch, self.epochs = progress["epoch"], progress["epochs"]
            self.stale = progress["stale"]
            for block, score_ in progress["best"].items():
                start = f"best/{block}/"
                weights = {k[len(start) :]: v for k, v in held.items() if k.startswith(start)}
                self.best[block] = score_, weights

    def train_epoch(
        self,
        questions: Sequence[Labelled],
        development: Sequence[Labelled],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Epoch:
        config, state = self.config, self.state
        rng = random.Random(f"{config.seed}:{self.epoch}")
        chosen = batches(questions, config.batch_size, 50, _size, rng)
        # Every epoch's dropout is its own, whether or not the run was resumed before it.
        torch.manual_seed(config.seed * 100_003 + self.epoch)
        began = time.process_time()
        means, _ = state.train(
            chosen,
            self._losses,
            lambda step: _pace(step / self.steps),
            frozen=WORDS[config.network.layout] if self.epoch < config.frozen_epochs else "",
            on_step=on_step and (lambda: on_step(state.step, self.steps)),
        )
        scores = self._score(development)
        self.epoch += 1
        row = Epoch(self.epoch, means, scores, time.process_time() - began)
        self.epochs.append(asdict(row))
        progress = {
            "epoch": self.epoch,
            "stale": self.stale,
            "best": {block: held for block, (held, _) in self.best.items()},
            "epochs": self.epochs,
        }
        best = {f"best/{b}/{k}": v for b, (_, kept) in self.best.items() for k, v in kept.items()}
        state.save(f"epoch-{self.epoch}.safetensors", self.epochs, progress, best)
        return row

    def _losses(self, items: Sequence[Labelled]) -> dict[str, torch.Tensor]:
        network = self.network
        batch = batch_of([item.question for item in items], network.vocabulary, network.encoder)
        targets = targets_of(items)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.narrow):
            states = self.model.encode(batch, targets)
            return losses(self.model, states, targets, batch.column_mask, self.config.alpha)

    def _score(self, development: Sequence[Labelled]) -> dict[str, float]:
        """Scores the mean weights, and keeps those of each block that are the best so far."""
        own = self.state.put(self.state.mean)
        self.model.eval()
        scores = score(predict(self.network, development, greedy=True), development).to_row()
        self.state.put(own)
        found = {name: float(value) for name, value in scores.items() if value is not None}
        improved = False
        for block, (held, _) in self.best.items():
            if found[block] > held:
                mean = {k: v.clone() for k, v in self.state.mean.items()}
                self.best[block] = found[block], mean
                improved = True
        self.stale = 0 if improved else self.stale + 1
        return found

    def finish(
        self,
        info: dict[str, Any],
        development: Sequence[Labelled],
        databases: Mapping[str, Database] | None,
    ) -> Network:
        """Saves the network with the best weights of each block and removes the state."""
        blocks = BLOCKS[self.config.network.layout]
        chosen = dict(self.state.mean)
        for block, (_, weights) in self.best.items():
            pattern = re.compile(blocks[block])
            chosen.update({k: v for k, v in weights.items() if pattern.search(k)})
        self.state.put(chosen)
        self.model.eval()
        info |= {"training": asdict(self.config), "best": {b: s for b, (s, _) in self.best.items()}}
        network = calibrated(replace(self.network, info=info), development, databases)
        network.save(self.out)
        self.state.clear()
        return network


class _Progress(Progress):
    epoch: int
    stale: int
    best: dict[str, float]
    epochs: list[dict[str, Any]]


def _without_path(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the encoder's path, which may be moved between runs."""
    network = config["network"]
    encoder = network["encoder"] and network["encoder"] | {"path": ""}
    return config | {"network": network | {"encoder": encoder}}


def _pace(done: float) -> float:
    """The share of the learning rate: a cosine up for a tenth of the run, then down to 0."""
    warm = 0.1
    phase = 1 - (done + 0.01) / (warm + 0.01) if done < warm else (done - warm) / (1 - warm)
    return (1 + math.cos(math.pi * phase)) / 2


def _size(question: Labelled) -> tuple[int, int]:
    """Questions of similar size make a batch with little padding."""
    return len(question.question.table.columns) // 2, len(question.question.tokens)
