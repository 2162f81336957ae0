"""Requests as tokens, alike for every back-end that runs a model in this process."""

from __future__ import annotations

from typing import Any

from codegen.decoding.healing import Healed, Vocabulary
from codegen.errors import ModelError
from codegen.generation.protocol import Request
from codegen.models.chat import chat_prompt, end_of_turn


def encode(request: Request, tokenizer: Any, vocabulary: Vocabulary, *, heals: bool) -> Healed:
    """The prompt's tokens; of a prompt that is healed, without those taken back.

    Args:
        request: what is asked.
        tokenizer: the model's.
        vocabulary: the bytes of its tokens.
        heals: whether the decoder can let the first tokens reach back over the prompt's end.

    Raises:
        ModelError: for a chat request to a model without a chat template, and for an empty prompt
            where the tokenizer has no token to start from.
    """
    if request.chat:
        return Healed(chat_prompt(tokenizer, request.prompt), b"", [])
    ids = tokenizer(request.prompt).input_ids or [_first_token(tokenizer)]
    return vocabulary.heal(ids) if request.heal and heals else Healed(ids, b"", [])


def end_tokens(tokenizer: Any, *configs: Any) -> frozenset[int]:
    """All ids that end a sequence.

    They come from the tokenizer, the chat template, since the end of a turn need not be the end of
    a sequence, and the given configurations (the model's and that of its generation).
    """
    ids: set[int] = set()
    if tokenizer.chat_template:
        ids.add(end_of_turn(tokenizer)[-1])
    for source in (tokenizer, *configs):
        value = getattr(source, "eos_token_id", None)
        ids.update(value if isinstance(value, list) else [value] if value is not None else [])
    return frozenset(ids)


def _first_token(tokenizer: Any) -> int:
    """What an empty prompt starts from."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise ModelError("The prompt is empty and the tokenizer has no token to start from.")
