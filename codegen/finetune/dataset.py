"""Training texts to token ids and loss masks.

The loss mask follows from the segments of a text; no marker is searched for. Consecutive segments
that are trained, or not, are tokenized together, so that no token straddles the border between
prompt and response; generation cuts there too. Trained ones may have different weights; a token
across their border has the larger one, and the end token counts 1. A text with backspaces
(:mod:`codegen.methods.backspace`) has its own tokens: a removed token keeps its slot, which later
tokens do not see.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from codegen.errors import InputError
from codegen.finetune.attention import causal
from codegen.finetune.conversations import Renderer, set_template_arguments
from codegen.finetune.recipe import NEW, Format, Overlong, Recipe, Turns
from codegen.finetune.rows import read_training_rows, source_digests
from codegen.finetune.tokens import EncodedExample, Outline, open_cache, write_cache
from codegen.methods.backspace import (
    Codec,
    from_text,
    is_trajectory,
    require_same,
    stack_layout,
    with_backspace,
)
from codegen.models import load_tokenizer
from codegen.models.chat import chat_prompt, end_of_turn
from codegen.records import Messages, Segment, TrainingText
from codegen.runs import fingerprint

TOKENS = "tokens"  # the directory of a run that holds its token cache
_ENCODING = 1  # raise it where the same text gets other tokens, so that old caches are not used
# The special tokens of a new model's tokenizer, by their names in transformers.
SPECIAL = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "unk", "cls", "bos", "mask")}


@dataclass
class EncodedTexts:
    """The examples of a run, and counts of texts that were changed or left out.

    Attributes:
        dropped, dropped_tokens: reason -> number of texts left out, and of their tokens.
        cut, cut_tokens: texts shortened to the maximal length, and the tokens they lost.
        split, pieces: texts divided into several examples, and the number of these.
    """

    examples: Sequence[EncodedExample] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_tokens: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    cut_tokens: int = 0
    split: int = 0
    pieces: int = 0

    def counts(self) -> dict[str, Any]:
        """Examples, tokens and mask coverage, for the log and the report."""
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
        """The counts of texts that were changed or left out."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "examples"}
        return {name: dict(v) if isinstance(v, Counter) else v for name, v in row.items()}

    def drop(self, reason: str, tokens: int) -> None:
        """Counts a text that is left out."""
        self.dropped[reason] += 1
        self.dropped_tokens[reason] += tokens

    def fit(
        self, found: Iterable[EncodedExample], max_length: int, overlong: Overlong
    ) -> Iterator[EncodedExample]:
        """The examples that can be trained on, of at most ``max_length`` slots; counts the others.

        A text with backspaces that is too long is always dropped.

        Args:
            max_length: in slots.
            overlong: what happens to longer ones. ``truncate`` keeps the first ``max_length``
                tokens. ``split`` makes examples of ``max_length`` tokens that overlap by one token,
                so that every token is predicted once.
        """
        for example in found:
            if len(example) <= max_length:
                parts = [example]
            elif overlong == "drop" or not example.layout.is_causal:
                self.drop("too_long", len(example))
                continue
            elif overlong == "truncate":
                self.cut += 1
                self.cut_tokens += len(example) - max_length
                parts = [example.part(0, max_length)]
            else:
                starts = range(0, len(example) - 1, max_length - 1)
                parts = [example.part(at, at + max_length) for at in starts]
                self.split += 1
                self.pieces += sum(bool(part.targets) for part in parts)
            if not any(part.targets for part in parts):
                self.drop("no_trainable_token", len(example))
            yield from (part for part in parts if part.targets)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The encoded texts of a run.

    Attributes:
        tokenizer: the model's, with the backspace token if a text has backspaces.
        held_out: the evaluation examples: the held-out rows without over-long ones.
        held_out_texts: the held-out rows that are texts, not conversations.
        counts: examples, tokens, mask coverage, dropped and cut texts; ``held_out`` likewise.
        longest_response: tokens of the longest trained part, for a new model.
        trained_tokens: ids of tokens in the model's vocabulary that it has not learned yet; an
            adapter trains their embeddings too.
        backspace: id of the backspace token, if a text has backspaces.
        new_token: the same, if the model's own tokenizer lacks it.
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
    """Reads the texts of a recipe and encodes them with its model's tokenizer, or opens the cache.

    Raises:
        InputError: if nothing can be trained on, with what became of the texts; or for a row that
            does not fit the recipe.
    """
    held_out = [row for path in recipe.evaluation_sources for row in read_training_rows(path)]
    if recipe.model == NEW:
        return _encoded(recipe, _new_tokenizer(recipe), held_out, takes_backspaces=True)
    tokenizer = load_tokenizer(recipe.model)
    set_template_arguments(tokenizer, recipe.chat_template_kwargs)
    try:
        return _encoded(recipe, tokenizer, held_out)
    except _NeedsBackspace:
        known, (tokenizer, backspace) = tokenizer, with_backspace(tokenizer)
        new_token = None if tokenizer is known else backspace
        found = _encoded(recipe, tokenizer, held_out, takes_backspaces=True)
        return replace(found, backspace=backspace, new_token=new_token)


class _NeedsBackspace(Exception):
    """A text has backspaces, so the tokenizer needs a token for them."""


def _rows_of(recipe: Recipe) -> Iterator[tuple[str, TrainingText | Messages]]:
    for domain, path in recipe.sources:
        for row in read_training_rows(path, recipe.limit):
            yield domain, row


def _new_tokenizer(recipe: Recipe) -> Any:
    texts = (row for _, row in _rows_of(recipe) if isinstance(row, TrainingText))
    return new_tokenizer(recipe.network.tokenizer, texts)


def _encoded(
    recipe: Recipe,
    tokenizer: Any,
    held_out: Sequence[TrainingText | Messages],
    *,
    takes_backspaces: bool = False,
) -> Dataset:
    encoder = TextEncoder(
        tokenizer,
        recipe.format,
        recipe.mixture.systems,
        infilling=recipe.infilling,
        turns=recipe.turns,
    )

    def rows() -> Iterator[tuple[str, TrainingText | Messages]]:
        for domain, row in _rows_of(recipe):
            if not takes_backspaces and isinstance(row, TrainingText) and is_trajectory(row):
                raise _NeedsBackspace
            yield domain, row

    def write(folder: Path) -> dict[str, Any]:
        counts, curriculum = EncodedTexts(), recipe.curriculum
        if curriculum.mode == "decompose":
            seed = recipe.seed if curriculum.spread else None
            least, most = curriculum.least, recipe.max_length
            examples = encode_pieces(rows(), tokenizer, counts, least=least, most=most, seed=seed)
        else:
            found = (example for domain, row in rows() for example in encoder.examples(row, domain))
            examples = counts.fit(found, recipe.max_length, recipe.overlong)
        facts = write_cache(folder, examples, len(tokenizer))
        return facts | {
            "counts": counts.losses(),
            "takes_backspaces": takes_backspaces,
            "trained_tokens": sorted(map(tokenizer.convert_tokens_to_ids, encoder.trained)),
        }

    texts = [row for row in held_out if isinstance(row, TrainingText)]
    if not takes_backspaces and any(map(is_trajectory, texts)):
        raise _NeedsBackspace
    key = _cache_key(recipe, tokenizer)
    examples = open_cache(Path(recipe.token_cache or Path(recipe.output, TOKENS)), key, write)
    lost: dict[str, Any] = {
        name: Counter(value) if isinstance(value, dict) else value
        for name, value in examples.facts["counts"].items()
    }
    encoded = EncodedTexts(examples, **lost)
    _require_examples(encoded, [path for _, path in recipe.sources])
    if missing := set(recipe.domains) - set(examples.facts["domains"]):
        raise InputError(
            f"No text of the domain {min(missing)!r} can be trained on.", "Raise max_length."
        )
    counts, evaluated = encoded.counts(), EncodedTexts()
    if held_out:
        evaluated = encode_all(
            (("", row) for row in held_out), encoder, max_length=recipe.max_length
        )
        _require_examples(evaluated, recipe.evaluation_sources)
        counts["held_out"] = evaluated.counts()
    if recipe.loss == "sequencematch" and (
        examples.outline.weight or Outline.of(evaluated.examples).weight
    ):
        raise InputError(
            "The data has segments with weights, which loss: sequencematch does not support.",
            "Use true and false for train, or set loss: mle.",
        )
    longest = int(Outline.of(examples).trained.max()) if recipe.model == NEW else 0
    trained_tokens = tuple(examples.facts.get("trained_tokens", ()))
    return Dataset(tokenizer, examples, evaluated.examples, texts, counts, longest, trained_tokens)


def _cache_key(recipe: Recipe, tokenizer: Any) -> str:
    """A digest of everything that decides the tokens of a recipe's data."""
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
        "pieces": [curriculum.least, recipe.seed if curriculum.spread else None] * decomposes,
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
    """The tokenizer of a new model: made of the ``words`` of its texts, or an existing one.

    An existing one gets the special tokens for infilling that it lacks.
    """
    if name == "words":
        return words_tokenizer(word for text in texts for word in text.text.split())
    tokenizer = load_tokenizer(name)
    framing = ("cls_token", "bos_token", "mask_token")
    lacking = [kind for kind in framing if getattr(tokenizer, kind) is None]
    tokenizer.add_special_tokens({kind: SPECIAL[kind] for kind in lacking})
    return tokenizer


def words_tokenizer(words: Iterable[str]) -> Any:
    """A tokenizer with one token per word between blanks; numbers come first, in order."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = list(SPECIAL.values())
    ordered = sorted(set(words) - set(special), key=lambda w: (not w.isdecimal(), len(w), w))
    vocabulary = {word: number for number, word in enumerate([*special, *ordered])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.WordPiece(prefix=" ", cleanup=False)  # blanks between all words
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **SPECIAL,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


class TextEncoder:
    """Encodes texts for one model.

    Args:
        tokenizer: the model's, with the backspace token if the texts use it.
        format: whether the prompt is wrapped in the chat template.
        systems: domain -> system prompt of its texts, for the chat format.
        infilling: for a model that fills gaps: the trained part is the body, and has no end token.
        turns: how conversations become texts (:mod:`codegen.finetune.conversations`).
    """

    def __init__(
        self,
        tokenizer: Any,
        format: Format,
        systems: dict[str, str] | None = None,
        *,
        infilling: bool = False,
        turns: Turns = "auto",
    ) -> None:
        self.tokenizer, self.format, self.systems = tokenizer, format, systems or {}
        self.infilling = infilling
        self.turns: Turns = turns
        self._renderer: Renderer | None = None
        self.end = end_of_turn(tokenizer) if format == "chat" else [tokenizer.eos_token_id]
        bos = [tokenizer.bos_token_id]
        self._opening = bos if tokenizer("a").input_ids[:1] == bos else []
        self._codec: Codec | None = None
        self._known: set[str] = set()
        self.trained: set[str] = set()  # tokens whose embeddings are to be trained

    def examples(self, row: TrainingText | Messages, domain: str = "") -> list[EncodedExample]:
        """The examples of a row: one of a text, one or more of a conversation.

        Raises:
            InputError: see :meth:`encode`; for a conversation, if the format is not ``chat``, or
                its rendering is not what is served.
        """
        if isinstance(row, TrainingText):
            return [self.encode(row, domain)]
        if self.format != "chat" or self.infilling:
            raise InputError(f"Conversation {row.id!r} needs a chat template.", "Set format: chat.")
        self._renderer = self._renderer or Renderer(self.tokenizer, self.turns)
        if (system := self.systems.get(domain)) and row.messages[0]["role"] != "system":
            messages = ({"role": "system", "content": system}, *row.messages)
            row = replace(row, messages=messages, train=(False, *row.train))
        return [
            EncodedExample.of_runs(
                ((self._ids(run), train) for run, train in text.runs()),
                row.id,
                domain,
                final=True,
            )
            for text in self._renderer.texts(row)
        ]

    def encode(self, text: TrainingText, domain: str = "") -> EncodedExample:
        """One text.

        Raises:
            InputError: if its trajectory is unsound, or was made for another tokenizer or format;
                if the model lacks a special token that it needs; or, for infilling, if it is not
                a prompt and a response.
        """
        if self.infilling:
            _require_flags(text, "An infilling model")
            return self._body(text, domain)
        if is_trajectory(text):
            _require_flags(text, "A text with backspaces")
            return self._trajectory(text, domain)
        for token in text.meta.get("special_tokens", ()):
            self._require(token, text)
        self.trained.update(text.meta.get("trained_tokens", ()))
        runs = [list(run) for _, run in groupby(text.segments, key=lambda s: bool(s.train))]
        opening = self._opening
        if self.format == "chat":
            prompt = "".join(s.text for s in runs.pop(0)) if runs and not runs[0][0].train else ""
            opening = chat_prompt(self.tokenizer, prompt.strip(), self.systems.get(domain, ""))
        final = bool(runs and runs[-1][0].train)
        encoded = [(opening, False), *map(self._run, runs)]
        if final:
            encoded.append((self.end, True))
        return EncodedExample.of_runs(encoded, text.example_id, domain, final=final)

    def _run(self, run: Sequence[Segment]) -> tuple[list[int], bool | list[float]]:
        """The tokens of segments, and whether they are trained, or the weight of each."""
        text = "".join(segment.text for segment in run)
        if not run[0].train or all(segment.train == 1 for segment in run):
            return self._ids(text), bool(run[0].train)
        if not self.tokenizer.is_fast:
            raise InputError(
                "Segments with weights need a tokenizer that knows each token's characters.",
                "Use true and false for train, or a model with a fast tokenizer.",
            )
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        of_character = [float(segment.train) for segment in run for _ in segment.text]
        return found.input_ids, [
            max(of_character[start : max(end, start + 1)]) for start, end in found.offset_mapping
        ]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _require(self, token: str, text: TrainingText) -> None:
        if token in self._known:
            return
        if len(self._ids(token)) != 1:
            raise InputError(
                f"Text {text.id!r} needs the special token {token}, which the model's tokenizer"
                " does not have.",
                "Make the data for the model's family: codegen data infilling --style, or edits "
                "--format.",
            )
        self._known.add(token)

    def _trajectory(self, text: TrainingText, domain: str) -> EncodedExample:
        if self._codec is None:
            self._codec = Codec(self.tokenizer)
        require_same(text, self._codec)
        if text.meta.get("format") != self.format:
            raise InputError(
                f"Text {text.id!r} was made for the format {text.meta.get('format')!r}, the recipe"
                f" has {self.format!r}.",
                "Make the data again with: codegen data backspace --format, or change the recipe.",
            )
        return EncodedExample.of_stack(stack_layout(from_text(text)), text.example_id, domain)

    def _body(self, text: TrainingText, domain: str) -> EncodedExample:
        if text.text != text.prompt + text.trained:
            raise InputError(
                f"Text {text.id!r} has untrained parts inside its response.",
                "An infilling model needs a prompt and a response that is trained as a whole.",
            )
        prefix, body = self._ids(text.prompt), self._ids(text.trained)
        ids = [*prefix, *body]
        slots = list(range(len(prefix), len(ids)))
        layout = causal(len(ids))
        return EncodedExample(text.example_id, ids, slots, body, slots, layout, domain, False)


def _require_flags(text: TrainingText, what: str) -> None:
    if any(segment.train not in (0, 1) for segment in text.segments):
        raise InputError(
            f"Text {text.id!r} has weights. {what} does not support them.",
            "Use true and false for train.",
        )


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
    tokenizer: Any,
    counts: EncodedTexts,
    *,
    least: int,
    most: int,
    seed: int | None,
) -> Iterator[EncodedExample]:
    """All tokens of (domain, text) pairs in pieces of 2^k, each token predicted exactly once.

    Args:
        rows: both prompts and responses are trained on.
        counts: counts the lost tokens.
        least, most: shortest and longest piece; ``most`` is rounded down to a power of two.
        seed: of the pieces' lengths; None for the longest that fit. See :func:`decompose`.

    Raises:
        InputError: for a conversation.
    """
    most = 1 << (most.bit_length() - 1)
    for domain, text in rows:
        if isinstance(text, Messages):
            raise InputError(
                f"{text.id!r} is a conversation; curriculum.mode: decompose needs texts.",
                "Set curriculum.mode: bucket.",
            )
        _require_flags(text, "curriculum.mode: decompose")
        ids = [*tokenizer(text.text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        at = 0
        rng = random.Random(f"{seed}:{text.id}") if seed is not None else None
        for size in decompose(len(ids) - 1, least, most, rng):
            slots = list(range(size))
            name, targets = f"{text.example_id}@{at}", ids[at + 1 : at + size + 1]
            yield EncodedExample(
                name, ids[at : at + size], slots, targets, slots, causal(size), domain, final=False
            )
            at += size
        if rest := len(ids) - 1 - at:
            counts.drop("below_least", rest)


def decompose(length: int, least: int, most: int, rng: random.Random | None = None) -> list[int]:
    """Lengths of a document's pieces in order, powers of two from ``least`` to ``most``.

    Source: Dataset Decomposition (arXiv 2405.13226), section 3.1. A document of l tokens gives
    pieces of ``most`` while enough tokens are left, then the binary digits of the rest, the largest
    first; a rest below ``least`` is lost.

    Args:
        length: tokens of the document.
        rng: with it, a document longer than ``most`` gives pieces of all lengths, drawn with odds
            1, 2, 4, ... from the longest to the shortest, so that each length gets equally many
            tokens of it (as in the released code); without it, pieces of ``most``.
    """
    sizes = [most]
    while sizes[-1] > least:
        sizes.append(sizes[-1] // 2)
    odds = [2**n for n in range(len(sizes))]
    pieces = []
    while length >= most:
        size = most if rng is None else rng.choices(sizes, odds)[0]
        pieces.append(size)
        length -= size
    for size in sizes:
        if length >= size:
            pieces.append(size)
            length -= size
    return pieces
