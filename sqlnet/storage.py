"""Storage and training shared by both networks: a directory on disk, resumption, batches.

A directory contains ``model.safetensors`` (float16), ``words.txt`` (one word per line, the first
is row 1 of the vectors) and ``config.json``. A run's ``state/`` has its weights, their running mean
and Adam's moments in one tensor file, and ``progress.json``, written last.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from typing_extensions import TypedDict

from codegen.core.errors import ConfigError, InputError, ModelError, ResumeError
from codegen.core.paths import child, own_folder, refuse_foreign, refuse_links, write_atomic
from codegen.core.records import conform, read_json
from codegen.sqlnet.words import one_line

FORMAT = 1
Item = TypeVar("Item")


def check_range(config: object, *above_zero: str, below_one: str) -> None:
    """Raises a :class:`ConfigError` for a field that is not above 0, or not in [0, 1)."""
    for name in above_zero:
        if getattr(config, name) <= 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be above 0.")
    if not 0 <= (share := getattr(config, below_one)) < 1:
        raise ConfigError(f"{below_one} is {share}; it must be in [0, 1).")


def save_network(path: Path, model: nn.Module, words: Sequence[str], row: dict[str, Any]) -> None:
    """Writes a network's directory with configuration ``row``; the weights last."""
    path.mkdir(parents=True, exist_ok=True)
    write_atomic(path / "words.txt", "".join(f"{word}\n" for word in words))
    write_atomic(path / "config.json", json.dumps({"format": FORMAT, **row}, indent=2) + "\n")
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    write_atomic(path / "model.safetensors", save(weights))


def read_network(path: Path) -> tuple[Any, tuple[str, ...], dict[str, Tensor]]:
    """Reads the configuration, the words and the weights (float32) of a directory."""
    row = json.loads((path / "config.json").read_text("utf-8"))
    words = tuple((path / "words.txt").read_text("utf-8").split("\n")[:-1])
    return row, words, {k: v.float() for k, v in load_file(path / "model.safetensors").items()}


@contextmanager
def damage_named(path: Path, kind: str, command: str) -> Iterator[None]:
    """Converts errors from reading a directory into one-line errors.

    Args:
        kind: expected contents of the directory.

    Raises:
        ModelError: if it has no network, or a corrupt one.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} has no {kind} ({Path(error.filename or '').name} is missing).",
            f"Pass a directory written by `{command}`.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"The {kind} in {path} cannot be read: {one_line(error)}.") from None


class TrainingProgress(TypedDict):
    """Progress of a run: its identity, tensor file and completed steps."""

    identity: Any
    file: str
    step: int


P = TypeVar("P", bound=TrainingProgress)


class Optimization(Protocol):
    """Settings of AdamW, gradient clipping and the running mean."""

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""
        ...

    @property
    def clip(self) -> float:
        """Maximum norm of the gradient."""
        ...

    @property
    def mean(self) -> float:
        """Decay of the running mean, in [0, 1)."""
        ...


class TrainingState:
    """A model in training, with completed steps (``step``) and the weights' running ``mean``."""

    def __init__(
        self,
        model: nn.Module,
        out: Path,
        identity: Mapping[str, Any],
        config: Optimization,
        *,
        weight_decay: float,
    ) -> None:
        """Starts from a new model.

        Args:
            identity: settings that a resumed run must share.
        """
        self.model, self.out, self.folder = model, out, out / "state"
        self._identity = json.loads(json.dumps(identity))
        self._config = config
        weights = {k: v for k, v in model.named_parameters() if v.requires_grad}
        self._weights = {k: v.detach() for k, v in weights.items()}  # shares the model's memory
        self.mean = {k: v.clone() for k, v in self._weights.items()}
        self._optimizer = torch.optim.AdamW(
            list(weights.values()), lr=config.learning_rate, weight_decay=weight_decay, fused=True
        )
        self.step = 0

    def train(
        self,
        chosen: Sequence[list[Item]],
        losses: Callable[[list[Item]], Mapping[str, Tensor]],
        pace: Callable[[int], float],
        *,
        frozen: str = "",
        on_step: Callable[[], None] | None = None,
    ) -> tuple[dict[str, float], float]:
        """Runs a step on each batch.

        Args:
            losses: returns a batch's losses by name, whose sum is minimized.
            pace: returns a step's learning-rate factor.
            frozen: name of a weight that is not trained; "" for none.

        Returns:
            The mean of each loss, and CPU seconds.

        Raises:
            InputError: if a loss is not a number.
        """
        began, means = time.process_time(), {}
        self.model.train()
        for batch in chosen:
            found = losses(batch)
            self._update(found, pace(self.step), frozen)
            for name, loss in found.items():
                means[name] = means.get(name, 0.0) + loss.item() / len(chosen)
            if on_step:
                on_step()
        if not all(map(math.isfinite, means.values())):
            raise InputError("The loss is not a number.", "Lower the learning rate.")
        return means, time.process_time() - began

    def _update(self, losses: Mapping[str, Tensor], share: float, frozen: str) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        if frozen:
            self.model.get_parameter(frozen).grad = None
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._config.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * share
        self._optimizer.step()
        self.step += 1
        pace = 1 - min(self._config.mean, (1 + self.step) / (10 + self.step))
        for name, weight in self._weights.items():
            self.mean[name].lerp_(weight, pace)

    def put(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Replaces the model's weights and returns the old ones."""
        before = {k: v.clone() for k, v in self._weights.items()}
        for name, weight in self._weights.items():
            weight.copy_(weights[name])
        return before

    def save(
        self,
        name: str,
        curve: Sequence[Mapping[str, Any]],
        more: Mapping[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Writes the state, and ``metrics.jsonl`` next to it.

        Args:
            name: name of the tensor file; older ones with the same prefix are deleted.
            more: extra fields of ``progress.json``.
            tensors: extra tensors to store.
        """
        kept = {f"weights/{k}": v for k, v in self._weights.items()}
        kept |= {f"mean/{k}": v for k, v in self.mean.items()} | {**(tensors or {})}
        for number, moments in self._optimizer.state_dict()["state"].items():
            kept |= {f"adam/{number}/{k}": v for k, v in moments.items()}
        own_folder(self.folder)
        write_atomic(self.folder / name, save({k: v.clone() for k, v in kept.items()}))
        progress = TrainingProgress(identity=self._identity, file=name, step=self.step)
        write_atomic(self.folder / "progress.json", json.dumps({**progress, **more}) + "\n")
        lines = "".join(json.dumps(row) + "\n" for row in curve)
        write_atomic(self.out / "metrics.jsonl", lines)
        for old in self.folder.glob(f"{name.partition('-')[0]}-*.safetensors"):
            if old.name != name:
                old.unlink()

    def resume(self, kind: type[P]) -> tuple[P, dict[str, Tensor]] | None:
        """Restores the state written by :meth:`save`.

        Returns:
            ``progress.json`` as a ``kind``, and all tensors; None if there is nothing to resume.

        Raises:
            ResumeError: if the state is corrupt or belongs to another run.
            InputError: if ``out`` contains files that are not from a run.
        """
        path = self.folder / "progress.json"
        remedy = f"Delete {self.folder} to start again."
        refuse_links(self.folder)
        if not path.exists():
            if not self._holds_a_network():
                names = ("words.txt", "config.json", "model.safetensors", "metrics.jsonl")
                refuse_foreign(self.out, *names)
            return None
        try:
            progress = conform(kind, json.loads(path.read_text("utf-8")))
        except (ValueError, RecursionError) as error:
            raise ResumeError(f"{path} is corrupt: {error}.", remedy) from None
        if progress["identity"] != self._identity:
            raise ResumeError(
                f"{self.out} has a run with another configuration or other questions.",
                "Choose another --out, or restore the old settings.",
            )
        file = child(self.folder, progress["file"], str(path))
        try:
            held = load_file(file)
            self._restore(held)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise ResumeError(f"{file} is corrupt: {one_line(error)}.", remedy) from None
        self.step = progress["step"]
        return progress, held

    def _holds_a_network(self) -> bool:
        try:
            row = read_json(self.out / "config.json", 2**20)
        except (OSError, ValueError):
            return False
        return isinstance(row, dict) and row.get("format") == FORMAT

    def _restore(self, held: Mapping[str, Tensor]) -> None:
        self.put({name: held[f"weights/{name}"] for name in self._weights})
        self.mean = {name: held[f"mean/{name}"] for name in self._weights}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in held.items():
            if key.startswith("adam/"):
                _, number, name = key.split("/")
                moments.setdefault(int(number), {})[name] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})

    def clear(self) -> None:
        """Deletes the state of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def batches(
    items: Sequence[Item], size: int, window: int, key: Callable[[Item], Any], rng: random.Random
) -> list[list[Item]]:
    """Returns an epoch's batches, sorted by ``key`` within windows of several batches to reduce
    padding. The last items, which do not fill a batch, are omitted.
    """
    order = list(range(len(items)))
    rng.shuffle(order)
    near = [
        i
        for start in range(0, len(order), window * size)
        for i in sorted(order[start : start + window * size], key=lambda i: key(items[i]))
    ]
    starts = list(range(0, len(near) - size + 1, size))
    rng.shuffle(starts)
    return [[items[i] for i in near[start : start + size]] for start in starts]
