"""A trained network with its vocabulary, kept in a directory (:mod:`codegen.sqlnet.storage`).

An encoder (:mod:`codegen.sqlnet.vectors`) is not part of the directory: the configuration holds its
path and digest, and it is looked for there and in the directory's folder ``encoder``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from codegen.errors import ConfigError, ModelError
from codegen.sqlnet.decode import Slots, slots
from codegen.sqlnet.examples import batch_of
from codegen.sqlnet.features import EncodedQuestion
from codegen.sqlnet.layout import Layout
from codegen.sqlnet.paper import PaperSQLNet
from codegen.sqlnet.shared import SharedSQLNet
from codegen.sqlnet.storage import damage_named, read_network, save_network
from codegen.sqlnet.trust import Calibration, calibration_from_row
from codegen.sqlnet.vectors import ContextEncoder, EncoderConfig, WordVectors

LayoutName = Literal["shared", "paper"]
LAYOUTS = {"shared": SharedSQLNet, "paper": PaperSQLNet}


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What builds a network: its layout, the width of its states, dropout in training, and the
    encoder whose vectors the layout ``shared`` reads too, if any.
    """

    layout: LayoutName = "shared"
    hidden: int = 200
    dropout: float = 0.3
    encoder: EncoderConfig | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(
                f"Unknown layout {self.layout!r}.", f"Choose one of: {', '.join(LAYOUTS)}."
            )
        if self.hidden < 8 or self.hidden % 4:
            raise ConfigError(f"hidden is {self.hidden}; it must be a multiple of 4, at least 8.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; it must lie in [0, 1).")
        if self.encoder and self.layout != "shared":
            raise ConfigError(
                f"The layout {self.layout!r} reads no encoder's vectors.", 'Take "shared".'
            )


@dataclass(frozen=True, slots=True)
class Network:
    """A network and what is needed to use it.

    Attributes:
        model: an ``nn.Module`` of one of the layouts.
        words: its vocabulary; word i has row i + 1 of the vectors.
        info: about its training: data, seed, figures.
        calibration: turns its probabilities into confidence.
        encoder: the one that ``config`` names, if any.
    """

    model: Any
    words: tuple[str, ...]
    config: NetworkConfig
    info: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration = Calibration()
    encoder: ContextEncoder | None = None
    vocabulary: Mapping[str, int] = field(init=False)
    vectors: torch.Tensor = field(init=False)  # [words + 1, width]; row 0 is of unknown words

    def __post_init__(self) -> None:
        rows = {word: row for row, word in enumerate(self.words, 1)}
        object.__setattr__(self, "vocabulary", rows)
        weights = self.model.named_parameters()
        vectors = next(weight for name, weight in weights if name.endswith("word.weight"))
        object.__setattr__(self, "vectors", vectors.detach())

    @classmethod
    def build(
        cls, config: NetworkConfig, vectors: WordVectors, encoder: ContextEncoder | None = None
    ) -> Network:
        """A network with random weights; the seed is torch's.

        Raises:
            ConfigError: if the encoder is not the one of the configuration.
        """
        if (encoder.config if encoder else None) != config.encoder:
            raise ConfigError("The encoder is not the one that the network's configuration names.")
        rows = torch.from_numpy(vectors.matrix)
        matrix = torch.cat([torch.zeros(1, rows.shape[1]), rows])
        model = _layout(config, matrix)
        return cls(model, vectors.words, config, encoder=encoder)

    @classmethod
    def load(cls, path: str | Path, encoder: str | Path | None = None) -> Network:
        """Loads a directory.

        Args:
            encoder: where the encoder is that the network was trained with, if it was moved.

        Raises:
            ModelError: if the directory holds no network or a damaged one, or its encoder is
                missing or another one.
            ConfigError: if an encoder is given and the network reads none.
        """
        path = Path(path)
        with damage_named(path, "SQL network", "codegen sqlnet train"):
            row, words, weights = read_network(path)
            config = _config_from_row(row["network"])
            model = _layout(config, torch.zeros(len(words) + 1, row["word_width"]))
            model.load_state_dict(weights)
        calibration = calibration_from_row(row.get("calibration", {}))
        found = _encoder_of(path, config.encoder, encoder)
        return cls(model.eval(), words, config, row.get("info", {}), calibration, found)

    def save(self, path: str | Path) -> None:
        """Writes the directory; the weights last."""
        row = {"network": asdict(self.config), "word_width": self.model.word_width}
        row |= {"info": dict(self.info), "calibration": self.calibration.to_row()}
        save_network(Path(path), self.model, self.words, row)

    def read(
        self,
        encoded: Sequence[EncodedQuestion],
        *,
        beam: int = 1,
        attention: bool = False,
    ) -> list[Slots]:
        """The slots of questions; see :func:`codegen.sqlnet.decode.slots`."""
        batch = batch_of(encoded, self.vocabulary, self.encoder)
        tables = [item.table for item in encoded]
        layout: Layout = self.model
        return slots(layout, batch, tables, beam=beam, attention=attention)

    def likeness(self, one: str, other: str) -> float:
        """The cosine of two words' vectors; 0 for a word that has none."""
        rows = [self.vocabulary.get(word, 0) for word in (one, other)]
        if not all(rows):
            return 0.0
        a, b = self.vectors[rows]
        return float(torch.cosine_similarity(a, b, dim=0))

    @property
    def parameters(self) -> int:
        """The number of trained weights."""
        module: nn.Module = self.model
        return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def _layout(config: NetworkConfig, vectors: torch.Tensor) -> nn.Module:
    added = {"context_width": config.encoder.width} if config.encoder else {}
    return LAYOUTS[config.layout](vectors, hidden=config.hidden, dropout=config.dropout, **added)


def _config_from_row(row: Mapping[str, Any]) -> NetworkConfig:
    encoder = row.get("encoder")
    return NetworkConfig(**{**row, "encoder": EncoderConfig(**encoder) if encoder else None})


def _encoder_of(
    path: Path, wanted: EncoderConfig | None, given: str | Path | None
) -> ContextEncoder | None:
    """The encoder of the network in ``path``: from ``given``, the path of its training, or its
    folder ``encoder``.
    """
    if wanted is None:
        if given is not None:
            raise ConfigError(
                f"The SQL network in {path} reads no encoder's vectors.", "Leave the encoder out."
            )
        return None
    remedy = "Give the directory of the one it was trained with: --encoder DIR, or encoder=DIR."
    if given is None:
        places = [Path(wanted.path), path / "encoder"]
        given = next((place for place in places if place.is_dir()), None)
        if given is None:
            raise ModelError(
                f"The encoder of the SQL network in {path} is no longer in {wanted.path}.", remedy
            )
    encoder = ContextEncoder.load(given)
    found = encoder.config
    if found.width != wanted.width:
        raise ModelError(
            f"The encoder in {given} gives vectors of width {found.width}; the SQL network in"
            f" {path} reads {wanted.width}.",
            remedy,
        )
    if found.digest != wanted.digest:
        raise ModelError(
            f"The encoder in {given} has other weights or words than the one that the SQL network"
            f" in {path} was trained with.",
            remedy,
        )
    return encoder
