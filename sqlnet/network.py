"""A trained network with its vocabulary, stored in a directory (:mod:`codegen.sqlnet.storage`)."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from codegen.core.errors import ConfigError, InputError, cannot_read
from codegen.sqlnet.decode import SlotScores, slots
from codegen.sqlnet.features import EncodedQuestion, collate
from codegen.sqlnet.layout import Layout
from codegen.sqlnet.paper_model import PaperSQLNet
from codegen.sqlnet.shared_encoder import SharedSQLNet
from codegen.sqlnet.storage import damage_named, read_network, save_network

LayoutName = Literal["shared", "paper"]
LAYOUTS = {"shared": SharedSQLNet, "paper": PaperSQLNet}


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Settings of a network: its layout, the width of its states, dropout in training."""

    layout: LayoutName = "shared"
    hidden: int = 200
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(
                f"Unknown layout {self.layout!r}.", f"Choose one of: {', '.join(LAYOUTS)}."
            )
        if self.hidden < 8 or self.hidden % 4:
            raise ConfigError(f"hidden is {self.hidden}; it must be a multiple of 4, at least 8.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; it must be in [0, 1).")


@dataclass(frozen=True, slots=True)
class SketchNetwork:
    """A network with its vocabulary.

    Attributes:
        model: ``nn.Module`` of one of the layouts.
        words: the vocabulary; word i has row i + 1 of the vectors.
        info: training information: data, seed, results.
    """

    model: Any
    words: tuple[str, ...]
    config: NetworkConfig
    info: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: Mapping[str, int] = field(init=False)
    vectors: torch.Tensor = field(init=False)  # [words + 1, width]; row 0 for unknown words

    def __post_init__(self) -> None:
        rows = {word: row for row, word in enumerate(self.words, 1)}
        object.__setattr__(self, "vocabulary", rows)
        weights = self.model.named_parameters()
        vectors = next(weight for name, weight in weights if name.endswith("word.weight"))
        object.__setattr__(self, "vectors", vectors.detach())

    @classmethod
    def build(cls, config: NetworkConfig, vectors: WordVectors) -> SketchNetwork:
        """Creates a network with random weights; the seed is torch's."""
        rows = torch.from_numpy(vectors.matrix)
        matrix = torch.cat([torch.zeros(1, rows.shape[1]), rows])
        model = _layout(config, matrix)
        return cls(model, vectors.words, config)

    @classmethod
    def load(cls, path: str | Path) -> SketchNetwork:
        """Loads a network from a directory.

        Raises:
            ModelError: if the directory has no network, or a corrupt one.
        """
        path = Path(path)
        with damage_named(path, "SQL network", "codegen sqlnet train"):
            row, words, weights = read_network(path)
            config = NetworkConfig(**row["network"])
            model = _layout(config, torch.zeros(len(words) + 1, row["word_width"]))
            model.load_state_dict(weights)
        return cls(model.eval(), words, config, row.get("info", {}))

    def save(self, path: str | Path) -> None:
        """Writes the directory; the weights last."""
        row = {"network": asdict(self.config), "word_width": self.model.word_width}
        row |= {"info": dict(self.info)}
        save_network(Path(path), self.model, self.words, row)

    def read(self, encoded: Sequence[EncodedQuestion], *, beam: int = 1) -> list[SlotScores]:
        """Returns the slots of questions; see :func:`codegen.sqlnet.decode.slots`."""
        batch = collate([item.features for item in encoded], self.vocabulary)
        tables = [item.table for item in encoded]
        layout: Layout = self.model
        return slots(layout, batch, tables, beam=beam)

    def likeness(self, one: str, other: str) -> float:
        """Returns the cosine of two words' vectors; 0 for a word without one."""
        rows = [self.vocabulary.get(word, 0) for word in (one, other)]
        if not all(rows):
            return 0.0
        a, b = self.vectors[rows]
        return float(torch.cosine_similarity(a, b, dim=0))

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        module: nn.Module = self.model
        return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def _layout(config: NetworkConfig, vectors: torch.Tensor) -> nn.Module:
    return LAYOUTS[config.layout](vectors, hidden=config.hidden, dropout=config.dropout)


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Vectors of lower-cased words; ``matrix`` is [words, width], float32."""

    words: tuple[str, ...]
    matrix: np.ndarray

    @property
    def width(self) -> int:
        """Length of one vector."""
        return self.matrix.shape[1]


def read_vectors(path: str | Path) -> WordVectors:
    """Reads word vectors; if a word has several, the first.

    Raises:
        InputError: if the file is unreadable or has an unknown format.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                words = [str(word) for word in arrays["words"]]
                matrix = arrays["vectors"].astype(np.float32)
        else:
            words, matrix = _read_text(path)
    except OSError as error:
        raise cannot_read(path, error) from None
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} has no word vectors ({error}).",
            "Pass an .npz with words and vectors, or GloVe's or word2vec's text format.",
        ) from None
    if matrix.ndim != 2 or len(words) != len(matrix) or not len(words):
        raise InputError(f"{path} has {len(words)} words and vectors of shape {matrix.shape}.")
    rows: dict[str, int] = {}
    for number, word in enumerate(words):
        rows.setdefault(word.lower(), number)
    return WordVectors(tuple(rows), np.ascontiguousarray(matrix[list(rows.values())]))


def chosen_vectors(found: WordVectors, needed: Collection[str], most: int) -> WordVectors:
    """Selects the needed words' vectors, then the first others, up to ``most`` in total."""
    wanted = set(needed)
    first = [i for i, word in enumerate(found.words) if word in wanted]
    others = [i for i, word in enumerate(found.words) if word not in wanted]
    rows = sorted([*first, *others[: max(0, most - len(first))]])
    return WordVectors(
        tuple(found.words[i] for i in rows), np.ascontiguousarray(found.matrix[rows])
    )


def random_vectors(words: Iterable[str], width: int, seed: int) -> WordVectors:
    """Returns small random vectors to train if there is no file."""
    held = tuple(dict.fromkeys(words))
    rng = np.random.default_rng(seed)
    return WordVectors(held, rng.normal(0, 0.3, (len(held), width)).astype(np.float32))


def _read_text(path: Path) -> tuple[list[str], np.ndarray]:
    words: list[str] = []
    rows: list[np.ndarray] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            word, _, numbers = line.rstrip("\n").partition(" ")
            if number == 1 and len(numbers.split()) == 1:
                continue  # word2vec's header: number of words, width
            row = np.fromstring(numbers, dtype=np.float32, sep=" ")
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"line {number} has {len(row)} numbers, not {len(rows[0])}")
            words.append(word)
            rows.append(row)
    return words, np.stack(rows) if rows else np.zeros((0, 0), np.float32)
