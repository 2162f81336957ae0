"""From tokens to text as they come: incremental decoding and stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Tokens of the prompt decoded in front of the completion. SentencePiece tokenizers strip the space
# of a text's first token; with context before it, the completion's first token is not the first.
_CONTEXT = 4


class TextStream:
    """The text of one completion, one token at a time.

    A token that ends within a UTF-8 character gives no text until the character is whole. Special
    tokens give none at all.

    Args:
        tokenizer: the fast tokenizer's back-end.
        prompt: the prompt's token ids.
        skip: the text that token healing spells again; it does not belong to the completion.
        stops: strings of which the first to appear ends the text, exclusively.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int], skip: str, stops: Sequence[str]
    ) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        for token in prompt[-_CONTEXT:]:
            self._stream.step(tokenizer, token)
        self._skip = len(skip)
        self._stops = tuple(stops)
        self._longest_stop = max((len(stop) for stop in stops), default=0)
        self._raw = ""
        self.stopped = False

    @property
    def text(self) -> str:
        """The completion so far, without the stop string."""
        return self._raw[self._skip :]

    def push(self, token: int) -> str:
        """Takes the next token and returns the new text; sets ``stopped`` at a stop string."""
        piece = self._stream.step(self._tokenizer, token) or ""
        # A stop string can begin in the text before this piece.
        start = max(self._skip, len(self._raw) - self._longest_stop + 1)
        known = len(self._raw)
        self._raw += piece
        found = [at for stop in self._stops if (at := self._raw.find(stop, start)) >= 0]
        if found:
            self.stopped = True
            self._raw = self._raw[: min(found)]
        return self._raw[max(known, self._skip) :]
