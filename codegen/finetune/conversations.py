"""Conversations rendered by a chat template, with the parts of the text that are trained.

At inference the model sees the template's rendering of the earlier messages, up to where its answer
begins. So the answer of turn i is what ``render(messages[:i + 1])`` adds to
``render(messages[:i], add_generation_prompt=True)``, up to and including the token that ends a
turn. If each of these texts is the beginning of the next one, a conversation is one text with a
trained part for each turn. Some templates render earlier turns differently once there are later
ones (Qwen 3 drops their reasoning): then each answer becomes a text of its own, as it is served.

Messages of users, tools and the system never become control tokens: text that spells one is
tokenized in two pieces, as in our server.

If a template marks the assistant's tokens itself (``{% generation %}``), only the marked part of
each answer is trained, and the end of the turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from codegen.errors import ConfigError, InputError, ModelError
from codegen.finetune.recipe import Turns
from codegen.models.chat import marked_stretches, render, require_template
from codegen.records import Messages


class Stretch(NamedTuple):
    """Characters ``start`` to ``stop`` of a text."""

    start: int
    stop: int


# Inserted where text that spells a control token is cut: a noncharacter.
_CUT = "\ufdd0"


class Rendered(NamedTuple):
    """A text and its trained stretches in order; it is tokenized in pieces between cuts."""

    text: str
    trained: tuple[Stretch, ...]

    def runs(self) -> list[tuple[str, bool]]:
        """The pieces in order, and whether each is trained."""
        runs, at = [], 0
        for start, stop in self.trained:
            runs += [(self.text[at:start], False), (self.text[start:stop], True)]
            at = stop
        runs.append((self.text[at:], False))
        return [(piece, flag) for text, flag in runs for piece in text.split(_CUT) if piece]


class Renderer:
    """Renders conversations with a tokenizer's chat template.

    Args:
        turns: ``all``: a conversation is one text, or an error; ``split``: one text per answer;
            ``last``: one text for the last answer; ``auto``: all, or split where the template
            renders earlier turns differently.

    Raises:
        ModelError: if the tokenizer has no chat template.
        ConfigError: if the template does not end the assistant's turns.
    """

    def __init__(self, tokenizer: Any, turns: Turns = "auto") -> None:
        require_template(tokenizer)
        self.tokenizer, self.turns = tokenizer, turns
        self.has_marks = has_generation_marks(tokenizer)
        mark = "\x01answer\x01"
        probe = ({"role": "user", "content": "q"}, {"role": "assistant", "content": mark})
        closing = self._render(probe, Messages("", probe, (False, True))).partition(mark)[2]
        special = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
        self._control = re.compile("|".join(re.escape(t) for t in special if len(t) > 1) or r"(?!)")
        found = re.search("|".join(map(re.escape, special)) or r"\Z", closing)
        if not found or not found[0]:
            raise ConfigError(
                "The model's chat template has no token at the end of an answer, so the model "
                "would not learn to stop.",
                "Use a model with another template, or give the data as texts and format: plain.",
            )
        self.end = found[0]

    def _guarded(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        if message["role"] == "assistant":
            return message
        text = message["content"].replace(_CUT, "")
        cut = self._control.sub(lambda m: f"{m[0][0]}{_CUT}{m[0][1:]}", text)
        return {**message, "content": cut}

    def texts(self, talk: Messages) -> list[Rendered]:
        """The texts of a conversation; none if no message is trained.

        Raises:
            InputError: naming the conversation, if the template refuses it or does not render an
                answer as it is served.
        """
        wanted = [number for number, trained in enumerate(talk.train) if trained]
        if not wanted:
            return []
        talk = replace(talk, messages=tuple(map(self._guarded, talk.messages)))
        if self.turns in ("auto", "all"):
            if whole := self._rendered(talk, wanted):
                return [whole]
            if self.turns == "all":
                raise InputError(
                    f"Conversation {talk.id!r}: the chat template shows earlier answers "
                    "differently once there are later messages.",
                    "Set turns: auto or split, which give each answer a text of its own.",
                )
        wanted = wanted[-1:] if self.turns == "last" else wanted
        found = (self._rendered(talk, [number]) for number in wanted)
        return [text for text in found if text is not None]

    def _rendered(self, talk: Messages, wanted: Sequence[int]) -> Rendered | None:
        """One text up to the last wanted answer; None if the renderings disagree."""
        messages = talk.messages[: wanted[-1] + 1]
        text, trained = self._render(messages, talk), []
        for number in wanted:
            head = self._render(messages[:number], talk, opens_answer=True)
            upto = self._render(messages[: number + 1], talk)
            end = upto.rfind(self.end, len(head))
            if not upto.startswith(head) or end < 0:
                raise InputError(
                    f"Conversation {talk.id!r}: the chat template renders message "
                    f"{number + 1} differently from how it is served, after the answer's opening.",
                    "Set chat_template_kwargs (such as enable_thinking: false), give the message "
                    "its reasoning_content, or leave it out.",
                )
            stop = end + len(self.end)
            if not text.startswith(upto[:stop]):
                return None
            trained.append(Stretch(len(head), stop))
        text = text[: trained[-1].stop]
        if self.has_marks:
            trained = self._marked(text, trained, messages, talk)
        return Rendered(text, tuple(trained))

    def _marked(
        self, text: str, answers: Sequence[Stretch], messages: Sequence[Any], talk: Messages
    ) -> list[Stretch]:
        """The parts of each answer that the template marks, and the end of the turn."""
        marks = marked_stretches(self.tokenizer, messages, talk.tools, talk.template_arguments)
        kept = []
        for start, stop in answers:
            inside = [(max(start, a), min(stop, b)) for a, b in marks if a < stop and b > start]
            end = stop - len(self.end)
            if inside and inside[-1][1] == end:  # marks that leave out the end of the turn
                inside[-1] = (inside[-1][0], stop)
            elif not inside or inside[-1][1] < stop:
                inside.append((end, stop))
            kept += [Stretch(*stretch) for stretch in inside]
        return kept

    def _render(
        self, messages: Sequence[Mapping[str, Any]], talk: Messages, opens_answer: bool = False
    ) -> str:
        def attempt(given: Sequence[Mapping[str, Any]]) -> str:
            return render(
                self.tokenizer,
                given,
                opens=opens_answer,
                tools=talk.tools,
                variables=talk.template_arguments,
            )

        try:
            try:
                return attempt(messages)
            except ModelError:  # DeepSeek's template concatenates a call's arguments with text
                if not any(message.get("tool_calls") for message in messages):
                    raise
                return attempt([_with_text_arguments(message) for message in messages])
        except ModelError as error:
            raise InputError(f"Conversation {talk.id!r}: {error.message}") from None


def has_generation_marks(tokenizer: Any) -> bool:
    """Whether the chat template marks the assistant's tokens."""
    return bool(re.search(r"\{%-?\s*generation\b", str(tokenizer.chat_template)))


def _with_text_arguments(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = [
        {**call, "function": {**f, "arguments": json.dumps(f["arguments"], ensure_ascii=False)}}
        for call in message.get("tool_calls", ())
        if (f := call["function"])
    ]
    return {**message, "tool_calls": calls} if calls else dict(message)


def set_template_arguments(
    tokenizer: Any, arguments: Mapping[str, bool | int | float | str]
) -> None:
    """Sets defaults of the chat template's variables, in place.

    They become part of the template, which is saved with the model, so that every server renders
    prompts as in training.
    """
    if not arguments:
        return
    require_template(tokenizer)
    values = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {json.dumps(value)} %}}{{%- endif %}}"
        for name, value in sorted(arguments.items())
    )
    template = tokenizer.chat_template
    if isinstance(template, dict):
        tokenizer.chat_template = {name: values + text for name, text in template.items()}
    else:
        tokenizer.chat_template = values + template
