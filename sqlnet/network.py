"""A trained network with its vocabulary, and the directory it is kept in.

A directory holds ``model.safetensors`` (weights and word vectors, float16), ``words.txt`` (one word
a line, the first with row 1 of the vectors) and ``config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from codegen.errors import ConfigError, ModelError
from codegen.records import write_atomic
from codegen.sqlnet.calibration import Calibration, calibration_from_row
from codegen.sqlnet.decode import Slots, slots
from codegen.sqlnet.examples import Asked, batch_of
from codegen.sqlnet.layout import Layout
from codegen.sqlnet.paper import PaperSQLNet
from codegen.sqlnet.shared import SharedSQLNet
from codegen.sqlnet.vectors import WordVectors

LayoutName = Literal["shared", "paper"]
LAYOUTS = {"shared": SharedSQLNet, "paper": PaperSQLNet}
FORMAT = 1


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What builds a network: its layout, the width of a state, dropout in training."""

    layout: LayoutName = "shared"
    hidden: int = 200
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(
                f"There is no layout {self.layout!r}.", f"There are: {', '.join(LAYOUTS)}."
            )
        if self.hidden < 8 or self.hidden % 4:
            raise ConfigError(f"hidden is {self.hidden}; it must be a multiple of 4, 8 at least.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; it must lie in [0, 1).")


@dataclass(frozen=True, slots=True)
class Network:
    """A network with all that it takes to use it.

    Attributes:
        model: an ``nn.Module`` of one of the layouts.
        words: its vocabulary; word i has row i + 1 of the vectors.
        config: what built it.
        info: what is known about its training: data, seed, figures.
        calibration: turns its probabilities into confidence.
    """

    model: Any
    words: tuple[str, ...]
    config: NetworkConfig
    info: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration = Calibration()
    vocabulary: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        rows = {word: row for row, word in enumerate(self.words, 1)}
        object.__setattr__(self, "vocabulary", rows)

    @classmethod
    def build(cls, config: NetworkConfig, vectors: WordVectors) -> Network:
        """A network with random weights; the seed is torch's."""
        rows = torch.from_numpy(vectors.matrix)
        matrix = torch.cat([torch.zeros(1, rows.shape[1]), rows])
        model = LAYOUTS[config.layout](matrix, hidden=config.hidden, dropout=config.dropout)
        return cls(model, vectors.words, config)

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Loads a directory.

        Raises:
            ModelError: if there is no network in it, or a damaged one.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(path)
        try:
            row = json.loads((path / "config.json").read_text("utf-8"))
            config = NetworkConfig(**row["network"])
            words = tuple((path / "words.txt").read_text("utf-8").split("\n")[:-1])
            weights = {k: v.float() for k, v in load_file(path / "model.safetensors").items()}
            model = LAYOUTS[config.layout](
                torch.zeros(len(words) + 1, row["word_width"]), hidden=config.hidden
            )
            model.load_state_dict(weights)
        except FileNotFoundError as error:
            raise ModelError(
                f"{path} holds no SQL network ({Path(error.filename or '').name} is missing).",
                "Give a directory that `codegen sqlnet train` made.",
            ) from None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"The SQL network in {path} can't be read: {reason}.") from None
        calibration = calibration_from_row(row.get("calibration", {}))
        return cls(model.eval(), words, config, row.get("info", {}), calibration)

    def save(self, path: str | Path) -> None:
        """Writes the directory; the weights last."""
        from safetensors.torch import save

        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        width = self.model.word_width
        row = {"format": FORMAT, "network": asdict(self.config), "word_width": width}
        row |= {"info": dict(self.info), "calibration": self.calibration.to_row()}
        write_atomic(path / "words.txt", "".join(f"{word}\n" for word in self.words))
        write_atomic(path / "config.json", json.dumps(row, indent=2) + "\n")
        weights = {
            name: tensor.half().contiguous() for name, tensor in self.model.state_dict().items()
        }
        partial = path / "model.safetensors.partial"
        partial.write_bytes(save(weights))
        partial.replace(path / "model.safetensors")

    def read(
        self,
        asked: Sequence[Asked],
        *,
        beam: int = 1,
        type_masks: bool = True,
        attention: bool = False,
    ) -> list[Slots]:
        """The slots of questions; see :func:`codegen.sqlnet.decode.slots`."""
        batch = batch_of(asked, self.vocabulary)
        tables = [item.table for item in asked]
        layout: Layout = self.model
        return slots(layout, batch, tables, beam=beam, type_masks=type_masks, attention=attention)

    @property
    def parameters(self) -> int:
        """The number of trained weights."""
        module: nn.Module = self.model
        return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
