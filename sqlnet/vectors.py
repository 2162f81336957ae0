"""Word vectors: read from a file, and looked up with a fallback for unknown words.

Files: ``.npz`` with arrays ``words`` and ``vectors``, or the text form of GloVe and word2vec (a
word and its numbers a line; word2vec's first line, the sizes, is passed over).
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codegen.errors import InputError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Vectors of lower-cased words; ``matrix`` is [words, width], float32."""

    words: tuple[str, ...]
    matrix: np.ndarray

    @property
    def width(self) -> int:
        """The length of one vector."""
        return self.matrix.shape[1]


def read_vectors(path: str | Path, only: Container[str] | None = None) -> WordVectors:
    """Reads vectors, of the words in ``only`` if given; the first of several of one word counts.

    Raises:
        InputError: if the file can't be read, or is none of the known forms.
    """
    import numpy as np

    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                words = [str(word) for word in arrays["words"]]
                matrix = arrays["vectors"].astype(np.float32)
        else:
            words, matrix = _read_text(path)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} holds no word vectors ({error}).",
            "Give an .npz with words and vectors, or GloVe's or word2vec's text form.",
        ) from None
    if matrix.ndim != 2 or len(words) != len(matrix) or not len(words):
        raise InputError(f"{path} holds {len(words)} words and vectors of shape {matrix.shape}.")
    rows: dict[str, int] = {}
    for number, word in enumerate(words):
        if only is None or word.lower() in only:
            rows.setdefault(word.lower(), number)
    return WordVectors(tuple(rows), np.ascontiguousarray(matrix[list(rows.values())]))


def chosen_vectors(found: WordVectors, needed: Collection[str], most: int) -> WordVectors:
    """The vectors of the needed words, and the first others of the file up to ``most`` in all."""
    import numpy as np

    wanted = set(needed)
    first = [i for i, word in enumerate(found.words) if word in wanted]
    others = [i for i, word in enumerate(found.words) if word not in wanted]
    rows = sorted([*first, *others[: max(0, most - len(first))]])
    return WordVectors(
        tuple(found.words[i] for i in rows), np.ascontiguousarray(found.matrix[rows])
    )


def random_vectors(words: Iterable[str], width: int, seed: int) -> WordVectors:
    """Small random vectors, where there is no file; training gives them their meaning."""
    import numpy as np

    held = tuple(dict.fromkeys(words))
    rng = np.random.default_rng(seed)
    return WordVectors(held, rng.normal(0, 0.3, (len(held), width)).astype(np.float32))


def _read_text(path: Path) -> tuple[list[str], np.ndarray]:
    import numpy as np

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
