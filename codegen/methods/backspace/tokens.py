"""The tokenizer with a backspace token, and the exact correspondence of texts and tokens.

Text never becomes a control token: ``<|im_end|>``, ``<bkspc>`` and the like in a program are split
into ordinary tokens. Limit: markers that a tokenizer adds without the flag ``special`` (such as
runs of whitespace, or ``<think>``) are matched as usual.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from codegen.errors import ConfigError, InputError, ModelError, SkippedExample
from codegen.generation.protocol import BKSPC
from codegen.records import TrainingText

Format = Literal["plain", "chat"]
_TOKENIZER_REMEDY = "Give another --model: 'embedded', a directory, or a hub id."


class UnsuitableExample(SkippedExample):
    """An example gives no backspace data; the reason is ``empty``, ``empty_prompt``,
    ``not_unicode``, ``special_in_prompt``, ``too_long`` or ``replay_mismatch``.
    """

    subject = "No backspace data"


def with_backspace(tokenizer: Any) -> tuple[Any, int]:
    """A copy of a tokenizer with the special token ``<bkspc>``, and the token's id.

    A tokenizer that already has the token is returned itself, so that data made with a fine-tuned
    model's tokenizer agrees with data made with the base model's.

    Raises:
        ConfigError: if ``<bkspc>`` is an ordinary word of the vocabulary.
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
    """A hash of everything that decides a fast tokenizer's ids, including ``<bkspc>``; padding,
    truncation and the post-processor are not used here.
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
    """The final tokens of a trajectory: the prompt's and the completion's.

    Attributes:
        prompt: token ids.
        text: the completion as text.
        clean: its token ids, then the ids that end it (EOS).
        offsets: the characters [start, end) of each token of the text.
    """

    prompt: tuple[int, ...]
    text: str
    clean: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class Codec:
    """A fast tokenizer as this package uses it.

    Attributes:
        name: the model's name as the user gave it.
        tokenizer: transformers' tokenizer, with the backspace token.
        bkspc: its id.
        fingerprint: see :func:`fingerprint`.
        ordinary: the ids of possible wrong tokens, ascending: all but added tokens.
    """

    def __init__(self, tokenizer: Any, name: str = "") -> None:
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ConfigError(
                f"The tokenizer of {name!r} is a slow one, which gives no character offsets.",
                _TOKENIZER_REMEDY,
            )
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"The tokenizer of {name!r} has no EOS token.", _TOKENIZER_REMEDY)
        self.name = name
        self.tokenizer, self.bkspc = with_backspace(tokenizer)
        self.fingerprint = fingerprint(self.tokenizer)
        # A copy, since the changes below must not affect others.
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
        """Token ids and their [start, end) characters, without special tokens.

        Raises:
            UnsuitableExample: ``not_unicode`` for lone surrogates, which no tokenizer takes.
        """
        try:
            encoding = self._core.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            raise UnsuitableExample("not_unicode", "the text holds a lone surrogate.") from None
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens, special ones by their names; � for a part of a character."""
        return self._core.decode(list(ids), skip_special_tokens=False)

    def target(self, instruction: str, program: str, format: Format) -> Target:
        r"""The tokens of an example. Prompt and completion are tokenized apart, as in training.

        In the plain format the prompt is ``instruction + "\n"`` (after BOS, where the tokenizer
        adds it) and EOS ends the completion; in the chat format the template decides both.

        Raises:
            UnsuitableExample: if there is nothing to train on, or decoding gives another text.
            ModelError: for the chat format, if the tokenizer has no template.
        """
        if not program.strip():
            raise UnsuitableExample("empty", "the program is empty.")
        prompt, end = self._frame(instruction, format)
        if not prompt:
            raise UnsuitableExample("empty_prompt", "the prompt has no token.")
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
            detail = f"{found} in the instruction would be read as part of the chat template."
            raise UnsuitableExample("special_in_prompt", detail)
        self.encode(instruction)  # for its error
        return chat_prompt(tokenizer, instruction.strip()), end_of_turn(tokenizer)


@lru_cache(maxsize=4)
def load_codec(model: str) -> Codec:
    """The tokenizer of a model, loaded once a process.

    Raises:
        ConfigError: if it does not load, or can't be used.
    """
    from codegen.models import load_tokenizer

    try:
        tokenizer = load_tokenizer(model)
    except ModelError as error:
        raise ConfigError(error.message, error.remedy or _TOKENIZER_REMEDY) from error
    except Exception as error:  # tokenizers raises bare ones for a damaged file
        detail = " ".join(f"{type(error).__name__}: {error}".split()).partition(". ")[0]
        raise ConfigError(
            f"The tokenizer of {model!r} does not load: {detail.rstrip('.')}.", _TOKENIZER_REMEDY
        ) from error
    return Codec(tokenizer, model)


def require_same(text: TrainingText, codec: Codec) -> None:
    """Refuses a text that was made with another tokenizer.

    Raises:
        InputError: naming the text and both tokenizers.
    """
    theirs = text.meta.get("tokenizer_fingerprint")
    if theirs != codec.fingerprint:
        raise InputError(
            f"Text {text.id!r} was made with another tokenizer: {text.meta.get('tokenizer')!r} "
            f"({theirs}), not {codec.name!r} ({codec.fingerprint}).",
            "Make the data again with: codegen data backspace --model, or name that model.",
        )


def codec_of_text(text: TrainingText) -> Codec:
    """The tokenizer that a text was made with.

    Raises:
        InputError: if the text names none, or that tokenizer has changed.
        ConfigError: if it cannot be loaded.
    """
    name = text.meta.get("tokenizer")
    if not isinstance(name, str):
        raise InputError(f"Text {text.id!r}: meta['tokenizer'] must be a model's name.")
    codec = load_codec(name)
    require_same(text, codec)
    return codec
