"""Trains a network on questions with queries: one thread, resumable, with curves.

Adam with warm-up and a cosine to zero, gradients clipped, and a running mean of the weights, which
is what is scored and kept. After each epoch the development questions are scored, the state is
saved, and a run that was killed resumes from there with the same weights. Training ends early once
the query match has not risen for ``patience`` epochs. The paper's separate modules are selected a
block each, as the released code does (:data:`BLOCKS`); the shared layout is one block.
"""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from codegen.errors import ConfigError, InputError, ResumeError
from codegen.paths import child, own_folder, refuse_links
from codegen.records import write_atomic
from codegen.schema import conform
from codegen.sqlnet.calibration import Calibration, calibration_error, fit, join
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.examples import Labelled, batch_of, targets_of
from codegen.sqlnet.layout import losses
from codegen.sqlnet.metrics import outcomes, predict, score
from codegen.sqlnet.network import Network, NetworkConfig
from codegen.sqlnet.vectors import ContextEncoder, WordVectors

# Which weights serve which measure: the best of each is kept on its own.
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
        frozen_epochs: epochs at the beginning in which the word vectors are not trained; the paper
            trains them in a second stage.
        precision: ``bfloat16`` runs most products in that type, with weights and their mean in
            float32; faster where the processor has it. On a CPU for which PyTorch has no LSTM in
            that type (:func:`has_bfloat16_lstm`), training warns and computes in float32.
        mean: how slowly the running mean of the weights moves, in [0, 1).
        patience: epochs without a better query match that end the training.
        seed: of all randomness.
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
        for name in ("epochs", "batch_size", "learning_rate", "alpha", "clip", "patience"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if self.frozen_epochs < 0:
            raise ConfigError(f"frozen_epochs is {self.frozen_epochs}; it must not be below 0.")
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"Unknown precision {self.precision!r}; choose float32 or bfloat16.")
        if not 0 <= self.mean < 1:
            raise ConfigError(f"mean is {self.mean}; it must lie in [0, 1).")


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
        config: how.
        vectors: of words; training starts from them.
        questions: to learn from.
        development: to choose the epoch by.
        out: gets the network (see :mod:`codegen.sqlnet.network`), ``metrics.jsonl``, and
            ``state/`` while the run lasts.
        info: kept with the network: where the data comes from.
        databases: of the development questions' tables, if they have rows; see :func:`calibrated`.
        encoder: the one that the configuration names, if it names one; each text is read by it
            once, before the first step, unless it remembers them already.
        on_epoch: called after each epoch.
        on_step: called after each step with the steps done and those of all epochs.

    Raises:
        InputError: if there are fewer questions than make a batch, or none to choose by.
        ResumeError: if ``out`` holds a run with another configuration or other questions.
    """
    if len(questions) < config.batch_size or not development:
        raise InputError(
            f"{len(questions)} questions to train on and {len(development)} to choose by are too"
            " few.",
            f"Give at least {config.batch_size} and 1.",
        )
    run = _Run(config, vectors, len(questions), Path(out), encoder)
    if encoder:
        encoder.remember(item.question for item in (*questions, *development))
    while run.epoch < config.epochs and not run.is_stale:
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

    With databases of the questions' tables, the confidence of guided queries is calibrated too. The
    curves are fitted on every second of the questions. The expected calibration error on the
    others, without and with them, is kept in ``info`` by slot.
    """
    found = outcomes(network, development, databases)
    calibration, rest = fit(found[::2]), join(found[1::2])
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
    """A training run and its state on disk."""

    def __init__(
        self,
        config: TrainingConfig,
        vectors: WordVectors,
        questions: int,
        out: Path,
        encoder: ContextEncoder | None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out, self.folder = config, out, out / "state"
        self.narrow = config.precision == "bfloat16" and has_bfloat16_lstm()
        if config.precision == "bfloat16" and not self.narrow:
            warnings.warn(
                "PyTorch has no bfloat16 LSTM for this CPU; training in float32.", stacklevel=4
            )
        self.network = Network.build(config.network, vectors, encoder)
        self.model = self.network.model
        self.mean = {k: v.clone() for k, v in self._trained()}
        self.best = dict.fromkeys(BLOCKS[config.network.layout], (-1.0, self.mean))
        self.optimizer = torch.optim.AdamW(
            [weight for weight in self.model.parameters() if weight.requires_grad],
            lr=config.learning_rate,
            weight_decay=1e-4,
            fused=True,
        )
        self.steps = config.epochs * (questions // config.batch_size)
        self.epoch = self.step = self.stale = 0
        self.epochs: list[dict[str, Any]] = []
        self.identity = {
            "config": _without_path(asdict(config)),
            "questions": questions,
            "words": len(vectors.words),
        }
        self._resume()

    @property
    def is_stale(self) -> bool:
        return self.stale >= self.config.patience

    def _trained(self) -> list[tuple[str, Tensor]]:
        return [(k, v.detach()) for k, v in self.model.named_parameters() if v.requires_grad]

    def train_epoch(
        self,
        questions: Sequence[Labelled],
        development: Sequence[Labelled],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Epoch:
        began = time.process_time()
        totals: dict[str, float] = {}
        batches = list(_batches(questions, self.config, self.epoch))
        # Every epoch's dropout is its own, whether or not the run was resumed before it.
        torch.manual_seed(self.config.seed * 100_003 + self.epoch)
        self.model.train()
        for batch in batches:
            for name, value in self._step(batch).items():
                totals[name] = totals.get(name, 0.0) + value / len(batches)
            if on_step:
                on_step(self.step, self.steps)
        if not all(math.isfinite(value) for value in totals.values()):
            raise InputError(
                f"The loss of epoch {self.epoch + 1} is not a number.", "Lower the learning rate."
            )
        scores = self._score(development)
        self.epoch += 1
        row = Epoch(self.epoch, totals, scores, time.process_time() - began)
        self.epochs.append(asdict(row))
        self._save()
        return row

    def _step(self, items: Sequence[Labelled]) -> dict[str, float]:
        network = self.network
        batch = batch_of([item.question for item in items], network.vocabulary, network.encoder)
        targets = targets_of(items)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.narrow):
            parts = losses(
                self.model,
                self.model.encode(batch, targets),
                targets,
                batch.column_mask,
                self.config.alpha,
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        if self.epoch < self.config.frozen_epochs:
            self.model.get_parameter(WORDS[self.config.network.layout]).grad = None
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * _pace(self.step / self.steps)
        self.optimizer.step()
        self.step += 1
        pace = 1 - min(self.config.mean, (1 + self.step) / (10 + self.step))
        for name, weight in self._trained():
            self.mean[name].lerp_(weight, pace)
        return {name: part.item() for name, part in parts.items()}

    def _score(self, development: Sequence[Labelled]) -> dict[str, float]:
        """Scores the mean weights, and keeps those of each block that are the best so far."""
        scores = self._with_weights(
            self.mean, lambda: score(predict(self.network, development, greedy=True), development)
        ).to_row()
        found = {name: float(value) for name, value in scores.items() if value is not None}
        improved = False
        for block, (held, _) in self.best.items():
            if found[block] > held:
                self.best[block] = found[block], {k: v.clone() for k, v in self.mean.items()}
                improved = True
        self.stale = 0 if improved else self.stale + 1
        return found

    def _with_weights(self, weights: Mapping[str, Tensor], do: Callable[[], Any]) -> Any:
        own = {k: v.clone() for k, v in self._trained()}
        self._put(weights)
        self.model.eval()
        try:
            return do()
        finally:
            self._put(own)

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in self._trained():
            weight.copy_(weights[name])

    def finish(
        self,
        info: dict[str, Any],
        development: Sequence[Labelled],
        databases: Mapping[str, Database] | None,
    ) -> Network:
        """The network with the best weights of each block, saved; the state is removed."""
        blocks = BLOCKS[self.config.network.layout]
        chosen = dict(self.mean)
        for block, (_, weights) in self.best.items():
            pattern = re.compile(blocks[block])
            chosen.update({k: v for k, v in weights.items() if pattern.search(k)})
        self._put(chosen)
        self.model.eval()
        info |= {"training": asdict(self.config), "best": {b: s for b, (s, _) in self.best.items()}}
        network = calibrated(replace(self.network, info=info), development, databases)
        network.save(self.out)
        shutil.rmtree(self.folder, ignore_errors=True)
        return network

    def _save(self) -> None:
        """Writes the state; ``progress.json`` last, so that a half-written one is not read."""
        tensors = {f"weights/{k}": v for k, v in self._trained()}
        tensors |= {f"mean/{k}": v for k, v in self.mean.items()}
        for block, (_, weights) in self.best.items():
            tensors |= {f"best/{block}/{k}": v for k, v in weights.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{number}/{k}": v for k, v in moments.items()}
        own_folder(self.folder)
        name = f"epoch-{self.epoch}.safetensors"
        save_file({k: v.clone() for k, v in tensors.items()}, self.folder / name)
        progress: _Progress = {
            "identity": self.identity,
            "file": name,
            "epoch": self.epoch,
            "step": self.step,
            "stale": self.stale,
            "best": {block: held for block, (held, _) in self.best.items()},
            "epochs": self.epochs,
        }
        write_atomic(self.folder / "progress.json", json.dumps(progress) + "\n")
        write_atomic(
            self.out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.epochs)
        )
        for old in self.folder.glob("epoch-*.safetensors"):
            if old.name != name:
                old.unlink()

    def _resume(self) -> None:
        path = self.folder / "progress.json"
        refuse_links(self.folder)
        if not path.exists():
            return
        progress = self._progress(path)
        if progress["identity"] != json.loads(json.dumps(self.identity)):
            raise ResumeError(
                f"{self.out} holds a run with another configuration or other questions.",
                "Choose another --out, or restore what has changed.",
            )
        file = child(self.folder, progress["file"], str(path))
        try:
            self._restore(progress, load_file(file))
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise ResumeError(
                f"{file} is damaged: {' '.join(str(error).split())[:200]}.",
                f"Delete {self.folder} to start again.",
            ) from None

    def _restore(self, progress: _Progress, held: Mapping[str, Tensor]) -> None:
        def group(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)}

        self._put(group("weights/"))
        self.mean = group("mean/")
        self.best = {b: (s, group(f"best/{b}/")) for b, s in progress["best"].items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in group("adam/").items():
            number, name = key.split("/")
            moments.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.stale, self.epochs = progress["stale"], progress["epochs"]

    def _progress(self, path: Path) -> _Progress:
        try:
            return conform(_Progress, json.loads(path.read_text("utf-8")))
        except ValueError as error:
            raise ResumeError(
                f"{path} is damaged: {error}.", f"Delete {self.folder} to start again."
            ) from None


class _Progress(TypedDict):
    identity: Any
    file: str
    epoch: int
    step: int
    stale: int
    best: dict[str, float]
    epochs: list[dict[str, Any]]


def _without_path(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the encoder's path: a run may resume after that was moved."""
    network = config["network"]
    encoder = network["encoder"] and network["encoder"] | {"path": ""}
    return config | {"network": network | {"encoder": encoder}}


def _pace(done: float) -> float:
    """The learning rate's share of the highest: a cosine up over a tenth of the run, then down."""
    warm = 0.1
    phase = 1 - (done + 0.01) / (warm + 0.01) if done < warm else (done - warm) / (1 - warm)
    return (1 + math.cos(math.pi * phase)) / 2


def _size(question: Labelled) -> tuple[int, int]:
    """What questions of a batch should share, so that little is padded."""
    return len(question.question.table.columns) // 2, len(question.question.tokens)


def _batches(
    questions: Sequence[Labelled], config: TrainingConfig, epoch: int
) -> Iterator[list[Labelled]]:
    """An epoch's batches, of questions of like size: a function of the seed and the epoch."""
    rng = random.Random(f"{config.seed}:{epoch}")
    order = list(range(len(questions)))
    rng.shuffle(order)
    size, window = config.batch_size, 50 * config.batch_size
    near = [
        i
        for start in range(0, len(order), window)
        for i in sorted(order[start : start + window], key=lambda i: _size(questions[i]))
    ]
    starts = list(range(0, len(near) - size + 1, size))
    rng.shuffle(starts)
    for start in starts:
        yield [questions[i] for i in near[start : start + size]]
