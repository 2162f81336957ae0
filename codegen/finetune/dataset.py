"""Training texts to token ids, and at which of them the model is trained.

The loss mask comes from the segments of a text, never from a marker that is searched for. Each run
of segments with the same ``train`` flag is tokenized on its own, so that no token straddles the
border between prompt and response; generation cuts at the same border. A text with backspaces
(:mod:`codegen.methods.backspace`) brings its own tokens: a removed token keeps its slot, which
later tokens do not see.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from codegen.data.manifest import read_texts
from codegen.errors import InputError
from codegen.finetune.attention import RowLayout, causal, from_stack
from codegen.finetune.recipe import NEW, Recipe
from codegen.methods.backspace import (
    Codec,
    StackLayout,
    from_text,
    is_trajectory,
    require_same,
    stack_layout,
    with_backspace,
)
from codegen.models import load_tokenizer
from codegen.models.chat import chat_prompt, end_of_turn
from codegen.records import TrainingText

Format = Literal["chat", "plain"]
# The special tokens of a new model's tokenizer, by their names in transformers.
SPECIAL = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "unk", "cls", "bos", "mask")}


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One example of S slots and T trained actions.

    Attributes:
        example_id: the example its text was made from.
        ids: [S] the token in each slot.
        nodes: [T] the slot whose output chooses the action, at least 0, rising.
        targets: [T] the right action there.
        then: [T] the slot of the state that the executed action leads to.
        layout: who sees whom.
        domain: the name its loss is reported under; empty for none.
        final: whether the last action ends the text, so that its ``then`` is the terminal state.
    """

    example_id: str
    ids: list[int]
    nodes: list[int]
    targets: list[int]
    then: list[int]
    layout: RowLayout
    domain: str = ""
    final: bool = True

    @classmethod
    def of_stack(
        cls, stack: StackLayout, example_id: str = "", domain: str = "", *, final: bool = True
    ) -> EncodedExample:
        """A trajectory with backspaces."""
        return cls(
            example_id,
            list(stack.tokens),
            list(stack.nodes[:-1]),
            list(stack.labels),
            list(stack.nodes[1:]),
            from_stack(stack),
            domain,
            final,
        )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class EncodedTexts:
    """The examples of a run, and what became of the other texts.

    Attributes:
        dropped, dropped_tokens: reason -> number of texts left out, and of their tokens.
        cut, cut_tokens: texts shortened to the maximal length, and the tokens they lost.
    """

    examples: list[EncodedExample] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_tokens: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    cut_tokens: int = 0

    def counts(self) -> dict[str, Any]:
        """Examples, tokens and mask coverage, for the log and the report."""
        tokens = sum(len(example) for example in self.examples)
        trained = sum(len(example.targets) for example in self.examples)
        return {
            "examples": len(self.examples),
            "tokens": tokens,
            "trained_tokens": trained,
            "mask_coverage": trained / tokens if tokens else 0.0,
            "cut": self.cut,
            "cut_tokens": self.cut_tokens,
            "dropped": dict(self.dropped),
            "dropped_tokens": dict(self.dropped_tokens),
        }

    def drop(self, reason: str, tokens: int) -> None:
        """Counts a text that is left out."""
        self.dropped[reason] += 1
        self.dropped_tokens[reason] += tokens


@dataclass(frozen=True, slots=True)
class Dataset:
    """The encoded texts of a run.

    Attributes:
        tokenizer: the model's, with the backspace token if a text has backspaces.
        backspace: id of that token, or None.
        new_token: the same if the model's own tokenizer lacks it, or None.
        examples: what is trained on.
        held_out: what is evaluated on: ``held_out_texts`` without over-long ones.
        held_out_texts: all held-out texts.
        counts: examples, tokens, mask coverage, dropped and cut texts; ``held_out`` likewise.
        longest_response: tokens of the longest trained part, for a new model.
    """

    tokenizer: Any
    backspace: int | None
    new_token: int | None
    examples: list[EncodedExample]
    held_out: list[EncodedExample]
    held_out_texts: list[TrainingText]
    counts: dict[str, Any]
    longest_response: int


def read_dataset(recipe: Recipe) -> Dataset:
    """Reads the texts of a recipe and encodes them with its model's tokenizer.

    Raises:
        InputError: if nothing can be trained on, with what became of the texts; or for a text with
            backspaces that does not fit the recipe.
    """
    texts = [(domain, text) for domain, path in recipe.sources for text in read_texts(path)]
    held_out = [text for path in recipe.evaluation_sources for text in read_texts(path)]
    backspace = new_token = None
    longest_response = 0
    if recipe.model == NEW:
        tokenizer = new_tokenizer(recipe.network.tokenizer, [text for _, text in texts])
        responses = (tokenizer(text.trained, add_special_tokens=False) for _, text in texts)
        longest_response = max((len(response.input_ids) for response in responses), default=0)
    else:
        tokenizer = known = load_tokenizer(recipe.model)
        if any(map(is_trajectory, [*(text for _, text in texts), *held_out])):
            tokenizer, backspace = with_backspace(known)
            new_token = None if tokenizer is known else backspace
    encoder = TextEncoder(
        tokenizer, recipe.format, recipe.mixture.systems, infilling=recipe.infilling
    )
    limit, curriculum = recipe.max_length, recipe.curriculum
    if curriculum.mode == "decompose":
        seed = recipe.seed if curriculum.spread else None
        encoded = encode_pieces(texts, tokenizer, least=curriculum.least, most=limit, seed=seed)
    else:
        encoded = encode_all(texts, encoder, max_length=limit, overlong=recipe.overlong)
    _require_examples(encoded, [path for _, path in recipe.sources])
    if missing := set(recipe.domains) - {example.domain for example in encoded.examples}:
        raise InputError(
            f"No text of the domain {min(missing)!r} can be trained on.", "Raise max_length?"
        )
    counts, evaluated = encoded.counts(), EncodedTexts()
    if held_out:
        evaluated = encode_all((("", text) for text in held_out), encoder, max_length=limit)
        _require_examples(evaluated, recipe.evaluation_sources)
        counts["held_out"] = evaluated.counts()
    return Dataset(
        tokenizer,
        backspace,
        new_token,
        encoded.examples,
        evaluated.examples,
        held_out,
        counts,
        longest_response,
    )


def _require_examples(encoded: EncodedTexts, paths: Iterable[str]) -> None:
    if not encoded.examples:
        reasons = ", ".join(f"{n} {reason}" for reason, n in encoded.dropped.items()) or "no text"
        raise InputError(
            f"No training text of {', '.join(paths)} can be trained on ({reasons}).",
            "Raise max_length, or look at the data with: codegen data inspect.",
        )


def new_tokenizer(name: str, texts: Iterable[TrainingText]) -> Any:
    """The tokenizer of a new model: of the ``words`` of its texts, or an existing one.

    An existing one gets the tokens that frame a text for infilling, where it lacks them.
    """
    if name == "words":
        return words_tokenizer(word for text in texts for word in text.text.split())
    tokenizer = load_tokenizer(name)
    framing = ("cls_token", "bos_token", "mask_token")
    lacking = [kind for kind in framing if getattr(tokenizer, kind) is None]
    tokenizer.add_special_tokens({kind: SPECIAL[kind] for kind in lacking})
    return tokenizer


def words_tokenizer(words: Iterable[str]) -> Any:
    """One token per word between blanks, numbers first and in their order."""
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
        infilling: for a model that fills gaps: the trained part is the body, without an end token.
    """

    def __init__(
        self,
        tokenizer: Any,
        format: Format,
        systems: dict[str, str] | None = None,
        *,
        infilling: bool = False,
    ) -> None:
        self.tokenizer, self.format, self.systems = tokenizer, format, systems or {}
        self.infilling = infilling
        self.end = end_of_turn(tokenizer) if format == "chat" else [tokenizer.eos_token_id]
        bos = [tokenizer.bos_token_id]
        self._opening = bos if tokenizer("a").input_ids[:1] == bos else []
        self._codec: Codec | None = None
        self._known: set[str] = set()

    def encode(self, text: TrainingText, domain: str = "") -> EncodedExample:
        """One text.

        Raises:
            InputError: if its trajectory is unsound, or was made for another tokenizer or format;
                if the model lacks a special token that it needs; or, for infilling, if it is more
                than a prompt and a response.
        """
        if self.infilling:
            return self._body(text, domain)
        if is_trajectory(text):
            return self._trajectory(text, domain)
        for token in text.meta.get("special_tokens", ()):
            self._require(token, text)
        ids: list[int] = []
        nodes: list[int] = []

        def add(new: list[int], train: bool) -> None:
            if train:  # the first token of all cannot be predicted
                nodes.extend(range(max(len(ids) - 1, 0), len(ids) + len(new) - 1))
            ids.extend(new)

        runs = [
            (train, "".join(segment.text for segment in run))
            for train, run in groupby(text.segments, key=lambda segment: segment.train)
        ]
        if self.format == "chat":
            prompt = runs.pop(0)[1] if runs and not runs[0][0] else ""
            add(chat_prompt(self.tokenizer, prompt.strip(), self.systems.get(domain, "")), False)
        else:
            add(self._opening, False)
        for train, run in runs:
            add(self._ids(run), train)
        final = bool(runs and runs[-1][0])
        if final:
            add(self.end, True)
        then = [node + 1 for node in nodes]
        targets = [ids[slot] for slot in then]
        layout = causal(len(ids))
        return EncodedExample(text.example_id, ids, nodes, targets, then, layout, domain, final)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _require(self, token: str, text: TrainingText) -> None:
        if token in self._known:
            return
        if len(self._ids(token)) != 1:
            raise InputError(
                f"Text {text.id!r} needs the special token {token}, which the model's tokenizer"
                " does not have.",
                "Choose the model family's style: codegen data infilling --style.",
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


def encode_all(
    texts: Iterable[tuple[str, TrainingText]],
    encoder: TextEncoder,
    *,
    max_length: int,
    overlong: Literal["drop", "cut"] = "drop",
) -> EncodedTexts:
    """Encodes (domain, text) pairs; texts without trainable tokens and over-long ones are counted.

    ``cut`` keeps the first ``max_length`` tokens: the whole prompt, and as much of the response as
    fits. A text with backspaces is never cut.
    """
    encoded = EncodedTexts()
    for domain, text in texts:
        example = encoder.encode(text, domain)
        if len(example) > max_length:
            if overlong == "drop" or is_trajectory(text):
                encoded.drop("too_long", len(example))
                continue
            encoded.cut += 1
            encoded.cut_tokens += len(example) - max_length
            example = _cut(example, max_length)
        if not example.targets:
            encoded.drop("no_trainable_token", len(example))
            continue
        encoded.examples.append(example)
    return encoded


def _cut(example: EncodedExample, length: int) -> EncodedExample:
    kept = sum(then < length for then in example.then)
    return EncodedExample(
        example.example_id,
        example.ids[:length],
        example.nodes[:kept],
        example.targets[:kept],
        example.then[:kept],
        causal(length),
        example.domain,
        final=False,
    )


def encode_pieces(
    texts: Iterable[tuple[str, TrainingText]],
    tokenizer: Any,
    *,
    least: int,
    most: int,
    seed: int | None,
) -> EncodedTexts:
    """All tokens of (domain, text) pairs in pieces of 2^k, each token predicted exactly once.

    Args:
        texts: prompts and responses alike are trained on.
        tokenizer: the model's.
        least, most: shortest and longest piece, rounded down to a power of two (``most``).
        seed: of the pieces' lengths; None for the longest that fit. See :func:`decompose`.
    """
    encoded = EncodedTexts()
    most = 1 << (most.bit_length() - 1)
    for domain, text in texts:
        ids = [*tokenizer(text.text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        at = 0
        rng = random.Random(f"{seed}:{text.id}") if seed is not None else None
        for size in decompose(len(ids) - 1, least, most, rng):
            slots = list(range(size))
            name, targets = f"{text.example_id}@{at}", ids[at + 1 : at + size + 1]
            piece = EncodedExample(
                name, ids[at : at + size], slots, targets, slots, causal(size), domain, final=False
            )
            encoded.examples.append(piece)
            at += size
        if rest := len(ids) - 1 - at:
            encoded.drop("below_least", rest)
    return encoded


def decompose(length: int, least: int, most: int, rng: random.Random | None = None) -> list[int]:
    """Lengths of a document's pieces in order, powers of two from ``least`` to ``most``.

    Source: Dataset Decomposition (arXiv 2405.13226), section 3.1. A document of l tokens gives
    pieces of ``most`` while enough tokens are left, then the binary digits of the rest, the largest
    first; a rest below ``least`` is lost.

    Args:
        length: tokens of the document.
        least: the shortest piece.
        most: the longest.
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
