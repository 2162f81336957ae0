r"""Token healing, for prompts whose last tokens would have been merged with the completion.

In training text, a line break at the end of a prompt is part of a token such as ``"\n    "`` that
spans the prompt's end. The prompt's own tokens are then a sequence that the model has rarely
seen, and the completion suffers (SmolLM2-135M solves none of 40 HumanEval problems this way, and
several when healed). Healing removes the last tokens if their joined bytes begin a longer token,
and constrains the first generated tokens to spell the removed text. The technique is the guidance
library's "token healing"; the rule for the number of removed tokens is new
(:meth:`Vocabulary.heal`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TOKENS_BACK = 4


@dataclass(frozen=True)
class HealedPrompt:
    """A prompt cut back to a safe boundary.

    Attributes:
        ids: the prompt's tokens without the removed ones.
        rest: the bytes that the first generated tokens must spell.
        taken: the removed tokens.
    """

    ids: list[int]
    rest: bytes
    taken: list[int]


class Vocabulary:
    """The bytes of every token, with lookup by prefix.

    Args:
        tokens: bytes of each token id, None for special and unused ids.
    """

    def __init__(self, tokens: Sequence[bytes | None]) -> None:
        self.tokens = tokens

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """Reads a byte-level BPE or SentencePiece-style tokenizer's vocabulary."""
        special = set(tokenizer.all_special_ids)
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        added = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
        # Read the decoder's description, as inspecting the tokens would be a guess.
        backend: Any = tokenizer.backend_tokenizer
        byte_level = b"ByteLevel" in backend.decoder.__getstate__()
        tokens: list[bytes | None] = []
        for index, piece in enumerate(pieces):
            if piece is None or index in special:
                tokens.append(None)
            elif index in added:
                tokens.append(added[index].encode())
            else:
                tokens.append(_byte_level(piece) if byte_level else _sentencepiece(piece))
        return cls(tokens)

    @cached_property
    def _sorted(self) -> tuple[list[bytes], list[int]]:
        order = sorted((token, i) for i, token in enumerate(self.tokens) if token)
        return [token for token, _ in order], [i for _, i in order]

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._sorted[0]), default=0)

    def starting_with(self, prefix: bytes) -> list[int]:
        """Returns the ids of the tokens that begin with ``prefix``."""
        keys, ids = self._sorted
        low = bisect_left(keys, prefix)
        high = bisect_left(keys, prefix + b"\xff" * 64, lo=low)
        return ids[low:high]

    def spelling(self, text: bytes) -> list[int]:
        """Returns the ids of the tokens that are a non-empty prefix of ``text``."""
        keys, ids = self._sorted
        found = []
        for length in range(1, min(len(text), self._longest) + 1):
            at = bisect_left(keys, text[:length])
            while at < len(keys) and keys[at] == text[:length]:
                found.append(ids[at])
                at += 1
        return found

    def allowed(self, rest: bytes) -> list[int]:
        """Returns ids of tokens that begin with ``rest`` or are its proper, non-empty prefix."""
        return self.starting_with(rest) + self.spelling(rest[:-1])

    def after(self, rest: bytes, token: int) -> bytes:
        """Returns the remainder of ``rest`` after ``token``."""
        return rest[len(self.tokens[token] or b"") :]

    def heal(self, ids: list[int]) -> HealedPrompt:
        """Removes up to four tokens whose joined bytes begin a longer token.

        Never removes the first token of a prompt, and never cuts inside a multi-byte character.
        """
        best, rest = 0, b""
        joined = b""
        for count in range(1, min(MAX_TOKENS_BACK, len(ids) - 1) + 1):
            token = self.tokens[ids[-count]]
            if token is None:
                break
            joined = token + joined
            if _is_text(joined) and any(
                len(self.tokens[i] or b"") > len(joined) for i in self.starting_with(joined)
            ):
                best, rest = count, joined
        cut = len(ids) - best
        return HealedPrompt(ids[:cut], rest, ids[cut:])


def read_vllm_tokenizer(model_config: Any) -> Any:
    """Loads a vLLM configuration's tokenizer as vLLM does, for plugins in vLLM's workers.

    Args:
        model_config: vLLM's ``ModelConfig``.
    """
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        model_config.tokenizer,
        revision=getattr(model_config, "tokenizer_revision", None),
        trust_remote_code=bool(getattr(model_config, "trust_remote_code", False)),
    )


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _byte_level(piece: str) -> bytes | None:
    if any(char not in _BYTE_OF for char in piece):
        return None
    return bytes(_BYTE_OF[char] for char in piece)


def _sentencepiece(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode()


def _bytes_to_unicode() -> dict[str, int]:
    """Returns GPT-2's map of bytes to printable characters, inverted."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in visible}
    hidden = (byte for byte in range(256) if byte not in set(visible))
    table.update({chr(256 + i): byte for i, byte in enumerate(hidden)})
    return table


_BYTE_OF = _bytes_to_unicode()
