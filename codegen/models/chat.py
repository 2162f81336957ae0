"""The chat template, for training and generation alike."""

from __future__ import annotations

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
    require_template(tokenizer)
    turns = [{"role": "user", "content": text}]
    if system:
        turns.insert(0, {"role": "system", "content": system})
    from jinja2.exceptions import TemplateError

    try:
        opening = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise ModelError(f"The model's chat template refuses the prompt: {error}.") from None
    return tokenizer(opening, add_special_tokens=False).input_ids


def end_of_turn(tokenizer: Any) -> list[int]:
    """The tokens that end an assistant's turn, read off the chat template.

    Raises:
        ModelError: if the tokenizer has no chat template.
    """
    require_template(tokenizer)
    mark = "\x01answer\x01"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": mark}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
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
            "Use no chat: format plain in a recipe, style plain or continue elsewhere.",
        )
