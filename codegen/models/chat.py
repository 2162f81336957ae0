"""The chat template, for training and generation.

A template is untrusted code, so a child process renders it with limits on time and memory; see
:mod:`codegen.core.templates`. The child runs this file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from codegen.core.errors import ModelError, in_one_line
from codegen.core.templates import TemplateFailure, TemplateProcess, serve

_process = TemplateProcess(__file__)


def chat_prompt(tokenizer: Any, text: str, system: str = "", prefill: str = "") -> list[int]:
    """Returns the token ids of a user's turn, up to the start of the assistant's answer.

    Args:
        system: the system prompt; empty for the template's default.
        prefill: the beginning of the answer.

    Raises:
        ModelError: if the tokenizer has no chat template, or one that rejects the system prompt.
    """
    turns = [{"role": "user", "content": text}]
    if system:
        turns.insert(0, {"role": "system", "content": system})
    return tokenizer(render(tokenizer, turns) + prefill, add_special_tokens=False).input_ids


def control_tokens(tokenizer: Any, *, special: bool = False) -> list[str]:
    """Returns the control tokens of a tokenizer, longest first.

    ``all_special_tokens`` lacks some of them (``<|end|>`` of Phi-3, ``<|eot_id|>`` of Llama 3,
    ``<end_of_turn>`` of Gemma).

    Args:
        special: only tokens marked as special. Unmarked ones like ``<think>`` are part of answers.
    """
    added = tokenizer.added_tokens_decoder.values()
    found = {str(token) for token in added if token.special or not special}
    found |= set(tokenizer.all_special_tokens)
    return sorted((t for t in found if len(t) > 1 and t.strip()), key=lambda t: (-len(t), t))


def control_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """Returns a pattern that matches text which spells a control token."""
    return re.compile("|".join(map(re.escape, tokens)) or r"(?!)")


def conversation(
    tokenizer: Any, turns: Sequence[Mapping[str, str]], control: re.Pattern[str]
) -> tuple[str, list[int]]:
    """Returns the text and token ids of a conversation, up to the assistant's answer.

    The turns cannot produce control tokens: text that spells one is split before tokenization.

    Args:
        turns: each with a ``role`` and a ``content``.
        control: pattern of text that spells a control token.

    Raises:
        ModelError: if the tokenizer has no chat template, or one that rejects the turns.
    """
    used = set().union(*(turn["content"] for turn in turns))
    cut = next(mark for mark in map(chr, range(0xE000, 0x110000)) if mark not in used)
    guarded = [
        {**turn, "content": control.sub(lambda m: f"{m[0][0]}{cut}{m[0][1:]}", turn["content"])}
        for turn in turns
    ]
    parts = render(tokenizer, guarded).split(cut)
    encode = tokenizer.backend_tokenizer.encode
    ids = [token for part in parts for token in encode(part, add_special_tokens=False).ids]
    return "".join(parts), ids


def render(
    tokenizer: Any,
    turns: Sequence[Mapping[str, Any]],
    *,
    opens: bool = True,
    tools: Sequence[Any] = (),
    variables: Mapping[str, Any] | None = None,
) -> str:
    """Renders a conversation as transformers' ``apply_chat_template`` does.

    Args:
        opens: True adds the start of the next answer.
        tools: functions that the model may call, as JSON schemas.

    Raises:
        ModelError: if the tokenizer has no chat template, or one that rejects the turns or exceeds
            its limits.
    """
    return _fill(tokenizer, turns, tools, variables, {"add_generation_prompt": opens})


def marked_stretches(
    tokenizer: Any,
    turns: Sequence[Mapping[str, Any]],
    tools: Sequence[Any],
    variables: Mapping[str, Any],
) -> list[tuple[int, int]]:
    """Returns the positions of the template's ``{% generation %}`` marks in the rendered text.

    Raises:
        ModelError: as :func:`render`.
    """
    arguments = {"return_assistant_tokens_mask": True}
    _, marks = json.loads(_fill(tokenizer, turns, tools, variables, arguments))
    return [(start, stop) for start, stop in marks]


def _fill(
    tokenizer: Any,
    turns: Sequence[Mapping[str, Any]],
    tools: Sequence[Any],
    variables: Mapping[str, Any] | None,
    arguments: Mapping[str, bool],
) -> str:
    require_template(tokenizer)
    try:
        # As in apply_chat_template, a key without a value counts as missing.
        messages = [{k: v for k, v in turn.items() if v is not None} for turn in turns]
        if not messages:
            raise TemplateFailure("the conversation is empty")
        template = tokenizer.get_chat_template(tools=list(tools) or None)
        if not isinstance(template, str):
            raise TemplateFailure("the template is not a string")
        return _process.fill(
            template,
            {
                "conversations": [messages],
                "tools": list(tools) or None,
                **tokenizer.special_tokens_map,
                **(variables or {}),
                **arguments,
            },
        )
    except (TemplateFailure, ValueError) as error:  # ValueError: several templates, no default
        raise ModelError(
            f"The model's chat template rejects the prompt: {in_one_line(error)}."
        ) from None


def end_of_turn(tokenizer: Any) -> list[int]:
    """Returns the tokens that end an assistant's turn in the chat template.

    Raises:
        ModelError: if the tokenizer has no chat template.
    """
    mark = "\x01answer\x01"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": mark}]
    rendered = render(tokenizer, turns, opens=False)
    closing = tokenizer(rendered.partition(mark)[2], add_special_tokens=False).input_ids
    special = set(tokenizer.convert_tokens_to_ids(control_tokens(tokenizer, special=True)))
    for at, token in enumerate(closing):
        if token in special:
            return closing[: at + 1]
    return [*closing, tokenizer.eos_token_id]


def require_template(tokenizer: Any) -> None:
    """Raises a ModelError if the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise ModelError(
            "The model's tokenizer has no chat template.",
            "Use format: plain in a recipe, or --style plain or continue elsewhere.",
        )


def _serve() -> None:
    # Importing the whole packages takes seconds; this module does not need them.
    for name in ("transformers", "transformers.utils"):
        spec = find_spec(name)
        assert spec and spec.submodule_search_locations
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = list(spec.submodule_search_locations)
        sys.modules[name].__spec__ = spec
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(template: str, arguments: dict[str, Any]) -> str:
        (text,), marks = render_jinja_template(chat_template=template, **arguments)
        return json.dumps((text, marks[0])) if marks else text

    serve(render)


if __name__ == "__main__":
    _serve()
