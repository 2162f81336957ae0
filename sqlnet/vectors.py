"""Word vectors: fixed ones from a file, or contextual ones from a frozen encoder.

Files: ``.npz`` with arrays ``words`` and ``vectors``, or the text format of GloVe and word2vec (a
word and its numbers per line; word2vec's first line, the sizes, is skipped).

With an encoder, each token of a question and each column name gets the mean of the last hidden
states of its word pieces, scaled to a root mean square of 1. The layout ``shared`` reads them
through a learned projection; the encoder is not trained. Questions and names are encoded
separately, where SQLova (Hwang et al. 2019, arXiv 1902.01069) encodes a question with all its
columns: columns thus stay a set, and a text is encoded once for all epochs and all tables.

An encoder is a directory that transformers' ``save_pretrained`` wrote, or a sentence-transformer
(Reimers and Gurevych 2019, arXiv 1908.10084), detected by its ``modules.json``; of it the first
``Transformer`` module is used.

Limits: safetensors weights, never a pickle; a fast tokenizer, which gives the offsets of word
pieces; no encoder-decoder models. Memory in training: 2 bytes a number, 768 a token for a width of
384.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codegen.errors import InputError, ModelError, cannot_read
from codegen.paths import plain_name
from codegen.sqlnet.features import Context, EncodedQuestion
from codegen.sqlnet.words import one_line
from codegen.vetting import vet_tokenizer, vetted_config


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Vectors of lower-cased words; ``matrix`` is [words, width], float32."""

    words: tuple[str, ...]
    matrix: np.ndarray

    @property
    def width(self) -> int:
        """The length of one vector."""
        return self.matrix.shape[1]


def read_vectors(path: str | Path) -> WordVectors:
    """Reads vectors; of several for one word, the first.

    Raises:
        InputError: if the file can't be read, or has an unknown format.
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
            f"{path} holds no word vectors ({error}).",
            "Give an .npz with words and vectors, or GloVe's or word2vec's text form.",
        ) from None
    if matrix.ndim != 2 or len(words) != len(matrix) or not len(words):
        raise InputError(f"{path} holds {len(words)} words and vectors of shape {matrix.shape}.")
    rows: dict[str, int] = {}
    for number, word in enumerate(words):
        rows.setdefault(word.lower(), number)
    return WordVectors(tuple(rows), np.ascontiguousarray(matrix[list(rows.values())]))


def chosen_vectors(found: WordVectors, needed: Collection[str], most: int) -> WordVectors:
    """The vectors of the needed words, and of the file's first others up to ``most`` in all."""
    wanted = set(needed)
    first = [i for i, word in enumerate(found.words) if word in wanted]
    others = [i for i, word in enumerate(found.words) if word not in wanted]
    rows = sorted([*first, *others[: max(0, most - len(first))]])
    return WordVectors(
        tuple(found.words[i] for i in rows), np.ascontiguousarray(found.matrix[rows])
    )


def random_vectors(words: Iterable[str], width: int, seed: int) -> WordVectors:
    """Small random vectors, to be trained, if there is no file."""
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


BATCH = 64
MOST_HELD = 20_000  # column names kept beside the texts of a training
_LONGEST = 512  # word pieces of a text that are read
# A tokenizer has one of these; without any, transformers makes up an empty one.
_VOCABULARIES = (
    *("tokenizer.json", "vocab.txt", "vocab.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
)
_REMEDY = "Give the directory of a sentence-transformer, or one that save_pretrained wrote."


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Which encoder: its path, the width of its vectors, and a digest of what computes them."""

    path: str
    width: int
    digest: str


class _Text(NamedTuple):
    """A text, and its parts (start, end) that get a vector each."""

    text: str
    parts: tuple[tuple[int, int], ...]


class ContextEncoder:
    """A frozen encoder with its tokenizer; made by :meth:`load`."""

    def __init__(self, model: Any, tokenizer: Any, path: Path) -> None:
        """Takes a transformers model and its fast tokenizer.

        Raises:
            ModelError: if the model reads anything but token ids and their mask.
        """
        self._model, self._tokenizer = model.eval().requires_grad_(False), tokenizer
        self._held: dict[_Text, Tensor] = {}
        positions = getattr(model.config, "max_position_embeddings", None) or _LONGEST + 2
        # Some models count positions from 2.
        self._longest = max(4, min(_LONGEST, positions - 2, tokenizer.model_max_length))
        try:
            (probe,) = self._read([_Text("a", ((0, 1),))])
        except (ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise ModelError(
                f"The encoder in {path} can't read a text by itself: {one_line(error)}.", _REMEDY
            ) from None
        self.config = EncoderConfig(str(path), probe.shape[1], _digest(model, tokenizer))

    @classmethod
    def load(cls, path: str | Path) -> ContextEncoder:
        """Loads a directory, offline.

        Raises:
            ModelError: naming what is missing or does not fit.
        """
        path = Path(path).expanduser().resolve()
        folder = _transformer_folder(path)
        if not any((folder / name).is_file() for name in _VOCABULARIES):
            raise ModelError(f"{folder} holds no tokenizer.", "Copy tokenizer.json there.")
        model, report, tokenizer = _loaded(path, folder)
        lacking = {*report["missing_keys"], *map(str, report["mismatched_keys"])}
        if missing := sorted(name for name in lacking if not _is_unused(name)):
            raise ModelError(
                f"The weights of the encoder in {path} lack {len(missing)} tensors, {missing[0]}"
                " among them.",
                "The file is damaged or of another architecture; save it again.",
            )
        if not tokenizer.is_fast:
            raise ModelError(
                f"The tokenizer of the encoder in {path} gives no positions of its pieces.",
                "Give an encoder with a fast tokenizer (tokenizer.json).",
            )
        rows = model.get_input_embeddings().num_embeddings
        if max(tokenizer.get_vocab().values()) >= rows:
            raise ModelError(
                f"The tokenizer of {path} has word pieces that its model has no vectors for.",
                "Copy the tokenizer that belongs to it there.",
            )
        return cls(model, tokenizer, path)

    def remember(
        self, items: Iterable[EncodedQuestion], on_text: Callable[[int, int], None] | None = None
    ) -> None:
        """Encodes the texts of questions and columns that are not cached, and caches them.

        Equal questions are always encoded in equal batches, so that a resumed training gets the
        same vectors to the last bit.

        Args:
            on_text: called with the number of texts encoded, and the total.
        """
        met = dict.fromkeys(text for item in items for text in _texts_of(item))
        texts = [text for text in met if text not in self._held]
        for done, found in enumerate(self._batches(texts), 1):
            self._held |= found
            if on_text:
                on_text(min(done * BATCH, len(texts)), len(texts))

    def context_of(self, items: Sequence[EncodedQuestion]) -> Context:
        """The vectors of a batch, in the order of :func:`codegen.sqlnet.features.collate`."""
        questions = [_question(item) for item in items]
        columns = dict.fromkeys(name for item in items for name in item.features.columns)
        names = [_name(words) for words in columns]
        vectors = self._vectors([*questions, *names])
        if len(self._held) + len(names) <= MOST_HELD:
            self._held |= {name: vectors[name] for name in names}
        most = max(len(question.parts) for question in questions)
        tokens = torch.zeros(len(questions), most, self.config.width)
        for row, question in enumerate(questions):
            tokens[row, : len(question.parts)] = vectors[question]
        return Context(tokens, torch.cat([vectors[name] for name in names]).float())

    def _vectors(self, texts: Sequence[_Text]) -> dict[_Text, Tensor]:
        found = {text: self._held[text] for text in texts if text in self._held}
        for batch in self._batches(dict.fromkeys(t for t in texts if t not in found)):
            found |= batch
        return found

    def _batches(self, texts: Iterable[_Text]) -> Iterator[dict[_Text, Tensor]]:
        """Reads texts, those of like length together."""
        ordered = sorted(texts, key=lambda text: (len(text.text), text))
        for start in range(0, len(ordered), BATCH):
            batch = ordered[start : start + BATCH]
            yield dict(zip(batch, self._read(batch), strict=True))

    @torch.no_grad()
    def _read(self, texts: Sequence[_Text]) -> list[Tensor]:
        """The vectors of each text, [parts, width] in float16."""
        read = self._tokenizer(
            [text.text for text in texts],
            truncation=True,
            max_length=self._longest,
            return_offsets_mapping=True,
        )
        pieces: list[list[int]] = read["input_ids"]
        ids = torch.zeros(len(pieces), max(1, *map(len, pieces)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        mask[:, 0] = 1  # a text of no piece at all reads one that has no weight
        for row, found in enumerate(pieces):
            ids[row, : len(found)] = torch.tensor(found, dtype=torch.long)
            mask[row, : len(found)] = 1
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return [
            _means(states[row], text.parts, read["offset_mapping"][row])
            for row, text in enumerate(texts)
        ]


def _means(
    states: Tensor, parts: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> Tensor:
    """The mean state of the word pieces in each part, scaled; 0 for a part without any.

    Args:
        states: [P or more, width].
        spans: start and end of each of P word pieces; empty for a special token.
    """
    begins, ends = torch.tensor(spans, dtype=torch.long).view(-1, 2).unbind(1)
    firsts, lasts = torch.tensor(parts, dtype=torch.long).view(-1, 2, 1).unbind(1)
    inside = (begins < lasts) & (ends > firsts) & (ends > begins)  # [parts, P]
    means = inside.float() @ states[: len(spans)] / inside.sum(1, keepdim=True).clamp(min=1)
    return (means / means.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)).half()


def _question(item: EncodedQuestion) -> _Text:
    return _Text(item.text, tuple((token.start, token.end) for token in item.tokens))


def _name(words: Sequence[str]) -> _Text:
    text = " ".join(words)
    return _Text(text, ((0, len(text)),))


def _texts_of(item: EncodedQuestion) -> Iterator[_Text]:
    yield _question(item)
    yield from map(_name, item.features.columns)


def _transformer_folder(path: Path) -> Path:
    """The folder with the model; a sentence-transformer names it in its modules.json."""
    if not path.is_dir():
        raise ModelError(f"{path} is not a folder with an encoder.", _REMEDY)
    listed = path / "modules.json"
    if not listed.is_file():
        if (path / "config.json").is_file():
            return path
        raise ModelError(f"{path} holds neither modules.json nor config.json.", _REMEDY)
    try:
        modules = {
            str(module["type"]).rpartition(".")[2]: _part(path, module.get("path", ""), listed)
            for module in reversed(json.loads(listed.read_text("utf-8")))
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{listed} can't be read: {one_line(error)}.") from None
    if "Transformer" not in modules:
        kinds = ", ".join(reversed(modules)) or "nothing"
        raise ModelError(f"{listed} lists no Transformer, but {kinds}.", _REMEDY)
    return modules["Transformer"]


def _part(path: Path, name: Any, listed: Path) -> Path:
    """The folder of a module: the encoder's own, or one in it."""
    try:
        return path if name == "" else path / plain_name(name, str(listed))
    except InputError as error:
        raise ModelError(error.message, error.remedy) from None


def _loaded(path: Path, folder: Path) -> tuple[Any, Any, Any]:
    """The model, transformers' report on its weights, and the tokenizer."""
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it warns of is checked by the caller
    try:
        vet_tokenizer(str(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        loaded: Any = AutoModel.from_pretrained(
            folder,
            config=vetted_config(str(folder)),
            dtype=torch.float32,
            use_safetensors=True,  # never a pickle
            output_loading_info=True,
            **options,
        )
    except (
        *(OSError, ValueError, TypeError, KeyError, AttributeError),
        *(ImportError, RuntimeError, SafetensorError),
    ) as error:
        raise ModelError(
            f"The encoder in {path} does not load: {one_line(error)}.", _REMEDY
        ) from None
    finally:
        logging.set_verbosity(verbosity)
    return *loaded, tokenizer


def _digest(model: Any, tokenizer: Any) -> str:
    """A digest of weights and vocabulary that does not depend on their format on disk."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        if not _is_unused(name):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()


def _is_unused(name: str) -> bool:
    """Whether a tensor has no part in the hidden states: BERT's pooler."""
    return name.startswith("pooler.")
