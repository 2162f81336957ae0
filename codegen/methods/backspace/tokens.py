"""The tokenizer with a backspace token, and the exact mapping between texts and tokens.

Text never becomes a control token: markers such as ``<|im_end|>`` or ``<bkspc>`` in a program are
split into ordinary tokens. Limit: markers that a tokenizer adds without the flag ``special`` (such
as runs of whitespace, or ``<think>``) are matched as usual.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from codegen.core.errors import ConfigError, InputError, ModelError, SkippedExample
from codegen.core.generation import BKSPC
from codegen.core.records import TrainingText

Format = Literal["plain", "chat"]
_TOKENIZER_REMEDY = "Choose another --model: 'embedded', a directory, or a hub id."


class UnsuitableExample(SkippedExample):
    """An example is unsuitable for backspace data: ``empty``, ``empty_prompt``, ``not_unicode``,
    ``special_in_prompt``, ``too_long`` or ``replay_mismatch``.
    """

    subject = "No backspace data"


def with_backspace(tokenizer: Any) -> tuple[Any, int]:
    """Returns a copy of a tokenizer with the special token ``<bkspc>``, and the token's id.

    A tokenizer that already has the token is returned unchanged, so that data made with a
    fine-tuned model's tokenizer matches data made with the base model's.

    Raises:
        ConfigError: if ``<bkspc>`` is an ordinary token of the vocabulary.
    """
    known = tokenizer.get_vocab().get(BKSPC)
    if known is not None:
        added = tokenizer.added_tokens_decoder.get(known)
        if added is None or not added.special:
            raise ConfigError(
                f"{BKSPC} is an ordinary token (id {known}) of this tokenizer.", _TOKENIZER_REMEDY
            )
        return tokenizer, known
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(tokenizer)
    token = AddedToken(BKSPC, special=True, normalized=False)
    tokenizer.add_tokens([token], special_tokens=True)
    return tokenizer, tokenizer.convert_tokens_to_ids(BKSPC)


def fingerprint(tokenizer: Any) -> str:
    """Returns a hash of everything that determines a fast tokenizer's ids, including ``<bkspc>``;
    padding, truncation and the post-processor are unused.
    """
    tokenizer, _ = with_backspace(tokenizer)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    parts = ("model", "normalizer", "pre_tokenizer", "decoder", "added_tokens")
    kept = {part: state[part] for part in parts}
    kept["added_tokens"] = sorted(kept["added_tokens"], key=lambda token: token["id"])
    text = json.dumps(kept, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Target:
    """The final tokens of a trajectory: prompt and completion.

    Attributes:
        prompt: token ids of the prompt.
        text: the completion as text.
        clean: token ids of the completion, then of its end (EOS).
        offsets: character range [start, end) of each token of the text.
    """

    prompt: tuple[int, ...]
    text: str
    clean: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class Codec:
    """A fast tokenizer with a backspace token.

    Attributes:
        name: the user's name for the model.
        tokenizer: transformers' tokenizer, with the backspace token.
        bkspc: backspace token id.
        fingerprint: hash of the tokenizer (:func:`fingerprint`).
        ordinary: ids of possible wrong tokens, ascending: all except added tokens.
    """

    def __init__(self, tokenizer: Any, name: str = "") -> None:
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ConfigError(
                f"The tokenizer of {name!r} is not a fast tokenizer, so it has no character "
                "offsets.",
                _TOKENIZER_REMEDY,
            )
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"The tokenizer of {name!r} has no EOS token.", _TOKENIZER_REMEDY)
        self.name = name
        self.tokenizer, self.bkspc = with_backspace(tokenizer)
        self.fingerprint = fingerprint(self.tokenizer)
        # A copy, since the changes below must not affect other users.
        self._core = copy.deepcopy(self.tokenizer.backend_tokenizer)
        self._core.no_padding()
        self._core.no_truncation()
        self._core.encode_special_tokens = True
        added = self.tokenizer.added_tokens_decoder
        self.ordinary = tuple(sorted(set(self.tokenizer.get_vocab().values()) - set(added)))
        bos = [self.tokenizer.bos_token_id]
        self._bos = bos if self.tokenizer("a").input_ids[:1] == bos else []
        self._specials = [token.content for token in added.values() if token.special]

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Returns token ids and their character ranges [start, end), without special tokens.

        Raises:
            UnsuitableExample: ``not_unicode`` for lone surrogates, which no tokenizer accepts.
        """
        try:
            encoding = self._core.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            raise UnsuitableExample("not_unicode", "the text contains a lone surrogate.") from None
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int]) -> str:
        """Decodes tokens, including special tokens; incomplete characters become �."""
        return self._core.decode(list(ids), skip_special_tokens=False)

    def target(self, instruction: str, program: str, format: Format) -> Target:
        r"""Tokenizes an example: prompt and completion separately, as in training.

        In the plain format the prompt is ``instruction + "\n"`` (after BOS, if the tokenizer adds
        it), and EOS follows the completion; in the chat format the template defines both.

        Raises:
            UnsuitableExample: if the prompt or program is empty, or decoding changes the text.
            ModelError: for the chat format, if the tokenizer has no template.
        """
        if not program.strip():
            raise UnsuitableExample("empty", "the program is empty.")
        prompt, end = self._frame(instruction, format)
        if not prompt:
            raise UnsuitableExample("empty_prompt", "the prompt has no tokens.")
        ids, offsets = self.encode(program)
        if self.decode(ids) != program:
            detail = f"the tokenizer of {self.name!r} does not reproduce the program."
            raise UnsuitableExample("replay_mismatch", detail)
        return Target(tuple(prompt), program, (*ids, *end), tuple(offsets))

    def _frame(self, instruction: str, format: Format) -> tuple[list[int], list[int]]:
        tokenizer = self.tokenizer
        if format == "plain":
            return [*self._bos, *self.encode(instruction + "\n")[0]], [tokenizer.eos_token_id]
        from codegen.models.chat import chat_prompt, end_of_turn

        if found := next((word for word in self._specials if word in instruction), None):
            detail = f"{found} in the instruction would be parsed as part of the chat template."
            raise UnsuitableExample("special_in_prompt", detail)
        self.encode(instruction)  # raises for invalid text
        return chat_prompt(tokenizer, instruction.strip()), end_of_turn(tokenizer)


@lru_cache(maxsize=4)
def load_codec(model: str) -> Codec:
    """Returns a model's codec, loaded once per process.

    Raises:
        ConfigError: if the tokenizer does not load or is unsuitable.
    """
    from codegen.models import load_tokenizer

    try:
        tokenizer = load_tokenizer(model)
    except ModelError as error:
        raise ConfigError(error.message, error.remedy or _TOKENIZER_REMEDY) from error
    except Exception as error:  # tokenizers raises bare Exception for a corrupt file
        detail = " ".join(f"{type(error).__name__}: {error}".split()).partition(". ")[0]
        raise ConfigError(
            f"The tokenizer of {model!r} does not load: {detail.rstrip('.')}.", _TOKENIZER_REMEDY
        ) from error
    return Codec(tokenizer, model)


def require_same(text: TrainingText, codec: Codec) -> None:
    """Checks that a text was made with the codec's tokenizer.

    Raises:
        InputError: if the tokenizers differ; names both.
    """
    theirs = text.meta.get("tokenizer_fingerprint")
    if theirs != codec.fingerprint:
        raise InputError(
            f"Text {text.id!r} was made with another tokenizer: {text.meta.get('tokenizer')!r} "
            f"({theirs}), not {codec.name!r} ({codec.fingerprint}).",
            "Regenerate the data with: codegen data backspace --model, or use that model.",
        )


def codec_of_text(text: TrainingText) -> Codec:
    """Loads the tokenizer that a text was made with.

    Raises:
        InputError: if the text does not name its tokenizer, or the tokenizer has changed.
        ConfigError: if the tokenizer cannot be loaded.
    """
    name = text.meta.get("tokenizer")
    if not isinstance(name, str):
        raise InputError(f"Text {text.id!r}: meta['tokenizer'] must be a model name.")
    codec = load_codec(name)
    require_same(text, codec)
    return codec
