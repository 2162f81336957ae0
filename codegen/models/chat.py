"""The chat template, for training and generation alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from codegen.errors import ModelError


def chat_prompt(tokenizer: Any, text: str, system: str = "") -> list[int]:
    """Token ids of a user's turn with ``text``, up to where the assistant's answer begins.

    Args:
        tokenizer: the model's.
        text: what the user says.
        system: the system prompt; empty for the template's own.

    Raises:
        ModelError: if the tokenizer has no chat template, or one that takes no system prompt.
    """
    turns = [{"role": "user", "content": text}]
    if system:
        turns.insert(0, {"role": "system", "content": system})
    return tokenizer(_rendered(tokenizer, turns), add_special_tokens=False).input_ids


def conversation(
    tokenizer: Any, turns: Sequence[Mapping[str, str]], control: re.Pattern[str]
) -> tuple[str, list[int]]:
    """The text and the token ids of a conversation, up to where the assistant's answer begins.

    What the turns say gives no control token: text that spells one is tokenized in two pieces.

    Args:
        tokenizer: the model's, a fast one.
        turns: each with a ``role`` and a ``content``.
        control: matches text that spells a control token.

    Raises:
        ModelError: if the tokenizer has no chat template, or one that refuses the turns.
    """
    used = set().union(*(turn["content"] for turn in turns))
    cut = next(mark for mark in map(chr, range(0xE000, 0x110000)) if mark not in used)
    guarded = [
        {**turn, "content": control.sub(lambda m: f"{m[0][0]}{cut}{m[0][1:]}", turn["content"])}
        for turn in turns
    ]
    parts = _rendered(tokenizer, guarded).split(cut)
    encode = tokenizer.backend_tokenizer.encode
    ids = [token for part in parts for token in encode(part, add_special_tokens=False).ids]
    return "".join(parts), ids


def _rendered(tokenizer: Any, turns: Sequence[Mapping[str, str]], *, opens: bool = True) -> str:
    """The text of a conversation; with ``opens`` up to where the next answer begins."""
    require_template(tokenizer)
    from jinja2.exceptions import TemplateError

    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opens)
    except TemplateError as error:
        raise ModelError(f"The model's chat template refuses the prompt: {error}.") from None


def end_of_turn(tokenizer: Any) -> list[int]:
    """The tokens that end an assistant's turn, read off the chat template.

    Raises:
        ModelError: if the tokenizer has no chat template.
    """
    mark = "\x01answer\x01"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": mark}]
    rendered = _rendered(tokenizer, turns, opens=False)
    closing = tokenizer(rendered.partition(mark)[2], add_special_tokens=False).input_ids
    for at, token in enumerate(closing):
        if token in tokenizer.all_special_ids:
            return closing[: at + 1]
    return [*closing, tokenizer.eos_token_id]


def require_template(tokenizer: Any) -> None:
    """Raises a ModelError if the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise ModelError(
            "The model's tokenizer has no chat template.",
            "Use format: plain in a recipe, or --style plain or continue elsewhere.",
        )
