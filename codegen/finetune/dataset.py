"""Reads and encodes the examples of a run, and caches them in a memory-mapped Arrow file.

A run's texts are tokenized once. :func:`cached` writes the encoder's examples into an Arrow file
and opens it with ``datasets``: only the examples in use take memory, and all processes and later
runs share one copy. A cache is named by a digest of everything that determines its content; it is
written under a temporary name and renamed when complete.
"""

from __future__ import annotations

import fcntl
import json
import math
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np

from codegen.core.errors import InputError
from codegen.core.paths import new_folder, refuse_links
from codegen.core.records import Messages, TrainingText
from codegen.core.runs import explain_full_disk, fingerprint
from codegen.finetune.attention import RowLayout, causal
from codegen.finetune.encode import (
    EncodedExample,
    TextEncoder,
    decompose,
    set_template_arguments,
)
from codegen.finetune.recipe import NEW, Overlong, Recipe
from codegen.finetune.row_formats import read_training_rows, source_digests
from codegen.methods.backspace import with_backspace
from codegen.models import load_tokenizer
from codegen.models.pretrained import train_byte_bpe

# Special tokens of a new model's tokenizer, by their names in transformers.
SPECIAL = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "unk", "cls", "bos", "mask")}
TOKENS = "tokens"  # directory of a run's token cache
_ENCODING = 2  # increment it when encoding changes, to invalidate old caches
_BPE, _BPE_TEXTS = re.compile(r"bpe-(\d{3,6})"), 10_000  # maximum texts to learn a tokenizer from
_CACHE = re.compile(r"\.?[0-9a-f]{32}\b")  # the key, with which a cache's name starts
_TABLE, _FACTS = "examples.arrow", "facts.json"


@dataclass(frozen=True, slots=True)
class Outline:
    """Lengths, ids and domains of N examples, without their tokens.

    Attributes:
        lengths, trained: number of slots and of trained actions, int64 [N].
        weights: sum of the action weights of each example, float64 [N]; None if all weights are 1.
        all_causal: whether no example has backspaces.
        names: returns the source example id of each example.
        domains: returns the domain of each example.
    """

    lengths: np.ndarray
    trained: np.ndarray
    weights: np.ndarray | None
    all_causal: bool
    names: Callable[[], list[str]]
    domains: Callable[[], list[str]]

    @classmethod
    def of(cls, examples: Sequence[EncodedExample]) -> Outline:
        """Returns the outline of examples in memory or in a cache."""
        if isinstance(examples, CachedExamples):
            return examples.outline
        weighted = any(example.weights for example in examples)
        return cls(
            np.array([len(example) for example in examples], np.int64),
            np.array([len(example.targets) for example in examples], np.int64),
            np.array([example.weight for example in examples]) if weighted else None,
            all(example.layout.is_causal for example in examples),
            lambda: [example.example_id for example in examples],
            lambda: [example.domain for example in examples],
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def total(self, numbers: Sequence[int]) -> float:
        """Returns the total action weight of some examples."""
        if self.weights is None:
            return int(self.trained[numbers].sum())
        return math.fsum(self.weights[numbers])


class CachedExamples(Sequence[EncodedExample]):
    """The examples of a cache directory, read on access.

    Attributes:
        outline: see :class:`Outline`.
        facts: JSON values that the encoder stored with the examples.
    """

    def __init__(self, folder: Path) -> None:
        from datasets import Dataset as Table
        from pyarrow import compute

        lengths: Any = compute  # its functions are created at import, so type checkers miss them

        refuse_links(folder)
        try:
            self.facts: dict[str, Any] = json.loads((folder / _FACTS).read_bytes())
            self._table: Any = Table.from_file(str(folder / _TABLE))
            table = self._table.data
            if len(self._table) != self.facts["examples"]:
                raise ValueError("it is truncated")
            self.outline = Outline(
                np.asarray(lengths.list_value_length(table["ids"]), np.int64),
                np.asarray(lengths.list_value_length(table["then"]), np.int64),
                np.asarray(table["weight"]) if self.facts["has_weights"] else None,
                not self.facts["has_layouts"],
                table["example_id"].to_pylist,
                table["domain"].to_pylist,
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"The token cache {folder} is corrupt ({type(error).__name__}: {error}).",
                "Delete it.",
            ) from None

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> EncodedExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedExample]: ...
    def __getitem__(self, index: int | slice) -> EncodedExample | list[EncodedExample]:
        """Returns one example, or a list for a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        row = self._table[range(len(self))[index]]
        ids, then = row["ids"], row["then"]
        layout = causal(len(ids))
        if row["end"]:
            layout = RowLayout(np.array(row["end"]), np.array(row["positions"]))
        return EncodedExample(
            row["example_id"],
            ids,
            row["nodes"] or [slot - 1 for slot in then],
            row["targets"] or [ids[slot] for slot in then],
            then,
            layout,
            row["domain"],
            row["final"],
            row["weights"],
        )


def _row_of(example: EncodedExample) -> dict[str, Any]:
    """Returns an example's table row; actions and layout are empty if the text is plain."""
    layout = example.layout
    has_layout = not layout.is_causal
    follows = [slot - 1 for slot in example.then] == example.nodes and all(
        slot < len(example) and example.ids[slot] == target
        for slot, target in zip(example.then, example.targets, strict=True)
    )
    return {
        "example_id": example.example_id.encode("utf-8", "replace").decode(),
        "domain": example.domain,
        "ids": example.ids,
        "then": example.then,
        "nodes": [] if follows else example.nodes,
        "targets": [] if follows else example.targets,
        "end": layout.end.tolist() if has_layout else [],
        "positions": layout.positions.tolist() if has_layout else [],
        "weights": list(example.weights),
        "weight": example.weight,
        "final": example.final,
    }


def cached(
    folder: Path, key: str, examples: Iterable[EncodedExample], facts: Callable[[], dict[str, Any]]
) -> CachedExamples:
    """Opens the cache with this key; if it is missing, one process writes it.

    Args:
        folder: directory of caches.
        key: digest of everything that determines the content.
        examples: examples to write; not consumed if the cache exists.
        facts: called after writing; its result is stored with the examples.

    Raises:
        MachineError: if the disk becomes full.
    """
    place = folder / key
    with explain_full_disk(folder):
        if not (place / _FACTS).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / f"{key}.lock"):
                if not (place / _FACTS).is_file():
                    partial_place = new_folder(place)
                    try:
                        _write(partial_place, examples, facts)
                        shutil.rmtree(place, ignore_errors=True)
                        partial_place.rename(place)
                    finally:
                        shutil.rmtree(partial_place, ignore_errors=True)
    return CachedExamples(place)


def _write(
    place: Path, examples: Iterable[EncodedExample], facts: Callable[[], dict[str, Any]]
) -> None:
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    lists = {"ids": "int32", "then": "int32", "nodes": "int32", "targets": "int32",
             "end": "int64", "positions": "int64", "weights": "float64"}  # fmt: skip
    values = {"example_id": "string", "domain": "string", "weight": "float64", "final": "bool"}
    features = Features(
        {name: List(Value(kind)) for name, kind in lists.items()}
        | {name: Value(kind) for name, kind in values.items()}
    )
    has_layouts = has_weights = False
    with ArrowWriter(features=features, path=str(place / _TABLE)) as writer:
        for example in examples:
            has_layouts |= not example.layout.is_causal
            has_weights |= bool(example.weights)
            writer.write(_row_of(example))
        count, _ = writer.finalize()
    card = facts() | {
        "examples": count,
        "has_layouts": has_layouts,
        "has_weights": has_weights,
    }
    (place / _FACTS).write_text(json.dumps(card, indent=1) + "\n", "utf-8")


def holds_only_caches(folder: Path) -> bool:
    """Returns True if a directory is missing or contains only caches, finished or partial."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return all(_CACHE.match(name) for name in names)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass
class EncodedTexts:
    """The examples of a run, and counts of shortened and dropped texts.

    Attributes:
        dropped, dropped_tokens: reason -> number of dropped texts, and of their tokens.
        cut, cut_tokens: number of texts cut to the maximum length, and of the tokens lost.
    """

    examples: Sequence[EncodedExample] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_tokens: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    cut_tokens: int = 0

    def counts(self) -> dict[str, Any]:
        """Returns examples, tokens and mask coverage, for the log and the report."""
        outline = Outline.of(self.examples)
        tokens, trained = int(outline.lengths.sum()), int(outline.trained.sum())
        return {
            "examples": len(self.examples),
            "tokens": tokens,
            "trained_tokens": trained,
            "mask_coverage": trained / tokens if tokens else 0.0,
            **self.losses(),
        }

    def losses(self) -> dict[str, Any]:
        """Returns the counts of dropped and cut texts."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "examples"}
        return {name: dict(v) if isinstance(v, Counter) else v for name, v in row.items()}

    def drop(self, reason: str, tokens: int) -> None:
        """Counts a dropped text."""
        self.dropped[reason] += 1
        self.dropped_tokens[reason] += tokens

    def fit(
        self, found: Iterable[EncodedExample], max_length: int, overlong: Overlong
    ) -> Iterator[EncodedExample]:
        """Yields the examples that can be trained on; counts the others.

        An overlong text with backspaces is always dropped.

        Args:
            max_length: maximum slots of an example.
            overlong: drop longer examples, or truncate them to the first ``max_length`` tokens.
        """
        for example in found:
            length = len(example)
            if length > max_length:
                if overlong == "drop" or not example.layout.is_causal:
                    self.drop("too_long", length)
                    continue
                self.cut += 1
                self.cut_tokens += length - max_length
                example = example.first(max_length)
            if example.targets:
                yield example
            else:
                self.drop("no_trainable_token", length)


def encode_all(
    rows: Iterable[tuple[str, TrainingText | Messages]],
    encoder: TextEncoder,
    *,
    max_length: int,
    overlong: Overlong = "drop",
) -> EncodedTexts:
    """Encodes (domain, row) pairs into memory; see :meth:`EncodedTexts.fit`."""
    encoded = EncodedTexts()
    found = (example for domain, row in rows for example in encoder.examples(row, domain))
    encoded.examples = list(encoded.fit(found, max_length, overlong))
    return encoded


def encode_pieces(
    rows: Iterable[tuple[str, TrainingText | Messages]],
    encoder: TextEncoder,
    counts: EncodedTexts,
    *,
    least: int,
    most: int,
    seed: int | None,
) -> Iterator[EncodedExample]:
    """Yields the tokens of (domain, text) pairs in pieces of 2^k, each token predicted once.

    Args:
        counts: receives the number of lost tokens.
        least, most: minimum and maximum piece length; ``most`` is rounded down to a power of two.
        seed: random seed for the lengths; None for the longest that fit (:func:`decompose`).

    Raises:
        InputError: for a conversation or a text with weights.
    """
    most = 1 << (most.bit_length() - 1)

    def sizes(length: int, name: str) -> list[int]:
        rng = random.Random(f"{seed}:{name}") if seed is not None else None
        found = decompose(length, least, most, rng)
        if rest := length - sum(found):
            counts.drop("below_least", rest)
        return found

    for domain, text in rows:
        yield from encoder.pieces(text, domain, sizes)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The encoded texts of a run.

    Attributes:
        tokenizer: the model's tokenizer, with the backspace token if a text has backspaces.
        held_out: evaluation examples: the held-out rows without overlong ones.
        held_out_texts: held-out rows that are texts, not conversations.
        counts: examples, tokens, mask coverage, dropped and cut texts; the same for ``held_out``.
        longest_response: length of the longest trained part in tokens, for a new model.
        trained_tokens: ids of vocabulary tokens that the model has not learned yet; an adapter
            also trains their embeddings.
        backspace: backspace token id, if a text has backspaces.
        new_token: backspace token id, if the model's own tokenizer lacks it.
    """

    tokenizer: Any
    examples: Sequence[EncodedExample]
    held_out: Sequence[EncodedExample]
    held_out_texts: list[TrainingText]
    counts: dict[str, Any]
    longest_response: int
    trained_tokens: tuple[int, ...] = ()
    backspace: int | None = None
    new_token: int | None = None


def read_dataset(recipe: Recipe) -> Dataset:
    """Reads a recipe's texts and encodes them with its model's tokenizer, or opens the cache.

    Raises:
        InputError: if no text can be trained on (with the counts of dropped texts), or a row does
            not fit the recipe.
    """
    held_out = [row for path in recipe.evaluation_sources for row in read_training_rows(path)]
    rows = partial(_rows, recipe)
    if recipe.model == NEW:
        texts = (row for _, row in rows() if isinstance(row, TrainingText))
        tokenizer = new_tokenizer(recipe.network.tokenizer, texts)
    else:
        tokenizer = load_tokenizer(recipe.model)
        set_template_arguments(tokenizer, recipe.chat_template_kwargs)
    encoder = TextEncoder(
        tokenizer,
        recipe.format,
        recipe.mixture.systems,
        infilling=recipe.infilling,
        turns=recipe.turns,
    )
    lost = EncodedTexts()
    if (curriculum := recipe.curriculum).mode == "decompose":
        least, most = curriculum.least, recipe.max_length
        found = encode_pieces(rows(), encoder, lost, least=least, most=most, seed=recipe.seed)
    else:
        all_examples = (one for domain, row in rows() for one in encoder.examples(row, domain))
        found = lost.fit(all_examples, recipe.max_length, recipe.overlong)

    def facts() -> dict[str, Any]:
        return {
            "lost": lost.losses(),
            "has_backspaces": encoder.codec is not None,
            "trained_tokens": sorted(map(tokenizer.convert_tokens_to_ids, encoder.trained)),
        }

    folder = Path(recipe.token_cache or Path(recipe.output, TOKENS))
    examples = cached(folder, _cache_key(recipe, tokenizer), found, facts)
    encoded = EncodedTexts(examples, **examples.facts["lost"])
    _require_examples(encoded, [path for _, path in recipe.sources])
    if missing := set(recipe.domains) - set(examples.outline.domains()):
        raise InputError(
            f"No text of the domain {min(missing)!r} can be trained on.", "Raise max_length."
        )
    counts, evaluated = encoded.counts(), EncodedTexts()
    if held_out:
        pairs = (("", row) for row in held_out)
        evaluated = encode_all(pairs, encoder, max_length=recipe.max_length)
        _require_examples(evaluated, recipe.evaluation_sources)
        counts["held_out"] = evaluated.counts()
    weighted = any(Outline.of(part).weights is not None for part in (examples, evaluated.examples))
    if recipe.loss == "sequencematch" and weighted:
        raise InputError(
            "The data has segments with weights, which loss: sequencematch does not support.",
            "Use true and false for train, or set loss: mle.",
        )
    backspace = new_token = None
    if examples.facts["has_backspaces"] or encoder.codec is not None:
        known, (tokenizer, backspace) = tokenizer, with_backspace(tokenizer)
        new_token = None if tokenizer is known else backspace
    return Dataset(
        tokenizer,
        examples,
        evaluated.examples,
        [row for row in held_out if isinstance(row, TrainingText)],
        counts,
        int(examples.outline.trained.max()),
        tuple(examples.facts["trained_tokens"]),
        backspace,
        new_token,
    )


def _rows(recipe: Recipe) -> Iterator[tuple[str, TrainingText | Messages]]:
    for domain, path in recipe.sources:
        for row in read_training_rows(path, recipe.limit):
            yield domain, row


def _cache_key(recipe: Recipe, tokenizer: Any) -> str:
    """Returns a digest of everything that determines the tokens of a recipe's data."""
    curriculum = recipe.curriculum
    decomposes = curriculum.mode == "decompose"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    settings = {
        "encoding": _ENCODING,
        "data": [[domain, *source_digests(path)] for domain, path in recipe.sources],
        "limit": recipe.limit,
        "tokenizer": backend.to_str() if backend else sorted(tokenizer.get_vocab().items()),
        "special": tokenizer.special_tokens_map,
        "template": tokenizer.chat_template,
        "format": recipe.format,
        "turns": recipe.turns,
        "systems": recipe.mixture.systems,
        "infilling": recipe.infilling,
        "max_length": recipe.max_length,
        "overlong": recipe.overlong,
        "pieces": [curriculum.least, recipe.seed] * decomposes,
    }
    return fingerprint(settings)[:32]


def _require_examples(encoded: EncodedTexts, paths: Iterable[str]) -> None:
    if not encoded.examples:
        reasons = ", ".join(f"{n} {reason}" for reason, n in encoded.dropped.items()) or "no text"
        raise InputError(
            f"No training text of {', '.join(paths)} can be trained on ({reasons}).",
            "Raise max_length, or look at the data with: codegen data inspect.",
        )


def new_tokenizer(name: str, texts: Iterable[TrainingText]) -> Any:
    """Returns a new model's tokenizer: learned from its texts, or an existing one.

    Missing special tokens for infilling are added, except with ``words``.
    """
    if name == "words":
        return words_tokenizer(word for text in texts for word in text.text.split())
    if learned := _BPE.fullmatch(name):
        some = (text.text for text in islice(texts, _BPE_TEXTS))
        tokenizer = train_byte_bpe(some, int(learned[1]))
    else:
        tokenizer = load_tokenizer(name)
    framing = ("cls_token", "bos_token", "mask_token")
    lacking = [kind for kind in framing if getattr(tokenizer, kind) is None]
    tokenizer.add_special_tokens({kind: SPECIAL[kind] for kind in lacking})
    return tokenizer


def words_tokenizer(words: Iterable[str]) -> Any:
    """Builds a tokenizer with one token per blank-separated word; numbers come first, ascending."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = list(SPECIAL.values())
    ordered = sorted(set(words) - set(special), key=lambda w: (not w.isdecimal(), len(w), w))
    vocabulary = {word: number for number, word in enumerate([*special, *ordered])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.WordPiece(prefix=" ", cleanup=False)  # a blank between all words
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **SPECIAL,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
