"""Encoding of requests and incremental decoding of completions, for token-based backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codegen.core.errors import ModelError
from codegen.core.generation import Request
from codegen.decoding.healing import HealedPrompt, Vocabulary
from codegen.models.chat import chat_prompt, end_of_turn

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.decoders import DecodeStream

# Prompt tokens decoded in front of the completion. SentencePiece tokenizers strip the space of the
# first token; with context, that is not the completion's first token.
_CONTEXT = 4


class TextStream:
    """Decodes one completion, one token at a time.

    A token that ends within a UTF-8 character adds no text until the character is complete. Special
    tokens other than the marks add no text.

    Args:
        tokenizer: the fast tokenizer's backend.
        taken: tokens that healing removed from the prompt's end. The model regenerates their text,
            which is not part of the completion.
        stops: stop strings; the first match truncates the text before it.
        marks: special tokens whose names are kept as text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        taken: Sequence[int] = (),
        stops: Sequence[str] = (),
        marks: Sequence[str] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._stream = _begin(tokenizer, prompt)
        again = _begin(tokenizer, prompt)
        self._skip = sum(len(again.step(tokenizer, token) or "") for token in taken)
        self._stops = tuple(stops)
        self._marks = {tokenizer.token_to_id(mark): mark for mark in marks}
        self._longest_stop = max((len(stop) for stop in stops), default=0)
        self._raw = ""
        self._shown = self._skip
        self.stopped = False

    @property
    def text(self) -> str:
        """The completion so far, without the stop string."""
        return self._raw[self._skip :]

    def push(self, token: int) -> str:
        """Adds the next token; sets ``stopped`` at a stop string.

        Returns:
            The new text. Text that may begin a stop string is held back until the next call, or
            :meth:`flush`, rules that out.
        """
        piece = self._marks.get(token) or self._stream.step(self._tokenizer, token) or ""
        # A stop string can begin in the text before this piece.
        start = max(self._skip, len(self._raw) - self._longest_stop + 1)
        self._raw += piece
        found = [at for stop in self._stops if (at := self._raw.find(stop, start)) >= 0]
        if found:
            self.stopped = True
            self._raw = self._raw[: min(found)]
            return self.flush()
        return self._show(len(self._raw) - self._possible_stop())

    def flush(self) -> str:
        """Returns the text held back; called after the last token."""
        return self._show(len(self._raw))

    def _possible_stop(self) -> int:
        """Returns the length of the longest suffix of the text that begins a stop string."""
        for length in range(min(self._longest_stop - 1, len(self._raw)), 0, -1):
            if any(stop.startswith(self._raw[-length:]) for stop in self._stops):
                return length
        return 0

    def _show(self, end: int) -> str:
        start, self._shown = self._shown, max(self._shown, end)
        return self._raw[start : self._shown]


def _begin(tokenizer: Tokenizer, prompt: Sequence[int]) -> DecodeStream:
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=True)
    for token in prompt[-_CONTEXT:]:
        stream.step(tokenizer, token)
    return stream


def encode(
    request: Request, tokenizer: Any, vocabulary: Vocabulary, *, heals: bool
) -> HealedPrompt:
    """Returns the prompt's tokens, without those that healing removes.

    Args:
        vocabulary: the tokenizer's tokens as bytes.
        heals: True if the decoder supports token healing.

    Raises:
        ModelError: if the model of a chat request has no chat template, or the prompt is empty and
            the tokenizer has no token to start from.
    """
    if request.chat:
        return HealedPrompt(
            chat_prompt(tokenizer, request.prompt, prefill=request.prefill), b"", []
        )
    ids = tokenizer(request.prompt).input_ids or [_first_token(tokenizer)]
    return vocabulary.heal(ids) if request.heal and heals else HealedPrompt(ids, b"", [])


def stream_of(
    tokenizer: Any, prompt: HealedPrompt, stops: Sequence[str], marks: Sequence[str]
) -> TextStream:
    """Returns the text stream for an encoded prompt's completion."""
    return TextStream(tokenizer.backend_tokenizer, prompt.ids, prompt.taken, stops, marks)


def end_tokens(tokenizer: Any, *configs: Any) -> frozenset[int]:
    """Returns all ids that end a sequence.

    Sources are the tokenizer, the chat template, since the end of a turn need not be the end of a
    sequence, and the given model and generation configurations.
    """
    ids: set[int] = set()
    if tokenizer.chat_template:
        ids.add(end_of_turn(tokenizer)[-1])
    for source in (tokenizer, *configs):
        value = getattr(source, "eos_token_id", None)
        ids.update(value if isinstance(value, list) else [value] if value is not None else [])
    return frozenset(ids)


def _first_token(tokenizer: Any) -> int:
    """Returns the first token of an empty prompt."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise ModelError("The prompt is empty and the tokenizer has no token to start from.")
